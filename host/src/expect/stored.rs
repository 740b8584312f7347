//! Which types a table stores, and as what.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};

use crate::columns;
use crate::schema::name::sql_name;

/// The plain type in which values are stored, or `None` where there is none.
pub(crate) fn storable(found: &DataType) -> Option<DataType> {
    let inner = |field: &FieldRef| {
        Some(Arc::new(field.as_ref().clone().with_data_type(storable(field.data_type())?).with_nullable(true)))
    };
    Some(match found {
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Decimal128(..)
        | DataType::Date32
        | DataType::Utf8
        | DataType::Binary => found.clone(),
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Decimal256(precision, scale) => DataType::Decimal128(38.min(*precision), *scale),
        DataType::Date64 => DataType::Date32,
        DataType::Timestamp(..) => columns::timestamp_type(),
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Dictionary(_, value) => storable(value)?,
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => DataType::List(inner(item)?),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inner).collect::<Option<_>>()?),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) if pair.iter().all(|f| storable(f.data_type()).as_ref() == Some(f.data_type())) => {
                found.clone()
            }
            _ => return None,
        },
        _ => return None,
    })
}

/// The type, as it reads on from "is".
pub(crate) fn described(data_type: &DataType) -> String {
    match data_type {
        DataType::Null => "always null".to_owned(),
        other => sql_name(other),
    }
}
