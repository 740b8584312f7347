//! Finding a column of a batch by its path: children of structs masked by their parents, pseudo-columns made on demand.
//!
//! It converts nothing: what a plugin or an expression wants in another type is converted there. `_batch`, `_attempt` and
//! `_findings` are not columns here: they say how a row was handled, and a verdict may not depend on that.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, Int32Array, Int64Array, ListBuilder, RecordBatch, StringArray,
    StringBuilder, StructArray, StructBuilder, TimestampMicrosecondArray, make_array,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use uuid::Uuid;

use crate::record::Batch;

/// Arrow's name of the one time zone that tables know.
pub const UTC: &str = "UTC";

/// The pseudo-columns of every row, in the order in which they are listed to people.
pub const PSEUDO: &[&str] =
    &["_topic", "_partition", "_offset", "_timestamp", "_key", "_value", "_headers", "_row", "_id"];

/// Microseconds since the epoch, UTC.
pub fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()))
}

fn header_fields() -> Fields {
    Fields::from(vec![Field::new("key", DataType::Utf8, true), Field::new("value", DataType::Binary, true)])
}

/// `list<struct<key: text, value: bytes>>`: header names may repeat, so they are no map.
pub fn headers_type() -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Struct(header_fields()), true)))
}

/// The type of a pseudo-column, or `None` for any other name.
pub fn pseudo_type(name: &str) -> Option<DataType> {
    Some(match name {
        "_topic" | "_id" => DataType::Utf8,
        "_partition" | "_row" => DataType::Int32,
        "_offset" => DataType::Int64,
        "_timestamp" => timestamp_type(),
        "_key" | "_value" => DataType::Binary,
        "_headers" => headers_type(),
        _ => return None,
    })
}

/// The type of `path` in rows of `schema` (declared and added columns; pseudo-columns included), or `None`.
pub fn data_type(schema: &Schema, path: &str) -> Option<DataType> {
    if let Some(pseudo) = pseudo_type(path) {
        return Some(pseudo);
    }
    let mut names = path.split('.');
    let mut found = schema.field_with_name(names.next()?).ok()?.data_type();
    for name in names {
        let DataType::Struct(fields) = found else { return None };
        found = fields.find(name)?.1.data_type();
    }
    Some(found.clone())
}

/// The column at `path`, one value per row of the batch, or `None` where there is none.
///
/// A struct's child is null where any of its parents is null, whatever its own slot holds.
pub fn column(batch: &Batch, path: &str) -> Option<ArrayRef> {
    if pseudo_type(path).is_some() {
        return Some(pseudo(batch, path));
    }
    stored(&batch.columns, path)
}

/// The column at `path` of rows as a table holds them, or `None` where there is none; pseudo-columns are columns there.
pub fn stored(rows: &RecordBatch, path: &str) -> Option<ArrayRef> {
    let mut names = path.split('.');
    let mut found = rows.column_by_name(names.next()?)?.clone();
    for name in names {
        let parent = found.as_any().downcast_ref::<StructArray>()?;
        let child = parent.column_by_name(name)?;
        found = masked(child, parent.nulls());
    }
    Some(found)
}

/// `child` with null wherever `parent` is.
fn masked(child: &ArrayRef, parent: Option<&NullBuffer>) -> ArrayRef {
    let Some(parent) = parent.filter(|p| p.null_count() > 0) else { return child.clone() };
    if child.nulls().is_some_and(|own| own.contains(parent)) || *child.data_type() == DataType::Null {
        return child.clone();
    }
    let nulls = NullBuffer::union(Some(parent), child.nulls());
    let data = child.to_data().into_builder().nulls(nulls);
    make_array(data.build().expect("only nulls were added, and there is one per value"))
}

/// A pseudo-column; `name` is one of [`PSEUDO`].
fn pseudo(batch: &Batch, name: &str) -> ArrayRef {
    let raw = &batch.raw;
    let records = || batch.origin.iter().map(|&r| &raw.records[r as usize]);
    match name {
        "_topic" => {
            let topics = batch.origin.iter().map(|&r| &*raw.partition(r as usize).topic);
            Arc::new(StringArray::from_iter_values(topics))
        }
        "_partition" => {
            let partitions = batch.origin.iter().map(|&r| raw.partition(r as usize).partition);
            Arc::new(Int32Array::from_iter_values(partitions))
        }
        "_offset" => Arc::new(Int64Array::from_iter_values(records().map(|r| r.offset))),
        "_timestamp" => {
            let micros = records().map(|r| r.timestamp.map(|ms| ms.saturating_mul(1000)));
            Arc::new(TimestampMicrosecondArray::from_iter(micros).with_timezone(UTC))
        }
        "_key" => bytes(batch, |r| raw.key(r)),
        "_value" => bytes(batch, |r| raw.value(r)),
        "_headers" => headers(batch),
        "_row" => Arc::new(Int32Array::from_iter_values(batch.ordinal.iter().map(|&n| n as i32))),
        "_id" => {
            let mut ids = StringBuilder::with_capacity(batch.len(), batch.len() * 36);
            for (row, &record) in batch.origin.iter().enumerate() {
                let record = record as usize;
                let id = row_id(batch.pipeline, raw.partition(record), raw.records[record].offset, batch.ordinal[row]);
                ids.append_value(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()));
            }
            Arc::new(ids.finish())
        }
        other => unreachable!("{other} is not a pseudo-column"),
    }
}

/// The namespace of a pipeline's row ids.
pub fn pipeline_namespace(pipeline: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("sluice:{pipeline}").as_bytes())
}

/// `_id`: the UUIDv5 of pipeline, coordinates and row, the same however often the row is made.
pub fn row_id(pipeline: Uuid, partition: &crate::record::TopicPartition, offset: i64, ordinal: u32) -> Uuid {
    Uuid::new_v5(&pipeline, format!("{partition}/{offset}/{ordinal}").as_bytes())
}

fn bytes<'a>(batch: &Batch, value: impl Fn(usize) -> Option<&'a [u8]>) -> ArrayRef {
    let mut builder = BinaryBuilder::with_capacity(batch.len(), 0);
    for &record in &batch.origin {
        builder.append_option(value(record as usize));
    }
    Arc::new(builder.finish())
}

fn headers(batch: &Batch) -> ArrayRef {
    let mut list = ListBuilder::new(StructBuilder::from_fields(header_fields(), 0));
    for &record in &batch.origin {
        append_headers(&mut list, batch.raw.headers(record as usize));
    }
    Arc::new(list.finish())
}

/// Appends one record's headers to a builder of [`headers_type`].
pub fn append_headers(list: &mut ListBuilder<StructBuilder>, headers: &[(String, Option<bytes::Bytes>)]) {
    for (name, value) in headers {
        let entry = list.values();
        let names = entry.field_builder::<StringBuilder>(0).expect("the first field of a header is text");
        names.append_value(name);
        let values = entry.field_builder::<BinaryBuilder>(1).expect("the second field of a header is bytes");
        values.append_option(value.as_deref());
        entry.append(true);
    }
    list.append(true);
}

/// A builder for [`headers_type`].
pub fn headers_builder() -> ListBuilder<StructBuilder> {
    ListBuilder::new(StructBuilder::from_fields(header_fields(), 0))
}

/// The bytes of the values `from..to`, offsets included, bitmaps of nulls not.
pub(crate) fn size(array: &dyn Array, from: usize, to: usize) -> usize {
    let text = |offsets: &[i32]| (offsets[to] - offsets[from]) as usize + (to - from) * 4;
    let list = |offsets: &[i32], values: &dyn Array| {
        size(values, offsets[from] as usize, offsets[to] as usize) + (to - from) * 4
    };
    match array.data_type() {
        DataType::Utf8 => text(array.as_string::<i32>().value_offsets()),
        DataType::Binary => text(array.as_binary::<i32>().value_offsets()),
        DataType::Struct(_) => array.as_struct().columns().iter().map(|child| size(child, from, to)).sum(),
        DataType::List(_) => list(array.as_list::<i32>().value_offsets(), array.as_list::<i32>().values()),
        DataType::Map(..) => list(array.as_map().value_offsets(), array.as_map().entries()),
        DataType::Boolean => to - from,
        // what is of no fixed width has no other form in rows: as much as could be
        other => other.primitive_width().map_or_else(|| array.get_array_memory_size(), |width| width * (to - from)),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{Int32Type, Int64Type};

    use super::*;
    use crate::record::{Range, RawBatch, RawRecord, Span, TopicPartition};

    /// Two rows: `{a: {b: 1}}`, and a null `a` whose slot holds 2.
    fn batch() -> Batch {
        let b: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
        let fields = Fields::from(vec![Field::new("b", DataType::Int32, true)]);
        let a = StructArray::new(fields, vec![b], Some(NullBuffer::from(vec![true, false])));
        let record = |offset, value| RawRecord {
            range: 0,
            offset,
            timestamp: Some(5),
            key: Span::NULL,
            value,
            headers: None,
            truncated_from: None,
        };
        let raw = RawBatch {
            ranges: vec![Range { partition: TopicPartition::new("t", 3), from: 7, to: 9 }],
            records: vec![record(7, Span { start: 0, len: 2 }), record(8, Span { start: 2, len: 0 })],
            data: bytes::Bytes::from_static(b"hi"),
            headers: vec![],
        };
        Batch {
            columns: RecordBatch::try_from_iter([("a", Arc::new(a) as ArrayRef)]).unwrap(),
            origin: vec![0, 1],
            ordinal: vec![0, 0],
            raw: Arc::new(raw),
            pipeline: pipeline_namespace("p"),
        }
    }

    #[test]
    fn child_of_a_null_parent_is_null() {
        let column = column(&batch(), "a.b").unwrap();
        assert_eq!(column.as_primitive::<Int32Type>().iter().collect::<Vec<_>>(), [Some(1), None]);
    }

    #[test]
    fn unknown_paths_are_none() {
        for path in ["x", "a.c", "a.b.c", "_batch", ""] {
            assert!(column(&batch(), path).is_none(), "{path}");
            assert!(data_type(batch().columns.schema_ref(), path).is_none(), "{path}");
        }
    }

    #[test]
    fn pseudo_columns_have_their_type_and_one_value_per_row() {
        let batch = batch();
        for name in PSEUDO {
            let column = column(&batch, name).unwrap();
            assert_eq!(column.len(), 2, "{name}");
            assert_eq!(Some(column.data_type().clone()), pseudo_type(name), "{name}");
        }
        let offsets = column(&batch, "_offset").unwrap();
        assert_eq!(offsets.as_primitive::<Int64Type>().values(), &[7, 8]);
        assert_eq!(column(&batch, "_value").unwrap().as_binary::<i32>().value(1), b"");
        assert!(column(&batch, "_key").unwrap().is_null(0));
    }

    #[test]
    fn row_ids_differ_by_row_and_never_by_run() {
        let ids = column(&batch(), "_id").unwrap();
        let ids = ids.as_string::<i32>();
        assert_ne!(ids.value(0), ids.value(1));
        assert_eq!(ids.value(0), column(&batch(), "_id").unwrap().as_string::<i32>().value(0));
    }
}
