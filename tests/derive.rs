//! Tables that are made of the rows of a commit, in the same ledger entry.

use serde_json::Value;

use crate::commands::edit;
use crate::peer;
use crate::project::Project;
use crate::reload::Running;

const SCHEMA: &str = "CREATE TABLE t (id BIGINT, page STRING, at TIMESTAMP)";

fn toml(sink: &str, derive: &str) -> String {
    format!(
        r#"name  = "t"
state = "lake/_sluice/t"
[source]
files = ["in/*.ndjson"]
[schema]
file = "t.sql"
[expect]
small = "id < 100"
{derive}
[sink]
valid = {{ delta = "lake/visits"{sink} }}
error = {{ delta = "lake/visits_errors" }}
dlq   = {{ delta = "lake/visits_dlq" }}
"#
    )
}

const STATS: &str = r#"
[derive.stats]
from  = "valid"
sql   = "SELECT page, count(*) AS n, min(at) AS first, _batch AS batch_id FROM batch GROUP BY page, _batch"
delta = "lake/stats"
"#;

fn project(toml: &str) -> Project {
    Project::new(&[("sluice.toml", toml), ("t.sql", SCHEMA)])
}

fn rows(ids: std::ops::Range<u32>) -> String {
    let page = |id: u32| if id.is_multiple_of(3) { "null".to_owned() } else { format!("\"p/{}\"", id % 3) };
    ids.map(|id| format!("{{\"id\": {id}, \"page\": {}, \"at\": \"2026-11-20T00:00:{:02}Z\"}}\n", page(id), id % 60))
        .collect()
}

fn stats(project: &Project, sql: &str) -> Value {
    let mut tables = project.tables();
    tables.push(("stats", project.path().join("lake/stats")));
    peer::sql(sql, &tables)
}

#[test]
fn each_commit_adds_its_own_result() {
    for partitioned in ["", ", partition_by = [\"page\"]"] {
        let project = project(&toml(partitioned, STATS));
        project.write("in/a.ndjson", rows(0..30) + &rows(100..110));
        project.sluice(&["run", "--until-end"]).expect(0);
        project.write("in/b.ndjson", rows(30..36));
        project.sluice(&["run", "--until-end"]).expect(0);
        let grouped = stats(
            &project,
            "SELECT page, count(*) AS commits, sum(n) AS n, min(first) AS first FROM stats GROUP BY page ORDER BY page NULLS FIRST",
        );
        let first = |row: usize| grouped[row]["first"].as_str().unwrap()[17..19].to_owned();
        for (row, page) in [Value::Null, "p/1".into(), "p/2".into()].into_iter().enumerate() {
            assert_eq!(
                (&grouped[row]["page"], &grouped[row]["commits"], &grouped[row]["n"]),
                (&page, &2.into(), &12.into()),
                "{grouped}"
            );
            assert_eq!(first(row), format!("{row:02}"), "{grouped}");
        }
        // the entry that made them is the entry of the rows
        let other = "SELECT count(*) AS n FROM stats WHERE batch_id NOT IN (SELECT _batch FROM valid)";
        assert_eq!(stats(&project, other)[0]["n"], 0);
        let reconciled = project.sluice(&["reconcile"]).expect(0);
        assert!(!reconciled.contains("provenance"), "{reconciled}");
        let shown = project.sluice(&["show", "derive/stats"]).expect(0);
        assert!(shown.contains("6 rows") && shown.contains("p/1"), "{shown}");
        let asked = project.sluice(&["show", "--sql", "SELECT sum(n) AS sum FROM stats"]).expect(0);
        assert!(asked.contains("36"), "{asked}");
        project.sluice(&["maintain"]).expect(0);
        project.sluice(&["reconcile"]).expect(0);
    }
}

#[test]
fn what_is_wrong_with_a_query_is_said_in_its_place() {
    let with = |sql: &str| {
        toml(
            "",
            &STATS.replace(
                "SELECT page, count(*) AS n, min(at) AS first, _batch AS batch_id FROM batch GROUP BY page, _batch",
                sql,
            ),
        )
    };
    for (toml, said) in [
        (with("SELECT pagee FROM batch"), "derived table `stats` cannot be planned"),
        (with("SELECT page FROM visits"), "derived table `stats` cannot be planned"),
        (with("SELECT count(*) FROM batch"), "derived table `stats` has a column `count(*)`"),
        (with("SELECT id, page AS ID FROM batch"), "derived table `stats` has two columns `ID`"),
        (
            with("SELECT now() AS at FROM batch"),
            "derived table `stats` calls `now`, which does not depend on the rows alone",
        ),
        (with("DROP TABLE batch"), "derived table `stats` cannot be planned"),
        (toml("", &STATS.replace("\"valid\"", "\"all\"")), "`derive.stats.from` must be `valid`, `error` or `dlq`"),
        (toml("", &STATS.replace("lake/stats", "lake/visits")), "share a folder"),
        (toml("", &STATS.replace("derive.stats", "derive.valid")), "`valid` cannot be the name of a derived table"),
        (
            toml("", STATS).replace("{ delta = \"lake/visits\" }", "{ stdout = true }"),
            "derived table `stats` needs a table that it is made of",
        ),
    ] {
        let checked = project(&toml).sluice(&["check"]);
        assert_eq!(checked.code, Some(1), "{said}:\n{}{}", checked.stdout, checked.stderr);
        assert!(checked.stderr.contains(said), "{said}:\n{}", checked.stderr);
    }
}

#[test]
fn a_table_that_comes_later_begins_with_the_next_commit() {
    let project = project(&toml("", ""));
    project.write("in/a.ndjson", rows(0..30));
    project.sluice(&["run", "--until-end"]).expect(0);
    project.write("sluice.toml", toml("", STATS));
    project.write("in/b.ndjson", rows(30..33));
    project.sluice(&["run", "--until-end"]).expect(0);
    assert_eq!(stats(&project, "SELECT sum(n) AS n FROM stats")[0]["n"], 3);
    project.sluice(&["reconcile"]).expect(0);
    // and ends when nobody names it any more: what it has stays
    project.write("sluice.toml", toml("", ""));
    project.write("in/c.ndjson", rows(33..36));
    project.sluice(&["run", "--until-end"]).expect(0);
    assert_eq!(stats(&project, "SELECT sum(n) AS n FROM stats")[0]["n"], 3);
    let reconciled = project.sluice(&["reconcile"]).expect(0);
    assert!(reconciled.contains("derive/stats, 3 rows by the ledger, cannot be proven"), "{reconciled}");
}

#[test]
fn rows_that_somebody_else_removed_or_added_are_found() {
    let project = project(&toml("", STATS));
    project.write("in/a.ndjson", rows(0..30));
    project.sluice(&["run", "--until-end"]).expect(0);
    peer::change(&project.path().join("lake/stats"), "table.delete('n = 10 AND page IS NULL')");
    let told = project.sluice(&["reconcile"]);
    assert_eq!(told.code, Some(1), "{}", told.stdout);
    assert!(told.stdout.contains("derive/stats (lake/stats)"), "{}", told.stdout);
}

#[test]
fn one_can_be_made_of_errors_and_of_dead_letters() {
    let both = r#"
[derive.refused]
from  = "error"
sql   = "SELECT count(*) AS n, max(id) AS worst FROM batch"
delta = "lake/refused"
[derive.dead]
from  = "dlq"
sql   = "SELECT reason, count(*) AS n FROM batch GROUP BY reason"
delta = "lake/dead"
"#;
    let project = project(&toml("", both));
    project.write("in/a.ndjson", rows(0..3) + &rows(100..104) + "{......\n");
    project.sluice(&["run", "--until-end"]).expect(0);
    let of = |name: &str| peer::sql("SELECT * FROM t", &[("t", project.path().join("lake").join(name))]);
    assert_eq!(of("refused"), serde_json::json!([{"n": 4, "worst": 103}]));
    assert_eq!(of("dead"), serde_json::json!([{"reason": "not-json", "n": 1}]));
    project.sluice(&["reconcile"]).expect(0);
}

#[test]
fn a_query_that_fails_stops_the_run_and_loses_nothing() {
    let fails = STATS.replace("min(at) AS first", "min(1 / (id - 5)) AS first");
    let project = project(&toml("", &fails));
    project.write("in/a.ndjson", rows(0..30));
    let stopped = project.sluice(&["run", "--until-end"]);
    assert_eq!(stopped.code, Some(2), "{}", stopped.stdout);
    assert!(
        stopped.stderr.contains("cannot fill derive/stats") && stopped.stderr.contains("Divide by zero"),
        "{}",
        stopped.stderr
    );
    assert_eq!(stats(&project, "SELECT count(*) AS n FROM valid")[0]["n"], 0);
    project.write("sluice.toml", toml("", &fails.replace("id - 5", "id - 500")));
    project.sluice(&["run", "--until-end"]).expect(0);
    assert_eq!(stats(&project, "SELECT count(*) AS n FROM valid")[0]["n"], 30);
    assert_eq!(stats(&project, "SELECT sum(n) AS n FROM stats")[0]["n"], 30);
    project.sluice(&["reconcile"]).expect(0);
}

#[test]
fn a_query_changes_while_running_and_a_new_table_waits_for_a_restart() {
    let toml = |derive: &str| toml("", derive).replace("files = [\"in/*.ndjson\"]", "stdin = true");
    let project = project(&toml(STATS));
    let mut running = Running::of(&project);
    running.put(&rows(0..3));
    running.until(" entry ");
    project.write("sluice.toml", toml(&STATS.replace("min(at)", "max(at)")));
    let line = running.until(" reload ");
    assert!(line.contains("generation"), "{line}");
    let another = STATS.replace("derive.stats", "derive.more").replace("lake/stats", "lake/more");
    project.write("sluice.toml", toml(&format!("{STATS}{another}")));
    let line = running.until("derive/more is a new table");
    assert!(line.contains("restart it"), "{line}");
    running.stop();
    project.feed(&["run", "--until-end"], rows(3..6).as_bytes()).expect(0);
    assert_eq!(stats(&project, "SELECT sum(n) AS n FROM stats")[0]["n"], 6);
    let more = peer::sql("SELECT sum(n) AS n FROM t", &[("t", project.path().join("lake/more"))]);
    assert_eq!(more[0]["n"], 3);
}

#[test]
fn a_replay_makes_what_its_rows_make_and_a_kill_in_it_leaves_all_or_nothing() {
    let project = project(&toml("", STATS));
    project.write("in/a.ndjson", rows(0..30) + &rows(100..120));
    project.sluice(&["run", "--until-end"]).expect(0);
    let sum = || stats(&project, "SELECT sum(n) AS n FROM stats")[0]["n"].clone();
    for (from, to, point, is_there) in [
        ("id < 100", "id < 105", "write/derived-durable", false),
        ("id < 105", "id < 110", "append/created", true),
        ("id < 110", "id < 115", "apply/after-derived:2", true),
    ] {
        edit(&project, "sluice.toml", from, to);
        project.sluice(&["run", "--until-end"]).expect(0); // puts the generation in force
        let before = sum().as_u64().expect("a number");
        let killed = project.sluice_with(("SLUICE_CRASH_AT", point), &["replay", "error"]);
        assert_eq!(killed.code, None, "{point} was never passed:\n{}{}", killed.stdout, killed.stderr);
        project.sluice(&["reconcile"]).expect(0);
        project.sluice(&["run", "--until-end"]).expect(0); // finishes what the ledger has
        assert_eq!(sum(), before + if is_there { 5 } else { 0 }, "{point}");
        project.sluice(&["replay", "error"]).expect(0);
        assert_eq!(sum(), before + 5, "{point}");
        project.sluice(&["reconcile"]).expect(0);
    }
    let other = "SELECT count(*) AS n FROM stats WHERE batch_id NOT IN (SELECT _batch FROM valid)";
    assert_eq!(stats(&project, other)[0]["n"], 0);
    // a replay does not begin a table
    let another = STATS.replace("derive.stats", "derive.more").replace("lake/stats", "lake/more");
    edit(&project, "sluice.toml", "[sink]", &format!("{another}[sink]"));
    let refused = project.sluice(&["replay", "error"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stdout);
    assert!(refused.stderr.contains("derive/more is a new table"), "{}", refused.stderr);
}
