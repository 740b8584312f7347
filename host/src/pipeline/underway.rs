//! What a running pipeline has under way, for whoever decides over windows beside it.

use std::sync::Arc;
use std::time::Duration;

use super::intake::{Shared, lock};
use super::{Follow, Pipeline};
use crate::chain::Chain;
use crate::error::Error;
use crate::ledger::Fold;
use crate::record::TopicPartition;

/// A running pipeline, as its auditor sees it.
pub struct Underway {
    shared: Arc<Shared>,
    follow: Follow,
}

impl Pipeline {
    /// For the auditor that runs beside this pipeline.
    pub fn underway(&self) -> Underway {
        Underway { shared: self.shared.clone(), follow: self.follow.clone() }
    }
}

impl Underway {
    /// The ledger and those who follow it.
    pub fn follow(&self) -> &Follow {
        &self.follow
    }

    /// The generation that judges from the next entry on, where it changed since this was last asked.
    pub fn changed(&self) -> Option<Arc<Chain>> {
        lock(&self.shared.auditing).take()
    }

    /// Rows that come for windows of time that end up to here are late from now on. Answers the last entry that may hold
    /// earlier ones.
    pub fn close_until(&self, until: i64, fold: &Fold) -> u64 {
        self.shared.closing_until(until, fold);
        self.shared.entries.last()
    }

    /// Hears from the ledger which windows are decided.
    pub fn decided(&self, fold: &Fold) {
        self.shared.hear_closed(fold);
    }

    /// Whether no entry that is under way, of those up to this one, has rows for windows of time that end up to then.
    pub fn is_clear(&self, entry: u64, end: i64) -> bool {
        self.shared.entries.is_clear(entry, end)
    }

    /// Whether nothing of an entry, or of one before it, is under way.
    pub fn is_settled(&self, entry: u64) -> bool {
        self.shared.entries.is_settled(entry)
    }

    /// Waits until an entry is settled, and not for longer than this.
    pub fn wait(&self, most: Duration) {
        self.shared.bell.wait(most);
    }

    /// Whether the source has records of a partition that nobody has read.
    pub fn has_more(&self, partition: &TopicPartition) -> bool {
        self.shared.lag_of(partition) > 0
    }

    /// Whether a partition ends at this offset for good.
    pub fn is_end(&self, partition: &TopicPartition, offset: i64) -> bool {
        self.shared.is_end(partition, offset)
    }

    /// Why the run cannot go on, where it was not said yet.
    pub fn trouble(&self) -> Option<Error> {
        lock(&self.shared.trouble).take()
    }

    /// Ends the run with an error.
    pub fn give_up(&self, error: Error) {
        lock(&self.shared.trouble).get_or_insert(error);
        self.shared.stop.stop();
    }
}
