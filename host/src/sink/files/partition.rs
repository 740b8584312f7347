//! Rows of a partitioned table, by distinct values of the partition columns.
//!
//! It names folders and values as Delta does and writes nothing.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{partition, take_arrays, take_record_batch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Int8Type, Int16Type, Int32Type, Int64Type, Schema, SchemaRef, TimeUnit,
    TimestampMicrosecondType,
};
use arrow::row::{OwnedRow, RowConverter, SortField};
use chrono::{DateTime, NaiveDate, TimeDelta};
use sha2::{Digest, Sha256};

use crate::error::{Doing, Error, Result};

/// Stands in a path where the value is null.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// Characters of one folder's name at most: file systems end at 255.
const FOLDER: usize = 200;

/// Rows that share a file.
pub struct Part {
    /// without the partition columns
    pub rows: RecordBatch,
    /// `col=value/col=value`, empty where the table is not partitioned
    pub folder: String,
    /// column → value, as Delta writes it
    pub values: BTreeMap<String, Option<String>>,
}

impl Part {
    /// All rows, of a table without partitions.
    pub fn whole(rows: RecordBatch) -> Self {
        Part { rows, folder: String::new(), values: BTreeMap::new() }
    }

    /// The same place, without the rows.
    pub fn without_rows(&self) -> Self {
        Part { rows: self.rows.slice(0, 0), folder: self.folder.clone(), values: self.values.clone() }
    }
}

/// Splits batches by the values of some columns.
pub struct Partitioner {
    columns: Vec<usize>,
    names: Vec<String>,
    kept: Vec<usize>,
    file_schema: SchemaRef,
    converter: RowConverter,
}

impl Partitioner {
    /// A partitioner for rows of `schema`; `None` where nothing partitions them.
    pub fn new(schema: &Schema, by: &[String]) -> Result<Option<Self>> {
        if by.is_empty() {
            return Ok(None);
        }
        let columns = by.iter().map(|name| column(schema, name)).collect::<Result<Vec<_>>>()?;
        let kept: Vec<_> = (0..schema.fields().len()).filter(|i| !columns.contains(i)).collect();
        if kept.is_empty() {
            return Err(Error::Config(format!(
                "`partition_by` names every column ({}): at least one must be left for the files",
                by.join(", ")
            )));
        }
        let file_schema = Arc::new(schema.project(&kept).map_err(|e| Error::Host(e.to_string()))?);
        let fields = columns.iter().map(|i| SortField::new(schema.field(*i).data_type().clone())).collect();
        let converter = RowConverter::new(fields).map_err(|e| Error::Host(e.to_string()))?;
        Ok(Some(Partitioner { columns, names: by.to_vec(), kept, file_schema, converter }))
    }

    /// The columns that stay in the files.
    pub fn file_schema(&self) -> &SchemaRef {
        &self.file_schema
    }

    /// One part per distinct combination, in the order in which they first appear; rows keep their order.
    pub fn split(&mut self, batch: &RecordBatch) -> Result<Vec<(OwnedRow, Part)>> {
        let keys: Vec<ArrayRef> = self.columns.iter().map(|i| batch.column(*i).clone()).collect();
        let kept = batch.project(&self.kept).doing(|| self.doing())?;
        // neighbours nearly always share a partition where time or a file makes them
        let runs = partition(&keys).doing(|| self.doing())?.ranges();
        let firsts = UInt32Array::from_iter_values(runs.iter().map(|run| run.start as u32));
        let first_keys = take_arrays(&keys, &firsts, None).doing(|| self.doing())?;
        let rows = self.converter.convert_columns(&first_keys).doing(|| self.doing())?;
        let mut groups: Vec<(OwnedRow, Vec<Range<usize>>)> = Vec::new();
        let mut index: HashMap<OwnedRow, usize> = HashMap::new();
        for (run, key) in runs.into_iter().zip(&rows) {
            let key = key.owned();
            let at = *index.entry(key.clone()).or_insert_with(|| {
                groups.push((key, Vec::new()));
                groups.len() - 1
            });
            groups[at].1.push(run);
        }
        let part = |(key, runs): (OwnedRow, Vec<Range<usize>>)| {
            let (folder, values) = self.place(&keys, runs[0].start)?;
            let rows = match runs.as_slice() {
                [run] if run.len() == kept.num_rows() => kept.clone(),
                runs => {
                    let rows = UInt32Array::from_iter_values(runs.iter().cloned().flatten().map(|row| row as u32));
                    take_record_batch(&kept, &rows).doing(|| self.doing())?
                }
            };
            Ok((key, Part { rows, folder, values }))
        };
        groups.into_iter().map(part).collect()
    }

    fn place(&self, keys: &[ArrayRef], row: usize) -> Result<(String, BTreeMap<String, Option<String>>)> {
        let mut folders = Vec::with_capacity(keys.len());
        let mut values = BTreeMap::new();
        for (name, key) in self.names.iter().zip(keys) {
            let value = serialized(key, row).ok_or_else(|| {
                Error::Host(format!(
                    "partition column `{name}` has a value that Delta cannot write ({})",
                    key.data_type()
                ))
            })?;
            folders.push(folder(name, value.as_deref()));
            values.insert(name.clone(), value);
        }
        Ok((folders.join("/"), values))
    }

    fn doing(&self) -> String {
        format!("cannot split rows by {}", self.names.join(", "))
    }
}

fn column(schema: &Schema, name: &str) -> Result<usize> {
    let (index, field) = schema.column_with_name(name).ok_or_else(|| {
        let known: Vec<_> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        Error::Config(format!(
            "`partition_by` names `{name}`, which the table does not have; it has {}",
            known.join(", ")
        ))
    })?;
    match field.data_type() {
        DataType::Utf8
        | DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Date32
        | DataType::Timestamp(..)
        | DataType::Decimal128(..) => Ok(index),
        other => Err(Error::Config(format!(
            "`partition_by` names `{name}`, which is {other}: a table can be partitioned by text, integers, decimals, \
             booleans, dates and timestamps"
        ))),
    }
}

/// The value as Delta writes it (the empty text is null there); `None` where Delta cannot.
fn serialized(array: &ArrayRef, row: usize) -> Option<Option<String>> {
    if array.is_null(row) {
        return Some(None);
    }
    let text = match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).to_string(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).to_string(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Decimal128(..) => array.as_primitive::<Decimal128Type>().value_as_string(row),
        DataType::Date32 => {
            let days = TimeDelta::try_days(array.as_primitive::<Date32Type>().value(row).into())?;
            NaiveDate::default().checked_add_signed(days)?.format("%Y-%m-%d").to_string()
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let time = DateTime::from_timestamp_micros(array.as_primitive::<TimestampMicrosecondType>().value(row))?;
            time.format("%Y-%m-%d %H:%M:%S%.6f").to_string()
        }
        _ => return None,
    };
    Some(Some(text).filter(|text| !text.is_empty()))
}

/// `name=value`, both percent-encoded. A name too long for a file system is cut and told apart by a digest: the folder is
/// for people, the value itself stands in the log.
fn folder(name: &str, value: Option<&str>) -> String {
    let mut folder = format!("{}={}", encoded(name), value.map_or_else(|| NULL.to_owned(), encoded));
    if folder.len() > FOLDER {
        let digest = Sha256::digest(folder.as_bytes());
        // the encoding leaves nothing but ASCII, so any place is a boundary
        folder.truncate(FOLDER);
        folder.push('-');
        for byte in &digest[..8] {
            let _ = write!(folder, "{byte:02x}");
        }
    }
    folder
}

/// All but letters, digits, `-`, `_`, `.` and `~` as `%XX`, byte by byte.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte.into()),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_escaped_and_bounded() {
        for (value, expected) in [
            (Some("plain"), "c=plain"),
            (Some("a b/c=d%"), "c=a%20b%2Fc%3Dd%25"),
            (Some("é"), "c=%C3%A9"),
            (None, "c=__HIVE_DEFAULT_PARTITION__"),
        ] {
            assert_eq!(folder("c", value), expected);
        }
        let (one, two) = (folder("c", Some(&"x".repeat(4000))), folder("c", Some(&"x".repeat(4001))));
        assert!(one.len() < 255 && one != two, "{one}");
    }

    #[test]
    fn rows_keep_their_order_whether_a_partition_comes_in_one_piece_or_in_several() {
        for pages in [
            &[Some("a"), Some("a"), Some("a"), Some("b"), Some("a"), None, Some("b"), None][..],
            &[Some("a"); 5],
            &[None, Some("b"), Some("b"), Some("b")],
            &[],
        ] {
            let rows: Vec<_> = (0..).zip(pages.iter().copied()).collect();
            let batch = crate::sink::fixture::pages(&rows);
            let mut partitioner = Partitioner::new(&batch.schema(), &["page".into()]).unwrap().unwrap();
            let mut found = Vec::new();
            for (_, part) in partitioner.split(&batch).unwrap() {
                let ids = part.rows.column(0).as_primitive::<Int64Type>().values().to_vec();
                found.push((part.values["page"].clone(), ids));
            }
            let mut expected: Vec<(Option<String>, Vec<i64>)> = Vec::new();
            for (id, page) in rows {
                let page = page.map(str::to_owned);
                match expected.iter_mut().find(|(known, _)| *known == page) {
                    Some((_, ids)) => ids.push(id),
                    None => expected.push((page, vec![id])),
                }
            }
            assert_eq!(found, expected, "{pages:?}");
        }
    }
}
