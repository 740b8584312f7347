//! The main job on a real Kafka: four partitions, killed and resumed, alone and in a group, read back by another Delta reader.

use crate::broker;
use crate::project::{Counted, Project, VISITS_SQL, visits_toml};

mod broker_faults;
mod group;
pub mod live;
mod member;
mod positions;
mod proof;
mod proxy;
mod security;
mod swaps;
mod topic;
mod topics;

/// A pipeline over a topic of its own, which holds generated visits in four partitions.
fn visits(records: u64, extra: &str) -> (Project, serde_json::Value) {
    let broker = broker::shared().bootstrap();
    let topic = broker::topic("visits");
    // a group of its own, which notices soon that a process was killed
    let session = "\"session.timeout.ms\" = 2000\n\"heartbeat.interval.ms\" = 500";
    let kafka = format!("{extra}\n[kafka]\nbrokers = \"{broker}\"\n[kafka.properties]\n{session}\n");
    let toml = visits_toml(&format!("kafka = [\"{topic}\"]\ngroup = \"{topic}\""), &kafka);
    let project = Project::new(&[("sluice.toml", &toml), ("visits.sql", VISITS_SQL)]);
    let records = records.to_string();
    let generate = ["generate", "visits", "--records", &records, "--topic", &topic, "--brokers", &broker];
    project.sluice(&[&generate[..], &["--partitions", "4", "--tally", "tally.json"]].concat()).expect(0);
    let tally = serde_json::from_str(&project.read("tally.json")).expect("the tally is JSON");
    (project, tally)
}

#[test]
fn topic_of_four_partitions_ends_in_tables_once() {
    let (project, tally) = visits(20_000, "");
    project.sluice(&["run", "--until-end"]).expect(0);
    assert_eq!(project.counted(), Counted::planted(&tally));
    let again = project.sluice(&["run", "--until-end"]).expect(0);
    assert!(again.contains(" 0 consumed"), "{again}");
    assert_eq!(project.counted(), Counted::planted(&tally));
    project.sluice(&["reconcile"]).expect(0);
}

#[test]
fn kill_at_every_step_loses_and_doubles_nothing_on_kafka() {
    let (project, tally) = visits(100_000, "[commit]\nrows = 1_000\n");
    let steps = ["write/", "append/", "apply/"];
    let is_passed = |point: &&&str| steps.iter().any(|step| point.starts_with(step));
    for point in sluice_host::crash::POINTS.iter().filter(is_passed) {
        let killed = project.sluice_with(("SLUICE_CRASH_AT", point), &["run", "--until-end"]);
        assert_eq!(killed.code, None, "{point} was never passed:\n{}{}", killed.stdout, killed.stderr);
    }
    project.sluice(&["run", "--until-end"]).expect(0);
    assert_eq!(project.counted(), Counted::planted(&tally));
    project.sluice(&["reconcile"]).expect(0);
}

#[test]
fn topic_that_does_not_exist_is_named() {
    let (project, _) = visits(10, "");
    let toml = project.read("sluice.toml");
    let line = toml.lines().find(|line| line.starts_with("kafka = ")).expect("the source's line").to_owned();
    project.write("sluice.toml", toml.replace(&line, "kafka = [\"no-such-topic\"]"));
    let refused = project.sluice(&["run", "--until-end"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stdout);
    assert!(refused.stderr.contains("no-such-topic"), "{}", refused.stderr);
}

#[test]
fn sigterm_commits_what_was_read_and_ends_cleanly() {
    let (project, tally) = visits(20_000, "[commit]\nevery = \"1h\"\n");
    let mut child = project.start(&["run", "--json"], std::process::Stdio::null());
    // nothing is due by time or size: what the tables hold afterwards was committed on the signal
    let group_is_up = std::time::Instant::now();
    while !project.path().join("lake/_sluice/visits/ledger").exists() {
        assert!(group_is_up.elapsed().as_secs() < 60, "the run appends its start entry");
        std::thread::yield_now();
    }
    // SAFETY: kill takes no pointers, and the child is not reaped yet
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    let status = child.wait().expect("the run ends");
    assert_eq!(status.code(), Some(0));
    project.sluice(&["reconcile"]).expect(0);
    project.sluice(&["run", "--until-end"]).expect(0);
    assert_eq!(project.counted(), Counted::planted(&tally));
}
