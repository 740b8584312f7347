//! Records that a predicate leaves out before they are decoded.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::Schema;
use uuid::Uuid;

use super::mistake::{Declared, SqlMistake};
use super::plan::{Expr, Planner};
use super::rows::Inputs;
use crate::config::Sql;
use crate::record::{Batch, RawBatch};

/// A predicate over the pseudo-columns of a record.
pub struct Skip {
    expr: Expr,
}

impl Skip {
    /// Plans `source.skip`.
    pub fn plan(planner: &Planner, sql: &Sql) -> Result<Self, Vec<SqlMistake>> {
        let declared = Declared { file: "", lines: &Default::default() };
        let expr = planner.predicate("`skip`", sql, &Schema::empty(), declared)?;
        if let Some(path) = expr.reads().iter().find(|path| matches!(&***path, "_row" | "_id")) {
            return Err(vec![SqlMistake {
                place: sql.place.clone(),
                span_in_sql: None,
                title: format!("`skip` reads `{path}`, which a record does not have before it is decoded"),
                label: String::new(),
                help: String::new(),
            }]);
        }
        Ok(Skip { expr })
    }

    /// For each record whether to leave it out. Where the predicate is unknown or fails the record is judged: only what is
    /// certainly unwanted is left out.
    pub fn skipped(&self, raw: &Arc<RawBatch>) -> BooleanArray {
        let rows = raw.records.len();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = Batch {
            columns: RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options)
                .expect("no columns of so many rows"),
            origin: (0..rows as u32).collect(),
            ordinal: vec![0; rows],
            raw: raw.clone(),
            pipeline: Uuid::nil(),
        };
        let verdict = self.expr.evaluate(&mut Inputs::new(&batch)).values;
        let verdict = verdict.as_boolean();
        match verdict.nulls() {
            None => verdict.clone(),
            Some(known) => BooleanArray::new(verdict.values() & known.inner(), None),
        }
    }
}
