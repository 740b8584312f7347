//! Columns under construction: appended to value by value, truncated to a row's start when its record fails.
//!
//! Arrow's own builders cannot forget a value, and a record is only known to be good at its end.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::types::{Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type};
use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, BooleanBufferBuilder, Decimal128Array, ListArray,
    MapArray, NullBufferBuilder, PrimitiveArray, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, FieldRef, Fields, TimeUnit};

use crate::schema::name::sql_name;

/// One column: its validity and its values.
pub(super) struct Column {
    data_type: DataType,
    validity: NullBufferBuilder,
    pub(super) kind: Kind,
    /// bytes that a value takes beside its text and its items
    pub(super) width: usize,
}

/// The values of a column; in the place of a null stands zero, or nothing where the width varies.
pub(super) enum Kind {
    Boolean(BooleanBufferBuilder),
    /// any width: narrowed at the end, checked against the limits before
    Int {
        values: Vec<i64>,
        min: i64,
        max: i64,
    },
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal {
        values: Vec<i128>,
        scale: i8,
        /// 10^precision: every absolute value is below
        limit: i128,
    },
    Date(Vec<i32>),
    Timestamp {
        values: Vec<i64>,
        zoned: bool,
    },
    Text(Bytes),
    Binary(Bytes),
    Struct(Object),
    List {
        offsets: Vec<i32>,
        items: Box<Column>,
    },
    Map {
        offsets: Vec<i32>,
        keys: Bytes,
        values: Box<Column>,
    },
}

/// Values of varying width, end to end.
pub(super) struct Bytes {
    offsets: Vec<i32>,
    pub(super) data: Vec<u8>,
}

/// The fields of a struct, and which of them the object at hand has shown.
pub(super) struct Object {
    pub(super) names: Vec<Arc<str>>,
    pub(super) children: Vec<Column>,
    index: HashMap<Arc<str>, usize>,
    /// field → the last object that had it
    seen: Vec<u64>,
    /// number of the object at hand
    current: u64,
}

/// A type that no JSON value is decoded to.
#[derive(Debug)]
pub(super) struct Unsupported(pub(super) DataType);

impl Column {
    /// An empty column.
    pub(super) fn new(data_type: &DataType) -> Result<Self, Unsupported> {
        let int = |min, max| Kind::Int { values: Vec::new(), min, max };
        let kind = match data_type {
            DataType::Boolean => Kind::Boolean(BooleanBufferBuilder::new(0)),
            DataType::Int8 => int(i8::MIN.into(), i8::MAX.into()),
            DataType::Int16 => int(i16::MIN.into(), i16::MAX.into()),
            DataType::Int32 => int(i32::MIN.into(), i32::MAX.into()),
            DataType::Int64 => int(i64::MIN, i64::MAX),
            DataType::Float32 => Kind::Float32(Vec::new()),
            DataType::Float64 => Kind::Float64(Vec::new()),
            DataType::Decimal128(precision, scale) => {
                Kind::Decimal { values: Vec::new(), scale: *scale, limit: 10_i128.pow(u32::from(*precision).min(38)) }
            }
            DataType::Date32 => Kind::Date(Vec::new()),
            DataType::Timestamp(TimeUnit::Microsecond, zone) if zone.as_deref().is_none_or(|z| z == "UTC") => {
                Kind::Timestamp { values: Vec::new(), zoned: zone.is_some() }
            }
            DataType::Utf8 => Kind::Text(Bytes::new()),
            DataType::Binary => Kind::Binary(Bytes::new()),
            DataType::Struct(fields) => Kind::Struct(Object::new(fields)?),
            DataType::List(item) => Kind::List { offsets: vec![0], items: Box::new(Column::new(item.data_type())?) },
            DataType::Map(entries, _) => match map_fields(entries) {
                Some([key, value]) if *key.data_type() == DataType::Utf8 => Kind::Map {
                    offsets: vec![0],
                    keys: Bytes::new(),
                    values: Box::new(Column::new(value.data_type())?),
                },
                _ => return Err(Unsupported(data_type.clone())),
            },
            other => return Err(Unsupported(other.clone())),
        };
        let width = kind.width();
        Ok(Column { data_type: data_type.clone(), validity: NullBufferBuilder::new(0), kind, width })
    }

    /// What a JSON value must be, for people.
    pub(super) fn expected(&self) -> &'static str {
        match &self.kind {
            Kind::Boolean(_) => "boolean",
            Kind::Int { .. } => "integer",
            Kind::Float32(_) | Kind::Float64(_) | Kind::Decimal { .. } => "number",
            Kind::Date(_) => "date",
            Kind::Timestamp { .. } => "timestamp",
            Kind::Text(_) => "text",
            Kind::Binary(_) => "base64 text",
            Kind::Struct(_) | Kind::Map { .. } => "object",
            Kind::List { .. } => "array",
        }
    }

    /// The type as a schema file names it.
    pub(super) fn type_name(&self) -> String {
        sql_name(&self.data_type)
    }

    /// Whether a value is decoded from a number's literal text.
    pub(super) fn is_numeric(&self) -> bool {
        matches!(self.kind, Kind::Int { .. } | Kind::Float32(_) | Kind::Float64(_) | Kind::Decimal { .. })
    }

    /// Notes that the value just pushed into [`Column::kind`] is one.
    pub(super) fn value_pushed(&mut self) {
        self.validity.append_non_null();
    }

    /// Appends a null.
    pub(super) fn push_null(&mut self) {
        self.validity.append_null();
        match &mut self.kind {
            Kind::Boolean(values) => values.append(false),
            Kind::Int { values, .. } | Kind::Timestamp { values, .. } => values.push(0),
            Kind::Float32(values) => values.push(0.0),
            Kind::Float64(values) => values.push(0.0),
            Kind::Decimal { values, .. } => values.push(0),
            Kind::Date(values) => values.push(0),
            Kind::Text(values) | Kind::Binary(values) => values.close(),
            Kind::Struct(object) => object.children.iter_mut().for_each(Column::push_null),
            Kind::List { offsets, .. } | Kind::Map { offsets, .. } => offsets.push(offsets[offsets.len() - 1]),
        }
    }

    /// Forgets everything after the first `len` values, also what belongs to a value that was never completed.
    pub(super) fn truncate(&mut self, len: usize) {
        self.validity.truncate(len);
        match &mut self.kind {
            Kind::Boolean(values) => values.truncate(len),
            Kind::Int { values, .. } | Kind::Timestamp { values, .. } => values.truncate(len),
            Kind::Float32(values) => values.truncate(len),
            Kind::Float64(values) => values.truncate(len),
            Kind::Decimal { values, .. } => values.truncate(len),
            Kind::Date(values) => values.truncate(len),
            Kind::Text(values) | Kind::Binary(values) => values.truncate(len),
            Kind::Struct(object) => object.children.iter_mut().for_each(|child| child.truncate(len)),
            Kind::List { offsets, items } => {
                offsets.truncate(len + 1);
                items.truncate(offsets[len] as usize);
            }
            Kind::Map { offsets, keys, values } => {
                offsets.truncate(len + 1);
                keys.truncate(offsets[len] as usize);
                values.truncate(offsets[len] as usize);
            }
        }
    }

    /// The finished array; the column is empty again, with room for as much.
    pub(super) fn finish(&mut self) -> ArrayRef {
        let nulls = self.validity.finish();
        match &mut self.kind {
            Kind::Boolean(values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Kind::Int { values, .. } => match self.data_type {
                DataType::Int8 => narrowed::<Int8Type>(values, nulls, |v| v as i8),
                DataType::Int16 => narrowed::<Int16Type>(values, nulls, |v| v as i16),
                DataType::Int32 => narrowed::<Int32Type>(values, nulls, |v| v as i32),
                _ => primitive::<Int64Type>(values, nulls),
            },
            Kind::Float32(values) => primitive::<Float32Type>(values, nulls),
            Kind::Float64(values) => primitive::<Float64Type>(values, nulls),
            Kind::Decimal { values, .. } => {
                Arc::new(Decimal128Array::new(taken(values).into(), nulls).with_data_type(self.data_type.clone()))
            }
            Kind::Date(values) => primitive::<Date32Type>(values, nulls),
            Kind::Timestamp { values, .. } => {
                let array = TimestampMicrosecondArray::new(taken(values).into(), nulls);
                Arc::new(array.with_data_type(self.data_type.clone()))
            }
            Kind::Text(values) => {
                let (offsets, data) = values.finish();
                Arc::new(StringArray::new(offsets, data, nulls))
            }
            Kind::Binary(values) => {
                let (offsets, data) = values.finish();
                Arc::new(BinaryArray::new(offsets, data, nulls))
            }
            Kind::Struct(object) => {
                let DataType::Struct(fields) = &self.data_type else { unreachable!("made from this type") };
                let len = nulls.as_ref().map(NullBuffer::len);
                let children: Vec<ArrayRef> = object.children.iter_mut().map(Column::finish).collect();
                let len = len.or_else(|| children.first().map(|c| c.len())).unwrap_or(0);
                Arc::new(
                    StructArray::try_new_with_length(fields.clone(), children, nulls, len)
                        .expect("every child was given one value a row, and is nullable"),
                )
            }
            Kind::List { offsets, items } => {
                let DataType::List(item) = &self.data_type else { unreachable!("made from this type") };
                Arc::new(ListArray::new(item.clone(), finished(offsets), items.finish(), nulls))
            }
            Kind::Map { offsets, keys, values } => {
                let DataType::Map(entries, sorted) = &self.data_type else { unreachable!("made from this type") };
                let DataType::Struct(fields) = entries.data_type() else { unreachable!("checked at the start") };
                let (key_offsets, key_data) = keys.finish();
                let keys = Arc::new(StringArray::new(key_offsets, key_data, None));
                let pairs = StructArray::new(fields.clone(), vec![keys, values.finish()], None);
                Arc::new(MapArray::new(entries.clone(), finished(offsets), pairs, nulls, *sorted))
            }
        }
    }
}

impl Kind {
    fn width(&self) -> usize {
        match self {
            Kind::Boolean(_) => 1,
            Kind::Int { .. } | Kind::Float64(_) | Kind::Timestamp { .. } => 8,
            Kind::Float32(_) | Kind::Date(_) | Kind::Text(_) | Kind::Binary(_) => 4,
            Kind::List { .. } | Kind::Map { .. } => 4,
            Kind::Decimal { .. } => 16,
            Kind::Struct(object) => object.children.iter().map(|child| child.width).sum::<usize>().max(1),
        }
    }
}

impl Bytes {
    fn new() -> Self {
        Bytes { offsets: vec![0], data: Vec::new() }
    }

    /// Appends a value.
    pub(super) fn push(&mut self, value: &[u8]) {
        self.data.extend_from_slice(value);
        self.close();
    }

    /// Makes one value of what was added to `data` since the last one.
    pub(super) fn close(&mut self) {
        // a value is never longer than its JSON, and `decode` refuses batches beyond 31 bits
        self.offsets.push(self.data.len() as i32);
    }

    /// Values that were closed.
    pub(super) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// A value.
    pub(super) fn get(&self, index: usize) -> &[u8] {
        &self.data[self.offsets[index] as usize..self.offsets[index + 1] as usize]
    }

    fn truncate(&mut self, len: usize) {
        self.offsets.truncate(len + 1);
        self.data.truncate(self.offsets[len] as usize);
    }

    fn finish(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        (finished(&mut self.offsets), Buffer::from_vec(taken(&mut self.data)))
    }
}

impl Object {
    /// A struct of these fields, without values.
    fn new(fields: &Fields) -> Result<Self, Unsupported> {
        let names: Vec<Arc<str>> = fields.iter().map(|f| f.name().as_str().into()).collect();
        Ok(Object {
            children: fields.iter().map(|f| Column::new(f.data_type())).collect::<Result<_, _>>()?,
            index: names.iter().enumerate().map(|(i, name)| (name.clone(), i)).collect(),
            seen: vec![0; names.len()],
            names,
            current: 0,
        })
    }

    /// Begins an object.
    pub(super) fn open(&mut self) {
        self.current += 1;
    }

    /// The field of this name; `guess` is where it probably is, since producers write keys in one order.
    pub(super) fn field(&self, name: &str, guess: usize) -> Option<usize> {
        match self.names.get(guess) {
            Some(guessed) if **guessed == *name => Some(guess),
            _ => self.index.get(name).copied(),
        }
    }

    /// Notes that the object has this field; false if it had it before.
    pub(super) fn is_first(&mut self, field: usize) -> bool {
        std::mem::replace(&mut self.seen[field], self.current) != self.current
    }

    /// Ends an object that showed `shown` different fields: the others are null.
    pub(super) fn close(&mut self, shown: usize) {
        if shown == self.children.len() {
            return;
        }
        for (child, seen) in self.children.iter_mut().zip(&self.seen) {
            if *seen != self.current {
                child.push_null();
            }
        }
    }
}

/// Key and value of a map's entries.
fn map_fields(entries: &FieldRef) -> Option<[&FieldRef; 2]> {
    match entries.data_type() {
        DataType::Struct(fields) => match fields.iter().collect::<Vec<_>>()[..] {
            [key, value] => Some([key, value]),
            _ => None,
        },
        _ => None,
    }
}

/// The values, leaving an empty vector with as much room behind: the next batch is about as large.
fn taken<T>(values: &mut Vec<T>) -> Vec<T> {
    let room = Vec::with_capacity(values.len());
    std::mem::replace(values, room)
}

fn finished(offsets: &mut Vec<i32>) -> OffsetBuffer<i32> {
    let done = taken(offsets);
    offsets.push(0);
    OffsetBuffer::new(ScalarBuffer::from(done))
}

fn primitive<T: ArrowPrimitiveType>(values: &mut Vec<T::Native>, nulls: Option<NullBuffer>) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(taken(values)), nulls))
}

fn narrowed<T: ArrowPrimitiveType>(
    values: &mut Vec<i64>,
    nulls: Option<NullBuffer>,
    narrow: impl Fn(i64) -> T::Native,
) -> ArrayRef {
    let narrowed = values.iter().map(|v| narrow(*v)).collect::<Vec<_>>();
    values.clear();
    Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(narrowed), nulls))
}
