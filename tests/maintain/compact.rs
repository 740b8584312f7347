//! Compaction by `sluice maintain`: the same rows in fewer files, whoever else is at work, and wherever it dies or lies still.

use std::process::Stdio;

use serde_json::{Value, json};

use super::{COMMITS, HOURS, RUN, Still, age, all_is_there_once, data_files, files, maintain, sum};
use crate::peer;
use crate::project::{Counted, Project};

/// A pipeline that has run, with some ten files in each table.
fn ran() -> (Project, Value) {
    let (project, tally) = Project::visits(100_000, COMMITS);
    project.sluice(&RUN).expect(0);
    (project, tally)
}

/// Live files of the valid table, as another reader counts them.
fn live(project: &Project) -> usize {
    let described = project.sluice(&["inspect", "table", "valid", "--json"]).expect(0);
    let described: Value = serde_json::from_str(&described).expect("JSON");
    described["counts"]["files"].as_u64().unwrap_or_else(|| panic!("it counts files: {described}")) as usize
}

fn compacted(report: &Value, what: &str) -> u64 {
    let files = |sink: &Value| sink["compacted"][what]["files"].as_u64().expect("a number of files");
    report["sinks"].as_array().expect("a list").iter().map(files).sum()
}

/// Every row of the valid table, in order of its coordinates, as another reader sees it.
fn rows(project: &Project) -> Value {
    let sql = "SELECT count(*) AS n, count(DISTINCT _batch) AS batches, sum(_offset) AS offsets, \
               count(DISTINCT visit_id || coalesce(user_id, '-') || coalesce(page, '-') || _offset) AS seen FROM v";
    peer::sql(sql, &[("v", project.path().join("lake/visits"))])
}

#[test]
fn small_files_become_one_and_every_row_stays_as_it_was() {
    let (project, tally) = ran();
    let (before, seen) = (live(&project), rows(&project));
    assert!(before >= 8, "{before} files");
    let planned = maintain(&project, &["--dry-run"]);
    assert!(compacted(&planned, "from") >= 8, "{planned}");
    assert_eq!(live(&project), before, "a dry run changes nothing");
    let version = planned["sinks"][0]["version"].clone();

    let done = maintain(&project, &[]);
    assert_eq!(compacted(&done, "from"), compacted(&planned, "from"), "{done}");
    assert_eq!((live(&project), rows(&project)), (1, seen));
    assert_eq!(done["sinks"][0]["version"], json!(version.as_u64().expect("a number") + 1));
    let screen = project.sluice(&["maintain"]).expect(0);
    assert!(screen.contains("compacted"), "{screen}");
    assert_eq!(live(&project), 1, "there is nothing more to do");
    // the files before are still there, for whoever reads an older version
    assert!(data_files(&project).len() > before);
    all_is_there_once(&project, &tally);
    let explained = project.sluice(&["explain", "visits.ndjson:1"]).expect(0);
    assert!(explained.contains("entry "), "{explained}");
}

#[test]
fn a_compaction_that_dies_changes_nothing_and_its_files_are_orphans() {
    for (point, files) in [("compact/written", None), ("compact/committed", Some(1))] {
        let (project, tally) = ran();
        let before = (live(&project), rows(&project));
        let killed = project.sluice_with(("SLUICE_CRASH_AT", point), &["maintain"]);
        assert_eq!(killed.code, None, "{point}: {}{}", killed.stdout, killed.stderr);
        assert_eq!((live(&project), rows(&project)), (files.unwrap_or(before.0), before.1), "{point}");
        age(&project, 2 * HOURS);
        let done = maintain(&project, &[]);
        assert_eq!(sum(&done, "orphans"), u64::from(files.is_none()), "{point}: {done}");
        assert_eq!(live(&project), 1, "{point}");
        all_is_there_once(&project, &tally);
    }
}

#[test]
fn files_that_were_given_up_long_ago_go_and_the_ledger_need_not_know_of_them() {
    let (project, tally) = ran();
    let seen = rows(&project);
    maintain(&project, &[]);
    let sinks = ["lake/visits", "lake/visits_errors", "lake/visits_dlq"].map(|sink| project.path().join(sink));
    for sink in &sinks {
        peer::change(
            sink,
            "table.alter.set_table_properties({'delta.deletedFileRetentionDuration': 'interval 0 seconds'})",
        );
    }
    maintain(&project, &[]); // a checkpoint that does not name them any more
    age(&project, 2 * HOURS);
    let given_up = data_files(&project).len() - 3;
    let done = maintain(&project, &[]);
    assert_eq!((sum(&done, "orphans"), data_files(&project).len()), (given_up as u64, 3), "{done}");
    assert!(done["sweep"].is_null(), "entries that are in the ledger cannot come once more: {done}");
    assert_eq!(rows(&project), seen);
    all_is_there_once(&project, &tally);
}

#[test]
fn a_compaction_that_lay_still_finds_its_files_gone() {
    let (project, tally) = ran();
    let seen = rows(&project);
    let still = Still::doing(&project, "compact/written", &["maintain"]);
    let done = maintain(&project, &[]);
    assert!(compacted(&done, "into") >= 1, "{done}");
    assert_eq!(still.wake(), Some(0));
    assert_eq!((live(&project), rows(&project)), (1, seen));
    all_is_there_once(&project, &tally);
}

#[test]
fn a_compaction_whose_files_were_swept_meanwhile_names_them_no_more() {
    let (project, tally) = ran();
    let (before, seen) = (live(&project), rows(&project));
    let still = Still::doing(&project, "compact/written", &["maintain"]);
    age(&project, 2 * HOURS);
    // another one that compacts nothing: all it does is to sweep
    let swept = maintain(&project, &["--no-compact"]);
    assert_eq!((sum(&swept, "orphans"), compacted(&swept, "from")), (1, 0), "{swept}");
    assert_eq!(still.wake(), Some(0));
    let rest = live(&project);
    assert!(rest == before, "{rest} files instead of {before}");
    assert_eq!(rows(&project), seen);
    maintain(&project, &[]);
    assert_eq!((live(&project), rows(&project)), (1, seen));
    all_is_there_once(&project, &tally);
}

#[test]
fn compactions_beside_a_run_and_beside_each_other_change_no_row() {
    let (project, tally) = Project::visits(100_000, COMMITS);
    let mut run = project.start(&RUN, Stdio::null());
    while run.try_wait().expect("it is our child").is_none() {
        let two = [(); 2].map(|()| project.start(&["maintain"], Stdio::null()));
        for one in two {
            let ended = one.wait_with_output().expect("it ends");
            assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
        }
    }
    assert_eq!(run.wait_with_output().expect("it ends").status.code(), Some(0));
    maintain(&project, &[]);
    assert!(live(&project) < 8, "{} files", live(&project));
    assert_eq!(project.counted(), Counted::planted(&tally));
    all_is_there_once(&project, &tally);
}

#[test]
fn tables_that_are_accounted_for_by_their_files_are_left_alone() {
    let (project, _) = Project::visits(100_000, COMMITS);
    let toml = project.read("sluice.toml").replace("\"lake/visits\" }", "\"lake/visits\", provenance = false }");
    project.write("sluice.toml", toml);
    project.sluice(&RUN).expect(0);
    let before = files(&project.path().join("lake/visits"), &|name| name.ends_with(".parquet"));
    maintain(&project, &[]);
    let after = files(&project.path().join("lake/visits"), &|name| name.starts_with("part-"));
    assert_eq!(after, before);
    project.sluice(&["reconcile"]).expect(0);
}

#[test]
fn derived_tables_are_put_together_and_accounted_for_in_sum() {
    let derive = "[derive.pages]\nfrom = \"valid\"\ndelta = \"lake/pages\"\n\
                  sql = \"SELECT page, count(*) AS n FROM batch GROUP BY page\"\n";
    let (project, tally) = Project::visits(100_000, &format!("{COMMITS}{derive}"));
    project.sluice(&RUN).expect(0);
    let table = project.path().join("lake/pages");
    let pages = || peer::sql("SELECT count(*) AS rows, sum(n) AS n FROM v", &[("v", table.clone())]);
    let before = pages();
    assert_eq!(before[0]["n"], tally["outcomes"]["valid"], "{before}");
    let done = maintain(&project, &[]);
    let sinks = done["sinks"].as_array().expect("a list");
    let sink = sinks.iter().find(|sink| sink["location"] == "lake/pages").expect("the derived table");
    assert_eq!(sink["compacted"]["into"]["files"], 1, "{sink}");
    assert_eq!(pages(), before);
    let said = project.sluice(&["reconcile"]).expect(0);
    assert!(said.contains("(lake/pages): ") && said.contains("files were put together"), "{said}");
    all_is_there_once(&project, &tally);
    assert_eq!(pages(), before);
    peer::change(&table, "table.delete(\"page = 'main'\")");
    let said = project.sluice(&["reconcile"]).expect(1);
    assert!(said.contains("which no entry names"), "{said}");
}
