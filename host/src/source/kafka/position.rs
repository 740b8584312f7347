//! Positions that the log does not have: what is wrong with them, and the command by which an operator goes on.
//!
//! Nothing is mended here.

use std::collections::BTreeMap;

use crate::error::Error;
use crate::record::TopicPartition;
use crate::source::{Known, reset_commands};

/// What a partition's log is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// id of its topic, where the brokers have ids
    pub topic_id: Option<String>,
    /// first offset that is there
    pub low: i64,
    /// the offset after the last
    pub high: i64,
}

/// A position that the log does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refusal<'a> {
    partition: &'a TopicPartition,
    why: String,
    /// where to go on
    to: i64,
    /// whether offsets of this very log are lost
    gap: bool,
}

/// Refuses positions that are not in their logs, all of them at once.
pub fn check<'a>(positions: impl IntoIterator<Item = (&'a TopicPartition, &'a Known, &'a Log)>) -> Result<(), Error> {
    let refusals: Vec<_> =
        positions.into_iter().filter_map(|(partition, position, log)| refusal(partition, position, log)).collect();
    let Some(first) = refusals.first() else { return Ok(()) };
    let others: Vec<String> = refusals[1..].iter().map(|refusal| refusal.partition.to_string()).collect();
    let others = match others.len() {
        0 => String::new(),
        1..=8 => format!("; likewise {}", others.join(", ")),
        n => format!("; likewise {n} other partitions"),
    };
    let commands: Vec<String> = [true, false]
        .into_iter()
        .filter_map(|gap| {
            let to: BTreeMap<_, _> = refusals.iter().filter(|r| r.gap == gap).map(|r| (r.partition, r.to)).collect();
            let doing = if gap { "to go on without them" } else { "to begin anew" };
            (!to.is_empty()).then(|| format!("{doing}, and have the ledger say so: `{}`", reset_commands(&to, gap)))
        })
        .collect();
    Err(Error::Diverged(format!("{}: {}{others}; {}", first.partition, first.why, commands.join("; "))))
}

fn refusal<'a>(partition: &'a TopicPartition, position: &Known, log: &Log) -> Option<Refusal<'a>> {
    let (next, &Log { low, high, .. }) = (position.offset, log);
    let refused = |why, to, gap| Some(Refusal { partition, why, to, gap });
    if let (Some(was), Some(is)) = (&position.topic_id, &log.topic_id)
        && was != is
    {
        let why = format!(
            "topic {} was deleted and made again: the next offset in the ledger, {next}, is one of topic id {was}, and \
             the id is now {is}",
            partition.topic
        );
        return refused(why, low, false);
    }
    if next < low {
        let lost = low - next;
        let why = format!(
            "the next offset in the ledger is {next}, but the log begins at {low} (and ends at {high}): {lost} {} gone by \
             retention or deletion",
            if lost == 1 { "offset is" } else { "offsets are" }
        );
        return refused(why, low, true);
    }
    if next > high {
        let why = format!(
            "the next offset in the ledger is {next}, but the log ends at {high} (and begins at {low}): the topic was \
             deleted and made again, or cut"
        );
        return refused(why, low, false);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::reset::tests::printed;
    use crate::ledger::operate::NewPosition;

    fn at(offset: i64, id: Option<&str>) -> Known {
        Known { offset, topic_id: id.map(str::to_owned) }
    }

    fn log(low: i64, high: i64, id: Option<&str>) -> Log {
        Log { topic_id: id.map(str::to_owned), low, high }
    }

    fn refused<'a>(positions: impl IntoIterator<Item = (&'a TopicPartition, &'a Known, &'a Log)>) -> String {
        match check(positions) {
            Err(Error::Diverged(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    fn to(partition: &TopicPartition, to: i64) -> NewPosition {
        NewPosition { partition: partition.clone(), to, topic_id: None }
    }

    #[test]
    fn a_position_outside_the_log_is_refused_with_the_way_on() {
        let partition = TopicPartition::new("visits", 3);
        for (position, id, says, way, gap) in [
            (at(4, Some("a")), Some("a"), "the log begins at 5 (and ends at 9): 1 offset is gone", 5, true),
            (at(2, None), Some("a"), "3 offsets are gone by retention or deletion", 5, true),
            (at(10, Some("a")), Some("a"), "the log ends at 9 (and begins at 5)", 5, false),
            (at(7, Some("a")), Some("b"), "id a, and the id is now b", 5, false),
        ] {
            let text = refused([(&partition, &position, &log(5, 9, id))]);
            assert!(text.starts_with("visits/3: ") && text.contains(says), "{text}");
            assert_eq!(printed(&text), [(to(&partition, way), gap)]);
        }
        for position in [at(5, None), at(9, Some("a")), at(7, Some("a"))] {
            check([(&partition, &position, &log(5, 9, None))]).unwrap();
            check([(&partition, &position, &log(5, 9, Some("a")))]).unwrap();
        }
    }

    #[test]
    fn all_positions_that_are_refused_are_in_the_command() {
        let [a, b, c, d] = [0, 1, 2, 3].map(|n| TopicPartition::new("visits", n));
        let (early, late) = (at(4, None), at(12, None));
        let five = log(5, 9, None);
        let text = refused([(&a, &early, &five), (&b, &late, &five), (&c, &early, &five), (&d, &at(5, None), &five)]);
        assert!(text.contains("; likewise visits/1, visits/2; "), "{text}");
        assert_eq!(printed(&text), [(to(&a, 5), true), (to(&c, 5), true), (to(&b, 5), false)]);

        let many: Vec<_> = (0..50).map(|n| TopicPartition::new("visits", n)).collect();
        let text = refused(many.iter().map(|partition| (partition, &early, &five)));
        assert!(text.contains("; likewise 49 other partitions; "), "{text}");
        assert_eq!(printed(&text).len(), 50);
    }
}
