//! Who looks for windows that are over, and has them decided: beside a running pipeline, at its end, or alone.
//!
//! Several auditors, in one process or many, need not know of each other: what one decides, another finds decided.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::decide::{Decided, Decider};
use super::watermark::{Due, Now, due, over_until};
use crate::chain::Chain;
use crate::config::{SourceKind, Window};
use crate::error::{Doing, Error, Result};
use crate::ledger::{Extent, Fold};
use crate::pipeline::{Follow, Stop, Underway};

/// How long a silent partition, or another process's entry, may go unnoticed.
const TURN: Duration = Duration::from_millis(500);

/// How many times in a row the ledger may refuse a decision over a window, until it is left for another turn: others still add
/// rows to it, or one that began before it is open.
const REFUSALS: usize = 8;

/// Decides over the windows of one pipeline.
pub struct Auditor {
    decider: Decider,
    follow: Follow,
    since: DateTime<Utc>,
}

impl Auditor {
    /// An auditor that has watched since now.
    pub fn new(chain: Arc<Chain>, follow: Follow) -> Result<Auditor> {
        Ok(Auditor { decider: Decider::new(chain, follow.clone())?, follow, since: Utc::now() })
    }

    /// Decides over every window that is over now, one after the other. `ended`: whether no source will ever tell more, so
    /// that all of them are.
    pub fn all(&self, ended: bool, underway: Option<&Underway>, tell: &mut dyn FnMut(&Decided)) -> Result<()> {
        let is_end = |partition: &_, offset| underway.is_some_and(|underway| underway.is_end(partition, offset));
        let now = Now { at: Utc::now(), since: self.since, has_more: &|_| false, is_end: &is_end, ended };
        self.turn(now, &|_| true, tell)?;
        self.expire()
    }

    /// Lets decided windows leave staging when they were there for long enough.
    fn expire(&self) -> Result<()> {
        while self.decider.expire(Utc::now())? > 0 {}
        Ok(())
    }

    /// Decides over the windows that are over, in their order, up to the first that is not `ready`. Answers the ledger as it
    /// was when it ended.
    fn turn(&self, now: Now<'_>, ready: &dyn Fn(&Due) -> bool, tell: &mut dyn FnMut(&Decided)) -> Result<Fold> {
        let chain = self.decider.chain();
        let Some(audit) = &chain.config.audit else {
            return Err(Error::Config("this pipeline has no windows: there is no `[audit]` in its file".into()));
        };
        let mut refusals = Vec::new();
        loop {
            let fold = self.follow.fold()?;
            // the first is decided again until it is gone: whoever was faster, it is
            let first = due(&fold, audit, now).into_iter().next();
            let Some(due) = first.filter(|due| ready(due) && refusals.len() < REFUSALS) else {
                self.decider.finish()?;
                return Ok(fold);
            };
            match self.decider.decide(&due, None)? {
                Some(decided) => {
                    refusals.clear();
                    tell(&decided);
                }
                None => {
                    refusals.retain(|window| *window == due.window);
                    refusals.push(due.window);
                }
            }
        }
    }
}

/// Decides while a pipeline runs.
pub struct Beside {
    thread: JoinHandle<()>,
}

impl Beside {
    /// Watches a running pipeline until `stop`. `tell` hears of every decision, on the thread of this watch.
    pub fn watch(
        chain: Arc<Chain>,
        underway: Arc<Underway>,
        stop: Stop,
        mut tell: impl FnMut(&Decided) + Send + 'static,
    ) -> Result<Beside> {
        let auditor = Auditor::new(chain, underway.follow().clone())?;
        let thread = thread::Builder::new().name("audit".into()).spawn(move || {
            let mut watch = Watch { auditor, underway, closing: VecDeque::new() };
            while !stop.is_asked() {
                if let Err(error) = watch.turn(&mut tell) {
                    watch.underway.give_up(error);
                    return;
                }
                watch.underway.wait(TURN);
            }
        });
        Ok(Beside { thread: thread.doing(|| "cannot start a thread".into())? })
    }

    /// Waits until the watch is over, which it is soon after `stop`.
    pub fn join(self) -> Result<()> {
        self.thread.join().map_err(|_| Error::Host("the thread that audits panicked".into()))
    }
}

struct Watch {
    auditor: Auditor,
    underway: Arc<Underway>,
    /// up to where windows of time are over, and the last entry that was opened before that was said
    closing: VecDeque<(i64, u64)>,
}

impl Watch {
    fn turn(&mut self, tell: &mut dyn FnMut(&Decided)) -> Result<()> {
        if let Some(chain) = self.underway.changed() {
            self.auditor.decider = Decider::new(chain, self.underway.follow().clone())?;
        }
        let config = self.auditor.decider.chain().config.clone();
        let Some(audit) = &config.audit else { return Ok(()) };
        let underway = &self.underway;
        let is_files = matches!(config.source.kind, SourceKind::Files(_));
        let has_more = |partition: &_| is_files || underway.has_more(partition);
        let is_end = |partition: &_, offset| underway.is_end(partition, offset);
        let now = Now { at: Utc::now(), since: self.auditor.since, has_more: &has_more, is_end: &is_end, ended: false };
        // files may come in any order of their times: while some are unread, nobody knows what is missing
        if is_files && matches!(audit.window, Window::Time(_)) {
            return Ok(());
        }
        let fold = underway.follow().fold()?;
        if let (Window::Time(_), Some(until)) = (audit.window, over_until(&fold, audit, now))
            && self.closing.back().is_none_or(|(last, _)| *last < until)
        {
            self.closing.push_back((until, underway.close_until(until, &fold)));
        }
        // all that matters of what is settled is how far it goes
        while self.closing.get(1).is_some_and(|(_, entry)| underway.is_settled(*entry)) {
            self.closing.pop_front();
        }
        let closing = &self.closing;
        let ready = |due: &Due| match due.window {
            // what is under way has rows for it, and would have to be judged again
            Extent::Time { to, .. } => {
                closing.iter().find(|(until, _)| *until >= to).is_some_and(|(_, entry)| underway.is_clear(*entry, to))
            }
            Extent::Rows { .. } | Extent::File { .. } => true,
        };
        let fold = self.auditor.turn(now, &ready, tell)?;
        underway.decided(&fold);
        self.auditor.expire()?;
        Ok(())
    }
}

/// Decides alone, until `stop`; the pipeline's own processes may run elsewhere.
pub fn alone(chain: Arc<Chain>, follow: Follow, stop: &Stop, tell: &mut dyn FnMut(&Decided)) -> Result<()> {
    let auditor = Auditor::new(chain, follow)?;
    while !stop.is_asked() {
        auditor.all(false, None, tell)?;
        thread::sleep(TURN);
    }
    Ok(())
}
