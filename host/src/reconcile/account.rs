//! What the ledger claims, entry by entry, with its own contradictions found on the way.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::ledger::keep::is_before;
use crate::ledger::{Decision, Entry, EntryRange, Fold, Kind, Ledger, Verdict};
use crate::outcome::Outcome;
use crate::record::TopicPartition;

use super::{Report, Table, thousands};

/// What one entry with rows claims: of records, of a replay, or of a decision.
pub(super) struct Claim {
    pub(super) number: u64,
    /// of records that other entries account for: its ranges have holes, and its rows are a further attempt
    pub(super) is_replay: bool,
    pub(super) id: Uuid,
    /// records that have rows; `None` for a decision, which knows rows only
    pub(super) records: Option<u64>,
    pub(super) rows: BTreeMap<Outcome, u64>,
    /// rows in staging, per window
    pub(super) staged: Vec<(String, u64)>,
    pub(super) ranges: Vec<EntryRange>,
    /// path → rows
    pub(super) files: BTreeMap<Outcome, Vec<(String, u64)>>,
}

impl Claim {
    /// The rows that it has for a sink. Those that are made of others are counted by their files alone.
    pub(super) fn rows_of(&self, outcome: Outcome) -> u64 {
        match outcome {
            Outcome::Valid | Outcome::Error | Outcome::Dlq | Outcome::Staging => {
                self.rows.get(&outcome).copied().unwrap_or(0)
            }
            Outcome::Derived(_) => self.files.get(&outcome).into_iter().flatten().map(|(_, rows)| rows).sum(),
        }
    }
}

/// What the whole ledger claims.
pub(super) struct Account {
    pub(super) fold: Fold,
    /// the entries with rows, by number
    pub(super) claims: Vec<Claim>,
    /// offsets of the entries that staged rows for the windows that are still open or held
    staged: BTreeMap<String, Vec<EntryRange>>,
    /// windows whose rows left staging, and the entry that says so
    expired: BTreeMap<String, u64>,
    /// per sink from when on it keeps rows, each with the entry that says so, in order
    kept_from: BTreeMap<Outcome, Vec<(u64, DateTime<Utc>)>>,
    /// per sink the `adopt` entry that last took over a table as it was: what was in it before cannot be proven
    taken_over: BTreeMap<Outcome, (u64, Uuid)>,
}

impl Account {
    /// Reads the ledger from its first entry, not from a checkpoint; `None` where it is not whole, which is reported.
    pub(super) async fn read(ledger: &Ledger, report: &mut Report) -> Result<Option<Account>> {
        let mut account = Account {
            fold: Fold::default(),
            claims: Vec::new(),
            staged: BTreeMap::new(),
            expired: BTreeMap::new(),
            kept_from: BTreeMap::new(),
            taken_over: BTreeMap::new(),
        };
        let whole = account.fill(ledger, report).await;
        report.head = account.fold.head;
        report.counts = account.fold.totals.clone();
        match whole {
            Ok(()) => Ok(Some(account)),
            Err(Error::Diverged(why)) => {
                report.wrong(why);
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }

    async fn fill(&mut self, ledger: &Ledger, report: &mut Report) -> Result<()> {
        let head = ledger.head().await?;
        // beyond the highest position ever reached, offsets are new
        let mut reached: BTreeMap<TopicPartition, i64> = BTreeMap::new();
        while self.fold.head < head {
            let first = self.fold.head;
            for (n, entry) in ledger.page(first, head).await? {
                explain(n, &entry, &self.fold, report);
                self.take_over(n, &entry);
                self.fold.apply(n, &entry)?;
                for range in &entry.ranges {
                    let highest = reached.entry(range.partition.clone()).or_insert(range.to);
                    if entry.kind == Kind::Rows && range.from < *highest {
                        report.read_again += (range.to.min(*highest) - range.from) as u64;
                    }
                    *highest = range.to.max(*highest);
                }
                self.expired.extend(entry.expired.iter().map(|window| (window.clone(), n)));
                for (outcome, from) in &entry.kept_from {
                    self.kept_from.entry(*outcome).or_default().push((n, *from));
                }
                for staged in &entry.windows {
                    let ranges = self.staged.entry(staged.window.key()).or_default();
                    entry.ranges.iter().for_each(|range| join(ranges, range));
                }
                if let Some(decision) = entry.decision.as_ref().filter(|decision| decision.verdict != Verdict::Hold) {
                    let ranges = self.staged.remove(&decision.window.key()).unwrap_or_default();
                    missed(n, decision, report);
                    self.claims.push(Claim { records: None, ranges, ..claim(n, &entry, report) });
                } else if matches!(entry.kind, Kind::Rows | Kind::Replay) {
                    self.claims.push(claim(n, &entry, report));
                }
            }
        }
        Ok(())
    }

    fn take_over(&mut self, n: u64, entry: &Entry) {
        let lost = n != self.fold.head + 1;
        for (outcome, table) in &entry.tables {
            let known = self.fold.tables.get(outcome);
            if entry.kind == Kind::Adopt && (lost || known.is_some_and(|known| known != table)) {
                self.taken_over.insert(*outcome, (n, entry.id));
            }
        }
    }

    /// Whether a claim can be compared with a table: not where the table was taken over after it.
    pub(super) fn is_provable(&self, claim: &Claim, table: &Table) -> bool {
        self.taken_over.get(&table.outcome).is_none_or(|(n, _)| claim.number > *n)
    }

    /// The entry that took a table over with rows of this `_batch` in it.
    pub(super) fn took_over(&self, outcome: Outcome, batch: &str) -> Option<u64> {
        let (n, id) = self.taken_over.get(&outcome)?;
        Uuid::parse_str(batch).is_ok_and(|batch| batch < *id).then_some(*n)
    }

    /// The entry that took a table over, and the rows that entries before it count for the table.
    pub(super) fn unproven(&self, table: &Table) -> Option<(u64, u64)> {
        let (n, _) = self.taken_over.get(&table.outcome)?;
        let before = self.claims.iter().filter(|claim| claim.number < *n);
        let rows: u64 = before.map(|claim| claim.rows_of(table.outcome)).sum();
        (rows > 0).then_some((*n, rows))
    }

    /// Rows of a claim that were in a table and left it after a time.
    pub(super) fn expired(&self, claim: &Claim, table: &Table) -> u64 {
        if let Some((_, from)) = self.kept_from(table) {
            return if is_before(claim.id, from) { claim.rows_of(table.outcome) } else { 0 };
        }
        if table.outcome != Outcome::Staging {
            return 0;
        }
        let gone = |window: &String| self.expired.get(window).is_some_and(|entry| *entry <= table.mark);
        claim.staged.iter().filter(|(window, _)| gone(window)).map(|(_, rows)| rows).sum()
    }

    /// From when on a table keeps rows, and the entry that says so: the last one that is applied to it.
    pub(super) fn kept_from(&self, table: &Table) -> Option<(u64, DateTime<Utc>)> {
        self.kept_from.get(&table.outcome)?.iter().rev().find(|(n, _)| *n <= table.mark).copied()
    }

    /// How many rows were in a table for as long as they should be, and of how many entries.
    pub(super) fn gone(&self, table: &Table) -> (u64, u64) {
        let rows = self.claims.iter().filter(|claim| self.is_provable(claim, table)).map(|claim| match table.outcome {
            Outcome::Staging => 0,
            Outcome::Valid | Outcome::Error | Outcome::Dlq | Outcome::Derived(_) => self.expired(claim, table),
        });
        rows.filter(|rows| *rows > 0).fold((0, 0), |(sum, entries), rows| (sum + rows, entries + 1))
    }

    /// Whether a claim should be in a table.
    pub(super) fn is_applied(&self, claim: &Claim, table: &Table) -> bool {
        // marks may stay behind entries that have no file for the table
        claim.number <= table.mark || !claim.files.contains_key(&table.outcome)
    }

    /// Entries that have rows for a table and are not in it.
    pub(super) fn pending(&self, table: &Table) -> u64 {
        let waits = |claim: &&Claim| !self.is_applied(claim, table) && claim.rows_of(table.outcome) > 0;
        self.claims.iter().filter(waits).count() as u64
    }
}

/// Notes rows that staging had lost when a person released their window all the same.
fn missed(n: u64, decision: &Decision, report: &mut Report) {
    if decision.missing > 0 {
        let (window, missing) = (&decision.window, thousands(decision.missing));
        let by = format!("by an operator's word (entry {n})");
        report.notes.push(format!("window {window}: {missing} staged rows were given up {by}"));
    }
}

/// Adds a range to those of a window: one per partition is enough to say where its rows may come from.
fn join(ranges: &mut Vec<EntryRange>, range: &EntryRange) {
    match ranges.iter_mut().find(|known| known.partition == range.partition) {
        Some(known) => (known.from, known.to) = (known.from.min(range.from), known.to.max(range.to)),
        None => ranges.push(range.clone()),
    }
}

/// Notes what an operator's word did to positions.
fn explain(n: u64, entry: &Entry, before: &Fold, report: &mut Report) {
    for range in &entry.ranges {
        let partition = &range.partition;
        let at = before.positions.get(partition).map(|position| position.offset);
        let (from, what) = match (entry.kind, at) {
            (Kind::Rows | Kind::Start | Kind::Activate | Kind::Decision | Kind::Expire, _) => continue,
            (Kind::Gap, _) => (range.from, "given up as lost"),
            (Kind::Adopt | Kind::Reset, Some(at)) => (at, "passed over"),
            (Kind::Adopt | Kind::Reset, None) | (Kind::Sweep | Kind::Replay, _) => continue,
        };
        if range.to > from {
            report.given_up += (range.to - from) as u64;
            report.notes.push(format!(
                "{partition}: {} offsets from {from} on {what} by an operator's word (entry {n})",
                thousands((range.to - from) as u64)
            ));
        } else if range.to < from {
            report.notes.push(format!(
                "{partition}: set back from {from} to {} by an operator's word (entry {n}): rows from there on come again",
                range.to
            ));
        }
    }
}

fn claim(number: u64, entry: &Entry, report: &mut Report) -> Claim {
    let counts = &entry.counts;
    let sum: u64 = counts.outcomes.values().sum();
    if counts.rows != sum {
        report.wrong(format!("entry {number} counts {} rows, but {sum} as valid, error and dlq", counts.rows));
    }
    if counts.skipped > counts.records {
        report.wrong(format!("entry {number} skipped {} of {} records", counts.skipped, counts.records));
    }
    let spans = entry.replay.iter().flat_map(|replay| &replay.spans).map(|span| EntryRange {
        partition: span.partition.clone(),
        from: span.from,
        to: span.to,
        topic_id: None,
        latest_event_time: None,
        ended: false,
    });
    let ranges: Vec<EntryRange> = entry.ranges.iter().cloned().chain(spans).collect();
    let span: i64 = ranges.iter().map(|range| range.to - range.from).sum();
    if counts.records > span.unsigned_abs() {
        report.wrong(format!("entry {number} counts {} records in {span} offsets", counts.records));
    }
    Claim {
        number,
        is_replay: entry.replay.is_some(),
        id: entry.id,
        records: Some(counts.records.saturating_sub(counts.skipped)),
        rows: counts.outcomes.clone(),
        staged: entry.windows.iter().map(|staged| (staged.window.key(), staged.rows)).collect(),
        ranges,
        files: entry
            .sinks
            .iter()
            .map(|(outcome, actions)| (*outcome, actions.files.iter().map(|f| (f.path.clone(), f.rows)).collect()))
            .collect(),
    }
}
