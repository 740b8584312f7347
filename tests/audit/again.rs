//! Windows beside what judges again: replays, candidates that judge beside, and what is told of a row.

use serde_json::{Value, json};

use super::{pipeline, project, reconciled, run, tables, visit};
use crate::commands::{edit, json_lines};
use crate::peer;
use crate::project::{Project, VISITS_SQL};
use crate::reload::{self, Running};

const EXPECT: &str = "[audit.expect]\nquality = \"count(*) FILTER (WHERE _rejected) * 2 <= count(*)\"\n";

#[track_caller]
fn replay(project: &Project, sink: &str) -> Value {
    json_lines(&project.sluice(&["replay", sink, "--json"]).expect(0)).pop().expect("one object")
}

/// `visit_id` and `_attempt` of each row of a table, in order.
fn rows(project: &Project, table: &str) -> Value {
    let rows = peer::sql(&format!("SELECT visit_id AS id, _attempt AS n FROM {table} ORDER BY 1, 2"), &tables(project));
    rows.as_array().expect("a list").iter().map(|row| json!([row["id"], row["n"]])).collect()
}

#[test]
fn a_replay_goes_past_windows_and_leaves_alone_what_they_decided() {
    let source = "files = [\"in/*.ndjson\"]\nunknown_fields = \"reject\"";
    let toml = pipeline(source, &format!("window = \"10m\"\n{EXPECT}"));
    let project = Project::new(&[("sluice.toml", toml.as_str()), ("visits.sql", VISITS_SQL)]);
    let unknown = visit("f", 2, "u").replace("{\"", "{\"unknown\": 1, \"");
    let (good, bad) = (visit("a", 0, "u"), visit("b", 1, ""));
    // the second window is rejected: most of it is incomplete
    let rejected = [visit("c", 12, ""), visit("d", 13, ""), visit("e", 14, "u")].concat();
    project.write("in/a.ndjson", good + &bad + &rejected + &unknown);
    run(&project);
    // a row before its time, or after it: late
    project.write("in/b.ndjson", visit("l", 3, ""));
    run(&project);
    assert_eq!(rows(&project, "valid"), json!([["a", 0]]));

    edit(&project, "sluice.toml", "user_id IS NOT NULL AND ", "");
    let told = project.sluice(&["explain", "in/a.ndjson:5"]).expect(0);
    assert!(told.contains("would say: error (audit/quality)") && !told.contains("sluice replay"), "{told}");
    let told = project.sluice(&["explain", "in/a.ndjson:2"]).expect(0);
    assert!(told.contains("would say: valid") && told.contains("sluice replay error"), "{told}");

    let replayed = replay(&project, "error");
    let of = |key: &str| replayed[key].as_u64();
    assert_eq!([of("chosen"), of("decided"), of("unchanged")], [Some(5), Some(4), Some(0)], "{replayed}");
    assert_eq!(rows(&project, "valid"), json!([["a", 0], ["b", 1]]));
    let again = replay(&project, "error");
    assert_eq!((&again["chosen"], &again["decided"], &again["entry"]), (&json!(4), &json!(4), &Value::Null));

    edit(&project, "sluice.toml", "unknown_fields = \"reject\"", "unknown_fields = \"ignore\"");
    assert_eq!(replay(&project, "dlq")["sent"]["outcomes"]["valid"], 1);
    assert_eq!(rows(&project, "valid"), json!([["a", 0], ["b", 1], ["f", 1]]));
    reconciled(&project);
    // windows go on as before
    project.write("in/c.ndjson", visit("g", 25, "u"));
    run(&project);
    assert_eq!(rows(&project, "valid"), json!([["a", 0], ["b", 1], ["f", 1], ["g", 0]]));
    reconciled(&project);
}

#[test]
fn a_row_in_staging_is_told_of_as_one_that_waits() {
    let project = project("window = \"10m\"\nlateness = \"10m\"");
    project.write("in/a.ndjson", visit("a", 0, "u") + &visit("b", 1, ""));
    project.sluice(&["run"]).expect(0);
    let told = project.sluice(&["explain", "in/a.ndjson:2"]).expect(0);
    assert!(
        told.contains("→ staging") && told.contains("✗ expect/complete") && !told.contains("sluice replay"),
        "{told}"
    );
    run(&project);
    let told = project.sluice(&["explain", "in/a.ndjson:2"]).expect(0);
    assert!(told.contains("→ error") && !told.contains("→ staging"), "{told}");
}

#[test]
fn a_candidate_that_judges_beside_is_compared_row_by_row_whatever_waits_for_a_window() {
    let toml = |sql: &str| {
        let audited = format!("[expect]\nsmall = \"{sql}\"\n[audit]\nwindow = \"1000 rows\"\n");
        let staging = "[sink]\nstaging = { delta = \"lake/visits_staging\" }";
        reload::toml(&audited).replace("[sink]", staging)
    };
    let project = reload::project(&toml("n < 1000000"));
    project.write("next.toml", toml("n < 1000000 AND n % 125 <> 0"));
    let mut running = Running::of(&project);
    running.until("metrics");
    project.sluice(&["shadow", "start", "--with", "next.toml"]).expect(0);
    running.until("judges beside");
    running.feed(0..2_500);
    running.until(" rows ");
    running.end();
    let status = project.sluice(&["shadow", "status", "--json"]).expect(0);
    let status: Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!((&status["seen"]["records"], &status["seen"]["flips"]), (&json!(2_500), &json!({"valid → error": 20})));
    let counted = peer::sql(
        "SELECT (SELECT count(*) FROM valid) AS valid, (SELECT count(*) FROM staging) AS staging",
        &tables(&project),
    );
    // what a run from standard input leaves is an open window's
    assert_eq!(counted, json!([{"valid": 2_000, "staging": 2_500}]));
    reconciled(&project);
}
