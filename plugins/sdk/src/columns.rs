//! What an enricher adds: a struct with a field per column, appended to buffers that cross the boundary as they are.

use crate::batch::{Column, Fixed, LogicalType, PluginError, Varlen};
use crate::values::{Date32, Decimal, Timestamp};

pub use sluice_macros::Columns;

/// A column that an enricher adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    /// its name in the row
    pub name: &'static str,
    /// its type
    pub ty: LogicalType,
    /// for decimals: digits in all; otherwise 0
    pub precision: u8,
    /// for decimals: digits behind the point; otherwise 0
    pub scale: i8,
}

/// The columns that an enricher adds, one field each. Derive it.
///
/// A column's name is its field's, or what `#[column("name")]` says. A decimal says its digits: `#[column(decimal(10, 2))]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not what an enricher adds",
    label = "an enricher returns a struct with `#[derive(Columns)]`, or a `Vec` of it"
)]
pub trait Columns: Sized {
    /// One builder per column.
    type Builders: Default;
    /// In the order of the fields.
    const PRODUCES: &'static [Produced];
    /// Appends a row.
    fn push(self, builders: &mut Self::Builders);
    /// The columns.
    fn finish(builders: Self::Builders) -> Result<Vec<Column>, PluginError>;
}

/// What a field of an added struct may be: one of these types, or an `Option` of it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an added column",
    label = "not a type that a column can have",
    note = "one of bool, i32, i64, f64, &str, String, &[u8], Vec<u8>, Date32, Timestamp, Decimal, serde_json::Value, or an `Option` of it"
)]
pub trait Put {
    /// What its column is.
    const TYPE: LogicalType;
    /// Collects the column.
    type Builder: Builder;
    /// Appends the value.
    fn put(self, builder: &mut Self::Builder);
}

/// Collects a column.
pub trait Builder: Default {
    /// Appends a null.
    fn null(&mut self);
    /// The column.
    fn finish(self, produced: &Produced) -> Result<Column, PluginError>;
}

impl<T: Put> Put for Option<T> {
    const TYPE: LogicalType = T::TYPE;
    type Builder = T::Builder;
    fn put(self, builder: &mut T::Builder) {
        match self {
            Some(value) => value.put(builder),
            None => builder.null(),
        }
    }
}

/// Bits, least significant first.
#[derive(Default)]
pub(crate) struct Bits {
    bytes: Vec<u8>,
    len: usize,
    unset: usize,
}

impl Bits {
    pub(crate) fn push(&mut self, bit: bool) {
        if self.len.is_multiple_of(8) {
            self.bytes.push(0);
        }
        if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(bit) << (self.len % 8);
        }
        self.len += 1;
        self.unset += usize::from(!bit);
    }

    /// As a validity bitmap: empty where nothing is null.
    pub(crate) fn into_validity(self) -> Vec<u8> {
        if self.unset == 0 { Vec::new() } else { self.bytes }
    }
}

/// Collects true and false.
#[derive(Default)]
pub struct FlagBuilder {
    values: Bits,
    validity: Bits,
}

impl Builder for FlagBuilder {
    fn null(&mut self) {
        self.values.push(false);
        self.validity.push(false);
    }
    fn finish(self, _: &Produced) -> Result<Column, PluginError> {
        Ok(Column::Boolean(Fixed { data: self.values.bytes, validity: self.validity.into_validity() }))
    }
}

impl Put for bool {
    const TYPE: LogicalType = LogicalType::Boolean;
    type Builder = FlagBuilder;
    fn put(self, builder: &mut FlagBuilder) {
        builder.values.push(self);
        builder.validity.push(true);
    }
}

/// Collects values of one width.
pub struct ValueBuilder<T> {
    data: Vec<u8>,
    validity: Bits,
    value: std::marker::PhantomData<T>,
}

impl<T> Default for ValueBuilder<T> {
    fn default() -> Self {
        ValueBuilder { data: Vec::new(), validity: Bits::default(), value: std::marker::PhantomData }
    }
}

macro_rules! put_values {
    ($($ty:ty, $column:ident, $width:literal, $bytes:expr;)*) => {$(
        impl Builder for ValueBuilder<$ty> {
            fn null(&mut self) {
                self.data.extend([0; $width]);
                self.validity.push(false);
            }
            fn finish(self, _: &Produced) -> Result<Column, PluginError> {
                Ok(Column::$column(Fixed { data: self.data, validity: self.validity.into_validity() }))
            }
        }

        impl Put for $ty {
            const TYPE: LogicalType = LogicalType::$column;
            type Builder = ValueBuilder<$ty>;
            fn put(self, builder: &mut Self::Builder) {
                let bytes: [u8; $width] = $bytes(self);
                builder.data.extend(bytes);
                builder.validity.push(true);
            }
        }
    )*};
}

put_values! {
    i32, Int32, 4, i32::to_le_bytes;
    i64, Int64, 8, i64::to_le_bytes;
    f64, Float64, 8, f64::to_le_bytes;
    Date32, Date32, 4, |day: Date32| day.0.to_le_bytes();
    Timestamp, TimestampUs, 8, |at: Timestamp| at.0.to_le_bytes();
}

/// Collects decimals; they are brought to the column's scale at the end.
#[derive(Default)]
pub struct DecimalBuilder(Vec<Option<Decimal>>);

impl Builder for DecimalBuilder {
    fn null(&mut self) {
        self.0.push(None);
    }

    fn finish(self, produced: &Produced) -> Result<Column, PluginError> {
        let Produced { name, precision, scale, .. } = *produced;
        let mut fixed = Fixed::default();
        let mut validity = Bits::default();
        for value in self.0 {
            validity.push(value.is_some());
            let unscaled = match value {
                None => 0,
                Some(value) => rescale(value, precision, scale).ok_or_else(|| {
                    PluginError::Internal(format!("`{name}`: {value} does not fit decimal({precision}, {scale})"))
                })?,
            };
            fixed.data.extend(unscaled.to_le_bytes());
        }
        fixed.validity = validity.into_validity();
        Ok(Column::Decimal { precision, scale, values: fixed })
    }
}

/// The unscaled value at another scale, where no digit is lost.
fn rescale(value: Decimal, precision: u8, scale: i8) -> Option<i128> {
    let shift = i32::from(scale) - i32::from(value.scale);
    let factor = 10i128.checked_pow(shift.unsigned_abs())?;
    let unscaled = match shift {
        0.. => value.unscaled.checked_mul(factor)?,
        _ if value.unscaled % factor == 0 => value.unscaled / factor,
        _ => return None,
    };
    (unscaled.unsigned_abs() < 10u128.checked_pow(precision.into())?).then_some(unscaled)
}

impl Put for Decimal {
    const TYPE: LogicalType = LogicalType::Decimal;
    type Builder = DecimalBuilder;
    fn put(self, builder: &mut DecimalBuilder) {
        builder.0.push(Some(self));
    }
}

/// How a column of bytes is named.
pub trait Bytes {
    /// The column.
    fn column(varlen: Varlen) -> Column;
}

/// Text.
pub struct AsText;
/// Bytes.
pub struct AsBlob;
/// JSON.
pub struct AsJson;

impl Bytes for AsText {
    fn column(varlen: Varlen) -> Column {
        Column::Utf8(varlen)
    }
}
impl Bytes for AsBlob {
    fn column(varlen: Varlen) -> Column {
        Column::Binary(varlen)
    }
}
impl Bytes for AsJson {
    fn column(varlen: Varlen) -> Column {
        Column::Json(varlen)
    }
}

/// Collects text or bytes.
pub struct BytesBuilder<K> {
    ends: Vec<usize>,
    data: Vec<u8>,
    validity: Bits,
    kind: std::marker::PhantomData<K>,
}

impl<K> Default for BytesBuilder<K> {
    fn default() -> Self {
        BytesBuilder { ends: Vec::new(), data: Vec::new(), validity: Bits::default(), kind: std::marker::PhantomData }
    }
}

impl<K> BytesBuilder<K> {
    fn push(&mut self, bytes: &[u8]) {
        self.data.extend_from_slice(bytes);
        self.ends.push(self.data.len());
        self.validity.push(true);
    }
}

impl<K: Bytes> Builder for BytesBuilder<K> {
    fn null(&mut self) {
        self.ends.push(self.data.len());
        self.validity.push(false);
    }

    fn finish(self, produced: &Produced) -> Result<Column, PluginError> {
        let mut offsets = Vec::with_capacity(4 * (self.ends.len() + 1));
        for end in std::iter::once(0).chain(self.ends) {
            let end = i32::try_from(end)
                .map_err(|_| PluginError::Internal(format!("`{}` is longer than 2 GiB in one batch", produced.name)))?;
            offsets.extend(end.to_le_bytes());
        }
        Ok(K::column(Varlen { offsets, data: self.data, validity: self.validity.into_validity() }))
    }
}

macro_rules! put_bytes {
    ($($ty:ty, $column:ident, $kind:ty, |$value:ident| $bytes:expr;)*) => {$(
        impl Put for $ty {
            const TYPE: LogicalType = LogicalType::$column;
            type Builder = BytesBuilder<$kind>;
            fn put(self, builder: &mut Self::Builder) {
                let $value = self;
                builder.push($bytes);
            }
        }
    )*};
}

put_bytes! {
    &str, Utf8, AsText, |text| text.as_bytes();
    String, Utf8, AsText, |text| text.as_bytes();
    &[u8], Binary, AsBlob, |bytes| bytes;
    Vec<u8>, Binary, AsBlob, |bytes| &bytes;
    serde_json::Value, Json, AsJson, |value| value.to_string().as_bytes();
}
