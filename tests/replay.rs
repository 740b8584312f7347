//! `sluice replay`: rows go where today's generation sends them, once, whatever dies or runs beside it.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::commands::{edit, json_lines};
use crate::peer;
use crate::project::Project;

mod topic;

const SCHEMA: &str = "CREATE TABLE t (id BIGINT, page STRING)";

const TOML: &str = r#"name  = "t"
state = "lake/_sluice/t"
[source]
files = ["in/*.ndjson"]
unknown_fields = "reject"
[schema]
file = "t.sql"
[expect]
small = "id < 10"
paged = "page IS NOT NULL"
[commit]
every = "200ms"
[sink]
valid = { delta = "lake/visits" }
error = { delta = "lake/visits_errors" }
dlq   = { delta = "lake/visits_dlq" }
"#;

const LEDGER: &str = "lake/_sluice/t/ledger";

/// Ids 1 to 20; those from 10 on are errors, 20 twice so: it has no page.
fn project() -> Project {
    let project = Project::new(&[("sluice.toml", TOML), ("t.sql", SCHEMA)]);
    let line = |n: u64| match n {
        20 => format!("{{\"id\": {n}}}\n"),
        _ => format!("{{\"id\": {n}, \"page\": \"main\"}}\n"),
    };
    project.write("in/a.ndjson", (1..=20).map(line).collect::<String>());
    project
}

/// The same after a run, and with ids up to 14 allowed in the file since.
fn with_another_rule() -> Project {
    let project = project();
    project.sluice(&["run", "--until-end"]).expect(0);
    edit(&project, "sluice.toml", "id < 10", "id < 15");
    project
}

#[track_caller]
fn replay(project: &Project, arguments: &[&str]) -> Value {
    let printed = project.sluice(&[&["replay"], arguments, &["--json"]].concat()).expect(0);
    json_lines(&printed).pop().expect("one object")
}

/// Rows per table of which no later attempt is anywhere, all rows, and coordinates whose last attempt is there twice.
fn latest(project: &Project) -> Value {
    let columns = "_topic, _partition, _offset, _row, _attempt";
    let all = ["valid", "error", "dlq"].map(|t| format!("SELECT '{t}' AS t, {columns} FROM {t}")).join(" UNION ALL ");
    let sql = format!(
        "SELECT count(*) FILTER (WHERE t = 'valid' AND is_last) AS valid, count(*) FILTER (WHERE t = 'error' AND is_last) AS error, \
         count(*) FILTER (WHERE t = 'dlq' AND is_last) AS dlq, count(*) AS \"rows\", \
         count(*) FILTER (WHERE is_last) - count(DISTINCT concat(_topic, '/', _partition, '/', _offset, '/', _row)) AS doubled \
         FROM (SELECT *, _attempt = max(_attempt) OVER (PARTITION BY _topic, _partition, _offset, _row) AS is_last FROM ({all}))"
    );
    peer::sql(&sql, &project.tables())[0].clone()
}

fn ledger(project: &Project) -> usize {
    std::fs::read_dir(project.path().join(LEDGER)).unwrap().count()
}

#[track_caller]
fn reconciled(project: &Project) -> String {
    project.sluice(&["reconcile"]).expect(0)
}

#[test]
fn rows_go_where_today_sends_them_and_a_second_replay_changes_nothing() {
    let project = with_another_rule();
    let before = latest(&project);
    assert_eq!(before, json!({ "valid": 9, "error": 11, "dlq": 0, "rows": 20, "doubled": 0 }));
    let story = project.sluice(&["explain", "in/a.ndjson:12"]).expect(0);
    assert!(story.contains("would say: valid"), "{story}");
    let then = "then   sluice replay error --where \"_topic = 'in/a.ndjson' AND _offset = 12\"";
    assert!(story.contains(then), "{story}");

    let (entries, tried) = (ledger(&project), replay(&project, &["error", "--dry-run"]));
    assert_eq!((&tried["chosen"], &tried["sent"]["rows"], &tried["entry"]), (&11.into(), &5.into(), &Value::Null));
    assert_eq!((latest(&project), ledger(&project)), (before, entries), "a dry run writes nothing");

    let one = replay(&project, &["error", "--where", "_topic = 'in/a.ndjson' AND _offset = 12"]);
    assert_eq!((&one["chosen"], &one["sent"]["rows"], &one["unchanged"]), (&1.into(), &1.into(), &0.into()));
    let rest = replay(&project, &["error"]);
    assert_eq!((&rest["chosen"], &rest["sent"]["rows"], &rest["unchanged"]), (&10.into(), &4.into(), &6.into()));
    assert_eq!(rest["sent"]["outcomes"], json!({ "valid": 4, "error": 0, "dlq": 0 }));
    let after = json!({ "valid": 14, "error": 6, "dlq": 0, "rows": 25, "doubled": 0 });
    assert_eq!(latest(&project), after);

    let entries = ledger(&project);
    for _ in 0..2 {
        let again = replay(&project, &["error"]);
        assert_eq!((&again["chosen"], &again["sent"]["rows"], &again["entry"]), (&6.into(), &0.into(), &Value::Null));
    }
    assert_eq!((latest(&project), ledger(&project)), (after, entries));

    let said = reconciled(&project);
    assert!(said.starts_with("reconciled: 20 consumed, no gap, no overlap"), "{said}");
    assert!(said.contains("2 replays judged rows once more: valid 5, error 0, dlq 0"), "{said}");
    let shown = project.sluice(&["show", "error"]).expect(0);
    assert!(shown.contains("11 rows, 5 of them superseded by a replay"), "{shown}");
    assert_eq!(shown.lines().filter(|line| line.contains("in/a.ndjson")).count(), 6, "{shown}");
    let story = project.sluice(&["explain", "in/a.ndjson:12"]).expect(0);
    let lines: Vec<&str> = story.lines().filter(|line| line.starts_with('→')).collect();
    assert!(lines[0].starts_with("→ error") && lines[0].ends_with("attempt 0, superseded"), "{story}");
    assert!(lines[1].starts_with("→ valid") && lines[1].ends_with("attempt 1"), "{story}");
    assert_eq!(story.matches("would say").count(), 1, "{story}");
    let story = project.sluice(&["explain", "in/a.ndjson:12", "--json"]).expect(0);
    let rows = serde_json::from_str::<Value>(&story).unwrap()["rows"].clone();
    assert_eq!((&rows[0]["_superseded"], &rows[1]["_superseded"]), (&true.into(), &false.into()));
    assert_eq!((&rows[0]["_attempt"], &rows[1]["_attempt"]), (&0.into(), &1.into()));
    let line = project.sluice(&["inspect", "ledger", "--limit", "1"]).expect(0);
    assert!(line.contains("replay") && line.contains("of error: valid 4, error 0, dlq 0"), "{line}");

    // the pipeline goes on where it was
    project.write("in/b.ndjson", "{\"id\": 1, \"page\": \"x\"}\n");
    assert!(project.sluice(&["run", "--until-end"]).expect(0).contains("1 consumed"));
    reconciled(&project);
    // a diff over history sees the latest attempts alone
    let diff = project.sluice(&["diff", "--with", "sluice.toml", "--on", "error"]).expect(0);
    assert!(diff.contains("0 of 6 records"), "{diff}");
}

#[test]
fn other_findings_are_a_new_attempt_and_the_same_are_not() {
    let project = project();
    project.sluice(&["run", "--until-end"]).expect(0);
    edit(&project, "sluice.toml", "small = \"id < 10\"", "tiny = \"id < 10\"");
    let replayed = replay(&project, &["error"]);
    assert_eq!(replayed["sent"]["outcomes"], json!({ "valid": 0, "error": 11, "dlq": 0 }));
    assert_eq!(latest(&project), json!({ "valid": 9, "error": 11, "dlq": 0, "rows": 31, "doubled": 0 }));
    assert_eq!(replay(&project, &["error"])["unchanged"], 11);
    edit(&project, "sluice.toml", "tiny = \"id < 10\"", "tiny = \"id < 11\"");
    let replayed = replay(&project, &["error"]);
    assert_eq!((&replayed["sent"]["rows"], &replayed["unchanged"]), (&1.into(), &10.into()));
    assert_eq!(latest(&project), json!({ "valid": 10, "error": 10, "dlq": 0, "rows": 32, "doubled": 0 }));
    let attempts = peer::sql("SELECT max(_attempt) AS n FROM valid", &project.tables());
    assert_eq!(attempts[0]["n"], 2);
    reconciled(&project);
}

#[test]
fn dead_letters_are_judged_from_their_bytes_and_what_stays_dead_stays() {
    let project = project();
    project.write("in/b.ndjson", "{\"id\": 1, \"page\": \"a\", \"more\": 1}\nnot json\n{\"id\": 50, \"more\": 1}\n{\"id\": 2, \"more\": 1, \"page\": \"b\"}\n");
    project.sluice(&["run", "--until-end"]).expect(0);
    edit(&project, "sluice.toml", "unknown_fields = \"reject\"", "skip = \"_topic = 'in/b.ndjson' AND _offset = 4\"");
    let only = replay(&project, &["dlq", "--where", "reason = 'not-json'"]);
    assert_eq!((&only["chosen"], &only["unchanged"]), (&1.into(), &1.into()));
    let replayed = replay(&project, &["dlq"]);
    assert_eq!(replayed["sent"]["outcomes"], json!({ "valid": 1, "error": 1, "dlq": 0 }));
    assert_eq!(
        (&replayed["unchanged"], &replayed["gone"]),
        (&1.into(), &1.into()),
        "one is not JSON, one is skipped now"
    );
    assert_eq!(latest(&project), json!({ "valid": 10, "error": 12, "dlq": 2, "rows": 26, "doubled": 0 }));
    assert_eq!(replay(&project, &["dlq"])["entry"], Value::Null);
    reconciled(&project);
    // and from error on to valid, as attempt 2
    edit(&project, "sluice.toml", "id < 10", "id < 100");
    edit(&project, "sluice.toml", "paged = \"page IS NOT NULL\"\n", "");
    assert_eq!(replay(&project, &["error"])["sent"]["outcomes"], json!({ "valid": 12, "error": 0, "dlq": 0 }));
    assert_eq!(latest(&project), json!({ "valid": 22, "error": 0, "dlq": 2, "rows": 38, "doubled": 0 }));
    let story = project.sluice(&["explain", "in/b.ndjson:3"]).expect(0);
    let lines: Vec<&str> = story.lines().filter(|line| line.starts_with('→')).collect();
    for (line, (begins, ends)) in lines.iter().zip([
        ("→ dlq", "attempt 0, superseded"),
        ("→ error", "attempt 1, superseded"),
        ("→ valid", "attempt 2"),
    ]) {
        assert!(line.starts_with(begins) && line.ends_with(ends), "{story}");
    }
    assert_eq!(lines.len(), 3);
    reconciled(&project);
}

#[test]
fn a_kill_at_any_step_leaves_all_of_a_replay_or_nothing() {
    let done = json!({ "valid": 14, "error": 6, "dlq": 0, "rows": 25, "doubled": 0 });
    // the points of Apply are passed once before, when everything is brought up to date
    for (point, is_there) in [
        ("write/first-file-open", false),
        ("write/files-durable", false),
        ("append/before-create", false),
        ("append/created", true),
        ("apply/before-valid:2", true),
        ("apply/after-valid:2", true),
        ("apply/after-error:2", true),
        ("apply/after-dlq:2", true),
    ] {
        let project = with_another_rule();
        project.sluice(&["run", "--until-end"]).expect(0); // puts the generation in force
        let entries = ledger(&project);
        let killed = project.sluice_with(("SLUICE_CRASH_AT", point), &["replay", "error"]);
        assert_eq!(killed.code, None, "{point} was never passed:\n{}{}", killed.stdout, killed.stderr);
        assert_eq!(ledger(&project), entries + usize::from(is_there), "{point}");
        reconciled(&project);
        if is_there {
            // whoever comes next finishes it
            project.sluice(&["run", "--until-end"]).expect(0);
            assert_eq!(latest(&project), done, "{point}");
        }
        let again = replay(&project, &["error"]);
        assert_eq!(again["sent"]["rows"], if is_there { 0 } else { 5 }, "{point}");
        assert_eq!(latest(&project), done, "{point}");
        reconciled(&project);
    }
}

/// A replay that lies still at a step, until it is woken.
struct Still(Child);

impl Still {
    fn at(project: &Project, point: &str) -> Still {
        let mut command = project.command(&["replay", "error", "--json"]);
        command.env("SLUICE_STOP_AT", point).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut still = Still(command.spawn().unwrap());
        let stat = format!("/proc/{}/stat", still.0.id());
        let began = Instant::now();
        while !std::fs::read_to_string(&stat).is_ok_and(|text| text.contains(") T ")) {
            assert!(still.0.try_wait().unwrap().is_none(), "it ended before {point}");
            assert!(began.elapsed() < Duration::from_secs(60), "it never came to {point}");
            std::thread::yield_now();
        }
        still
    }

    fn wake(mut self) -> Value {
        // SAFETY: kill takes no pointers; the process is our child and was not waited for
        unsafe { libc::kill(self.0.id() as i32, libc::SIGCONT) };
        let mut printed = String::new();
        std::io::Read::read_to_string(self.0.stdout.as_mut().expect("it is piped"), &mut printed).unwrap();
        assert!(self.0.wait().unwrap().success(), "{printed}");
        serde_json::from_str(&printed).unwrap()
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn of_two_replays_of_the_same_rows_one_begins_again_and_finds_nothing() {
    for point in ["write/files-durable", "append/before-create"] {
        let project = with_another_rule();
        project.sluice(&["run", "--until-end"]).expect(0);
        let slow = Still::at(&project, point);
        assert_eq!(replay(&project, &["error"])["sent"]["rows"], 5);
        // the pipeline runs on, too
        project.write("in/b.ndjson", "{\"id\": 70, \"page\": \"x\"}\n");
        project.sluice(&["run", "--until-end"]).expect(0);
        let slow = slow.wake();
        assert_eq!((&slow["sent"]["rows"], &slow["unchanged"]), (&0.into(), &7.into()), "{point}: {slow}");
        assert_eq!(latest(&project), json!({ "valid": 14, "error": 7, "dlq": 0, "rows": 26, "doubled": 0 }), "{point}");
        reconciled(&project);
    }
}

#[test]
fn what_nobody_can_be_asked_about_stays_where_it_is() {
    let project = project();
    project.sluice(&["run", "--until-end"]).expect(0);
    // a column that came later, and bytes that error does not store
    project.write("t.sql", "CREATE TABLE t (id BIGINT, page STRING, country STRING)");
    edit(&project, "sluice.toml", "small = \"id < 10\"", "small = \"id < 100\"\nfrom = \"country IS NULL\"");
    project.write("in/b.ndjson", "{\"id\": 200, \"page\": \"x\", \"country\": null}\n");
    project.sluice(&["run", "--until-end"]).expect(0);
    edit(&project, "sluice.toml", "id < 100", "id < 1000");
    let replayed = replay(&project, &["error"]);
    assert_eq!((&replayed["sent"]["rows"], &replayed["unasked"]), (&1.into(), &11.into()), "{replayed}");
    assert_eq!(replayed["needs"], json!({ "from": ["country"] }));
    edit(&project, "sluice.toml", "country IS NULL", "_value IS NOT NULL");
    let replayed = replay(&project, &["error"]);
    assert_eq!((&replayed["sent"]["rows"], &replayed["needs"]), (&0.into(), &json!({ "from": ["_value"] })));
    let text = project.sluice(&["replay", "error"]).expect(0);
    assert!(text.contains("from reads _value, which is not stored"), "{text}");
    reconciled(&project);
}

#[test]
fn a_reader_that_reads_records_twice_by_an_operators_word_replays_them_once() {
    let project = with_another_rule();
    project.sluice(&["reset", "in/a.ndjson/0=1"]).expect(0);
    edit(&project, "sluice.toml", "id < 15", "id < 11");
    project.sluice(&["run", "--until-end"]).expect(0);
    // 11 to 20 are in error twice; 10 once, and in valid since
    edit(&project, "sluice.toml", "id < 11", "id < 15");
    let replayed = replay(&project, &["error"]);
    assert_eq!((&replayed["chosen"], &replayed["sent"]["rows"]), (&10.into(), &4.into()), "{replayed}");
    assert_eq!(replay(&project, &["error"])["sent"]["rows"], 0);
    reconciled(&project);
}

#[test]
fn what_cannot_be_replayed_is_said() {
    let project = project();
    let refused = project.sluice(&["replay", "error"]);
    assert!(refused.code == Some(2) && refused.stderr.contains("the pipeline never ran"), "{}", refused.stderr);
    assert_eq!(project.sluice(&["replay", "valid"]).code, Some(2));
    edit(&project, "sluice.toml", "valid = { delta = \"lake/visits\" }", "valid = { stdout = true }");
    project.sluice(&["run", "--until-end"]).expect(0);
    let refused = project.sluice(&["replay", "error"]);
    let why = "error cannot be replayed: valid goes to standard output";
    assert!(refused.code == Some(2) && refused.stderr.contains(why), "{}", refused.stderr);
}

#[test]
fn reconcile_finds_an_attempt_that_nobody_made() {
    let project = with_another_rule();
    replay(&project, &["error"]);
    reconciled(&project);
    // a row of the replay, with an attempt that follows none
    let forged = "names = [field.name for field in table.schema().fields]
columns = ', '.join('CAST(7 AS INT) AS _attempt' if name == '_attempt' else name for name in names)
sql = 'SELECT ' + columns + ' FROM t WHERE _attempt = 1 AND _offset = 12'
rows = deltalake.QueryBuilder().register('t', table).execute(sql).read_all()
deltalake.write_deltalake(folder, rows, mode='append')";
    peer::change(&project.path().join("lake/visits"), forged);
    let said = project.sluice(&["reconcile"]).expect(1);
    assert!(said.contains("in/a.ndjson/0 offset 12 row 0: attempt 7 follows no attempt before it"), "{said}");
}
