//! Folds of entries, one after the other and from checkpoints.

use super::*;
use crate::ledger::entry::Replay;
use crate::ledger::tests::{entry, range};

/// Applies `entries` from number 1 on; answers the offset of `t/0`, or why the last of them is refused.
fn check(entries: &[Entry], expected: Result<i64, &str>) {
    let mut fold = Fold::default();
    let (last, before) = entries.split_last().expect("at least one entry");
    for (n, entry) in before.iter().enumerate() {
        fold.apply(n as u64 + 1, entry).unwrap();
    }
    let untouched = fold.clone();
    match (fold.apply(entries.len() as u64, last), expected) {
        (Ok(()), Ok(offset)) => assert_eq!(fold.positions[&TopicPartition::new("t", 0)].offset, offset),
        (Err(Error::Diverged(text)), Err(said)) => {
            assert!(text.contains(said), "{text}");
            assert_eq!(fold, untouched, "a refused entry changes nothing");
        }
        (got, expected) => panic!("{got:?} instead of {expected:?}"),
    }
}

#[test]
fn entries_move_positions_and_what_contradicts_itself_is_refused() {
    use Kind::{Adopt, Gap, Reset, Rows, Start};
    let of = |kind, from, to| entry(kind, vec![range("t", from, to)]);
    let started = || of(Start, 5, 5);
    check(&[started()], Ok(5));
    check(&[started(), of(Rows, 5, 9)], Ok(9));
    check(&[started(), of(Rows, 5, 5)], Ok(5));
    check(&[started(), of(Gap, 5, 7), of(Rows, 7, 8)], Ok(8));
    check(&[started(), of(Reset, 5, 2)], Err("goes backwards on t/0: from 5 to 2"));
    check(&[started(), of(Reset, 2, 2), of(Rows, 2, 3)], Ok(3));
    check(&[of(Adopt, 7, 7), of(Rows, 7, 8)], Ok(8));
    check(&[of(Rows, 0, 1)], Err("entry 1 goes on from 0 on t/0, which no entry started"));
    check(&[started(), of(Rows, 6, 9)], Err("goes on from 6 on t/0, where the entries before it end at 5"));
    check(&[started(), of(Rows, 4, 9)], Err("goes on from 4"));
    check(&[started(), of(Gap, 6, 9)], Err("goes on from 6"));
    check(&[started(), started()], Err("goes on from 5 on t/0, where the entries before it end at 5"));
    check(&[started(), of(Rows, 9, 5)], Err("goes backwards on t/0: from 9 to 5"));
    check(&[started(), entry(Rows, vec![range("t", 5, 6), range("t", 5, 6)])], Err("names a partition twice"));
}

#[test]
fn numbers_follow_each_other_except_before_an_adopt_entry() {
    let mut fold = Fold::default();
    fold.apply(1, &entry(Kind::Start, vec![range("t", 0, 0)])).unwrap();
    let text = fold.apply(3, &entry(Kind::Rows, vec![range("t", 0, 1)])).unwrap_err().to_string();
    assert_eq!(text, "ledger entry 3 follows entry 1: entry 2 is missing");
    assert!(fold.apply(1, &entry(Kind::Adopt, vec![])).is_err(), "never back");
    fold.apply(58, &entry(Kind::Adopt, vec![range("t", 90, 90)])).unwrap();
    assert_eq!((fold.head, fold.offsets()[&TopicPartition::new("t", 0)]), (58, 90));
}

#[test]
fn only_an_operators_word_binds_another_table() {
    let binds = |kind, id: &str| Entry { tables: [(Outcome::Valid, id.to_owned())].into(), ..entry(kind, vec![]) };
    let mut fold = Fold::default();
    fold.apply(1, &binds(Kind::Start, "a")).unwrap();
    fold.apply(2, &binds(Kind::Start, "a")).unwrap();
    let text = fold.apply(3, &binds(Kind::Start, "b")).unwrap_err().to_string();
    assert!(text.contains("binds table b to valid, where a is bound"), "{text}");
    fold.apply(3, &binds(Kind::Adopt, "b")).unwrap();
    assert_eq!(fold.tables[&Outcome::Valid], "b");
}

#[test]
fn the_latest_event_time_never_goes_back_and_an_id_stays_until_another_is_given_or_a_reset() {
    let mut fold = Fold::default();
    let ranged = |kind, from, to, time, id: Option<&str>| {
        let range = EntryRange { latest_event_time: time, topic_id: id.map(str::to_owned), ..range("t", from, to) };
        entry(kind, vec![range])
    };
    fold.apply(1, &ranged(Kind::Start, 0, 0, None, Some("x"))).unwrap();
    fold.apply(2, &ranged(Kind::Rows, 0, 1, Some(50), None)).unwrap();
    fold.apply(3, &ranged(Kind::Rows, 1, 2, Some(40), None)).unwrap();
    fold.apply(4, &ranged(Kind::Rows, 2, 3, None, None)).unwrap();
    let id = |fold: &Fold| fold.positions[&TopicPartition::new("t", 0)].topic_id.clone();
    assert_eq!(fold.positions[&TopicPartition::new("t", 0)].latest_event_time, Some(50));
    assert_eq!(id(&fold).as_deref(), Some("x"));
    fold.apply(5, &ranged(Kind::Gap, 3, 4, None, None)).unwrap();
    assert_eq!(id(&fold).as_deref(), Some("x"));
    fold.apply(6, &ranged(Kind::Reset, 0, 0, None, None)).unwrap();
    assert_eq!(id(&fold), None, "of another topic, maybe");
    fold.apply(7, &ranged(Kind::Rows, 0, 1, None, Some("y"))).unwrap();
    assert_eq!(id(&fold).as_deref(), Some("y"));
}

#[test]
fn an_entry_whose_files_were_swept_can_never_come_and_others_can() {
    let mut fold = Fold::default();
    fold.apply(1, &entry(Kind::Start, vec![range("t", 0, 0)])).unwrap();
    let late = entry(Kind::Rows, vec![range("t", 0, 1)]);
    fold.apply(2, &Entry { swept: vec![late.id], ..entry(Kind::Sweep, vec![]) }).unwrap();
    let fold_read: Fold = serde_json::from_str(&serde_json::to_string(&fold).unwrap()).unwrap();
    for mut fold in [fold, fold_read] {
        assert_eq!(fold.moved(&late), [TopicPartition::new("t", 0)]);
        let text = fold.apply(3, &late).unwrap_err().to_string();
        assert_eq!(text, "ledger entry 3 names files that a sweep before it removed");
        fold.apply(3, &entry(Kind::Rows, vec![range("t", 0, 1)])).unwrap();
    }
}

fn window(from: i64) -> Extent {
    Extent::Time { from, to: from + 10 }
}

/// Rows of `[from, to)` on `t/0`, staged for a window.
fn stages(from: i64, to: i64, window: Extent, rejected: u64) -> Entry {
    let rows = (to - from).unsigned_abs();
    let mut entry = entry(Kind::Rows, vec![range("t", from, to)]);
    entry.windows = vec![Staged { window, rows, rejected }];
    entry.counts.rows = rows;
    entry.counts.outcomes.insert(Outcome::Staging, rows);
    entry
}

fn decides(window: Extent, verdict: Verdict, rows: u64, rejected: u64) -> Entry {
    let mut entry = entry(Kind::Decision, vec![]);
    if verdict != Verdict::Hold {
        entry.counts.rows = rows;
        entry.counts.outcomes.insert(Outcome::Valid, rows);
    }
    entry.decision = Some(Decision {
        window,
        intervals: 1,
        verdict,
        objections: vec![],
        by_hand: false,
        rows,
        rejected,
        missing: 0,
        duplicates: 0,
        metrics: BTreeMap::new(),
    });
    entry
}

#[test]
fn a_window_is_decided_once_over_what_was_staged_and_what_comes_later_does_not_fit() {
    let mut fold = Fold::default();
    fold.apply(1, &entry(Kind::Start, vec![range("t", 0, 0)])).unwrap();
    fold.apply(2, &stages(0, 4, window(0), 1)).unwrap();
    fold.apply(3, &stages(4, 6, window(0), 0)).unwrap();
    fold.apply(4, &stages(6, 7, window(10), 0)).unwrap();
    assert_eq!(fold.totals.of(Outcome::Staging), 7);
    let refused = |fold: &Fold, entry: &Entry| fold.clone().apply(5, entry).unwrap_err().to_string();
    let text = refused(&fold, &decides(window(0), Verdict::Publish, 4, 1));
    assert!(text.contains("decides over 4 rows of window 1970-01-01T00:00:00Z, which has 6"), "{text}");
    let text = refused(&fold, &decides(window(10), Verdict::Publish, 1, 0));
    assert!(text.contains("before its end is open"), "{text}");
    fold.apply(5, &decides(window(0), Verdict::Publish, 6, 1)).unwrap();
    assert_eq!((fold.totals.of(Outcome::Staging), fold.totals.of(Outcome::Valid), fold.totals.rows), (1, 6, 7));
    assert!(fold.outdated(&decides(window(0), Verdict::Publish, 6, 1)).is_some_and(|why| why.contains("is decided")));
    assert!(fold.outdated(&stages(7, 8, window(0), 0)).is_some_and(|why| why.contains("stages rows for window")));
    assert_eq!(fold.outdated(&stages(7, 8, window(10), 0)), None);
    assert_eq!((fold.past.len(), fold.staying.len()), (1, 1));
    let read: Fold = serde_json::from_str(&serde_json::to_string(&fold).unwrap()).unwrap();
    assert_eq!(read, fold);
}

#[test]
fn a_held_window_waits_for_a_word_and_is_closed_all_the_same() {
    let mut fold = Fold::default();
    fold.apply(1, &entry(Kind::Start, vec![range("t", 0, 0)])).unwrap();
    fold.apply(2, &stages(0, 4, window(0), 1)).unwrap();
    let word = |verdict| {
        let mut entry = decides(window(0), verdict, 4, 1);
        entry.decision.as_mut().expect("it is one").by_hand = true;
        entry
    };
    assert!(fold.outdated(&word(Verdict::Publish)).is_some_and(|why| why.contains("is not held")));
    fold.apply(3, &decides(window(0), Verdict::Hold, 4, 1)).unwrap();
    assert!(fold.is_closed(&window(0)));
    assert_eq!((fold.totals.of(Outcome::Staging), fold.windows.len()), (4, 1));
    assert!(fold.outdated(&decides(window(0), Verdict::Publish, 4, 1)).is_some());
    fold.apply(4, &word(Verdict::Publish)).unwrap();
    assert_eq!((fold.totals.of(Outcome::Staging), fold.windows.len()), (0, 0));
    let expire = Entry { expired: vec![window(0).key()], ..entry(Kind::Expire, vec![]) };
    fold.apply(5, &expire).unwrap();
    assert!(fold.outdated(&expire).is_some_and(|why| why.contains("where it is not")));
}

#[test]
fn windows_of_offsets_and_files_are_closed_by_themselves() {
    let mut fold = Fold::default();
    fold.apply(1, &entry(Kind::Start, vec![range("t", 0, 0)])).unwrap();
    let partition = TopicPartition::new("t", 0);
    let rows = |from| Extent::Rows { partition: partition.clone(), from, to: from + 5 };
    let file = |id: &str| Extent::File { partition: partition.clone(), id: id.into() };
    fold.apply(2, &stages(0, 4, rows(0), 0)).unwrap();
    fold.apply(3, &stages(4, 6, file("sha256:ab:1"), 0)).unwrap();
    fold.apply(4, &decides(file("sha256:ab:1"), Verdict::Publish, 2, 0)).unwrap();
    assert_eq!(
        [rows(0), file("sha256:ab:1"), file("sha256:cd:1")].map(|window| fold.is_closed(&window)),
        [false, true, false]
    );
    fold.apply(5, &decides(rows(0), Verdict::Publish, 4, 0)).unwrap();
    assert_eq!([rows(0), rows(5)].map(|window| fold.is_closed(&window)), [true, false]);
}

#[test]
fn a_replay_follows_the_one_that_it_knows_of_and_moves_nothing() {
    let replay = |after| Entry {
        replay: Some(Replay { of: Outcome::Error, after, condition: None, spans: vec![] }),
        counts: Counts { records: 2, rows: 2, outcomes: [(Outcome::Valid, 2)].into(), ..Counts::default() },
        ..entry(Kind::Replay, vec![])
    };
    let mut fold = Fold::default();
    fold.apply(1, &entry(Kind::Start, vec![range("t", 0, 0)])).unwrap();
    fold.apply(2, &replay(0)).unwrap();
    let late = replay(0);
    assert!(fold.overtakes(&late));
    let text = fold.apply(3, &late).unwrap_err().to_string();
    assert_eq!(text, "ledger entry 3 replays rows that were chosen before another replay, entry 2");
    fold.apply(3, &entry(Kind::Rows, vec![range("t", 0, 5)])).unwrap();
    fold.apply(4, &replay(2)).unwrap();
    // those of the rows entry, and no others
    assert_eq!((fold.totals.records, fold.totals.rows, fold.rows(Outcome::Valid)), (5, 0, 4));
    assert_eq!((fold.replays.last, fold.replays.counts.records), (4, 4));
    assert_eq!(fold.offsets()[&TopicPartition::new("t", 0)], 5);
    let again: Fold = serde_json::from_str(&serde_json::to_string(&fold).unwrap()).unwrap();
    assert_eq!(again, fold);
    let swept = replay(4);
    fold.apply(5, &Entry { swept: vec![swept.id], ..entry(Kind::Sweep, vec![]) }).unwrap();
    assert!(fold.overtakes(&swept));
}

#[test]
fn a_fold_survives_its_own_json() {
    let mut fold = Fold::default();
    fold.apply(1, &entry(Kind::Start, vec![range("t", 0, 0), range("in/a b.json", 1, 1)])).unwrap();
    let text = serde_json::to_string(&fold).unwrap();
    assert_eq!(serde_json::from_str::<Fold>(&text).unwrap(), fold, "{text}");
}
