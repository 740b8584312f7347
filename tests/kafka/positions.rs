//! Positions that the log does not have any more: the run stops with the choice, and goes on by the operator's word.

use super::live::{Live, create, cut, delete, pipeline, put};
use crate::broker;
use crate::project::{Counted, Project};

fn named(topic: &str) -> Project {
    pipeline(topic, &format!("kafka = [\"{topic}\"]"), "", "")
}

fn valid(valid: u64, doubled: u64) -> Counted {
    Counted { valid, error: 0, dlq: 0, doubled }
}

#[track_caller]
fn run(project: &Project, consumed: u64) {
    let screen = project.sluice(&["run", "--until-end"]).expect(0);
    assert!(screen.contains(&format!(" {consumed} consumed")), "{screen}");
}

/// Exit 2 and these words; nothing is in the tables that was not there before. Answers the command that it offers.
#[track_caller]
fn refused(project: &Project, words: &[&str]) -> String {
    let head = ledger_head(project);
    let ran = project.sluice(&["run", "--until-end"]);
    assert_eq!(ran.code, Some(2), "{}{}", ran.stdout, ran.stderr);
    for word in words {
        assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
    }
    assert_eq!(ledger_head(project), head, "a run that is refused writes nothing");
    let (_, command) = ran.stderr.split_once("`sluice ").unwrap_or_else(|| panic!("no command: {}", ran.stderr));
    command.split_once('`').expect("its end").0.to_owned()
}

/// The command as a shell would take it.
#[track_caller]
fn follow(project: &Project, command: &str) -> String {
    project.sluice(&command.split(' ').collect::<Vec<_>>()).expect(0)
}

fn ledger_head(project: &Project) -> usize {
    std::fs::read_dir(project.path().join("lake/_sluice/visits/ledger")).expect("there is a ledger").count()
}

#[test]
fn expired_records_stop_the_run_until_the_operator_gives_them_up() {
    let topic = broker::topic("expired");
    create(&topic, 3, &[]);
    let project = named(&topic);
    (0..3).for_each(|partition| put(&topic, partition, 10));
    run(&project, 30);
    (0..3).for_each(|partition| put(&topic, partition, 10));
    cut(&topic, 0, 15);
    cut(&topic, 1, 20);
    let first =
        format!("{topic}/0: the next offset in the ledger is 10, but the log begins at 15 (and ends at 20): 5 offsets");
    let command = refused(&project, &[&first, &format!("likewise {topic}/1")]);
    assert_eq!(command, format!("reset {topic}/0=15 {topic}/1=20 --gap"));

    // forward needs the word
    let silent = project.sluice(&["reset", &format!("{topic}/0=15")]);
    assert_eq!(silent.code, Some(2));
    assert!(silent.stderr.contains("`--gap` gives them up as lost"), "{}", silent.stderr);
    let gap = follow(&project, &command);
    assert!(gap.starts_with("gap: entry ") && gap.contains("5 offsets from 10 on are given up as lost"), "{gap}");
    run(&project, 15);
    assert_eq!(project.counted(), valid(45, 0));
    let report = project.sluice(&["reconcile"]).expect(0);
    assert!(report.starts_with("reconciled: 45 consumed, 15 offsets given up, no overlap"), "{report}");
    assert!(
        report.contains(&format!("{topic}/1: 10 offsets from 10 on given up as lost by an operator's word")),
        "{report}"
    );
}

#[test]
fn a_gap_reaches_to_wherever_the_logs_begin() {
    let topic = broker::topic("earliest");
    create(&topic, 2, &[]);
    let project = named(&topic);
    (0..2).for_each(|partition| put(&topic, partition, 10));
    run(&project, 20);
    put(&topic, 1, 10);
    cut(&topic, 1, 13);
    let gap = project.sluice(&["reset", &format!("{topic}=earliest"), "--gap"]).expect(0);
    assert!(gap.contains(&format!("{topic}/1: 3 offsets from 10 on")) && !gap.contains(&format!("{topic}/0")), "{gap}");
    let again = project.sluice(&["reset", &format!("{topic}=earliest"), "--gap"]).expect(0);
    assert!(again.starts_with("nothing to give up"), "{again}");
    run(&project, 7);
    put(&topic, 0, 5);
    let gap = project.sluice(&["reset", &format!("{topic}/0=latest"), "--gap"]).expect(0);
    assert!(gap.contains(&format!("{topic}/0: 5 offsets from 10 on")), "{gap}");
    run(&project, 0);
    let report = project.sluice(&["reconcile"]).expect(0);
    assert!(report.starts_with("reconciled: 27 consumed, 8 offsets given up"), "{report}");

    let nowhere = project.sluice(&["reset", "no-such-topic=earliest"]);
    assert_eq!(nowhere.code, Some(2));
    assert!(nowhere.stderr.contains("no position of topic no-such-topic"), "{}", nowhere.stderr);
}

#[test]
fn a_topic_that_was_made_anew_stops_the_run_until_its_positions_are_reset() {
    let topic = broker::topic("anew");
    create(&topic, 2, &[]);
    let project = named(&topic);
    put(&topic, 0, 10);
    put(&topic, 1, 10);
    run(&project, 20);
    delete(&topic);
    create(&topic, 2, &[]);
    put(&topic, 0, 30); // longer than the old one
    put(&topic, 1, 5); // shorter
    let command =
        refused(&project, &[&format!("topic {topic} was deleted and made again"), "likewise", "to begin anew"]);
    assert_eq!(command, format!("reset {topic}/0=0 {topic}/1=0"));
    let gap = project.sluice(&["reset", &format!("{topic}/0=earliest"), "--gap"]).expect(0);
    assert!(gap.starts_with("nothing to give up"), "{gap}");
    let gap = project.sluice(&["reset", &format!("{topic}/0=latest"), "--gap"]);
    assert!(gap.stderr.contains("was deleted and made again, and a gap is one in the same log"), "{}", gap.stderr);
    let reset = project.sluice(&["reset", &format!("{topic}=earliest")]).expect(0);
    assert!(reset.contains("set from 10 of the old topic to 0"), "{reset}");
    run(&project, 35);
    assert_eq!(project.counted(), valid(55, 15));
    let report = project.sluice(&["reconcile"]).expect(0);
    assert!(report.starts_with("reconciled: 55 consumed, no gap, 15 offsets read again"), "{report}");
}

/// The new log is longer than the old one was read, so that its offsets fit. librdkafka alone would read on in it.
#[test]
fn a_topic_that_is_made_anew_while_it_is_read_is_not_read_on() {
    let topic = broker::topic("meanwhile");
    create(&topic, 2, &[]);
    put(&topic, 0, 10);
    let project = pipeline(&topic, &format!("kafka = [\"{topic}\"]"), "", "[commit]\nevery = \"100ms\"\n");
    let mut live = Live::start(&project);
    live.until_consumed(10);
    delete(&topic);
    create(&topic, 2, &[]);
    put(&topic, 0, 30);
    let (code, consumed, said) = live.end();
    assert_eq!((code, consumed), (Some(2), 10), "{said}");
    // by the time that anybody looks, the topic may not be there again yet
    assert!(said.contains("made again") || said.contains("gone"), "{said}");
    project.sluice(&["reset", &format!("{topic}=earliest")]).expect(0);
    run(&project, 30);
    assert_eq!(project.counted(), valid(40, 10));
    project.sluice(&["reconcile"]).expect(0);
}
