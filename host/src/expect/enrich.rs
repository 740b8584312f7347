//! Columns that SQL adds to rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Field, Schema, SchemaRef};

use super::letter;
use super::mistake::{Declared, SqlMistake};
use super::plan::{Expr, Planner};
use super::rows::Inputs;
use crate::columns::size;
use crate::config::Sql;
use crate::outcome::{Dead, Stage};
use crate::record::Batch;

/// New columns, each from an expression; a later one may read an earlier one.
pub struct SqlEnricher {
    /// for messages
    name: Arc<str>,
    columns: Vec<Expr>,
    /// schema of the rows after the first n + 1 columns were added
    schemas: Vec<SchemaRef>,
    /// schema of the rows that come in
    before: SchemaRef,
}

/// A batch with more columns, and without the rows on which an expression failed.
#[derive(Clone, Debug)]
pub struct Enriched {
    /// the rows that live
    pub batch: Batch,
    /// the others
    pub dead: Vec<Dead>,
}

impl SqlEnricher {
    /// Plans `columns`, new name and expression, for rows of `schema`; or says everything that is wrong.
    pub fn plan(
        planner: &Planner,
        name: Arc<str>,
        columns: &[(String, Sql)],
        schema: &SchemaRef,
        declared: Declared<'_>,
    ) -> Result<Self, Vec<SqlMistake>> {
        let mut enricher = SqlEnricher { name, columns: Vec::new(), schemas: Vec::new(), before: schema.clone() };
        let mut mistakes = Vec::new();
        for (column, sql) in columns {
            let what = format!("column `{column}`");
            let known = enricher.schema();
            if known.field_with_name(column).is_ok() || column.starts_with('_') || column.contains('.') {
                mistakes.push(SqlMistake {
                    place: sql.place.clone(),
                    span_in_sql: None,
                    title: if known.field_with_name(column).is_ok() {
                        format!("{what} is there already")
                    } else {
                        format!("{what} cannot have this name")
                    },
                    label: String::new(),
                    help: "an enricher adds columns and changes none; names have no dot and do not begin with `_`"
                        .into(),
                });
                continue;
            }
            match planner.value(&what, sql, known, declared) {
                Ok(expr) => {
                    let added = Arc::new(Field::new(column, expr.data_type().clone(), true));
                    let fields: Vec<_> = known.fields().iter().cloned().chain([added]).collect();
                    enricher.schemas.push(Arc::new(Schema::new(fields)));
                    enricher.columns.push(expr);
                }
                Err(more) => mistakes.extend(more),
            }
        }
        if mistakes.is_empty() { Ok(enricher) } else { Err(mistakes) }
    }

    /// The columns of the rows that come out.
    pub fn schema(&self) -> &SchemaRef {
        self.schemas.last().unwrap_or(&self.before)
    }

    /// Each column that it adds, and the paths that its expression reads.
    pub fn reads(&self) -> impl Iterator<Item = (&str, &[Arc<str>])> {
        let names = self.schemas.iter().filter_map(|schema| Some(schema.fields().last()?.name().as_str()));
        names.zip(self.columns.iter().map(Expr::reads))
    }

    /// Its name, for messages.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Adds the columns. A row on which an expression fails is dead at the first that does. `None` where the columns take
    /// more than `most` bytes.
    pub fn enrich(&self, batch: &Batch, most: usize) -> Option<Enriched> {
        let mut batch = batch.clone();
        let mut dead = Vec::new();
        let mut room = most;
        for (expr, schema) in self.columns.iter().zip(&self.schemas) {
            let evaluated = expr.evaluate_within(&mut Inputs::new(&batch), room)?;
            room = room.saturating_sub(size(&evaluated.values, 0, batch.len()));
            batch.columns = with_column(&batch.columns, evaluated.values, schema);
            if evaluated.failed.is_empty() {
                continue;
            }
            let mut lives = vec![true; batch.len()];
            for (row, why) in evaluated.failed {
                lives[row as usize] = false;
                let column = schema.fields().last().map_or("", |field| field.name());
                dead.push(letter(&batch, row, Stage::Enrich, format!("{}, column {column}: {why}", self.name)));
            }
            batch = retained(batch, lives);
        }
        Some(Enriched { batch, dead })
    }

    /// Every row is dead: what it makes of them is too much.
    pub fn give_up(&self, batch: &Batch, most: usize) -> Enriched {
        let detail = format!("{}: its columns would take more than {most} bytes for this record", self.name);
        let dead = (0..batch.len() as u32).map(|row| letter(batch, row, Stage::Enrich, detail.clone())).collect();
        let columns = RecordBatch::new_empty(self.schema().clone());
        let batch = Batch { columns, origin: Vec::new(), ordinal: Vec::new(), ..batch.clone() };
        Enriched { batch, dead }
    }
}

fn with_column(rows: &RecordBatch, added: ArrayRef, schema: &SchemaRef) -> RecordBatch {
    let columns = rows.columns().iter().cloned().chain([added]).collect();
    RecordBatch::try_new(schema.clone(), columns).expect("the expression was planned to be of this type")
}

/// The rows of a batch that live.
fn retained(mut batch: Batch, lives: Vec<bool>) -> Batch {
    let mut row = lives.iter();
    batch.origin.retain(|_| *row.next().expect("one per row"));
    let mut row = lives.iter();
    batch.ordinal.retain(|_| *row.next().expect("one per row"));
    batch.columns =
        filter_record_batch(&batch.columns, &BooleanArray::from(lives)).expect("the filter has one value per row");
    batch
}
