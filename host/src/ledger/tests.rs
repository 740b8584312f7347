//! The ledger against stores that misbehave, and against itself.

use std::sync::Arc;

use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::*;
use crate::record::TopicPartition;

mod race;

/// An entry that says as little as it can: ranges, and one skipped record per offset.
pub(crate) fn entry(kind: Kind, ranges: Vec<EntryRange>) -> Entry {
    let records = if kind == Kind::Rows { ranges.iter().map(|r| (r.to - r.from).max(0) as u64).sum() } else { 0 };
    let counts = Counts { records, skipped: records, ..Default::default() };
    Entry { ranges, counts, ..Entry::new(kind, "g") }
}

pub(crate) fn range(topic: &str, from: i64, to: i64) -> EntryRange {
    EntryRange {
        partition: TopicPartition::new(topic, 0),
        from,
        to,
        topic_id: None,
        latest_event_time: None,
        ended: false,
    }
}

async fn ledger(store: &Arc<InMemory>) -> Ledger {
    Ledger::open(Arc::clone(store) as Arc<dyn ObjectStore>, Path::from("state"), "visits").await.unwrap()
}

async fn put(ledger: &Ledger, entry: &Entry) -> u64 {
    match ledger.append(entry).await.unwrap() {
        Appended::At(n) => n,
        moved => panic!("{moved:?}"),
    }
}

/// `start` at 0, then rows of one record each until the head is `head`.
async fn filled(head: u64) -> (Arc<InMemory>, Ledger) {
    let store = Arc::new(InMemory::new());
    let ledger = ledger(&store).await;
    assert_eq!(put(&ledger, &entry(Kind::Start, vec![range("t", 0, 0)])).await, 1);
    for n in 2..=head {
        let from = n as i64 - 2;
        assert_eq!(put(&ledger, &entry(Kind::Rows, vec![range("t", from, from + 1)])).await, n);
    }
    (store, ledger)
}

fn object(n: u64) -> Path {
    Path::from(format!("state/ledger/{n:020}.json"))
}

#[tokio::test]
async fn an_empty_ledger_has_head_0_and_nothing_is_written_by_looking() {
    let store = Arc::new(InMemory::new());
    let ledger = ledger(&store).await;
    assert_eq!(ledger.head().await.unwrap(), 0);
    assert_eq!(ledger.fold().await.unwrap(), Fold::default());
    assert!(ledger.entries(0, 0).await.unwrap().is_empty());
    let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
    assert!(listed.is_empty(), "{listed:?}");
}

#[tokio::test]
async fn what_was_appended_is_read_by_another_handle_from_a_checkpoint_on() {
    let (store, writer) = filled(250).await;
    let reader = ledger(&store).await;
    assert_eq!(reader.fold().await.unwrap(), writer.fold().await.unwrap());
    assert_eq!(reader.seen.lock().await.recent.front().map(|(n, _)| *n), Some(201), "begun at checkpoint 200");
    let all = reader.entries(0, 250).await.unwrap();
    assert!(all.iter().map(|(n, _)| *n).eq(1..=250));
    let some: Vec<u64> = reader.entries(180, 230).await.unwrap().iter().map(|(n, _)| *n).collect();
    assert!(some.into_iter().eq(181..=230));
    for (after, up_to, last) in [(0, 250, 128), (240, 250, 250), (250, 250, 250)] {
        let page: Vec<u64> = reader.page(after, up_to).await.unwrap().iter().map(|(n, _)| *n).collect();
        assert!(page.iter().copied().eq(after + 1..=last), "{page:?}");
    }
    let covers = |entry: &Entry| entry.ranges.iter().any(|r| (r.from..r.to).contains(&7));
    assert_eq!(reader.last_entry(covers).await.unwrap().map(|(n, _)| n), Some(9));
    assert_eq!(reader.last_entry(|entry| entry.kind == Kind::Gap).await.unwrap(), None);
}

#[tokio::test]
async fn a_page_goes_on_behind_entries_that_were_lost() {
    let (store, _) = filled(2).await;
    let (n, adopted) = (2 + 3 * PAGE, entry(Kind::Adopt, vec![range("t", 9, 9)]));
    store.put(&object(n), seal::seal(&adopted).into()).await.unwrap();
    let numbers = |page: Vec<(u64, Arc<Entry>)>| page.into_iter().map(|(n, _)| n).collect::<Vec<_>>();
    let reader = ledger(&store).await;
    assert_eq!(numbers(reader.page(0, n).await.unwrap()), [1, 2, n]);
    assert_eq!(numbers(reader.page(2, n).await.unwrap()), [n]);
}

#[tokio::test]
async fn only_the_last_two_checkpoints_are_kept() {
    let (store, _) = filled(401).await;
    let kept: Vec<_> =
        store.list(Some(&Path::from("state/checkpoint"))).map_ok(|o| o.location).try_collect().await.unwrap();
    let mut kept: Vec<_> = kept.iter().filter_map(number).collect();
    kept.sort_unstable();
    assert_eq!(kept, [300, 400]);
}

#[tokio::test]
async fn a_zombie_cannot_append_where_another_process_went_on() {
    let (store, zombie) = filled(5).await;
    let other = ledger(&store).await;
    assert_eq!(put(&other, &entry(Kind::Rows, vec![range("t", 4, 9)])).await, 6);
    let late = entry(Kind::Rows, vec![range("t", 4, 7)]);
    let expected = Appended::Moved { partitions: vec![TopicPartition::new("t", 0)] };
    assert_eq!(zombie.append(&late).await.unwrap(), expected);
    assert_eq!(zombie.head().await.unwrap(), 6);
}

#[tokio::test]
async fn the_same_entry_again_is_recognised_by_any_handle() {
    let (store, writer) = filled(3).await;
    let mine = entry(Kind::Rows, vec![range("t", 2, 9)]);
    assert_eq!(put(&writer, &mine).await, 4);
    assert_eq!(put(&writer, &mine).await, 4);
    assert_eq!(put(&ledger(&store).await, &mine).await, 4);
}

#[tokio::test]
async fn a_partition_that_another_process_started_is_answered_as_moved() {
    let (_, writer) = filled(1).await;
    let again = entry(Kind::Start, vec![range("t", 7, 7), range("u", 0, 0)]);
    let expected = Appended::Moved { partitions: vec![TopicPartition::new("t", 0)] };
    assert_eq!(writer.append(&again).await.unwrap(), expected);
}

#[tokio::test]
async fn an_entry_that_contradicts_itself_is_a_bug_and_never_written() {
    let (_, writer) = filled(1).await;
    let rows = || entry(Kind::Rows, vec![range("t", 0, 3)]);
    let mut wrong = vec![entry(Kind::Rows, vec![range("t", 0, -1)])];
    wrong.push(entry(Kind::Rows, vec![range("t", 0, 1), range("t", 0, 1)]));
    wrong.push(Entry { counts: Counts { rows: 4, ..rows().counts }, ..rows() });
    wrong.push(Entry { counts: Counts { records: 4, ..rows().counts }, ..rows() });
    wrong.push(Entry { counts: Counts { skipped: 9, ..rows().counts }, ..rows() });
    wrong.push(Entry { kind: Kind::Start, ranges: vec![], ..rows() });
    wrong.push(Entry { format: 0, ..rows() });
    let counts = Counts { rows: 3, skipped: 0, outcomes: [(Outcome::Valid, 3)].into(), ..rows().counts };
    let file = |rows| FileAction { path: "f".into(), size: 1, rows, partition_values: [].into(), stats: "{}".into() };
    let of = |rows| SinkActions { schema: serde_json::Value::Null, files: vec![file(rows), file(1)] };
    for sinks in [vec![], vec![(Outcome::Valid, of(1))], vec![(Outcome::Error, of(2))]] {
        wrong.push(Entry { counts: counts.clone(), sinks: sinks.into_iter().collect(), ..rows() });
    }
    let whole = Entry { counts, sinks: [(Outcome::Valid, of(2))].into(), ..rows() };
    for entry in wrong {
        let error = writer.append(&entry).await.unwrap_err();
        assert!(matches!(error, Error::Host(_)), "{entry:?}: {error}");
    }
    assert_eq!(writer.head().await.unwrap(), 1);
    assert_eq!(put(&writer, &whole).await, 2);
}

#[tokio::test]
async fn another_pipeline_in_the_same_state_folder_is_refused() {
    let (store, _) = filled(1).await;
    let error = Ledger::open(store, Path::from("state"), "clicks").await.unwrap_err().to_string();
    assert!(error.contains("belongs to pipeline `visits`, not to `clicks`"), "{error}");
}

#[tokio::test]
async fn a_hole_is_refused_by_handles_old_and_new() {
    for (missing, noticed_warm) in [(1, false), (3, false), (6, true)] {
        let (store, warm) = filled(6).await;
        store.delete(&object(missing)).await.unwrap();
        let text = format!("ledger entry {missing} (/state/ledger/{missing:020}.json) is missing");
        let follows = format!("entry {missing} is missing");
        let whole = ledger(&store).await.fold().await;
        // a new handle cannot know that there was an entry behind the last one
        if missing < 6 {
            let error = whole.unwrap_err().to_string();
            assert!(error.contains(&text) || error.contains(&follows), "{error}");
            let error = ledger(&store).await.entries(0, 6).await.unwrap_err().to_string();
            assert!(error.contains(&text), "{error}");
        }
        let appended = warm.append(&entry(Kind::Rows, vec![range("t", 5, 6)])).await;
        assert_eq!(appended.is_err(), noticed_warm, "{appended:?}");
    }
}

#[tokio::test]
async fn a_hole_just_ahead_of_a_running_process_is_refused() {
    let (store, warm) = filled(3).await;
    let other = ledger(&store).await;
    put(&other, &entry(Kind::Rows, vec![range("t", 2, 3)])).await;
    put(&other, &entry(Kind::Rows, vec![range("t", 3, 4)])).await;
    store.delete(&object(4)).await.unwrap();
    let error = warm.head().await.unwrap_err().to_string();
    assert!(error.contains("ledger entry 4") && error.contains("is missing"), "{error}");
}

#[tokio::test]
async fn entries_lost_behind_a_checkpoint_are_noticed() {
    let (store, _) = filled(100).await;
    for n in 90..=100 {
        store.delete(&object(n)).await.unwrap();
    }
    let error = ledger(&store).await.head().await.unwrap_err().to_string();
    assert!(error.contains("ledger entry 100") && error.contains("sluice adopt"), "{error}");
}

#[tokio::test]
async fn a_changed_cut_or_newer_entry_is_refused_in_a_sentence() {
    let (store, _) = filled(3).await;
    let text = store.get(&object(3)).await.unwrap().bytes().await.unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    for (changed, said) in [
        (text.replace("\"to\":2", "\"to\":3"), "its digest does not fit its text"),
        (text[..text.len() / 2].to_owned(), "is damaged: it is cut off"),
        (String::new(), "is damaged: it is cut off"),
        (text.replace("\"format\":1", "\"format\":2"), "has format 2, which a newer sluice wrote"),
    ] {
        assert_ne!(changed, text);
        store.put(&object(3), changed.into()).await.unwrap();
        let error = ledger(&store).await.fold().await.unwrap_err();
        assert!(matches!(error, Error::Diverged(_)), "{error:?}");
        assert!(error.to_string().contains(said) && error.to_string().contains("ledger entry 3"), "{error}");
    }
}

#[tokio::test]
async fn a_checkpoint_that_is_damaged_or_of_other_entries_is_passed_over() {
    let (store, writer) = filled(205).await;
    let expected = writer.fold().await.unwrap();
    let newest = Path::from(format!("state/checkpoint/{:020}.json", 200));
    let older = Path::from(format!("state/checkpoint/{:020}.json", 100));
    let text = store.get(&older).await.unwrap().bytes().await.unwrap();
    store.put(&newest, text.into()).await.unwrap();
    assert_eq!(ledger(&store).await.fold().await.unwrap(), expected, "a checkpoint under another name");
    store.put(&newest, "{".into()).await.unwrap();
    assert_eq!(ledger(&store).await.fold().await.unwrap(), expected, "a damaged one");
    let (_, foreign) = filled(200).await;
    let text = foreign.place().0.get(&newest).await.unwrap().bytes().await.unwrap();
    store.put(&newest, text.into()).await.unwrap();
    assert_eq!(ledger(&store).await.fold().await.unwrap(), expected, "one of another ledger");
}

#[tokio::test]
async fn a_foreign_file_in_the_ledger_is_refused_by_name() {
    let (store, _) = filled(2).await;
    store.put(&Path::from("state/ledger/notes.txt"), "x".into()).await.unwrap();
    let error = ledger(&store).await.head().await.unwrap_err().to_string();
    assert!(error.contains("state/ledger/notes.txt is no ledger entry"), "{error}");
}
