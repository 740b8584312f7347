//! `explain`, `show`, `inspect`: what a user sees of what a run did.

use super::{RECORDS, edit, json_lines, project, project_that_ran};
use crate::project::Project;

fn explain(project: &Project, place: &str) -> String {
    project.sluice(&["explain", place]).expect(0)
}

/// Hashes and identities stand for themselves.
fn settled(project: &Project, text: &str) -> String {
    let head = project.sluice(&["inspect", "generation"]).expect(0);
    let generation = head.split_whitespace().nth(1).unwrap();
    text.replace(&generation[..6], "GENERATION")
}

#[test]
fn explain_tells_why_each_record_went_where_it_did() {
    let project = project_that_ran();
    for (line, story) in [
        (
            1,
            "visits.ndjson line 1
→ valid   lake/visits version 1 · entry 3 · generation GENERATION
  ✓ has-user, login-exposed, ad-tagged
now    the same generation GENERATION would say: valid
",
        ),
        (
            2,
            "visits.ndjson line 2
→ error   lake/visits_errors version 1 · entry 3 · generation GENERATION
  ✗ expect/login-exposed      NOT keep_private OR context.user.login IS NULL  keep_private = true, context.user.login = \"ml***\"
  ✓ has-user, ad-tagged
now    the same generation GENERATION would say: error (login-exposed)
",
        ),
        (
            3,
            "visits.ndjson line 3 · 8 B
→ dlq   lake/visits_dlq version 1 · entry 3 · generation GENERATION
  † decode/not-json   column 2: expected ident
now    the same generation GENERATION would say: dlq (decode/not-json)
",
        ),
        (4, "visits.ndjson line 4\n→ skipped   by the source's `skip` predicate · entry 3\n"),
        (
            5,
            "visits.ndjson line 5
→ valid   lake/visits version 1 · entry 3 · generation GENERATION
  ! expect/ad-tagged          context.referral <> 'Google Ads' OR context.ad_id IS NOT NULL  context.referral = \"Google Ads\", context.ad_id = null  (warn)
  ✓ has-user, login-exposed
now    the same generation GENERATION would say: valid (ad-tagged)
",
        ),
        (
            7,
            "visits.ndjson line 7
→ error   lake/visits_errors version 1 · entry 3 · generation GENERATION
  ✗ expect/has-user           user_id IS NOT NULL               user_id = null
  ✓ login-exposed, ad-tagged
now    the same generation GENERATION would say: error (has-user)
",
        ),
    ] {
        assert_eq!(settled(&project, &explain(&project, &format!("visits.ndjson:{line}"))), story);
    }
}

#[test]
fn explain_names_what_it_does_not_know() {
    let project = project_that_ran();
    for (place, said) in [
        ("visits.ndjson:8", "visits.ndjson:8 has not been read yet: the next record is 8"),
        ("visits.ndjson:0", "visits.ndjson:0 lies before the first record that this pipeline read"),
        ("other.ndjson:1", "this pipeline never read `other.ndjson/0`; it knows visits.ndjson/0"),
        ("visits/0/1", "this pipeline never read `visits/0`; it knows visits.ndjson/0"),
    ] {
        let ran = project.sluice(&["explain", place]);
        assert_eq!((ran.code, &*ran.stdout), (Some(2), ""), "{place}");
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
    }
    assert_eq!(project.sluice(&["explain", "visits.ndjson"]).code, Some(2));
}

#[test]
fn explain_shows_the_payload_of_a_dead_letter_where_nothing_is_masked() {
    let project = project();
    edit(&project, "sluice.toml", "mask ", "# mask ");
    project.sluice(&["run", "--until-end"]).expect(0);
    let story = explain(&project, "visits.ndjson:3");
    assert!(story.contains("payload  not json\n"), "{story}");
}

#[test]
fn explain_says_what_todays_sql_would_say() {
    let project = project_that_ran();
    edit(&project, "sluice.toml", "user_id IS NOT NULL", "user_id <> 'u1'");
    edit(&project, "sluice.toml", "NOT keep_private", "keep_private");
    for (line, then, now) in [
        (1, "→ valid", "would say: error (has-user)"),
        (2, "→ error", "would say: valid"),
        (7, "→ error", "would say: valid"),
        (3, "→ dlq", "would say: dlq (decode/not-json)"),
    ] {
        let story = explain(&project, &format!("visits.ndjson:{line}"));
        assert!(story.contains(then) && story.contains(now), "{story}");
        assert!(story.contains("\nnow    generation "), "{story}");
        assert!(!story.contains('✓'), "who passed then is not known: {story}");
    }
}

#[test]
fn explain_gives_scripts_the_rows_with_masked_values() {
    let project = project_that_ran();
    let story = project.sluice(&["explain", "visits.ndjson:2", "--json"]).expect(0);
    let story = &json_lines(&story)[0];
    assert_eq!((&story["topic"], &story["offset"], &story["entry"]), (&"visits.ndjson".into(), &2.into(), &3.into()));
    let row = &story["rows"][0];
    assert_eq!((&row["_outcome"], &row["_findings"][0]["code"]), (&"error".into(), &"login-exposed".into()));
    assert_eq!(row["context"]["user"]["login"], "ml***");
    // of a payload nothing can be masked but all of it
    let dead = project.sluice(&["explain", "visits.ndjson:3", "--json"]).expect(0);
    let row = &json_lines(&dead)[0]["rows"][0];
    assert_eq!((&row["reason"], row.get("_value")), (&"not-json".into(), None));
}

#[test]
fn explain_gives_each_row_of_a_record_that_was_read_again_its_own_entry() {
    let project = project_that_ran();
    project.sluice(&["reset", "visits.ndjson/0=7"]).expect(0);
    project.sluice(&["run", "--until-end"]).expect(0);
    let story = explain(&project, "visits.ndjson:7");
    assert!(story.contains("entry 3 ") && story.contains("entry 5 "), "{story}");
}

#[test]
fn show_counts_prints_rows_and_answers_queries() {
    let project = project_that_ran();
    let all = project.sluice(&["show"]).expect(0);
    for line in [
        "valid  lake/visits   version 1 · 2 rows · 1 file",
        "error  lake/visits_errors   version 1 · 2 rows",
        "dlq    lake/visits_dlq   version 1 · 2 rows",
    ] {
        assert!(all.contains(line), "{all}");
    }
    let rows = json_lines(&project.sluice(&["show", "dlq", "--rows", "9", "--json"]).expect(0));
    let values: Vec<_> = rows.iter().map(|row| (row["_value"].as_str(), row["reason"].as_str())).collect();
    assert_eq!(values.len(), 2);
    assert!(values.contains(&(Some("not json"), Some("not-json"))), "{values:?}");
    assert_eq!(project.sluice(&["show", "valid", "--rows", "1"]).expect(0).matches("visits.ndjson").count(), 1);
    let answer = project
        .sluice(&["show", "--sql", "SELECT reason, count(*) AS n FROM dlq GROUP BY reason ORDER BY reason"])
        .expect(0);
    expect_test::expect![[r#"
        +------------+---+
        | reason     | n |
        +------------+---+
        | not-json   | 1 |
        | wrong-type | 1 |
        +------------+---+
    "#]]
    .assert_eq(&answer);
    let join = "SELECT count(*) AS n FROM valid JOIN error ON valid._topic = error._topic";
    assert_eq!(
        json_lines(&project.sluice(&["show", "--sql", join, "--json"]).expect(0)),
        [serde_json::json!({ "n": 4 })]
    );
    // it reads and never writes
    let refused = project.sluice(&["show", "--sql", "DROP TABLE valid"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stdout);
    assert_eq!(project.sluice(&["show", "no-such"]).code, Some(2));
}

#[test]
fn show_before_the_first_run_says_that_there_is_no_table_yet() {
    let project = project();
    assert!(project.sluice(&["show"]).expect(0).contains("valid  lake/visits   no table yet"));
    let refused = project.sluice(&["show", "valid"]);
    assert_eq!(refused.code, Some(2));
    assert!(
        refused.stderr.contains("there is no table at lake/visits yet: `sluice run` creates it"),
        "{}",
        refused.stderr
    );
}

#[test]
fn inspect_shows_ledger_table_generation_and_plugin() {
    let project = project_that_ran();
    let ledger = project.sluice(&["inspect", "ledger"]).expect(0);
    let kinds: Vec<_> = ledger.lines().map(|line| line.split_whitespace().nth(3).unwrap()).collect();
    assert_eq!(kinds, ["start", "start", "rows"], "{ledger}");
    assert!(ledger.contains("7 records  visits.ndjson/0 [1, 8)"), "{ledger}");
    let last = project.sluice(&["inspect", "ledger", "3", "--json"]).expect(0);
    let entry = &json_lines(&last)[0]["entry"];
    assert_eq!(entry["counts"]["outcomes"], serde_json::json!({ "valid": 2, "error": 2, "dlq": 2 }));
    let beyond = project.sluice(&["inspect", "ledger", "4"]);
    assert!(beyond.code == Some(2) && beyond.stderr.contains("there is no entry 4"), "{}", beyond.stderr);

    let table = project.sluice(&["inspect", "table", "error"]).expect(0);
    for line in ["protocol    reader 1, writer 2", "rows        2 in 1 file,", "_findings                array<struct<"]
    {
        assert!(table.contains(line), "{table}");
    }

    // a past generation can still be looked at
    let first = project.sluice(&["inspect", "generation"]).expect(0);
    edit(&project, "sluice.toml", "user_id IS NOT NULL", "user_id <> ''");
    let second = project.sluice(&["inspect", "generation"]).expect(0);
    assert_ne!(first, second);
    let hash = first.split_whitespace().nth(1).unwrap();
    assert_eq!(project.sluice(&["inspect", "generation", &hash[..8]]).expect(0), first);
    assert_eq!(project.sluice(&["inspect", "generation", "ffffffffffff"]).code, Some(2));

    let plugin = project.sluice(&["inspect", "plugin", "timely"]).expect(0);
    for line in ["timely 0.1.0 · rule · ", "reads     event_time  timestamp-us\n", "loads     by contract 0.1.0\n"] {
        assert!(plugin.contains(line), "{plugin}");
    }
    let plugin = project.sluice(&["inspect", "plugin", "timely", "--json"]).expect(0);
    let plugin: serde_json::Value = serde_json::from_str(&plugin).unwrap();
    assert_eq!(plugin["description"]["codes"][0]["code"], "late");
}

#[test]
fn masks_hold_wherever_a_value_is_shown_to_people() {
    let project = project_that_ran();
    assert!(RECORDS.contains("mlindqvist"));
    for arguments in [
        &["explain", "visits.ndjson:2"][..],
        &["try", "visits.ndjson", "--all"],
        &["explain", "visits.ndjson:2", "--json"],
    ] {
        let screen = project.sluice(arguments).expect(0);
        assert!(screen.contains("ml***") && !screen.contains("mlindqvist"), "{arguments:?}: {screen}");
    }
}
