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
use super::position::{self, Log};
use super::trouble::{Trouble, may_pass};
use crate::config::StartPoint;
use crate::error::{Error, Result};
use crate::record::TopicPartition;
use crate::source::{Intake, StartAt};

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

/// Where to begin with what has no position yet.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// as the user wants
    pub point: StartPoint,
    /// topics that were there when the run began
    pub known: &'a BTreeSet<String>,
}

/// Finds out where to begin with `partitions`, and has the ledger know it. `None`: asked to stop.
pub fn resolve(
    consumer: &Consumer,
    intake: &dyn Intake,
    trouble: &Trouble,
    start: Start<'_>,
    partitions: &[TopicPartition],
) -> Result<Option<BTreeMap<TopicPartition, Part>>> {
    if partitions.is_empty() {
        return Ok(Some(BTreeMap::new()));
    }
    // before the ends of the logs are asked for: a process that reads on meanwhile must not look like one ahead of them
    let mut known = intake.positions(partitions)?;
    let stopping = || intake.stopping();
    let Some(mut logs) = logs(consumer, &stopping, trouble, partitions)? else { return Ok(None) };

    let mut unknown: Vec<_> = partitions.iter().filter(|p| !known.contains_key(p)).cloned().collect();
    if !unknown.is_empty() {
        let mut grown = BTreeSet::new();
        if start.point == StartPoint::Latest {
            let Some(met) = meet(consumer, intake, trouble, &unknown)? else { return Ok(None) };
            let Some(more) = self::logs(consumer, &stopping, trouble, &met.beside)? else { return Ok(None) };
            unknown.extend(met.beside);
            logs.extend(more);
            grown = met.grown;
        }
        let is_new = |topic: &str| grown.contains(topic) || !start.known.contains(topic);
        let Some(offsets) = starts(consumer, &stopping, trouble, start.point, &is_new, &unknown, &logs)? else {
            return Ok(None);
        };
        let asked: BTreeMap<_, _> = offsets
            .into_iter()
            .map(|(partition, offset)| {
                let topic_id = logs[&partition].topic_id.clone();
                (partition, StartAt { offset, topic_id })
            })
            .collect();
        let answer = intake.start(asked.clone())?;
        let others: Vec<_> = asked
            .iter()
            .filter(|(p, at)| answer.get(p).is_some_and(|k| k.offset != at.offset))
            .map(|(p, _)| p.clone())
            .collect();
        let Some(fresh) = self::logs(consumer, &stopping, trouble, &others)? else { return Ok(None) };
        logs.extend(fresh);
        known.extend(answer);
    }

    if let Some(partition) = partitions.iter().find(|partition| !known.contains_key(partition)) {
        return Err(Error::Host(format!("the ledger answered no position for {partition} after its start")));
    }
    position::check(partitions.iter().map(|partition| (partition, &known[partition], &logs[partition])))?;
    let mut parts = BTreeMap::new();
    let mut identified = BTreeMap::new();
    for partition in partitions {
        let (position, Log { topic_id, high, .. }) = (&known[partition], &logs[partition]);
        if let (None, Some(id)) = (&position.topic_id, topic_id) {
            identified.insert(partition.clone(), id.clone());
        }
        let part = Part { topic_id: topic_id.clone(), next: position.offset, end: *high, has_ended: false };
        parts.insert(partition.clone(), part);
    }
    intake.identify(identified);
    Ok(Some(parts))
}

/// Topics of partitions without a position.
#[derive(Default)]
struct Met {
    /// topics that have positions in the ledger: the partition was added
    grown: BTreeSet<String>,
    /// the other partitions of topics that have none
    beside: Vec<TopicPartition>,
}

/// `latest` is the moment at which a topic is met for the first time, and holds for all its partitions, whoever reads
/// them: what a partition has that is added later was written after that moment.
fn meet(
    consumer: &Consumer,
    intake: &dyn Intake,
    trouble: &Trouble,
    unknown: &[TopicPartition],
) -> Result<Option<Met>> {
    let mut met = Met::default();
    let topics: BTreeSet<&str> = unknown.iter().map(|partition| &*partition.topic).collect();
    for topic in topics {
        let doing = || format!("cannot ask for the partitions of {topic}");
        let call = || consumer.base().fetch_metadata(Some(topic), REQUEST);
        let Some(metadata) = patiently(&|| intake.stopping(), trouble, doing, call)? else { return Ok(None) };
        let count = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
        let all: Vec<_> = (0..count as i32).map(|partition| TopicPartition::new(topic, partition)).collect();
        if intake.positions(&all)?.is_empty() {
            met.beside.extend(all.into_iter().filter(|partition| !unknown.contains(partition)));
        } else {
            met.grown.insert(topic.to_owned());
        }
    }
    Ok(Some(met))
}

/// Tries until it works, stops working for good, takes too long, or the pipeline stops (`None`).
fn patiently<T>(
    stopping: &dyn Fn() -> bool,
    trouble: &Trouble,
    doing: impl Fn() -> String,
    mut call: impl FnMut() -> KafkaResult<T>,
) -> Result<Option<T>> {
    let begun = Instant::now();
    loop {
        match call() {
            Ok(answer) => return Ok(Some(answer)),
            Err(_) if stopping() => return Ok(None),
            Err(error) if may_pass(&error) && begun.elapsed() < PATIENCE => {
                tracing::debug!(%error, doing = doing(), "trying again");
                std::thread::sleep(Duration::from_millis(50)); // many of these errors come at once
            }
            Err(error) => return Err(trouble.failed(doing(), &error)),
        }
    }
}

/// What the logs of these partitions are now. `None`: asked to stop.
pub fn logs(
    consumer: &Consumer,
    stopping: &dyn Fn() -> bool,
    trouble: &Trouble,
    partitions: &[TopicPartition],
) -> Result<Option<Logs>> {
    let topics: BTreeSet<&str> = partitions.iter().map(|p| &*p.topic).collect();
    let topics: Vec<&str> = topics.into_iter().collect();
    if topics.is_empty() {
        return Ok(Some(Logs::new()));
    }
    let doing = || format!("cannot ask for the ids of topics {}", topics.join(", "));
    let call = || consumer.topic_ids(&topics, REQUEST).map_err(|e| KafkaError::MetadataFetch(e.code));
    let Some(ids) = patiently(stopping, trouble, doing, call)? else { return Ok(None) };
    let ids: BTreeMap<String, Option<String>> = ids.into_iter().collect();
    let mut logs = Logs::new();
    for partition in partitions {
        let doing = || format!("cannot ask for the offsets of {partition}");
        let call = || consumer.base().fetch_watermarks(&partition.topic, partition.partition, REQUEST);
        let Some((low, high)) = patiently(stopping, trouble, doing, call)? else { return Ok(None) };
        let topic_id = ids.get(&*partition.topic).cloned().flatten();
        logs.insert(partition.clone(), Log { topic_id, low, high });
    }
    Ok(Some(logs))
}

/// What the log of each partition is.
pub type Logs = BTreeMap<TopicPartition, Log>;

/// The first offsets to read, as the user wants. `is_new`: topics of which everything is later than `latest`.
fn starts(
    consumer: &Consumer,
    stopping: &dyn Fn() -> bool,
    trouble: &Trouble,
    start: StartPoint,
    is_new: &dyn Fn(&str) -> bool,
    partitions: &[TopicPartition],
    logs: &Logs,
) -> Result<Option<BTreeMap<TopicPartition, i64>>> {
    let of = |choose: &dyn Fn(&TopicPartition, &Log) -> i64| {
        Some(partitions.iter().map(|partition| (partition.clone(), choose(partition, &logs[partition]))).collect())
    };
    Ok(match start {
        StartPoint::Earliest => of(&|_, log| log.low),
        StartPoint::Latest => of(&|partition, log| if is_new(&partition.topic) { log.low } else { log.high }),
        StartPoint::Timestamp(time) => {
            let list = list(partitions.iter().map(|p| (p, time)));
            let doing = || format!("cannot ask for the offsets at {time} ms since the epoch");
            let call = || {
                let answer = consumer.base().offsets_for_times(list.clone(), REQUEST)?;
                answer.elements().iter().try_for_each(|element| element.error())?;
                Ok(answer)
            };
            let Some(answer) = patiently(stopping, trouble, doing, call)? else { return Ok(None) };
            of(&|partition, log| {
                let found = answer.find_partition(&partition.topic, partition.partition);
                match found.map(|element| element.offset()) {
                    Some(Offset::Offset(offset)) => offset.max(log.low),
                    Some(_) | None => log.high, // no record at or after that time yet
                }
            })
        }
    })
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
