//! Judged rows → the columns of a sink's table.
//!
//! It decides nothing: outcomes and findings are given. Provenance columns are made here, once, for every sink.
//!
//! Each dead letter holds the key and the payload of its record, also where several rows of one record died: whoever reads
//! one needs no other. How often a payload can be copied so is bounded where rows become several, in the
//! [chain](crate::chain).

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanArray, Int32Array, Int64Array, ListArray, ListBuilder, RecordBatch, StringArray,
    StringBuilder, StructBuilder, TimestampMicrosecondArray, new_empty_array,
};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::compute::{filter, filter_record_batch};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use uuid::Uuid;

use crate::audit::assign::Windows;
use crate::chain::Judged;
use crate::columns;
use crate::config::{SinkConfig, SinksConfig};
use crate::error::{Error, Result};
use crate::ledger::Extent;
use crate::outcome::{Dead, Finding, Outcome};
use crate::record::{Batch, RawBatch};
use crate::schema::{REJECTED, WINDOW};

mod published;

/// What puts rows into their tables, and for the how manieth time.
#[derive(Clone, Copy, Debug)]
pub struct Put<'a> {
    /// id of the entry: `_batch`
    pub entry: Uuid,
    /// `_attempt` of the rows of each record; empty where all of them are judged for the first time
    pub attempts: &'a [i32],
}

/// Shapes rows for one sink.
pub struct Shaper {
    outcome: Outcome,
    /// path of each stored column; empty for the dead letter, whose columns are fixed
    paths: Vec<String>,
    provenance: bool,
    schema: SchemaRef,
}

impl Shaper {
    /// The shaper of a sink for rows of `schema` (declared and added columns).
    ///
    /// # Errors
    /// A stored column has a path that rows do not have.
    pub fn new(outcome: Outcome, sink: &SinkConfig, schema: &Schema) -> Result<Shaper> {
        let mut fields = Vec::new();
        let mut paths = Vec::new();
        match (outcome, &sink.columns) {
            (Outcome::Dlq, _) => fields.extend(dead_fields()),
            (Outcome::Derived(_), _) => return Err(Error::Host(format!("`{outcome}` is shaped by its query"))),
            (Outcome::Valid | Outcome::Error, None) | (Outcome::Staging, _) => {
                for field in schema.fields() {
                    fields.push(field.as_ref().clone());
                    paths.push(field.name().clone());
                }
            }
            (Outcome::Valid | Outcome::Error, Some(columns)) => {
                for column in columns {
                    let data_type = columns::data_type(schema, &column.path).ok_or_else(|| {
                        Error::Config(format!("sink `{outcome}` stores `{}`, which rows do not have", column.path))
                    })?;
                    fields.push(Field::new(&column.name, data_type, true));
                    paths.push(column.path.clone());
                }
            }
        }
        if sink.provenance {
            fields.extend(provenance_fields());
        }
        Ok(Shaper { outcome, paths, provenance: sink.provenance, schema: Arc::new(Schema::new(fields)) })
    }

    /// The shaper of one of a pipeline's sinks; `None` where it has no such sink.
    ///
    /// Staging stores all columns, and those of the record beside them that the other sinks choose.
    pub fn of(outcome: Outcome, sinks: &SinksConfig, schema: &Schema) -> Result<Option<Shaper>> {
        let Some(sink) = sinks.of(outcome) else { return Ok(None) };
        let mut shaper = Shaper::new(outcome, sink, schema)?;
        if outcome == Outcome::Staging {
            let chosen = [&sinks.valid, &sinks.error].into_iter().filter_map(|sink| sink.columns.as_ref()).flatten();
            let mut fields: Vec<Field> = schema.fields().iter().map(|field| field.as_ref().clone()).collect();
            let provenance = provenance_fields();
            for column in chosen {
                let there = fields.iter().chain(&provenance).any(|field| *field.name() == column.path);
                if let Some(data_type) = columns::pseudo_type(&column.path).filter(|_| !there) {
                    fields.push(Field::new(&column.path, data_type, true));
                    shaper.paths.push(column.path.clone());
                }
            }
            fields.extend(provenance);
            fields.push(Field::new(REJECTED, DataType::Boolean, true));
            fields.push(Field::new(WINDOW, DataType::Utf8, true));
            shaper.schema = Arc::new(Schema::new(fields));
        }
        Ok(Some(shaper))
    }

    /// Which rows it shapes.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// The columns that it makes.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The rows of its outcome, `None` where there are none. `entry` becomes `_batch`.
    pub fn shape(&self, judged: &Judged, entry: Uuid) -> Result<Option<RecordBatch>> {
        self.shape_again(judged, Put { entry, attempts: &[] })
    }

    /// The same for rows that may have been judged before.
    pub fn shape_again(&self, judged: &Judged, put: Put<'_>) -> Result<Option<RecordBatch>> {
        self.shape_chosen(judged, put, |_| true)
    }

    /// Rows that wait for their window, as staging stores them: first those without an error finding, then those with one.
    pub fn shape_waiting(&self, judged: &Judged, entry: Uuid) -> Result<[Option<RecordBatch>; 2]> {
        let rejected = &judged.windows.as_ref().ok_or_else(|| Error::Host("rows wait for no window".into()))?.rejected;
        let put = Put { entry, attempts: &[] };
        Ok([
            self.shape_chosen(judged, put, |row| !rejected[row])?,
            self.shape_chosen(judged, put, |row| rejected[row])?,
        ])
    }

    /// Those rows of its outcome that are chosen; dead letters always are.
    fn shape_chosen(
        &self,
        judged: &Judged,
        put: Put<'_>,
        is_chosen: impl Fn(usize) -> bool,
    ) -> Result<Option<RecordBatch>> {
        let columns = match self.outcome {
            Outcome::Dlq if judged.dead.is_empty() => return Ok(None),
            Outcome::Derived(_) => return Ok(None),
            Outcome::Dlq => self.dead_rows(&judged.batch.raw, &judged.dead, put),
            Outcome::Valid | Outcome::Error | Outcome::Staging => {
                let outcomes = judged.outcomes.iter().enumerate();
                let chosen = outcomes.map(|(row, outcome)| *outcome == self.outcome && is_chosen(row)).collect();
                let chosen = BooleanArray::new(chosen, None);
                if !chosen.has_true() {
                    return Ok(None);
                }
                self.judged_rows(judged, &chosen, put)?
            }
        };
        let shaped = RecordBatch::try_new(self.schema.clone(), columns);
        shaped.map(Some).map_err(|e| Error::Host(format!("columns of sink `{}` do not fit: {e}", self.outcome)))
    }

    fn judged_rows(&self, judged: &Judged, chosen: &BooleanArray, put: Put<'_>) -> Result<Vec<ArrayRef>> {
        let mask = chosen.has_false().then_some(chosen);
        let bug = |e| Error::Host(format!("rows cannot be filtered: {e}"));
        let batch = &judged.batch;
        let mut shaped = Vec::with_capacity(self.schema.fields().len());
        if self.paths.iter().zip(batch.columns.schema_ref().fields()).all(|(path, field)| path == field.name())
            && self.paths.len() == batch.columns.num_columns()
        {
            match mask {
                None => shaped.extend(batch.columns.columns().iter().cloned()),
                Some(mask) => {
                    shaped.extend(filter_record_batch(&batch.columns, mask).map_err(bug)?.columns().iter().cloned());
                }
            }
        } else {
            for path in &self.paths {
                let column = columns::column(batch, path)
                    .ok_or_else(|| Error::Host(format!("column `{path}` was there when the sink was planned")))?;
                shaped.push(match mask {
                    None => column,
                    Some(mask) => filter(&column, mask).map_err(bug)?,
                });
            }
        }
        if self.provenance {
            shaped.extend(of_record(judged, mask, put));
            shaped.push(findings(judged, chosen));
        }
        if self.outcome == Outcome::Staging {
            let windows = judged.windows.as_ref();
            shaped.extend(waiting(windows.ok_or_else(|| Error::Host("rows wait for no window".into()))?, chosen));
        }
        Ok(shaped)
    }

    fn dead_rows(&self, raw: &RawBatch, dead: &[Dead], put: Put<'_>) -> Vec<ArrayRef> {
        // payloads are large here: a buffer that doubles would take twice as much
        let bytes = dead.iter().map(|row| raw.value(row.record as usize).map_or(0, <[u8]>::len)).sum();
        let mut key = BinaryBuilder::new();
        let mut value = BinaryBuilder::with_capacity(dead.len(), bytes);
        let mut headers = columns::headers_builder();
        for row in dead {
            let record = row.record as usize;
            key.append_option(raw.key(record));
            value.append_option(raw.value(record));
            columns::append_headers(&mut headers, raw.headers(record));
        }
        let timestamps =
            dead.iter().map(|row| raw.records[row.record as usize].timestamp.map(|ms| ms.saturating_mul(1000)));
        let text =
            |of: fn(&Dead) -> Option<&str>| -> ArrayRef { Arc::new(StringArray::from_iter(dead.iter().map(of))) };
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(key.finish()),
            Arc::new(value.finish()),
            Arc::new(headers.finish()),
            Arc::new(TimestampMicrosecondArray::from_iter(timestamps).with_timezone(columns::UTC)),
            text(|row| Some(row.stage.as_str())),
            text(|row| Some(row.reason.as_str())),
            text(|row| Some(&row.detail)),
            text(|row| row.plugin.as_ref().map(|(name, _)| &**name)),
            text(|row| row.plugin.as_ref().map(|(_, digest)| &**digest)),
        ];
        if self.provenance {
            columns.extend(coordinates(raw, dead.iter().map(|row| (row.record, row.ordinal)), put));
            columns.push(no_findings(dead.len()));
        }
        columns
    }
}

/// `_rejected _window` of the chosen rows.
fn waiting(windows: &Windows, chosen: &BooleanArray) -> [ArrayRef; 2] {
    let keys: Vec<String> = windows.extents.iter().map(Extent::key).collect();
    let rows: Vec<usize> = chosen.values().set_indices().collect();
    let rejected = BooleanArray::from_iter(rows.iter().map(|row| Some(windows.rejected[*row])));
    let window = match keys.as_slice() {
        [key] => repeated(key, rows.len()),
        keys => StringArray::from_iter_values(rows.iter().map(|row| &keys[windows.of_row[*row] as usize])),
    };
    [Arc::new(rejected), Arc::new(window)]
}

/// `_findings` of the chosen rows.
fn findings(judged: &Judged, chosen: &BooleanArray) -> ArrayRef {
    if judged.findings.is_empty() {
        return no_findings(chosen.true_count());
    }
    let mut list = ListBuilder::new(StructBuilder::from_fields(finding_fields(), 0));
    let mut next = judged.findings.iter().peekable(); // they come by row
    for row in chosen.values().set_indices() {
        while let Some(finding) = next.next_if(|f| f.row as usize <= row) {
            if finding.row as usize == row {
                append_finding(list.values(), finding);
            }
        }
        list.append(true);
    }
    Arc::new(list.finish())
}

/// The coordinates of the rows that `mask` chooses, or of all.
fn of_record(judged: &Judged, mask: Option<&BooleanArray>, put: Put<'_>) -> Vec<ArrayRef> {
    let Batch { origin, ordinal, raw, .. } = &judged.batch;
    let picked = |values: &[u32]| mask.map(|mask| mask.values().set_indices().map(|row| values[row]).collect());
    let pick = |values| picked(values).map_or(Cow::Borrowed(values), Cow::<[u32]>::Owned);
    let (origin, ordinal) = (pick(origin), pick(ordinal));
    coordinates(raw, origin.iter().copied().zip(ordinal.iter().copied()), put)
}

/// `_topic _partition _offset _row _attempt _batch`.
fn coordinates(raw: &RawBatch, rows: impl ExactSizeIterator<Item = (u32, u32)> + Clone, put: Put<'_>) -> Vec<ArrayRef> {
    let n = rows.len();
    let records = || rows.clone().map(|(record, _)| &raw.records[record as usize]);
    let partitions = || records().map(|r| &raw.ranges[r.range as usize].partition);
    vec![
        Arc::new(StringArray::from_iter_values(partitions().map(|p| &*p.topic))),
        Arc::new(Int32Array::from_iter_values(partitions().map(|p| p.partition))),
        Arc::new(Int64Array::from_iter_values(records().map(|r| r.offset))),
        Arc::new(Int32Array::from_iter_values(rows.clone().map(|(_, ordinal)| ordinal as i32))),
        match put.attempts {
            [] => Arc::new(Int32Array::from_value(0, n)),
            attempts => Arc::new(Int32Array::from_iter_values(rows.map(|(record, _)| attempts[record as usize]))),
        },
        Arc::new(repeated(&put.entry.to_string(), n)),
    ]
}

/// `n` times the same text.
fn repeated(text: &str, n: usize) -> StringArray {
    let offsets = OffsetBuffer::from_repeated_length(text.len(), n);
    StringArray::new(offsets, Buffer::from_vec(text.repeat(n).into_bytes()), None)
}

/// `_findings` of rows that have none.
fn no_findings(rows: usize) -> ArrayRef {
    let item = DataType::Struct(finding_fields());
    let values = new_empty_array(&item);
    let field = Arc::new(Field::new_list_field(item, true));
    Arc::new(ListArray::new(field, OffsetBuffer::new_zeroed(rows), values, None))
}

fn append_finding(builder: &mut StructBuilder, finding: &Finding) {
    let values: [Option<&str>; 5] = [
        Some(&finding.rule),
        Some(&finding.code),
        Some(finding.severity.as_str()),
        finding.column.as_deref(),
        finding.detail.as_deref(),
    ];
    for (i, value) in values.into_iter().enumerate() {
        let field = builder.field_builder::<StringBuilder>(i).expect("every field of a finding is text");
        field.append_option(value);
    }
    builder.append(true);
}

/// The fields of one element of `_findings`.
pub fn finding_fields() -> Fields {
    ["rule", "code", "severity", "column", "detail"].map(|name| Field::new(name, DataType::Utf8, true)).to_vec().into()
}

/// The provenance columns that tables store.
pub fn provenance_fields() -> Vec<Field> {
    vec![
        Field::new("_topic", DataType::Utf8, true),
        Field::new("_partition", DataType::Int32, true),
        Field::new("_offset", DataType::Int64, true),
        Field::new("_row", DataType::Int32, true),
        Field::new("_attempt", DataType::Int32, true),
        Field::new("_batch", DataType::Utf8, true),
        Field::new(
            "_findings",
            DataType::List(Arc::new(Field::new_list_field(DataType::Struct(finding_fields()), true))),
            true,
        ),
    ]
}

/// The columns of a dead letter beside the provenance columns.
fn dead_fields() -> Vec<Field> {
    vec![
        Field::new("_key", DataType::Binary, true),
        Field::new("_value", DataType::Binary, true),
        Field::new("_headers", columns::headers_type(), true),
        Field::new("_timestamp", columns::timestamp_type(), true),
        Field::new("stage", DataType::Utf8, true),
        Field::new("reason", DataType::Utf8, true),
        Field::new("detail", DataType::Utf8, true),
        Field::new("plugin", DataType::Utf8, true),
        Field::new("digest", DataType::Utf8, true),
    ]
}

#[cfg(test)]
mod tests;
