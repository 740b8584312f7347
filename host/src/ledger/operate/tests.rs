use super::*;
use crate::outcome::Outcome::{Dlq as D, Error as E, Valid as V};
use crate::reconcile::tests::Lake;
use crate::reconcile::{reconcile, seen};

async fn adopted(lake: &Lake, accept_lag: bool) -> Result<Done> {
    let tables = lake.tables().await;
    let pairs: Vec<_> = tables
        .iter()
        .filter_map(|table| {
            let sink = lake.sinks.iter().find(|sink| crate::sink::Sink::outcome(&***sink) == table.outcome)?;
            Some(Adoptable { table, sink })
        })
        .collect();
    adopt(&reopened(lake).await, &pairs, "g", accept_lag, async || seen(&tables).await).await
}

async fn reopened(lake: &Lake) -> Ledger {
    let (store, state) = lake.ledger.place();
    Ledger::open(Arc::clone(store), state.clone(), "visits").await.unwrap()
}

/// Five offsets of `t/0` in the tables, applied.
async fn lake() -> Lake {
    let lake = Lake::new(true).await;
    lake.rows(0, 3, &[(0, 0, V), (2, 0, E)]).await;
    lake.rows(3, 5, &[(3, 0, V), (4, 0, D), (4, 1, E)]).await;
    lake.apply().await;
    lake
}

fn lose(lake: &Lake, folder: &str) {
    std::fs::rename(lake.dir.path().join("state").join(folder), lake.dir.path().join(format!("lost-{folder}")))
        .unwrap();
}

fn to(offset: i64) -> Vec<NewPosition> {
    vec![NewPosition { partition: TopicPartition::new("t", 0), to: offset, topic_id: None }]
}

#[tokio::test]
async fn after_a_lost_ledger_reading_goes_on_behind_what_the_tables_hold() {
    let lake = lake().await;
    lose(&lake, "ledger");
    let done = adopted(&lake, false).await.unwrap();
    assert_eq!(done.entry, 4);
    let text = done.lines.join("\n");
    assert!(text.contains("entries 1 to 3 are lost; numbering goes on at 4"), "{text}");
    assert!(text.contains("t/0: read on from 5; of the offsets 0 to 4, 1 are in no table"), "{text}");

    let ledger = reopened(&lake).await;
    let fold = ledger.fold().await.unwrap();
    assert_eq!((fold.head, fold.offsets()[&TopicPartition::new("t", 0)]), (4, 5));
    let lake = Lake { ledger, ..lake };
    lake.rows(5, 6, &[(5, 0, V)]).await;
    lake.apply().await;
    let report = reconcile(&reopened(&lake).await, &lake.tables().await, &[]).await.unwrap();
    assert!(report.ok, "{report}");
    assert!(report.to_string().contains("valid (lake/valid) has 2 rows from before entry 4 took it over"), "{report}");
}

#[tokio::test]
async fn tables_that_lag_behind_the_lost_entries_are_adopted_only_by_word() {
    let lake = lake().await;
    lake.rows(5, 6, &[(5, 0, V)]).await;
    lake.apply().await;
    lose(&lake, "ledger");
    let error = adopted(&lake, false).await.unwrap_err().to_string();
    assert!(error.contains("dlq (lake/dlq) holds entries up to 3 of 4") && error.contains("--accept-lag"), "{error}");
    assert_eq!(reopened(&lake).await.head().await.unwrap(), 0, "nothing was written");
    assert_eq!(adopted(&lake, true).await.unwrap().entry, 5);
}

#[tokio::test]
async fn a_replaced_table_is_followed_from_here_on_and_not_filled_with_what_was() {
    let lake = lake().await;
    std::fs::rename(lake.dir.path().join("valid/_delta_log"), lake.dir.path().join("old-log")).unwrap();
    lake.create(V).await;
    let done = adopted(&lake, false).await.unwrap();
    assert_eq!(done.entry, 4);
    assert_eq!(done.lines.len(), 1, "{done:?}");
    assert!(done.lines[0].starts_with("valid (lake/valid) is followed from entry 4 on"), "{done:?}");
    let lake = Lake { ledger: reopened(&lake).await, ..lake };
    lake.rows(5, 6, &[(5, 0, V)]).await;
    lake.apply().await;
    let report = reconcile(&reopened(&lake).await, &lake.tables().await, &[]).await.unwrap();
    assert!(report.ok, "{report}");
}

#[tokio::test]
async fn an_adoption_that_was_interrupted_before_its_entry_is_done_again() {
    let lake = lake().await;
    std::fs::rename(lake.dir.path().join("valid/_delta_log"), lake.dir.path().join("old-log")).unwrap();
    lake.create(V).await;
    lake.sinks[0].set_mark(4).await.unwrap(); // and then it died
    let done = adopted(&lake, false).await.unwrap();
    assert_eq!(done.entry, 4);
    assert!(
        done.lines.len() == 1 && done.lines[0].starts_with("valid (lake/valid) is followed from entry 4 on"),
        "{done:?}"
    );
    let lake = Lake { ledger: reopened(&lake).await, ..lake };
    lake.rows(5, 6, &[(5, 0, V)]).await;
    lake.apply().await;
    let report = reconcile(&reopened(&lake).await, &lake.tables().await, &[]).await.unwrap();
    assert!(report.ok, "{report}");
}

#[tokio::test]
async fn a_ledger_with_a_hole_is_not_adopted_before_it_is_moved_away() {
    let lake = lake().await;
    std::fs::remove_file(lake.dir.path().join(format!("state/ledger/{:020}.json", 2))).unwrap();
    let error = adopted(&lake, false).await.unwrap_err().to_string();
    assert!(error.contains("ledger entry 2") && error.contains("`mv '/"), "{error}");
}

#[tokio::test]
async fn positions_go_back_by_word_and_forward_only_as_a_gap() {
    let lake = lake().await;
    let ledger = &lake.ledger;
    let stands = async || ledger.fold().await.unwrap().offsets()[&TopicPartition::new("t", 0)];
    for (offset, gap, said) in
        [(9, false, "would pass over 4 offsets that nobody judged"), (2, true, "a gap cannot go back to 2")]
    {
        let error = reset(ledger, "g", &to(offset), gap).await.unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    assert!(reset(ledger, "g", &[], false).await.is_err());
    assert_eq!((ledger.head().await.unwrap(), stands().await), (3, 5));
    assert_eq!(reset(ledger, "g", &to(9), true).await.unwrap().entry, 4);
    assert_eq!(stands().await, 9);
    let back = reset(ledger, "g", &to(1), false).await.unwrap();
    assert!(back.lines[0].contains("set back from 9 to 1"), "{back:?}");
    assert_eq!((ledger.head().await.unwrap(), stands().await), (5, 1));
    let kinds: Vec<Kind> = ledger.entries(3, 5).await.unwrap().iter().map(|(_, entry)| entry.kind).collect();
    assert_eq!(kinds, [Kind::Gap, Kind::Reset]);
}

#[tokio::test]
async fn a_gap_is_one_in_the_same_log() {
    let lake = lake().await;
    let ledger = &lake.ledger;
    let of = |offset, id: &str| vec![NewPosition { topic_id: Some(id.to_owned()), ..to(offset).remove(0) }];
    reset(ledger, "g", &of(5, "old"), false).await.unwrap();
    let error = reset(ledger, "g", &of(9, "new"), true).await.unwrap_err().to_string();
    assert!(error.contains("topic t was deleted and made again") && error.contains("without `--gap`"), "{error}");
    reset(ledger, "g", &of(9, "old"), true).await.unwrap();
    // in another log, 12 is not beyond 9
    let done = reset(ledger, "g", &of(12, "new"), false).await.unwrap();
    assert!(done.lines[0].contains("set from 9 of the old topic to 12"), "{done:?}");
    reset(ledger, "g", &of(0, "new"), false).await.unwrap();
    let position = ledger.fold().await.unwrap().positions[&TopicPartition::new("t", 0)].clone();
    assert_eq!((position.offset, position.topic_id.as_deref()), (0, Some("new")));
}
