//! The Kafka source on a real broker, with a ledger in memory: what it hands over is what the topic has, once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use sluice_host::config::{KafkaSource as Settings, StartPoint};
use sluice_host::error::{Error, Result};
use sluice_host::record::{Positions, RawBatch, TopicPartition};
use sluice_host::source::kafka::KafkaSource;
use sluice_host::source::kafka::produce::Producer;
use sluice_host::source::{Command, Intake, Known, Source, StartAt};

use crate::broker;

mod positions;
mod stalled;

const PATIENCE: Duration = Duration::from_secs(60);

/// A ledger in memory, shared by the members of a group: it takes a batch only where it continues the position.
#[derive(Default)]
struct Ledger(Mutex<BTreeMap<TopicPartition, Known>>);

/// One process's intake.
struct Process<'a> {
    ledger: &'a Ledger,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    batches: Vec<RawBatch>,
    refused: usize,
    /// offers that were given back because there was no room
    refusals: usize,
    commands: VecDeque<Command>,
    lag: BTreeMap<TopicPartition, u64>,
    /// how often the lag was told
    reports: usize,
    flushes: usize,
    /// partitions that were lost without notice
    lost: usize,
    /// what the next flush leads to
    on_flush: Option<Command>,
    is_full: bool,
    stopping: bool,
}

impl<'a> Process<'a> {
    fn of(ledger: &'a Ledger) -> Self {
        Process { ledger, state: Mutex::default(), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Waits until something holds; every change of the state is looked at.
    fn until(&self, what: &str, mut holds: impl FnMut(&State) -> bool) {
        let (_state, waited) = self.changed.wait_timeout_while(self.state(), PATIENCE, |state| !holds(state)).unwrap();
        assert!(!waited.timed_out(), "still waiting for: {what}");
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    /// (partition, offset, value) of everything that was taken, in order.
    fn records(&self) -> Vec<(i32, i64, Option<String>)> {
        let state = self.state();
        let all = state.batches.iter().flat_map(|batch| {
            (0..batch.records.len()).map(|i| {
                let value = batch.value(i).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
                (batch.partition(i).partition, batch.records[i].offset, value)
            })
        });
        all.collect()
    }

    fn count(&self) -> usize {
        count(&self.state())
    }
}

fn count(state: &State) -> usize {
    state.batches.iter().map(|batch| batch.records.len()).sum()
}

impl Intake for Process<'_> {
    fn positions(&self, partitions: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, Known>> {
        let ledger = self.ledger.0.lock().unwrap();
        Ok(partitions.iter().filter_map(|p| Some((p.clone(), ledger.get(p)?.clone()))).collect())
    }

    fn start(&self, partitions: BTreeMap<TopicPartition, StartAt>) -> Result<BTreeMap<TopicPartition, Known>> {
        let mut ledger = self.ledger.0.lock().unwrap();
        let of = |(partition, at): (TopicPartition, StartAt)| {
            let known = Known { offset: at.offset, topic_id: at.topic_id };
            (partition.clone(), ledger.entry(partition).or_insert(known).clone())
        };
        Ok(partitions.into_iter().map(of).collect())
    }

    fn identify(&self, ids: BTreeMap<TopicPartition, String>) {
        let mut ledger = self.ledger.0.lock().unwrap();
        for (partition, id) in ids {
            ledger.get_mut(&partition).unwrap().topic_id = Some(id);
        }
    }

    fn offer(&self, batch: RawBatch) -> Result<Option<RawBatch>> {
        if self.state().is_full {
            self.change(|state| state.refusals += 1);
            let state = self.state();
            let _ = self.changed.wait_timeout_while(state, Duration::from_millis(100), |s| s.is_full && !s.stopping);
            return Ok(Some(batch));
        }
        let mut ledger = self.ledger.0.lock().unwrap();
        let continues = batch.ranges.iter().all(|range| ledger[&range.partition].offset == range.from);
        if continues {
            for range in &batch.ranges {
                ledger.get_mut(&range.partition).unwrap().offset = range.to;
            }
        }
        drop(ledger);
        self.change(|state| if continues { state.batches.push(batch) } else { state.refused += 1 });
        Ok(None)
    }

    fn flush(&self) -> Result<()> {
        self.change(|state| {
            state.flushes += 1;
            let command = state.on_flush.take();
            state.commands.extend(command);
        });
        Ok(())
    }

    fn lost(&self, partitions: &[TopicPartition]) {
        self.change(|state| state.lost += partitions.len());
    }

    fn lag(&self, lag: BTreeMap<TopicPartition, u64>) {
        self.change(|state| {
            state.lag = lag;
            state.reports += 1;
        });
    }

    fn command(&self) -> Option<Command> {
        self.state().commands.pop_front()
    }

    fn stopping(&self) -> bool {
        self.state().stopping
    }
}

impl Ledger {
    fn positions(&self) -> Vec<i64> {
        self.0.lock().unwrap().values().map(|known| known.offset).collect()
    }

    fn set(&self, topic: &str, partition: i32, change: impl FnOnce(&mut Known)) {
        change(self.0.lock().unwrap().get_mut(&TopicPartition::new(topic, partition)).unwrap());
    }
}

fn settings(topic: &str, start: StartPoint) -> Settings {
    let properties = BTreeMap::from([("bootstrap.servers".to_owned(), broker::shared().bootstrap())]);
    Settings {
        topics: vec![topic.to_owned()],
        group: format!("group-of-{topic}"),
        start,
        properties: properties.into(),
    }
}

/// A topic of its own with so many partitions; record `i` is in partition `i % partitions`, its time `1000 * (i + 1)`.
fn topic_with(name: &str, partitions: i32, records: i64) -> String {
    let topic = broker::topic(name);
    write(&topic, partitions, 0..records);
    topic
}

fn write(topic: &str, partitions: i32, records: std::ops::Range<i64>) {
    let properties = BTreeMap::from([("bootstrap.servers".to_owned(), broker::shared().bootstrap())]);
    let mut producer = Producer::new(&properties).unwrap();
    producer.create_topic(topic, partitions).unwrap();
    let expected = (records.end - records.start) as u64;
    for i in records {
        let value = format!("record {i}");
        let partition = (i % i64::from(partitions)) as i32;
        producer.send(Some(b"k"), Some(value.as_bytes()), partition, Some(1000 * (i + 1))).unwrap();
    }
    assert_eq!(producer.finish().unwrap(), expected);
}

/// Reads to the end; what was handed over.
fn read(ledger: &Ledger, settings: &Settings) -> Result<Vec<(i32, i64, Option<String>)>> {
    let process = Process::of(ledger);
    KafkaSource::new(settings)?.run(&process, true)?;
    assert_eq!(process.state().refused, 0);
    Ok(process.records())
}

fn diverged(result: Result<Vec<(i32, i64, Option<String>)>>) -> String {
    match result {
        Err(Error::Diverged(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn four_partitions_are_read_whole_and_once() {
    let topic = topic_with("whole", 4, 40_000);
    let ledger = Ledger::default();
    let records = read(&ledger, &settings(&topic, StartPoint::Earliest)).unwrap();
    let mut expected: Vec<_> = (0..40_000).map(|i| ((i % 4) as i32, i / 4, Some(format!("record {i}")))).collect();
    expected.sort();
    let mut sorted = records.clone();
    sorted.sort();
    assert!(sorted == expected, "{} records instead of {}", sorted.len(), expected.len());
    for partition in 0..4 {
        assert!(records.iter().filter(|r| r.0 == partition).map(|r| r.1).is_sorted(), "in order within a partition");
    }
    assert_eq!(ledger.positions(), [10_000; 4]);

    write(&topic, 4, 40_000..40_004);
    let records = read(&ledger, &settings(&topic, StartPoint::Earliest)).unwrap();
    assert_eq!(records.len(), 4, "only what is new");
    assert_eq!(read(&ledger, &settings(&topic, StartPoint::Earliest)).unwrap(), []);
}

#[test]
fn start_is_where_the_ledger_has_no_position() {
    for (start, expected) in [
        (StartPoint::Earliest, vec![0, 0]),
        (StartPoint::Latest, vec![]),
        (StartPoint::Timestamp(8_000), vec![3, 4]), // record 7 in partition 1, record 8 in partition 0
        (StartPoint::Timestamp(8_500), vec![4, 4]), // records 8 and 9
        (StartPoint::Timestamp(1_000_000), vec![]),
    ] {
        let topic = topic_with("start", 2, 20);
        let ledger = Ledger::default();
        let records = read(&ledger, &settings(&topic, start)).unwrap();
        let mut first: Vec<_> = (0..2).filter_map(|p| records.iter().find(|r| r.0 == p).map(|r| r.1)).collect();
        first.sort();
        assert_eq!(first, expected, "{start:?}");
        assert_eq!(ledger.positions(), [10, 10], "{start:?}");
    }
}

#[test]
fn an_empty_topic_ends_too() {
    let topic = topic_with("empty", 3, 0);
    let ledger = Ledger::default();
    assert_eq!(read(&ledger, &settings(&topic, StartPoint::Earliest)).unwrap(), []);
    assert_eq!(ledger.positions(), [0; 3]);
}

#[test]
fn control_records_belong_to_the_range_and_aborted_records_never_happened() {
    let topic = topic_with("transactions", 1, 0);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", broker::shared().bootstrap())
        .set("transactional.id", &topic)
        .create()
        .unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    for (name, commit) in [("a", true), ("b", false), ("c", true)] {
        producer.begin_transaction().unwrap();
        for i in 0..3 {
            let value = format!("{name}{i}");
            producer.send(BaseRecord::<(), _>::to(&topic).payload(&value).partition(0)).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
        if commit { producer.commit_transaction(PATIENCE) } else { producer.abort_transaction(PATIENCE) }.unwrap();
    }
    let ledger = Ledger::default();
    let process = Process::of(&ledger);
    KafkaSource::new(&settings(&topic, StartPoint::Earliest)).unwrap().run(&process, true).unwrap();
    let values: Vec<_> = process.records().into_iter().map(|r| r.2.unwrap()).collect();
    assert_eq!(values, ["a0", "a1", "a2", "c0", "c1", "c2"]);
    // three records and a marker each: the last marker is accounted for too
    assert_eq!(ledger.positions(), [12]);
}

#[test]
fn keys_times_headers_and_tombstones_arrive_as_they_were_sent() {
    let topic = topic_with("parts", 1, 0);
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", broker::shared().bootstrap()).create().unwrap();
    let headers = OwnedHeaders::new()
        .insert(Header { key: "h", value: Some("1") })
        .insert(Header { key: "h", value: None::<&str> });
    let first = BaseRecord::to(&topic).payload("v").key("k").partition(0).timestamp(5).headers(headers);
    producer.send(first).unwrap_or_else(|(e, _)| panic!("{e}"));
    producer.send(BaseRecord::<str, str>::to(&topic).partition(0).timestamp(6)).unwrap_or_else(|(e, _)| panic!("{e}"));
    producer.flush(PATIENCE).unwrap();

    let ledger = Ledger::default();
    let process = Process::of(&ledger);
    KafkaSource::new(&settings(&topic, StartPoint::Earliest)).unwrap().run(&process, true).unwrap();
    let state = process.state();
    let batch = &state.batches[0];
    assert_eq!((batch.key(0), batch.value(0)), (Some(&b"k"[..]), Some(&b"v"[..])));
    assert_eq!((batch.key(1), batch.value(1)), (None, None));
    assert_eq!((batch.records[0].timestamp, batch.records[1].timestamp), (Some(5), Some(6)));
    let headers: Vec<_> = batch.headers(0).iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
    assert_eq!(headers, [("h", Some(&b"1"[..])), ("h", None)]);
    assert!(batch.headers(1).is_empty());
}

#[test]
fn two_members_of_a_group_share_the_partitions_and_every_record_is_taken_once() {
    let topic = topic_with("shared", 4, 4_000);
    let ledger = Ledger::default();
    let (one, two) = (Process::of(&ledger), Process::of(&ledger));
    let settings = settings(&topic, StartPoint::Earliest);
    std::thread::scope(|scope| {
        let run = |process| {
            let settings = settings.clone();
            scope.spawn(move || KafkaSource::new(&settings).unwrap().run(process, false))
        };
        let first = run(&one);
        one.until("the first has read everything", |state| count(state) == 4_000);
        let second = run(&two);
        one.until("two partitions are left to the first", |state| state.lag.len() == 2);
        two.until("the second has two partitions", |state| state.lag.len() == 2);
        write(&topic, 4, 4_000..8_000);
        let both = || one.count() + two.count();
        let begun = Instant::now();
        while both() < 8_000 && begun.elapsed() < PATIENCE {
            two.until("the second reads", |state| count(state) > 0);
            std::thread::yield_now();
        }
        assert_eq!((one.count(), two.count()), (6_000, 2_000));
        assert!(one.state().flushes > 0, "a partition is flushed before it goes");

        // the second leaves, and the first has all of it again
        two.change(|state| state.stopping = true);
        second.join().unwrap().unwrap();
        one.until("the first has everything again", |state| state.lag.len() == 4);
        write(&topic, 4, 8_000..8_004);
        one.until("the first reads on", |state| count(state) == 6_004);
        one.change(|state| state.stopping = true);
        let begun = Instant::now();
        first.join().unwrap().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(3), "a stop took {:?}", begun.elapsed());
    });
    assert_eq!((one.state().refused, two.state().refused), (0, 0));
    let all: Vec<_> = one.records().into_iter().chain(two.records()).collect();
    let distinct: BTreeSet<_> = all.iter().map(|r| (r.0, r.1)).collect();
    assert_eq!((all.len(), distinct.len()), (8_004, 8_004));
}

#[test]
fn a_seek_reads_again_from_there() {
    let topic = topic_with("seek", 2, 2_000);
    let ledger = Ledger::default();
    let process = Process::of(&ledger);
    std::thread::scope(|scope| {
        let settings = settings(&topic, StartPoint::Earliest);
        let process = &process;
        let run = scope.spawn(move || KafkaSource::new(&settings).unwrap().run(process, false));
        process.until("everything is read", |state| count(state) == 2_000);
        ledger.set(&topic, 1, |known| known.offset = 400);
        // partitions of other members, that were ours some time ago, are not ours to read again
        let to: Positions = [(&*topic, 1), (&*topic, 7), ("another", 0)]
            .map(|(topic, partition)| (TopicPartition::new(topic, partition), 400))
            .into();
        process.change(|state| state.commands.push_back(Command::Seek(to)));
        process.until("600 are read again", |state| count(state) == 2_600);
        process.change(|state| state.stopping = true);
        run.join().unwrap().unwrap();
    });
    let again: Vec<_> = process.records()[2_000..].iter().map(|r| (r.0, r.1)).collect();
    assert_eq!(again, (400..1_000).map(|offset| (1, offset)).collect::<Vec<_>>());
    assert_eq!(process.state().refused, 0);
}

#[test]
fn what_is_applied_is_shown_to_lag_tools() {
    let topic = topic_with("applied", 1, 10);
    let ledger = Ledger::default();
    let process = Process::of(&ledger);
    let settings = settings(&topic, StartPoint::Earliest);
    std::thread::scope(|scope| {
        let (process, settings) = (&process, &settings);
        let run = scope.spawn(move || KafkaSource::new(settings).unwrap().run(process, false));
        process.until("everything is read", |state| count(state) == 10);
        process.until("there is no lag", |state| state.lag.values().eq([&0]));
        let applied: Positions = [(TopicPartition::new(&*topic, 0), 10)].into();
        process.change(|state| state.commands.push_back(Command::Applied(applied)));
        process.until("the command is taken", |state| state.commands.is_empty());
        process.change(|state| state.stopping = true);
        run.join().unwrap().unwrap();
    });
    assert_eq!(committed(&settings, &topic), Offset::Offset(10));
}

#[test]
fn a_stop_is_committed_before_the_group_is_left() {
    let topic = topic_with("stopped", 1, 10);
    let ledger = Ledger::default();
    let process = Process::of(&ledger);
    let settings = settings(&topic, StartPoint::Earliest);
    std::thread::scope(|scope| {
        let (process, settings) = (&process, &settings);
        let run = scope.spawn(move || KafkaSource::new(settings).unwrap().run(process, false));
        process.until("everything is read", |state| count(state) == 10);
        let applied: Positions = [(TopicPartition::new(&*topic, 0), 10)].into();
        process.change(|state| {
            state.on_flush = Some(Command::Applied(applied));
            state.stopping = true;
        });
        run.join().unwrap().unwrap();
    });
    assert_eq!(process.state().flushes, 1);
    // the group takes nothing from a member that has left
    assert_eq!(committed(&settings, &topic), Offset::Offset(10));
}

/// The group's offset of partition 0.
fn committed(settings: &Settings, topic: &str) -> Offset {
    let reader: rdkafka::consumer::BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker::shared().bootstrap())
        .set("group.id", &settings.group)
        .create()
        .unwrap();
    let mut asked = TopicPartitionList::new();
    asked.add_partition(topic, 0);
    let answer = rdkafka::consumer::Consumer::committed_offsets(&reader, asked, PATIENCE).unwrap();
    answer.elements()[0].offset()
}

#[test]
fn an_answer_larger_than_allowed_stops_with_the_property_to_raise() {
    let topic = broker::topic("large");
    let brokers = BTreeMap::from([("bootstrap.servers".to_owned(), broker::shared().bootstrap())]);
    let with = |properties: &[(&str, &str)]| {
        let mut all = brokers.clone();
        all.extend(properties.iter().map(|(property, value)| ((*property).to_owned(), (*value).to_owned())));
        all
    };
    let mut producer = Producer::new(&with(&[("compression.type", "none")])).unwrap();
    producer.create_topic(&topic, 1).unwrap();
    producer.send(None, Some(&[b'x'; 500_000]), 0, None).unwrap();
    assert_eq!(producer.finish().unwrap(), 1);
    let limits =
        [("message.max.bytes", "100000"), ("fetch.max.bytes", "100000"), ("receive.message.max.bytes", "100512")];
    let settings = Settings { properties: with(&limits).into(), ..settings(&topic, StartPoint::Earliest) };

    let ledger = Ledger::default();
    let process = Process::of(&ledger);
    let error = std::thread::scope(|scope| {
        let (process, settings) = (&process, &settings);
        let (ended, end) = std::sync::mpsc::channel();
        scope.spawn(move || ended.send(KafkaSource::new(settings).unwrap().run(process, true)));
        let outcome = end.recv_timeout(PATIENCE);
        process.change(|state| state.stopping = true); // or nobody sees that it tries for ever
        outcome.expect("the run ends by itself").unwrap_err()
    });
    assert!(matches!(error, Error::Environment { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("raise `receive.message.max.bytes` in [kafka.properties]"), "{text}");
}

#[test]
fn a_pattern_reads_the_topics_that_match() {
    let topic = topic_with("pattern", 1, 5);
    let pattern = format!("^{topic}$");
    let mut settings = settings(&topic, StartPoint::Earliest);
    settings.topics = vec![pattern];
    assert_eq!(read(&Ledger::default(), &settings).unwrap().len(), 5);
}

#[test]
fn an_unknown_topic_is_a_mistake_that_names_those_like_it() {
    let topic = topic_with("clickstream", 1, 0);
    let wrong = topic.replace("click", "klick");
    let error = read(&Ledger::default(), &settings(&wrong, StartPoint::Earliest)).unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&format!("there is no topic {wrong}")) && text.contains(&topic), "{text}");
}

#[test]
fn brokers_that_are_not_there_are_reported_with_the_cause() {
    let mut settings = settings("visits", StartPoint::Earliest);
    settings.properties = BTreeMap::from([("bootstrap.servers".to_owned(), "127.0.0.1:1".to_owned())]).into();
    let begun = Instant::now();
    let error = read(&Ledger::default(), &settings).unwrap_err();
    assert!(matches!(error, Error::Environment { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("127.0.0.1:1") && text.contains("Connection refused"), "{text}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}
