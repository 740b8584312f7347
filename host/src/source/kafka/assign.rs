//! Where to read a partition that was just assigned: at the ledger's position if it is one in this very log, else at the
//! start that the user wants, which the ledger is told first.
//!
//! A position that the log does not have is never mended here: an operator decides.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::{Offset, TopicPartitionList};

use super::native::Consumer;
use super::trouble::{Trouble, may_pass};
use crate::config::StartPoint;
use crate::error::{Error, Result};
use crate::record::TopicPartition;
use crate::source::{Intake, Known, StartAt, reset_command};

/// One request.
const REQUEST: Duration = Duration::from_millis(900);
/// All attempts of one request: a partition elects a new leader in less.
const PATIENCE: Duration = Duration::from_secs(30);

/// A partition that is being read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// id of the topic, where the brokers have ids
    pub topic_id: Option<String>,
    /// every record below is handed over, or about to be
    pub next: i64,
    /// where the log ended when the partition was assigned
    pub end: i64,
    /// whether reading has reached an end of the log since
    pub has_ended: bool,
}

impl Part {
    /// Whether everything that was there at the assignment has been read up to `position`.
    pub fn is_done(&self, position: i64) -> bool {
        self.has_ended || position >= self.end
    }
}

/// Finds out where to begin with `partitions`, and has the ledger know it. `None`: asked to stop.
pub fn resolve(
    consumer: &Consumer,
    intake: &dyn Intake,
    trouble: &Trouble,
    start: StartPoint,
    partitions: &[TopicPartition],
) -> Result<Option<BTreeMap<TopicPartition, Part>>> {
    if partitions.is_empty() {
        return Ok(Some(BTreeMap::new()));
    }
    // before the ends of the logs are asked for: a process that reads on meanwhile must not look like one ahead of them
    let mut known = intake.positions(partitions)?;
    let Some(ids) = topic_ids(consumer, intake, trouble, partitions)? else { return Ok(None) };
    let Some(mut marks) = watermarks(consumer, intake, trouble, partitions)? else { return Ok(None) };

    let unknown: Vec<_> = partitions.iter().filter(|p| !known.contains_key(p)).cloned().collect();
    if !unknown.is_empty() {
        let Some(offsets) = starts(consumer, intake, trouble, start, &unknown, &marks)? else { return Ok(None) };
        let asked: BTreeMap<_, _> = offsets
            .into_iter()
            .map(|(partition, offset)| {
                let topic_id = ids.get(&*partition.topic).cloned().flatten();
                (partition, StartAt { offset, topic_id })
            })
            .collect();
        let answer = intake.start(asked.clone())?;
        let others: Vec<_> = asked
            .iter()
            .filter(|(p, at)| answer.get(p).is_some_and(|k| k.offset != at.offset))
            .map(|(p, _)| p.clone())
            .collect();
        let Some(fresh) = watermarks(consumer, intake, trouble, &others)? else { return Ok(None) };
        marks.extend(fresh);
        known.extend(answer);
    }

    let mut parts = BTreeMap::new();
    let mut identified = BTreeMap::new();
    for partition in partitions {
        let position = known
            .get(partition)
            .ok_or_else(|| Error::Host(format!("the ledger answered no position for {partition} after its start")))?;
        let topic_id = ids.get(&*partition.topic).cloned().flatten();
        let (low, high) = marks[partition];
        check(partition, position, topic_id.as_deref(), low, high)?;
        if let (None, Some(id)) = (&position.topic_id, &topic_id) {
            identified.insert(partition.clone(), id.clone());
        }
        parts.insert(partition.clone(), Part { topic_id, next: position.offset, end: high, has_ended: false });
    }
    intake.identify(identified);
    Ok(Some(parts))
}

/// Refuses a position that is not one in this log.
fn check(partition: &TopicPartition, position: &Known, id: Option<&str>, low: i64, high: i64) -> Result<()> {
    let next = position.offset;
    if let (Some(was), Some(is)) = (position.topic_id.as_deref(), id)
        && was != is
    {
        return Err(recreated(partition, next, was, is));
    }
    if next < low {
        return Err(Error::Diverged(format!(
            "{partition}: the next offset in the ledger is {next}, but the log begins at {low} (and ends at {high}): {} \
             offsets are gone by retention or deletion; to go on without them, and have the ledger say so: \
             `{}`",
            low - next,
            reset_command(partition, low, true)
        )));
    }
    if next > high {
        return Err(Error::Diverged(format!(
            "{partition}: the next offset in the ledger is {next}, but the log ends at {high} (and begins at {low}): the \
             topic was deleted and made again, or cut; to begin anew, and have the ledger say so: \
             `{}`",
            reset_command(partition, low, false)
        )));
    }
    Ok(())
}

/// The log below a position is not there any more, or no longer the same.
pub fn recreated(partition: &TopicPartition, next: i64, was: &str, is: &str) -> Error {
    Error::Diverged(format!(
        "{partition}: topic {} was deleted and made again: the next offset in the ledger, {next}, is one of topic id \
         {was}, and the id is now {is}; to begin anew, and have the ledger say so: `{}`",
        partition.topic,
        reset_command(partition, 0, false)
    ))
}

/// Tries until it works, stops working for good, takes too long, or the pipeline stops (`None`).
fn patiently<T>(
    intake: &dyn Intake,
    trouble: &Trouble,
    doing: impl Fn() -> String,
    mut call: impl FnMut() -> KafkaResult<T>,
) -> Result<Option<T>> {
    let begun = Instant::now();
    loop {
        match call() {
            Ok(answer) => return Ok(Some(answer)),
            Err(_) if intake.stopping() => return Ok(None),
            Err(error) if may_pass(&error) && begun.elapsed() < PATIENCE => {
                tracing::debug!(%error, doing = doing(), "trying again");
                std::thread::sleep(Duration::from_millis(50)); // many of these errors come at once
            }
            Err(error) => return Err(trouble.failed(doing(), &error)),
        }
    }
}

fn topic_ids(
    consumer: &Consumer,
    intake: &dyn Intake,
    trouble: &Trouble,
    partitions: &[TopicPartition],
) -> Result<Option<BTreeMap<String, Option<String>>>> {
    let topics: BTreeSet<&str> = partitions.iter().map(|p| &*p.topic).collect();
    let topics: Vec<&str> = topics.into_iter().collect();
    let doing = || format!("cannot ask for the ids of topics {}", topics.join(", "));
    let call = || consumer.topic_ids(&topics, REQUEST).map_err(|e| KafkaError::MetadataFetch(e.code));
    Ok(patiently(intake, trouble, doing, call)?.map(|ids| ids.into_iter().collect()))
}

type Watermarks = BTreeMap<TopicPartition, (i64, i64)>;

fn watermarks(
    consumer: &Consumer,
    intake: &dyn Intake,
    trouble: &Trouble,
    partitions: &[TopicPartition],
) -> Result<Option<Watermarks>> {
    let mut marks = BTreeMap::new();
    for partition in partitions {
        let doing = || format!("cannot ask for the offsets of {partition}");
        let call = || consumer.base().fetch_watermarks(&partition.topic, partition.partition, REQUEST);
        let Some(mark) = patiently(intake, trouble, doing, call)? else { return Ok(None) };
        marks.insert(partition.clone(), mark);
    }
    Ok(Some(marks))
}

/// The first offsets to read, as the user wants.
fn starts(
    consumer: &Consumer,
    intake: &dyn Intake,
    trouble: &Trouble,
    start: StartPoint,
    partitions: &[TopicPartition],
    marks: &Watermarks,
) -> Result<Option<BTreeMap<TopicPartition, i64>>> {
    let of = |choose: fn((i64, i64)) -> i64| partitions.iter().map(|p| (p.clone(), choose(marks[p]))).collect();
    Ok(Some(match start {
        StartPoint::Earliest => of(|(low, _)| low),
        StartPoint::Latest => of(|(_, high)| high),
        StartPoint::Timestamp(time) => {
            let list = list(partitions.iter().map(|p| (p, time)));
            let doing = || format!("cannot ask for the offsets at {time} ms since the epoch");
            let call = || {
                let answer = consumer.base().offsets_for_times(list.clone(), REQUEST)?;
                answer.elements().iter().try_for_each(|element| element.error())?;
                Ok(answer)
            };
            let Some(answer) = patiently(intake, trouble, doing, call)? else { return Ok(None) };
            partitions
                .iter()
                .map(|partition| {
                    let (low, high) = marks[partition];
                    let found = answer.find_partition(&partition.topic, partition.partition);
                    let offset = match found.map(|element| element.offset()) {
                        Some(Offset::Offset(offset)) => offset.max(low),
                        Some(_) | None => high, // no record at or after that time yet
                    };
                    (partition.clone(), offset)
                })
                .collect()
        }
    }))
}

/// Partitions with an offset each, as librdkafka takes them.
pub fn list<'a>(partitions: impl IntoIterator<Item = (&'a TopicPartition, i64)>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in partitions {
        list.add_partition_offset(&partition.topic, partition.partition, Offset::Offset(offset))
            .expect("offsets are not negative, and the partition was just added");
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::reset::tests::printed;
    use crate::ledger::operate::NewPosition;

    #[test]
    fn a_position_outside_the_log_is_refused_with_the_way_on() {
        let partition = TopicPartition::new("visits", 3);
        let at = |offset, id: Option<&str>| Known { offset, topic_id: id.map(str::to_owned) };
        for (position, id, says, command) in [
            (at(4, Some("a")), Some("a"), "the log begins at 5 (and ends at 9): 1 offsets are gone", (5, true)),
            (at(10, Some("a")), Some("a"), "the log ends at 9 (and begins at 5)", (5, false)),
            (at(7, Some("a")), Some("b"), "id a, and the id is now b", (0, false)),
        ] {
            let error = check(&partition, &position, id, 5, 9).unwrap_err();
            assert!(matches!(error, Error::Diverged(_)), "{error:?}");
            let text = error.to_string();
            assert!(text.starts_with("visits/3: ") && text.contains(says), "{text}");
            let (to, gap) = command;
            assert_eq!(printed(&text), [(NewPosition { partition: partition.clone(), to, topic_id: None }, gap)]);
        }
        for position in [at(5, None), at(9, Some("a")), at(7, Some("a"))] {
            check(&partition, &position, None, 5, 9).unwrap();
            check(&partition, &position, Some("a"), 5, 9).unwrap();
        }
    }
}
