//! `sluice maintain`: what it tends and removes, what it must not, beside processes that lie still and beside itself.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::peer;
use crate::project::{Counted, Project};

mod beside;
mod compact;
mod keep;

/// Small entries, so that there are several.
const COMMITS: &str = "[commit]\nrows = 8_000\n";

const RUN: [&str; 2] = ["run", "--until-end"];

/// Files in a folder and below it for which something holds.
fn files(folder: &Path, holds: &dyn Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, holds));
        } else if holds(path.file_name().unwrap().to_str().unwrap()) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn data_files(project: &Project) -> Vec<PathBuf> {
    let tables = ["visits", "visits_errors", "visits_dlq"].map(|name| project.path().join("lake").join(name));
    let is_data = |name: &str| name.starts_with("part-") && name.ends_with(".parquet");
    tables.iter().flat_map(|table| files(table, &is_data)).collect()
}

/// Everything in the lake looks as if it was written so long ago; not the temporaries, which may be in use.
fn age(project: &Project, age: Duration) {
    for path in files(&project.path().join("lake"), &|name| !name.contains('#')) {
        make_older(&path, age);
    }
}

fn make_older(path: &Path, age: Duration) {
    let file = std::fs::File::options().append(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
}

const HOURS: Duration = Duration::from_secs(60 * 60);

fn maintain(project: &Project, arguments: &[&str]) -> Value {
    let arguments = [&["maintain", "--json"], arguments].concat();
    serde_json::from_str(&project.sluice(&arguments).expect(0)).unwrap()
}

/// The sum over all sinks.
fn sum(report: &Value, what: &str) -> u64 {
    report["sinks"].as_array().unwrap().iter().map(|sink| sink[what]["files"].as_u64().unwrap()).sum()
}

/// Dies at the first or a later pass of a step; what it wrote stays.
fn killed_at(project: &Project, point: &str) {
    let killed = project.sluice_with(("SLUICE_CRASH_AT", point), &RUN);
    assert_eq!(killed.code, None, "{point} was never passed:\n{}{}", killed.stdout, killed.stderr);
}

#[track_caller]
fn all_is_there_once(project: &Project, tally: &Value) {
    project.sluice(&RUN).expect(0);
    assert_eq!(project.counted(), Counted::planted(tally));
    project.sluice(&["reconcile"]).expect(0);
}

#[test]
fn checkpoints_are_written_once_and_another_reader_uses_them() {
    let (project, tally) = Project::visits(30_000, COMMITS);
    project.sluice(&RUN).expect(0);
    let planned = maintain(&project, &["--dry-run"]);
    assert_eq!((&planned["dry_run"], &planned["sweep"]), (&Value::Bool(true), &Value::Null), "{planned}");
    let is_checkpoint = |name: &str| name.contains(".checkpoint.") || name == "_last_checkpoint";
    assert!(files(project.path(), &is_checkpoint).is_empty());

    let screen = project.sluice(&["maintain"]).expect(0);
    assert!(screen.contains("removed 0 files, 0 B") && screen.contains(", new"), "{screen}");
    assert_eq!(files(project.path(), &is_checkpoint).len(), 6, "a checkpoint and a hint for each table");
    assert_eq!(files(&project.path().join("lake/_sluice/visits/checkpoint"), &|_| true).len(), 1);
    assert_eq!(project.counted(), Counted::planted(&tally));
    let done = maintain(&project, &[]);
    for sink in done["sinks"].as_array().unwrap() {
        assert_eq!(sink["checkpoint"], serde_json::json!({ "of": sink["version"], "new": false }));
    }
    assert_eq!(done["ledger"]["checkpoint"]["new"], false);
    all_is_there_once(&project, &tally);
}

#[test]
fn old_commits_leave_the_log_when_a_checkpoint_holds_them_and_nothing_else_does() {
    let (project, tally) = Project::visits(30_000, COMMITS);
    project.sluice(&RUN).expect(0);
    age(&project, 48 * HOURS);
    let before = data_files(&project);
    let planned = maintain(&project, &["--dry-run"]);
    let commits = |project: &Project| files(&project.path().join("lake/visits/_delta_log"), &|n| n.ends_with(".json"));
    let there = commits(&project).len();
    assert!(there > 3 && sum(&planned, "log") > 0, "{planned}");

    let done = maintain(&project, &[]);
    assert_eq!((sum(&done, "log"), sum(&done, "orphans")), (sum(&planned, "log"), 0), "{done}");
    assert_eq!(commits(&project).len(), 1, "of {there}: the version of the checkpoint itself");
    assert_eq!(data_files(&project), before);
    assert_eq!(project.counted(), Counted::planted(&tally));
    // and on from there
    project.write("visits.ndjson.later", "{\"user_id\": \"late\"}\n");
    project.write("sluice.toml", project.read("sluice.toml").replace("visits.ndjson\"", "visits.ndjson*\""));
    project.sluice(&RUN).expect(0);
    project.sluice(&["reconcile"]).expect(0);
    let planted = Counted::planted(&tally);
    assert_eq!(project.counted(), Counted { valid: planted.valid + 1, ..planted });
}

#[test]
fn files_of_an_entry_that_never_came_go_when_they_are_old() {
    let (project, tally) = Project::visits(40_000, COMMITS);
    killed_at(&project, "write/files-durable:2");
    let young = maintain(&project, &[]);
    assert!(sum(&young, "young") > 0 && sum(&young, "orphans") == 0 && young["sweep"].is_null(), "{young}");

    age(&project, 2 * HOURS);
    let before = data_files(&project);
    let planned = maintain(&project, &["--dry-run"]);
    let orphans = sum(&planned, "orphans");
    assert!(orphans > 0 && orphans <= sum(&young, "young"), "{planned}");
    assert_eq!(data_files(&project), before);
    let done = maintain(&project, &[]);
    assert_eq!(sum(&done, "orphans"), orphans);
    assert_eq!(data_files(&project).len() as u64, before.len() as u64 - orphans);
    let ledger = project.sluice(&["inspect", "ledger"]).expect(0);
    assert!(ledger.contains("sweep"), "{ledger}");
    // what was said once needs no second entry
    assert!(maintain(&project, &[])["sweep"].is_null());
    all_is_there_once(&project, &tally);
}

#[test]
fn files_of_an_entry_that_waits_to_be_applied_stay_however_old() {
    let (project, tally) = Project::visits(40_000, COMMITS);
    killed_at(&project, "append/created:3");
    age(&project, 48 * HOURS);
    let before = data_files(&project);
    let done = maintain(&project, &[]);
    assert_eq!((sum(&done, "orphans"), data_files(&project)), (0, before), "{done}");
    all_is_there_once(&project, &tally);
}

#[test]
fn temporaries_of_the_dead_go_and_what_others_wrote_stays() {
    let (project, tally) = Project::visits(10_000, "");
    project.sluice(&RUN).expect(0);
    let dead =
        ["lake/visits/part-00000-x.parquet#81604378625", "lake/_sluice/visits/ledger/00000000000000000009.json#17"];
    for name in dead.iter().chain(&["lake/visits/part-00001-of-spark.snappy.parquet"]) {
        project.write(name, "half");
        make_older(&project.path().join(name), 2 * HOURS);
    }
    project.write("lake/visits_dlq/part-7.parquet#1", "still written");
    let done = maintain(&project, &[]);
    assert_eq!((sum(&done, "temporaries"), sum(&done, "young"), sum(&done, "foreign")), (1, 1, 1), "{done}");
    assert_eq!(done["ledger"]["temporaries"]["files"], 1, "{done}");
    assert!(dead.iter().all(|name| !project.path().join(name).exists()));
    assert!(project.path().join("lake/visits_dlq/part-7.parquet#1").exists());
    assert!(project.path().join("lake/visits/part-00001-of-spark.snappy.parquet").exists());
    all_is_there_once(&project, &tally);
}

/// A process that lies still, and does not stay behind when a test fails.
struct Still(Child);

impl Still {
    /// Stops at a step, as by ctrl-z or a machine that hangs.
    fn at(project: &Project, point: &str) -> Still {
        Still::doing(project, point, &RUN)
    }

    fn doing(project: &Project, point: &str, arguments: &[&str]) -> Still {
        Still::with(project, point, arguments, &[])
    }

    fn with(project: &Project, point: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Still {
        let mut command = project.command(arguments);
        command.envs(environment.iter().copied());
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

    fn wake(mut self) -> Option<i32> {
        // SAFETY: kill takes no pointers; the process is our child and was not waited for
        unsafe { libc::kill(self.0.id() as i32, libc::SIGCONT) };
        self.0.wait().unwrap().code()
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_process_that_wakes_up_after_its_files_were_swept_judges_its_records_again() {
    // with its files durable; and at the very last moment, when it has looked at everything and creates its entry next
    for point in ["write/files-durable:2", "append/before-create:4"] {
        let (project, tally) = Project::visits(40_000, COMMITS);
        let still = Still::at(&project, point);
        age(&project, 2 * HOURS);
        let done = maintain(&project, &[]);
        assert!(sum(&done, "orphans") > 0 && done["sweep"].is_u64(), "{point}: {done}");
        assert_eq!(still.wake(), Some(0), "{point}");
        assert_eq!(project.counted(), Counted::planted(&tally), "{point}");
        all_is_there_once(&project, &tally);
    }
}

#[test]
fn two_maintainers_beside_a_run_change_no_row() {
    let (project, tally) = Project::visits(40_000, COMMITS);
    killed_at(&project, "write/files-durable:3");
    age(&project, 48 * HOURS);
    let mut run = project.start(&RUN, Stdio::null());
    while run.try_wait().unwrap().is_none() {
        let two = [(); 2].map(|()| project.start(&["maintain"], Stdio::null()));
        for one in two {
            let ended = one.wait_with_output().unwrap();
            assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
        }
    }
    assert_eq!(run.wait_with_output().unwrap().status.code(), Some(0));
    all_is_there_once(&project, &tally);
    assert_eq!(sum(&maintain(&project, &["--dry-run"]), "orphans"), 0);
}

#[test]
fn tables_that_the_ledger_does_not_know_are_left_alone() {
    let (project, _) = Project::visits(20_000, COMMITS);
    killed_at(&project, "write/files-durable:2");
    age(&project, 48 * HOURS);
    let lake = project.path().join("lake");
    std::fs::rename(lake.join("visits/_delta_log"), lake.join("log")).unwrap();
    peer::create(&lake.join("visits"));
    let before = data_files(&project);
    let refused = project.sluice(&["maintain"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stdout);
    assert!(refused.stderr.contains("was replaced") && refused.stderr.contains("sluice adopt"), "{}", refused.stderr);
    std::fs::remove_dir_all(lake.join("visits/_delta_log")).unwrap();
    let refused = project.sluice(&["maintain"]);
    assert!(refused.code == Some(2) && refused.stderr.contains("is not there"), "{}", refused.stderr);
    assert!(before.iter().all(|path| path.exists()));
}

#[test]
fn an_age_that_is_shorter_than_an_entry_is_refused_and_a_pipeline_that_never_ran_has_nothing() {
    let (project, _) = Project::visits(10, "");
    let refused = project.sluice(&["maintain", "--older-than", "1s"]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("commit.every") && refused.stderr.contains("10s"), "{}", refused.stderr);
    let nothing = maintain(&project, &[]);
    assert_eq!((&nothing["sinks"], &nothing["ledger"]["head"]), (&serde_json::json!([]), &0.into()), "{nothing}");
    assert!(!project.path().join("lake").exists(), "nothing is made");
}
