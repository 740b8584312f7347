//! Arrow → the contract's columns: the host's own buffers where they fit, a converted column where a wider type was asked for.
//!
//! A batch is prepared once, then cut into calls. It names no WIT types; [`bindings`](super::bindings) lends the buffers out.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, StringArray};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, Float64Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use arrow::json::writer::{EncoderOptions, make_encoder};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::describe::{Request, Type};
use crate::columns;
use crate::config::Limits;
use crate::error::{Error, Result};
use crate::record::Batch;

/// Values of one width: bits for booleans, else 4, 8 or 16 bytes each.
#[derive(Debug)]
pub(super) struct Fixed {
    pub data: Buffer,
    /// empty = no nulls
    pub validity: Buffer,
}

/// Text or bytes. The first offset is 0.
#[derive(Debug)]
pub(super) struct Varlen {
    pub offsets: Buffer,
    pub data: Buffer,
    /// empty = no nulls
    pub validity: Buffer,
}

/// One column of one call.
#[derive(Debug)]
pub(super) enum Passed {
    Absent,
    Boolean(Fixed),
    Int32(Fixed),
    Int64(Fixed),
    Float64(Fixed),
    Date32(Fixed),
    TimestampUs(Fixed),
    Decimal(u8, i8, Fixed),
    Utf8(Varlen),
    Binary(Varlen),
    Json(Varlen),
}

/// A batch as one plugin wants it: every column in the type that it asked for.
#[derive(Debug)]
pub(super) struct Prepared {
    rows: usize,
    /// `None` is absent
    columns: Vec<Option<(Type, ArrayRef)>>,
}

impl Prepared {
    /// Finds and converts the columns. `present` says which of them the schema has.
    pub(super) fn new(batch: &Batch, requests: &[Request], present: &[bool]) -> Result<Prepared> {
        let columns = requests
            .iter()
            .zip(present)
            .map(|(request, present)| {
                if !present {
                    return Ok(None);
                }
                let array = columns::column(batch, &request.path)
                    .ok_or_else(|| Error::Host(format!("the batch lost its column `{}`", request.path)))?;
                if array.len() != batch.len() {
                    return Err(Error::Host(format!(
                        "column `{}` has {} values for {} rows",
                        request.path,
                        array.len(),
                        batch.len()
                    )));
                }
                let converted = convert(&array, request.ty).map_err(|e| {
                    Error::Host(format!("cannot pass column `{}` as {}: {e}", request.path, request.ty.as_str()))
                })?;
                Ok(Some((request.ty, converted)))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Prepared { rows: batch.len(), columns })
    }

    /// Columns that belong to no batch, each as it was asked for; `None` is absent.
    pub(super) fn of(rows: usize, columns: Vec<Option<(Type, ArrayRef)>>) -> std::result::Result<Prepared, String> {
        let converted = columns.into_iter().map(|column| {
            let Some((ty, array)) = column else { return Ok(None) };
            let converted =
                convert(&array, ty).map_err(|e| format!("a column cannot be passed as {}: {e}", ty.as_str()));
            Ok(Some((ty, converted?)))
        });
        Ok(Prepared { rows, columns: converted.collect::<std::result::Result<_, String>>()? })
    }

    /// Cuts the rows into calls: as many as fit into `call_bytes`, `call_rows` at most, one at least.
    pub(super) fn pieces(&self, limits: &Limits) -> Vec<Range<usize>> {
        let mut pieces = Vec::new();
        let mut start = 0;
        while start < self.rows {
            let most = limits.call_rows.clamp(1, self.rows - start);
            let mut take = if self.bytes(start..start + most) <= limits.call_bytes {
                most
            } else {
                // bytes grow with rows: the most that fit, by halving
                let (mut fits, mut over) = (0, most);
                while over - fits > 1 {
                    let middle = fits + (over - fits) / 2;
                    if self.bytes(start..start + middle) <= limits.call_bytes { fits = middle } else { over = middle }
                }
                fits.max(1)
            };
            if start + take < self.rows && take > 8 {
                take -= take % 8; // the next piece then begins on a byte of every bitmap: no copy
            }
            pieces.push(start..start + take);
            start += take;
        }
        pieces
    }

    /// Bytes that the columns of these rows take.
    pub(super) fn bytes(&self, rows: Range<usize>) -> usize {
        let len = rows.len();
        self.columns
            .iter()
            .flatten()
            .map(|(ty, array)| match ty {
                Type::Boolean => len / 8,
                Type::Int32 | Type::Date32 => len * 4,
                Type::Int64 | Type::Float64 | Type::TimestampUs => len * 8,
                Type::Decimal => len * 16,
                Type::Utf8 | Type::Json => len * 4 + span(array.as_string::<i32>().offsets(), &rows),
                Type::Binary => len * 4 + span(array.as_binary::<i32>().offsets(), &rows),
            })
            .sum()
    }

    /// The columns of one call.
    pub(super) fn slice(&self, rows: Range<usize>) -> Vec<Passed> {
        self.columns
            .iter()
            .map(|column| match column {
                None => Passed::Absent,
                Some((ty, array)) => passed(*ty, &array.slice(rows.start, rows.len())),
            })
            .collect()
    }
}

fn span(offsets: &OffsetBuffer<i32>, rows: &Range<usize>) -> usize {
    (offsets[rows.end] - offsets[rows.start]) as usize
}

fn passed(ty: Type, array: &ArrayRef) -> Passed {
    let fixed = |data: &Buffer| Fixed { data: data.clone(), validity: validity(array) };
    match ty {
        Type::Boolean => Passed::Boolean(Fixed { data: bits(array.as_boolean().values()), validity: validity(array) }),
        Type::Int32 => Passed::Int32(fixed(array.as_primitive::<Int32Type>().values().inner())),
        Type::Int64 => Passed::Int64(fixed(array.as_primitive::<Int64Type>().values().inner())),
        Type::Float64 => Passed::Float64(fixed(array.as_primitive::<Float64Type>().values().inner())),
        Type::Date32 => Passed::Date32(fixed(array.as_primitive::<Date32Type>().values().inner())),
        Type::TimestampUs => {
            Passed::TimestampUs(fixed(array.as_primitive::<TimestampMicrosecondType>().values().inner()))
        }
        Type::Decimal => {
            let decimals = array.as_primitive::<Decimal128Type>();
            Passed::Decimal(decimals.precision(), decimals.scale(), fixed(decimals.values().inner()))
        }
        Type::Utf8 => Passed::Utf8(text(array)),
        Type::Json => Passed::Json(text(array)),
        Type::Binary => {
            let bytes = array.as_binary::<i32>();
            Passed::Binary(varlen(bytes.offsets(), bytes.values(), array))
        }
    }
}

fn text(array: &ArrayRef) -> Varlen {
    let strings = array.as_string::<i32>();
    varlen(strings.offsets(), strings.values(), array)
}

fn varlen(offsets: &OffsetBuffer<i32>, data: &Buffer, array: &ArrayRef) -> Varlen {
    let (first, last) = (offsets[0], offsets[offsets.len() - 1]);
    let data = data.slice_with_length(first as usize, (last - first) as usize);
    let offsets = if first == 0 {
        offsets.inner().inner().clone()
    } else {
        Buffer::from_vec(offsets.iter().map(|offset| offset - first).collect::<Vec<i32>>())
    };
    Varlen { offsets, data, validity: validity(array) }
}

fn validity(array: &ArrayRef) -> Buffer {
    match array.nulls() {
        Some(nulls) if nulls.null_count() > 0 => bits(nulls.inner()),
        Some(_) | None => Buffer::from(&[] as &[u8]),
    }
}

/// The bits from bit 0 on. What lies behind the last belongs to the next rows and must not be seen: it is cleared.
fn bits(values: &BooleanBuffer) -> Buffer {
    let buffer = values.sliced();
    let used = values.len() % 8;
    match buffer.last() {
        Some(last) if used != 0 && last >> used != 0 => {
            let mut own = buffer.to_vec();
            if let Some(last) = own.last_mut() {
                *last &= (1 << used) - 1;
            }
            Buffer::from_vec(own)
        }
        Some(_) | None => buffer,
    }
}

type Converted = std::result::Result<ArrayRef, arrow::error::ArrowError>;

fn convert(array: &ArrayRef, ty: Type) -> Converted {
    let to = match ty {
        Type::Boolean => DataType::Boolean,
        Type::Int32 => DataType::Int32,
        Type::Int64 => DataType::Int64,
        Type::Float64 => DataType::Float64,
        Type::Date32 => DataType::Date32,
        Type::TimestampUs => match array.data_type() {
            DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
            other => other.clone(),
        },
        Type::Decimal => array.data_type().clone(),
        Type::Utf8 if array.data_type().is_temporal() || array.data_type().is_decimal() => return written(array),
        Type::Utf8 => DataType::Utf8,
        Type::Binary => DataType::Binary,
        Type::Json => return json(array),
    };
    if *array.data_type() == to {
        return Ok(Arc::clone(array));
    }
    // not safe: a value that does not fit must fail, not become null
    cast_with_options(array, &to, &CastOptions { safe: false, ..CastOptions::default() })
}

/// Dates, times and decimals as text. A time beyond the 262,000 years around now has none, and is null: only a record's
/// own timestamp can be such, and a producer's nonsense there must not stop the pipeline.
fn written(array: &ArrayRef) -> Converted {
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(array.as_ref(), &options)?;
    let text = |row| if array.is_null(row) { None } else { formatter.value(row).try_to_string().ok() };
    Ok(Arc::new((0..array.len()).map(text).collect::<StringArray>()))
}

/// One JSON value a row; a null row is null, not the text `null`. Bytes become base64, as JSON has none.
fn json(array: &ArrayRef) -> Converted {
    if let DataType::Binary | DataType::LargeBinary | DataType::BinaryView = array.data_type() {
        return base64(array);
    }
    let field = Arc::new(Field::new("value", array.data_type().clone(), true));
    let options = EncoderOptions::default().with_explicit_nulls(true);
    let mut encoder = make_encoder(&field, array.as_ref(), &options)?;
    let mut offsets = Vec::with_capacity(array.len() + 1);
    let mut data = Vec::new();
    offsets.push(0i32);
    for row in 0..array.len() {
        if !array.is_null(row) {
            encoder.encode(row, &mut data);
        }
        offsets.push(i32::try_from(data.len()).map_err(|_| arrow::error::ArrowError::OffsetOverflowError(data.len()))?);
    }
    let offsets = OffsetBuffer::new(offsets.into());
    let nulls: Option<NullBuffer> = array.nulls().cloned();
    Ok(Arc::new(StringArray::try_new(offsets, Buffer::from_vec(data), nulls)?))
}

fn base64(array: &ArrayRef) -> Converted {
    use base64::Engine as _;
    let array = cast_with_options(array, &DataType::Binary, &CastOptions { safe: false, ..CastOptions::default() })?;
    let bytes: &BinaryArray = array.as_binary();
    let text = |value| format!("\"{}\"", base64::engine::general_purpose::STANDARD.encode::<&[u8]>(value));
    Ok(Arc::new(bytes.iter().map(|value| value.map(text)).collect::<StringArray>()))
}

#[cfg(test)]
mod tests {
    use arrow::array::{BooleanArray, Decimal128Array, Int16Array, Int32Array, StructArray, TimestampMicrosecondArray};

    use super::*;

    fn prepared(ty: Type, array: ArrayRef) -> Prepared {
        Prepared { rows: array.len(), columns: vec![Some((ty, convert(&array, ty).unwrap()))] }
    }

    fn only(prepared: &Prepared, rows: Range<usize>) -> Passed {
        prepared.slice(rows).pop().unwrap()
    }

    #[test]
    fn buffers_that_start_at_zero_are_not_copied() {
        let array: ArrayRef = Arc::new(StringArray::from(vec![Some("ab"), None, Some("cde")]));
        let Passed::Utf8(v) = only(&prepared(Type::Utf8, Arc::clone(&array)), 0..3) else { panic!() };
        assert_eq!(v.data.as_ptr(), array.as_string::<i32>().values().as_ptr());
        assert_eq!(v.offsets.as_ptr(), array.as_string::<i32>().offsets().inner().inner().as_ptr());
        assert_eq!(v.validity.as_slice(), [0b101]);
    }

    #[test]
    fn slices_are_rebased_and_realigned() {
        let array: ArrayRef = Arc::new(StringArray::from(vec![Some("ab"), None, Some("cde"), Some("f")]));
        let Passed::Utf8(v) = only(&prepared(Type::Utf8, array), 1..3) else { panic!() };
        assert_eq!(v.offsets.typed_data::<i32>(), [0, 0, 3]);
        assert_eq!(v.data.as_slice(), b"cde");
        assert_eq!(v.validity.as_slice(), [0b10]);

        let flags: ArrayRef = Arc::new(BooleanArray::from((0..20).map(|i| i % 3 == 0).collect::<Vec<_>>()));
        let all = prepared(Type::Boolean, flags);
        for (rows, expected) in [(0..3, vec![0b001u8]), (3..12, vec![0b0100_1001, 0]), (9..10, vec![1]), (4..4, vec![])]
        {
            let Passed::Boolean(v) = only(&all, rows.clone()) else { panic!() };
            assert_eq!(v.data.as_slice(), expected, "{rows:?}");
            assert!(v.validity.is_empty());
        }
    }

    #[test]
    fn wider_types_are_made() {
        let small: ArrayRef = Arc::new(Int16Array::from(vec![Some(-2), None]));
        let Passed::Int64(v) = only(&prepared(Type::Int64, Arc::clone(&small)), 0..1) else { panic!() };
        assert_eq!(v.data.typed_data::<i64>(), [-2]);
        let Passed::Float64(v) = only(&prepared(Type::Float64, small), 0..1) else { panic!() };
        assert_eq!(v.data.typed_data::<f64>(), [-2.0]);
    }

    #[test]
    fn values_become_text() {
        let time: ArrayRef =
            Arc::new(TimestampMicrosecondArray::from(vec![1_763_672_591_482_000]).with_timezone("UTC"));
        let price: ArrayRef = Arc::new(Decimal128Array::from(vec![12345]).with_precision_and_scale(10, 2).unwrap());
        let number: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None]));
        let nested: ArrayRef =
            Arc::new(StructArray::from(vec![(Arc::new(Field::new("a", DataType::Int32, true)), Arc::clone(&number))]));
        let never: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![i64::MAX]).with_timezone("UTC"));
        let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![&b"\xff"[..]]));
        for (array, ty, expected) in [
            (time, Type::Utf8, "2025-11-20T21:03:11.482Z"),
            (never, Type::Utf8, ""),
            (price, Type::Utf8, "123.45"),
            (nested, Type::Json, r#"{"a":1}{"a":null}"#),
            (number, Type::Json, "1"),
            (bytes, Type::Json, r#""/w==""#),
        ] {
            let rows = array.len();
            let (Passed::Utf8(v) | Passed::Json(v)) = only(&prepared(ty, array), 0..rows) else { panic!() };
            assert_eq!(std::str::from_utf8(&v.data).unwrap(), expected);
        }
    }

    #[test]
    fn calls_are_cut_by_bytes_first_then_rows() {
        let array: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(96); 64]));
        let prepared = prepared(Type::Utf8, array);
        for (call_rows, call_bytes, expected) in [
            (4096, 1 << 20, vec![64]),
            (40, 1 << 20, vec![40, 24]),
            (4096, 2500, vec![24, 24, 16]),
            (4096, 10, vec![1; 64]),
            (0, 0, vec![1; 64]),
        ] {
            let limits = Limits { call_rows, call_bytes, ..crate::plugin::tests::limits() };
            let lens: Vec<usize> = prepared.pieces(&limits).into_iter().map(|r| r.len()).collect();
            assert_eq!(lens, expected, "{call_rows} {call_bytes}");
        }
    }
}
