//! One decision: rows leave staging, or stay there, by an entry of the ledger.
//!
//! Files first, then the entry, then the sinks, as in every commit. Where somebody else was faster, what was written is
//! removed and nothing has happened.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use datafusion::prelude::SessionContext;
use deltalake::DeltaTable;

use super::consult;
use super::measure::{Held, Measured, Rows};
use super::plan::session;
use super::publish::{Publisher, Written};
use super::staged::Staged;
use super::trail::Trail;
use super::watermark::Due;
use crate::chain::Chain;
use crate::config::{AuditConfig, Location, OnFail, SinkKind};
use crate::crash;
use crate::error::{Doing, Error, Result};
use crate::ledger::{Appended, Counts, Decision, Entry, Fold, Kind, Objection, Verdict, apply};
use crate::outcome::Outcome;
use crate::pipeline::Follow;
use crate::pipeline::shape::Shaper;
use crate::sink::delta::load;
use crate::store;

/// The code of an objection: what staging holds is not what the ledger counts.
pub const COUNT: &str = "count";

/// Windows that leave staging by one entry: it names each.
const EXPIRE_AT_ONCE: usize = 1_000;

/// Decisions after which what is known of staging is read anew: it takes in what is new, and grows slower to do so.
const REMEMBERED: u32 = 50;

/// The code of a person's word.
pub const OPERATOR: &str = "operator";

/// A decision that is in the ledger. Sinks follow it at once, and have when [`Decider::finish`] returns.
#[derive(Clone, Debug)]
pub struct Decided {
    /// number of the entry
    pub entry: u64,
    /// what it says
    pub decision: Decision,
    /// what became of the rows
    pub counts: Counts,
    /// how long it took
    pub took: Duration,
}

/// A person's word on a window that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByHand {
    /// publish or reject
    pub verdict: Verdict,
    /// why
    pub reason: String,
    /// also where staging holds fewer rows than the ledger counts
    pub anyway: bool,
}

/// Decides over the windows of a pipeline.
pub struct Decider {
    chain: Arc<Chain>,
    follow: Follow,
    location: Location,
    staging: Shaper,
    publisher: Publisher,
    /// of one decision at a time
    state: Mutex<State>,
}

/// What goes from one decision to the next.
struct State {
    /// staging as it was last, and how often it was brought up to date
    table: Option<(DeltaTable, u32)>,
    /// in which windows are measured
    session: SessionContext,
    trail: Trail,
}

impl Decider {
    /// For the windows of a pipeline that has them.
    pub fn new(chain: Arc<Chain>, follow: Follow) -> Result<Decider> {
        let sinks = &chain.config.sinks;
        let SinkKind::Delta(location) = sinks.staging.as_ref().map_or(&sinks.valid.kind, |sink| &sink.kind) else {
            return Err(Error::Config("staging is no table".into()));
        };
        let shaper = |outcome| {
            let none = || Error::Config("this pipeline has no windows: there is no `[audit]` in its file".into());
            Shaper::of(outcome, sinks, chain.schema())?.ok_or_else(none)
        };
        let staging = shaper(Outcome::Staging)?;
        let shapers = [shaper(Outcome::Valid)?, shaper(Outcome::Error)?];
        Ok(Decider {
            location: location.clone(),
            publisher: Publisher::new(chain.clone(), follow.clone(), staging.schema(), shapers)?,
            staging,
            state: State { table: None, session: session()?, trail: Trail::new(follow.clone()) }.into(),
            chain,
            follow,
        })
    }

    /// What decides.
    pub fn chain(&self) -> &Arc<Chain> {
        &self.chain
    }

    fn audit(&self) -> Result<&AuditConfig> {
        let none = || Error::Config("this pipeline has no windows: there is no `[audit]` in its file".into());
        self.chain.config.audit.as_ref().ok_or_else(none)
    }

    /// Decides over a window; `None` where another process did, or where it is not as it was.
    ///
    /// Must be called outside the runtime: files are written on the caller's thread.
    pub fn decide(&self, due: &Due, by_hand: Option<&ByHand>) -> Result<Option<Decided>> {
        let begun = Instant::now();
        let audit = self.audit()?;
        let runtime = self.follow.runtime.clone();
        let key = due.window.key();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let staged = runtime.block_on(self.staged(&key, &mut state.table))?;
        crash::point("audit/before");
        let schema = self.staging.schema().clone();
        let rows = runtime.block_on(Rows::open(&state.session, &staged, schema, &key, audit))?;
        let (measured, mut decision) = self.judge(&rows, due, by_hand)?;
        crash::point("audit/measured");
        let mut entry = Entry::new(Kind::Decision, &self.chain.generation.hash);
        let mut written = match decision.verdict {
            Verdict::Hold => Written::default(),
            Verdict::Publish | Verdict::Reject => self.publisher.write(&staged, &rows, &decision, &entry)?,
        };
        if decision.verdict != Verdict::Hold && written.counts.rows != measured.rows {
            let what = format!("window {key} had {} rows and then {}", measured.rows, written.counts.rows);
            return Err(Error::Host(what));
        }
        decision.missing = match decision.verdict {
            Verdict::Hold => 0,
            Verdict::Publish | Verdict::Reject => decision.rows.saturating_sub(measured.rows),
        };
        crash::point("audit/files-durable");
        entry.counts = std::mem::take(&mut written.counts);
        entry.sinks = written.sinks;
        entry.decision = Some(decision.clone());
        state.trail.settle()?;
        let number = match runtime.block_on(self.follow.ledger.append(&entry))? {
            Appended::At(number) => number,
            Appended::Moved { .. } => {
                runtime.block_on(self.follow.discard(&entry));
                return Ok(None);
            }
        };
        crash::point("audit/appended");
        state.trail.appended(number);
        Ok(Some(Decided { entry: number, decision, counts: entry.counts, took: begun.elapsed() }))
    }

    /// Brings every sink up to the last decision.
    pub fn finish(&self) -> Result<()> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).trail.finish()
    }

    /// Lets the rows of windows leave staging that were decided long enough ago. Answers how many windows.
    pub fn expire(&self, now: DateTime<Utc>) -> Result<u64> {
        let keep = TimeDelta::from_std(self.audit()?.keep).unwrap_or(TimeDelta::MAX);
        let fold = self.follow.fold()?;
        let is_over = |since: DateTime<Utc>| now.signed_duration_since(since) >= keep;
        let old = fold.staying.iter().take_while(|staying| is_over(staying.since)).take(EXPIRE_AT_ONCE);
        let expired: Vec<String> = old.map(|staying| staying.window.clone()).collect();
        if expired.is_empty() {
            return Ok(0);
        }
        let n = expired.len() as u64;
        let entry = Entry { expired, ..Entry::new(Kind::Expire, &self.chain.generation.hash) };
        let runtime = &self.follow.runtime;
        match runtime.block_on(self.follow.ledger.append(&entry))? {
            Appended::At(number) => {
                crash::point("audit/expired");
                runtime.block_on(apply::apply_all(&self.follow.sinks, &self.follow.ledger, number))?;
                Ok(n)
            }
            // another auditor did it
            Appended::Moved { .. } => Ok(0),
        }
    }

    /// What staging has of a window, with all that the ledger says is in it.
    async fn staged(&self, key: &str, last: &mut Option<(DeltaTable, u32)>) -> Result<Staged> {
        let ledger = &self.follow.ledger;
        let head = ledger.head().await?;
        ledger.settle(head).await?;
        let sink = self.publisher.sink(Outcome::Staging)?;
        sink.apply(ledger, head).await?;
        let known = match last.take().filter(|(_, times)| *times < REMEMBERED) {
            // whatever goes wrong, the table is read anew: it may be another one
            Some((mut table, times)) => table.update_incremental(None).await.ok().map(|()| (table, times + 1)),
            None => None,
        };
        let (table, times) = match known {
            Some(known) => known,
            None => {
                let (store, _) = store::open(&self.location)?;
                let table = load(&self.location, store).await;
                let table = table.doing(|| format!("cannot read staging ({})", self.location.written))?;
                let gone = || Error::Diverged(format!("staging ({}) is not there", self.location.written));
                (table.ok_or_else(gone)?, 0)
            }
        };
        let staged = Staged::of(&table, sink.files(), key).await?;
        *last = Some((table, times));
        Ok(staged)
    }

    fn judge(&self, rows: &Rows<'_>, due: &Due, by_hand: Option<&ByHand>) -> Result<(Measured, Decision)> {
        let runtime = &self.follow.runtime;
        let auditors = &self.chain.parts.auditors;
        let measured = runtime.block_on(rows.measure())?;
        let mut unmeasured = Vec::new();
        let metrics = runtime.block_on(consult::measure(auditors, rows, &mut unmeasured))?;
        let (counted, rejected) = due.counted;
        let mut objections = Vec::new();
        let mut verdict = Verdict::Publish;
        let differs = (measured.rows, measured.rejected) != due.counted;
        if differs {
            verdict = Verdict::Hold;
            let (n, r) = (measured.rows, measured.rejected);
            let detail =
                format!("the ledger counts {counted} rows, {rejected} rejected; staging has {n}, {r} rejected");
            objections.push(Objection { code: COUNT.into(), detail });
        }
        if let Some(by_hand) = by_hand {
            if measured.rows > counted || (differs && !by_hand.anyway) {
                let why = objections.pop().map_or_else(String::new, |objection| objection.detail);
                return Err(Error::Diverged(format!(
                    "window {} is not what was staged: {why}. Another writer changed staging: its history says when. With \
                     `--anyway` what is there is taken, if no row is too much",
                    due.window
                )));
            }
            verdict = by_hand.verdict;
            objections.push(Objection { code: OPERATOR.into(), detail: by_hand.reason.clone() });
        } else if !differs {
            verdict = runtime.block_on(self.expect(rows, &measured, &mut objections))?;
            if !auditors.is_empty() {
                let findings = runtime.block_on(rows.findings())?;
                let fold = self.follow.fold()?;
                let asked = consult::ask(auditors, due, &measured, &metrics, &findings, &fold, &mut objections)?;
                verdict = verdict.max(asked);
            }
            if !unmeasured.is_empty() {
                // nobody knows: a person looks at it
                verdict = verdict.max(Verdict::Hold);
                objections.append(&mut unmeasured);
            }
        }
        let decision = Decision {
            window: due.window.clone(),
            intervals: due.intervals,
            verdict,
            objections,
            by_hand: by_hand.is_some(),
            rows: counted,
            rejected,
            missing: 0,
            duplicates: measured.duplicates,
            metrics,
        };
        Ok((measured, decision))
    }

    async fn expect(&self, rows: &Rows<'_>, measured: &Measured, objections: &mut Vec<Objection>) -> Result<Verdict> {
        let mut worst = Verdict::Publish;
        let expectations = &self.audit()?.expect;
        for (expectation, held) in expectations.iter().zip(rows.expect(expectations).await?) {
            let sql = &expectation.sql.text;
            let (verdict, detail) = match held {
                Held::Yes => continue,
                Held::No => {
                    let verdict = match expectation.on_fail {
                        OnFail::Reject => Verdict::Reject,
                        OnFail::Hold => Verdict::Hold,
                    };
                    let (rows, rejected) = (measured.rows, measured.rejected + measured.duplicates);
                    (verdict, format!("{sql} is false: {rows} rows, {rejected} rejected"))
                }
                // nobody knows: a person looks at it
                Held::Failed(why) => (Verdict::Hold, format!("{sql} cannot be computed: {why}")),
            };
            worst = worst.max(verdict);
            objections.push(Objection { code: expectation.name.to_string(), detail });
        }
        Ok(worst)
    }
}

/// The window with this key, as a person types it, where it is held.
pub fn held(fold: &Fold, key: &str) -> Result<Due> {
    let waiting = fold.windows.get(key);
    match waiting {
        Some(waiting) if waiting.held.is_some() => Ok(Due {
            intervals: 1,
            counted: (waiting.staged.rows, waiting.staged.rejected),
            window: waiting.staged.window.clone(),
        }),
        Some(_) => Err(Error::Config(format!("window {key} is still open: nobody has held it"))),
        None => {
            let decided = fold.past.iter().rev().find(|past| past.decision.window.key() == key);
            Err(Error::Config(match decided {
                Some(past) => format!("window {key} was decided by entry {}: {}", past.entry, past.decision.verdict),
                None => format!("no window {key} waits in staging; `sluice audit list` shows those that do"),
            }))
        }
    }
}
