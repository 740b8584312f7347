//! kill −9 at every named step of Write, Append and Apply: start again, and every record is there once.

use crate::project::{Counted, Project};

/// Small entries, so that every step is passed several times and a run is killed in the midst of it.
const COMMITS: &str = "[commit]\nrows = 8_000\n";

fn survives(point: &str, pass: u32) {
    let (project, tally) = Project::visits(40_000, COMMITS);
    let armed = format!("{point}:{pass}");
    let killed = project.sluice_with(("SLUICE_CRASH_AT", &armed), &["run", "--until-end"]);
    assert_eq!(killed.code, None, "{armed} was never passed:\n{}{}", killed.stdout, killed.stderr);
    project.sluice(&["run", "--until-end"]).expect(0);
    assert_eq!(project.counted(), Counted::planted(&tally), "{armed}");
    project.sluice(&["reconcile"]).expect(0);
}

#[test]
fn every_named_step_survives_a_kill() {
    for point in sluice_host::crash::POINTS {
        // checkpoints are rare, their test is the ledger's own; generations change in the tests of `reload`, windows, files
        // that are put together and rows that expire have theirs beside the other tests of audits and maintenance
        if ["checkpoint/", "activate/", "audit/", "compact/", "expire/"].iter().any(|kind| point.starts_with(kind)) {
            continue;
        }
        survives(point, 1);
        survives(point, 3);
    }
}

#[test]
fn killed_again_and_again_at_different_steps() {
    let (project, tally) = Project::visits(40_000, COMMITS);
    for point in
        ["append/created", "apply/after-valid", "write/files-durable", "apply/before-valid", "append/before-create"]
    {
        let killed = project.sluice_with(("SLUICE_CRASH_AT", point), &["run", "--until-end"]);
        assert_eq!(killed.code, None, "{point} was never passed:\n{}{}", killed.stdout, killed.stderr);
    }
    project.sluice(&["run", "--until-end"]).expect(0);
    assert_eq!(project.counted(), Counted::planted(&tally));
    project.sluice(&["reconcile"]).expect(0);
}
