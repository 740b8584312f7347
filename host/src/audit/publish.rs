//! Puts the rows of a decided window where they belong: into files that the decision's entry will name.
//!
//! Most rows of most windows are published as they are. They are not read again: staging is encoded as valid is, rows with an
//! error finding have row groups of their own, and both kinds are copied as the bytes that they are
//! ([`splice`](crate::sink::files::splice)), with the entry that publishes them written anew. Rows are decoded where they
//! change, or would make a table of small row groups. It decides nothing, and appends nothing.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::RowGroupMetaData;

use super::measure::{COPY, Rows};
use super::staged::{Group, Staged};
use super::{DUPLICATE, RULE};
use crate::chain::Chain;
use crate::derive::Derive;
use crate::error::{Doing, Error, Result};
use crate::ledger::{Counts, Decision, Entry, FileAction, SinkActions, Verdict};
use crate::outcome::{Finding, Outcome, Severity};
use crate::pipeline::Follow;
use crate::pipeline::shape::Shaper;
use crate::schema::{REJECTED, WINDOW};
use crate::sink::Sink;
use crate::sink::delta::delta_schema;
use crate::sink::files::TableWriter;
use crate::sink::files::splice::{Columns, Splicer};

/// Rows of a row group at least that is taken over as it is: by valid, and by error, whose rows are fewer.
const GROUP: [u64; 2] = [4_096, 256];

/// Row groups of a window at most that a table takes over as they are: its readers pay for each.
const GROUPS: u64 = 64;

/// Rows that are decoded at once.
const BATCH: usize = 8_192;

/// Knows where rows of a pipeline go.
pub struct Publisher {
    chain: Arc<Chain>,
    follow: Follow,
    /// the columns that files of staging have now
    staged: Columns,
    /// of valid and of error
    shapers: [Shaper; 2],
}

/// Files of a decision, durable, and what is in them.
#[derive(Default)]
pub struct Written {
    /// rows, by outcome
    pub counts: Counts,
    /// the files, by sink
    pub sinks: BTreeMap<Outcome, SinkActions>,
}

/// Files that are being written for one decision.
struct Open<'a> {
    publisher: &'a Publisher,
    decision: &'a Decision,
    entry: &'a Entry,
    counts: Counts,
    writers: BTreeMap<Outcome, TableWriter>,
    files: BTreeMap<Outcome, Vec<FileAction>>,
}

impl Publisher {
    /// From staging with these columns to valid and error.
    pub fn new(chain: Arc<Chain>, follow: Follow, staging: &SchemaRef, shapers: [Shaper; 2]) -> Result<Publisher> {
        let stored: Vec<_> = staging.fields().iter().filter(|field| field.name() != WINDOW).cloned().collect();
        let staged = Columns::of(&Arc::new(arrow::datatypes::Schema::new(stored)))?;
        Ok(Publisher { chain, follow, staged, shapers })
    }

    /// The sink for rows of an outcome.
    pub fn sink(&self, outcome: Outcome) -> Result<&Arc<dyn Sink>> {
        let sink = self.follow.sinks.iter().find(|sink| sink.outcome() == outcome);
        sink.ok_or_else(|| Error::Host(format!("there is no sink for {outcome}")))
    }

    /// Writes the rows of a window for the decision over it.
    ///
    /// Must be called outside the runtime.
    pub fn write(&self, staged: &Staged, rows: &Rows<'_>, decision: &Decision, entry: &Entry) -> Result<Written> {
        let counts = Counts { outcomes: [(Outcome::Valid, 0), (Outcome::Error, 0)].into(), ..Counts::default() };
        let (writers, files) = (BTreeMap::new(), BTreeMap::new());
        let mut open = Open { publisher: self, decision, entry, counts, writers, files };
        // only a query tells which rows are copies
        let left = match decision.duplicates {
            0 => Some(open.take_over_or_decode(staged, rows)?),
            _ => None,
        };
        let runtime = &self.follow.runtime;
        let mut stream = match left {
            None => Some(runtime.block_on(rows.stream())?),
            Some(left) if left.iter().flatten().any(|left| *left) => Some(runtime.block_on(rows.stream_of(left))?),
            Some(_) => None,
        };
        while let Some(stream) = &mut stream
            && let Some(batch) = runtime.block_on(rows.next(stream))?
        {
            open.sort_out(&batch)?;
        }
        open.finish()
    }

    /// The columns of a table that a decision fills, as the ledger has them.
    fn schema(&self, outcome: Outcome) -> Result<serde_json::Value> {
        let shaper = self.shapers.iter().find(|shaper| shaper.outcome() == outcome).map(Shaper::schema);
        let derive = || self.chain.parts.derives.iter().find(|derive| derive.outcome() == outcome).map(Derive::schema);
        let schema = shaper.or_else(derive);
        delta_schema(schema.ok_or_else(|| Error::Host(format!("nothing shapes rows for {outcome}")))?)
    }
}

impl Open<'_> {
    /// Goes through all row groups; answers which of each file have columns that a query must make up.
    fn take_over_or_decode(&mut self, staged: &Staged, rows: &Rows<'_>) -> Result<Vec<Vec<bool>>> {
        let Publisher { follow, staged: columns, .. } = self.publisher;
        let runtime = &follow.runtime;
        let mut takers = self.takers(staged)?;
        let mut left = Vec::with_capacity(staged.files().len());
        for file in staged.files() {
            let footer = runtime.block_on(staged.footer(file))?;
            let is_known = columns.are_of(&footer);
            let doing = || format!("cannot read {} in staging", file.action.path);
            let options = ArrowReaderOptions::new();
            let decoder = ArrowReaderMetadata::try_new(footer.clone(), options).doing(doing)?;
            let mut unknown = vec![false; file.groups.len()];
            for (at, (known, group)) in file.groups.iter().zip(footer.row_groups()).enumerate() {
                let taker = takers.iter_mut().find(|taker| taker.takes(known, group));
                if taker.is_none() && !is_known {
                    unknown[at] = true;
                    continue;
                }
                let encoded = runtime.block_on(staged.encoded(file, group))?;
                if let Some(taker) = taker {
                    taker.splicer.append(group, &encoded)?;
                    self.count(taker.outcome, known.rows);
                    continue;
                }
                let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(encoded, decoder.clone());
                let reader = reader.with_row_groups(vec![at]).with_batch_size(BATCH).build().doing(doing)?;
                for batch in reader {
                    self.sort_out(&rows.fit(&batch.doing(doing)?)?)?;
                }
            }
            left.push(unknown);
        }
        for Taker { outcome, splicer, .. } in takers {
            let taken = splicer.finish()?;
            if !taken.is_empty() {
                self.files.insert(outcome, taken);
            }
        }
        Ok(left)
    }

    /// The tables that can take row groups over as they are.
    fn takers(&self, staged: &Staged) -> Result<Vec<Taker>> {
        let Publisher { follow, shapers, .. } = self.publisher;
        let mut takers = Vec::new();
        for ((shaper, rejected), least) in shapers.iter().zip([false, true]).zip(GROUP) {
            // rows of a rejected window have a finding more
            if self.decision.verdict != Verdict::Publish || !shaper.keeps_names() {
                continue;
            }
            let target = self.publisher.sink(shaper.outcome())?.files();
            let splicer = Splicer::new(target, shaper.schema(), self.entry.id, follow.runtime.clone())?;
            let enough = (staged.rows_that_are(rejected) / GROUPS).max(least);
            takers.extend(splicer.map(|splicer| Taker { outcome: shaper.outcome(), rejected, enough, splicer }));
        }
        Ok(takers)
    }

    /// Writes rows (all columns of staging, and whether they are copies) where each belongs.
    fn sort_out(&mut self, rows: &RecordBatch) -> Result<()> {
        let (masks, findings) = sort(rows, self.decision)?;
        for finding in &findings {
            *self.counts.findings.entry(format!("{RULE}/{}", finding.code)).or_default() += 1;
        }
        for (shaper, mask) in self.publisher.shapers.iter().zip(&masks) {
            let outcome = shaper.outcome();
            let Some(shaped) = shaper.publish(rows, mask, &findings, self.entry.id)? else { continue };
            self.count(outcome, shaped.num_rows() as u64);
            let writer = match self.writers.entry(outcome) {
                Slot::Occupied(open) => open.into_mut(),
                Slot::Vacant(none) => {
                    let (target, schema) = (self.publisher.sink(outcome)?.files(), shaper.schema().clone());
                    let runtime = self.publisher.follow.runtime.clone();
                    none.insert(TableWriter::new(target, schema, self.entry.id, runtime)?)
                }
            };
            writer.write(&shaped)?;
        }
        Ok(())
    }

    fn count(&mut self, outcome: Outcome, rows: u64) {
        *self.counts.outcomes.entry(outcome).or_default() += rows;
        self.counts.rows += rows;
    }

    fn finish(self) -> Result<Written> {
        let Open { publisher, entry, counts, writers, mut files, .. } = self;
        for (outcome, writer) in writers {
            files.entry(outcome).or_default().extend(writer.finish()?);
        }
        publisher.follow.derive(&publisher.chain, entry.id, &mut files)?;
        let actions = |(outcome, files)| Ok((outcome, SinkActions { schema: publisher.schema(outcome)?, files }));
        Ok(Written { counts, sinks: files.into_iter().map(actions).collect::<Result<_>>()? })
    }
}

/// A table that takes row groups over.
struct Taker {
    outcome: Outcome,
    /// whether it takes rows with an error finding, or those without
    rejected: bool,
    /// rows of a row group at least
    enough: u64,
    splicer: Splicer,
}

impl Taker {
    fn takes(&self, known: &Group, group: &RowGroupMetaData) -> bool {
        known.rejected == Some(self.rejected) && known.rows >= self.enough && self.splicer.fits(group)
    }
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
