//! What is written for records of every kind, and that it holds for them.

use std::path::Path;

use expect_test::expect;
use proptest::prelude::*;

use super::*;
use crate::config::UnknownFields;
use crate::decode::JsonDecoder;
use crate::plugin::Engine;
use crate::schema::Schema;

fn sample(payloads: &[impl AsRef<str>]) -> Sample {
    let record = |(n, payload): (usize, &_)| Sampled {
        place: Place { topic: "in.ndjson".into(), partition: None, offset: n as i64 + 1 },
        value: Some(Bytes::copy_from_slice(AsRef::<str>::as_ref(payload).as_bytes())),
    };
    let records: Vec<Sampled> = payloads.iter().enumerate().map(record).collect();
    Sample { from: "in.ndjson".into(), of: Some(records.len() as u64), records }
}

fn drafted(payloads: &[impl AsRef<str>], misfits: Share) -> Draft {
    describe(&sample(payloads)).unwrap().draft("t", "From in.ndjson.", misfits).unwrap()
}

/// The lines of the table alone.
fn table(payloads: &[&str]) -> String {
    let sql = drafted(payloads, Share::percent(0)).sql;
    Schema::from_ddl(&sql, "t.sql").unwrap_or_else(|mistakes| panic!("{mistakes}\n{sql}"));
    sql.lines().skip(3).collect::<Vec<_>>().join("\n") + "\n"
}

#[test]
fn every_kind_of_value_gets_the_narrowest_type_that_holds_all() {
    expect![[r#"
          n       BIGINT,                         -- all 2 records; -1 to 2
          big     DECIMAL(20,0),                  -- all 2 records; about 1e0 to 1.8446744073709552e19
          f       DOUBLE,                         -- all 2 records; 1 to 1.5
          b       BOOLEAN,                        -- 1 of 2 records
          at      TIMESTAMP,                      -- all 2 records
          day     DATE,                           -- all 2 records
          text    STRING,                         -- all 2 records; 1 are dates
          list    ARRAY<ARRAY<DOUBLE>>,           -- all 2 records
          `a-b`   STRING,                         -- 1 of 2 records; 1 empty
          `check` STRUCT<                         -- all 2 records
            x: BIGINT,                            -- all 2 objects; 1 to 3
            y: STRUCT<                            -- 1 of 2 objects
              z: STRING                           -- the one object; 1 empty
            >
          >,
          items   ARRAY<STRUCT<                   -- all 2 records
            sku: STRING                           -- 2 of 3 items
            -- qty: a number in 2, a text in 1 (first in.ndjson:2); all 3 items
          >>
        )
    "#]]
    .assert_eq(&table(&[
        r#"{"n": -1, "big": 18446744073709551615, "f": 1, "b": null, "at": "2026-11-20T21:03:11Z", "day": "2026-11-20", "text": "2026-11-20",
            "list": [[1], []], "a-b": "", "check": {"x": 1}, "items": [{"sku": "a", "qty": 1}, {"sku": "b", "qty": 2}]}"#,
        r#"{"n": 2, "big": 1, "f": 1.5, "b": true, "at": "2026-11-20 21:03:11+01:00", "day": "2026-11-21", "text": "x",
            "list": [[1.5]], "a-b": null, "check": {"x": 3, "y": {"z": ""}}, "items": [{"qty": "three"}]}"#,
    ]));
}

#[test]
fn what_no_type_holds_is_left_out_with_the_reason() {
    expect![[r#"
          -- mixed: a number in 1, a text in 1 (first in.ndjson:2); all 2 records
          -- never: always null
          -- none: an array that is always empty; all 2 records
          -- bare: an object without fields; all 2 records
          -- a b: a column cannot have this name; all 2 records
          -- _topic: every row has a column of this name; 1 of 2 records
          -- ID: differs from id in case only, and a table takes them for one; 1 of 2 records
          id BIGINT                               -- all 2 records; 1 to 2
        )
    "#]]
    .assert_eq(&table(&[
        r#"{"mixed": 1, "never": null, "none": [], "bare": {}, "a b": 1, "_topic": "x", "ID": 1, "id": 1}"#,
        r#"{"mixed": "1", "none": [], "bare": {}, "a b": 1, "id": 2}"#,
    ]));
}

#[test]
fn misfits_that_are_tolerated_are_dead_letters_and_said() {
    let mut payloads: Vec<String> =
        (0..99).map(|n| format!("{{\"id\": \"u{n}\", \"at\": \"2026-11-20T21:03:11Z\"}}")).collect();
    payloads.push("{\"id\": 6, \"at\": \"soon\"}".to_owned());
    let strict = drafted(&payloads, Share::percent(0));
    assert!(
        strict.sql.contains("-- id: a text in 99, a number in 1 (first in.ndjson:100); all 100 records"),
        "{}",
        strict.sql
    );
    assert!(strict.sql.contains("at STRING") && strict.sql.contains("99 are timestamps"), "{}", strict.sql);
    let loose = drafted(&payloads, Share::percent(1));
    let note = "all 100 records; a text in 99, a number in 1 (first in.ndjson:100): those are dead letters";
    assert!(loose.sql.contains(note), "{}", loose.sql);
    assert!(
        loose.sql.contains("TIMESTAMP") && loose.sql.contains("no timestamp in 1 (first in.ndjson:100)"),
        "{}",
        loose.sql
    );
}

#[test]
fn an_object_keyed_by_data_is_a_map() {
    let payload = |n: u32| format!("{{\"seen\": {{\"user {n}\": {n}, \"user {}\": 1.5}}}}", n + 1);
    let payloads: Vec<String> = (0..100).map(payload).collect();
    let sql = drafted(&payloads, Share::percent(0)).sql;
    assert!(sql.contains("seen MAP<STRING, DOUBLE>") && sql.contains("all 100 records; 101 names"), "{sql}");
}

#[test]
fn suggestions_hold_for_the_sample_or_are_mentioned_only() {
    let payload = |n: u32| {
        let page = if n == 7 { "null".to_owned() } else { format!("\"/{n}\"") };
        let device = ["phone", "tablet", "it's"][n as usize % 3];
        format!(
            "{{\"id\": \"{n}\", \"page\": {page}, \"ctx\": {{\"device\": \"{device}\", \"n\": {n}, \"rare\": null}}, \"note\": \"\"}}"
        )
    };
    let payloads: Vec<String> = (0..200).map(payload).collect();
    let draft = drafted(&payloads, Share::percent(0));
    let shown: Vec<String> = draft
        .suggestions
        .iter()
        .map(|s| {
            format!(
                "{} {} = {} -- {}\n",
                if s.holds { if s.warns { "warn" } else { "    " } } else { "#   " },
                s.name,
                s.sql,
                s.evidence
            )
        })
        .collect();
    expect![[r#"
             has-id = id IS NOT NULL AND id <> '' -- all 200 records have it, never empty
        #    has-page = page IS NOT NULL AND page <> '' -- 199 of 200 records have it: with this, 1 record would be refused
             has-ctx-device = ctx.device IS NOT NULL AND ctx.device <> '' -- all 200 records have it, never empty
        warn known-ctx-device = ctx.device IN ('it''s', 'phone', 'tablet') -- 3 values in 200 texts, mostly tablet (33.5 %)
             has-ctx-n = ctx.n IS NOT NULL -- all 200 records have it
        warn not-negative-ctx-n = ctx.n >= 0 -- 0 to 199 in 200 numbers
             has-note = note IS NOT NULL -- all 200 records have it
        warn known-note = note IN ('') -- 1 values in 200 texts, mostly empty (100.0 %)
    "#]]
    .assert_eq(&shown.concat());
    assert_eq!(draft.event_time, None);
    let checked = checked(&sample(&payloads), Share::percent(0));
    assert_eq!((checked.counts.of(Outcome::Valid), checked.refused.len()), (200, 0));
    assert!(checked.counts.findings.is_empty(), "no warning, either: {:?}", checked.counts.findings);
}

#[test]
fn the_event_time_is_one_that_nearly_all_records_have() {
    let time = "\"2026-11-20T21:03:11Z\"";
    let found = |payload: String| drafted(&[payload], Share::percent(0)).event_time.map(|(path, _)| path);
    assert_eq!(
        found(format!("{{\"born\": {time}, \"created_at\": {time}, \"c\": {{\"ts\": {time}}}}}")).as_deref(),
        Some("c.ts")
    );
    assert_eq!(found(format!("{{\"born\": {time}}}")).as_deref(), Some("born"));
    assert_eq!(found(format!("{{\"born\": {time}, \"died\": {time}}}")), None, "nobody knows which");
    assert_eq!(found("{\"event_time\": \"noon\"}".to_owned()), None);
}

#[test]
fn nothing_to_describe_is_said() {
    for (payloads, expected) in [
        (&[][..], "in.ndjson holds no records"),
        (
            &["x", "", "[1]"],
            "none of 3 records of in.ndjson is a JSON object (1 empty-value, 1 not-an-object, 1 not-json)",
        ),
        (&["{}"], "none of the fields can be declared as a column (the objects are empty)"),
        (&["{\"a\": null}"], "none of the fields can be declared as a column (a: always null)"),
    ] {
        let drafted = describe(&sample(payloads)).and_then(|d| d.draft("t", "", Share::percent(0)).map(drop));
        let error = drafted.unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

/// The sample through the pipeline that is written for it.
fn checked(sample: &Sample, misfits: Share) -> Checked {
    let folder = tempfile::tempdir().unwrap();
    let described = describe(sample).unwrap();
    let draft = described.draft("t", "From a test.", misfits).unwrap();
    let from = pipeline::From::Files(vec!["in.ndjson".into()]);
    let file = folder.path().join("sluice.toml");
    std::fs::write(&file, pipeline::write("t", "From a test.", &from, "t.sql", &described, &draft)).unwrap();
    std::fs::write(folder.path().join("t.sql"), &draft.sql).unwrap();
    check(sample, &load(&file)).unwrap()
}

fn load(file: &Path) -> Chain {
    let loaded = Chain::load_with(file, Engine::new(None).unwrap());
    loaded.unwrap_or_else(|e| panic!("{e}\n{}", std::fs::read_to_string(file).unwrap()))
}

#[test]
fn a_sample_with_records_that_nothing_saves_is_checked_all_the_same() {
    let mut sample = sample(&["{\"a\": 1}", "{\"a\": 2", "{\"a\": 3, \"a\": 3}", "{\"a\": 4}"]);
    sample.records[0].value = None;
    let checked = checked(&sample, Share::percent(0));
    assert_eq!(checked.counts.of(Outcome::Valid), 1);
    assert_eq!((checked.counts.skipped, checked.unusable), (1, 2));
    assert!(checked.refused.is_empty(), "{:?}", checked.refused);
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<f64>().prop_filter("JSON has no others", |n| n.is_finite()).prop_map(Into::into),
        "[a-z]{0,3}".prop_map(Into::into),
        "20[0-9]{2}-[01][0-9]-[0-3][0-9](T[0-2][0-9]:[0-5][0-9]:00Z)?".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map("[a-cA _.]{1,2}", inner, 0..4)
                .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Whatever the objects are, the strict decoder takes every one of them by the schema that is written for them.
    #[test]
    fn the_schema_holds_every_object_that_it_was_written_for(
        objects in prop::collection::vec(prop::collection::btree_map("[a-c]", json(), 0..4), 1..12)
    ) {
        let payloads: Vec<String> = objects.iter().map(|object| serde_json::to_string(object).unwrap()).collect();
        let described = describe(&sample(&payloads)).unwrap();
        let Ok(draft) = described.draft("t", "", Share::percent(0)) else { return Ok(()) };
        let schema = Schema::from_ddl(&draft.sql, "t.sql").unwrap_or_else(|mistakes| panic!("{mistakes}\n{}", draft.sql));
        let mut decoder = JsonDecoder::new(Arc::new(schema), UnknownFields::Ignore, 1 << 20).unwrap();
        let decoded = decoder.decode(&batch(&sample(&payloads).records), |_| false);
        prop_assert!(decoded.dead.is_empty(), "{:?}\n{}\n{:?}", decoded.dead, draft.sql, payloads);
    }
}
