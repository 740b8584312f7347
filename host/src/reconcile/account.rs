//! What the ledger claims, entry by entry, with its own contradictions found on the way.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::error::{Error, Result};
use crate::ledger::{Entry, EntryRange, Fold, Kind, Ledger};
use crate::outcome::Outcome;
use crate::record::TopicPartition;

use super::{Report, Table, thousands};

/// What one entry with rows claims.
pub(super) struct Claim {
    pub(super) number: u64,
    /// of records that other entries account for: its ranges have holes, and its rows are a further attempt
    pub(super) is_replay: bool,
    pub(super) id: Uuid,
    pub(super) records: u64,
    pub(super) rows: BTreeMap<Outcome, u64>,
    pub(super) ranges: Vec<EntryRange>,
    /// path → rows
    pub(super) files: BTreeMap<Outcome, Vec<(String, u64)>>,
}

/// What the whole ledger claims.
pub(super) struct Account {
    pub(super) fold: Fold,
    /// the entries with rows, by number
    pub(super) claims: Vec<Claim>,
    /// per sink the `adopt` entry that last took over a table as it was: what was in it before cannot be proven
    taken_over: BTreeMap<Outcome, (u64, Uuid)>,
}

impl Account {
    /// Reads the ledger from its first entry, not from a checkpoint; `None` where it is not whole, which is reported.
    pub(super) async fn read(ledger: &Ledger, report: &mut Report) -> Result<Option<Account>> {
        let mut account = Account { fold: Fold::default(), claims: Vec::new(), taken_over: BTreeMap::new() };
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
                if matches!(entry.kind, Kind::Rows | Kind::Replay) {
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
        let rows: u64 = before.filter_map(|claim| claim.rows.get(&table.outcome)).sum();
        (rows > 0).then_some((*n, rows))
    }

    /// Whether a claim should be in a table.
    pub(super) fn is_applied(&self, claim: &Claim, table: &Table) -> bool {
        // marks may stay behind entries that have no file for the table
        claim.number <= table.mark || !claim.files.contains_key(&table.outcome)
    }

    /// Entries that have rows for a table and are not in it.
    pub(super) fn pending(&self, table: &Table) -> u64 {
        let waits = |claim: &&Claim| {
            !self.is_applied(claim, table) && claim.rows.get(&table.outcome).is_some_and(|rows| *rows > 0)
        };
        self.claims.iter().filter(waits).count() as u64
    }
}

/// Notes what an operator's word did to positions.
fn explain(n: u64, entry: &Entry, before: &Fold, report: &mut Report) {
    for range in &entry.ranges {
        let partition = &range.partition;
        let at = before.positions.get(partition).map(|position| position.offset);
        let (from, what) = match (entry.kind, at) {
            (Kind::Rows | Kind::Start | Kind::Activate, _) => continue,
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
        records: counts.records.saturating_sub(counts.skipped),
        rows: counts.outcomes.clone(),
        ranges,
        files: entry
            .sinks
            .iter()
            .map(|(outcome, actions)| (*outcome, actions.files.iter().map(|f| (f.path.clone(), f.rows)).collect()))
            .collect(),
    }
}
