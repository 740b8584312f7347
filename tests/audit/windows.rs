//! Windows of time, rows and files: what belongs together, when it is over, what comes too late.

use std::collections::BTreeMap;

use super::{counted, listed, pipeline, project, reasons, reconciled, run, tables, visit, window};
use crate::peer;
use crate::project::{Project, VISITS_SQL};

const EXPECT: &str = "[audit.expect]\nquality = \"count(*) FILTER (WHERE _rejected) * 2 <= count(*)\"\n";

fn state(window: String, state: &str, rows: u64) -> (String, String, u64) {
    (window, state.to_owned(), rows)
}

#[test]
fn windows_are_published_or_rejected_as_a_whole_and_what_waits_is_in_staging() {
    let project = project(&format!("window = \"10m\"\nlateness = \"10m\"\n{EXPECT}"));
    let first: String = (0..8).map(|n| visit(&format!("a{n}"), n, if n == 3 { "" } else { "u" })).collect();
    let second: String = (0..4).map(|n| visit(&format!("b{n}"), 10 + n, if n < 3 { "" } else { "u" })).collect();
    project.write("in/a.ndjson", first + &second + "{........\n");
    // nothing says yet that the windows are over
    project.sluice(&["run"]).expect(0);
    assert_eq!(counted(&project), [0, 0, 1, 12]);
    let open = [state(window(0, 10), "open", 8), state(window(10, 10), "open", 4)];
    assert_eq!(listed(&project), open);
    reconciled(&project);

    let screen = run(&project);
    assert!(screen.contains("2 windows decided: 7 valid, 5 error"), "{screen}");
    assert_eq!(counted(&project), [7, 5, 1, 12]);
    assert_eq!(listed(&project), [state(window(0, 10), "publish", 8), state(window(10, 10), "reject", 4)]);
    assert_eq!(reasons(&project), BTreeMap::from([("quality".to_owned(), 4)]));
    reconciled(&project);
    // and again: nothing is left to do
    let again = run(&project);
    assert!(again.contains("0 windows decided"), "{again}");
    assert_eq!(counted(&project), [7, 5, 1, 12]);
}

#[test]
fn empty_intervals_between_two_windows_are_decided_once_and_nothing_before_the_first_is() {
    let project = project("window = \"10m\"\n[audit.expect]\nvolume = \"count(*) > 0\"\n");
    project.write("in/a.ndjson", visit("a", 0, "u") + &visit("b", 45, "u"));
    run(&project);
    assert_eq!(counted(&project), [2, 0, 0, 2]);
    let expected =
        [state(window(0, 10), "publish", 1), state(window(10, 10), "reject", 0), state(window(40, 10), "publish", 1)];
    assert_eq!(listed(&project), expected);
    let text = project.sluice(&["audit", "list"]).expect(0);
    assert!(text.contains("and 2 more"), "{text}");
    reconciled(&project);
}

#[test]
fn rows_for_a_decided_window_are_late_and_say_so() {
    let project = project("window = \"10m\"");
    project.write("in/a.ndjson", visit("a", 0, "u") + &visit("b", 12, "u"));
    run(&project);
    project
        .write("in/b.ndjson", visit("c", 5, "u") + &visit("d", 15, "") + &visit("e", 25, "u") + &visit("f", -5, "u"));
    run(&project);
    assert_eq!(counted(&project), [3, 3, 0, 3]);
    assert_eq!(reasons(&project), BTreeMap::from([("late".to_owned(), 3)]));
    let expected =
        [state(window(0, 10), "publish", 1), state(window(10, 10), "publish", 1), state(window(20, 10), "publish", 1)];
    assert_eq!(listed(&project), expected);
    reconciled(&project);
}

#[test]
fn later_copies_of_a_key_are_duplicates_and_copies_of_refused_rows_are_not() {
    let project = project("window = \"10m\"\nunique = [\"visit_id\", \"event_time\"]");
    let other_page = visit("a", 1, "u").replace("index", "main");
    let no_key = visit("x", 2, "u").replace("\"visit_id\":\"x\"", "\"visit_id\":null");
    let lines = [
        visit("a", 1, "u"),
        other_page,
        visit("b", 1, ""),
        visit("b", 1, "u"),
        no_key.clone(),
        no_key,
        visit("a", 11, "u"),
        visit("a", 1, "v"),
    ];
    project.write("in/a.ndjson", lines.concat());
    run(&project);
    assert_eq!(counted(&project), [5, 3, 0, 8]);
    assert_eq!(reasons(&project), BTreeMap::from([("duplicate".to_owned(), 2)]));
    let kept = peer::sql("SELECT page FROM valid WHERE visit_id = 'a' ORDER BY _offset", &tables(&project));
    assert_eq!(kept, serde_json::json!([{ "page": "index" }, { "page": "index" }]));
    reconciled(&project);
}

#[test]
fn a_date_far_ahead_closes_nothing_and_a_row_without_time_goes_with_its_neighbour() {
    let project = project("window = \"10m\"");
    let ahead = visit("y", 3, "u").replace("2025-", "2999-");
    let none = "{\"visit_id\": \"z\", \"user_id\": \"u\", \"page\": \"index\"}\n".to_owned();
    project.write("in/a.ndjson", [visit("a", 1, "u"), ahead, none.clone(), visit("b", 12, "u"), none].concat());
    run(&project);
    assert_eq!(listed(&project), [state(window(0, 10), "publish", 3), state(window(10, 10), "publish", 2)]);
    let sql = "SELECT visit_id, _findings[1]['code'] AS code, _findings[1]['severity'] AS severity FROM valid \
               WHERE array_length(_findings) > 0";
    let found = peer::sql(sql, &tables(&project));
    assert_eq!(found, serde_json::json!([{ "visit_id": "y", "code": "event-time-ahead", "severity": "warn" }]));
    reconciled(&project);
}

#[test]
fn a_window_of_rows_is_over_with_its_last_offset() {
    let project = project("window = \"4 rows\"");
    let lines: String = (0..10).map(|n| visit(&format!("v{n}"), n, if n == 5 { "" } else { "u" })).collect();
    project.write("in/a.ndjson", lines.replacen("{\"", "{........", 1));
    project.sluice(&["run"]).expect(0);
    let of = |from: u64, says: &str, rows| state(format!("in/a.ndjson/0@{from}"), says, rows);
    assert_eq!(listed(&project), [of(1, "publish", 3), of(5, "publish", 4), of(9, "open", 2)]);
    run(&project);
    assert_eq!(listed(&project)[2], of(9, "publish", 2));
    assert_eq!(counted(&project), [8, 1, 1, 9]);
    reconciled(&project);
}

#[test]
fn a_window_of_a_file_is_the_file_and_is_over_with_its_last_line() {
    let project = project(&format!("window = \"file\"\n{EXPECT}"));
    project.write("in/a.ndjson", visit("a", 0, "u") + &visit("b", 0, "u"));
    project.write("in/b.ndjson", visit("c", 0, "") + &visit("d", 0, ""));
    project.sluice(&["run"]).expect(0);
    assert_eq!(counted(&project), [2, 2, 0, 4]);
    let states: Vec<String> = listed(&project).into_iter().map(|(key, state, _)| format!("{key} {state}")).collect();
    assert!(states[0].starts_with("in/a.ndjson@") && states[0].ends_with(" publish"), "{states:?}");
    assert!(states[1].starts_with("in/b.ndjson@") && states[1].ends_with(" reject"), "{states:?}");
    reconciled(&project);
}

#[test]
fn sinks_store_the_columns_that_they_choose_also_those_of_the_record() {
    let toml = pipeline("files = [\"in/*.ndjson\"]", "window = \"file\"").replace(
        "valid   = { delta = \"lake/visits\" }",
        "valid   = { delta = \"lake/visits\", columns = [\"_id AS uuid\", \"context.user.login AS login\", \"_value AS raw\"] }",
    );
    let project = Project::new(&[("sluice.toml", toml.as_str()), ("visits.sql", VISITS_SQL)]);
    let line = "{\"user_id\": \"u\", \"page\": \"main\", \"context\": {\"user\": {\"login\": \"ml\"}}}";
    project.write("in/a.ndjson", line);
    run(&project);
    let rows = peer::sql("SELECT length(uuid) AS n, login, cast(raw AS VARCHAR) AS raw FROM valid", &tables(&project));
    assert_eq!(rows, serde_json::json!([{ "n": 36, "login": "ml", "raw": line }]));
    reconciled(&project);
}

#[test]
fn what_cannot_be_said_of_a_window_is_a_mistake_before_anything_runs() {
    let check = |audit: &str, expected: &str| {
        let ran = project(audit).sluice(&["check"]);
        assert_eq!(ran.code, Some(1), "{audit}: {}{}", ran.stdout, ran.stderr);
        assert!(
            ran.stderr.contains(expected) || ran.stdout.contains(expected),
            "{audit}: {}{}",
            ran.stdout,
            ran.stderr
        );
    };
    check("", "`audit.window` is missing");
    check("window = \"soon\"", "`audit.window` is no window");
    check("window = \"0 rows\"", "`audit.window` is no number of rows");
    check("window = \"file\"\nunique = [\"visitid\"]", "there is no column `visitid`");
    check("window = \"file\"\n[audit.expect]\nx = \"page IS NOT NULL\"", "says something of each row");
    check("window = \"file\"\n[audit.expect]\nx = \"count(*)\"", "is Int64, not true or false");
    check("window = \"file\"\n[audit.expect]\nx = \"count(pages) > 0\"", "cannot be planned");
    check("window = \"file\"\n[audit.expect]\nlate = \"count(*) > 0\"", "cannot be the name");
}
