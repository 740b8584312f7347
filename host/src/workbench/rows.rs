//! Rows for a plugin: from the lines of its cases, from a file of records, or made up.
//!
//! The schema is what the plugin asks for; a column that it wants as JSON has the shape that the rows give it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields};
use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::columns;
use crate::config::UnknownFields;
use crate::decode::{Decoded, JsonDecoder};
use crate::error::{Error, Result};
use crate::plugin::{Request, Type};
use crate::record::{Batch, Headers, Range, RawBatch, RawRecord, Span, TopicPartition};
use crate::schema::Schema;
use crate::source::files::FilesSource;
use crate::source::reading;

/// A row as someone wrote it: an object, its pseudo-columns among the others.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// where it was written, for messages
    pub place: String,
    /// the object
    pub row: &'a Value,
}

/// Makes a batch: each row is its payload, its pseudo-columns are those of its record.
pub(super) fn batch(schema: &Arc<Schema>, rows: &[Row<'_>]) -> Result<Batch> {
    let mut data = Vec::new();
    let mut records = Vec::new();
    let mut all_headers: Vec<Headers> = Vec::new();
    for (n, Row { place, row }) in rows.iter().enumerate() {
        let mut span = |text: &str| {
            let start = data.len() as u32;
            data.extend_from_slice(text.as_bytes());
            Span { start, len: text.len() as u32 }
        };
        let wrong = |what: &str| Error::Config(format!("{place}: {what}"));
        let timestamp = match &row["_timestamp"] {
            Value::Null => None,
            Value::String(text) => {
                let time = chrono::DateTime::parse_from_rfc3339(text);
                Some(time.map_err(|_| wrong("`_timestamp` is no time like 2026-11-20T21:03:11Z"))?.timestamp_millis())
            }
            _ => return Err(wrong("`_timestamp` is a text like 2026-11-20T21:03:11Z")),
        };
        let headers: Option<Headers> = row["_headers"].as_object().map(|headers| {
            let value = |value: &Value| value.as_str().map(|text| Bytes::copy_from_slice(text.as_bytes()));
            headers.iter().map(|(name, text)| (name.clone(), value(text))).collect()
        });
        records.push(RawRecord {
            range: 0,
            offset: row["_offset"].as_i64().unwrap_or(n as i64),
            timestamp,
            key: row["_key"].as_str().map_or(Span::NULL, &mut span),
            value: match row["_value"].as_str() {
                Some(text) => span(text),
                None => span(&row.to_string()),
            },
            headers: headers.map(|headers| {
                all_headers.push(headers);
                all_headers.len() as u32 - 1
            }),
            truncated_from: None,
        });
    }
    let raw = RawBatch {
        ranges: vec![Range { partition: TopicPartition::new("cases", 0), from: 0, to: records.len() as i64 }],
        records,
        data: Bytes::from(data),
        headers: all_headers,
    };
    let decoded = decode(schema, &raw)?;
    if let Some(dead) = decoded.dead.first() {
        let place = &rows[dead.record as usize].place;
        return Err(Error::Config(format!("{place}: the row does not decode: {}", dead.detail)));
    }
    Ok(of(decoded, raw))
}

/// The records of a file, and how many of them do not decode.
pub(super) fn records(schema: &Arc<Schema>, file: &str) -> Result<(Batch, u64)> {
    let raw = read(file)?;
    let decoded = decode(schema, &raw)?;
    let dead = decoded.dead.len() as u64;
    if decoded.origin.is_empty() {
        let why = decoded.dead.first().map_or("it is empty", |dead| &dead.detail);
        return Err(Error::Config(format!("no record of {file} has the shape that the plugin asks for: {why}")));
    }
    Ok((of(decoded, raw), dead))
}

/// Bytes of a file that are measured with: more say nothing new.
const MOST: usize = 64 << 20;

fn read(file: &str) -> Result<RawBatch> {
    let here = std::env::current_dir().map_err(|e| Error::environment("cannot find the working folder", e))?;
    let mut source = FilesSource::new(&here, &[file.to_owned()], 1 << 20)?;
    let (mut data, mut records) = (Vec::new(), Vec::new());
    reading::read(&mut source, |batch| {
        for (n, record) in batch.records.iter().enumerate() {
            let value = batch.value(n).unwrap_or_default();
            let start = data.len() as u32;
            data.extend_from_slice(value);
            records.push(RawRecord { range: 0, value: Span { start, len: value.len() as u32 }, ..*record });
        }
        Ok(data.len() < MOST)
    })?;
    let ranges = vec![Range { partition: TopicPartition::new(file, 0), from: 1, to: records.len() as i64 + 1 }];
    Ok(RawBatch { ranges, records, data: data.into(), headers: Vec::new() })
}

/// The first objects of a file: they show which shape a column has.
pub fn objects(file: &str, most: usize) -> Result<Vec<Value>> {
    let raw = read(file)?;
    let values = (0..raw.records.len()).filter_map(|n| raw.value(n));
    Ok(values.filter_map(|value| serde_json::from_slice(value).ok()).filter(Value::is_object).take(most).collect())
}

fn decode(schema: &Arc<Schema>, raw: &RawBatch) -> Result<Decoded> {
    Ok(JsonDecoder::new(schema.clone(), UnknownFields::Ignore, usize::MAX)?.decode(raw, |_| false))
}

fn of(decoded: Decoded, raw: RawBatch) -> Batch {
    Batch {
        columns: decoded.rows,
        origin: decoded.origin,
        ordinal: decoded.ordinal,
        raw: Arc::new(raw),
        pipeline: columns::pipeline_namespace("cases"),
    }
}

/// One row as JSON, nulls written out.
pub fn explicit(row: &arrow::array::RecordBatch) -> Result<Value> {
    let mut object = crate::cli::r#try::columns_json(row)?;
    if let Some(map) = object.as_object_mut() {
        for field in row.schema_ref().fields() {
            map.entry(field.name().clone()).or_insert(Value::Null);
        }
    }
    Ok(object)
}

/// Rows with a value of the right type, or none, in every column that is asked for; the same seed makes the same rows.
pub fn made_up(requests: &[Request], rows: usize, seed: u64) -> Vec<Value> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..rows)
        .map(|n| {
            let mut row = Value::Object(serde_json::Map::new());
            for request in
                requests.iter().filter(|request| !matches!(request.path.as_str(), "_value" | "_topic" | "_id"))
            {
                let value = match rng.random_range(0..10u32) {
                    0 => Value::Null,
                    _ => value(request, n, &mut rng),
                };
                put(&mut row, &request.path, value);
            }
            row
        })
        .collect()
}

fn value(request: &Request, n: usize, rng: &mut ChaCha8Rng) -> Value {
    const WORDS: [&str; 8] = ["", "a", "index", "https://example.com/page?id=1", "true", "0", "Zoë 🙂", "2026-11-20"];
    let path = request.path.as_str();
    match request.ty {
        _ if path == "_headers" => json!({ "source": WORDS[rng.random_range(0..WORDS.len())] }),
        _ if path == "_offset" => json!(n),
        Type::Boolean => json!(rng.random_bool(0.5)),
        Type::Int32 => json!(rng.random_range(-1000..1000i32)),
        Type::Int64 => json!(rng.random_range(-1_000_000..1_000_000i64)),
        Type::Float64 => json!(rng.random_range(-1000.0..1000.0f64)),
        Type::Decimal => json!(rng.random_range(-100_000..100_000i64)),
        Type::Date32 => json!(format!("2026-{:02}-{:02}", rng.random_range(1..13), rng.random_range(1..29))),
        Type::TimestampUs => json!(format!(
            "2026-{:02}-{:02}T{:02}:00:00Z",
            rng.random_range(1..13),
            rng.random_range(1..29),
            rng.random_range(0..24)
        )),
        Type::Binary if path == "_key" => json!(format!("key-{}", rng.random_range(0..1000))),
        Type::Binary => json!("AAEC"),
        Type::Utf8 => json!(WORDS[rng.random_range(0..WORDS.len())]),
        Type::Json => json!({ "id": n, "name": WORDS[rng.random_range(0..WORDS.len())] }),
    }
}

/// Sets the value at a path, making the objects that it leads through.
pub fn put(row: &mut Value, path: &str, value: Value) {
    let mut at = row;
    for name in path.split('.') {
        if !at.is_object() {
            *at = Value::Object(serde_json::Map::new());
        }
        at = &mut at[name];
    }
    *at = value;
}

/// The value at a path; null where there is none.
pub fn get<'v>(row: &'v Value, path: &str) -> &'v Value {
    path.split('.').fold(row, |at, name| &at[name])
}

/// A node of the row's shape: what a path leads to.
#[derive(Default)]
struct Node {
    leaf: Option<DataType>,
    children: BTreeMap<String, Node>,
}

/// The columns that the requests imply; a column that is wanted as JSON has the shape that the cases give it.
pub(super) fn fields(requests: &[Request], rows: &[&Value]) -> Vec<Field> {
    let mut root = Node::default();
    for request in requests.iter().filter(|request| columns::pseudo_type(&request.path).is_none()) {
        let mut node = &mut root;
        for name in request.path.split('.') {
            node = node.children.entry(name.to_owned()).or_default();
        }
        let pointer = format!("/{}", request.path.replace('.', "/"));
        node.leaf = Some(match request.ty {
            Type::Boolean => DataType::Boolean,
            Type::Int32 => DataType::Int32,
            Type::Int64 => DataType::Int64,
            Type::Float64 => DataType::Float64,
            Type::Date32 => DataType::Date32,
            Type::TimestampUs => columns::timestamp_type(),
            Type::Decimal => DataType::Decimal128(38, 10),
            Type::Utf8 => DataType::Utf8,
            Type::Binary => DataType::Binary,
            Type::Json => shape(&rows.iter().filter_map(|row| row.pointer(&pointer)).collect::<Vec<_>>()),
        });
    }
    root.children.into_iter().map(|(name, node)| Field::new(name, node.data_type(), true)).collect()
}

impl Node {
    fn data_type(self) -> DataType {
        let nested: Vec<Field> =
            self.children.into_iter().map(|(name, node)| Field::new(name, node.data_type(), true)).collect();
        match self.leaf {
            Some(leaf) if nested.is_empty() => leaf,
            Some(DataType::Struct(known)) => {
                let more = known.iter().filter(|field| !nested.iter().any(|n| n.name() == field.name()));
                let all: Vec<Field> = more.map(|field| field.as_ref().clone()).chain(nested.iter().cloned()).collect();
                DataType::Struct(Fields::from(all))
            }
            Some(_) | None => DataType::Struct(Fields::from(nested)),
        }
    }
}

/// The type that holds all these values; text where they are of no one kind.
fn shape(values: &[&Value]) -> DataType {
    let present: Vec<&&Value> = values.iter().filter(|value| !value.is_null()).collect();
    if present.is_empty() {
        return DataType::Utf8;
    }
    if present.iter().all(|v| v.is_boolean()) {
        return DataType::Boolean;
    }
    if present.iter().all(|v| v.is_i64()) {
        return DataType::Int64;
    }
    if present.iter().all(|v| v.is_number()) {
        return DataType::Float64;
    }
    if present.iter().all(|v| v.is_array()) {
        let items: Vec<&Value> = present.iter().filter_map(|v| v.as_array()).flatten().collect();
        return DataType::List(Arc::new(Field::new_list_field(shape(&items), true)));
    }
    if present.iter().all(|v| v.is_object()) {
        let mut names: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        for (name, value) in present.iter().filter_map(|v| v.as_object()).flatten() {
            names.entry(name).or_default().push(value);
        }
        return DataType::Struct(
            names.into_iter().map(|(name, values)| Field::new(name, shape(&values), true)).collect(),
        );
    }
    DataType::Utf8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_rows_have_the_shape_that_is_asked_for() {
        let request = |path: &str, ty| Request { path: path.into(), ty, required: true };
        let requests = [
            request("a.b.n", Type::Int64),
            request("a.t", Type::Utf8),
            request("day", Type::Date32),
            request("at", Type::TimestampUs),
            request("price", Type::Decimal),
            request("bytes", Type::Binary),
            request("doc", Type::Json),
            request("_key", Type::Binary),
            request("_offset", Type::Int64),
        ];
        let made = made_up(&requests, 50, 7);
        assert_eq!(made, made_up(&requests, 50, 7));
        let all: Vec<&Value> = made.iter().collect();
        let arrow = Arc::new(arrow::datatypes::Schema::new(fields(&requests, &all)));
        let (text, lines) = (String::new(), BTreeMap::new());
        let schema = Arc::new(Schema { arrow, constraints: Vec::new(), file: "t".into(), text, lines });
        let rows: Vec<Row<'_>> = made.iter().map(|row| Row { place: "t:1".into(), row }).collect();
        let batch = batch(&schema, &rows).unwrap();
        assert_eq!(batch.len(), 50);
        for path in ["a.b.n", "a.t", "day", "price", "doc", "_key"] {
            let column = columns::column(&batch, path).unwrap();
            let nulls = arrow::array::Array::null_count(&column);
            assert!(nulls > 0 && nulls < 25, "{path}: {nulls} nulls of 50");
        }
    }

    #[test]
    fn paths_lead_through_objects() {
        let mut row = json!({ "a": 1 });
        put(&mut row, "a.b", json!(2));
        put(&mut row, "c", json!(null));
        assert_eq!(row, json!({ "a": { "b": 2 }, "c": null }));
        assert_eq!((get(&row, "a.b"), get(&row, "x.y")), (&json!(2), &Value::Null));
    }
}
