//! Windows that are held, and a person's word on them; decisions in other processes; kills at every step.

use std::collections::BTreeMap;

use super::{counted, listed, project, reasons, reconciled, run, tables, visit, window};
use crate::peer;
use crate::project::Project;

const HOLD: &str = "window = \"10m\"\non_fail = \"hold\"\n[audit.expect]\nvolume = \"count(*) > 2\"\n";

fn held() -> Project {
    let project = project(HOLD);
    let lines = [visit("a", 0, "u"), visit("b", 1, ""), visit("c", 11, "u"), visit("d", 12, ""), visit("e", 13, "u")];
    project.write("in/a.ndjson", lines.concat());
    let screen = run(&project);
    assert!(screen.contains("1 window held"), "{screen}");
    assert_eq!(counted(&project), [2, 1, 0, 5]);
    let expected = [(window(10, 10), "publish".into(), 3), (window(0, 10), "hold".into(), 2)];
    assert_eq!(listed(&project), expected);
    reconciled(&project);
    project
}

#[test]
fn a_held_window_is_published_once_by_hand() {
    let project = held();
    let key = window(0, 10);
    // nothing moves by itself
    run(&project);
    assert_eq!(counted(&project), [2, 1, 0, 5]);
    let out = project.sluice(&["audit", "release", &key, "--reason", "a holiday"]).expect(0);
    assert!(out.contains("publish") && out.contains("a holiday"), "{out}");
    assert_eq!(counted(&project), [3, 2, 0, 5]);
    let again = project.sluice(&["audit", "release", &key]);
    assert_eq!(again.code, Some(2));
    assert!(again.stderr.contains("was decided by entry"), "{}", again.stderr);
    let story = project.sluice(&["audit", "show", &key]).expect(0);
    assert!(story.contains("hold") && story.contains("volume") && story.contains("publish by hand"), "{story}");
    reconciled(&project);
}

#[test]
fn a_held_window_is_rejected_by_hand_with_the_reason_on_every_row() {
    let project = held();
    project.sluice(&["audit", "reject", &window(0, 10), "--reason", "sent twice"]).expect(0);
    assert_eq!(counted(&project), [2, 3, 0, 5]);
    assert_eq!(reasons(&project), BTreeMap::from([("operator".to_owned(), 2)]));
    let unknown = project.sluice(&["audit", "reject", "2020-01-01T00:00:00Z", "--reason", "x"]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.stderr.contains("sluice audit list"), "{}", unknown.stderr);
    reconciled(&project);
}

#[test]
fn rows_that_vanished_from_staging_hold_the_window() {
    let project = project("window = \"10m\"");
    project.write("in/a.ndjson", visit("a", 0, "u") + &visit("b", 1, "u") + &visit("c", 11, "u"));
    let killed = project.sluice_with(("SLUICE_CRASH_AT", "audit/before"), &["run"]);
    assert_eq!(killed.code, None, "{}{}", killed.stdout, killed.stderr);
    peer::change(&project.path().join("lake/visits_staging"), "table.delete(\"visit_id = 'b'\")");
    run(&project);
    assert_eq!(counted(&project), [1, 0, 0, 2]);
    let key = window(0, 10);
    let story = project.sluice(&["audit", "show", &key]).expect(0);
    assert!(story.contains("the ledger counts 2 rows, 0 rejected; staging has 1, 0 rejected"), "{story}");
    let refused = project.sluice(&["audit", "release", &key]);
    assert_eq!(refused.code, Some(2), "{}", refused.stdout);
    assert!(refused.stderr.contains("--anyway"), "{}", refused.stderr);
    project.sluice(&["audit", "release", &key, "--anyway"]).expect(0);
    assert_eq!(counted(&project), [2, 0, 0, 2]);
}

#[test]
fn an_auditor_of_its_own_decides_what_a_run_staged() {
    let project = project("window = \"10m\"");
    project.write("in/a.ndjson", visit("a", 0, "u") + &visit("b", 15, "u") + &visit("c", 45, "u"));
    let killed = project.sluice_with(("SLUICE_CRASH_AT", "audit/before"), &["run"]);
    assert_eq!(killed.code, None, "{}{}", killed.stdout, killed.stderr);
    assert_eq!(counted(&project), [0, 0, 0, 3]);
    project.sluice(&["audit", "run", "--once"]).expect(0);
    // the watermark is at 45, a minute of lateness before it
    assert_eq!(counted(&project), [2, 0, 0, 3]);
    // two at once: each window is decided once
    let arguments = ["audit", "run", "--close-windows"];
    let both = [0, 1].map(|_| project.start(&arguments, std::process::Stdio::null()));
    for auditor in both {
        let ended = auditor.wait_with_output().expect("it ends");
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    }
    assert_eq!(counted(&project), [3, 0, 0, 3]);
    assert_eq!(listed(&project).iter().filter(|(_, state, _)| state == "publish").count(), 4);
    reconciled(&project);
}

#[test]
fn a_kill_at_any_step_publishes_a_window_once() {
    for point in sluice_host::crash::POINTS {
        let is_of_audit = point.starts_with("audit/") || point.starts_with("apply/");
        if !is_of_audit || *point == "audit/expired" {
            continue;
        }
        // the first decision, and a later one; by then the sinks were followed a few times
        for pass in if point.starts_with("audit/") { [1, 2] } else { [2, 4] } {
            let project = project("window = \"10m\"\nunique = [\"visit_id\"]");
            let line = |n: i64| visit(&format!("v{}", n % 25), n, if n % 5 == 0 { "" } else { "u" });
            project.write("in/a.ndjson", (0..30).map(line).collect::<String>());
            let armed = format!("{point}:{pass}");
            let killed = project.sluice_with(("SLUICE_CRASH_AT", &armed), &["run", "--until-end"]);
            assert_eq!(killed.code, None, "{armed} was never passed:\n{}{}", killed.stdout, killed.stderr);
            run(&project);
            assert_eq!(counted(&project), [24, 6, 0, 30], "{armed}");
            assert_eq!(listed(&project).len(), 3, "{armed}");
            let twice = peer::sql(
                "SELECT count(*) - count(DISTINCT _offset) AS n FROM (SELECT _offset FROM valid UNION ALL SELECT _offset FROM error)",
                &tables(&project),
            );
            assert_eq!(twice[0]["n"], 0, "{armed}");
            reconciled(&project);
        }
    }
}

#[test]
fn decided_windows_leave_staging_after_their_time_and_everything_is_still_accounted_for() {
    let project =
        project("window = \"10m\"\nkeep = \"1ms\"\non_fail = \"hold\"\n[audit.expect]\nvolume = \"count(*) > 1\"");
    project.write("in/a.ndjson", [visit("a", 0, "u"), visit("b", 1, ""), visit("c", 11, "u")].concat());
    let killed = project.sluice_with(("SLUICE_CRASH_AT", "audit/expired"), &["run", "--until-end"]);
    assert_eq!(killed.code, None, "{}{}", killed.stdout, killed.stderr);
    run(&project);
    // what is held stays
    assert_eq!(counted(&project), [1, 1, 0, 1]);
    reconciled(&project);
    project.sluice(&["audit", "release", &window(10, 10)]).expect(0);
    project.write("in/b.ndjson", visit("d", 25, "u") + &visit("e", 26, "u"));
    run(&project);
    assert_eq!(counted(&project), [4, 1, 0, 0]);
    reconciled(&project);
}
