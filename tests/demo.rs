//! `sluice demo`, as a newcomer runs it: the screen, the folder, and what another reader finds in the tables.

use crate::broker;
use crate::peer;
use crate::project::Project;

/// A demo in `demo/` and its screen; the tables hold what the tally says.
fn demo(arguments: &[&str]) -> (Project, String) {
    let project = Project::new(&[]);
    let screen = project.sluice(&[&["demo", "--dir", "demo", "--records", "20000"], arguments].concat()).expect(0);
    let tally: serde_json::Value = serde_json::from_str(&project.read("demo/tally.json")).unwrap();
    for (outcome, table) in [("valid", "visits"), ("error", "visits_errors"), ("dlq", "visits_dlq")] {
        let folder = project.path().join("demo/lake").join(table);
        let rows = peer::sql("SELECT count(*) AS n FROM t", &[("t", folder)]);
        assert_eq!(rows[0]["n"], tally["outcomes"][outcome], "{outcome}");
    }
    for line in ["  valid       19,500   97.5 %", "  error          400    2.0 %", "  dlq            100    0.5 %"] {
        assert!(screen.contains(line), "{screen}");
    }
    assert!(screen.contains("reconciled: 20,000 consumed, no gap, no overlap"), "{screen}");
    (project, screen)
}

/// The last line of the screen that begins so, up to its explanation.
fn command<'s>(screen: &'s str, begin: &str) -> Vec<&'s str> {
    let line = screen.lines().find(|line| line.trim().starts_with(begin)).unwrap_or_else(|| panic!("{screen}"));
    line.split("   ").find(|part| !part.is_empty()).unwrap().split_whitespace().skip(1).collect()
}

#[test]
fn the_demo_shows_what_the_generator_planted_and_its_next_commands_work() {
    let (project, screen) = demo(&[]);
    let mut explain = command(&screen, "sluice explain");
    explain.extend(["-c", "demo/sluice.toml"]);
    let story = project.sluice(&explain).expect(0);
    assert!(story.contains('✗'), "{story}");

    // again: anew, and with the same result
    let again = project.sluice(&["demo", "--dir", "demo", "--records", "20000"]).expect(0);
    assert_eq!(again, screen);

    // what someone edited stays
    let edited = project.read("demo/sluice.toml") + "\n# mine\n";
    project.write("demo/sluice.toml", &edited);
    let ran = project.sluice(&["demo", "--dir", "demo"]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("was edited"), "{}", ran.stderr);
    assert_eq!(project.read("demo/sluice.toml"), edited);
}

#[test]
fn the_demo_runs_from_a_topic_too() {
    let (project, screen) = demo(&["--brokers", &broker::shared().bootstrap()]);
    let mut explain = command(&screen, "sluice explain");
    explain.extend(["-c", "demo/sluice.toml"]);
    let story = project.sluice(&explain).expect(0);
    assert!(story.contains("not-json"), "{story}");
}
