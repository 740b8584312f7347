//! The tables of a pipeline as history: opened once, so that everything is read from the same versions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::prelude::{DataFrame, SessionContext};
use serde_json::Value;

use super::has_provenance;
use crate::config::{Config, SinkConfig, SinkKind};
use crate::error::{Doing, Error, Result};
use crate::ledger::{Ledger, PAGE};
use crate::outcome::Outcome;
use crate::sink::look::{self, Table};
use crate::store;

/// The tables that are there, by outcome; queries know them as `valid`, `error`, `dlq` and `staging`, derived ones by their names.
pub struct Tables {
    found: BTreeMap<Outcome, Table>,
    session: SessionContext,
}

impl Tables {
    /// Opens them all. A sink that is no table is not among them.
    pub async fn open(config: &Config) -> Result<Tables> {
        let mut found = BTreeMap::new();
        for (outcome, sink) in config.sinks.each() {
            if let SinkKind::Delta(location) = &sink.kind
                && let Some(table) = look::open(location, store::open(location)?.0).await?
            {
                found.insert(outcome, table);
            }
        }
        Tables::of(found).await
    }

    /// These tables.
    pub async fn of(found: BTreeMap<Outcome, Table>) -> Result<Tables> {
        let named = found.iter().map(|(outcome, table)| (named(*outcome).to_owned(), table)).collect();
        let session = look::session(&named).await?;
        Ok(Tables { found, session })
    }

    /// Why the tables cannot tell which rows are the latest of their coordinates, reads on from "because"; `None` where they
    /// can.
    pub async fn is_blind(&self, config: &Config) -> Result<Option<String>> {
        for (outcome, sink) in config.sinks.each() {
            if !self.found.contains_key(&outcome) {
                return Ok(Some(match &sink.kind {
                    SinkKind::Stdout => format!("{outcome} goes to standard output, where nobody can look"),
                    SinkKind::Delta(location) => format!("there is no table at {} ({outcome})", location.written),
                }));
            }
            if !has_provenance(self.schema(outcome).await?.as_ref()) {
                return Ok(Some(format!("{outcome} stores no coordinates (`provenance = false`)")));
            }
        }
        Ok(None)
    }

    /// The table of an outcome, where there is one.
    pub fn get(&self, outcome: Outcome) -> Option<&Table> {
        self.found.get(&outcome)
    }

    /// Whose tables they are.
    pub fn outcomes(&self) -> impl Iterator<Item = Outcome> {
        self.found.keys().copied()
    }

    /// A session that knows them all.
    pub fn session(&self) -> &SessionContext {
        &self.session
    }

    /// The columns of a table, as it is read.
    pub async fn schema(&self, outcome: Outcome) -> Result<SchemaRef> {
        let frame = self.rows(outcome, None).await?;
        Ok(Arc::new(frame.schema().as_arrow().clone()))
    }

    /// The rows of a table for which a condition holds.
    pub async fn rows(&self, outcome: Outcome, condition: Option<&str>) -> Result<DataFrame> {
        let doing = || format!("cannot read the rows of {outcome}");
        let frame = self.session.table(datafusion::common::TableReference::bare(named(outcome))).await.doing(doing)?;
        let Some(condition) = condition else { return Ok(frame) };
        let wrong = |e: datafusion::error::DataFusionError| {
            Error::Config(format!("--where cannot be understood: {}: {condition}", e.strip_backtrace()))
        };
        let expression = frame.parse_sql_expr(condition).map_err(wrong)?;
        frame.filter(expression).map_err(wrong)
    }

    /// The same without rows of which any table has a later attempt. What is derived from rows has no attempts of its own.
    pub async fn latest(&self, outcome: Outcome, condition: Option<&str>) -> Result<DataFrame> {
        let doing = || format!("cannot find the latest rows of {outcome}");
        let rows = self.rows(outcome, condition).await?;
        let has_attempts = is_judged(outcome) && has_provenance(rows.schema().as_arrow());
        let Some(later) = self.later().await?.filter(|_| has_attempts) else { return Ok(rows) };
        self.session.register_table("chosen_rows", rows.into_view()).doing(doing)?;
        let sql = format!(
            "SELECT c.* FROM chosen_rows c LEFT ANTI JOIN ({later}) l ON l._topic = c._topic AND l._partition = c._partition \
             AND l._offset = c._offset AND l._row = c._row AND l._attempt > c._attempt"
        );
        let latest = self.session.sql(&sql).await.doing(doing)?;
        self.session.deregister_table("chosen_rows").doing(doing)?;
        Ok(latest)
    }

    /// Rows of a table of which some table has a later attempt.
    pub async fn superseded(&self, outcome: Outcome) -> Result<u64> {
        let doing = || format!("cannot count the latest rows of {outcome}");
        if !is_judged(outcome) || self.later().await?.is_none() {
            return Ok(0);
        }
        let all = self.rows(outcome, None).await?.count().await.doing(doing)?;
        let latest = self.latest(outcome, None).await?.count().await.doing(doing)?;
        Ok(all.saturating_sub(latest) as u64)
    }

    /// A query for the coordinates of every row that is no first attempt; `None` where there is none. Statistics tell which
    /// files have any, so that it reads next to nothing where nothing was ever replayed.
    async fn later(&self) -> Result<Option<String>> {
        let mut queries = Vec::new();
        for outcome in self.found.keys().filter(|outcome| is_judged(**outcome)) {
            if has_provenance(self.schema(*outcome).await?.as_ref()) {
                let columns = "_topic, _partition, _offset, _row, _attempt";
                queries.push(format!("SELECT {columns} FROM {outcome} WHERE _attempt > 0"));
            }
        }
        if queries.is_empty() {
            return Ok(None);
        }
        let (later, doing) = (queries.join(" UNION ALL "), || "cannot look for later attempts".to_owned());
        let one = self.session.sql(&format!("SELECT 1 FROM ({later}) LIMIT 1")).await.doing(doing)?;
        Ok((one.count().await.doing(doing)? > 0).then_some(later))
    }
}

/// What queries call a table.
fn named(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Derived(derived) => derived.name(),
        Outcome::Valid | Outcome::Error | Outcome::Dlq | Outcome::Staging => outcome.as_str(),
    }
}

/// Whether its rows were judged, and not made of others.
fn is_judged(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Valid | Outcome::Error | Outcome::Dlq | Outcome::Staging => true,
        Outcome::Derived(_) => false,
    }
}

/// Where judged rows of an outcome go.
pub fn sink(config: &Config, outcome: Outcome) -> Result<&SinkConfig> {
    config.sinks.of(outcome).ok_or_else(|| Error::Config(format!("this pipeline has no sink `{outcome}`")))
}

/// With which columns some entries (by `_batch`) wrote their rows for an outcome: Delta's schema JSON, as the ledger has it.
/// Entries that the ledger does not know are not in the answer: their tables were adopted.
pub async fn written(
    ledger: &Ledger,
    outcome: Outcome,
    mut wanted: BTreeSet<String>,
) -> Result<BTreeMap<String, Arc<Value>>> {
    let mut found: BTreeMap<String, Arc<Value>> = BTreeMap::new();
    let mut up_to = ledger.head().await?;
    while up_to > 0 && !wanted.is_empty() {
        let after = up_to.saturating_sub(PAGE);
        for (_, entry) in ledger.entries(after, up_to).await? {
            let id = entry.id.to_string();
            let (true, Some(actions)) = (wanted.remove(&id), entry.sinks.get(&outcome)) else { continue };
            // nearly all of them are the same
            let known = found.values().find(|known| ***known == actions.schema).cloned();
            found.insert(id, known.unwrap_or_else(|| Arc::new(actions.schema.clone())));
        }
        up_to = after;
    }
    Ok(found)
}
