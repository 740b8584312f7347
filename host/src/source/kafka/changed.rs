//! A log that changes while it is read: records expire before their turn, a topic is deleted and made again.
//!
//! What was read before is committed, since it may be nowhere else any more; then the run stops with the choice. Nothing is
//! read on by guess.

use std::collections::BTreeMap;

use super::Reader;
use super::assign::{self, Logs, Part};
use super::native::ClientError;
use super::position::{self, Log};
use crate::error::{Error, Result};
use crate::record::TopicPartition;
use crate::source::{Known, Source as _};

impl Reader<'_> {
    /// The offsets that should come next are not there (any more). What was read before is committed first: it would be
    /// gone, too.
    pub(super) fn out_of_range(&mut self, error: &ClientError) -> Result<()> {
        let partitions: Vec<_> = self.parts.keys().cloned().collect();
        let stopping = || self.intake.stopping();
        let Some(logs) = assign::logs(self.consumer, &stopping, &self.trouble, &partitions)? else { return Ok(()) };
        if self.parts.iter().all(|(partition, part)| part.topic_id == logs[partition].topic_id) {
            self.hand_over_all()?;
            self.intake.flush()?;
        }
        self.check(&logs)?;
        let about = error.partition.as_ref().map_or_else(|| self.source.describe(), |(p, _)| p.to_string());
        Err(Error::Diverged(format!("{about}: offsets are out of range: {}", error.text)))
    }

    /// All that was read is of the old topic, and may be the last that anybody has of it.
    pub(super) fn made_anew(&mut self, topic: &str, id: &str) -> Result<()> {
        let logs = self.others(topic, id);
        if !logs.is_empty() {
            self.hand_over_all()?;
            self.intake.flush()?;
        }
        self.check(&logs)
    }

    /// The logs of our partitions of a topic, where its id is not the one that it had at the assignment.
    pub(super) fn others(&self, topic: &str, id: &str) -> Logs {
        let is_other = |part: &Part| part.topic_id.as_deref().is_some_and(|was| was != id);
        let others = self.parts.iter().filter(|(partition, part)| &*partition.topic == topic && is_other(part));
        let log = Log { topic_id: Some(id.to_owned()), low: 0, high: 0 };
        others.map(|(partition, _)| (partition.clone(), log.clone())).collect()
    }

    /// Refuses to go on where our positions are not in these logs.
    pub(super) fn check(&self, logs: &Logs) -> Result<()> {
        let known = |(partition, part): (&TopicPartition, &Part)| {
            (partition.clone(), Known { offset: self.position(partition), topic_id: part.topic_id.clone() })
        };
        let known: BTreeMap<_, _> = self.parts.iter().map(known).collect();
        position::check(logs.iter().filter_map(|(partition, log)| Some((partition, known.get(partition)?, log))))
    }
}
