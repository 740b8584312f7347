//! Columns that are read value by value, straight out of the buffers that the host filled.
//!
//! [`Cell::open`] proves lengths once per batch; `get` then costs a bit test and a bounds check.

use std::marker::PhantomData;

use super::Cell;
use crate::batch::{Column, Fixed, LogicalType, Varlen};
use crate::values::{Date32, Decimal, Json, Timestamp};

/// Which values are present. Of all and of none one byte tells: read without asking which it is, since in a component every
/// branch of a row costs fuel and time.
#[derive(Clone, Copy, Debug)]
struct Validity<'a> {
    bits: &'a [u8],
    /// what remains of a byte's index: all of it, or nothing
    mask: usize,
}

impl<'a> Validity<'a> {
    const ALL: Validity<'static> = Validity { bits: &[0xff], mask: 0 };
    const NEVER: Validity<'static> = Validity { bits: &[0], mask: 0 };

    /// An empty bitmap means that nothing is null. `None` if the bitmap is too short.
    fn open(bits: &'a [u8], rows: usize) -> Option<Self> {
        match bits {
            [] => Some(Validity::ALL),
            bits if bits.len() >= rows.div_ceil(8) => Some(Validity { bits, mask: usize::MAX }),
            _ => None,
        }
    }

    #[inline(always)]
    fn has(self, row: usize) -> bool {
        self.bits[(row / 8) & self.mask] >> (row % 8) & 1 == 1
    }
}

/// A column of true and false.
#[derive(Clone, Copy, Debug)]
pub struct Flags<'a> {
    bits: &'a [u8],
    validity: Validity<'a>,
}

impl<'a> Flags<'a> {
    fn open(fixed: &'a Fixed, rows: usize) -> Option<Self> {
        let validity = Validity::open(&fixed.validity, rows)?;
        (fixed.data.len() >= rows.div_ceil(8)).then_some(Flags { bits: &fixed.data, validity })
    }

    /// The value at `row`; none = null.
    #[inline(always)]
    pub fn get(&self, row: usize) -> Option<bool> {
        self.validity.has(row).then(|| self.bits[row / 8] >> (row % 8) & 1 == 1)
    }
}

/// How a value of `N` bytes is read.
pub trait FromBytes<const N: usize>: Copy {
    /// Little-endian.
    fn from_bytes(bytes: [u8; N]) -> Self;
}

macro_rules! from_bytes {
    ($($ty:ty, $n:literal, $make:expr;)*) => {$(
        impl FromBytes<$n> for $ty {
            #[inline(always)]
            fn from_bytes(bytes: [u8; $n]) -> Self {
                $make(bytes)
            }
        }
    )*};
}

from_bytes! {
    i32, 4, i32::from_le_bytes;
    i64, 8, i64::from_le_bytes;
    f64, 8, f64::from_le_bytes;
    i128, 16, i128::from_le_bytes;
    Date32, 4, |bytes| Date32(i32::from_le_bytes(bytes));
    Timestamp, 8, |bytes| Timestamp(i64::from_le_bytes(bytes));
}

/// A column of values that are `N` bytes wide.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a, T, const N: usize> {
    values: &'a [[u8; N]],
    validity: Validity<'a>,
    value: PhantomData<T>,
}

impl<'a, T: FromBytes<N>, const N: usize> Values<'a, T, N> {
    fn open(fixed: &'a Fixed, rows: usize) -> Option<Self> {
        let validity = Validity::open(&fixed.validity, rows)?;
        let (values, _) = fixed.data.as_chunks::<N>();
        (values.len() >= rows).then_some(Values { values, validity, value: PhantomData })
    }

    fn absent() -> Self {
        Values { values: &[], validity: Validity::NEVER, value: PhantomData }
    }

    /// The value at `row`; none = null.
    #[inline(always)]
    pub fn get(&self, row: usize) -> Option<T> {
        self.validity.has(row).then(|| T::from_bytes(self.values[row]))
    }
}

/// A column of decimals.
#[derive(Clone, Copy, Debug)]
pub struct Decimals<'a> {
    values: Values<'a, i128, 16>,
    scale: i8,
}

impl Decimals<'_> {
    /// The value at `row`; none = null.
    #[inline(always)]
    pub fn get(&self, row: usize) -> Option<Decimal> {
        self.values.get(row).map(|unscaled| Decimal { unscaled, scale: self.scale })
    }
}

/// A column of bytes.
#[derive(Clone, Copy, Debug)]
pub struct Blobs<'a> {
    offsets: &'a [[u8; 4]],
    data: &'a [u8],
    validity: Validity<'a>,
}

impl<'a> Blobs<'a> {
    fn open(varlen: &'a Varlen, rows: usize) -> Option<Self> {
        let validity = Validity::open(&varlen.validity, rows)?;
        let (offsets, _) = varlen.offsets.as_chunks::<4>();
        (offsets.len() > rows).then_some(Blobs { offsets, data: &varlen.data, validity })
    }

    fn absent() -> Self {
        Blobs { offsets: &[], data: &[], validity: Validity::NEVER }
    }

    /// The value at `row`; none = null.
    #[inline(always)]
    pub fn get(&self, row: usize) -> Option<&'a [u8]> {
        self.validity.has(row).then(|| {
            let at = |i: usize| u32::from_le_bytes(self.offsets[i]) as usize;
            &self.data[at(row)..at(row + 1)]
        })
    }
}

/// A column of text.
#[derive(Clone, Copy, Debug)]
pub struct Texts<'a>(Blobs<'a>);

impl<'a> Texts<'a> {
    /// The value at `row`; none = null.
    #[inline(always)]
    pub fn get(&self, row: usize) -> Option<&'a str> {
        // SAFETY: every value of a `utf8` and `json` column is valid UTF-8, by the contract and by `Varlen`, which only the
        // host and this crate fill. Checking again would cost more than all other work of a rule.
        self.0.get(row).map(|bytes| unsafe { std::str::from_utf8_unchecked(bytes) })
    }
}

/// A column of JSON values.
#[derive(Clone, Copy, Debug)]
pub struct Jsons<'a>(Texts<'a>);

impl<'a> Jsons<'a> {
    /// The value at `row`; none = null.
    #[inline(always)]
    pub fn get(&self, row: usize) -> Option<Json<'a>> {
        self.0.get(row).map(Json)
    }
}

macro_rules! cell {
    ($($value:ty, $column:ty, $ty:ident, $open:expr, $absent:expr;)*) => {$(
        impl<'a> Cell<'a> for Option<$value> {
            type Column = $column;
            const TYPE: LogicalType = LogicalType::$ty;

            fn open(column: &'a Column, rows: usize) -> Option<Self::Column> {
                match column {
                    Column::Absent => Some($absent),
                    Column::$ty(buffers) => $open(buffers, rows),
                    // the host passed another type than the one asked for
                    _ => None,
                }
            }

            #[inline(always)]
            fn read(column: &Self::Column, row: usize) -> Self {
                column.get(row)
            }
        }
    )*};
}

cell! {
    bool, Flags<'a>, Boolean, Flags::open, Flags { bits: &[], validity: Validity::NEVER };
    i32, Values<'a, i32, 4>, Int32, Values::open, Values::absent();
    i64, Values<'a, i64, 8>, Int64, Values::open, Values::absent();
    f64, Values<'a, f64, 8>, Float64, Values::open, Values::absent();
    Date32, Values<'a, Date32, 4>, Date32, Values::open, Values::absent();
    Timestamp, Values<'a, Timestamp, 8>, TimestampUs, Values::open, Values::absent();
    &'a [u8], Blobs<'a>, Binary, Blobs::open, Blobs::absent();
    &'a str, Texts<'a>, Utf8, |b, rows| Blobs::open(b, rows).map(Texts), Texts(Blobs::absent());
    Json<'a>, Jsons<'a>, Json, |b, rows| Blobs::open(b, rows).map(|b| Jsons(Texts(b))), Jsons(Texts(Blobs::absent()));
}

impl<'a> Cell<'a> for Option<Decimal> {
    type Column = Decimals<'a>;
    const TYPE: LogicalType = LogicalType::Decimal;

    fn open(column: &'a Column, rows: usize) -> Option<Self::Column> {
        match column {
            Column::Absent => Some(Decimals { values: Values::absent(), scale: 0 }),
            Column::Decimal { scale, values, .. } => {
                Some(Decimals { values: Values::open(values, rows)?, scale: *scale })
            }
            // the host passed another type than the one asked for
            _ => None,
        }
    }

    #[inline(always)]
    fn read(column: &Self::Column, row: usize) -> Self {
        column.get(row)
    }
}
