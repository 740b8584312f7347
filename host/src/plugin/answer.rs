//! Checks on what guests return. Everything here is hostile until proven: nothing is an index, a length or text before it
//! was compared with what was asked.
//!
//! Pure: a broken answer is a sentence, and what follows from it is decided in [`call`](super::call).

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, Decimal128Array, PrimitiveArray, StringArray,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{Date32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};

use super::describe::{Produced, Type};
use super::log::clean;
use crate::config::Limits;

/// A finding as the guest returned it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RawFinding {
    pub row: u32,
    pub code: u16,
    pub column: Option<u16>,
    pub detail: Option<String>,
}

/// A column as the guest returned it; `ty` is `None` for `absent`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct RawColumn {
    pub ty: Option<Type>,
    pub decimal: Option<(u8, i8)>,
    pub offsets: Vec<u8>,
    pub data: Vec<u8>,
    pub validity: Vec<u8>,
}

/// An enricher's answer as the guest returned it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct RawEnriched {
    pub rows: Option<Vec<u32>>,
    pub columns: Vec<RawColumn>,
}

/// An enricher's answer, checked.
#[derive(Clone, Debug)]
pub(super) struct Enriched {
    /// the input row of each output row, counted from the first row of the call
    pub rows: Vec<u32>,
    pub columns: Vec<ArrayRef>,
}

type Checked<T> = Result<T, String>;

/// Findings for a call of `rows` rows by a rule with `codes` codes and `columns` columns. Details are cut and cleaned.
pub(super) fn findings(
    mut found: Vec<RawFinding>,
    rows: usize,
    codes: usize,
    columns: usize,
    limits: &Limits,
) -> Checked<Vec<RawFinding>> {
    let most = rows.saturating_mul(codes.min(limits.findings_per_row));
    if found.len() > most {
        return Err(format!("{} findings for {rows} rows; at most {most} are allowed", found.len()));
    }
    let mut per_row = vec![0usize; rows];
    for finding in &mut found {
        let Some(count) = per_row.get_mut(finding.row as usize) else {
            return Err(format!("a finding for row {} of a batch of {rows}", finding.row));
        };
        *count += 1;
        if *count > limits.findings_per_row {
            return Err(format!("more than {} findings for one row", limits.findings_per_row));
        }
        if usize::from(finding.code) >= codes {
            return Err(format!("a finding with code number {}, but it declared {codes}", finding.code));
        }
        if let Some(column) = finding.column.filter(|c| usize::from(*c) >= columns) {
            return Err(format!("a finding on column number {column}, but it asked for {columns}"));
        }
        finding.detail = finding.detail.take().map(|text| clean(&text, limits.detail));
    }
    found.sort_by_key(|finding| finding.row); // stable: the order does not depend on how rows were batched
    Ok(found)
}

/// Rows that one row may become. It holds for each row alone, so that no answer depends on which rows a call has; what
/// all rows of a batch may grow to is bounded where they meet their other columns.
const COPIES: usize = 1 << 16;

/// The columns of an enricher that was given `rows` rows.
pub(super) fn enriched(
    answer: RawEnriched,
    rows: usize,
    produces: &[Produced],
    one_to_many: bool,
) -> Checked<Enriched> {
    let origin = match answer.rows {
        None => (0..rows as u32).collect(),
        Some(_) if !one_to_many => return Err("it names input rows, but did not declare one-to-many".into()),
        Some(origin) => {
            let mut next = 0;
            for row in &origin {
                // each input row at least once, in order: the next one may be at most one further
                if *row as usize >= rows || !(*row == next || (next > 0 && *row == next - 1)) {
                    return Err(format!(
                        "its rows do not go through the {rows} input rows in order: {row} stands where {next} should"
                    ));
                }
                next = row + 1;
            }
            if next as usize != rows {
                return Err(format!("it dropped row {next} of {rows}"));
            }
            if let Some(run) = origin.chunk_by(|a, b| a == b).find(|run| run.len() > COPIES) {
                let (row, copies) = (run[0], run.len());
                return Err(format!("it makes {copies} rows of row {row}; at most {COPIES} are allowed"));
            }
            origin
        }
    };
    if answer.columns.len() != produces.len() {
        return Err(format!("{} columns, but it declared {}", answer.columns.len(), produces.len()));
    }
    let columns = answer
        .columns
        .into_iter()
        .zip(produces)
        .map(|(raw, produced)| {
            column(raw, produced, origin.len()).map_err(|e| format!("column `{}`: {e}", produced.name))
        })
        .collect::<Checked<Vec<_>>>()?;
    Ok(Enriched { rows: origin, columns })
}

/// A column of a key that a guest looks up, of whatever type it says.
pub(super) fn key(raw: RawColumn, rows: usize) -> Checked<ArrayRef> {
    let ty = raw.ty.ok_or("it is absent")?;
    let (precision, scale) = raw.decimal.unwrap_or_default();
    column(raw, &Produced { name: String::new(), ty, precision, scale }, rows)
}

fn column(raw: RawColumn, produced: &Produced, rows: usize) -> Checked<ArrayRef> {
    match raw.ty {
        Some(ty) if ty == produced.ty => {}
        Some(ty) => return Err(format!("{}, but it declared {}", ty.as_str(), produced.ty.as_str())),
        None => return Err("it is absent".into()),
    }
    let nulls = nulls(raw.validity, rows)?;
    Ok(match produced.ty {
        Type::Boolean => {
            if raw.data.len() != rows.div_ceil(8) {
                return Err(format!("{} bytes of bits for {rows} rows", raw.data.len()));
            }
            Arc::new(BooleanArray::new(BooleanBuffer::new(Buffer::from_vec(raw.data), 0, rows), nulls))
        }
        Type::Int32 => Arc::new(primitive::<Int32Type, 4>(&raw.data, rows, nulls, i32::from_le_bytes)?),
        Type::Int64 => Arc::new(primitive::<Int64Type, 8>(&raw.data, rows, nulls, i64::from_le_bytes)?),
        Type::Float64 => Arc::new(primitive::<Float64Type, 8>(&raw.data, rows, nulls, f64::from_le_bytes)?),
        Type::Date32 => {
            let days = primitive::<Date32Type, 4>(&raw.data, rows, nulls, i32::from_le_bytes)?;
            within(&days, YEARS.start as i32..YEARS.end as i32)?;
            Arc::new(days)
        }
        Type::TimestampUs => {
            let times = primitive::<TimestampMicrosecondType, 8>(&raw.data, rows, nulls, i64::from_le_bytes)?;
            within(&times, YEARS.start * DAY_US..YEARS.end * DAY_US)?;
            Arc::new(times.with_data_type(produced.data_type()))
        }
        Type::Decimal => decimals(&raw.data, raw.decimal, produced, rows, nulls)?,
        Type::Utf8 => Arc::new(text(raw.offsets, raw.data, rows, nulls)?),
        Type::Json => {
            let values = text(raw.offsets, raw.data, rows, nulls)?;
            for (row, value) in values.iter().enumerate() {
                if let Some(Err(e)) = value.map(serde_json::from_str::<serde::de::IgnoredAny>) {
                    return Err(format!("row {row} is not JSON: {e}"));
                }
            }
            Arc::new(values)
        }
        Type::Binary => {
            let offsets = offsets(&raw.offsets, raw.data.len(), rows)?;
            let array = BinaryArray::try_new(offsets, Buffer::from_vec(raw.data), nulls);
            Arc::new(array.map_err(|e| e.to_string())?)
        }
    })
}

fn nulls(validity: Vec<u8>, rows: usize) -> Checked<Option<NullBuffer>> {
    if validity.is_empty() {
        return Ok(None);
    }
    if validity.len() != rows.div_ceil(8) {
        return Err(format!("{} bytes of validity for {rows} rows", validity.len()));
    }
    Ok(Some(NullBuffer::new(BooleanBuffer::new(Buffer::from_vec(validity), 0, rows))))
}

fn values<N, const W: usize>(data: &[u8], rows: usize, from: impl Fn([u8; W]) -> N) -> Checked<Vec<N>> {
    let (cells, rest) = data.as_chunks::<W>();
    if cells.len() != rows || !rest.is_empty() {
        return Err(format!("{} bytes for {rows} rows of {W} bytes", data.len()));
    }
    // a copy, since the guest's bytes need not be aligned; it costs less than the call
    Ok(cells.iter().map(|cell| from(*cell)).collect())
}

fn primitive<T: ArrowPrimitiveType, const W: usize>(
    data: &[u8],
    rows: usize,
    nulls: Option<NullBuffer>,
    from: impl Fn([u8; W]) -> T::Native,
) -> Checked<PrimitiveArray<T>> {
    PrimitiveArray::try_new(ScalarBuffer::from(values(data, rows, from)?), nulls).map_err(|e| e.to_string())
}

/// Days since 1970 of the years 1 to 9999: what every reader of a table can show.
const YEARS: Range<i64> = -719_162..2_932_897;
const DAY_US: i64 = 86_400_000_000;

fn within<T: ArrowPrimitiveType>(array: &PrimitiveArray<T>, range: Range<T::Native>) -> Checked<()> {
    match array.iter().position(|value| value.is_some_and(|v| v < range.start || v >= range.end)) {
        Some(row) => Err(format!("row {row} lies outside the years 1 to 9999")),
        None => Ok(()),
    }
}

fn decimals(
    data: &[u8],
    decimal: Option<(u8, i8)>,
    produced: &Produced,
    rows: usize,
    nulls: Option<NullBuffer>,
) -> Checked<ArrayRef> {
    let (precision, scale) = decimal.unwrap_or_default();
    if (precision, scale) != (produced.precision, produced.scale) {
        return Err(format!(
            "decimal({precision}, {scale}), but it declared decimal({}, {})",
            produced.precision, produced.scale
        ));
    }
    let array = Decimal128Array::try_new(values(data, rows, i128::from_le_bytes)?.into(), nulls)
        .and_then(|array| array.with_precision_and_scale(precision, scale))
        .map_err(|e| e.to_string())?;
    array.validate_decimal_precision(precision).map_err(|e| e.to_string())?;
    Ok(Arc::new(array))
}

/// UTF-8 of the whole and at each boundary is what `try_new` checks.
fn text(raw: Vec<u8>, data: Vec<u8>, rows: usize, nulls: Option<NullBuffer>) -> Checked<StringArray> {
    let offsets = offsets(&raw, data.len(), rows)?;
    StringArray::try_new(offsets, Buffer::from_vec(data), nulls).map_err(|e| e.to_string())
}

fn offsets(raw: &[u8], data: usize, rows: usize) -> Checked<OffsetBuffer<i32>> {
    let offsets = values(raw, rows + 1, i32::from_le_bytes).map_err(|e| format!("offsets: {e}"))?;
    if offsets.first() != Some(&0) {
        return Err("its first offset is not 0".into());
    }
    if let Some(row) = offsets.windows(2).position(|pair| pair[1] < pair[0]) {
        return Err(format!("its offsets fall at row {row}"));
    }
    if offsets.last().map(|last| *last as usize) != Some(data) {
        return Err(format!("its offsets do not end at its {data} bytes of data"));
    }
    Ok(OffsetBuffer::new(offsets.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Array;

    fn finding(row: u32, code: u16, column: Option<u16>) -> RawFinding {
        RawFinding { row, code, column, detail: None }
    }

    #[test]
    fn findings_are_in_range_and_bounded() {
        let limits = Limits { findings_per_row: 2, ..crate::plugin::tests::limits() };
        for (found, expected) in [
            (vec![finding(1, 0, Some(0)), finding(0, 2, None)], None),
            (vec![finding(2, 0, None)], Some("row 2 of a batch of 2")),
            (vec![finding(0, 3, None)], Some("code number 3")),
            (vec![finding(0, 0, Some(1))], Some("column number 1")),
            (vec![finding(0, 0, None); 3], Some("more than 2 findings")),
            (vec![finding(0, 0, None); 5], Some("5 findings for 2 rows")),
        ] {
            match (findings(found, 2, 3, 1, &limits), expected) {
                (Ok(found), None) => assert!(found.is_sorted_by_key(|f| f.row)),
                (Err(text), Some(part)) => assert!(text.contains(part), "{text}"),
                (other, _) => panic!("{other:?}"),
            }
        }
    }

    fn produced(ty: Type) -> Produced {
        Produced { name: "x".into(), ty, precision: 4, scale: 2 }
    }

    fn offsets_of(list: &[i32]) -> Vec<u8> {
        list.iter().flat_map(|o| o.to_le_bytes()).collect()
    }

    #[test]
    fn columns_are_exact() {
        let fixed = |ty, data: &[u8]| RawColumn { ty: Some(ty), data: data.to_vec(), ..RawColumn::default() };
        let texts = |list: &[i32], data: &[u8]| RawColumn { offsets: offsets_of(list), ..fixed(Type::Utf8, data) };
        let decimal = |value: i128, ps| RawColumn {
            decimal: Some(ps),
            ..fixed(Type::Decimal, &[value.to_le_bytes(), 1i128.to_le_bytes()].concat())
        };
        let json = |data: &[u8]| RawColumn { ty: Some(Type::Json), ..texts(&[0, 1, data.len() as i32], data) };
        for (raw, ty, expected) in [
            (fixed(Type::Int32, &[0; 8]), Type::Int32, None),
            (fixed(Type::Int32, &[0; 7]), Type::Int32, Some("7 bytes")),
            (fixed(Type::Int32, &[0; 12]), Type::Int32, Some("12 bytes")),
            (fixed(Type::Int64, &[0; 16]), Type::Int32, Some("declared int32")),
            (RawColumn::default(), Type::Int32, Some("absent")),
            (fixed(Type::Boolean, &[3]), Type::Boolean, None),
            (fixed(Type::Boolean, &[3, 0]), Type::Boolean, Some("2 bytes of bits")),
            (RawColumn { validity: vec![1, 1], ..fixed(Type::Int32, &[0; 8]) }, Type::Int32, Some("validity")),
            (fixed(Type::Date32, &[0; 8]), Type::Date32, None),
            (fixed(Type::Date32, &[0x7f; 8]), Type::Date32, Some("years 1 to 9999")),
            (fixed(Type::TimestampUs, &[0x7f; 16]), Type::TimestampUs, Some("years 1 to 9999")),
            (texts(&[0, 1, 3], b"abc"), Type::Utf8, None),
            (texts(&[0, 1], b"a"), Type::Utf8, Some("offsets")),
            (texts(&[1, 1, 3], b"abc"), Type::Utf8, Some("first offset")),
            (texts(&[0, 3, 1], b"abc"), Type::Utf8, Some("fall")),
            (texts(&[0, -1, 3], b"abc"), Type::Utf8, Some("fall")),
            (texts(&[0, 1, 4], b"abc"), Type::Utf8, Some("do not end")),
            (texts(&[0, 1, 2], b"abc"), Type::Utf8, Some("do not end")),
            (texts(&[0, 1, 2], b"\xc3\xa9"), Type::Utf8, Some("")),
            (texts(&[0, 1, 2], b"a\xff"), Type::Utf8, Some("")),
            (decimal(9999, (4, 2)), Type::Decimal, None),
            (decimal(10_000, (4, 2)), Type::Decimal, Some("")),
            (decimal(1, (5, 2)), Type::Decimal, Some("declared decimal(4, 2)")),
            (json(b"1{}"), Type::Json, None),
            (json(b"1{"), Type::Json, Some("not JSON")),
        ] {
            match (column(raw.clone(), &produced(ty), 2), expected) {
                (Ok(array), None) => assert_eq!(array.len(), 2),
                (Err(text), Some(part)) => assert!(text.contains(part), "{text}"),
                (other, _) => panic!("{raw:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn an_enricher_drops_no_row() {
        for (rows, many, expected) in [
            (None, false, Ok(vec![0, 1, 2])),
            (Some(vec![0, 1, 2]), false, Err("did not declare")),
            (Some(vec![0, 0, 1, 2, 2]), true, Ok(vec![0, 0, 1, 2, 2])),
            (Some(vec![0, 2]), true, Err("2 stands where 1")),
            (Some(vec![0, 1]), true, Err("dropped row 2")),
            (Some(vec![1, 2]), true, Err("1 stands where 0")),
            (Some(vec![0, 1, 0, 2]), true, Err("0 stands where 2")),
            (Some(vec![0, 1, 2, 3]), true, Err("3 stands where 3")),
            (Some(vec![u32::MAX]), true, Err("stands where 0")),
            (Some(vec![]), true, Err("dropped row 0")),
            (Some([vec![0; COPIES], vec![1, 2]].concat()), true, Ok([vec![0; COPIES], vec![1, 2]].concat())),
            (Some([vec![0; COPIES + 1], vec![1, 2]].concat()), true, Err("65537 rows of row 0; at most 65536")),
        ] {
            let answer = RawEnriched { rows: rows.clone(), columns: vec![] };
            match (enriched(answer, 3, &[], many), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found.rows, expected),
                (Err(text), Err(part)) => assert!(text.contains(part), "{rows:?}: {text}"),
                (other, _) => panic!("{rows:?}: {other:?}"),
            }
        }
    }
}
