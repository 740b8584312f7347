//! JSON → the cells that a case's row has, as the host would pass them; and added cells → JSON.

use serde_json::{Number, Value};

use crate::batch::{Column, LogicalType};
use crate::columns::{Builder, Produced, Put};
use crate::plugin::ColumnRequest;
use crate::row::Cell;
use crate::values::{Date32, Decimal, Json, Timestamp};

/// The column that a plugin asks for, over the rows of cases.
pub(super) fn column(rows: &[&Value], request: &ColumnRequest) -> Result<Column, String> {
    let ColumnRequest { path, ty, .. } = request;
    let wrong = |value: &Value| format!("`{path}` is read as {ty:?}, and {value} is none");
    match ty {
        LogicalType::Boolean => build(rows, path, |value| value.as_bool().ok_or_else(|| wrong(value))),
        LogicalType::Int32 => build(rows, path, |value| {
            value.as_i64().and_then(|value| i32::try_from(value).ok()).ok_or_else(|| wrong(value))
        }),
        LogicalType::Int64 => build(rows, path, |value| value.as_i64().ok_or_else(|| wrong(value))),
        LogicalType::Float64 => build(rows, path, |value| value.as_f64().ok_or_else(|| wrong(value))),
        LogicalType::Date32 => build(rows, path, |value| parse::<Date32>(value, &wrong)),
        LogicalType::TimestampUs => build(rows, path, |value| parse::<Timestamp>(value, &wrong)),
        LogicalType::Utf8 => build(rows, path, |value| value.as_str().map(str::to_owned).ok_or_else(|| wrong(value))),
        LogicalType::Binary => build(rows, path, |value| match value {
            Value::String(text) => Ok(text.as_bytes().to_vec()),
            other => Err(wrong(other)),
        }),
        LogicalType::Json => build(rows, path, |value| Ok(value.clone())),
        LogicalType::Decimal => decimals(rows, path, &wrong),
    }
}

fn parse<T: std::str::FromStr<Err = String>>(value: &Value, wrong: &dyn Fn(&Value) -> String) -> Result<T, String> {
    value.as_str().ok_or_else(|| wrong(value))?.parse()
}

/// One value a row, or null where the path ends early.
fn build<T: Put>(rows: &[&Value], path: &str, read: impl Fn(&Value) -> Result<T, String>) -> Result<Column, String> {
    let mut builder = T::Builder::default();
    for row in rows {
        match lookup(row, path)? {
            None => builder.null(),
            Some(value) => read(&value)?.put(&mut builder),
        }
    }
    builder.finish(&PLAIN).map_err(|error| error.to_string())
}

const PLAIN: Produced = Produced { name: "case", ty: LogicalType::Utf8, precision: 0, scale: 0 };

/// A case says no scale, so the column has the largest that its values show.
fn decimals(rows: &[&Value], path: &str, wrong: &dyn Fn(&Value) -> String) -> Result<Column, String> {
    let mut values = Vec::new();
    for row in rows {
        values.push(match lookup(row, path)? {
            None => None,
            Some(Value::String(text)) => Some(text.parse::<Decimal>()?),
            Some(Value::Number(number)) => Some(number.to_string().parse::<Decimal>()?),
            Some(other) => return Err(wrong(&other)),
        });
    }
    let scale = values.iter().flatten().map(|value| value.scale).max().unwrap_or(0);
    let mut builder = <Decimal as Put>::Builder::default();
    values.into_iter().for_each(|value| value.put(&mut builder));
    builder.finish(&Produced { precision: 38, scale, ..PLAIN }).map_err(|error| error.to_string())
}

/// The value at a path; none = null, or a parent is. The payload of a row that does not say another is the row itself.
fn lookup(row: &Value, path: &str) -> Result<Option<Value>, String> {
    if path == "_value" && row.get("_value").is_none() {
        return Ok(Some(Value::String(row.to_string())));
    }
    let mut value = row;
    for (depth, field) in path.split('.').enumerate() {
        value = match value {
            Value::Object(fields) => match fields.get(field) {
                None | Some(Value::Null) => return Ok(None),
                Some(value) => value,
            },
            other => {
                let parent = path.split('.').take(depth).collect::<Vec<_>>().join(".");
                return Err(format!("`{path}` is read, and `{parent}` is {other}, not an object"));
            }
        };
    }
    Ok(Some(value.clone()))
}

/// An added cell as JSON.
pub(super) fn value(column: &Column, row: usize) -> Value {
    fn cell<'a, T>(column: &'a Column, row: usize) -> Option<T>
    where
        Option<T>: Cell<'a>,
    {
        // `row + 1` rows are enough to read row `row`
        Option::<T>::open(column, row + 1).and_then(|cells| Option::<T>::read(&cells, row))
    }
    let text = |text: &dyn ToString| Value::String(text.to_string());
    let read = match column {
        Column::Absent => None,
        Column::Boolean(_) => cell::<bool>(column, row).map(Value::Bool),
        Column::Int32(_) => cell::<i32>(column, row).map(Value::from),
        Column::Int64(_) => cell::<i64>(column, row).map(Value::from),
        Column::Float64(_) => cell::<f64>(column, row).map(|n| Number::from_f64(n).map_or(text(&n), Value::Number)),
        Column::Date32(_) => cell::<Date32>(column, row).map(|day| text(&day)),
        Column::TimestampUs(_) => cell::<Timestamp>(column, row).map(|at| text(&at)),
        Column::Decimal { .. } => cell::<Decimal>(column, row).map(|decimal| text(&decimal)),
        Column::Utf8(_) => cell::<&str>(column, row).map(Value::from),
        Column::Binary(_) => cell::<&[u8]>(column, row).map(|bytes| text(&String::from_utf8_lossy(bytes))),
        Column::Json(_) => cell::<Json<'_>>(column, row).map(|json| json.parse().unwrap_or_else(|_| text(&json.0))),
    };
    read.unwrap_or(Value::Null)
}
