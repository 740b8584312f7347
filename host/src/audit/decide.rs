//! One decision: rows leave staging, or stay there, by an entry of the ledger.
//!
//! Files first, then the entry, then the sinks, as in every commit. Where somebody else was faster, what was written is
//! removed and nothing has happened.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use chrono::{DateTime, TimeDelta, Utc};
use deltalake::DeltaTable;

use super::consult;
use super::measure::{COPY, Held, Measured, Rows};
use super::watermark::Due;
use super::{DUPLICATE, RULE};
use crate::chain::Chain;
use crate::config::{AuditConfig, Location, OnFail, SinkKind};
use crate::crash;
use crate::derive::Derive;
use crate::error::{Doing, Error, Result};
use crate::ledger::{Appended, Counts, Decision, Entry, Fold, Kind, Objection, SinkActions, Verdict, apply};
use crate::outcome::{Finding, Outcome, Severity};
use crate::pipeline::Follow;
use crate::pipeline::shape::Shaper;
use crate::schema::REJECTED;
use crate::sink::delta::{delta_schema, load};
use crate::sink::files::TableWriter;
use crate::store;

/// The code of an objection: what staging holds is not what the ledger counts.
pub const COUNT: &str = "count";

/// Windows that leave staging by one entry: it names each.
const EXPIRE_AT_ONCE: usize = 1_000;

/// The code of a person's word.
pub const OPERATOR: &str = "operator";

/// A decision that is in the ledger, and in the sinks.
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
    shapers: [Shaper; 2],
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
        Ok(Decider {
            location: location.clone(),
            staging: shaper(Outcome::Staging)?,
            shapers: [shaper(Outcome::Valid)?, shaper(Outcome::Error)?],
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
        let table = runtime.block_on(self.staged())?;
        crash::point("audit/before");
        let key = due.window.key();
        let rows = runtime.block_on(Rows::open(&table, self.staging.schema().clone(), &key, audit))?;
        let (measured, mut decision) = self.judge(&rows, due, by_hand)?;
        crash::point("audit/measured");
        let mut entry = Entry::new(Kind::Decision, &self.chain.generation.hash);
        let mut written = match decision.verdict {
            Verdict::Hold => Written::default(),
            Verdict::Publish | Verdict::Reject => self.write(&rows, &decision, &entry)?,
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
        let number = match runtime.block_on(self.follow.ledger.append(&entry))? {
            Appended::At(number) => number,
            Appended::Moved { .. } => {
                runtime.block_on(self.follow.discard(&entry));
                return Ok(None);
            }
        };
        crash::point("audit/appended");
        runtime.block_on(apply::apply_all(&self.follow.sinks, &self.follow.ledger, number))?;
        crash::point("audit/applied");
        Ok(Some(Decided { entry: number, decision, counts: entry.counts, took: begun.elapsed() }))
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

    /// The staging table, with all that the ledger says is in it.
    async fn staged(&self) -> Result<DeltaTable> {
        let ledger = &self.follow.ledger;
        let head = ledger.head().await?;
        ledger.settle(head).await?;
        for sink in self.follow.sinks.iter().filter(|sink| sink.outcome() == Outcome::Staging) {
            sink.apply(ledger, head).await?;
        }
        let (store, _) = store::open(&self.location)?;
        let table = load(&self.location, store).await;
        let table = table.doing(|| format!("cannot read staging ({})", self.location.written))?;
        table.ok_or_else(|| Error::Diverged(format!("staging ({}) is not there", self.location.written)))
    }

    fn judge(&self, rows: &Rows, due: &Due, by_hand: Option<&ByHand>) -> Result<(Measured, Decision)> {
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

    async fn expect(&self, rows: &Rows, measured: &Measured, objections: &mut Vec<Objection>) -> Result<Verdict> {
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

    /// Writes the rows of a window where they belong.
    fn write(&self, rows: &Rows, decision: &Decision, entry: &Entry) -> Result<Written> {
        let runtime = &self.follow.runtime;
        let mut counts = Counts::default();
        counts.outcomes.insert(Outcome::Valid, 0);
        counts.outcomes.insert(Outcome::Error, 0);
        let mut writers: BTreeMap<Outcome, TableWriter> = BTreeMap::new();
        let mut stream = runtime.block_on(rows.stream())?;
        while let Some(batch) = runtime.block_on(rows.next(&mut stream))? {
            let (masks, findings) = sort(&batch, decision)?;
            for finding in &findings {
                *counts.findings.entry(format!("{RULE}/{}", finding.code)).or_default() += 1;
            }
            for (shaper, mask) in self.shapers.iter().zip(&masks) {
                let outcome = shaper.outcome();
                let Some(shaped) = shaper.publish(&batch, mask, &findings, entry.id)? else { continue };
                *counts.outcomes.entry(outcome).or_default() += shaped.num_rows() as u64;
                counts.rows += shaped.num_rows() as u64;
                let writer = match writers.entry(outcome) {
                    std::collections::btree_map::Entry::Occupied(open) => open.into_mut(),
                    std::collections::btree_map::Entry::Vacant(none) => {
                        let sink = self.follow.sinks.iter().find(|sink| sink.outcome() == outcome);
                        let sink = sink.ok_or_else(|| Error::Host(format!("there is no sink for {outcome}")))?;
                        let (target, schema) = (sink.files(), shaper.schema().clone());
                        none.insert(TableWriter::new(target, schema, entry.id, runtime.clone())?)
                    }
                };
                writer.write(&shaped)?;
            }
        }
        let mut files = BTreeMap::new();
        for (outcome, writer) in writers {
            files.insert(outcome, writer.finish()?);
        }
        self.follow.derive(&self.chain, entry.id, &mut files)?;
        let actions = |(outcome, files)| Ok((outcome, SinkActions { schema: self.schema(outcome)?, files }));
        Ok(Written { counts, sinks: files.into_iter().map(actions).collect::<Result<_>>()? })
    }

    /// The columns of a table that a decision fills, as the ledger has them.
    fn schema(&self, outcome: Outcome) -> Result<serde_json::Value> {
        let shaper = self.shapers.iter().find(|shaper| shaper.outcome() == outcome).map(Shaper::schema);
        let derive = || self.chain.parts.derives.iter().find(|derive| derive.outcome() == outcome).map(Derive::schema);
        let schema = shaper.or_else(derive);
        delta_schema(schema.ok_or_else(|| Error::Host(format!("nothing shapes rows for {outcome}")))?)
    }
}

#[derive(Default)]
struct Written {
    counts: Counts,
    sinks: BTreeMap<Outcome, SinkActions>,
}

/// Which rows are valid and which are errors, and the findings that the audit adds, by row.
fn sort(rows: &RecordBatch, decision: &Decision) -> Result<([BooleanArray; 2], Vec<Finding>)> {
    let flag = |name: &str| {
        let column = rows.column_by_name(name).and_then(|column| column.as_boolean_opt()).cloned();
        column.ok_or_else(|| Error::Host(format!("staged rows have no column `{name}`")))
    };
    let (rejected, copies) = (flag(REJECTED)?, flag(COPY)?);
    let is = |flags: &BooleanArray, row| flags.is_valid(row) && flags.value(row);
    let finding = |row: usize, code: &str, detail: Option<String>| Finding {
        row: row as u32,
        rule: RULE.into(),
        code: code.into(),
        severity: Severity::Error,
        column: None,
        detail,
    };
    let all = decision.verdict == Verdict::Reject;
    let mut findings = Vec::new();
    let mut valid = Vec::with_capacity(rows.num_rows());
    for row in 0..rows.num_rows() {
        if is(&copies, row) {
            findings.push(finding(row, DUPLICATE, Some(format!("a later copy in window {}", decision.window))));
        }
        if all {
            for objection in &decision.objections {
                let detail = format!("window {}: {}", decision.window, objection.detail);
                findings.push(finding(row, &objection.code, Some(detail)));
            }
        }
        valid.push(!all && !is(&rejected, row) && !is(&copies, row));
    }
    let error = valid.iter().map(|valid| !valid).collect::<Vec<_>>();
    Ok(([valid.into(), error.into()], findings))
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
