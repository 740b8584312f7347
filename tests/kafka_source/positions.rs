//! Positions that are not in the log: refused at the start and while reading, and nothing that was read is lost by it.

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;

use super::*;

fn admin() -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", broker::shared().bootstrap()).create().unwrap()
}

#[test]
fn positions_that_the_log_does_not_have_are_refused() {
    let topic = topic_with("beyond", 1, 10);
    let start = settings(&topic, StartPoint::Earliest);
    let ledger = Ledger::default();
    read(&ledger, &start).unwrap();

    ledger.set(&topic, 0, |known| known.offset = 11);
    let text = diverged(read(&ledger, &start));
    assert!(
        text.contains(&format!("{topic}/0: the next offset in the ledger is 11, but the log ends at 10")),
        "{text}"
    );

    let mut cut = TopicPartitionList::new();
    cut.add_partition_offset(&topic, 0, Offset::Offset(5)).unwrap();
    futures::executor::block_on(admin().delete_records(&cut, &AdminOptions::new())).unwrap();
    ledger.set(&topic, 0, |known| known.offset = 4);
    let text = diverged(read(&ledger, &start));
    assert!(text.contains("the log begins at 5 (and ends at 10): 1 offset is gone"), "{text}");
    assert!(text.contains(&format!("`sluice reset {topic}/0=5 --gap`")), "{text}");

    ledger.set(&topic, 0, |known| known.offset = 5);
    assert_eq!(read(&ledger, &start).unwrap().len(), 5, "the first offset that is left is fine");
}

#[test]
fn a_topic_that_was_made_anew_is_refused_until_its_position_is_reset() {
    let topic = topic_with("anew", 1, 10);
    let start = settings(&topic, StartPoint::Earliest);
    let ledger = Ledger::default();
    read(&ledger, &start).unwrap();
    let admin = admin();
    futures::executor::block_on(admin.delete_topics(&[&topic], &AdminOptions::new())).unwrap()[0].as_ref().unwrap();
    write(&topic, 1, 0..20);
    let text = diverged(read(&ledger, &start));
    assert!(text.contains("was deleted and made again") && text.contains("topic id"), "{text}");
    assert!(text.contains(&format!("`sluice reset {topic}/0=0`")), "{text}");

    let id = || ledger.0.lock().unwrap()[&TopicPartition::new(&*topic, 0)].topic_id.clone();
    let old = id();
    ledger.set(&topic, 0, |known| *known = Known { offset: 0, topic_id: None });
    assert_eq!(read(&ledger, &start).unwrap().len(), 20);
    assert!(id().is_some() && id() != old, "the ledger learns the id of the new topic");
}

fn cut(topic: &str, below: i64) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(below)).unwrap();
    futures::executor::block_on(admin().delete_records(&list, &AdminOptions::new())).unwrap();
}

#[test]
fn records_that_expire_before_they_are_read_stop_the_run_after_those_that_were() {
    let topic = topic_with("overtaken", 1, 30_000);
    let ledger = Ledger::default();
    let process = Process::of(&ledger);
    process.change(|state| state.is_full = true);
    let error = std::thread::scope(|scope| {
        let (process, settings) = (&process, settings(&topic, StartPoint::Earliest));
        let run = scope.spawn(move || KafkaSource::new(&settings).unwrap().run(process, false));
        // it has read a first batch, and has paused because nobody takes it
        process.until("offers are refused", |state| state.refusals > 20);
        cut(&topic, 20_000);
        process.change(|state| state.is_full = false);
        run.join().unwrap().unwrap_err()
    });
    let taken = process.count() as i64;
    assert!(taken > 0 && taken < 20_000, "{taken}");
    assert_eq!(ledger.positions(), [taken]);
    assert!(process.state().flushes > 0, "what was read is committed: it is nowhere else");
    let text = error.to_string();
    assert!(matches!(error, Error::Diverged(_)), "{error:?}");
    assert!(text.contains(&format!("the next offset in the ledger is {taken}, but the log begins at 20000")), "{text}");
    assert!(text.contains(&format!("`sluice reset {topic}/0=20000 --gap`")), "{text}");
}

#[test]
fn a_topic_that_is_made_anew_while_it_is_read_gives_nothing_of_the_new_one() {
    let topic = topic_with("swapped", 2, 10);
    let ledger = Ledger::default();
    let process = Process::of(&ledger);
    let error = std::thread::scope(|scope| {
        let (process, settings) = (&process, settings(&topic, StartPoint::Earliest));
        let run = scope.spawn(move || KafkaSource::new(&settings).unwrap().run(process, false));
        process.until("the old one is read", |state| count(state) == 10);
        let admin = admin();
        futures::executor::block_on(admin.delete_topics(&[&topic], &AdminOptions::new())).unwrap()[0].as_ref().unwrap();
        write(&topic, 2, 0..100);
        run.join().unwrap().unwrap_err()
    });
    assert_eq!(process.count(), 10, "{error}");
    assert_eq!(ledger.positions(), [5, 5]);
    let text = error.to_string();
    assert!(text.contains("was deleted and made again") || text.contains("gone"), "{text}");
}
