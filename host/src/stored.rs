//! Rows of a table as records and batches that can be judged again, and what nobody can be asked about them.
//!
//! A dead letter holds its record whole. A row of valid or error holds columns: what the schema of today declares beside
//! them, and payload, key, time and headers, are there only as far as the sink stores them. It judges nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, StringArray, StructArray, new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Int64Type, Schema, SchemaRef, TimestampMicrosecondType};
use bytes::Bytes;
use serde_json::Value;
use uuid::Uuid;

use crate::chain::Chain;
use crate::columns;
use crate::config::{SinkConfig, SourceKind};
use crate::error::{Error, Result};
use crate::outcome::{Outcome, Reason};
use crate::record::{Batch, Headers, Range, RawBatch, RawRecord, Span, TopicPartition};

mod fit;
pub mod tables;

use fit::{covers, fit, holds};

/// Where each row of a record batch came from, as tables with provenance columns store it.
pub struct Provenance {
    /// `_topic`
    pub topic: StringArray,
    /// `_partition`
    pub partition: Int32Array,
    /// `_offset`
    pub offset: Int64Array,
    /// `_row`
    pub row: Int32Array,
    /// `_attempt`
    pub attempt: Int32Array,
    /// `_batch`
    pub batch: StringArray,
}

impl Provenance {
    /// The columns that make it up.
    pub const COLUMNS: [&str; 6] = ["_topic", "_partition", "_offset", "_row", "_attempt", "_batch"];

    /// Of these rows.
    ///
    /// # Errors
    /// A column is missing or null: the rows are of another writer.
    pub fn of(rows: &RecordBatch) -> Result<Provenance> {
        let column = |name: &str, ty: DataType| -> Result<ArrayRef> {
            let found = rows.column_by_name(name).and_then(|column| cast(column, &ty).ok());
            let whole = found.filter(|column| column.null_count() == 0);
            whole.ok_or_else(|| {
                Error::Diverged(format!(
                    "rows without `{name}` are in a table of sluice: another writer put them there"
                ))
            })
        };
        let int = |name| Ok::<_, Error>(column(name, DataType::Int32)?.as_primitive::<Int32Type>().clone());
        let text = |name| Ok::<_, Error>(column(name, DataType::Utf8)?.as_string::<i32>().clone());
        Ok(Provenance {
            topic: text("_topic")?,
            partition: int("_partition")?,
            offset: column("_offset", DataType::Int64)?.as_primitive::<Int64Type>().clone(),
            row: int("_row")?,
            attempt: int("_attempt")?,
            batch: text("_batch")?,
        })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.offset.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.offset.is_empty()
    }

    /// The partition of a row's record.
    pub fn partition_of(&self, row: usize) -> TopicPartition {
        TopicPartition::new(self.topic.value(row), self.partition.value(row))
    }
}

/// Whether a sink's rows say where they came from, in a way that a row can be found again.
pub fn has_provenance(schema: &Schema) -> bool {
    Provenance::COLUMNS.iter().all(|name| schema.field_with_name(name).is_ok())
}

/// How a table of judged rows keeps what a chain wants to see.
pub struct Layout {
    outcome: Outcome,
    /// path of a column → its name in the table
    names: BTreeMap<String, String>,
    declared: SchemaRef,
    pipeline: Uuid,
    /// of records from files and standard input these are always null, so nothing of them can be lost
    no_envelope: bool,
}

impl Layout {
    /// The table of `outcome`, as `sink` says, for what `chain` declares.
    pub fn new(chain: &Chain, sink: &SinkConfig, outcome: Outcome) -> Layout {
        let declared = chain.config.schema.arrow.clone();
        let names = match &sink.columns {
            Some(columns) => columns.iter().map(|column| (column.path.clone(), column.name.clone())).collect(),
            None => declared.fields().iter().map(|field| (field.name().clone(), field.name().clone())).collect(),
        };
        Layout {
            outcome,
            names,
            declared,
            pipeline: columns::pipeline_namespace(&chain.config.name),
            no_envelope: match chain.config.source.kind {
                SourceKind::Files(_) | SourceKind::Stdin => true,
                SourceKind::Kafka(_) => false,
            },
        }
    }

    /// Whether the value at `path` cannot be had from rows of a table with these columns. `written` is Delta's schema JSON
    /// of the entry that wrote the rows, where it is known: a column that came later is null in them, which says nothing.
    pub fn is_lost(&self, path: &str, table: &Schema, written: Option<&Value>) -> bool {
        if self.outcome == Outcome::Dlq {
            return false;
        }
        let mut names = path.split('.');
        let top = names.next().unwrap_or(path);
        let found = |name: &String| {
            let field = table.field_with_name(name).ok()?;
            let before = written.map(|written| child(written, name));
            // `None` within: that entry did not write it
            before.as_ref().is_none_or(Option::is_some).then(|| (field.data_type(), before.flatten()))
        };
        match top {
            "_topic" | "_partition" | "_offset" | "_row" | "_id" => return false,
            "_key" | "_timestamp" | "_headers" if self.no_envelope => return false,
            "_headers" => return true,
            "_key" | "_value" | "_timestamp" => return self.names.get(top).and_then(found).is_none(),
            _ => {}
        }
        // what is not declared is added, or is nowhere
        let Ok(field) = self.declared.field_with_name(top) else { return false };
        let Some((mut stored, mut before)) = self.names.get(top).and_then(found) else { return true };
        let mut wanted = field.data_type();
        for name in names {
            let DataType::Struct(fields) = wanted else { return false }; // no such path, then or now
            let Some((_, inner)) = fields.find(name) else { return false };
            let DataType::Struct(kept) = stored else { return true };
            let Some((_, kept)) = kept.find(name) else { return true };
            (wanted, stored) = (inner.data_type(), kept.data_type());
            if let Some(was) = before {
                match child(was, name) {
                    Some(was) => before = Some(was),
                    None => return true,
                }
            }
        }
        !holds(stored, wanted) || before.is_some_and(|before| !covers(before, wanted))
    }

    /// Rows of the table as they were before anything was added to them: declared columns, each row of a record of its
    /// own, which has the key, payload and time that the table stores. What the table lacks is null.
    pub fn batch(&self, rows: &RecordBatch) -> Result<Batch> {
        let of = Provenance::of(rows)?;
        let bug = |e| Error::Host(format!("a stored row does not fit the schema: {e}"));
        let columns: Vec<ArrayRef> = self
            .declared
            .fields()
            .iter()
            .map(|field| match self.names.get(field.name()).and_then(|name| rows.column_by_name(name)) {
                Some(column) if holds(column.data_type(), field.data_type()) => fit(column, field.data_type()),
                Some(_) | None => Ok(new_null_array(field.data_type(), rows.num_rows())),
            })
            .collect::<Result<_, _>>()
            .map_err(bug)?;
        let stored = |path: &str| self.names.get(path).and_then(|name| rows.column_by_name(name));
        let raw = raw_of(&of, stored("_key"), stored("_value"), stored("_timestamp"), None);
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(of.len()));
        Ok(Batch {
            columns: RecordBatch::try_new_with_options(self.declared.clone(), columns, &options).map_err(bug)?,
            origin: (0..of.len() as u32).collect(),
            ordinal: of.row.values().iter().map(|row| *row as u32).collect(),
            raw: Arc::new(raw),
            pipeline: self.pipeline,
        })
    }
}

/// A field's type in Delta's schema JSON.
fn child<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    let fields = schema.get("fields")?.as_array()?;
    fields.iter().find(|field| field["name"] == name).map(|field| &field["type"])
}

/// Dead letters as the records that they were, each a record of its own.
pub fn letters(rows: &RecordBatch) -> Result<RawBatch> {
    let of = Provenance::of(rows)?;
    let column = |name: &str| rows.column_by_name(name);
    let mut raw = raw_of(&of, column("_key"), column("_value"), column("_timestamp"), column("_headers"));
    let (reasons, details) = (texts(rows, "reason"), texts(rows, "detail"));
    for row in 0..of.len() {
        // of a payload beyond any bound the beginning alone was kept, and the detail says how long it was
        let is_large = reasons.as_ref().is_some_and(|r| r.is_valid(row) && r.value(row) == Reason::TooLarge.as_str());
        let detail = details.as_ref().filter(|d| is_large && d.is_valid(row)).map(|d| d.value(row));
        let said = detail.and_then(|detail| detail.split_once(" bytes, and source.max_record"));
        let length: Option<u64> = said.and_then(|(length, _)| length.parse().ok());
        let there = raw.value(row).map_or(0, |value| value.len() as u64);
        raw.records[row].truncated_from = length.filter(|length| *length > there);
    }
    Ok(raw)
}

/// A text column, whatever a reader makes of it.
pub fn texts(rows: &RecordBatch, name: &str) -> Option<StringArray> {
    let column = cast(rows.column_by_name(name)?, &DataType::Utf8).ok()?;
    Some(column.as_string::<i32>().clone())
}

fn raw_of(
    of: &Provenance,
    keys: Option<&ArrayRef>,
    values: Option<&ArrayRef>,
    timestamps: Option<&ArrayRef>,
    headers: Option<&ArrayRef>,
) -> RawBatch {
    let bytes = |column: Option<&ArrayRef>| column.and_then(|column| cast(column, &DataType::Binary).ok());
    let (keys, values) = (bytes(keys), bytes(values));
    let timestamps = timestamps.and_then(|column| cast(column, &columns::timestamp_type()).ok());
    let mut raw = RawBatch::default();
    let mut data = Vec::new();
    let mut places: HashMap<(&str, i32), u16> = HashMap::new();
    for row in 0..of.len() {
        let mut span = |column: &Option<ArrayRef>| match column.as_ref().filter(|column| column.is_valid(row)) {
            Some(column) => {
                let (start, value) = (data.len() as u32, column.as_binary::<i32>().value(row));
                data.extend_from_slice(value);
                Span { start, len: value.len() as u32 }
            }
            None => Span::NULL,
        };
        let (key, value) = (span(&keys), span(&values));
        let offset = of.offset.value(row);
        let ranges = &mut raw.ranges;
        let range = *places.entry((of.topic.value(row), of.partition.value(row))).or_insert_with(|| {
            ranges.push(Range { partition: of.partition_of(row), from: offset, to: offset + 1 });
            (ranges.len() - 1) as u16
        });
        let span = &mut ranges[usize::from(range)];
        (span.from, span.to) = (span.from.min(offset), span.to.max(offset + 1));
        let time = timestamps.as_ref().map(|column| column.as_primitive::<TimestampMicrosecondType>());
        let headers = headers.and_then(|column| headers_of(column, row)).map(|headers| {
            raw.headers.push(headers);
            (raw.headers.len() - 1) as u32
        });
        raw.records.push(RawRecord {
            range,
            offset,
            timestamp: time.filter(|time| time.is_valid(row)).map(|time| time.value(row).div_euclid(1000)),
            key,
            value,
            headers,
            truncated_from: None,
        });
    }
    raw.data = Bytes::from(data);
    raw
}

/// The headers of a stored record, `None` where it has none.
fn headers_of(column: &ArrayRef, row: usize) -> Option<Headers> {
    let list = column.as_list_opt::<i32>().filter(|list| list.is_valid(row))?.value(row);
    let fields = list.as_any().downcast_ref::<StructArray>().filter(|fields| !fields.is_empty())?;
    let names = cast(fields.column(0), &DataType::Utf8).ok()?;
    let values = cast(fields.column(1), &DataType::Binary).ok()?;
    let (names, values) = (names.as_string::<i32>(), values.as_binary::<i32>());
    let value = |i: usize| values.is_valid(i).then(|| Bytes::copy_from_slice(values.value(i)));
    Some((0..fields.len()).map(|i| (names.value(i).to_owned(), value(i))).collect())
}

/// Rows of a record batch in slices of `most` rows and, where there are payloads, about `bytes` bytes.
pub fn slices(rows: &RecordBatch, most: usize, bytes: usize) -> Vec<RecordBatch> {
    let values = rows.column_by_name("_value").and_then(|column| cast(column, &DataType::Binary).ok());
    let size = |row: usize| values.as_ref().map_or(0, |v| v.as_binary::<i32>().value(row).len());
    let (mut slices, mut from, mut weight) = (Vec::new(), 0, 0);
    for row in 0..rows.num_rows() {
        if row > from && (row - from >= most || weight + size(row) > bytes) {
            slices.push(rows.slice(from, row - from));
            (from, weight) = (row, 0);
        }
        weight += size(row);
    }
    if from < rows.num_rows() {
        slices.push(rows.slice(from, rows.num_rows() - from));
    }
    slices
}

/// What was said of each stored row, sorted: `rule/code` of its findings, errors with a `!`; of a dead letter where it died
/// and why.
pub fn said(rows: &RecordBatch, outcome: Outcome) -> Vec<Vec<String>> {
    match outcome {
        Outcome::Dlq => {
            let [stages, reasons, plugins] = ["stage", "reason", "plugin"].map(|name| texts(rows, name));
            let at = |column: &Option<StringArray>, row: usize| {
                column.as_ref().filter(|column| column.is_valid(row)).map(|column| column.value(row).to_owned())
            };
            let key = |row| {
                let place = at(&plugins, row).or_else(|| at(&stages, row)).unwrap_or_default();
                vec![format!("{place}/{}", at(&reasons, row).unwrap_or_default())]
            };
            (0..rows.num_rows()).map(key).collect()
        }
        Outcome::Valid | Outcome::Error | Outcome::Staging | Outcome::Derived(_) => {
            (0..rows.num_rows()).map(|row| findings_said(rows, row)).collect()
        }
    }
}

fn findings_said(rows: &RecordBatch, row: usize) -> Vec<String> {
    let list = rows.column_by_name("_findings").and_then(|column| column.as_list_opt::<i32>());
    let Some(list) = list.filter(|list| list.is_valid(row)).map(|list| list.value(row)) else { return Vec::new() };
    let Some(fields) = list.as_any().downcast_ref::<StructArray>() else { return Vec::new() };
    let text = |name: &str| cast(fields.column_by_name(name)?, &DataType::Utf8).ok();
    let (Some(rules), Some(codes), Some(severities)) = (text("rule"), text("code"), text("severity")) else {
        return Vec::new();
    };
    let at = |column: &ArrayRef, i: usize| {
        let column = column.as_string::<i32>();
        if column.is_valid(i) { column.value(i).to_owned() } else { String::new() }
    };
    let key = |i| {
        let mark = if at(&severities, i) == "error" { "!" } else { "" };
        format!("{}/{}{mark}", at(&rules, i), at(&codes, i))
    };
    let mut said: Vec<String> = (0..fields.len()).map(key).collect();
    said.sort_unstable();
    said
}

#[cfg(test)]
mod tests;
