//! Topics as they are: transactions and compaction leave holes, partitions and topics come later, most are idle mostly.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::live::{Live, PATIENCE, client, committed, create, grow, pipeline, put, put_with, watermarks};
use crate::broker;
use crate::project::{Counted, Project};

#[track_caller]
fn run(project: &Project, consumed: u64) {
    let screen = project.sluice(&["run", "--until-end"]).expect(0);
    assert!(screen.contains(&format!(" {consumed} consumed")), "{screen}");
}

fn valid(valid: u64) -> Counted {
    Counted { valid, error: 0, dlq: 0, doubled: 0 }
}

fn transactional(topic: &str) -> BaseProducer {
    let producer: BaseProducer = client().set("transactional.id", topic).create().unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    producer
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    Commit,
    Abort,
    Open,
}

fn transaction(producer: &BaseProducer, topic: &str, visits: usize, end: End) {
    producer.begin_transaction().unwrap();
    put_with(producer, topic, 0, visits);
    producer.flush(PATIENCE).unwrap();
    match end {
        End::Commit => producer.commit_transaction(PATIENCE).unwrap(),
        End::Abort => producer.abort_transaction(PATIENCE).unwrap(),
        End::Open => {}
    }
}

#[test]
fn control_records_and_aborted_transactions_are_holes_that_are_accounted_for() {
    let topic = broker::topic("marked");
    create(&topic, 1, &[]);
    let project = pipeline(&topic, &format!("kafka = [\"{topic}\"]"), "", "[commit]\nrows = 10\n");
    let producer = transactional(&topic);
    for end in [End::Abort, End::Commit, End::Abort, End::Commit] {
        transaction(&producer, &topic, 20, end);
    }
    run(&project, 40);
    let applied = || committed(&topic, &topic, 1)[0];
    assert_eq!(applied(), Some(84), "a marker follows each transaction");

    // nothing but an aborted transaction: the position goes on, and nothing is consumed
    transaction(&producer, &topic, 20, End::Abort);
    run(&project, 0);
    assert_eq!(applied(), Some(105));
    run(&project, 0);

    // an open transaction is the end for now; what comes of it is read later
    transaction(&producer, &topic, 5, End::Open);
    put(&topic, 0, 3);
    run(&project, 0);
    producer.commit_transaction(PATIENCE).unwrap();
    run(&project, 8);
    assert_eq!(applied(), Some(watermarks(&topic, 0).1));
    assert_eq!(project.counted(), valid(48));
    let report = project.sluice(&["reconcile"]).expect(0);
    assert!(report.starts_with("reconciled: 48 consumed, no gap, no overlap"), "{report}");
}

/// Records that any consumer sees in partition 0.
fn visible(topic: &str) -> usize {
    let reader: BaseConsumer = client().set("group.id", topic).set("enable.partition.eof", "true").create().unwrap();
    let mut whole = TopicPartitionList::new();
    whole.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    reader.assign(&whole).unwrap();
    let mut seen = 0;
    loop {
        match reader.poll(PATIENCE).expect("an end within a minute") {
            Ok(_) => seen += 1,
            Err(KafkaError::PartitionEOF(_)) => return seen,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn what_compaction_removed_is_a_hole_that_is_accounted_for() {
    let topic = broker::topic("compacted");
    let settings = [
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "0.0"),
        ("segment.ms", "1"),
        ("delete.retention.ms", "0"),
    ];
    create(&topic, 1, &settings);
    // ten keys, a hundred values each; a segment ends where a later record comes
    put(&topic, 0, 1_000);
    put(&topic, 0, 10);
    let begun = Instant::now();
    let left = loop {
        match visible(&topic) {
            1_010 => assert!(begun.elapsed() < PATIENCE, "the broker compacts within a minute"),
            left => break left,
        }
    };
    assert!((10..=20).contains(&left), "{left}");
    let project = pipeline(&topic, &format!("kafka = [\"{topic}\"]"), "", "[commit]\nrows = 5\n");
    run(&project, left as u64);
    assert_eq!(committed(&topic, &topic, 1), [Some(1_010)]);
    run(&project, 0);
    assert_eq!(project.counted(), valid(left as u64));
    let report = project.sluice(&["reconcile"]).expect(0);
    assert!(report.contains("no gap, no overlap"), "{report}");
}

#[test]
fn topics_of_a_pattern_and_partitions_that_come_while_it_runs_are_read_from_their_beginning() {
    let base = broker::topic("born");
    let [first, second] = ["a", "b"].map(|name| format!("{base}-{name}"));
    create(&first, 1, &[]);
    put(&first, 0, 10);
    // `latest`: what is there before the first run is not wanted, what comes later is
    let source = format!("pattern = \"{base}-.*\"\nstart = \"latest\"");
    let refresh = "[kafka.properties]\n\"topic.metadata.refresh.interval.ms\" = 300";
    let project = pipeline(&base, &source, refresh, "[commit]\nevery = \"100ms\"\n");
    run(&project, 0);
    let mut live = Live::start(&project);
    put(&first, 0, 1);
    live.until_consumed(1);
    create(&second, 2, &[]);
    put(&second, 0, 5);
    put(&second, 1, 6);
    live.until_consumed(12);
    grow(&first, 3);
    put(&first, 2, 7);
    live.until_consumed(19);
    live.stop();
    assert_eq!(project.counted(), valid(19));
    project.sluice(&["reconcile"]).expect(0);
    assert_eq!(committed(&base, &first, 3)[0], Some(11));
    run(&project, 0);
}

#[test]
fn latest_is_one_moment_for_all_partitions_of_a_topic() {
    let topic = broker::topic("moment");
    create(&topic, 2, &[]);
    (0..2).for_each(|partition| put(&topic, partition, 10));
    let project = pipeline(&topic, &format!("kafka = [\"{topic}\"]\nstart = \"latest\""), "", "");
    run(&project, 0);
    grow(&topic, 4);
    (0..4).for_each(|partition| put(&topic, partition, 3));
    run(&project, 12);
    assert_eq!(project.counted(), valid(12));
    project.sluice(&["reconcile"]).expect(0);
}

#[test]
fn an_idle_topic_costs_no_entry_and_the_group_shows_what_is_applied() {
    let topic = broker::topic("idle");
    create(&topic, 4, &[]);
    let project = pipeline(&topic, &format!("kafka = [\"{topic}\"]"), "", "[commit]\nevery = \"50ms\"\n");
    let mut live = Live::start(&project);
    put(&topic, 1, 10);
    live.until_consumed(10);
    let before = live.entries[live.entries.len() - 1]["entry"].as_u64().unwrap();
    // what is applied is told to the group a moment later
    let begun = Instant::now();
    while committed(&topic, &topic, 4)[1] != Some(10) {
        assert!(begun.elapsed() < PATIENCE, "{:?}", committed(&topic, &topic, 4));
    }
    // many times as long as an entry takes
    while begun.elapsed() < Duration::from_secs(1) {
        assert_eq!(watermarks(&topic, 1), (0, 10));
    }
    put(&topic, 2, 1);
    live.until_consumed(11);
    let after = &live.entries[live.entries.len() - 1];
    assert_eq!(after["entry"], before + 1, "no entry came in between");
    live.stop();
    assert_eq!(committed(&topic, &topic, 4), [None, Some(10), Some(1), None]);
    project.sluice(&["reconcile"]).expect(0);
}
