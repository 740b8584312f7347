//! The columns of one batch as expressions want them: each path looked up once, however many expressions read it.

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;

use crate::columns;
use crate::record::Batch;

/// The columns of a batch that some expression has read.
pub(super) struct Inputs<'a> {
    batch: &'a Batch,
    found: Vec<(String, ArrayRef)>,
}

/// An expression's values, one per row.
pub(super) struct Evaluated {
    /// null where it failed
    pub(super) values: ArrayRef,
    /// rows on which it failed, ascending, and why
    pub(super) failed: Vec<(u32, String)>,
}

impl<'a> Inputs<'a> {
    /// The columns of `batch`.
    pub(super) fn new(batch: &'a Batch) -> Self {
        Inputs { batch, found: Vec::new() }
    }

    /// The columns that `schema` names by their paths.
    pub(super) fn record_batch(&mut self, schema: &SchemaRef) -> RecordBatch {
        let columns = schema.fields().iter().map(|field| self.column(field.name())).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.batch.len()));
        RecordBatch::try_new_with_options(schema.clone(), columns, &options)
            .expect("the expression was planned for the columns of this batch")
    }

    fn column(&mut self, path: &str) -> ArrayRef {
        if let Some((_, column)) = self.found.iter().find(|(found, _)| found == path) {
            return column.clone();
        }
        let column =
            columns::column(self.batch, path).expect("the expression was planned for the columns of this batch");
        self.found.push((path.to_owned(), column.clone()));
        column
    }
}
