//! One payload: expected verdict.

use arrow::array::{Array, ArrayRef, AsArray, StructArray};
use arrow::datatypes::{Field, Fields, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;

use super::*;
use crate::record::{Range, RawRecord, Span, TopicPartition};

/// `{name: type}` as a schema.
pub(super) fn schema(fields: Vec<Field>) -> Arc<Schema> {
    let arrow = Arc::new(arrow::datatypes::Schema::new(fields));
    Arc::new(Schema {
        arrow,
        constraints: vec![],
        file: "s.sql".into(),
        text: String::new(),
        lines: Default::default(),
    })
}

pub(super) fn field(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

/// Every type that a schema may have.
pub(super) fn every_type() -> Arc<Schema> {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let user =
        Fields::from(vec![field("ip", DataType::Utf8), field("login", DataType::Utf8), field("at", utc.clone())]);
    let context = Fields::from(vec![field("referral", DataType::Utf8), field("user", DataType::Struct(user))]);
    let item = Fields::from(vec![field("name", DataType::Utf8), field("price", DataType::Decimal128(6, 2))]);
    let list = |t| DataType::List(Arc::new(Field::new_list_field(t, true)));
    let entry = Fields::from(vec![Field::new("key", DataType::Utf8, false), field("value", DataType::Int32)]);
    let entries = Field::new("entries", DataType::Struct(entry), false);
    schema(vec![
        field("flag", DataType::Boolean),
        field("i8", DataType::Int8),
        field("i16", DataType::Int16),
        field("i32", DataType::Int32),
        field("i64", DataType::Int64),
        field("f32", DataType::Float32),
        field("f64", DataType::Float64),
        field("money", DataType::Decimal128(10, 2)),
        field("day", DataType::Date32),
        field("at", utc),
        field("text", DataType::Utf8),
        field("blob", DataType::Binary),
        field("context", DataType::Struct(context)),
        field("items", list(DataType::Struct(item))),
        field("numbers", list(DataType::Int64)),
        field("labels", DataType::Map(Arc::new(entries), false)),
    ])
}

/// A batch of payloads; `None` is a tombstone.
pub(super) fn raw(payloads: &[Option<&[u8]>]) -> RawBatch {
    let mut data = Vec::new();
    let records = payloads.iter().enumerate().map(|(i, payload)| {
        let start = data.len() as u32;
        data.extend_from_slice(payload.unwrap_or_default());
        let value = payload.map_or(Span::NULL, |p| Span { start, len: p.len() as u32 });
        let (offset, key) = (i as i64, Span::NULL);
        RawRecord { range: 0, offset, timestamp: None, key, value, headers: None, truncated_from: None }
    });
    let records = records.collect();
    let ranges = vec![Range { partition: TopicPartition::new("t", 0), from: 0, to: payloads.len() as i64 }];
    RawBatch { ranges, records, data: Bytes::from(data), headers: vec![] }
}

pub(super) fn decoder(unknown: UnknownFields) -> JsonDecoder {
    JsonDecoder::new(every_type(), unknown, 1 << 20).unwrap()
}

/// Row 0 without its nulls: `{i8: 1}`.
fn shown(rows: &RecordBatch) -> String {
    let options = FormatOptions::new().with_null("null");
    let columns = rows.columns().iter().zip(rows.schema_ref().fields()).filter(|(column, _)| column.is_valid(0));
    let cells = columns.map(|(column, field)| {
        let cell = ArrayFormatter::try_new(column, &options).unwrap();
        format!("{}: {}", field.name(), cell.value(0))
    });
    cells.collect::<Vec<_>>().join(", ")
}

/// Decodes the payload between two good ones, which must not be touched by it.
fn verdict(decoder: &mut JsonDecoder, payload: &[u8]) -> String {
    let good = br#"{"i8":1,"context":{"user":{"ip":"a"}},"items":[{"name":"b"}],"labels":{"c":1},"numbers":[1,2]}"#;
    let decoded = decoder.decode(&raw(&[Some(good), Some(payload), Some(good)]), |_| false);
    let neighbours = decoded.rows.num_rows() - usize::from(decoded.dead.is_empty());
    assert_eq!(neighbours, 2, "{}", String::from_utf8_lossy(payload));
    let (first, last) = (decoded.rows.slice(0, 1), decoded.rows.slice(decoded.rows.num_rows() - 1, 1));
    assert_eq!(first, last, "{}", String::from_utf8_lossy(payload));
    match &decoded.dead[..] {
        [] => shown(&decoded.rows.slice(1, 1)),
        [dead] => {
            assert_eq!((dead.record, dead.stage), (1, Stage::Decode));
            format!("{} | {}", dead.reason.as_str(), dead.detail)
        }
        more => panic!("{more:?}"),
    }
}

#[track_caller]
fn check(cases: &[(&str, &str)]) {
    let mut decoder = decoder(UnknownFields::Ignore);
    let (mut wrong, mut texts) = (Vec::new(), std::collections::BTreeSet::new());
    for (payload, expected) in cases {
        assert!(texts.insert(*payload), "twice: {payload}");
        let found = verdict(&mut decoder, payload.as_bytes());
        if found != *expected {
            let payload: String = payload.chars().take(100).collect();
            wrong.push(format!("{payload}\n   found {found}\nexpected {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_payload_is_exactly_one_json_object() {
    check(&[
        ("{}", ""),
        (" \t\r\n{ } \n", ""),
        (r#"{"i8":null,"context":null,"items":null,"labels":null}"#, ""),
        ("", "empty-value | 0 bytes, none of them JSON"),
        (" \n", "empty-value | 2 bytes, none of them JSON"),
        ("{........", "not-json | column 2: key must be a string"),
        ("nope", "not-json | column 2: expected ident"),
        ("{\n  \"i8\": 1,\n}", "not-json | line 3 column 1: trailing comma"),
        (r#"{"i8":1"#, "not-json | column 7: EOF while parsing an object"),
        (r#"{"i8":1} {"i8":2}"#, "not-json | column 10: trailing characters"),
        (r#"{"i8":1}x"#, "not-json | column 9: trailing characters"),
        (r#"{"i8":1 "i16":2}"#, "not-json | column 9: expected `,` or `}`"),
        (r#"{"i8":01}"#, "not-json | column 8: invalid number"),
        (r#"{'i8':1}"#, "not-json | column 2: key must be a string"),
        (r#"{"i8":NaN}"#, "not-json | column 7: expected value"),
        (r#"{"x":Infinity}"#, "not-json | column 6: expected value"),
        ("\u{feff}{}", "not-json | column 1: a byte order mark"),
        (
            "{\"text\":\"a\tb\"}",
            "not-json | column 11: control character (\\u0000-\\u001F) found while parsing a string",
        ),
        ("{\"x\":\"a\tb\"}", "not-json | column 7: control character (\\u0000-\\u001F) found while parsing a string"),
        (r#"{"text":"\ud83d"}"#, "not-json | column 16: unexpected end of hex escape"),
        (r#"{"text":"\ude00"}"#, "not-json | column 15: lone leading surrogate in hex escape"),
        (r#"{"x":"\ud83d"}"#, "not-json | half a surrogate pair in an undeclared field"),
        (r#"{"x":{"\ude00":1}}"#, "not-json | half a surrogate pair in an undeclared field"),
        (r#"{"x":"\ud83d\ude00","text":"\ud83d\ude00"}"#, "text: 😀"),
        (r#"{"text":"a\u0000b"}"#, "text: a\0b"),
        ("[]", "not-an-object | expected object, found array"),
        ("[{}]", "not-an-object | expected object, found array"),
        ("[{}", "not-json | column 3: EOF while parsing a list"),
        ("null", "not-an-object | expected object, found null"),
        ("true", "not-an-object | expected object, found boolean"),
        ("-1e999", "not-an-object | expected object, found number"),
        (r#""{}""#, "not-an-object | expected object, found text"),
    ]);
}

#[test]
fn a_key_stands_once() {
    check(&[
        (r#"{"i8":1,"i8":1}"#, "duplicate-key | i8: key occurs twice"),
        (r#"{"i8":1,"\u00698":1}"#, "duplicate-key | i8: key occurs twice"),
        (r#"{"i8":1,"i8":"x"}"#, "duplicate-key | i8: key occurs twice"),
        (r#"{"i8":null,"i8":1}"#, "duplicate-key | i8: key occurs twice"),
        (r#"{"context":{"user":{"ip":"a","ip":"a"}}}"#, "duplicate-key | context.user.ip: key occurs twice"),
        (r#"{"items":[{"name":"a"},{"name":"a"}]}"#, "items: [{name: a, price: null}, {name: a, price: null}]"),
        (r#"{"items":[{},{"name":"a","name":"b"}]}"#, "duplicate-key | items[1].name: key occurs twice"),
        (r#"{"labels":{"a":1,"b":2,"a":1}}"#, "duplicate-key | labels.a: key occurs twice"),
        (r#"{"x":1,"x":2,"y":{"z":1,"z":2}}"#, ""),
        (r#"{"I8":"case counts"}"#, ""),
    ]);
}

#[test]
fn types_are_exact() {
    check(&[
        (r#"{"flag":true}"#, "flag: true"),
        (r#"{"flag":1}"#, "wrong-type | flag: expected boolean, found number"),
        (r#"{"flag":"true"}"#, "wrong-type | flag: expected boolean, found text"),
        (r#"{"i64":1.0}"#, "i64: 1"),
        (r#"{"i64":1e3}"#, "i64: 1000"),
        (r#"{"i64":-0}"#, "i64: 0"),
        (r#"{"i64":-0.0}"#, "i64: 0"),
        (r#"{"i64":9007199254740993.0}"#, "i64: 9007199254740993"),
        (r#"{"i64":9223372036854775807}"#, "i64: 9223372036854775807"),
        (r#"{"i64":9223372036854775808}"#, "out-of-range | i64: number does not fit BIGINT"),
        (r#"{"i64":1e999}"#, "out-of-range | i64: number does not fit BIGINT"),
        (r#"{"i64":1.5}"#, "wrong-type | i64: expected integer, found number with a fraction"),
        (r#"{"i64":"1"}"#, "wrong-type | i64: expected integer, found text"),
        (r#"{"i64":true}"#, "wrong-type | i64: expected integer, found boolean"),
        (r#"{"i64":[1]}"#, "wrong-type | i64: expected integer, found array"),
        (r#"{"i64":{}}"#, "wrong-type | i64: expected integer, found object"),
        (r#"{"i8":127,"i16":32767,"i32":2147483647}"#, "i8: 127, i16: 32767, i32: 2147483647"),
        (r#"{"i8":-128,"i16":-32768,"i32":-2147483648}"#, "i8: -128, i16: -32768, i32: -2147483648"),
        (r#"{"i8":128}"#, "out-of-range | i8: number does not fit TINYINT"),
        (r#"{"i16":-32769}"#, "out-of-range | i16: number does not fit SMALLINT"),
        (r#"{"i32":2147483648}"#, "out-of-range | i32: number does not fit INT"),
        (r#"{"f64":1.5,"f32":-2}"#, "f32: -2.0, f64: 1.5"),
        (r#"{"f64":0.30000000000000004}"#, "f64: 0.30000000000000004"),
        (r#"{"f64":1e999}"#, "out-of-range | f64: number does not fit DOUBLE"),
        (r#"{"f32":1e39}"#, "out-of-range | f32: number does not fit FLOAT"),
        (r#"{"f64":"NaN"}"#, "wrong-type | f64: expected number, found text"),
        (r#"{"money":12.3}"#, "money: 12.30"),
        (r#"{"money":-99999999.99}"#, "money: -99999999.99"),
        (r#"{"money":1e7}"#, "money: 10000000.00"),
        (r#"{"money":100000000}"#, "out-of-range | money: number does not fit DECIMAL(10,2)"),
        (r#"{"money":0.005}"#, "out-of-range | money: number does not fit DECIMAL(10,2)"),
        (r#"{"money":"12.30"}"#, "wrong-type | money: expected number, found text"),
        (r#"{"day":"2026-11-20"}"#, "day: 2026-11-20"),
        (r#"{"day":"20.11.2026"}"#, "wrong-type | day: expected date like 2026-11-20, found other text"),
        (r#"{"day":20777}"#, "wrong-type | day: expected date, found number"),
        (
            r#"{"day":"2026-02-29"}"#,
            "out-of-range | day: expected date like 2026-11-20, found one that no calendar or clock has",
        ),
        (r#"{"at":"2026-11-20T23:03:11.482+02:00"}"#, "at: 2026-11-20T21:03:11.482Z"),
        (r#"{"at":"2026-11-20 21:03:11Z"}"#, "at: 2026-11-20T21:03:11Z"),
        (
            r#"{"at":"2026-11-20T21:03:11"}"#,
            "wrong-type | at: expected timestamp like 2026-11-20T21:03:11Z, found text without an offset",
        ),
        (r#"{"at":1763672591}"#, "wrong-type | at: expected timestamp, found number"),
        (r#"{"text":5}"#, "wrong-type | text: expected text, found number"),
        (r#"{"text":1e999}"#, "wrong-type | text: expected text, found number"),
        (r#"{"text":["a"]}"#, "wrong-type | text: expected text, found array"),
        (r#"{"text":""}"#, "text: "),
        (r#"{"text":"zażółć \"\n"}"#, "text: zażółć \"\n"),
        (r#"{"blob":"AP8="}"#, "blob: 00ff"),
        (r#"{"blob":"AP8"}"#, "wrong-type | blob: expected base64 text, found other text"),
        (r#"{"blob":"\u0041P8="}"#, "blob: 00ff"),
        (r#"{"context":{}}"#, "context: {referral: null, user: null}"),
        (r#"{"context":{"user":{"ip":7}}}"#, "wrong-type | context.user.ip: expected text, found number"),
        (r#"{"context":{"user":1e999}}"#, "wrong-type | context.user: expected object, found number"),
        (r#"{"context":[]}"#, "wrong-type | context: expected object, found array"),
        (r#"{"context":"{}"}"#, "wrong-type | context: expected object, found text"),
        (r#"{"numbers":[]}"#, "numbers: []"),
        (r#"{"numbers":[1,null,3.0]}"#, "numbers: [1, null, 3]"),
        (r#"{"numbers":[1,"2"]}"#, "wrong-type | numbers[1]: expected integer, found text"),
        (r#"{"numbers":{"0":1}}"#, "wrong-type | numbers: expected array, found object"),
        (r#"{"items":[{"price":1.25},null]}"#, "items: [{name: null, price: 1.25}, null]"),
        (r#"{"items":[{},{"price":true}]}"#, "wrong-type | items[1].price: expected number, found boolean"),
        (r#"{"labels":{"b":1,"a":null}}"#, "labels: {b: 1, a: null}"),
        (r#"{"labels":{"a b":"1"}}"#, "wrong-type | labels[\"a b\"]: expected integer, found text"),
        (r#"{"labels":[]}"#, "wrong-type | labels: expected object, found array"),
    ]);
}

#[test]
fn a_deep_payload_is_dead_and_the_stack_lives() {
    let nested = |open: &str, n: usize, close: &str| format!("{{\"x\":{}{}}}", open.repeat(n), close.repeat(n));
    let too_deep = "too-deep | nested deeper than 128 levels";
    check(&[
        (&nested("[", 127, "]"), ""),
        (&nested("[", 128, "]"), too_deep),
        (&nested("{\"a\":", 126, "}").replace(":}", ":1}"), ""),
        (&nested("[", 100_000, ""), too_deep),
        (&"[".repeat(100_000), too_deep),
        (&"{\"context\":".repeat(90_000), too_deep),
        (&format!(r#"{{"text":"{}"}}"#, "[".repeat(300)), &format!("text: {}", "[".repeat(300))),
    ]);
}

#[test]
fn bytes_that_are_no_text_are_dead() {
    let mut decoder = decoder(UnknownFields::Ignore);
    for (payload, expected) in [
        (&b"\xff\xfe"[..], "not-utf8 | byte 1: not UTF-8"),
        (b"{\"text\":\"a\xc3\"}", "not-utf8 | byte 11: not UTF-8"),
        (b"{\"x\":\"\xed\xa0\x80\"}", "not-utf8 | byte 7: not UTF-8"),
    ] {
        assert_eq!(verdict(&mut decoder, payload), expected);
    }
}

#[test]
fn undeclared_fields_are_refused_on_request() {
    let mut decoder = decoder(UnknownFields::Reject);
    for (payload, expected) in [
        (r#"{"i8":1}"#, "i8: 1"),
        (r#"{"i8":1,"x":2}"#, "unknown-field | x: field is not declared"),
        (r#"{"context":{"user":{"a.b":2}}}"#, "unknown-field | context.user[\"a.b\"]: field is not declared"),
        (r#"{"items":[{"\n":2}]}"#, "unknown-field | items[0][\"\\n\"]: field is not declared"),
        (r#"{"labels":{"any":2}}"#, "labels: {any: 2}"),
    ] {
        assert_eq!(verdict(&mut decoder, payload.as_bytes()), expected, "{payload}");
    }
}

#[test]
fn payloads_that_are_absent_or_too_long_are_dead() {
    let mut decoder = JsonDecoder::new(every_type(), UnknownFields::Ignore, 10).unwrap();
    let mut batch = raw(&[None, Some(b"{\"i8\": 12}"), Some(b"{\"i8\": 123}"), Some(b"{\"i8\"")]);
    batch.records[3].truncated_from = Some(70_000_000);
    let decoded = decoder.decode(&batch, |_| false);
    let dead: Vec<_> = decoded.dead.iter().map(|d| (d.record, d.reason, d.detail.as_str())).collect();
    assert_eq!(
        dead,
        [
            (0, Reason::NullValue, "the record has no value"),
            (2, Reason::TooLarge, "11 bytes, and source.max_record is 10"),
            (3, Reason::TooLarge, "70000000 bytes, and source.max_record is 10"),
        ]
    );
    assert_eq!((decoded.origin, decoded.ordinal), (vec![1], vec![0]));
}

#[test]
fn skipped_records_are_neither_rows_nor_dead() {
    let decoded = decoder(UnknownFields::Ignore).decode(&raw(&[None, Some(b"{}"), Some(b"{")]), |record| record != 1);
    assert_eq!((decoded.rows.num_rows(), decoded.origin, decoded.dead.len()), (1, vec![1], 0));
}

#[test]
fn a_batch_of_nothing_is_an_empty_batch() {
    for schema in [every_type(), schema(vec![])] {
        let mut decoder = JsonDecoder::new(schema.clone(), UnknownFields::Ignore, 10).unwrap();
        assert_eq!(decoder.decode(&raw(&[]), |_| false).rows, RecordBatch::new_empty(schema.arrow.clone()));
        let decoded = decoder.decode(&raw(&[Some(b"{}"), Some(b"{}"), Some(b"{")]), |_| false);
        assert_eq!((decoded.rows.num_rows(), decoded.dead.len()), (2, 1));
    }
}

#[test]
fn children_of_a_null_struct_are_null() {
    let payloads: [Option<&[u8]>; 2] = [Some(br#"{"context":{"referral":"a"}}"#), Some(br#"{"context":null}"#)];
    let decoded = decoder(UnknownFields::Ignore).decode(&raw(&payloads), |_| false);
    let context: &StructArray = decoded.rows["context"].as_struct();
    let referral: &ArrayRef = context.column(0);
    assert!(context.is_null(1) && referral.is_null(1) && referral.is_valid(0));
}

#[test]
fn a_type_without_a_json_form_is_refused_at_once() {
    let schema = schema(vec![field("x", DataType::UInt8)]);
    let error = JsonDecoder::new(schema, UnknownFields::Ignore, 10).err().unwrap().to_string();
    assert_eq!(error, "cannot decode JSON into the schema: it has a column of type UInt8");
}
