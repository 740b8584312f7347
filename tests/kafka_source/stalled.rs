//! Sinks that stall, and topics that are idle: both cost patience and nothing else.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

#[test]
fn a_queue_that_was_full_for_long_loses_nothing() {
    let topic = topic_with("full", 2, 30_000);
    let ledger = Ledger::default();
    let process = Process::of(&ledger);
    process.change(|state| state.is_full = true);
    std::thread::scope(|scope| {
        let run =
            scope.spawn(|| KafkaSource::new(&settings(&topic, StartPoint::Earliest)).unwrap().run(&process, true));
        process.until("the partitions are known", |state| state.lag.len() == 2);
        // 100 ms each, so longer than the source waits before it pauses
        process.until("offers are refused", |state| state.refusals > 15);
        assert_eq!(process.count(), 0);
        process.change(|state| state.is_full = false);
        run.join().unwrap().unwrap();
    });
    assert_eq!((process.count(), process.state().refused), (30_000, 0));
    assert_eq!(ledger.positions(), [15_000; 2]);
}

#[test]
fn a_sink_that_stalls_for_longer_than_a_member_may_be_silent_keeps_its_place_in_the_group() {
    let topic = topic_with("stalled", 2, 30_000);
    let settings = settings(&topic, StartPoint::Earliest);
    let brief = [("session.timeout.ms", "2000"), ("heartbeat.interval.ms", "300"), ("max.poll.interval.ms", "2000")];
    let properties = settings.properties.iter().map(|(property, value)| (property.as_str(), value.as_str()));
    let properties = properties.chain(brief).map(|(property, value)| (property.to_owned(), value.to_owned()));
    let settings = Settings { properties: properties.collect(), ..settings };
    let ledger = Ledger::default();
    let process = Process::of(&ledger);
    process.change(|state| state.is_full = true);
    std::thread::scope(|scope| {
        let run = scope.spawn(|| KafkaSource::new(&settings).unwrap().run(&process, false));
        // at 100 ms an offer, twice as long as a member may go without polling
        process.until("offers are refused", |state| state.refusals > 40);
        assert_eq!((process.count(), process.state().lag.len()), (0, 2), "it has its partitions");
        process.change(|state| state.is_full = false);
        process.until("everything is read", |state| count(state) == 30_000);
        process.change(|state| state.stopping = true);
        run.join().unwrap().unwrap();
    });
    // leaving flushes once; a member that was put out would have lost or flushed its partitions before
    let state = process.state();
    assert_eq!((state.lost, state.refused, state.flushes), (0, 0, 1));
    assert_eq!(ledger.positions(), [15_000; 2]);
}

#[test]
fn an_idle_topic_makes_no_batches() {
    let topic = topic_with("idle", 2, 10);
    let ledger = Ledger::default();
    let process = Process::of(&ledger);
    std::thread::scope(|scope| {
        let (process, settings) = (&process, settings(&topic, StartPoint::Earliest));
        let run = scope.spawn(move || KafkaSource::new(&settings).unwrap().run(process, false));
        process.until("everything is read", |state| count(state) == 10);
        let batches = process.state().batches.len();
        let reports = process.state().reports;
        // one a second
        process.until("the lag was told a few times", |state| state.reports > reports + 2);
        let state = process.state();
        assert_eq!((state.batches.len(), state.flushes, state.lost), (batches, 0, 0));
        drop(state);
        process.change(|state| state.stopping = true);
        run.join().unwrap().unwrap();
    });
}

/// Asked for positions, it takes the broker away and wants to stop.
struct Deserting {
    broker: broker::Broker,
    stopping: AtomicBool,
}

impl Intake for Deserting {
    fn positions(&self, _: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, Known>> {
        self.broker.kill9();
        self.stopping.store(true, Ordering::Relaxed);
        Ok(BTreeMap::new())
    }

    fn start(&self, partitions: BTreeMap<TopicPartition, StartAt>) -> Result<BTreeMap<TopicPartition, Known>> {
        panic!("{partitions:?} cannot be known: there is no broker")
    }

    fn identify(&self, _: BTreeMap<TopicPartition, String>) {}

    fn offer(&self, _: RawBatch) -> Result<Option<RawBatch>> {
        panic!("there is nothing to read")
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn lost(&self, _: &[TopicPartition]) {}

    fn lag(&self, _: BTreeMap<TopicPartition, u64>) {}

    fn command(&self) -> Option<Command> {
        None
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

#[test]
fn a_stop_while_partitions_are_being_assigned_comes_to_an_end_without_a_broker() {
    let broker = broker::Broker::start(broker::Options::default());
    let topic = broker::topic("deserted");
    let servers = BTreeMap::from([("bootstrap.servers".to_owned(), broker.bootstrap())]);
    Producer::new(&servers).unwrap().create_topic(&topic, 1).unwrap();
    let settings = Settings { properties: servers.into(), ..settings(&topic, StartPoint::Earliest) };
    let deserting = Deserting { broker, stopping: AtomicBool::new(false) };
    let (done, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(KafkaSource::new(&settings).unwrap().run(&deserting, false)));
    told.recv_timeout(Duration::from_secs(60)).expect("it leaves a group that does not answer").unwrap();
}
