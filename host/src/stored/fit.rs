//! Stored values as the schema of today declares them, where that is exact.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Fields};
use arrow::error::ArrowError;
use serde_json::Value;

/// Whether stored values are what a record would decode to if its column were declared as `wanted`.
///
/// Other spellings of a type are; so is a narrower integer. A number that became a text, or a time that lost its zone, is
/// not: the decoder would have refused the one for the other.
pub(super) fn holds(stored: &DataType, wanted: &DataType) -> bool {
    use DataType as D;
    match (stored, wanted) {
        // how a reader hands over the columns that partition a table
        (D::Dictionary(_, value), wanted) => holds(value, wanted),
        (D::Utf8 | D::LargeUtf8 | D::Utf8View, D::Utf8) => true,
        (D::Binary | D::LargeBinary | D::BinaryView, D::Binary) => true,
        (D::Timestamp(one, Some(_)), D::Timestamp(other, Some(_)))
        | (D::Timestamp(one, None), D::Timestamp(other, None)) => one == other,
        (D::Int8, D::Int16 | D::Int32 | D::Int64) | (D::Int16, D::Int32 | D::Int64) | (D::Int32, D::Int64) => true,
        (D::Struct(stored), D::Struct(wanted)) => wanted
            .iter()
            .all(|field| stored.find(field.name()).is_some_and(|(_, kept)| holds(kept.data_type(), field.data_type()))),
        (D::List(stored), D::List(wanted)) => holds(stored.data_type(), wanted.data_type()),
        (D::Map(stored, _), D::Map(wanted, _)) => match (stored.data_type(), wanted.data_type()) {
            (D::Struct(stored), D::Struct(wanted)) => {
                stored.iter().zip(wanted).all(|(kept, field)| holds(kept.data_type(), field.data_type()))
            }
            (one, other) => one == other,
        },
        (one, other) => one == other,
    }
}

/// Whether a type in Delta's schema JSON has every field that `wanted` has, at any depth.
pub(super) fn covers(written: &Value, wanted: &DataType) -> bool {
    match wanted {
        DataType::Struct(fields) => fields
            .iter()
            .all(|field| super::child(written, field.name()).is_some_and(|written| covers(written, field.data_type()))),
        DataType::List(item) => covers(&written["elementType"], item.data_type()),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) => pair.last().is_none_or(|value| covers(&written["valueType"], value.data_type())),
            _ => true,
        },
        _ => true,
    }
}

/// The same values as another spelling of their type, which must [hold](holds) them; fields by their names.
pub(super) fn fit(stored: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, ArrowError> {
    Ok(match wanted {
        _ if stored.data_type() == wanted => stored.clone(),
        DataType::Struct(fields) => {
            Arc::new(fit_struct(stored.as_struct(), fields, |fields, name| fields.find(name).map(|(at, _)| at))?)
        }
        DataType::List(item) => {
            let list = stored.as_list::<i32>();
            let values = fit(list.values(), item.data_type())?;
            Arc::new(ListArray::try_new(item.clone(), list.offsets().clone(), values, list.nulls().cloned())?)
        }
        DataType::Map(field, sorted) => {
            let map = stored.as_map();
            let DataType::Struct(pair) = field.data_type() else { return cast(stored, wanted) };
            // writers do not agree on the names of key and value
            let mut next = 0..pair.len();
            let entries = fit_struct(map.entries(), pair, |_, _| next.next())?;
            Arc::new(MapArray::try_new(field.clone(), map.offsets().clone(), entries, map.nulls().cloned(), *sorted)?)
        }
        _ => cast(stored, wanted)?,
    })
}

fn fit_struct(
    stored: &StructArray,
    fields: &Fields,
    mut find: impl FnMut(&Fields, &str) -> Option<usize>,
) -> Result<StructArray, ArrowError> {
    let columns = fields
        .iter()
        .map(|field| match find(stored.fields(), field.name()) {
            Some(at) => fit(stored.column(at), field.data_type()),
            None => Ok(new_null_array(field.data_type(), stored.len())),
        })
        .collect::<Result<Vec<_>, _>>()?;
    StructArray::try_new(fields.clone(), columns, stored.nulls().cloned())
}
