//! What two generations make of the same records: rows whose outcome flips, findings gained and lost, columns changed.
//!
//! Pure: it judges nothing, reads nothing and writes nothing. Rows are the same where their coordinates are (topic,
//! partition, offset, row), so that it does not matter how either side cut the batch into pieces.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use serde::Serialize;

use crate::chain::{Judged, dead_key};
use crate::outcome::{Finding, Outcome};
use crate::record::TopicPartition;

/// Coordinates that a [`Summary`] keeps as samples of each thing that it counts.
pub const SAMPLES: usize = 5;

/// Where a row came from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Coordinates {
    /// of its record
    #[serde(flatten)]
    pub partition: TopicPartition,
    /// of its record
    pub offset: i64,
    /// its ordinal within the record
    pub row: u32,
}

/// A row of which the two do not say the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// which row
    #[serde(flatten)]
    pub at: Coordinates,
    /// what became of it before; `None` where there was no such row: its record was skipped, or became fewer
    pub before: Option<Outcome>,
    /// what becomes of it now, likewise
    pub after: Option<Outcome>,
    /// findings (`rule/code`) and reasons of dead letters (`stage/reason`) that it has now and had not
    pub gained: Vec<String>,
    /// those that it had and has no more
    pub lost: Vec<String>,
    /// columns that both have, with another value
    pub columns: Vec<String>,
    /// where its outcome flips, why: what objects now or, where nothing does, what objected before
    pub reasons: Vec<String>,
}

impl Difference {
    /// Whether another table gets the row.
    pub fn flips(&self) -> bool {
        self.before != self.after
    }
}

/// What two judgements of the same records come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// records that were compared
    pub records: u64,
    /// rows that either side made of them
    pub rows: u64,
    /// rows that differ, by partition as the batch has them, offset and ordinal
    pub differences: Vec<Difference>,
    /// columns that only the second has
    pub added: BTreeSet<String>,
    /// columns that only the first has
    pub removed: BTreeSet<String>,
}

/// Compares two judgements of the same records, each in as many pieces as its judge cut them into.
pub fn compare(before: &[Judged], after: &[Judged]) -> Compared {
    let (old, new) = (rows(before), rows(after));
    let mut compared =
        Compared { records: before.iter().map(|judged| judged.counts.records).sum(), ..Compared::default() };
    let shared = columns(before, after, &mut compared);
    let suspects = whole_columns(before, after, &shared).unwrap_or(shared);
    let (mut left, mut right) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let (one, other) = match (left.peek(), right.peek()) {
            (None, None) => return compared,
            (Some(_), None) => (left.next(), None),
            (None, Some(_)) => (None, right.next()),
            (Some(one), Some(other)) => match one.key().cmp(&other.key()) {
                Ordering::Less => (left.next(), None),
                Ordering::Greater => (None, right.next()),
                Ordering::Equal => (left.next(), right.next()),
            },
        };
        compared.rows += 1;
        compared.differences.extend(differ(one, other, &suspects));
    }
}

/// A row of one side.
struct Row<'a> {
    judged: &'a Judged,
    what: What,
    range: u16,
    offset: i64,
    ordinal: u32,
}

#[derive(Clone, Copy)]
enum What {
    /// index into the rows that were judged
    Alive(usize),
    /// index into the dead
    Dead(usize),
}

impl Row<'_> {
    fn key(&self) -> (u16, i64, u32) {
        (self.range, self.offset, self.ordinal)
    }

    fn coordinates(&self) -> Coordinates {
        let range = &self.judged.batch.raw.ranges[usize::from(self.range)];
        Coordinates { partition: range.partition.clone(), offset: self.offset, row: self.ordinal }
    }

    fn outcome(&self) -> Outcome {
        match self.what {
            What::Alive(row) => self.judged.outcomes[row],
            What::Dead(_) => Outcome::Dlq,
        }
    }

    fn findings(&self) -> &[Finding] {
        let What::Alive(row) = self.what else { return &[] };
        let findings = &self.judged.findings; // they come by row
        let from = findings.partition_point(|finding| (finding.row as usize) < row);
        let to = findings.partition_point(|finding| finding.row as usize <= row);
        &findings[from..to]
    }

    /// Everything that is said of the row, sorted. A dead letter has its reason only.
    fn said(&self) -> Vec<String> {
        let mut said: Vec<String> = match self.what {
            What::Alive(_) => self.findings().iter().map(Finding::key).collect(),
            What::Dead(dead) => vec![dead_key(&self.judged.dead[dead])],
        };
        said.sort_unstable();
        said
    }

    /// What makes it no valid row, sorted, each once.
    fn objections(&self) -> Vec<String> {
        let objections: BTreeSet<String> = match self.what {
            What::Alive(_) => self.findings().iter().filter(|finding| finding.is_error()).map(Finding::key).collect(),
            What::Dead(_) => self.said().into_iter().collect(),
        };
        objections.into_iter().collect()
    }
}

fn rows(pieces: &[Judged]) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    for judged in pieces {
        let records = &judged.batch.raw.records;
        let row = |what, record: u32, ordinal| {
            let record = &records[record as usize];
            Row { judged, what, range: record.range, offset: record.offset, ordinal }
        };
        let alive = judged.batch.origin.iter().zip(&judged.batch.ordinal).enumerate();
        rows.extend(alive.map(|(at, (record, ordinal))| row(What::Alive(at), *record, *ordinal)));
        let dead = judged.dead.iter().enumerate();
        rows.extend(dead.map(|(at, dead)| row(What::Dead(at), dead.record, dead.ordinal)));
    }
    rows.sort_by_key(Row::key);
    rows
}

fn differ(one: Option<&Row<'_>>, other: Option<&Row<'_>>, columns: &[String]) -> Option<Difference> {
    let at = one.or(other)?;
    let (before, after) = (one.map(Row::outcome), other.map(Row::outcome));
    let said = |row: Option<&Row<'_>>| row.map(Row::said).unwrap_or_default();
    let (mut lost, mut gained) = (said(one), said(other));
    take_common(&mut lost, &mut gained);
    let columns = match (one, other) {
        (Some(one), Some(other)) => changed(one, other, columns),
        (None, _) | (_, None) => Vec::new(),
    };
    if before == after && gained.is_empty() && lost.is_empty() && columns.is_empty() {
        return None;
    }
    let objections = |row: Option<&Row<'_>>| row.map(Row::objections).unwrap_or_default();
    let reasons = match (before == after, objections(other)) {
        (true, _) => Vec::new(),
        (false, now) if now.is_empty() => objections(one),
        (false, now) => now,
    };
    Some(Difference { at: at.coordinates(), before, after, gained, lost, columns, reasons })
}

/// Leaves in each what the other lacks, counted: twice and once leave one.
fn take_common(left: &mut Vec<String>, right: &mut Vec<String>) {
    left.retain(|said| match right.iter().position(|other| other == said) {
        Some(at) => {
            right.remove(at);
            false
        }
        None => true,
    });
}

/// The columns that both sides have; the others are noted. A piece without a row may lack those that enrichers add.
fn columns(before: &[Judged], after: &[Judged], compared: &mut Compared) -> Vec<String> {
    let names = |pieces: &[Judged]| -> BTreeSet<String> {
        let fields = pieces.iter().flat_map(|judged| judged.batch.columns.schema_ref().fields());
        fields.map(|field| field.name().clone()).collect()
    };
    let (old, new) = (names(before), names(after));
    compared.added = new.difference(&old).cloned().collect();
    compared.removed = old.difference(&new).cloned().collect();
    old.intersection(&new).cloned().collect()
}

/// Where both sides have the same rows in the same order, the columns of which some value differs; whole columns are
/// compared at once then, which is all there is to do for most.
fn whole_columns(before: &[Judged], after: &[Judged], shared: &[String]) -> Option<Vec<String>> {
    let aligned = before.len() == after.len()
        && before.iter().zip(after).all(|(old, new)| {
            let (old, new) = (&old.batch, &new.batch);
            old.origin == new.origin && old.ordinal == new.ordinal && old.raw.records.len() == new.raw.records.len()
        });
    let column = |judged: &Judged, name: &str| judged.batch.columns.column_by_name(name).cloned();
    let is_same = |name: &&String| {
        before.iter().zip(after).all(|(old, new)| match (column(old, name), column(new, name)) {
            (Some(old), Some(new)) => old.data_type() == new.data_type() && *old == *new,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        })
    };
    aligned.then(|| shared.iter().filter(|name| !is_same(name)).cloned().collect())
}

/// Those of the columns whose value differs between two rows.
fn changed(one: &Row<'_>, other: &Row<'_>, names: &[String]) -> Vec<String> {
    let (What::Alive(i), What::Alive(j)) = (one.what, other.what) else { return Vec::new() };
    let value = |row: &Row<'_>, at: usize, name: &str| -> Option<ArrayRef> {
        Some(row.judged.batch.columns.column_by_name(name)?.slice(at, 1))
    };
    let differs = |name: &&String| match (value(one, i, name), value(other, j, name)) {
        // two nulls are the same, of whatever type
        (Some(old), Some(new)) => !(old.is_null(0) && new.is_null(0)) && *old != *new,
        (None, _) | (_, None) => false,
    };
    names.iter().filter(differs).cloned().collect()
}

/// How often something was seen, and where: the lowest coordinates, in whatever order they come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// rows
    pub rows: u64,
    /// the lowest of them
    pub samples: Vec<Coordinates>,
}

impl Tally {
    fn add(&mut self, at: &Coordinates) {
        self.rows += 1;
        let place = self.samples.partition_point(|known| known < at);
        if place < SAMPLES {
            self.samples.insert(place, at.clone());
            self.samples.truncate(SAMPLES);
        }
    }

    fn merge(&mut self, other: Tally) {
        self.rows += other.rows;
        self.samples.extend(other.samples);
        self.samples.sort_unstable();
        self.samples.truncate(SAMPLES);
    }
}

/// From where to where a row goes; `None`: there is no such row.
pub type Flip = (Option<Outcome>, Option<Outcome>);

/// `valid`, `error`, `dlq`, or `none`: the name of an end of a [`Flip`].
pub fn name(end: Option<Outcome>) -> &'static str {
    end.map_or("none", Outcome::as_str)
}

/// Many comparisons in numbers, with samples; its size does not depend on how many records there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// records that were compared
    pub records: u64,
    /// rows that either side made of them
    pub rows: u64,
    /// records of which some row flips
    pub flipped_records: u64,
    /// rows per flip
    pub flips: BTreeMap<Flip, Tally>,
    /// rows per flip and reason; a row may have several
    pub reasons: BTreeMap<(Flip, String), Tally>,
    /// findings and reasons that rows have now and had not; each row counts once for each
    pub gained: BTreeMap<String, Tally>,
    /// those that they had and have no more
    pub lost: BTreeMap<String, Tally>,
    /// columns with another value
    pub columns: BTreeMap<String, Tally>,
    /// columns that only the second has
    pub added: BTreeSet<String>,
    /// columns that only the first has
    pub removed: BTreeSet<String>,
}

impl Summary {
    /// Counts a comparison. All rows of a record must be in it.
    pub fn add(&mut self, compared: &Compared) {
        self.records += compared.records;
        self.rows += compared.rows;
        self.added.extend(compared.added.iter().cloned());
        self.removed.extend(compared.removed.iter().cloned());
        let mut last: Option<(&TopicPartition, i64)> = None;
        for difference in &compared.differences {
            let at = &difference.at;
            if difference.flips() {
                let flip = (difference.before, difference.after);
                // differences come by record
                self.flipped_records +=
                    u64::from(last.replace((&at.partition, at.offset)) != Some((&at.partition, at.offset)));
                self.flips.entry(flip).or_default().add(at);
                for reason in &difference.reasons {
                    self.reasons.entry((flip, reason.clone())).or_default().add(at);
                }
            }
            for (said, into) in [
                (&difference.gained, &mut self.gained),
                (&difference.lost, &mut self.lost),
                (&difference.columns, &mut self.columns),
            ] {
                let mut said: Vec<&String> = said.iter().collect();
                said.dedup();
                said.into_iter().for_each(|key| into.entry(key.clone()).or_default().add(at));
            }
        }
    }

    /// Adds what another thread counted.
    pub fn merge(&mut self, other: Summary) {
        fn all<K: Ord>(into: &mut BTreeMap<K, Tally>, from: BTreeMap<K, Tally>) {
            from.into_iter().for_each(|(key, tally)| into.entry(key).or_default().merge(tally));
        }
        self.records += other.records;
        self.rows += other.rows;
        self.flipped_records += other.flipped_records;
        all(&mut self.flips, other.flips);
        all(&mut self.reasons, other.reasons);
        all(&mut self.gained, other.gained);
        all(&mut self.lost, other.lost);
        all(&mut self.columns, other.columns);
        self.added.extend(other.added);
        self.removed.extend(other.removed);
    }

    /// Rows that flip.
    pub fn flipped_rows(&self) -> u64 {
        self.flips.values().map(|tally| tally.rows).sum()
    }

    /// Records that flip, in percent of those that were compared; 0 where there are none.
    pub fn flipped_percent(&self) -> f64 {
        if self.records == 0 { 0.0 } else { self.flipped_records as f64 * 100.0 / self.records as f64 }
    }

    /// For scripts.
    pub fn json(&self) -> serde_json::Value {
        let flips: Vec<serde_json::Value> = self
            .flips
            .iter()
            .map(|(flip, tally)| {
                let reasons: BTreeMap<&str, &Tally> = self
                    .reasons
                    .iter()
                    .filter(|((of, _), _)| of == flip)
                    .map(|((_, reason), tally)| (reason.as_str(), tally))
                    .collect();
                serde_json::json!({
                    "before": flip.0, "after": flip.1, "rows": tally.rows, "samples": tally.samples, "reasons": reasons,
                })
            })
            .collect();
        serde_json::json!({
            "records": self.records, "rows": self.rows,
            "flipped_records": self.flipped_records, "flipped_rows": self.flipped_rows(), "flips": flips,
            "gained": self.gained, "lost": self.lost, "columns": self.columns,
            "columns_added": self.added, "columns_removed": self.removed,
        })
    }
}

/// Leaves out what `is_out` says of a judgement's findings, and routes its rows anew: for rules that were not asked.
pub fn without(judged: &mut Judged, is_out: impl Fn(&Arc<str>) -> bool) {
    judged.findings.retain(|finding| !is_out(finding.judge()));
    judged.outcomes = crate::outcome::route(judged.batch.len(), &judged.findings);
}

#[cfg(test)]
pub(crate) mod tests;
