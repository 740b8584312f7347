//! Four judged rows of three records, two dead letters, and what each sink gets of them.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;

use super::*;
use crate::config::{Place, SinkColumn, SinkKind};
use crate::ledger::Counts;
use crate::outcome::{Reason, Severity, Stage, route};
use crate::record::{Range, RawRecord, Span, TopicPartition};

const ENTRY: Uuid = Uuid::from_u128(0x0199_aa00_0000_7000_8000_0000_0000_0001);

/// Records 0 and 1 of partition 0, 2 and 3 of partition 1; each has its offset as key, and headers where it is odd.
fn raw() -> RawBatch {
    let mut raw = RawBatch::default();
    let mut data = Vec::new();
    let mut span = |text: &str| {
        let start = data.len() as u32;
        data.extend_from_slice(text.as_bytes());
        Span { start, len: text.len() as u32 }
    };
    for (range, offset) in [(0, 10), (0, 11), (1, 70), (1, 71)] {
        let headers = (offset % 2 == 1).then_some(raw.headers.len() as u32);
        if headers.is_some() {
            raw.headers.push(vec![("trace".into(), Some(Bytes::from(format!("t{offset}"))))]);
        }
        let (key, value) = (span(&offset.to_string()), span(&format!("payload {offset}")));
        let timestamp = (offset != 70).then_some(offset);
        raw.records.push(RawRecord { range, offset, timestamp, key, value, headers, truncated_from: None });
    }
    let range = |partition, from| Range { partition: TopicPartition::new("visits", partition), from, to: from + 2 };
    raw.ranges = vec![range(0, 10), range(1, 70)];
    raw.data = data.into();
    raw
}

fn schema() -> Schema {
    let user = Fields::from(vec![Field::new("login", DataType::Utf8, true)]);
    Schema::new(vec![Field::new("n", DataType::Int64, true), Field::new("user", DataType::Struct(user), true)])
}

/// Record 0 is one row, record 1 three of which the middle one died, record 2 one row, record 3 was no row at all.
/// `n` is 10 × record + ordinal, and findings stand at these rows.
fn judged(found: &[(u32, Severity, &str)]) -> Judged {
    let (origin, ordinal) = (vec![0, 1, 1, 2], vec![0, 0, 2, 0]);
    let n: ArrayRef = Arc::new(Int64Array::from(vec![0, 10, 12, 20]));
    let login: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c", "d"]));
    let user = arrow::array::StructArray::from(vec![(Arc::new(Field::new("login", DataType::Utf8, true)), login)]);
    let columns = RecordBatch::try_new(Arc::new(schema()), vec![n, Arc::new(user)]).unwrap();
    let finding = |(row, severity, code): &(u32, Severity, &str)| Finding {
        row: *row,
        rule: "expect".into(),
        code: (*code).into(),
        severity: *severity,
        column: Some("n".into()),
        detail: None,
    };
    let findings: Vec<Finding> = found.iter().map(finding).collect();
    let dead = |record, ordinal, stage, reason, plugin: Option<&str>| Dead {
        record,
        ordinal,
        stage,
        reason,
        detail: format!("detail of {record}"),
        plugin: plugin.map(|name| (name.into(), "9c1e04".into())),
    };
    Judged {
        windows: None,
        outcomes: route(4, &findings),
        batch: Batch { columns, origin, ordinal, raw: Arc::new(raw()), pipeline: Uuid::nil() },
        findings,
        dead: vec![
            dead(3, 0, Stage::Decode, Reason::NotJson, None),
            dead(1, 1, Stage::Rule, Reason::PluginTrap, Some("consent")),
        ],
        counts: Counts::default(),
    }
}

fn sink(columns: Option<&[(&str, &str)]>, provenance: bool) -> SinkConfig {
    let place = || Place { file: "sluice.toml".into(), span: 0..0 };
    let column =
        |(name, path): &(&str, &str)| SinkColumn { name: (*name).into(), path: (*path).into(), place: place() };
    SinkConfig {
        kind: SinkKind::Stdout,
        columns: columns.map(|columns| columns.iter().map(column).collect()),
        provenance,
        partition_by: vec![],
        keep: None,
    }
}

fn shape(outcome: Outcome, sink: &SinkConfig, judged: &Judged) -> Option<RecordBatch> {
    let shaper = Shaper::new(outcome, sink, &schema()).unwrap();
    let shaped = shaper.shape(judged, ENTRY).unwrap();
    assert!(shaped.iter().all(|rows| rows.schema_ref() == shaper.schema()));
    shaped
}

fn names(rows: &RecordBatch) -> Vec<String> {
    rows.schema_ref().fields().iter().map(|field| field.name().clone()).collect()
}

/// `_topic/_partition/_offset/_row` of each row.
fn places(rows: &RecordBatch) -> Vec<String> {
    let topics = rows["_topic"].as_string::<i32>();
    let [partitions, ordinals] = ["_partition", "_row"].map(|name| rows[name].as_primitive::<Int32Type>());
    let offsets = rows["_offset"].as_primitive::<Int64Type>();
    let place = |row| {
        let (partition, offset, ordinal) = (partitions.value(row), offsets.value(row), ordinals.value(row));
        format!("{}/{partition}/{offset}/{ordinal}", topics.value(row))
    };
    (0..rows.num_rows()).map(place).collect()
}

/// `_findings` of each row as `code severity`.
fn codes(rows: &RecordBatch) -> Vec<Vec<String>> {
    let lists = rows["_findings"].as_list::<i32>();
    let of = |row| {
        assert!(lists.is_valid(row), "a row without findings has an empty list");
        let found = lists.value(row);
        let found = found.as_struct();
        let [codes, severities] = ["code", "severity"].map(|name| found[name].as_string::<i32>());
        codes.iter().zip(severities).map(|(code, s)| format!("{} {}", code.unwrap(), s.unwrap())).collect()
    };
    (0..rows.num_rows()).map(of).collect()
}

fn texts(rows: &RecordBatch, name: &str) -> Vec<String> {
    let column = &rows[name];
    let shown = ArrayFormatter::try_new(column, &FormatOptions::new().with_null("null")).unwrap();
    (0..column.len()).map(|row| shown.value(row).to_string()).collect()
}

const MIXED: &[(u32, Severity, &str)] = &[
    (0, Severity::Warn, "old"),
    (1, Severity::Warn, "old"),
    (1, Severity::Error, "wrong"),
    (3, Severity::Error, "wrong"),
    (3, Severity::Error, "odd"),
];

#[test]
fn each_sink_gets_its_rows_and_their_findings_alone() {
    let judged = judged(MIXED);
    for (outcome, n, at, found) in [
        (Outcome::Valid, [0, 12], ["visits/0/10/0", "visits/0/11/2"], [vec!["old warn".to_owned()], vec![]]),
        (
            Outcome::Error,
            [10, 20],
            ["visits/0/11/0", "visits/1/70/0"],
            [
                vec!["old warn".to_owned(), "wrong error".to_owned()],
                vec!["wrong error".to_owned(), "odd error".to_owned()],
            ],
        ),
    ] {
        let rows = shape(outcome, &sink(None, true), &judged).unwrap();
        let expected = ["n", "user", "_topic", "_partition", "_offset", "_row", "_attempt", "_batch", "_findings"]
            .map(String::from);
        assert_eq!(names(&rows), expected);
        assert_eq!(rows["n"].as_primitive::<Int64Type>().values(), &n, "{outcome}");
        assert_eq!(places(&rows), at, "{outcome}");
        assert_eq!(codes(&rows), found, "{outcome}");
        assert_eq!(texts(&rows, "_attempt"), ["0", "0"]);
        assert_eq!(texts(&rows, "_batch"), [ENTRY.to_string(), ENTRY.to_string()]);
    }
}

#[test]
fn all_rows_may_be_of_one_outcome() {
    let judged = judged(&[]);
    let rows = shape(Outcome::Valid, &sink(None, true), &judged).unwrap();
    assert_eq!(rows.column(0), judged.batch.columns.column(0));
    assert_eq!(places(&rows), ["visits/0/10/0", "visits/0/11/0", "visits/0/11/2", "visits/1/70/0"]);
    assert_eq!(codes(&rows), vec![Vec::<String>::new(); 4]);
    assert_eq!(texts(&rows, "_batch"), vec![ENTRY.to_string(); 4]);
    assert_eq!(shape(Outcome::Error, &sink(None, true), &judged), None);
}

#[test]
fn a_sink_stores_the_columns_that_it_names() {
    let columns = [("login", "user.login"), ("n", "n"), ("at", "_offset")];
    let rows = shape(Outcome::Error, &sink(Some(&columns), false), &judged(MIXED)).unwrap();
    assert_eq!(names(&rows), ["login", "n", "at"]);
    assert_eq!(texts(&rows, "login"), ["b", "d"]);
    assert_eq!(texts(&rows, "n"), ["10", "20"]);
    assert_eq!(texts(&rows, "at"), ["11", "70"]);

    let all = shape(Outcome::Valid, &sink(Some(&columns), false), &judged(&[])).unwrap();
    assert_eq!(texts(&all, "login"), ["a", "b", "c", "d"]);

    let missing = Shaper::new(Outcome::Valid, &sink(Some(&[("x", "user.x")]), true), &schema()).err().unwrap();
    assert_eq!(missing.to_string(), "sink `valid` stores `user.x`, which rows do not have");
}

#[test]
fn a_dead_letter_holds_its_record() {
    let judged = judged(MIXED);
    let rows = shape(Outcome::Dlq, &sink(None, true), &judged).unwrap();
    assert_eq!(places(&rows), ["visits/1/71/0", "visits/0/11/1"]);
    let binary = |name: &str| -> Vec<Vec<u8>> {
        rows[name].as_binary::<i32>().iter().map(|bytes| bytes.unwrap().to_vec()).collect()
    };
    assert_eq!(binary("_key"), [b"71", b"11"]);
    assert_eq!(binary("_value"), [b"payload 71", b"payload 11"]);
    assert_eq!(texts(&rows, "_headers"), ["[{key: trace, value: 743731}]", "[{key: trace, value: 743131}]"]);
    assert_eq!(rows["_timestamp"].as_primitive::<TimestampMicrosecondType>().values(), &[71_000, 11_000]);
    for (column, expected) in [
        ("stage", ["decode", "rule"]),
        ("reason", ["not-json", "plugin-trap"]),
        ("detail", ["detail of 3", "detail of 1"]),
        ("plugin", ["null", "consent"]),
        ("digest", ["null", "9c1e04"]),
        ("_batch", [&*ENTRY.to_string(), &*ENTRY.to_string()]),
    ] {
        assert_eq!(texts(&rows, column), expected, "{column}");
    }
    assert_eq!(codes(&rows), [Vec::<String>::new(), vec![]], "findings of rows beside it are not its own");

    let bare = shape(Outcome::Dlq, &sink(None, false), &judged).unwrap();
    assert_eq!(names(&bare).last().unwrap(), "digest");
    let none = Judged { dead: vec![], ..judged };
    assert_eq!(shape(Outcome::Dlq, &sink(None, true), &none), None);
}
