//! What must hold for a row, written as SQL; and the other SQL of a pipeline: enrichers, and what to skip.
//!
//! DataFusion plans and evaluates, a whole batch at a time, on columns that [`columns`](crate::columns) found. Nothing here
//! runs a query: an expression sees one row, no other row, no clock, no table. So a verdict is a function of the row, and
//! splitting a batch changes nothing. Not `NULL` but `FALSE` fails an expectation; `NULL` is counted beside it.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::Schema;

use crate::config;
use crate::outcome::{Dead, Finding, Reason, Severity, Stage};
use crate::record::Batch;

mod bound;
mod enrich;
mod mistake;
mod paths;
mod plan;
mod rows;
mod skip;
mod stored;
#[cfg(test)]
mod tests;
pub(crate) mod words;

pub use enrich::{Enriched, SqlEnricher};
pub use mistake::{Declared, SqlMistake};
pub use plan::{Expr, Planner};
pub use skip::Skip;
pub(crate) use stored::{described, storable};

use rows::Inputs;

/// The rule's name in findings of expectations.
pub const RULE: &str = "expect";

/// The expectations of a pipeline, ready to judge batches.
pub struct Expectations {
    list: Vec<Planned>,
    rule: Arc<str>,
}

/// One expectation.
struct Planned {
    name: Arc<str>,
    severity: Severity,
    /// the first column that it reads
    column: Option<Arc<str>>,
    expr: Expr,
}

/// What the expectations say about a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// one per row and expectation that is false; no row of `dead` among them
    pub findings: Vec<Finding>,
    /// the expectations that are unknown for some row
    pub unknown: Vec<Unknown>,
    /// rows that could not be judged, ascending: index in the batch, and the dead letter
    pub dead: Vec<(u32, Dead)>,
}

/// An expectation that is neither true nor false for some rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// of the expectation
    pub name: Arc<str>,
    /// null where it is; rows on which some expectation failed may be among them
    rows: NullBuffer,
}

impl Unknown {
    /// For how many rows it is unknown, `dead` ones left out; each of them is named once.
    pub fn without(&self, dead: impl Iterator<Item = u32>) -> u64 {
        let dead = dead.filter(|row| self.rows.is_null(*row as usize)).count();
        (self.rows.null_count() - dead) as u64
    }
}

impl Expectations {
    /// Nothing must hold.
    pub fn none() -> Self {
        Expectations { list: Vec::new(), rule: RULE.into() }
    }

    /// Plans all of them for rows of `schema`, or says everything that is wrong.
    pub fn plan(
        planner: &Planner,
        expectations: &[config::Expectation],
        schema: &Schema,
        declared: Declared<'_>,
    ) -> Result<Self, Vec<SqlMistake>> {
        let (mut list, mut mistakes) = (Vec::new(), Vec::new());
        for expectation in expectations {
            let what = format!("expectation `{}`", expectation.name);
            match planner.predicate(&what, &expectation.sql, schema, declared) {
                Ok(expr) => list.push(Planned {
                    name: expectation.name.clone(),
                    severity: expectation.severity,
                    column: expr.reads().first().cloned(),
                    expr,
                }),
                Err(more) => mistakes.extend(more),
            }
        }
        if mistakes.is_empty() { Ok(Expectations { list, rule: RULE.into() }) } else { Err(mistakes) }
    }

    /// Each expectation's name and the paths of the columns that it judges.
    pub fn reads(&self) -> impl Iterator<Item = (&Arc<str>, &[Arc<str>])> {
        self.list.iter().map(|planned| (&planned.name, planned.expr.reads()))
    }

    /// Judges every row by every expectation.
    ///
    /// A row on which an expression fails (a division by zero, an overflow) is not judged: it is dead, and the rows beside
    /// it are judged as if it were not there.
    pub fn judge(&self, batch: &Batch) -> Judged {
        let mut inputs = Inputs::new(batch);
        let mut dead = Vec::new();
        let verdicts: Vec<BooleanArray> = self
            .list
            .iter()
            .map(|planned| {
                let evaluated = planned.expr.evaluate(&mut inputs);
                dead.extend(evaluated.failed.into_iter().map(|(row, why)| (row, planned, why)));
                evaluated.values.as_boolean().clone()
            })
            .collect();
        // the first expectation that fails names the dead letter
        dead.sort_by_key(|(row, ..)| *row);
        dead.dedup_by_key(|(row, ..)| *row);
        let is_dead = |row: usize| dead.binary_search_by_key(&(row as u32), |(row, ..)| *row).is_ok();

        let mut judged = Judged::default();
        for (planned, verdict) in self.list.iter().zip(&verdicts) {
            if let Some(rows) = verdict.nulls().filter(|nulls| nulls.null_count() > 0) {
                judged.unknown.push(Unknown { name: planned.name.clone(), rows: rows.clone() });
            }
            if verdict.true_count() + verdict.null_count() == verdict.len() {
                continue;
            }
            let mut violated = !verdict.values();
            if let Some(nulls) = verdict.nulls() {
                violated = &violated & nulls.inner();
            }
            judged.findings.extend(violated.set_indices().filter(|row| !is_dead(*row)).map(|row| Finding {
                row: row as u32,
                rule: self.rule.clone(),
                code: planned.name.clone(),
                severity: planned.severity,
                column: planned.column.clone(),
                detail: None,
            }));
        }
        judged.dead = dead
            .into_iter()
            .map(|(row, planned, why)| (row, letter(batch, row, Stage::Rule, format!("{}: {why}", planned.name))))
            .collect();
        judged
    }
}

/// The dead letter of a row on which SQL failed.
fn letter(batch: &Batch, row: u32, stage: Stage, detail: String) -> Dead {
    let (record, ordinal) = (batch.origin[row as usize], batch.ordinal[row as usize]);
    Dead { record, ordinal, stage, reason: Reason::SqlError, detail, plugin: None }
}
