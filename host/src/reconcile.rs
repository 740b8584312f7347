//! The proof, from ledger and tables alone, that every record and row is accounted for, once.
//!
//! Ranges are contiguous per partition, except where an operator's word says otherwise; each entry's counts equal the rows
//! with its `_batch` in each table; each row lies within the ranges of its entry; no coordinate is there twice. It applies
//! nothing, repairs nothing and trusts no statistics where rows can be read.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use deltalake::DeltaTable;
use object_store::ObjectStore;
use serde::Serialize;

use crate::cli::text::thousands;
use crate::config::{Config, Location, SinkKind};
use crate::error::Result;
use crate::ledger::operate::Seen;
use crate::ledger::{Counts, Ledger};
use crate::outcome::Outcome;
use crate::record::TopicPartition;
use crate::schema::COORDINATES;
use crate::sink::delta::{broken, load, log};
use crate::store;

mod account;
mod attempts;
mod files;
mod rows;

use account::Account;

/// Discrepancies that are spelled out; more are only counted. Whoever has a hundred has one cause.
const SPELLED_OUT: usize = 100;

/// A table as it is now.
pub struct Table {
    /// whose rows it takes
    pub outcome: Outcome,
    /// its location as the user wrote it
    pub location: String,
    /// the snapshot that is looked at
    pub table: DeltaTable,
    /// its identity
    pub identity: String,
    /// the entry that its progress mark names, 0 = none
    pub mark: u64,
    /// whether its rows say where they came from
    pub provenance: bool,
}

impl Table {
    /// Opens the table at a location; `None` where there is none.
    pub async fn open(
        outcome: Outcome,
        location: &Location,
        store: Arc<dyn ObjectStore>,
        application: &str,
    ) -> Result<Option<Table>> {
        let read = async || {
            let Some(table) = load(location, store.clone()).await? else { return Ok(None) };
            let state = table.snapshot()?;
            let mark = state.transaction_version(table.log_store().as_ref(), application).await?.unwrap_or(0);
            let identity = state.metadata().id().to_owned();
            let schema = state.schema();
            // what is made of rows has no record of its own, whatever its columns are called
            let is_derived = matches!(outcome, Outcome::Derived(_));
            let provenance = !is_derived && COORDINATES.iter().all(|column| schema.field(column).is_some());
            let mark = u64::try_from(mark).unwrap_or(0);
            Ok(Some(Table { outcome, location: location.written.clone(), table, identity, mark, provenance }))
        };
        match log::beside_others(read).await {
            Ok(table) => Ok(table),
            Err(error) => {
                Err(broken::explain(format!("cannot read {outcome} ({})", location.written), location, &store, error)
                    .await)
            }
        }
    }

    /// The tables of a pipeline that are there, in the order of outcomes.
    pub async fn of(config: &Config, application: &str) -> Result<Vec<Table>> {
        let mut tables = Vec::new();
        for (outcome, location) in config.tables() {
            let (store, _) = store::open(location)?;
            tables.extend(Table::open(outcome, location, store, application).await?);
        }
        Ok(tables)
    }

    /// For messages: `valid (lake/visits)`.
    pub fn name(&self) -> String {
        format!("{} ({})", self.outcome, self.location)
    }
}

/// What was proven, and what was not.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// whether nothing contradicts
    pub ok: bool,
    /// number of the last entry
    pub head: u64,
    /// what the ledger accounts for
    pub counts: Counts,
    /// offsets that were given up by an operator's word
    pub given_up: u64,
    /// offsets that were read again by an operator's word
    pub read_again: u64,
    /// per sink: rows that were kept for as long as they should be, and are gone
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub expired: BTreeMap<Outcome, u64>,
    /// per sink: entries that are not in its table yet
    pub pending: BTreeMap<Outcome, u64>,
    /// what could not be proven, and what an operator's word explains
    pub notes: Vec<String>,
    /// each contradiction, with entry, table and coordinates
    pub discrepancies: Vec<String>,
    /// contradictions beyond those that are spelled out
    pub more: u64,
    /// what to do about them, once for each kind
    pub advice: Vec<String>,
}

impl Report {
    fn wrong(&mut self, what: String) {
        self.ok = false;
        if self.discrepancies.len() < SPELLED_OUT {
            self.discrepancies.push(what);
        } else {
            self.more += 1;
        }
    }

    /// What to do about contradictions of a kind, said with the first of them. `rows` is a condition that finds them.
    fn advise(&mut self, kind: Kind, rows: &str) {
        let begins = match kind {
            Kind::Missing => {
                "what is missing was removed by another writer, and the table's history says when: an older version of \
                 the table has it. Append from there what is not there now,"
            }
            Kind::Doubled => {
                "what is there twice was added by another writer: an older version of the table has it once. Delete it, \
                 and append it from there,"
            }
            Kind::Strange => {
                "rows of no entry were added by another writer, who needs another table; where they are of no use, \
                 delete them,"
            }
        };
        if !self.advice.iter().any(|advice| advice.starts_with(begins)) {
            self.advice.push(format!("{begins} `WHERE {rows}`"));
        }
    }
}

/// Kinds of contradictions that a person can put right in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// rows that an entry counts
    Missing,
    /// rows with the coordinates of others
    Doubled,
    /// rows that no entry counts
    Strange,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ok {
            write!(f, "reconciled: {} consumed", thousands(self.counts.records))?;
            match self.given_up {
                0 => write!(f, ", no gap")?,
                n => write!(f, ", {} offsets given up", thousands(n))?,
            }
            match self.read_again {
                0 => write!(f, ", no overlap")?,
                n => write!(f, ", {} offsets read again", thousands(n))?,
            }
        } else {
            let n = self.discrepancies.len() as u64 + self.more;
            write!(f, "not reconciled: {} {}", thousands(n), if n == 1 { "discrepancy" } else { "discrepancies" })?;
            for what in &self.discrepancies {
                write!(f, "\n  {what}")?;
            }
            if self.more > 0 {
                write!(f, "\n  and {} more", thousands(self.more))?;
            }
        }
        for note in &self.notes {
            write!(f, "\n  {note}")?;
        }
        for advice in &self.advice {
            write!(f, "\n  to do: {advice}")?;
        }
        Ok(())
    }
}

/// Reconciles a ledger with the tables that follow it. `missing` are sinks whose rows cannot be looked at, and why.
pub async fn reconcile(ledger: &Ledger, tables: &[Table], missing: &[(Outcome, String)]) -> Result<Report> {
    reconcile_by(rows::AT_A_TIME, ledger, tables, missing).await
}

async fn reconcile_by(
    at_a_time: u64,
    ledger: &Ledger,
    tables: &[Table],
    missing: &[(Outcome, String)],
) -> Result<Report> {
    let mut report = Report { ok: true, ..Report::default() };
    for (outcome, why) in missing {
        report.notes.push(format!("{outcome} cannot be proven: {why}"));
    }
    let Some(account) = Account::read(ledger, &mut report).await? else { return Ok(report) };
    let mut readable = Vec::new();
    for table in tables {
        let bound = account.fold.tables.get(&table.outcome);
        if bound.is_some_and(|bound| *bound != table.identity) || table.mark > account.fold.head {
            let why = crate::ledger::apply::due(&table.name(), table.mark, account.fold.head, &table.identity, bound);
            report.wrong(why.err().map(|e| e.to_string()).unwrap_or_default());
            continue;
        }
        match account.pending(table) {
            0 => {}
            n => {
                let entries = if n == 1 { "1 entry is".to_owned() } else { format!("{} entries are", thousands(n)) };
                report.pending.insert(table.outcome, n);
                report
                    .notes
                    .push(format!("{entries} not applied to {} yet: `sluice run` applies them first", table.name()));
            }
        }
        if let Some((n, rows)) = account.unproven(table) {
            let (rows, name) = (thousands(rows), table.name());
            report
                .notes
                .push(format!("{name} was taken over by entry {n}: {rows} rows of earlier entries are not looked for"));
        }
        if let (Some((n, from)), (rows, entries)) = (account.kept_from(table), account.gone(table))
            && rows > 0
        {
            report.expired.insert(table.outcome, rows);
            let entries = if entries == 1 { "1 entry".to_owned() } else { format!("{} entries", thousands(entries)) };
            let (name, rows) = (table.name(), thousands(rows));
            report.notes.push(format!("{name} let go of {rows} rows of {entries}, from before {from} (entry {n})"));
        }
        if !files::are_there(&account, table, &mut report).await? {
            report
                .notes
                .push(format!("the rows of {} cannot be compared, since files of it are missing", table.name()));
        } else if table.provenance {
            readable.push(table);
        } else {
            files::compare(&account, table, &mut report)?;
            if !matches!(table.outcome, Outcome::Derived(_)) {
                report
                    .notes
                    .push(format!("{} has no provenance columns: only counts per file were compared", table.name()));
            }
        }
    }
    for (outcome, _) in account.fold.tables.iter().filter(|(outcome, _)| matches!(outcome, Outcome::Derived(_))) {
        let rows: u64 = account.claims.iter().map(|claim| claim.rows_of(*outcome)).sum();
        if rows > 0 && !tables.iter().any(|table| table.outcome == *outcome) {
            report.notes.push(format!(
                "{outcome}, {} rows by the ledger, cannot be proven: its table is not there, or the pipeline file does not \
                 name it",
                thousands(rows)
            ));
        }
    }
    for outcome in Outcome::ALL {
        if account.fold.rows(outcome) > 0
            && !tables.iter().any(|t| t.outcome == outcome)
            && !missing.iter().any(|(o, _)| *o == outcome)
        {
            let n = thousands(account.fold.rows(outcome));
            report.wrong(format!(
                "the ledger counts {n} rows for {outcome}, but its table is not there: put it back from a copy, or let \
                 `sluice adopt` begin an empty one"
            ));
        }
    }
    rows::compare(&account, &readable, at_a_time, &mut report).await?;
    attempts::compare(&account, &readable, &mut report).await?;
    Ok(report)
}

/// How far the rows of all tables go, per partition: for `adopt`, after entries were lost.
pub async fn seen(tables: &[Table]) -> Result<BTreeMap<TopicPartition, Seen>> {
    rows::seen(tables).await
}

/// The pipeline's ledger against its tables: what `sluice reconcile` runs.
pub async fn pipeline(config: &Config) -> Result<Report> {
    let (store, state) = store::open(&config.state)?;
    let ledger = Ledger::open(store, state, &config.name).await?;
    let tables = Table::of(config, &ledger.application()).await?;
    let missing = config
        .sinks
        .each()
        .filter_map(|(outcome, sink)| match &sink.kind {
            SinkKind::Delta(_) => None,
            SinkKind::Stdout => Some((outcome, "what went to standard output is gone".to_owned())),
        })
        .collect::<Vec<_>>();
    reconcile(&ledger, &tables, &missing).await
}

#[cfg(test)]
pub(crate) mod tests;
