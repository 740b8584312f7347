//! Rows that leave staging → the columns of a sink's table.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, ListBuilder, RecordBatch, StringArray, StringBuilder,
    StructBuilder,
};
use arrow::compute::{filter, filter_record_batch};
use uuid::Uuid;

use super::{Shaper, finding_fields, repeated};
use crate::columns;
use crate::error::{Error, Result};
use crate::outcome::Finding;

impl Shaper {
    /// Whether the sink stores columns of staging under their own names, so that a column of one is a column of the other.
    pub fn keeps_names(&self) -> bool {
        self.paths.iter().zip(self.schema.fields()).all(|(path, field)| path == field.name())
    }

    /// Those of `rows` (all columns of staging) that `mask` chooses, as the sink stores them; `None` where there are none.
    /// `found` are further findings, by row of `rows`, in order. `entry` becomes `_batch`.
    pub fn publish(
        &self,
        rows: &RecordBatch,
        mask: &BooleanArray,
        found: &[Finding],
        entry: Uuid,
    ) -> Result<Option<RecordBatch>> {
        let n = mask.true_count();
        if n == 0 {
            return Ok(None);
        }
        let bug = |e| Error::Host(format!("staged rows cannot be filtered: {e}"));
        let chosen = filter_record_batch(rows, mask).map_err(bug)?;
        let lost = |path: &str| Error::Host(format!("column `{path}` was there when the sink was planned"));
        let mut shaped = Vec::with_capacity(self.schema.fields().len());
        for path in &self.paths {
            shaped.push(columns::stored(&chosen, path).ok_or_else(|| lost(path))?);
        }
        if self.provenance {
            for name in ["_topic", "_partition", "_offset", "_row"] {
                shaped.push(columns::stored(&chosen, name).ok_or_else(|| lost(name))?);
            }
            let attempt =
                columns::stored(&chosen, "_attempt").unwrap_or_else(|| Arc::new(Int32Array::from_value(0, n)));
            shaped.push(attempt);
            shaped.push(Arc::new(repeated(&entry.to_string(), n)));
            let known = columns::stored(rows, "_findings").ok_or_else(|| lost("_findings"))?;
            shaped.push(filter(&with(&known, found), mask).map_err(bug)?);
        }
        let shaped = RecordBatch::try_new(self.schema.clone(), shaped);
        shaped.map(Some).map_err(|e| Error::Host(format!("columns of sink `{}` do not fit: {e}", self.outcome)))
    }
}

/// `_findings` with more of them, which come by row.
fn with(known: &ArrayRef, found: &[Finding]) -> ArrayRef {
    if found.is_empty() {
        return known.clone();
    }
    let lists = known.as_list::<i32>();
    let items = lists.values().as_struct();
    let texts: Vec<&StringArray> = items.columns().iter().map(|column| column.as_string::<i32>()).collect();
    let mut list = ListBuilder::new(StructBuilder::from_fields(finding_fields(), items.len() + found.len()));
    let mut next = found.iter().peekable();
    for row in 0..lists.len() {
        if lists.is_valid(row) {
            let offsets = lists.value_offsets();
            for item in offsets[row]..offsets[row + 1] {
                let values = list.values();
                for (i, text) in texts.iter().enumerate() {
                    let text = text.is_valid(item as usize).then(|| text.value(item as usize));
                    let field = values.field_builder::<StringBuilder>(i).expect("every field of a finding is text");
                    field.append_option(text);
                }
                values.append(true);
            }
        }
        while let Some(finding) = next.next_if(|finding| finding.row as usize == row) {
            super::append_finding(list.values(), finding);
        }
        list.append(true);
    }
    Arc::new(list.finish())
}
