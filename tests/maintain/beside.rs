//! `[upkeep]`: what `sluice maintain` does, by the running host.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::project::{Counted, Project};
use crate::reload::{Running, project, toml};

fn described(project: &Project, sink: &str) -> (u64, u64) {
    let told = project.sluice(&["inspect", "table", sink, "--json"]).expect(0);
    let told: Value = serde_json::from_str(&told).expect("JSON");
    let n = |what: &str| told["counts"][what].as_u64().unwrap_or_else(|| panic!("{what} in {told}"));
    (n("files"), n("rows"))
}

/// Waits for something that upkeep does.
#[track_caller]
fn wait(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}: never");
    }
}

#[test]
fn a_running_host_puts_files_together_and_lets_go_of_what_is_old() {
    let text = toml("[expect]\nsmall = \"n < 1000\"\n[upkeep]\nevery = \"300ms\"")
        .replace("lake/visits_errors\"", "lake/visits_errors\", keep = \"1s\"");
    let project = project(&text);
    let mut running = Running::of(&project);
    running.until("ctrl-c");
    let mut fed = 0;
    for n in 0..24 {
        running.feed([n, n + 1000]);
        running.until("valid 1  error 1");
        fed += 1;
    }
    wait("few files", || described(&project, "valid").0 < 9);
    wait("no old rows", || described(&project, "error").1 == 0);
    running.feed([fed]);
    running.until("valid 1  error 0");
    running.end();
    assert_eq!(project.counted(), Counted { valid: 25, error: 0, dlq: 0, doubled: 0 });
    let said = project.sluice(&["reconcile"]).expect(0);
    assert!(said.contains("error (lake/visits_errors) let go of 24 rows"), "{said}");
}

#[test]
fn upkeep_beside_a_run_and_a_maintainer_beside_both_change_no_row() {
    let project = project(&toml("[expect]\nsmall = \"n < 1000\"\n[upkeep]\nevery = \"200ms\""));
    let mut running = Running::of(&project);
    running.until("ctrl-c");
    for n in 0..12 {
        running.feed([n, n + 1000]);
        running.until("valid 1  error 1");
        if n % 4 == 3 {
            project.sluice(&["maintain"]).expect(0);
            let (valid, error) = (described(&project, "valid").1, described(&project, "error").1);
            assert_eq!(valid, n as u64 + 1);
            assert!(error <= n as u64 + 1);
        }
    }
    running.stop();
    assert_eq!(project.counted(), Counted { valid: 12, error: 12, dlq: 0, doubled: 0 });
    project.sluice(&["reconcile"]).expect(0);
}
