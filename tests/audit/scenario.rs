//! The scenario `awap-visits`: every number of it, from a file and from a real topic, killed in between, and its payloads.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;
use sluice_host::chain::Chain;
use sluice_host::outcome::Outcome;
use sluice_host::record::{Range, RawBatch, RawRecord, Span, TopicPartition};

use crate::broker;
use crate::peer;
use crate::project::Project;

const PIPELINE: &str = include_str!("../scenarios/awap-visits/sluice.toml");
const SCHEMA: &str = include_str!("../scenarios/awap-visits/visits.sql");
const README: &str = include_str!("../scenarios/awap-visits/README.md");
const PAYLOADS: &str = include_str!("../scenarios/awap-visits/payloads.ndjson");

/// Rows that end as valid and as error, of each window.
const WINDOWS: [(u64, u64); 8] = [(48, 1), (36, 12), (0, 49), (9_999, 0), (0, 10_000), (0, 1), (1, 0), (3, 1)];

/// The tables of a finished scenario in `folder`, as another reader sees them.
fn every_number(project: &Project, folder: &str) {
    let table = |name: &'static str, of: &str| (name, project.path().join(folder).join("lake").join(of));
    let tables = [table("staging", "visits_staging"), table("valid", "visits"), table("error", "visits_errors")];
    // a row's window stands in staging; coordinates lead to it
    let sql = "SELECT s._window AS w, \
               count(v._offset) AS valid, count(e._offset) AS error FROM staging s \
               LEFT JOIN valid v ON s._partition = v._partition AND s._offset = v._offset \
               LEFT JOIN error e ON s._partition = e._partition AND s._offset = e._offset GROUP BY 1 ORDER BY 1";
    let rows = peer::sql(sql, &tables);
    let rows = rows.as_array().expect("a list").iter();
    let found: Vec<(u64, u64)> =
        rows.map(|row| (row["valid"].as_u64().unwrap_or(0), row["error"].as_u64().unwrap_or(0))).collect();
    assert_eq!(found, WINDOWS);
    let sql = "SELECT (SELECT count(*) FROM staging) AS s, (SELECT count(*) FROM valid) AS v, (SELECT count(*) FROM error) AS e";
    let totals = peer::sql(sql, &tables);
    assert_eq!(totals, serde_json::json!([{ "s": 20_151, "v": 10_087, "e": 10_064 }]));
}

#[test]
fn the_demo_shows_every_number() {
    let project = Project::new(&[]);
    let screen = project.sluice(&["demo", "awap-visits", "--dir", "demo"]).expect(0);
    assert!(screen.contains("reconciled: 20,151 consumed, no gap, no overlap"), "{screen}");
    assert!(screen.contains("10,000          0   reject    volume"), "{screen}");
    every_number(&project, "demo");
}

#[test]
fn the_same_from_a_topic() {
    let project = Project::new(&[]);
    let brokers = broker::shared().bootstrap();
    let screen = project.sluice(&["demo", "awap-visits", "--dir", "demo", "--brokers", &brokers]).expect(0);
    assert!(screen.contains("reconciled: 20,151 consumed, no gap, no overlap"), "{screen}");
    every_number(&project, "demo");
}

#[test]
fn killed_between_any_two_writes_it_has_the_same_numbers() {
    let made = Project::new(&[]);
    made.sluice(&["demo", "awap-visits", "--dir", "demo"]).expect(0);
    let data = made.read("demo/visits.ndjson");
    let project = Project::new(&[("sluice.toml", PIPELINE), ("visits.sql", SCHEMA), ("visits.ndjson", &data)]);
    for point in [
        "write/files-durable",
        "append/created",
        "apply/after-dlq",
        "audit/measured",
        "audit/files-durable",
        "audit/appended",
        "apply/after-valid",
        "audit/applied:2",
    ] {
        let killed = project.sluice_with(("SLUICE_CRASH_AT", point), &["run", "--until-end"]);
        assert_eq!(killed.code, None, "{point} was never passed:\n{}{}", killed.stdout, killed.stderr);
    }
    project.sluice(&["run", "--until-end"]).expect(0);
    every_number(&project, "");
    project.sluice(&["reconcile"]).expect(0);
}

/// One record without a key.
fn record(value: Option<&str>) -> RawBatch {
    let bytes = value.unwrap_or_default().as_bytes();
    let span = value.map_or(Span::NULL, |_| Span { start: 0, len: bytes.len() as u32 });
    let record = RawRecord {
        range: 0,
        offset: 0,
        timestamp: None,
        key: Span::NULL,
        value: span,
        headers: None,
        truncated_from: None,
    };
    RawBatch {
        ranges: vec![Range { partition: TopicPartition::new("visits", 0), from: 0, to: 1 }],
        records: vec![record],
        data: Bytes::copy_from_slice(bytes),
        headers: vec![],
    }
}

/// The lines of the README's table: case → outcome and reason.
fn documented() -> BTreeMap<String, String> {
    let rows = README.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.filter_map(|row| {
        let mut cells = row.split('|').map(str::trim);
        let case = cells.next()?.trim_end_matches('`').to_owned();
        Some((case, cells.nth(1)?.replace('`', "")))
    });
    cells.collect()
}

#[test]
fn the_table_of_payloads_says_what_becomes_of_each() {
    let project = Project::new(&[("sluice.toml", PIPELINE), ("visits.sql", SCHEMA)]);
    let chain = Chain::load(&project.path().join("sluice.toml"), None).expect("the scenario's pipeline is one");
    let mut found = BTreeMap::new();
    for line in PAYLOADS.lines() {
        let case: Value = serde_json::from_str(line).expect("a case");
        let judged = chain.judge().unwrap().judge(record(case["value"].as_str())).expect("it is judged");
        let says = match (judged.outcomes.first(), judged.dead.first()) {
            (Some(Outcome::Valid), None) => "valid".to_owned(),
            (Some(Outcome::Error), None) => format!("error {}", judged.findings[0].code),
            (None, Some(dead)) => format!("dlq {}", dead.reason.as_str()),
            other => panic!("{case}: {other:?}"),
        };
        found.insert(case["case"].as_str().expect("a name").to_owned(), says);
    }
    assert_eq!(found.len(), 45);
    assert_eq!(found, documented());
}

#[test]
fn rule_and_audit_as_components_have_the_same_numbers() {
    let made = Project::new(&[]);
    made.sluice(&["demo", "awap-visits", "--dir", "demo"]).expect(0);
    let expect = PIPELINE.split("[expect]").nth(1).and_then(|rest| rest.split("[audit]").next()).expect("a section");
    let audit =
        PIPELINE.split("[audit.expect]").nth(1).and_then(|rest| rest.split("[sink]").next()).expect("a section");
    let toml = PIPELINE
        .replace(&format!("[expect]{expect}"), "[rule.visit-complete]\nwasm = \"visit_complete.wasm\"\n\n")
        .replace(
            &format!("[audit.expect]{audit}"),
            "[auditor.visit-window]\nwasm = \"visit_window.wasm\"\nconfig = { below = 10000, rejected = 25 }\n\n",
        );
    let data = made.read("demo/visits.ndjson");
    let project = Project::new(&[("sluice.toml", &toml), ("visits.sql", SCHEMA), ("visits.ndjson", &data)]);
    for (name, file) in [("visit-complete", "visit_complete.wasm"), ("visit-window", "visit_window.wasm")] {
        let folder = format!("{}/../plugins/{name}", env!("CARGO_MANIFEST_DIR"));
        project.sluice(&["build", &folder, "-o", file]).expect(0);
    }
    let screen = project.sluice(&["run", "--until-end"]).expect(0);
    assert!(screen.contains("visit-window  10000 rows, and there must be some"), "{screen}");
    every_number(&project, "");
    project.sluice(&["reconcile"]).expect(0);
}
