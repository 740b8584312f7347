//! Columns of a Delta table: from Arrow's, and whether rows fit a table that is there.
//!
//! Pure. Tables stay at the lowest protocol that every reader knows, so types that need a feature are refused by name.

use std::sync::Arc;

use arrow::datatypes::{DataType as ArrowType, Field, Schema, TimeUnit};
use deltalake::kernel::engine::arrow_conversion::TryFromArrow;
use deltalake::kernel::{ArrayType, DataType, MapType, StructField, StructType};

use crate::error::{Error, Result};

/// Characters that a column's name cannot have in Parquet files of a table without column mapping.
const FORBIDDEN: &[char] = &[' ', ',', ';', '{', '}', '(', ')', '\n', '\t', '='];

/// Delta's schema JSON for rows of `arrow`, as it stands in [`SinkActions`](crate::ledger::SinkActions).
pub fn delta_schema(arrow: &Schema) -> Result<serde_json::Value> {
    serde_json::to_value(struct_type(arrow)?).map_err(|e| Error::Host(format!("cannot write a schema: {e}")))
}

/// The same, as Delta's type. Every column may be null: that a value is there is an expectation's business.
pub fn struct_type(arrow: &Schema) -> Result<StructType> {
    let fields = arrow.fields().iter().map(|field| {
        let field = acceptable(field, field.name())?;
        let mut delta = StructField::try_from_arrow(&field)
            .map_err(|e| Error::Config(format!("column `{}` cannot be stored in a Delta table: {e}", field.name())))?;
        delta.nullable = true;
        delta.metadata.clear();
        Ok(delta)
    });
    let fields = fields.collect::<Result<Vec<_>>>()?;
    StructType::try_new(fields)
        .map_err(|e| Error::Config(format!("these columns cannot be those of one Delta table: {e}")))
}

/// The schema that an entry carries.
pub fn from_json(schema: &serde_json::Value) -> Result<StructType> {
    serde_json::from_value(schema.clone())
        .map_err(|e| Error::Diverged(format!("the ledger holds a schema that is not Delta's: {e}")))
}

/// The field with the type that the lowest protocol has for it.
fn acceptable(field: &Field, path: &str) -> Result<Field> {
    let refuse = |why: &str| {
        Err(Error::Config(format!("column `{path}` ({}) cannot be stored in a Delta table: {why}", field.data_type())))
    };
    if field.name().is_empty() || field.name().contains(FORBIDDEN) {
        return refuse("its name is empty, or has a space or one of ,;{}()= in it; give it another one");
    }
    let child = |child: &Arc<Field>| acceptable(child, &format!("{path}.{}", child.name())).map(Arc::new);
    let data_type = match field.data_type() {
        ArrowType::Timestamp(TimeUnit::Microsecond, Some(zone)) if is_utc(zone) => {
            ArrowType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
        }
        ArrowType::Timestamp(..) => {
            return refuse("times are microseconds in UTC; others need a table feature that not every reader has");
        }
        ArrowType::UInt8 | ArrowType::UInt16 | ArrowType::UInt32 | ArrowType::UInt64 => {
            return refuse("Delta has no unsigned integers; use the next larger signed one");
        }
        ArrowType::Struct(children) if children.is_empty() => return refuse("a struct without fields"),
        ArrowType::Struct(children) => ArrowType::Struct(children.iter().map(child).collect::<Result<_>>()?),
        ArrowType::List(element) => ArrowType::List(child(element)?),
        ArrowType::LargeList(element) => ArrowType::LargeList(child(element)?),
        ArrowType::Map(entries, sorted) => ArrowType::Map(child(entries)?, *sorted),
        ArrowType::Utf8
        | ArrowType::LargeUtf8
        | ArrowType::Boolean
        | ArrowType::Int8
        | ArrowType::Int16
        | ArrowType::Int32
        | ArrowType::Int64
        | ArrowType::Float32
        | ArrowType::Float64
        | ArrowType::Date32
        | ArrowType::Decimal128(..)
        | ArrowType::Binary
        | ArrowType::LargeBinary => field.data_type().clone(),
        _ => return refuse("Delta has no such type"),
    };
    Ok(Field::new(field.name(), data_type, field.is_nullable()))
}

fn is_utc(zone: &str) -> bool {
    matches!(zone, "UTC" | "Etc/UTC" | "Z" | "+00:00" | "+00")
}

/// A column whose types contradict each other.
#[derive(Debug, PartialEq)]
pub struct Mismatch {
    /// the column, as a path
    pub column: String,
    /// its type in the table
    pub table: String,
    /// its type in the rows
    pub rows: String,
}

/// The table's schema widened by the columns that only the rows have, or `None` where it has them all.
///
/// Structs are widened at any depth. Columns that only the table has are null in the new rows. Whether a column may be
/// null is not compared.
pub fn widened(table: &StructType, rows: &StructType) -> Result<Option<StructType>, Mismatch> {
    widen_struct(table, rows, "")
}

fn widen_struct(table: &StructType, rows: &StructType, path: &str) -> Result<Option<StructType>, Mismatch> {
    let mut changed = false;
    let mut fields: Vec<StructField> = table.fields().cloned().collect();
    for row in rows.fields() {
        let path = if path.is_empty() { row.name.clone() } else { format!("{path}.{}", row.name) };
        match fields.iter_mut().find(|field| field.name == row.name) {
            Some(field) => {
                if let Some(wider) = widen(&field.data_type, &row.data_type, &path)? {
                    field.data_type = wider;
                    changed = true;
                }
            }
            // Delta's names differ by more than their case
            None => match fields.iter().find(|field| field.name.eq_ignore_ascii_case(&row.name)) {
                Some(field) => {
                    let spelled = |f: &StructField| format!("{} {}", f.name, f.data_type);
                    return Err(Mismatch { column: path, table: spelled(field), rows: spelled(row) });
                }
                None => {
                    let mut field = row.clone();
                    field.nullable = true;
                    fields.push(field);
                    changed = true;
                }
            },
        }
    }
    if !changed {
        return Ok(None);
    }
    let refused = |why: String| Mismatch { column: path.into(), table: table.to_string(), rows: why };
    StructType::try_new(fields).map(Some).map_err(|e| refused(e.to_string()))
}

fn widen(table: &DataType, rows: &DataType, path: &str) -> Result<Option<DataType>, Mismatch> {
    match (table, rows) {
        (DataType::Struct(t), DataType::Struct(r)) => Ok(widen_struct(t, r, path)?.map(DataType::from)),
        (DataType::Array(t), DataType::Array(r)) => {
            let element = widen(&t.element_type, &r.element_type, &format!("{path}.element"))?;
            Ok(element.map(|element| ArrayType::new(element, t.contains_null).into()))
        }
        (DataType::Map(t), DataType::Map(r)) => {
            if widen(&t.key_type, &r.key_type, &format!("{path}.key"))?.is_some() {
                return Err(mismatch(table, rows, path)); // a wider key would be another key
            }
            let value = widen(&t.value_type, &r.value_type, &format!("{path}.value"))?;
            Ok(value.map(|value| MapType::new(t.key_type.clone(), value, t.value_contains_null).into()))
        }
        _ if table == rows => Ok(None),
        _ => Err(mismatch(table, rows, path)),
    }
}

fn mismatch(table: &DataType, rows: &DataType, path: &str) -> Mismatch {
    Mismatch { column: path.to_owned(), table: table.to_string(), rows: rows.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(json: serde_json::Value) -> StructType {
        from_json(&serde_json::json!({"type": "struct", "fields": json})).unwrap()
    }

    fn field(name: &str, ty: serde_json::Value) -> serde_json::Value {
        serde_json::json!({"name": name, "type": ty, "nullable": true, "metadata": {}})
    }

    #[test]
    fn new_columns_widen_at_any_depth_and_other_types_are_named() {
        let strukt = |fields: Vec<serde_json::Value>| serde_json::json!({"type": "struct", "fields": fields});
        let list =
            |of: serde_json::Value| serde_json::json!({"type": "array", "elementType": of, "containsNull": true});
        let text = || serde_json::json!("string");
        let base = table(serde_json::json!([field("a", text()), field("s", strukt(vec![field("x", text())]))]));

        assert_eq!(widened(&base, &table(serde_json::json!([field("a", text())]))), Ok(None));
        let wider = widened(&base, &table(serde_json::json!([field("s", strukt(vec![field("y", "long".into())]))])));
        assert_eq!(
            serde_json::to_value(wider.unwrap().unwrap()).unwrap()["fields"][1]["type"]["fields"][1]["name"],
            "y"
        );
        let top = widened(&base, &table(serde_json::json!([field("b", text())]))).unwrap().unwrap();
        assert_eq!(top.fields().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["a", "s", "b"]);

        for (rows, column, table_type, rows_type) in [
            (field("a", "long".into()), "a", "string", "long"),
            (field("s", strukt(vec![field("x", "date".into())])), "s.x", "string", "date"),
            (field("A", text()), "A", "a string", "A string"),
        ] {
            let got = widened(&base, &table(serde_json::json!([rows]))).unwrap_err();
            assert_eq!((&*got.column, &*got.table, &*got.rows), (column, table_type, rows_type));
        }
        let lists = table(serde_json::json!([field("l", list(strukt(vec![field("x", text())])))]));
        let rows = table(serde_json::json!([field("l", list(strukt(vec![field("x", text()), field("y", text())])))]));
        assert!(widened(&lists, &rows).unwrap().is_some());
    }

    #[test]
    fn types_beyond_the_lowest_protocol_are_refused_with_their_path() {
        let ts = |zone: Option<&str>| ArrowType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
        for (ty, said) in [
            (ts(None), "`c`"),
            (ArrowType::UInt32, "unsigned"),
            (ArrowType::Struct(vec![Field::new("t", ts(None), true)].into()), "`c.t`"),
            (ArrowType::Null, "no such type"),
        ] {
            let error = delta_schema(&Schema::new(vec![Field::new("c", ty, true)])).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        let name = delta_schema(&Schema::new(vec![Field::new("a b", ArrowType::Utf8, true)])).unwrap_err().to_string();
        assert!(name.contains("`a b`"), "{name}");
        assert!(delta_schema(&Schema::new(vec![Field::new("c", ts(Some("+00:00")), true)])).is_ok());
    }
}
