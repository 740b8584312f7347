use arrow::datatypes::{Field, Fields};
use serde_json::json;

use super::*;

fn layout(columns: &[(&str, &str)], declared: Vec<Field>) -> Layout {
    Layout {
        outcome: Outcome::Error,
        names: columns.iter().map(|(path, name)| ((*path).to_owned(), (*name).to_owned())).collect(),
        declared: Arc::new(Schema::new(declared)),
        pipeline: columns::pipeline_namespace("p"),
        no_envelope: false,
    }
}

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true)
}

fn group(name: &str, fields: Vec<Field>) -> Field {
    Field::new(name, DataType::Struct(Fields::from(fields)), true)
}

#[test]
fn what_a_table_does_not_hold_is_lost() {
    let declared = vec![text("user"), group("ctx", vec![text("a"), text("b")]), Field::new("n", DataType::Int64, true)];
    let layout = layout(&[("user", "who"), ("ctx", "ctx"), ("n", "n"), ("_key", "key")], declared);
    let table = Schema::new(vec![
        text("who"),
        group("ctx", vec![text("a")]),
        Field::new("n", DataType::Int32, true),
        Field::new("key", DataType::BinaryView, true),
    ]);
    for (path, lost) in [
        ("user", false),
        ("ctx.a", false),
        ("ctx.b", true),
        ("ctx", true),
        ("n", false),
        ("_key", false),
        ("_value", true),
        ("_headers", true),
        ("_offset", false),
        ("_id", false),
        ("added", false),
    ] {
        assert_eq!(layout.is_lost(path, &table, None), lost, "{path}");
    }
    let narrower = Schema::new(vec![text("who"), Field::new("n", DataType::Utf8, true)]);
    assert!(layout.is_lost("n", &narrower, None), "a text is no number that was decoded");
}

#[test]
fn a_column_that_came_after_a_row_is_lost_for_it() {
    let declared = vec![text("user"), group("ctx", vec![text("a"), text("b")])];
    let layout = layout(&[("user", "user"), ("ctx", "ctx")], declared.clone());
    let table = Schema::new(declared);
    let string = |name: &str| json!({"name": name, "type": "string"});
    let written = json!({"type": "struct", "fields": [
        {"name": "ctx", "type": {"type": "struct", "fields": [string("a")]}},
    ]});
    for (path, lost) in [("user", true), ("ctx.a", false), ("ctx.b", true), ("ctx", true)] {
        assert_eq!(layout.is_lost(path, &table, Some(&written)), lost, "{path}");
        assert!(!layout.is_lost(path, &table, None), "{path}");
    }
}

#[test]
fn of_files_nothing_of_the_envelope_is_lost_for_there_is_none() {
    let mut layout = layout(&[], vec![]);
    layout.no_envelope = true;
    let table = Schema::empty();
    for (path, lost) in [("_key", false), ("_headers", false), ("_timestamp", false), ("_value", true)] {
        assert_eq!(layout.is_lost(path, &table, None), lost, "{path}");
    }
}

fn provenance(rows: usize) -> Vec<(&'static str, ArrayRef)> {
    vec![
        ("_topic", Arc::new(StringArray::from(vec!["t"; rows])) as ArrayRef),
        ("_partition", Arc::new(Int32Array::from(vec![3; rows]))),
        ("_offset", Arc::new(Int64Array::from_iter_values(7..7 + rows as i64))),
        ("_row", Arc::new(Int32Array::from(vec![1; rows]))),
        ("_attempt", Arc::new(Int32Array::from(vec![0; rows]))),
        ("_batch", Arc::new(StringArray::from(vec!["x"; rows]))),
    ]
}

#[test]
fn rows_come_back_under_their_coordinates_and_fields_by_their_names() {
    let stored = StructArray::from(vec![
        (Arc::new(text("b")), Arc::new(StringArray::from(vec!["b1", "b2"])) as ArrayRef),
        (Arc::new(text("a")), Arc::new(StringArray::from(vec![None, Some("a2")])) as ArrayRef),
    ]);
    let mut columns = provenance(2);
    columns.push(("ctx", Arc::new(stored)));
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    let layout = layout(&[("ctx", "ctx")], vec![group("ctx", vec![text("a"), text("b")]), text("gone")]);
    let batch = layout.batch(&rows).unwrap();
    assert_eq!((batch.len(), batch.ordinal.clone()), (2, vec![1, 1]));
    assert_eq!(batch.raw.ranges, [Range { partition: TopicPartition::new("t", 3), from: 7, to: 9 }]);
    let a = columns::column(&batch, "ctx.a").unwrap();
    assert_eq!(a.as_string::<i32>().iter().collect::<Vec<_>>(), [None, Some("a2")]);
    assert_eq!(batch.columns.column_by_name("gone").unwrap().null_count(), 2);
}

#[test]
fn a_letter_is_the_record_that_it_was() {
    let mut headers = columns::headers_builder();
    columns::append_headers(&mut headers, &[("h".into(), Some(Bytes::from_static(b"1")))]);
    columns::append_headers(&mut headers, &[]);
    let mut columns = provenance(2);
    columns.extend([
        ("_key", Arc::new(arrow::array::BinaryArray::from(vec![Some(&b"k"[..]), None])) as ArrayRef),
        ("_value", Arc::new(arrow::array::BinaryArray::from(vec![&b"{}"[..], &b"0123"[..]]))),
        (
            "_timestamp",
            Arc::new(arrow::array::TimestampMicrosecondArray::from(vec![Some(5000), None]).with_timezone("UTC")),
        ),
        ("_headers", Arc::new(headers.finish())),
        ("reason", Arc::new(StringArray::from(vec!["not-json", "too-large"]))),
        ("detail", Arc::new(StringArray::from(vec!["column 1", "900 bytes, and source.max_record is 4"]))),
        ("stage", Arc::new(StringArray::from(vec!["decode", "decode"]))),
        ("plugin", Arc::new(StringArray::from(vec![None, Some("consent")]))),
    ]);
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    let raw = letters(&rows).unwrap();
    assert_eq!((raw.key(0), raw.value(0), raw.records[0].timestamp), (Some(&b"k"[..]), Some(&b"{}"[..]), Some(5)));
    assert_eq!((raw.key(1), raw.records[1].timestamp, raw.headers(1)), (None, None, &[][..]));
    assert_eq!(raw.headers(0), [("h".to_owned(), Some(Bytes::from_static(b"1")))]);
    // what is not there any more cannot be judged again
    assert_eq!((raw.records[0].truncated_from, raw.records[1].truncated_from), (None, Some(900)));
    assert_eq!(said(&rows, Outcome::Dlq), [["decode/not-json"], ["consent/too-large"]]);
    let sizes: Vec<usize> = slices(&rows, 10, 5).iter().map(RecordBatch::num_rows).collect();
    assert_eq!(sizes, [1, 1]);
}
