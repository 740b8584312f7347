//! What `sluice reconcile` says of tables that somebody's hand was in: where, which row, and what to do, which then helps.

use super::small;
use crate::peer;
use crate::project::Project;

const FILES: usize = 4;

fn ran() -> Project {
    let project = small(FILES);
    project.sluice(&["run", "--until-end"]).expect(0);
    project
}

/// The report as text and as JSON; both must say no.
#[track_caller]
fn report(project: &Project) -> (String, serde_json::Value) {
    let text = project.sluice(&["reconcile"]).expect(1);
    let json: serde_json::Value = serde_json::from_str(&project.sluice(&["reconcile", "--json"]).expect(1)).unwrap();
    assert_eq!(json["ok"], false);
    (text, json)
}

fn batch_of(project: &Project, entry: u64) -> String {
    let entry: serde_json::Value = serde_json::from_str(&project.read(&super::entry(entry))).unwrap();
    entry["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_row_that_was_deleted_is_named_and_comes_back_as_the_report_says() {
    let project = ran();
    let folder = project.path().join("lake/visits");
    peer::change(&folder, "table.delete(\"user_id = 'u2-2'\")");
    let (text, json) = report(&project);
    let line =
        "entry 5 counts 3 rows for valid (lake/visits), which has 2 of it; in no table: in/0002.ndjson/0 offset 2";
    assert_eq!(json["discrepancies"], serde_json::json!([line]));
    assert!(text.starts_with(&format!("not reconciled: 1 discrepancy\n  {line}\n")), "{text}");
    let batch = batch_of(&project, 5);
    let advice = json["advice"][0].as_str().unwrap();
    assert!(advice.contains("an older version of the table"), "{advice}");
    assert!(text.contains(advice), "{text}");
    assert!(advice.contains(&format!("WHERE _batch = '{batch}'")), "{advice}");

    // as it says, in another tool: the rows of the older version that are not there now
    let before = "old = deltalake.DeltaTable(folder, version=table.version() - 1)
rows = deltalake.QueryBuilder().register('old', old).register('now', table).execute(\"\"\"
    SELECT * FROM old WHERE _batch = 'BATCH' AND _offset NOT IN (SELECT _offset FROM now WHERE _batch = 'BATCH')
\"\"\").read_all()
deltalake.write_deltalake(folder, rows, mode='append')";
    peer::change(&folder, &before.replace("BATCH", &batch));
    project.sluice(&["reconcile"]).expect(0);
}

#[test]
fn rows_that_were_doubled_are_named() {
    let project = ran();
    let again = "rows = deltalake.QueryBuilder().register('t', table).execute(\"SELECT * FROM t WHERE user_id = 'u1-3'\").read_all()
deltalake.write_deltalake(folder, rows, mode='append')";
    peer::change(&project.path().join("lake/visits"), again);
    let (text, json) = report(&project);
    assert_eq!(
        json["discrepancies"],
        serde_json::json!([
            "entry 4 counts 3 rows for valid (lake/visits), which has 4 of it",
            "entry 4: in/0001.ndjson/0 offset 5 row 0 is twice in valid"
        ])
    );
    let advice = json["advice"][0].as_str().unwrap();
    assert!(advice.contains("Delete it") && advice.contains(&batch_of(&project, 4)), "{advice}");
    assert!(text.contains(advice), "{text}");
}

#[test]
fn rows_that_sluice_never_wrote_are_named() {
    let project = ran();
    let strange = "table.update(updates={'_batch': \"'mine'\"}, predicate=\"user_id = 'u0-1'\")";
    peer::change(&project.path().join("lake/visits"), strange);
    let (text, json) = report(&project);
    assert!(text.contains("rows with _batch mine, which is no entry of the ledger"), "{text}");
    assert!(json["advice"].as_array().is_some_and(|advice| !advice.is_empty()), "{json:#}");
}

/// A hundred thousand missing rows are one cause, and a screenful at most.
#[test]
fn many_missing_rows_are_summed_up() {
    let project = ran();
    peer::change(&project.path().join("lake/visits"), "table.delete(\"user_id LIKE 'u3-%'\")");
    peer::change(&project.path().join("lake/visits_errors"), "table.delete('_topic = \\'in/0003.ndjson\\'')");
    let (_, json) = report(&project);
    let all = "in no table: in/0003.ndjson/0 offsets 1, 2, 3 and 1 more";
    assert_eq!(
        json["discrepancies"],
        serde_json::json!([
            format!("entry 6 counts 3 rows for valid (lake/visits), which has 0 of it; {all}"),
            format!("entry 6 counts 1 rows for error (lake/visits_errors), which has 0 of it; {all}")
        ])
    );
}

#[test]
fn a_removed_entry_and_a_lost_ledger_are_contradictions_with_an_exit_code() {
    let project = ran();
    std::fs::remove_file(project.path().join(super::entry(3))).unwrap();
    let (text, json) = report(&project);
    assert!(text.contains("ledger entry 3") && text.contains("Put it back from a copy"), "{text}");
    assert!(json["discrepancies"][0].as_str().is_some_and(|line| line.contains("ledger entry 3")), "{json:#}");

    let project = ran();
    std::fs::remove_dir_all(project.path().join("lake/_sluice")).unwrap();
    let (text, json) = report(&project);
    assert!(text.contains("valid (lake/visits) holds ledger entry 6") && text.contains("was lost"), "{text}");
    assert_eq!(json["discrepancies"].as_array().map(Vec::len), Some(3), "one for each table: {json:#}");
}
