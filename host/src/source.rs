//! Where records come from. A source runs on a thread of its own and pushes into the pipeline's [`Intake`].
//!
//! A source judges nothing, knows no sink, and keeps no position of its own: positions live in the ledger.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::record::{Positions, RawBatch, TopicPartition};

pub mod files;
pub mod kafka;
pub mod reading;
pub mod stdin;

#[cfg(test)]
pub(crate) mod collecting;

/// Something that delivers records until there are no more or the intake says stop.
pub trait Source: Send {
    /// For the first lines on the screen: `visits p0 p1 p2 of 6`, `3 files, 1.2 GiB`.
    fn describe(&self) -> String;

    /// What a source itself can promise; `None` = nothing is lost or doubled. Stdin says why it cannot.
    fn caveat(&self) -> Option<String> {
        None
    }

    /// Reads until the end (`until_end`, or a source that ends) or until [`Intake::stopping`]. Returns when everything
    /// that it read has been handed over.
    fn run(&mut self, intake: &dyn Intake, until_end: bool) -> Result<()>;
}

/// The offset at which a partition without a position begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartAt {
    /// first offset to read
    pub offset: i64,
    /// the topic's id, or `sha256:<digest>:<length>` of the file
    pub topic_id: Option<String>,
}

/// What a source should do beside reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// read these partitions again from here: an entry was dropped
    Seek(Positions),
    /// these positions are applied: tell the group, for lag tools
    Applied(Positions),
}

/// A position as the ledger knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// next offset to read
    pub offset: i64,
    /// id of the topic or file at which the offset points; `None`: not known, as after a reset. Then the source goes on
    /// with what it finds and says so ([`Intake::identify`])
    pub topic_id: Option<String>,
}

/// What a source says of itself, for whoever watches; nothing depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// the group gave it partitions, or said that there are none to give
    Assigned,
    /// the group took partitions from it, and waited
    Revoked,
    /// partitions are gone without notice
    Lost,
    /// whether it reads nothing for want of room
    Paused(bool),
    /// whether it can reach what it reads from
    Reachable(bool),
}

/// The command by which an operator sets a position, for messages: as it is typed into a shell.
pub(crate) fn reset_command(partition: &TopicPartition, to: i64, gap: bool) -> String {
    reset_commands(&BTreeMap::from([(partition, to)]), gap)
}

/// The same for several positions.
pub(crate) fn reset_commands(positions: &BTreeMap<&TopicPartition, i64>, gap: bool) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/=._-+:@%".contains(c);
    let typed = |(partition, to): (&&TopicPartition, &i64)| {
        let position = format!("{partition}={to}");
        match position.chars().all(is_plain) {
            true => position,
            false => format!("'{}'", position.replace('\'', r"'\''")),
        }
    };
    let positions: Vec<String> = positions.iter().map(typed).collect();
    format!("sluice reset {}{}", positions.join(" "), if gap { " --gap" } else { "" })
}

/// The pipeline as a source sees it. Calls may come from inside librdkafka's rebalance callback.
pub trait Intake: Send + Sync {
    /// Reads the ledger to its head, applies every sink, and answers the positions of those of `partitions` that have
    /// one. Called before reading a partition.
    fn positions(&self, partitions: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, Known>>;

    /// Appends a `start` entry for partitions that have no position yet. Another process may have been first: read
    /// the answer, it is what counts.
    fn start(&self, partitions: BTreeMap<TopicPartition, StartAt>) -> Result<BTreeMap<TopicPartition, Known>>;

    /// Says at which topics or files positions without an id turned out to point; what is read of these partitions from
    /// now on is accounted for under these ids.
    fn identify(&self, ids: BTreeMap<TopicPartition, String>);

    /// Says that a partition ends at this offset for good: a file. To be told before the batch that reaches it.
    fn ends(&self, partition: &TopicPartition, offset: i64) {
        let _ = (partition, offset);
    }

    /// Hands over a batch; gives it back when the queue is full, so that the source can go on polling. Waits a little
    /// (at most 100 ms) for room first.
    fn offer(&self, batch: RawBatch) -> Result<Option<RawBatch>>;

    /// Commits what is buffered and waits until it is in the ledger: partitions are about to be revoked, or a source has
    /// come to its end and wants to know whether anything must be read again ([`Command::Seek`]) before it returns.
    fn flush(&self) -> Result<()>;

    /// Partitions were lost without notice: what is buffered of them is dropped, and the rest judged again.
    fn lost(&self, partitions: &[TopicPartition]);

    /// How far behind the source is, per partition, in records; for the lag on the screen and in metrics.
    fn lag(&self, lag: BTreeMap<TopicPartition, u64>);

    /// Takes note of what the source says of itself.
    fn notice(&self, notice: Notice) {
        let _ = notice;
    }

    /// The next thing to do beside reading, if any.
    fn command(&self) -> Option<Command>;

    /// Whether to return now.
    fn stopping(&self) -> bool;
}
