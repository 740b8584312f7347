//! A sink's table is deleted, replaced or damaged, while the pipeline is stopped and while it runs.

use std::path::Path;
use std::sync::Arc;

use sluice_host::error::Error;
use sluice_host::store::Durable;

use super::{all_is_well, more, of, refused, run_on, sentence, small};
use crate::peer;
use crate::project::{Counted, Project};

const FILES: usize = 6;

/// Runs it on the disk; when entry `n` has landed, `happens`. The run must end with these words.
#[track_caller]
fn interrupted(project: &Project, n: u64, mut happens: impl FnMut(), words: &[&str]) {
    let run = run_on(project, Arc::new(Durable::new()), |landed| {
        if landed == n {
            happens();
        }
    });
    let error = run.expect_err("a table was changed under it");
    assert!(matches!(error, Error::Diverged(_) | Error::Environment { .. }), "{error:?}");
    for word in words {
        assert!(sentence(&error).contains(word), "{word}: {}", sentence(&error));
    }
}

fn table(project: &Project, name: &str) -> std::path::PathBuf {
    project.path().join("lake").join(name)
}

/// An empty table with the columns of the one in `like`.
fn another_like(like: &Path, to: &Path) {
    let code = format!(
        "rows = deltalake.QueryBuilder().register('t', table).execute('SELECT * FROM t WHERE false').read_all()
deltalake.write_deltalake({:?}, rows)",
        to.display().to_string()
    );
    peer::change(like, &code);
}

#[test]
fn a_table_that_vanishes_while_it_runs_stops_the_run_and_is_begun_anew_by_a_word() {
    for name in ["visits", "visits_errors"] {
        let project = small(FILES);
        let folder = table(&project, name);
        let gone = || std::fs::remove_dir_all(&folder).unwrap();
        interrupted(&project, 4, gone, &[name, "is not there", "sluice adopt"]);
        refused(&project, &["run", "--until-end"], &[name, "is not there", "sluice adopt"]);
        project.sluice(&["reconcile"]).expect(1);

        let said = project.sluice(&["adopt"]).expect(0);
        assert!(said.contains("begins anew, empty, without the ") && said.contains(&format!("lake/{name}")), "{said}");
        project.sluice(&["run", "--until-end"]).expect(0);
        let report = project.sluice(&["reconcile"]).expect(0);
        assert!(report.contains("was taken over by entry ") && report.contains(" are not looked for"), "{report}");
        // what the others hold is untouched; what was in the table is gone with it, and the rest is there
        let (now, whole) = (project.counted(), of(FILES));
        assert_eq!((now.dlq, now.doubled), (whole.dlq, 0));
        assert_eq!(now.valid == whole.valid, name != "visits", "{now:?}");
        assert_eq!(now.error == whole.error, name != "visits_errors", "{now:?}");
    }
}

#[test]
fn a_table_that_comes_back_goes_on_as_if_nothing_had_been() {
    let project = small(FILES);
    let (folder, aside) = (table(&project, "visits"), project.path().join("aside"));
    interrupted(&project, 4, || std::fs::rename(&folder, &aside).unwrap(), &["is not there"]);
    // files that were written in between stand where the table stood: a copy goes over them
    copy(&aside, &folder);
    all_is_well(&project, &of(FILES));
}

#[test]
fn a_table_that_is_replaced_while_it_runs_is_not_written_to() {
    let project = small(FILES);
    let (folder, aside) = (table(&project, "visits"), project.path().join("aside"));
    let replace = || {
        std::fs::rename(&folder, &aside).unwrap();
        another_like(&aside, &folder);
    };
    interrupted(&project, 4, replace, &["valid (lake/visits) is table", "the table was replaced", "sluice adopt"]);
    let rows = |folder: &Path| peer::sql("SELECT count(*) AS n FROM t", &[("t", folder.to_owned())])[0]["n"].clone();
    assert_eq!(rows(&folder), 0, "not a row went into the other table");
    refused(&project, &["run", "--until-end"], &["the table was replaced", "Put the old one back"]);
    let report = project.sluice(&["reconcile"]).expect(1);
    assert!(report.contains("the table was replaced"), "{report}");

    // as the sentence says: the old one back
    std::fs::rename(&folder, project.path().join("other")).unwrap();
    copy(&aside, &folder);
    copy_parquet(&project.path().join("other"), &folder);
    all_is_well(&project, &of(FILES));
}

#[test]
fn a_replaced_table_is_taken_over_by_a_word() {
    let project = small(FILES);
    project.sluice(&["run", "--until-end"]).expect(0);
    let (folder, aside) = (table(&project, "visits"), project.path().join("aside"));
    std::fs::rename(&folder, &aside).unwrap();
    another_like(&aside, &folder);
    more(&project, FILES, 1);
    refused(&project, &["run", "--until-end"], &["the table was replaced", "sluice adopt"]);
    project.sluice(&["adopt"]).expect(0);
    all_is_well(&project, &Counted { valid: 3, ..of(FILES + 1) });
}

/// What stands in a table's log is damaged, in each of the ways that happen: the run says where, and writes nothing; put
/// back, all goes on.
#[test]
fn a_damaged_log_is_named_and_never_guessed() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 3] = [
        ("the last commit is cut off", |log| {
            let last = commit(log, 4);
            let text = std::fs::read(&last).unwrap();
            std::fs::write(last, &text[..text.len() / 2]).unwrap();
        }),
        ("a commit in the middle is gone", |log| std::fs::remove_file(commit(log, 2)).unwrap()),
        ("the first commit is gone", |log| std::fs::remove_file(commit(log, 0)).unwrap()),
    ];
    for (what, harm) in harms {
        let project = small(4);
        project.sluice(&["run", "--until-end"]).expect(0);
        more(&project, 4, 1);
        let log = table(&project, "visits").join("_delta_log");
        let kept = project.path().join("kept");
        copy(&log, &kept);
        harm(&log);
        let before = names(&table(&project, "visits"));
        let said = refused(&project, &["run", "--until-end"], &["valid (lake/visits)", "_delta_log", "from a copy"]);
        assert_eq!(names(&table(&project, "visits")), before, "{what}: nothing was written");
        let report = project.sluice(&["reconcile"]);
        assert_ne!(report.code, Some(0), "{what}: {}", report.stdout);
        assert!((report.stdout + &report.stderr).contains("valid (lake/visits)"), "{what}");
        assert!(!said.contains("panicked") && !said.contains("bug in sluice"), "{what}: {said}");

        std::fs::remove_dir_all(&log).unwrap();
        copy(&kept, &log);
        all_is_well(&project, &of(5));
    }
}

/// An empty commit is one that says nothing, by Delta's protocol. The progress mark was in it, too, so that what it held is
/// applied again.
#[test]
fn a_last_commit_that_is_empty_is_made_up_for() {
    let project = small(4);
    project.sluice(&["run", "--until-end"]).expect(0);
    std::fs::write(commit(&table(&project, "visits").join("_delta_log"), 4), "").unwrap();
    all_is_well(&project, &of(4));
}

#[test]
fn a_data_file_that_somebody_removed_is_found_by_the_proof() {
    let project = small(2);
    project.sluice(&["run", "--until-end"]).expect(0);
    let folder = table(&project, "visits");
    let file = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let file = file.into_iter().find(|path| path.extension().is_some_and(|e| e == "parquet")).unwrap();
    std::fs::remove_file(&file).unwrap();
    let said = project.sluice(&["reconcile"]).expect(1);
    let name = file.file_name().unwrap().to_str().unwrap();
    assert!(said.contains("valid (lake/visits)") && said.contains(name) && said.contains("of entry "), "{said}");
}

fn commit(log: &Path, version: u64) -> std::path::PathBuf {
    log.join(format!("{version:020}.json"))
}

/// Copies a folder and all below it over another.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

/// Copies only the data files: what an operator finds beside a log that is not of them.
fn copy_parquet(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "parquet") {
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

/// The names of a table's commits.
fn names(folder: &Path) -> Vec<String> {
    let log = std::fs::read_dir(folder.join("_delta_log")).unwrap();
    let mut names: Vec<_> = log.map(|entry| entry.unwrap().path().display().to_string()).collect();
    names.sort();
    names
}
