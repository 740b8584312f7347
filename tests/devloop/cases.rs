//! `test`: cases of pipelines and of plugins.

use crate::commands::{edit, json_lines, project};
use crate::guests::{COPY, INT64, enricher};
use crate::project::Project;

const RIGHT: &str = r#"{"record": {"user_id": "u1", "page": "index"}, "outcome": "valid", "row": {"user_id": "u1", "context": null}}
{"record": {"user_id": "u2", "keep_private": true, "context": {"user": {"login": "mlindqvist"}}}, "outcome": "error", "findings": ["expect/login-exposed"], "row": {"context": {"user": {"login": "mlindqvist"}}}}
{"raw": "not json", "name": "no JSON", "outcome": "dlq", "reason": "decode/not-json"}
{"record": {"user_id": "u4"}, "offset": 4, "outcome": "skipped"}
{"record": {"user_id": "u5", "context": {"referral": "Google Ads"}}, "outcome": "valid", "findings": ["expect/ad-tagged"]}
{"raw": {"base64": "eyJ1c2VyX2lkIjogNn0="}, "outcome": "dlq", "reason": "decode/wrong-type"}

{"raw": null, "key": "k", "outcome": "dlq", "reason": "decode/null-value"}
"#;

#[test]
fn cases_of_a_pipeline_need_no_broker_and_no_table() {
    let project = project();
    project.write("cases/all.ndjson", RIGHT);
    assert_eq!(project.sluice(&["test"]).expect(0).trim_end(), format!("{:<40} 7 of 7 cases", "visits"));
    assert!(!project.path().join("lake").exists());
    // by its file, too, and from another folder
    project.sluice(&["test", "sluice.toml", "--cases", "cases"]).expect(0);

    // the pipeline changes: what differs is said by its place, in words of the case
    edit(&project, "sluice.toml", "user_id IS NOT NULL", "user_id <> 'u1'");
    edit(&project, "sluice.toml", "_offset = 4", "_offset = 5");
    let failed = project.sluice(&["test", "--junit", "report.xml"]).expect(1);
    expect_test::expect![[r#"
        visits                                   4 of 7 cases
          ✗ cases/all.ndjson:1
              outcome: expected "valid", came "error"
              findings: expect/has-user
          ✗ cases/all.ndjson:4
              outcome: expected "skipped", came "valid"
          ✗ cases/all.ndjson:5
              outcome: expected "valid", came "skipped"
    "#]]
    .assert_eq(&failed);
    let report = project.read("report.xml");
    assert!(report.contains("<testsuites name=\"sluice\" tests=\"7\" failures=\"3\">"), "{report}");
    assert!(
        report.contains("name=\"no JSON (cases/all.ndjson:3)\" file=\"cases/all.ndjson\" line=\"3\"/>"),
        "{report}"
    );
    let lines = json_lines(&project.sluice(&["test", "--json"]).expect(1));
    assert_eq!((lines.len(), &lines[0]["passed"], &lines[1]["passed"]), (7, &false.into(), &true.into()));

    // and the lines that fail take what came, the others stay as they are
    let updated = project.sluice(&["test", "--update"]).expect(0);
    assert_eq!(updated.trim_end(), format!("{:<40} 7 of 7 cases, 3 lines updated", "visits"));
    let now = project.read("cases/all.ndjson");
    let expected = [
        r#"{"record": {"user_id": "u1", "page": "index"}, "outcome": "error", "row": {"context": null, "user_id": "u1"}, "findings": ["expect/has-user"]}"#,
        r#"{"record": {"user_id": "u4"}, "offset": 4, "outcome": "valid"}"#,
        r#"{"record": {"user_id": "u5", "context": {"referral": "Google Ads"}}, "outcome": "skipped"}"#,
    ];
    let changed: Vec<&str> =
        now.lines().zip(RIGHT.lines()).filter(|(now, was)| now != was).map(|(now, _)| now).collect();
    assert_eq!(changed, expected);
    assert_eq!(now.lines().count(), RIGHT.lines().count());
    project.sluice(&["test"]).expect(0);
}

#[test]
fn records_that_say_nothing_get_what_came_with_the_columns_that_were_added() {
    let toml = "name = \"n\"\nstate = \"lake/_sluice/n\"\nsource.files = [\"*.ndjson\"]\nschema.file = \"n.sql\"\n\
        [[enrich]]\nname = \"copy\"\nwasm = \"guest.wasm\"\n[expect]\nsmall = { sql = \"n < 10\", severity = \"warn\" }\n\
        [sink]\nvalid = { stdout = true }\nerror = { stdout = true }\ndlq = { stdout = true }\n";
    let project = Project::new(&[("sluice.toml", toml), ("n.sql", "CREATE TABLE n (n BIGINT)")]);
    project.write("guest.wasm", enricher(INT64, COPY).component());
    let none = project.sluice(&["test"]);
    assert_eq!(none.code, Some(1));
    assert!(none.stderr.contains("there are no cases in cases"), "{}", none.stderr);

    project.write(
        "cases/n.ndjson",
        "{\"record\": {\"n\": 7}}\n{\"record\": {\"n\": 70}, \"row\": {}}\n{\"record\": {\"n\": \"x\"}}",
    );
    let silent = project.sluice(&["test"]).expect(1);
    assert!(silent.contains("cases/n.ndjson:1\n      does not say what should come: valid\n"), "{silent}");
    assert!(silent.contains("1 of 3 cases"), "one says that it makes a row: {silent}");
    project.sluice(&["test", "--update"]).expect(0);
    expect_test::expect![[r#"
        {"record": {"n": 7}, "outcome": "valid", "row": {"added": 7}}
        {"record": {"n": 70}, "row": {}}
        {"record": {"n": "x"}, "outcome": "dlq", "reason": "decode/wrong-type"}"#]]
    .assert_eq(&project.read("cases/n.ndjson"));

    for (line, says) in [
        (
            "{\"record\": {}, \"outcom\": 1}",
            "cases/n.ndjson:1: not a case: it has `outcom`; a case may have `record`, `raw`",
        ),
        ("{\"outcome\": \"valid\"}", "cases/n.ndjson:1: not a case: it needs `record` or `raw`, one of them"),
        ("{\"record\": {}, \"outcome\": \"lost\"}", "`lost` is no outcome: valid, error, dlq or skipped"),
        ("{\"record\": {}, \"rows\": [], \"row\": {}}", "not beside them"),
        ("nonsense", "cases/n.ndjson:1: not a case: expected ident"),
    ] {
        project.write("cases/n.ndjson", line);
        let wrong = project.sluice(&["test"]);
        assert!(wrong.code == Some(1) && wrong.stderr.contains(says), "{says}: {}", wrong.stderr);
    }
}

#[test]
fn cases_of_a_plugin_are_updated_and_reported_too() {
    let project = Project::new(&[]);
    project.write("guest.wasm", enricher(INT64, COPY).component());
    project.write("cases/n.ndjson", "{\"row\": {\"n\": 7}, \"adds\": {\"added\": 8}}\n{\"row\": {\"n\": 1}, \"adds\": {\"added\": 1}}\n{\"row\": {\"n\": 2}}\n");
    let failed = project.sluice(&["test"]).expect(1);
    assert!(failed.contains("✗ cases/n.ndjson:1\n      adds.added: expected 8, came 7\n"), "{failed}");
    assert!(failed.contains("does not say what it `adds`: adds {\"added\":2}"), "{failed}");
    let updated = project.sluice(&["test", "guest.wasm", "--update", "--junit", "report.xml"]).expect(0);
    assert!(updated.contains("3 of 3 cases, 2 lines updated"), "{updated}");
    expect_test::expect![[r#"
        {"row": {"n": 7}, "adds": {"added": 7}}
        {"row": {"n": 1}, "adds": {"added": 1}}
        {"row": {"n": 2}, "adds": {"added": 2}}
    "#]]
    .assert_eq(&project.read("cases/n.ndjson"));
    assert!(project.read("report.xml").contains("tests=\"3\" failures=\"0\""));
}
