//! Delta's statistics of a file, from the metadata that the Parquet writer returns.
//!
//! Every bound holds: a minimum is never above, a maximum never below a value of the file. Where that cannot be promised,
//! the bound is left out. The rows themselves are not looked at again.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, TimeDelta};
use parquet::basic::{LogicalType, TimeUnit};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescriptor;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

/// Leaf columns that get statistics, as Delta's default has it.
const LEAVES: usize = 32;

/// Bytes of text in a bound at most. Parquet cuts longer ones; a maximum that cannot be cut is left out here.
const TEXT: usize = 256;

#[derive(Default, Serialize)]
#[serde(transparent)]
struct Tree(BTreeMap<String, Node>);

#[derive(Serialize)]
#[serde(untagged)]
enum Node {
    Leaf(Box<RawValue>),
    Struct(Tree),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    num_records: i64,
    min_values: Tree,
    max_values: Tree,
    null_count: Tree,
}

/// A value as it stands in a file, in an order that fits its type.
#[derive(Clone, PartialEq, PartialOrd)]
enum Value {
    Int(i128),
    Float(f64),
    Text(String),
}

/// The `stats` of an `add` action. Columns within lists and maps have none.
pub fn json(metadata: &ParquetMetaData) -> String {
    let mut stats = Stats {
        num_records: metadata.file_metadata().num_rows(),
        min_values: Tree::default(),
        max_values: Tree::default(),
        null_count: Tree::default(),
    };
    for (leaf, column) in metadata.file_metadata().schema_descr().columns().iter().enumerate().take(LEAVES) {
        if column.max_rep_level() > 0 {
            continue;
        }
        let path = column.path().parts();
        if let Some(nulls) = nulls(metadata.row_groups(), leaf) {
            stats.null_count.insert(path, &nulls);
        }
        if let Some(text) = bound(metadata.row_groups(), leaf, column, End::Min) {
            stats.min_values.insert_raw(path, text);
        }
        if let Some(text) = bound(metadata.row_groups(), leaf, column, End::Max) {
            stats.max_values.insert_raw(path, text);
        }
    }
    serde_json::to_string(&stats).expect("strings, numbers and maps with text keys always become JSON")
}

impl Tree {
    fn insert(&mut self, path: &[String], value: &impl Serialize) {
        if let Ok(raw) = to_raw_value(value) {
            self.insert_raw(path, raw);
        }
    }

    fn insert_raw(&mut self, path: &[String], value: Box<RawValue>) {
        let Some((name, rest)) = path.split_first() else { return };
        if rest.is_empty() {
            self.0.insert(name.clone(), Node::Leaf(value));
            return;
        }
        if let Node::Struct(tree) = self.0.entry(name.clone()).or_insert_with(|| Node::Struct(Tree::default())) {
            tree.insert_raw(rest, value);
        }
    }
}

fn nulls(groups: &[RowGroupMetaData], leaf: usize) -> Option<u64> {
    groups.iter().map(|group| group.column(leaf).statistics()?.null_count_opt()).sum()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Min,
    Max,
}

/// The bound over all row groups, as JSON; `None` where any group with values does not tell.
fn bound(groups: &[RowGroupMetaData], leaf: usize, column: &ColumnDescriptor, end: End) -> Option<Box<RawValue>> {
    let mut best: Option<Value> = None;
    for group in groups {
        let statistics = group.column(leaf).statistics()?;
        if statistics.null_count_opt() == u64::try_from(group.num_rows()).ok() {
            continue; // nothing but nulls
        }
        let value = value(statistics, column, end)?;
        let better = match (&best, end) {
            (None, _) => true,
            (Some(best), End::Min) => value < *best,
            (Some(best), End::Max) => value > *best,
        };
        if better {
            best = Some(value);
        }
    }
    render(best?, column, end)
}

fn value(statistics: &Statistics, column: &ColumnDescriptor, end: End) -> Option<Value> {
    macro_rules! pick {
        ($stats:expr) => {
            match end {
                End::Min => $stats.min_opt()?,
                End::Max => $stats.max_opt()?,
            }
        };
    }
    let decimal = matches!(column.logical_type_ref(), Some(LogicalType::Decimal(_)));
    Some(match statistics {
        Statistics::Int32(s) => Value::Int((*pick!(s)).into()),
        Statistics::Int64(s) => Value::Int((*pick!(s)).into()),
        // Parquet leaves NaN out of its bounds, Delta's readers take it for the largest value: no maximum is safe
        Statistics::Float(s) if end == End::Min => Value::Float((*pick!(s)).into()),
        Statistics::Double(s) if end == End::Min => Value::Float(*pick!(s)),
        Statistics::ByteArray(s) if matches!(column.logical_type_ref(), Some(LogicalType::String)) => {
            Value::Text(std::str::from_utf8(pick!(s).data()).ok()?.to_owned())
        }
        Statistics::ByteArray(s) if decimal => Value::Int(big_endian(pick!(s).data())?),
        Statistics::FixedLenByteArray(s) if decimal => Value::Int(big_endian(pick!(s).data())?),
        Statistics::Float(_)
        | Statistics::Double(_)
        | Statistics::ByteArray(_)
        | Statistics::FixedLenByteArray(_)
        | Statistics::Int96(_)
        | Statistics::Boolean(_) => return None,
    })
}

fn big_endian(bytes: &[u8]) -> Option<i128> {
    let (first, missing) = (bytes.first()?, 16usize.checked_sub(bytes.len())?);
    let mut all = [if first & 0x80 == 0 { 0 } else { 0xff }; 16];
    all[missing..].copy_from_slice(bytes);
    Some(i128::from_be_bytes(all))
}

fn render(value: Value, column: &ColumnDescriptor, end: End) -> Option<Box<RawValue>> {
    match (value, column.logical_type_ref()) {
        (Value::Int(v), Some(LogicalType::Date)) => {
            let day = NaiveDate::default().checked_add_signed(TimeDelta::try_days(i64::try_from(v).ok()?)?)?;
            to_raw_value(&day.format("%Y-%m-%d").to_string()).ok()
        }
        (Value::Int(v), Some(LogicalType::Timestamp(timestamp))) if timestamp.unit == TimeUnit::MICROS => {
            // The format has milliseconds. A maximum goes up, so that it holds for readers that do not widen it.
            let v = i64::try_from(v).ok()?;
            let millis = match end {
                End::Min => v.div_euclid(1000),
                End::Max => v.div_euclid(1000) + i64::from(v.rem_euclid(1000) > 0),
            };
            let time = DateTime::from_timestamp_millis(millis)?;
            to_raw_value(&time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()).ok()
        }
        (Value::Int(_), Some(LogicalType::Timestamp(_) | LogicalType::Time(_))) => None,
        (Value::Int(v), Some(LogicalType::Decimal(decimal))) => {
            RawValue::from_string(scaled(v, usize::try_from(decimal.scale).ok()?)).ok()
        }
        (Value::Int(v), _) => RawValue::from_string(v.to_string()).ok(),
        (Value::Float(v), _) => v.is_finite().then(|| to_raw_value(&v).ok())?,
        (Value::Text(v), _) => (v.len() <= TEXT).then(|| to_raw_value(&v).ok())?,
    }
}

/// `-105` with scale 2 is `-1.05`: a JSON number with every digit.
fn scaled(value: i128, scale: usize) -> String {
    let (sign, digits) = (if value < 0 { "-" } else { "" }, format!("{:0>1$}", value.unsigned_abs(), scale + 1));
    match scale {
        0 => format!("{sign}{digits}"),
        _ => format!("{sign}{}.{}", &digits[..digits.len() - scale], &digits[digits.len() - scale..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_keeps_every_digit() {
        for (value, scale, expected) in [
            (-105, 2, "-1.05"),
            (5, 3, "0.005"),
            (0, 2, "0.00"),
            (-7, 0, "-7"),
            (12_345_678_901_234_567_890_123_456_789, 9, "12345678901234567890.123456789"),
        ] {
            assert_eq!(scaled(value, scale), expected);
        }
    }

    #[test]
    fn big_endian_bytes_keep_their_sign() {
        for (bytes, expected) in
            [(&[0xff, 0xfe][..], Some(-2)), (&[0x01, 0x00], Some(256)), (&[], None), (&[0; 17], None)]
        {
            assert_eq!(big_endian(bytes), expected);
        }
    }
}
