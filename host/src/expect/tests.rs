//! One expression, one row: expected verdict.

use std::collections::BTreeMap;

use arrow::array::{ArrayRef, RecordBatch, StringArray, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;

use super::*;
use crate::config::{Place, Sql, UnknownFields};
use crate::decode::JsonDecoder;
use crate::record::{Range, RawBatch, RawRecord, Span, TopicPartition};

fn sql(text: &str) -> Sql {
    Sql { text: text.to_owned(), place: Place { file: "sluice.toml".into(), span: 0..text.len() } }
}

fn expectation(name: &str, text: &str) -> config::Expectation {
    config::Expectation { name: name.into(), sql: sql(text), severity: Severity::Error, help: None }
}

fn schema() -> SchemaRef {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    let utc = crate::columns::timestamp_type();
    let user = Fields::from(vec![field("login", DataType::Utf8), field("connected_since", utc.clone())]);
    let context =
        vec![field("referral", DataType::Utf8), field("ad_id", DataType::Utf8), field("user", DataType::Struct(user))];
    let entry = Fields::from(vec![Field::new("key", DataType::Utf8, false), field("value", DataType::Int64)]);
    let labels = DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entry), false)), false);
    Arc::new(Schema::new(vec![
        field("user_id", DataType::Utf8),
        field("Page", DataType::Utf8),
        field("page", DataType::Utf8),
        field("n", DataType::Int64),
        field("m", DataType::Int32),
        field("x", DataType::Float64),
        field("price", DataType::Decimal128(10, 2)),
        field("day", DataType::Date32),
        field("at", utc),
        field("private", DataType::Boolean),
        field("tags", DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)))),
        field("labels", labels),
        field("context", DataType::Struct(Fields::from(context))),
    ]))
}

fn lines() -> BTreeMap<String, usize> {
    BTreeMap::from([("user_id".to_owned(), 3), ("context.user.login".to_owned(), 9)])
}

fn raw(payloads: &[&str]) -> Arc<RawBatch> {
    let mut data = Vec::new();
    let mut records = Vec::new();
    for (i, payload) in payloads.iter().enumerate() {
        let value = Span { start: data.len() as u32, len: payload.len() as u32 };
        data.extend_from_slice(payload.as_bytes());
        let (offset, key) = (i as i64 + 100, Span::NULL);
        let timestamp = Some(1_795_208_591_000);
        records.push(RawRecord { range: 0, offset, timestamp, key, value, headers: None, truncated_from: None });
    }
    let ranges = vec![Range { partition: TopicPartition::new("visits", 2), from: 100, to: 100 + records.len() as i64 }];
    Arc::new(RawBatch { ranges, records, data: Bytes::from(data), headers: vec![] })
}

/// The batch that these payloads become.
fn batch(payloads: &[&str]) -> Batch {
    let raw = raw(payloads);
    let schema = crate::schema::Schema {
        arrow: schema(),
        constraints: vec![],
        file: "visits.sql".into(),
        text: String::new(),
        lines: lines(),
    };
    let mut decoder = JsonDecoder::new(Arc::new(schema), UnknownFields::Reject, 1 << 20).unwrap();
    let decoded = decoder.decode(&raw, |_| false);
    assert!(decoded.dead.is_empty(), "{:?}", decoded.dead);
    let pipeline = crate::columns::pipeline_namespace("p");
    Batch { columns: decoded.rows, origin: decoded.origin, ordinal: decoded.ordinal, raw, pipeline }
}

fn planned(expectations: &[config::Expectation]) -> Result<Expectations, Vec<SqlMistake>> {
    let lines = lines();
    Expectations::plan(&Planner::new(), expectations, &schema(), Declared { file: "visits.sql", lines: &lines })
}

/// Expectation → rows for which it is unknown, without those that are dead.
fn unknown(judged: &Judged) -> Vec<(&str, u64)> {
    let dead = || judged.dead.iter().map(|(row, _)| *row);
    judged.unknown.iter().map(|u| (&*u.name, u.without(dead()))).filter(|(_, rows)| *rows > 0).collect()
}

fn verdict(sql: &str, payload: &str) -> String {
    let planned = match planned(&[expectation("e", sql)]) {
        Ok(planned) => planned,
        Err(mistakes) => return mistakes[0].title.clone(),
    };
    let judged = planned.judge(&batch(&[payload]));
    match (&judged.findings[..], &unknown(&judged)[..], &judged.dead[..]) {
        ([], [], []) => "true".to_owned(),
        ([finding], [], []) => {
            assert_eq!((finding.row, &*finding.rule, &*finding.code), (0, "expect", "e"));
            "false".to_owned()
        }
        ([], [("e", 1)], []) => "unknown".to_owned(),
        ([], [], [(0, dead)]) => format!("{} | {}", dead.reason.as_str(), dead.detail),
        _ => panic!("{judged:?}"),
    }
}

#[track_caller]
fn check(cases: &[(&str, &str, &str)]) {
    let mut wrong = Vec::new();
    for (sql, payload, expected) in cases {
        let found = verdict(sql, payload);
        if found != *expected {
            wrong.push(format!("{sql}  on  {payload}\n   found {found}\nexpected {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_expectation_is_true_false_or_unknown() {
    let ads = "context.referral <> 'Google Ads' OR context.ad_id IS NOT NULL";
    let guarded = "m = 0 OR n / m > 1";
    check(&[
        ("user_id IS NOT NULL", r#"{"user_id":"u"}"#, "true"),
        ("user_id IS NOT NULL", r#"{}"#, "false"),
        ("page IS NOT NULL AND page <> ''", r#"{"page":""}"#, "false"),
        ("page <> ''", r#"{}"#, "unknown"),
        ("page <> '' OR n = 1", r#"{"n":1}"#, "true"),
        (ads, r#"{"context":{"referral":"Google Ads"}}"#, "false"),
        (ads, r#"{"context":{"referral":"Google Ads","ad_id":"a"}}"#, "true"),
        (ads, r#"{"context":{"referral":"mail"}}"#, "true"),
        (ads, r#"{"context":{}}"#, "unknown"),
        (ads, r#"{}"#, "unknown"),
        ("context.user.login = 'me'", r#"{"context":{"user":{"login":"me"}}}"#, "true"),
        ("context.user.login = 'Me'", r#"{"context":{"user":{"login":"me"}}}"#, "false"),
        ("context.user.login IS NULL", r#"{"context":{"user":null}}"#, "true"),
        ("context IS NOT NULL", r#"{"context":{}}"#, "true"),
        ("context IS NOT NULL", r#"{}"#, "false"),
        ("`context`.`user`.`login` IS NOT NULL", r#"{}"#, "false"),
        ("Page = 'A' AND page = 'b'", r#"{"Page":"A","page":"b"}"#, "true"),
        ("page LIKE 'cat%'", r#"{"page":"category_1"}"#, "true"),
        ("page NOT LIKE 'cat%'", r#"{"page":"category_1"}"#, "false"),
        ("page ILIKE 'CAT%'", r#"{"page":"category_1"}"#, "true"),
        ("regexp_like(page, '^page_[0-9]+$')", r#"{"page":"page_17"}"#, "true"),
        ("regexp_like(page, '^page_[0-9]+$')", r#"{"page":"page_x"}"#, "false"),
        ("page RLIKE '^p'", r#"{"page":"x"}"#, "false"),
        ("page NOT RLIKE '^p' AND page ~ 'x'", r#"{"page":"x"}"#, "true"),
        ("page IN ('index', 'home')", r#"{"page":"home"}"#, "true"),
        ("page IN ('index', 'home')", r#"{"page":"x"}"#, "false"),
        ("page NOT IN ('index', NULL)", r#"{"page":"x"}"#, "unknown"),
        ("CASE WHEN private THEN user_id IS NULL ELSE TRUE END", r#"{"private":true,"user_id":"u"}"#, "false"),
        ("CASE WHEN private THEN user_id IS NULL ELSE TRUE END", r#"{"user_id":"u"}"#, "true"),
        ("n BETWEEN 1 AND 5", r#"{"n":5}"#, "true"),
        ("n > m", r#"{"n":5,"m":4}"#, "true"),
        ("n + m = 9.0", r#"{"n":5,"m":4}"#, "true"),
        ("price = 12.30", r#"{"price":12.3}"#, "true"),
        ("price * 3 <= 36.89", r#"{"price":12.3}"#, "false"),
        ("price > n", r#"{"price":12.01,"n":12}"#, "true"),
        ("day < DATE '1980-01-01'", r#"{"day":"1979-12-31"}"#, "true"),
        ("day < '1980-01-01'", r#"{"day":"1980-01-01"}"#, "false"),
        ("at >= TIMESTAMP '2026-11-20T00:00:00Z'", r#"{"at":"2026-11-20T01:00:00+01:00"}"#, "true"),
        ("at - INTERVAL '1' DAY < _timestamp", r#"{"at":"2026-11-21T20:00:00Z"}"#, "true"),
        ("at <= _timestamp + INTERVAL '5' MINUTE", r#"{"at":"2026-11-20T21:09:00Z"}"#, "false"),
        ("context.user.connected_since <= at", r#"{"at":"2026-11-20T21:09:00Z"}"#, "unknown"),
        ("_topic = 'visits' AND _partition = 2 AND _offset = 100 AND _row = 0", r#"{}"#, "true"),
        ("_key IS NULL AND _value IS NOT NULL AND length(_id) = 36", r#"{}"#, "true"),
        ("tags[1] = 'a' AND array_length(tags) = 2", r#"{"tags":["a","b"]}"#, "true"),
        ("array_has(tags, 'b')", r#"{"tags":["a"]}"#, "false"),
        ("labels['a'] > 1", r#"{"labels":{"a":2}}"#, "true"),
        ("coalesce(page, user_id) = 'u'", r#"{"user_id":"u"}"#, "true"),
        ("coalesce(n, 1 / m) = 4", r#"{"n":4,"m":0}"#, "true"),
        ("labels['b'] > 1", r#"{"labels":{"a":2}}"#, "unknown"),
        ("length(user_id) <= 3 AND lower(user_id) = 'abc'", r#"{"user_id":"ABC"}"#, "true"),
        ("private", r#"{"private":false}"#, "false"),
        ("NOT private", r#"{"private":false}"#, "true"),
        ("TRUE", r#"{}"#, "true"),
        ("n / m > 1", r#"{"n":5,"m":0}"#, "sql-error | e: divide by zero error"),
        (guarded, r#"{"n":5,"m":0}"#, "true"),
        (guarded, r#"{"n":5,"m":4}"#, "false"),
        ("n * 4 > 0", r#"{"n":4611686018427387904}"#, "sql-error | e: overflow"),
        ("CAST(page AS INT) > 0", r#"{"page":"x"}"#, "sql-error | e: cannot cast string '…' to value of Int32 type"),
        ("TRY_CAST(page AS INT) > 0", r#"{"page":"x"}"#, "unknown"),
    ]);
}

#[test]
fn what_depends_on_more_than_the_row_is_refused() {
    check(&[
        ("at < now()", "{}", "expectation `e` calls `now`, which does not depend on the row alone"),
        ("at < current_timestamp", "{}", "expectation `e` calls `now`, which does not depend on the row alone"),
        ("day < current_date", "{}", "expectation `e` calls `current_date`, which does not depend on the row alone"),
        ("random() < 0.5", "{}", "expectation `e` calls `random`, which does not depend on the row alone"),
        ("uuid() <> page", "{}", "expectation `e` calls `uuid`, which does not depend on the row alone"),
        ("count(*) > 0", "{}", "expectation `e` calls `count`, which needs several rows"),
        ("sum(n) OVER () > 0", "{}", "expectation `e` calls `sum`, which needs several rows"),
        ("EXISTS (SELECT 1)", "{}", "expectation `e` has a subquery"),
        ("n IN (SELECT 1)", "{}", "expectation `e` has a subquery"),
        ("n > (SELECT 1)", "{}", "expectation `e` has a subquery"),
        ("n > $1", "{}", "expectation `e` has a placeholder"),
    ]);
}

#[test]
fn what_is_no_predicate_is_refused() {
    check(&[
        ("n", "{}", "expectation `e` is BIGINT, and must be true or false"),
        ("NULL", "{}", "expectation `e` is always null, and must be true or false"),
        ("n > 1 AS big", "{}", "expectation `e` is not one expression"),
        ("n > 1; n < 2", "{}", "expectation `e` is not SQL: expected: end of expression, found: ;"),
    ]);
    for text in ["n >", "", "n > > 1", "SELECT 1", "lenght(page) > 1", "page > INTERVAL"] {
        let found = verdict(text, "{}");
        assert!(found.starts_with("expectation `e` "), "{text}: {found}");
    }
}

#[test]
fn unknown_columns_are_named_with_place_and_nearest_declaration() {
    for (text, expected) in [
        ("usr_id IS NOT NULL", vec![("usr_id", "usr_id", "visits.sql:3 declares `user_id STRING`")]),
        (
            "n > 0 AND\n context.user.logn = 'ö' AND zzz",
            vec![
                ("context.user.logn", "context.user.logn", "visits.sql:9 declares `context.user.login STRING`"),
                ("zzz", "zzz", ""),
            ],
        ),
        ("USER_ID IS NULL", vec![("USER_ID", "USER_ID", "visits.sql:3 declares `user_id STRING`")]),
        ("page = 'ö' AND `pge` = 1", vec![("pge", "`pge`", "there is `page STRING`")]),
        ("login IS NULL", vec![("login", "login", "visits.sql:9 declares `context.user.login STRING`")]),
        ("page.x IS NULL", vec![("page.x", "page.x", "there is `page STRING`")]),
        (
            "_batch IS NULL",
            vec![("_batch", "_batch", "it says how a row was handled, and no verdict may depend on that")],
        ),
    ] {
        let mistakes = planned(&[expectation("e", text)]).err().unwrap();
        let found: Vec<_> = mistakes
            .iter()
            .map(|m| (m.title.as_str(), &text[m.span_in_sql.clone().unwrap()], m.label.as_str()))
            .collect();
        let titles: Vec<_> = expected
            .iter()
            .map(|(path, ..)| format!("expectation `e` reads `{path}`, which the schema does not have"))
            .collect();
        let expected: Vec<_> =
            expected.iter().zip(&titles).map(|((_, at, label), t)| (t.as_str(), *at, *label)).collect();
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn every_mistake_is_told_at_once() {
    let mistakes = planned(&[expectation("a", "usr_id = 1"), expectation("b", "n"), expectation("c", "n = 1")]);
    assert_eq!(mistakes.err().unwrap().len(), 2);
}

#[test]
fn each_expectation_tells_what_it_reads() {
    let text = "context.user.login = page OR labels['a'] = 1 OR (page = 'x' AND _key IS NULL AND context IS NULL)";
    let planned = planned(&[expectation("e", text)]).unwrap();
    let (_, reads) = planned.reads().next().unwrap();
    let reads: Vec<&str> = reads.iter().map(|path| &**path).collect();
    assert_eq!(reads, ["context.user.login", "page", "labels", "_key", "context"]);
}

/// What stands in the slots of a null struct is not what the row says.
#[test]
fn a_child_of_a_null_struct_is_null_whatever_stands_there() {
    let login: ArrayRef = Arc::new(StringArray::from(vec!["a", "ghost"]));
    let inner = Fields::from(vec![Field::new("login", DataType::Utf8, true)]);
    let user: ArrayRef = Arc::new(StructArray::new(inner.clone(), vec![login], None));
    let outer = Fields::from(vec![Field::new("user", DataType::Struct(inner), true)]);
    let context: ArrayRef = Arc::new(StructArray::new(outer, vec![user], Some(NullBuffer::from(vec![true, false]))));
    let columns = RecordBatch::try_from_iter([("context", context)]).unwrap();
    let batch = Batch { columns, ..batch(&["{}", "{}"]) };
    let lines = BTreeMap::new();
    let declared = Declared { file: "", lines: &lines };
    for (text, unknowns, findings) in [
        ("context.user.login = 'a'", 1, 0),
        ("context.user.login <> 'ghost'", 1, 0),
        ("context.user.login IS NULL", 0, 1),
        ("context.user IS NOT NULL", 0, 1),
        ("context['user']['login'] <> 'ghost'", 1, 0),
    ] {
        let list = [expectation("e", text)];
        let planned = Expectations::plan(&Planner::new(), &list, batch.columns.schema_ref(), declared).unwrap();
        let judged = planned.judge(&batch);
        let counted: u64 = unknown(&judged).iter().map(|(_, n)| n).sum();
        assert_eq!((counted, judged.findings.len()), (unknowns, findings), "{text}");
    }
}

#[test]
fn a_row_that_cannot_be_judged_costs_only_itself() {
    let expectations = [expectation("ratio", "n / m >= 2"), expectation("has-user", "user_id IS NOT NULL")];
    let payloads: Vec<String> = (0..100)
        .map(|i| format!(r#"{{"n":6,"m":{}{}}}"#, i % 5, if i % 2 == 0 { r#","user_id":"u""# } else { "" }))
        .collect();
    let payloads: Vec<&str> = payloads.iter().map(String::as_str).collect();
    let planned = planned(&expectations).unwrap();
    let together = planned.judge(&batch(&payloads));

    let rows: Vec<u32> = together.dead.iter().map(|(row, _)| *row).collect();
    assert_eq!(rows, (0..100).filter(|i| i % 5 == 0).collect::<Vec<_>>());
    let (_, dead) = &together.dead[1];
    assert_eq!((dead.record, dead.stage, dead.reason), (5, Stage::Rule, Reason::SqlError));
    assert_eq!(dead.detail, "ratio: divide by zero error");
    assert!(together.findings.iter().all(|f| f.row % 5 != 0));

    // the same, row by row
    for (row, payload) in payloads.iter().enumerate() {
        let alone = planned.judge(&batch(&[payload]));
        let of_row = |codes: &Judged, row: u32| -> Vec<Arc<str>> {
            codes.findings.iter().filter(|f| f.row == row).map(|f| f.code.clone()).collect()
        };
        assert_eq!(of_row(&alone, 0), of_row(&together, row as u32), "{payload}");
        assert_eq!(alone.dead.len(), usize::from(rows.contains(&(row as u32))), "{payload}");
    }
}

#[test]
fn unknown_rows_are_counted_without_the_dead() {
    let list = [expectation("page", "page <> ''"), expectation("ratio", "n / m >= 2")];
    let judged =
        planned(&list).unwrap().judge(&batch(&[r#"{"n":1,"m":0}"#, r#"{"page":"a"}"#, r#"{"page":""}"#, "{}"]));
    assert_eq!(unknown(&judged), [("page", 1), ("ratio", 3)]);
    // and without those that die later
    let rows: Vec<u64> = judged.unknown.iter().map(|u| u.without([0, 2].into_iter())).collect();
    assert_eq!(rows, [1, 2]);
    assert_eq!(judged.findings.len(), 1);
    let finding = &judged.findings[0];
    assert_eq!((finding.row, &*finding.code, finding.column.as_deref()), (2, "page", Some("page")));
}

#[test]
fn no_expectations_and_no_rows_are_fine() {
    assert_eq!(planned(&[]).unwrap().judge(&batch(&["{}"])), Judged::default());
    assert_eq!(planned(&[expectation("e", "n > 1")]).unwrap().judge(&batch(&[])), Judged::default());
}

fn enricher(columns: &[(&str, &str)]) -> Result<SqlEnricher, Vec<SqlMistake>> {
    let columns: Vec<_> = columns.iter().map(|(name, text)| ((*name).to_owned(), sql(text))).collect();
    let lines = lines();
    let declared = Declared { file: "visits.sql", lines: &lines };
    SqlEnricher::plan(&Planner::new(), "flatten".into(), &columns, &schema(), declared)
}

#[test]
fn added_columns_are_plain_and_may_build_on_each_other() {
    for (text, payload, data_type, expected) in [
        ("context.user.login", r#"{"context":{"user":{"login":"me"}}}"#, DataType::Utf8, "me"),
        ("n + 1", r#"{"n":4}"#, DataType::Int64, "5"),
        ("upper(page)", r#"{"page":"a"}"#, DataType::Utf8, "A"),
        ("'constant'", "{}", DataType::Utf8, "constant"),
        ("array_length(tags)", r#"{"tags":["a"]}"#, DataType::Int64, "1"),
        ("to_timestamp('2026-11-20T21:03:11Z')", "{}", columns_timestamp(), "2026-11-20T21:03:11Z"),
        ("date_trunc('hour', at)", r#"{"at":"2026-11-20T21:03:11Z"}"#, columns_timestamp(), "2026-11-20T21:00:00Z"),
        ("CAST(at AS DATE)", r#"{"at":"2026-11-20T21:03:11Z"}"#, DataType::Date32, "2026-11-20"),
        ("price * 2", r#"{"price":1.25}"#, DataType::Decimal128(31, 2), "2.50"),
        ("CASE WHEN n > 1 THEN 'many' END", r#"{"n":4}"#, DataType::Utf8, "many"),
        ("arrow_cast(page, 'Dictionary(Int32, Utf8)')", r#"{"page":"a"}"#, DataType::Utf8, "a"),
        ("arrow_cast(page, 'Utf8View')", r#"{"page":"a"}"#, DataType::Utf8, "a"),
        ("arrow_cast(n, 'UInt32')", r#"{"n":4000000000}"#, DataType::Int64, "4000000000"),
        ("_offset", "{}", DataType::Int64, "100"),
    ] {
        let enricher = enricher(&[("added", text), ("again", "added")]).unwrap_or_else(|e| panic!("{text}: {e:?}"));
        let enriched = enricher.enrich(&batch(&[payload]), usize::MAX).unwrap();
        assert!(enriched.dead.is_empty(), "{text}: {:?}", enriched.dead);
        assert_eq!(enriched.batch.columns.schema_ref(), enricher.schema());
        for column in ["added", "again"] {
            let column = &enriched.batch.columns[column];
            assert_eq!(*column.data_type(), data_type, "{text}");
            let shown = ArrayFormatter::try_new(column, &FormatOptions::new()).unwrap();
            assert_eq!(shown.value(0).to_string(), expected, "{text}");
        }
    }
}

fn columns_timestamp() -> DataType {
    crate::columns::timestamp_type()
}

#[test]
fn a_row_on_which_an_added_column_fails_is_dead() {
    let enricher = enricher(&[("ratio", "n / m"), ("number", "CAST(page AS INT)"), ("sum", "ratio + number")]).unwrap();
    let rows = [
        r#"{"n":6,"m":3,"page":"1"}"#,
        r#"{"n":6,"m":0,"page":"x"}"#,
        r#"{"n":6,"m":2,"page":"x"}"#,
        r#"{"page":"5"}"#,
    ];
    let enriched = enricher.enrich(&batch(&rows), usize::MAX).unwrap();
    let dead: Vec<_> = enriched.dead.iter().map(|d| (d.record, d.stage, d.detail.as_str())).collect();
    assert_eq!(
        dead,
        [
            (1, Stage::Enrich, "flatten, column ratio: divide by zero error"),
            (2, Stage::Enrich, "flatten, column number: cannot cast string '…' to value of Int32 type"),
        ]
    );
    assert_eq!((enriched.batch.origin.clone(), enriched.batch.ordinal.clone()), (vec![0, 3], vec![0, 0]));
    assert_eq!(enriched.batch.columns.num_rows(), 2);
}

#[test]
fn an_added_column_is_new_and_storable() {
    for (columns, expected) in [
        (vec![("page", "n")], "column `page` is there already"),
        (vec![("_id2", "n")], "column `_id2` cannot have this name"),
        (vec![("a.b", "n")], "column `a.b` cannot have this name"),
        (vec![("a", "NULL")], "column `a` is always null, which a table cannot store"),
        (vec![("a", "at - at")], "column `a` is Duration(µs), which a table cannot store"),
        (vec![("a", "b"), ("b", "n")], "column `a` reads `b`, which the schema does not have"),
        (vec![("a", "random()")], "column `a` calls `random`, which does not depend on the row alone"),
    ] {
        let mistakes = enricher(&columns).err().unwrap_or_else(|| panic!("{columns:?}"));
        assert_eq!(mistakes[0].title, expected);
    }
}

#[test]
fn records_are_skipped_by_what_is_certain() {
    let raw = Arc::new({
        let mut raw = RawBatch::clone(&raw(&["{}", "", "x"]));
        raw.records[1].value = Span::NULL;
        raw.records[2].timestamp = None;
        raw
    });
    for (text, expected) in [
        ("_value IS NULL", vec![false, true, false]),
        ("_offset >= 101", vec![false, true, true]),
        ("_timestamp < TIMESTAMP '2030-01-01T00:00:00Z'", vec![true, true, false]),
        ("1 / (_offset - 101) = -1", vec![true, false, false]),
        ("CAST(_value AS STRING) = 'x'", vec![false, false, true]),
    ] {
        let skip = Skip::plan(&Planner::new(), &sql(text)).unwrap_or_else(|e| panic!("{text}: {e:?}"));
        assert_eq!(skip.skipped(&raw), BooleanArray::from(expected), "{text}");
    }
    for (text, expected) in [
        ("page = ''", "`skip` reads `page`, which the schema does not have"),
        ("_row = 0", "`skip` reads `_row`, which a record does not have before it is decoded"),
    ] {
        let mistakes = Skip::plan(&Planner::new(), &sql(text)).err().unwrap();
        assert_eq!(mistakes[0].title, expected);
    }
}

#[test]
fn a_call_that_would_make_too_much_costs_the_row() {
    check(&[
        ("repeat(page, n) = 'ababab'", r#"{"page":"ab","n":3}"#, "true"),
        ("repeat(page, n) = ''", r#"{"page":"ab","n":-3}"#, "true"),
        ("repeat(page, n) = ''", r#"{"page":"ab"}"#, "unknown"),
        ("lpad(page, n) = '  ab'", r#"{"page":"ab","n":4}"#, "true"),
        ("array_length(range(n)) = 3", r#"{"n":3}"#, "true"),
        ("replace(page, 'a', 'xyz') = 'xyzb'", r#"{"page":"ab"}"#, "true"),
        (
            "repeat(page, n) <> ''",
            r#"{"page":"ab","n":99999999999}"#,
            "sql-error | e: repeat would make 199999999998 bytes; 33554432 are allowed",
        ),
        (
            "lpad(page, n) <> ''",
            r#"{"page":"ab","n":9000000000}"#,
            "sql-error | e: lpad would make 36000000000 bytes; 33554432 are allowed",
        ),
        (
            "array_length(range(n)) > 0",
            r#"{"n":9000000000}"#,
            "sql-error | e: range would make 72000000000 bytes; 33554432 are allowed",
        ),
        (
            "replace(repeat(page, n), 'a', repeat(page, n)) <> ''",
            r#"{"page":"a","n":10000}"#,
            "sql-error | e: replace would make 100020000 bytes; 33554432 are allowed",
        ),
        (
            "levenshtein(repeat(page, n), repeat(page, n)) = 0",
            r#"{"page":"a","n":1000000}"#,
            "sql-error | e: levenshtein would make 62500000000 bytes; 33554432 are allowed",
        ),
    ]);
}

#[test]
fn columns_that_take_too_much_together_are_cut_and_alone_are_dead() {
    let enricher = enricher(&[("long", "repeat(page, 1000)")]).unwrap_or_else(|e| panic!("{e:?}"));
    let rows = batch(&[r#"{"page":"0123456789"}"#; 3]);
    assert!(enricher.enrich(&rows, 20_000).is_none());
    assert_eq!(enricher.enrich(&rows, 40_000).unwrap().batch.len(), 3);
    let given_up = enricher.give_up(&rows, 20_000);
    assert_eq!((given_up.batch.len(), given_up.dead.len()), (0, 3));
    assert_eq!(given_up.batch.columns.schema_ref(), enricher.schema());
    let dead = &given_up.dead[2];
    let said = (dead.record, dead.reason, dead.detail.as_str());
    assert_eq!(said, (2, Reason::SqlError, "flatten: its columns would take more than 20000 bytes for this record"));
}
