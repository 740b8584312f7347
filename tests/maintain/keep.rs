//! `keep` of a sink: rows that are old enough leave its table, whoever else is at work and wherever anybody dies, and the
//! ledger accounts for them.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use super::{RUN, Still, data_files, sum};
use crate::peer;
use crate::project::{Counted, Project, Ran};

/// So short that a test need not wait: slices of 25 ms.
const KEEP: &str = "400ms";

/// Ten entries or so for every forty thousand records, and short enough for `keep`.
const COMMITS: &str = "[commit]\nevery = \"100ms\"\nrows = 4_000\n";

/// A pipeline that has read one file, and then another: what it found in each, and a time between them.
struct Halves {
    project: Project,
    first: Counted,
    second: Counted,
    between: DateTime<Utc>,
}

/// Lets a sink keep its rows for a time.
fn keep(project: &Project, sinks: &[&str], keep: &str, more: &str) {
    let mut toml = project.read("sluice.toml");
    for sink in sinks {
        let table = match *sink {
            "valid" => "visits",
            "error" => "visits_errors",
            _ => "visits_dlq",
        };
        let lake = format!("lake/{table}\"");
        assert!(toml.contains(&lake), "{toml}");
        toml = toml.replace(&lake, &format!("{lake}, keep = \"{keep}\"{more}"));
    }
    project.write("sluice.toml", toml);
}

fn generate(project: &Project, file: &str, seed: &str) -> Counted {
    let arguments = ["generate", "visits", "--records", "40000", "--seed", seed, "--out", file, "--tally", "more.json"];
    project.sluice(&arguments).expect(0);
    Counted::planted(&serde_json::from_str(&project.read("more.json")).expect("the tally is JSON"))
}

impl Halves {
    fn of(sinks: &[&str], more: &str) -> Halves {
        let (project, tally) = Project::visits(40_000, COMMITS);
        project.write("sluice.toml", project.read("sluice.toml").replace("visits.ndjson\"", "visits*.ndjson\""));
        keep(&project, sinks, KEEP, more);
        project.sluice(&RUN).expect(0);
        // a slice of what is kept lies between the two
        let between = Utc::now() + TimeDelta::milliseconds(25);
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(50) {
            std::thread::yield_now();
        }
        let second = generate(&project, "visits-more.ndjson", "7");
        project.sluice(&RUN).expect(0);
        Halves { project, first: Counted::planted(&tally), second, between }
    }

    /// When the rows of the first half are old enough, and no others.
    fn as_of(&self) -> String {
        (self.between + TimeDelta::milliseconds(400)).to_rfc3339()
    }

    fn maintain(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&as_of(&self.project, &self.as_of(), arguments).expect(0)).expect("JSON")
    }

    fn all(&self) -> Counted {
        let (one, two) = (&self.first, &self.second);
        Counted { valid: one.valid + two.valid, error: one.error + two.error, dlq: one.dlq + two.dlq, doubled: 0 }
    }

    /// What is there when error and dead letters of the first half are gone.
    fn rest(&self) -> Counted {
        Counted { valid: self.all().valid, ..Counted { doubled: 0, ..self.second } }
    }

    #[track_caller]
    fn reconciled(&self) -> String {
        self.project.sluice(&["reconcile"]).expect(0)
    }
}

fn as_of(project: &Project, time: &str, arguments: &[&str]) -> Ran {
    project.sluice_with(("SLUICE_AS_OF", time), &[&["maintain", "--json"], arguments].concat())
}

fn expired(report: &Value) -> u64 {
    let rows = |sink: &Value| sink["expired"]["rows"].as_u64().expect("a number of rows");
    report["sinks"].as_array().expect("a list").iter().map(rows).sum()
}

#[test]
fn rows_that_are_old_enough_leave_their_tables_and_the_ledger_accounts_for_them() {
    let halves = Halves::of(&["error", "dlq"], "");
    let project = &halves.project;
    assert_eq!(project.counted(), halves.all());
    let files = data_files(project);
    let planned = halves.maintain(&["--dry-run"]);
    let old = halves.first.error + halves.first.dlq;
    assert_eq!((expired(&planned), &planned["expire"]), (old, &Value::Null), "{planned}");
    assert_eq!(project.counted(), halves.all(), "a dry run changes nothing");

    let screen = project.sluice_with(("SLUICE_AS_OF", &halves.as_of()), &["maintain", "--no-compact"]).expect(0);
    assert!(screen.contains(" rows from before ") && screen.contains(" left (entry "), "{screen}");
    assert_eq!(project.counted(), halves.rest());
    assert_eq!(data_files(project), files, "files stay for readers of older versions");
    let said = halves.reconciled();
    assert!(said.contains("error (lake/visits_errors) let go of ") && said.contains("dlq (lake/visits_dlq)"), "{said}");
    let again = halves.maintain(&[]);
    assert_eq!((expired(&again), &again["expire"]), (0, &Value::Null), "{again}");

    let ledger = project.sluice(&["inspect", "ledger"]).expect(0);
    assert!(ledger.contains("expire") && ledger.contains("rows leave: error before "), "{ledger}");
    project.sluice(&["history"]).expect(0);
    for command in [&["show", "error"][..], &["diff", "--with", "sluice.toml", "--on", "error"]] {
        project.sluice(command).expect(0);
    }
    // the records of the first half are known, their rows are not
    project.sluice(&["replay", "error", "--dry-run"]).expect(0);
    let tells = (1..1_000).map(|line| project.sluice(&["explain", &format!("visits.ndjson:{line}")]).expect(0));
    let told = tells.into_iter().find(|told| !told.contains("→ valid")).expect("one of a thousand is not valid");
    assert!(told.contains("→ expired   error keeps no rows from before "), "{told}");
    // and on from there
    let third = generate(project, "visits-third.ndjson", "8");
    project.sluice(&RUN).expect(0);
    let rest = halves.rest();
    let expected = Counted {
        valid: rest.valid + third.valid,
        error: rest.error + third.error,
        dlq: rest.dlq + third.dlq,
        doubled: 0,
    };
    assert_eq!(project.counted(), expected);
    halves.reconciled();
}

#[test]
fn a_replayed_row_is_as_old_as_its_replay() {
    let halves = Halves::of(&["error"], "");
    let project = &halves.project;
    // everybody is right now: error rows of both halves go to valid, as a second attempt
    let toml = project.read("sluice.toml");
    project.write("sluice.toml", toml.replace("user_id IS NOT NULL", "true OR user_id IS NOT NULL"));
    project.sluice(&RUN).expect(0);
    let replayed = project.sluice(&["replay", "error"]).expect(0);
    let before = project.counted();
    assert!(before.valid > halves.all().valid, "{replayed}");
    let done = halves.maintain(&[]);
    assert_eq!(expired(&done), halves.first.error, "{done}");
    let after = project.counted();
    assert_eq!((after.valid, after.error), (before.valid, before.error - halves.first.error));
    assert!(after.doubled > 0 && after.doubled < before.doubled, "{after:?} after {before:?}");
    let said = halves.reconciled();
    assert!(said.contains("1 replay judged rows once more"), "{said}");
    // what is gone is not found again, and what was sent stays sent
    let again = project.sluice(&["replay", "error"]).expect(0);
    assert_eq!(project.counted().valid, before.valid, "{again}");
    halves.reconciled();
}

#[test]
fn a_file_with_old_and_young_rows_keeps_the_young_ones() {
    let halves = Halves::of(&[], "");
    let project = &halves.project;
    // before anybody thought of `keep`: all of it in one file each
    let compacted = halves.maintain(&[]);
    assert_eq!(compacted["sinks"][1]["compacted"]["into"]["files"], 1, "{compacted}");
    keep(project, &["error", "dlq"], KEEP, "");
    let planned = halves.maintain(&["--dry-run"]);
    assert_eq!(planned["sinks"][1]["expired"]["mixed"]["files"], 1, "{planned}");
    assert_eq!(expired(&planned), halves.first.error + halves.first.dlq, "{planned}");
    let done = halves.maintain(&[]);
    assert!(done["expire"].is_u64(), "{done}");
    assert_eq!(project.counted(), halves.rest());
    halves.reconciled();
    assert!(halves.maintain(&[])["expire"].is_null());
}

#[test]
fn a_table_without_provenance_lets_go_of_the_files_of_old_entries() {
    let halves = Halves::of(&["error"], ", provenance = false");
    let rows = |halves: &Halves| -> u64 {
        let told = halves.project.sluice(&["inspect", "table", "error", "--json"]).expect(0);
        let told: Value = serde_json::from_str(&told).expect("JSON");
        told["counts"]["rows"].as_u64().expect("a number of rows")
    };
    assert_eq!(rows(&halves), halves.all().error);
    let done = halves.maintain(&[]);
    assert_eq!(expired(&done), halves.first.error, "{done}");
    assert_eq!(rows(&halves), halves.second.error);
    let said = halves.reconciled();
    assert!(said.contains("let go of"), "{said}");
}

#[test]
fn whoever_dies_once_it_is_in_the_ledger_the_rows_go() {
    for point in ["expire/appended", "expire/rewritten", "expire/applied"] {
        let halves = Halves::of(&[], "");
        let project = &halves.project;
        halves.maintain(&[]);
        keep(project, &["error", "dlq"], KEEP, "");
        let mut command = project.command(&["maintain"]);
        command.env("SLUICE_CRASH_AT", point).env("SLUICE_AS_OF", halves.as_of());
        let killed = Ran::of(command.output().expect("sluice starts"));
        assert_eq!(killed.code, None, "{point}: {}{}", killed.stdout, killed.stderr);
        halves.reconciled();
        // applied by a run, or by the next maintenance
        match point {
            "expire/appended" => project.sluice(&RUN).expect(0),
            _ => halves.maintain(&[]).to_string(),
        };
        assert_eq!(project.counted(), halves.rest(), "{point}");
        halves.reconciled();
        project.sluice(&RUN).expect(0);
        assert_eq!(project.counted(), halves.rest(), "{point}");
    }
}

#[test]
fn of_two_maintainers_one_may_lie_still_anywhere() {
    for point in ["expire/appended", "expire/rewritten", "expire/applied", "compact/written"] {
        let halves = Halves::of(&[], "");
        let project = &halves.project;
        if point != "compact/written" {
            halves.maintain(&[]);
        }
        keep(project, &["error", "dlq"], KEEP, "");
        let as_of = halves.as_of();
        let still = Still::with(project, point, &["maintain"], &[("SLUICE_AS_OF", &as_of)]);
        let other = halves.maintain(&[]);
        assert_eq!(project.counted(), halves.rest(), "{point}: {other}");
        halves.reconciled();
        assert_eq!(still.wake(), Some(0), "{point}");
        assert_eq!(project.counted(), halves.rest(), "{point}");
        halves.reconciled();
        project.sluice(&RUN).expect(0);
        let done = halves.maintain(&["--older-than", "1h"]);
        assert_eq!((project.counted(), sum(&done, "foreign")), (halves.rest(), 0), "{point}");
        halves.reconciled();
    }
}

#[test]
fn a_process_that_lay_still_for_longer_than_rows_are_kept_judges_its_records_again() {
    let (project, tally) = Project::visits(40_000, COMMITS);
    keep(&project, &["valid"], KEEP, "");
    let still = Still::at(&project, "append/before-create:5");
    let later = (Utc::now() + TimeDelta::milliseconds(425)).to_rfc3339();
    let done: Value = serde_json::from_str(&as_of(&project, &later, &[]).expect(0)).expect("JSON");
    assert!(expired(&done) > 0, "{done}");
    assert_eq!(project.counted().valid, 0, "{done}");
    assert_eq!(still.wake(), Some(0));
    let planted = Counted::planted(&tally);
    let Counted { valid, error, dlq, doubled } = project.counted();
    assert_eq!((error, dlq, doubled), (planted.error, planted.dlq, 0));
    assert!(valid > 0 && valid < planted.valid, "{valid}");
    let report = project.sluice(&["reconcile", "--json"]).expect(0);
    let report: Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(report["expired"]["valid"].as_u64(), Some(planted.valid - valid), "{report}");
}

#[test]
fn compacted_rows_leave_with_their_files_and_a_clock_that_is_behind_is_told_so() {
    let (project, tally) = Project::visits(80_000, COMMITS);
    keep(&project, &["error", "dlq"], "90d", "");
    project.sluice(&RUN).expect(0);
    let today = as_of(&project, &Utc::now().to_rfc3339(), &[]).expect(0);
    let today: Value = serde_json::from_str(&today).expect("JSON");
    assert_eq!((expired(&today), &today["sinks"][1]["compacted"]["into"]["files"]), (0, &1.into()), "{today}");
    let planted = Counted::planted(&tally);
    assert_eq!(project.counted(), planted);
    let later = (Utc::now() + TimeDelta::days(92)).to_rfc3339();
    let done: Value = serde_json::from_str(&as_of(&project, &later, &[]).expect(0)).expect("JSON");
    assert_eq!(expired(&done), planted.error + planted.dlq, "{done}");
    assert_eq!(done["sinks"][1]["expired"]["mixed"]["files"], 0, "{done}");
    assert_eq!(project.counted(), Counted { error: 0, dlq: 0, ..planted });
    project.sluice(&["reconcile"]).expect(0);
    // by the ledger it is later than by this clock: what is written now would be gone at once
    generate(&project, "visits-more.ndjson", "7");
    project.write("sluice.toml", project.read("sluice.toml").replace("visits.ndjson\"", "visits*.ndjson\""));
    let refused = project.sluice(&RUN);
    assert_eq!(refused.code, Some(2), "{}", refused.stdout);
    assert!(refused.stderr.contains("set the clock of this machine"), "{}", refused.stderr);
    project.sluice(&["reconcile"]).expect(0);
}

#[test]
fn a_table_that_may_only_be_appended_to_is_refused() {
    let halves = Halves::of(&["error"], "");
    let table = halves.project.path().join("lake/visits_errors");
    peer::change(&table, "table.alter.set_table_properties({'delta.appendOnly': 'true'})");
    let refused = as_of(&halves.project, &halves.as_of(), &[]);
    assert_eq!(refused.code, Some(2), "{}", refused.stdout);
    assert!(refused.stderr.contains("delta.appendOnly"), "{}", refused.stderr);
    assert_eq!(halves.project.counted(), halves.all());
}
