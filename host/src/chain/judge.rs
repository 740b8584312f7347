//! Batches through a chain, on one thread: skipped, decoded, enriched, judged.
//!
//! A batch that grows too large on the way is judged in halves; a verdict depends on its record alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, BooleanArray, new_empty_array};
use uuid::Uuid;

use super::parts::{Enricher, Parts, Step};
use super::rows::{Author, Rows};
use super::{Judged, count};
use crate::columns;
use crate::config::Config;
use crate::decode::JsonDecoder;
use crate::error::{Error, Result};
use crate::expect::{self, Expectations, Skip, SqlEnricher};
use crate::ledger::Counts;
use crate::outcome::{Dead, Reason, Stage, route};
use crate::plugin::{Added, Caller, DeadRow, FINDING, Plugin, Tally};
use crate::record::{Batch, RawBatch};
use crate::reference::{Join, Pinned};

/// Bytes that a batch of several records may grow to, in each of its ways to grow, before it is judged in halves: eight
/// times what an ordinary batch has. Each thread that judges may hold this several times over.
const PIECE: usize = 32 << 20;

/// Bytes that a single record may grow to, likewise: with two threads and writers, within half a gigabyte.
const RECORD: usize = 64 << 20;

/// Records that wait to be judged: a batch, cut into pieces where it grows too large.
#[derive(Debug)]
pub struct Waiting(Vec<RawBatch>);

impl From<RawBatch> for Waiting {
    fn from(raw: RawBatch) -> Self {
        Waiting(vec![raw])
    }
}

/// How much a batch may grow.
#[derive(Clone, Copy)]
struct Bound {
    bytes: usize,
    /// beyond it the batch is cut; else the rows that grow the most are dead
    cuts: bool,
}

enum Adding {
    Sql(Arc<SqlEnricher>),
    Reference(Arc<Join>),
    Plugin(Box<Caller>),
}

/// Judges batches on one thread.
pub struct Judge {
    decoder: JsonDecoder,
    skip: Option<Arc<Skip>>,
    enrichers: Vec<Adding>,
    expectations: Arc<Expectations>,
    rules: Vec<Caller>,
    pinned: Pinned,
    namespace: Uuid,
    spent: Spent,
}

/// Where a judge's time went.
#[derive(Clone, Debug, Default)]
pub struct Spent {
    /// predicate and decoder
    pub decode: Duration,
    /// all enrichers
    pub enrich: Duration,
    /// all expectations
    pub expect: Duration,
    /// all components that judge
    pub rules: Duration,
    /// rows that came to expectations and rules
    pub judged: u64,
    /// what was done with each plugin
    pub plugins: Vec<(Arc<str>, Tally)>,
}

impl Judge {
    /// A judge for one thread, with the reference tables as they are now.
    pub(super) fn new(parts: &Parts, config: &Config, namespace: Uuid) -> Result<Judge> {
        let source = &config.source;
        let caller = |step: &Step| Caller::new(step.plugin.clone(), step.breaker.clone());
        let enrichers = parts.enrichers.iter().map(|enricher| match enricher {
            Enricher::Sql(sql) => Adding::Sql(sql.clone()),
            Enricher::Reference(join) => Adding::Reference(join.clone()),
            Enricher::Plugin(step) => Adding::Plugin(Box::new(caller(step))),
        });
        let mut judge = Judge {
            decoder: JsonDecoder::new(config.schema.clone(), source.unknown_fields, source.max_record)?,
            skip: parts.skip.clone(),
            enrichers: enrichers.collect(),
            expectations: parts.expectations.clone(),
            rules: parts.rules.iter().map(caller).collect(),
            pinned: parts.references.pinned()?,
            namespace,
            spent: Spent::default(),
        };
        judge.lend();
        Ok(judge)
    }

    /// Joins with these snapshots from now on.
    pub fn pin(&mut self, pinned: &Pinned) {
        if !self.pinned.is(pinned) {
            self.pinned = pinned.clone();
            self.lend();
        }
    }

    /// Components get the tables that rows are joined with.
    fn lend(&mut self) {
        let enrichers = self.enrichers.iter_mut().filter_map(|enricher| match enricher {
            Adding::Sql(_) | Adding::Reference(_) => None,
            Adding::Plugin(caller) => Some(&mut **caller),
        });
        for caller in enrichers.chain(&mut self.rules) {
            caller.pin(&self.pinned);
        }
    }

    /// Where the time went since this was last asked.
    pub fn take_spent(&mut self) -> Spent {
        let enrichers = self.enrichers.iter_mut().filter_map(|enricher| match enricher {
            Adding::Sql(_) | Adding::Reference(_) => None,
            Adding::Plugin(caller) => Some(&mut **caller),
        });
        let plugins =
            enrichers.chain(&mut self.rules).map(|caller| (caller.plugin().name().clone(), caller.take_tally()));
        Spent { plugins: plugins.collect(), ..std::mem::take(&mut self.spent) }
    }

    /// Judges the next of the records that wait: all of them, unless that takes too much memory. `None` when none is left.
    ///
    /// # Errors
    /// A component failed beyond its budget and the pipeline must stop: nothing of the batch may be committed.
    pub fn next(&mut self, waiting: &mut Waiting) -> Result<Option<Judged>> {
        while let Some(raw) = waiting.0.pop() {
            let cuts = raw.records.len() > 1;
            let bound = Bound { bytes: if cuts { PIECE } else { RECORD }, cuts };
            let raw = Arc::new(raw);
            if let Some(judged) = self.judge_within(raw.clone(), bound)? {
                return Ok(Some(judged));
            }
            let (all, half) = (raw.records.len(), raw.records.len() / 2);
            waiting.0.extend([raw.part(half..all), raw.part(0..half)]); // the last is the next
        }
        Ok(None)
    }

    /// Judges the records of `raw` in one piece, as if they were one: for a single record, or few.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn judge(&mut self, raw: RawBatch) -> Result<Judged> {
        let bound = Bound { bytes: RECORD, cuts: false };
        self.judge_within(Arc::new(raw), bound)?.ok_or_else(uncut)
    }

    fn judge_within(&mut self, raw: Arc<RawBatch>, bound: Bound) -> Result<Option<Judged>> {
        let begun = Instant::now();
        let skipped = self.skip.as_ref().map(|skip| skip.skipped(&raw));
        let is_skipped = |record| skipped.as_ref().is_some_and(|s: &BooleanArray| s.value(record));
        let most = if bound.cuts { bound.bytes } else { usize::MAX };
        let Some(decoded) = self.decoder.decode_within(&raw, is_skipped, most) else { return Ok(None) };
        let batch = Batch {
            columns: decoded.rows,
            origin: decoded.origin,
            ordinal: decoded.ordinal,
            raw,
            pipeline: self.namespace,
        };
        let records = batch.raw.records.len() as u64;
        self.spent.decode += begun.elapsed();
        let counts = Counts { records, skipped: skipped.map_or(0, |s| s.true_count() as u64), ..Counts::default() };
        self.judge_batch(batch, decoded.dead, counts, bound)
    }

    /// Judges rows that are shaped already: those of a batch, or of a table that is looked at again.
    pub fn judge_rows(&mut self, batch: Batch, dead: Vec<Dead>, records: u64, skipped: u64) -> Result<Judged> {
        let counts = Counts { records, skipped, ..Counts::default() };
        self.judge_batch(batch, dead, counts, Bound { bytes: RECORD, cuts: false })?.ok_or_else(uncut)
    }

    /// The same for many rows, each of a record of its own: in as many pieces as it takes.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn judge_stored(&mut self, batch: Batch) -> Result<Vec<Judged>> {
        let mut waiting = vec![batch];
        let mut done = Vec::new();
        while let Some(batch) = waiting.pop() {
            let cuts = batch.len() > 1;
            let bound = Bound { bytes: if cuts { PIECE } else { RECORD }, cuts };
            let counts = Counts { records: batch.len() as u64, ..Counts::default() };
            match self.judge_batch(batch.clone(), Vec::new(), counts, bound)? {
                Some(judged) => done.push(judged),
                None => {
                    let (all, half) = (batch.len(), batch.len() / 2);
                    waiting.extend([batch.part(half..all), batch.part(0..half)]); // the last is the next
                }
            }
        }
        Ok(done)
    }

    /// `None` where the batch is to be cut.
    fn judge_batch(
        &mut self,
        batch: Batch,
        dead: Vec<Dead>,
        mut counts: Counts,
        bound: Bound,
    ) -> Result<Option<Judged>> {
        let mut rows = Rows { batch, dead };
        let begun = Instant::now();
        let mut room = bound.bytes; // for the columns that are added, all together
        for enricher in &mut self.enrichers {
            let before = rows.batch.columns.num_columns();
            match enricher {
                Adding::Sql(sql) => {
                    let enriched = match sql.enrich(&rows.batch, room) {
                        Some(enriched) => enriched,
                        None if bound.cuts => return Ok(None),
                        None => sql.give_up(&rows.batch, bound.bytes),
                    };
                    rows.batch = enriched.batch;
                    rows.dead.extend(enriched.dead);
                }
                Adding::Reference(join) => {
                    let added = match join.look_up(&rows.batch, &self.pinned, room)? {
                        Some(added) => added,
                        None if bound.cuts => return Ok(None),
                        None => too_much(join, &rows.batch, bound.bytes),
                    };
                    if bound.cuts && rows.grow_beyond(&added, bound.bytes) {
                        return Ok(None);
                    }
                    rows.add(None, join.adds(), added, bound.bytes)?;
                }
                Adding::Plugin(caller) => {
                    let added = match caller.enrich_within(&rows.batch, room)? {
                        Some(added) => added,
                        None if bound.cuts => return Ok(None),
                        None => caller.add_nothing(&rows.batch, bound.bytes),
                    };
                    if bound.cuts && rows.grow_beyond(&added, bound.bytes) {
                        return Ok(None);
                    }
                    rows.add(Some(&author(caller.plugin())), caller.plugin().adds(), added, bound.bytes)?;
                }
            }
            let added = rows.batch.columns.columns().iter().skip(before);
            room = room.saturating_sub(added.map(|column| columns::size(column, 0, column.len())).sum());
        }
        let enriched = Instant::now();
        let judged = self.expectations.judge(&rows.batch);
        let expected = Instant::now();
        self.spent.enrich += enriched - begun;
        self.spent.expect += expected - enriched;
        self.spent.judged += rows.batch.len() as u64;
        let mut findings = judged.findings;
        let mut room = bound.bytes; // for what is found, stored once more in the error table
        let taken = findings.len().saturating_mul(FINDING);
        if bound.cuts && taken > room {
            return Ok(None);
        }
        room = room.saturating_sub(taken);
        // the first who cannot judge a row names the reason
        let mut doomed: BTreeMap<u32, Dead> = judged.dead.into_iter().collect();
        for caller in &mut self.rules {
            let checked = match caller.check_within(&rows.batch, room)? {
                Some(checked) => checked,
                None if bound.cuts => return Ok(None),
                None => caller.find_nothing(&rows.batch, bound.bytes),
            };
            let details = checked.findings.iter().filter_map(|finding| finding.detail.as_ref()).map(String::len);
            room = room.saturating_sub(details.sum::<usize>() + checked.findings.len() * FINDING);
            findings.extend(checked.findings);
            for row in checked.dead {
                doomed.entry(row.row).or_insert_with(|| rows.letter(Stage::Rule, Some(author(caller.plugin())), row));
            }
        }
        self.spent.rules += expected.elapsed();
        for unknown in judged.unknown {
            // a row that a rule could not judge has no verdict, so none that is unknown
            let rows = unknown.without(doomed.keys().copied());
            if rows > 0 {
                *counts.unknown.entry(format!("{}/{}", expect::RULE, unknown.name)).or_default() += rows;
            }
        }
        let (batch, mut findings, dead) = rows.without(doomed, findings)?;
        let outcomes = route(batch.len(), &findings);
        count(&mut counts, &outcomes, &findings, &dead);
        findings.sort_by_key(|finding| finding.row); // stable: those of a row stay in the order of the rules
        Ok(Some(Judged { batch, findings, outcomes, windows: None, dead, counts }))
    }
}

fn uncut() -> Error {
    Error::Host("a batch that must stay whole was to be cut".into())
}

/// Every row is dead: what it is joined with is too much.
fn too_much(join: &Join, batch: &Batch, most: usize) -> Added {
    let detail = format!("{}: its rows of `{}` would take more than {most} bytes", join.name(), join.reference());
    let dead = |row| DeadRow { row, reason: Reason::TooLarge, detail: detail.clone() };
    let columns = join.adds().iter().map(|field| new_empty_array(field.data_type())).collect();
    Added { rows: Vec::new(), columns, dead: (0..batch.len() as u32).map(dead).collect() }
}

fn author(plugin: &Plugin) -> Author {
    (plugin.name().clone(), plugin.digest().clone())
}
