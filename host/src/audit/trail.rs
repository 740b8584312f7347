//! Sinks follow decisions while the next window is looked at already.
//!
//! One Apply is under way at most, and it is over before another decision is appended: so no more entries wait for valid than
//! may, and one commit of a table serves several decisions where they come close together. It decides nothing.

use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::crash;
use crate::error::{Error, Result};
use crate::ledger::apply::{apply_all, backlog_limit};
use crate::outcome::Outcome;
use crate::pipeline::Follow;
use crate::sink::Sink;

/// Entries after which every sink follows, not valid alone. Others in this process append, too: half of what may wait.
const ALL: u64 = backlog_limit(Outcome::Error) / 2;

/// Who follows one auditor's decisions.
pub struct Trail {
    follow: Follow,
    under_way: Option<JoinHandle<Result<()>>>,
    /// the last decision
    head: u64,
    /// how far valid and what is made of it are, by this auditor
    valid: u64,
    /// how far every sink is, by this auditor
    all: u64,
}

impl Trail {
    /// Nothing was decided yet.
    pub fn new(follow: Follow) -> Trail {
        Trail { follow, under_way: None, head: 0, valid: 0, all: 0 }
    }

    /// A decision is in the ledger. What was under way has [settled](Self::settle) before.
    pub fn appended(&mut self, number: u64) {
        self.head = number;
        if number - self.valid >= backlog_limit(Outcome::Valid) {
            self.start(number - self.all >= ALL);
        }
    }

    /// Waits for what is under way.
    pub fn settle(&mut self) -> Result<()> {
        let Some(under_way) = self.under_way.take() else { return Ok(()) };
        let applied = self.follow.runtime.block_on(under_way);
        applied.map_err(|_| Error::Host("the task that brings sinks up to a decision panicked".into()))??;
        crash::point("audit/applied");
        Ok(())
    }

    /// Brings every sink up to the last decision.
    pub fn finish(&mut self) -> Result<()> {
        self.settle()?;
        if self.all < self.head {
            self.start(true);
        }
        self.settle()
    }

    fn start(&mut self, all: bool) {
        let is_due = |sink: &&Arc<dyn Sink>| match sink.outcome() {
            Outcome::Valid | Outcome::Derived(_) => true,
            Outcome::Error | Outcome::Dlq | Outcome::Staging => all,
        };
        let sinks: Vec<_> = self.follow.sinks.iter().filter(is_due).cloned().collect();
        let (ledger, head) = (self.follow.ledger.clone(), self.head);
        let apply = async move { apply_all(&sinks, &ledger, head).await.map(drop) };
        self.under_way = Some(self.follow.runtime.spawn(apply));
        self.valid = head;
        if all {
            self.all = head;
        }
    }
}
