//! Records from files to tables, through the binary: what a user types, and what another reader then finds.

use crate::peer;
use crate::project::{Counted, Project};

#[test]
fn tables_hold_what_the_generator_planted_and_a_second_run_changes_nothing() {
    let (project, tally) = Project::visits(20_000, "");
    project.sluice(&["run", "--until-end"]).expect(0);
    assert_eq!(project.counted(), Counted::planted(&tally));
    project.sluice(&["reconcile"]).expect(0);
    let again = project.sluice(&["run", "--until-end"]).expect(0);
    assert!(again.contains(" 0 consumed"), "{again}");
    assert_eq!(project.counted(), Counted::planted(&tally));
    project.sluice(&["reconcile"]).expect(0);
}

#[test]
fn dead_letter_holds_the_raw_bytes_and_the_reason() {
    let (project, _) = Project::visits(10, "");
    project.write("visits.ndjson", "{\"user_id\": \"u\"}\n{........\n\n\"text\"\n{\"user_id\": 7}\n");
    project.sluice(&["run", "--until-end"]).expect(0);
    let rows = peer::sql(
        "SELECT _offset, stage, reason, detail, cast(_value AS VARCHAR) AS value FROM dlq ORDER BY _offset",
        &project.tables(),
    );
    let expected = [
        (2, "not-json", "{........"),
        (3, "empty-value", ""),
        (4, "not-an-object", "\"text\""),
        (5, "wrong-type", "{\"user_id\": 7}"),
    ];
    assert_eq!(rows.as_array().map(Vec::len), Some(expected.len()), "{rows}");
    for (row, (offset, reason, value)) in rows.as_array().expect("a list").iter().zip(expected) {
        assert_eq!(row["_offset"], offset);
        assert_eq!(row["stage"], "decode");
        assert_eq!(row["reason"], reason, "{row}");
        assert_eq!(row["value"], value);
        assert!(row["detail"].as_str().is_some_and(|d| !d.is_empty()), "{row}");
    }
}

#[test]
fn findings_stand_beside_the_row() {
    let (project, _) = Project::visits(10, "");
    project.write("visits.ndjson", "{\"page\": \"index\"}\n{\"user_id\": \"u\", \"page\": \"main\"}\n");
    project.sluice(&["run", "--until-end"]).expect(0);
    let rows = peer::sql(
        "SELECT _offset, page, _findings[1]['rule'] AS rule, _findings[1]['code'] AS code, _findings[1]['severity'] AS severity FROM error",
        &project.tables(),
    );
    assert_eq!(
        rows,
        serde_json::json!([{ "_offset": 1, "page": "index", "rule": "expect", "code": "has-user", "severity": "error" }])
    );
}

#[test]
fn a_changed_file_is_judged_again_after_the_reset_that_the_error_prints() {
    let (project, _) = Project::visits(10, "");
    let until_end = ["run", "--until-end"];
    project.write("visits.ndjson", "{\"user_id\": \"u\"}\n");
    project.sluice(&until_end).expect(0);
    project.write("visits.ndjson", "{\"user_id\": \"u\"}\n{\"user_id\": \"v\"}\n");
    let refused = project.sluice(&until_end);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    let command = refused.stderr.split("`sluice ").nth(1).and_then(|rest| rest.split('`').next()).expect("a command");
    assert_eq!(command, "reset visits.ndjson/0=1");
    project.sluice(&command.split(' ').collect::<Vec<_>>()).expect(0);
    let again = project.sluice(&until_end).expect(0);
    assert!(again.contains(" 2 consumed"), "{again}");
    project.sluice(&["reconcile"]).expect(0);
    // the ledger knows the new file
    project.write("visits.ndjson", "{\"user_id\": \"w\"}\n{\"user_id\": \"v\"}\n");
    assert_eq!(project.sluice(&until_end).code, Some(2));
}

#[test]
fn fail_on_says_no_with_exit_code_one() {
    let (project, _) = Project::visits(1_000, "");
    project.sluice(&["run", "--until-end", "--fail-on", "error=50%"]).expect(0);
    let (project, _) = Project::visits(1_000, "");
    project.sluice(&["run", "--until-end", "--fail-on", "error=1%"]).expect(1);
}

#[test]
fn a_file_that_changed_after_it_was_read_is_refused() {
    let (project, tally) = Project::visits(1_000, "");
    project.sluice(&["run", "--until-end"]).expect(0);
    let text = project.read("visits.ndjson");
    project.write("visits.ndjson", text + "{\"user_id\": \"late\"}\n");
    let refused = project.sluice(&["run", "--until-end"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stdout);
    assert!(refused.stderr.contains("visits.ndjson"), "{}", refused.stderr);
    assert_eq!(project.counted(), Counted::planted(&tally));
}

#[test]
fn skipped_records_are_counted_and_stored_nowhere() {
    let (project, _) = Project::visits(10, "");
    let toml = project.read("sluice.toml").replace("[source]", "[source]\nskip = \"_offset = 2\"");
    project.write("sluice.toml", toml);
    project.write("visits.ndjson", "{\"user_id\": \"a\"}\nnot json\n{\"user_id\": \"b\"}\n");
    let out = project.sluice(&["run", "--until-end"]).expect(0);
    assert!(out.contains("3 consumed = 2 valid + 0 error + 0 dlq + 1 skipped"), "{out}");
    assert_eq!(project.counted(), Counted { valid: 2, error: 0, dlq: 0, doubled: 0 });
    project.sluice(&["reconcile"]).expect(0);
}

#[test]
fn a_schema_that_grows_adds_columns() {
    let (project, _) = Project::visits(10, "");
    project.write("visits.ndjson", "{\"user_id\": \"a\"}\n");
    project.sluice(&["run", "--until-end"]).expect(0);
    project.write("visits.sql", project.read("visits.sql").replace("page STRING,", "page STRING, country STRING,"));
    project.write("more.ndjson", "{\"user_id\": \"b\", \"country\": \"FI\"}\n");
    project.write("sluice.toml", project.read("sluice.toml").replace("visits.ndjson", "*.ndjson"));
    project.sluice(&["run", "--until-end"]).expect(0);
    let rows = peer::sql("SELECT user_id, country FROM valid ORDER BY user_id", &project.tables());
    assert_eq!(rows, serde_json::json!([{ "user_id": "a", "country": null }, { "user_id": "b", "country": "FI" }]));
}
