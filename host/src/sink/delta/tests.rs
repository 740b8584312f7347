use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array,
    Int16Array, Int32Array, Int64Array, Int64Builder, ListArray, MapBuilder, RecordBatch, StringArray, StringBuilder,
    StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields};
use deltalake::kernel::Transaction;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake::operations::create::CreateBuilder;
use object_store::ObjectStoreExt;

use super::*;
use crate::sink::fixture::{Lake, batch, pages, write};
use crate::sink::look;

mod flat;

async fn all(lake: &Lake, order: &str) -> Vec<String> {
    let (store, _) = lake.store("valid");
    let table = look::open(&lake.location("valid"), store).await.unwrap().unwrap();
    let session = look::session(&BTreeMap::from([("valid".to_owned(), &table)])).await.unwrap();
    let stream = look::query(&session, &format!("SELECT * FROM valid ORDER BY {order}")).await.unwrap();
    let mut lines = Vec::new();
    look::stream_lines(stream, &mut lines).await.unwrap();
    String::from_utf8(lines).unwrap().lines().map(str::to_owned).collect()
}

async fn ids(lake: &Lake) -> Vec<i64> {
    let value = |line: String| serde_json::from_str::<serde_json::Value>(&line).unwrap()["id"].as_i64().unwrap();
    all(lake, "id").await.into_iter().map(value).collect()
}

/// A commit of some other writer, which has nothing to do with the pipeline.
async fn foreign_commit(lake: &Lake) {
    let (store, _) = lake.store("valid");
    let mut table = unloaded(&lake.location("valid"), store).unwrap();
    table.load().await.unwrap();
    let state = table.snapshot().unwrap();
    CommitBuilder::from(CommitProperties::default().with_application_transaction(Transaction::new("someone/else", 7)))
        .build(
            Some(state),
            table.log_store(),
            DeltaOperation::Write { mode: SaveMode::Append, partition_by: None, predicate: None },
        )
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_entry_names_is_in_the_table_once_however_often_it_is_applied() {
    let lake = Lake::new().await;
    let sink = lake.sink(&[]);
    let one = pages(&[(1, Some("a")), (2, None)]);
    lake.begin(&sink, &one.schema()).await;
    let head = lake.rows(&sink, &one).await;

    let first = sink.apply(&lake.ledger, head).await.unwrap();
    assert_eq!(first, Applied { entry: 2, version: Some(1) });
    assert_eq!(sink.apply(&lake.ledger, head).await.unwrap(), first);
    assert_eq!(lake.sink(&[]).apply(&lake.ledger, head).await.unwrap(), first);
    assert_eq!(all(&lake, "id").await, [r#"{"id":1,"page":"a"}"#, r#"{"id":2}"#]);
    assert_eq!(sink.mark().await.unwrap(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_entries_are_one_commit() {
    let lake = Lake::new().await;
    let sink = lake.sink(&[]);
    lake.begin(&sink, &pages(&[]).schema()).await;
    for id in 1..=5 {
        lake.rows(&sink, &pages(&[(id, None)])).await;
    }
    assert_eq!(sink.apply(&lake.ledger, 6).await.unwrap(), Applied { entry: 6, version: Some(1) });
    assert_eq!(ids(&lake).await, [1, 2, 3, 4, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_appliers_end_with_each_file_once() {
    let lake = Arc::new(Lake::new().await);
    let sinks: Vec<_> = (0..4).map(|_| Arc::new(lake.sink(&[]))).collect();
    lake.begin(&*sinks[0], &pages(&[]).schema()).await;
    for round in 0..5 {
        let head = lake.rows(&*sinks[0], &pages(&[(round, None)])).await;
        let racing = sinks.iter().cloned().map(|sink| {
            let lake = lake.clone();
            tokio::spawn(async move { sink.apply(&lake.ledger, head).await })
        });
        for applied in futures::future::join_all(racing).await {
            assert_eq!(applied.unwrap().unwrap().entry, head);
        }
    }
    assert_eq!(ids(&lake).await, [0, 1, 2, 3, 4]);
    // one commit per entry and none in vain
    assert_eq!(lake.sink(&[]).apply(&lake.ledger, 6).await.unwrap().version, Some(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_creators_get_the_same_table() {
    let lake = Arc::new(Lake::new().await);
    let creating = (0..4).map(|_| {
        let lake = lake.clone();
        tokio::spawn(async move { lake.sink(&[]).create(&pages(&[]).schema()).await })
    });
    let created: Vec<_> =
        futures::future::join_all(creating).await.into_iter().map(|id| id.unwrap().unwrap()).collect();
    assert!(created.iter().all(|id| *id == created[0]), "{created:?}");
    assert_eq!(lake.sink(&[]).identity().await.unwrap(), Some(created[0].clone()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_another_writer_in_between_changes_nothing() {
    let lake = Lake::new().await;
    let sink = lake.sink(&[]);
    lake.begin(&sink, &pages(&[]).schema()).await;
    sink.apply(&lake.ledger, 1).await.unwrap();
    let head = lake.rows(&sink, &pages(&[(1, None)])).await;
    foreign_commit(&lake).await;
    assert_eq!(sink.apply(&lake.ledger, head).await.unwrap(), Applied { entry: 2, version: Some(2) });
    foreign_commit(&lake).await;
    assert_eq!(sink.apply(&lake.ledger, head).await.unwrap(), Applied { entry: 2, version: Some(3) });
    assert_eq!(ids(&lake).await, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_on_a_stale_snapshot_is_refused() {
    let lake = Lake::new().await;
    let sink = lake.sink(&[]);
    lake.begin(&sink, &pages(&[]).schema()).await;
    let mut handle = sink.handle.lock().await;
    handle.fresh().await.unwrap();
    foreign_commit(&lake).await;
    assert!(matches!(sink.commit(&mut handle, vec![], 1).await, Err(Failure::Again(_))));
    drop(handle);
    assert_eq!(sink.mark().await.unwrap(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_ask_nothing_make_no_commit_and_lose_none_after_them() {
    let lake = Lake::new().await;
    let sink = lake.sink(&[]);
    lake.begin(&sink, &pages(&[]).schema()).await;
    for _ in 0..3 {
        let head = lake.nothing().await;
        assert_eq!(sink.apply(&lake.ledger, head).await.unwrap(), Applied { entry: head, version: Some(0) });
    }
    let head = lake.rows(&sink, &pages(&[(1, None)])).await;
    assert_eq!(sink.apply(&lake.ledger, head).await.unwrap(), Applied { entry: head, version: Some(1) });
    // a process that knows nothing of the quiet entries comes to the same
    lake.nothing().await;
    assert_eq!(lake.sink(&[]).apply(&lake.ledger, head + 1).await.unwrap().version, Some(1));
    assert_eq!(ids(&lake).await, [1]);
    assert_eq!(sink.mark().await.unwrap(), Some(head));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_never_stays_more_than_a_page_behind_also_where_no_row_comes() {
    let lake = Lake::new().await;
    let sink = lake.sink(&[]);
    lake.begin(&sink, &pages(&[]).schema()).await;
    while lake.nothing().await < PAGE - 1 {}
    assert_eq!(sink.apply(&lake.ledger, PAGE - 1).await.unwrap(), Applied { entry: PAGE - 1, version: Some(0) });
    assert_eq!(sink.mark().await.unwrap(), Some(0));
    for head in PAGE..PAGE + 2 {
        assert_eq!(lake.nothing().await, head);
        assert_eq!(sink.apply(&lake.ledger, head).await.unwrap(), Applied { entry: head, version: Some(1) });
    }
    assert_eq!(sink.mark().await.unwrap(), Some(PAGE));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_waited_for_long_is_applied_page_by_page() {
    let lake = Lake::new().await;
    let sink = lake.sink(&[]);
    lake.begin(&sink, &pages(&[]).schema()).await;
    lake.rows(&sink, &pages(&[(1, None)])).await;
    while lake.nothing().await < PAGE {}
    lake.rows(&sink, &pages(&[(2, None)])).await;
    let head = loop {
        let head = lake.nothing().await;
        if head > 4 * PAGE {
            break head;
        }
    };
    // one commit for each page that has rows, one for the mark after all that have none
    assert_eq!(lake.sink(&[]).apply(&lake.ledger, head).await.unwrap(), Applied { entry: head, version: Some(3) });
    assert_eq!(ids(&lake).await, [1, 2]);
    assert_eq!(sink.mark().await.unwrap(), Some(head));
}

#[tokio::test(flavor = "multi_thread")]
async fn new_columns_widen_the_table() {
    let lake = Lake::new().await;
    let sink = lake.sink(&[]);
    lake.begin(&sink, &pages(&[]).schema()).await;
    lake.rows(&sink, &pages(&[(1, Some("a"))])).await;
    let wider =
        batch(vec![("id", Arc::new(Int64Array::from(vec![2]))), ("city", Arc::new(StringArray::from(vec!["x"])))]);
    let head = lake.rows(&sink, &wider).await;
    assert_eq!(sink.apply(&lake.ledger, head).await.unwrap().version, Some(1));
    assert_eq!(all(&lake, "id").await, [r#"{"id":1,"page":"a"}"#, r#"{"id":2,"city":"x"}"#]);
    // and rows of the old shape still fit
    let head = lake.rows(&sink, &pages(&[(3, Some("c"))])).await;
    sink.apply(&lake.ledger, head).await.unwrap();
    assert_eq!(ids(&lake).await, [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn partition_columns_come_back_whatever_is_in_them() {
    let lake = Lake::new().await;
    let sink = lake.sink(&["page"]);
    let long = "p".repeat(3000);
    let values = [
        Some("a b/c=d%e"),
        None,
        Some("é\u{1F980}"),
        Some("2026-11-21 10:00"),
        Some(&*long),
        Some(".."),
        Some("a b/c=d%e"),
    ];
    let rows: Vec<_> = (0..).zip(values).collect();
    lake.begin(&sink, &pages(&[]).schema()).await;
    let head = lake.rows(&sink, &pages(&rows)).await;
    sink.apply(&lake.ledger, head).await.unwrap();
    let got: Vec<_> = all(&lake, "id")
        .await
        .iter()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["page"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(got, values.map(|v| v.map(str::to_owned)));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_comes_back() {
    let text = |name: &str| Arc::new(Field::new(name, DataType::Utf8, true));
    let nested = StructArray::from(vec![(text("x"), Arc::new(StringArray::from(vec![Some("a"), None])) as ArrayRef)]);
    let fields = Fields::from(vec![text("rule"), text("code")]);
    let columns = ["r1", "c1"].map(|value| Arc::new(StringArray::from(vec![value])) as ArrayRef);
    let element = Arc::new(Field::new("item", DataType::Struct(fields.clone()), true));
    let findings = StructArray::new(fields, columns.into(), None);
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    map.keys().append_value("k");
    map.values().append_value(7);
    map.append(true).unwrap();
    map.append(false).unwrap();
    let micros = TimestampMicrosecondArray::from(vec![1_700_000_000_123_456, -1]).with_timezone("UTC");
    let decimal =
        Decimal128Array::from(vec![98_765_432_109_876_543_210, -105]).with_precision_and_scale(38, 2).unwrap();
    let rows = batch(vec![
        ("id", Arc::new(Int64Array::from(vec![1, 2]))),
        ("i8", Arc::new(Int8Array::from(vec![i8::MIN, 2]))),
        ("i16", Arc::new(Int16Array::from(vec![i16::MIN, 2]))),
        ("i32", Arc::new(Int32Array::from(vec![i32::MIN, 2]))),
        ("f32", Arc::new(Float32Array::from(vec![1.5, -2.0]))),
        ("f64", Arc::new(Float64Array::from(vec![Some(1.5), None]))),
        ("flag", Arc::new(BooleanArray::from(vec![Some(true), None]))),
        ("day", Arc::new(Date32Array::from(vec![0, -1]))),
        ("at", Arc::new(micros)),
        ("price", Arc::new(decimal)),
        ("bytes", Arc::new(BinaryArray::from_opt_vec(vec![Some(b"{"), None]))),
        ("nested", Arc::new(nested)),
        ("list", Arc::new(ListArray::new(element, OffsetBuffer::from_lengths([1, 0]), Arc::new(findings), None))),
        ("map", Arc::new(map.finish())),
    ]);
    let lake = Lake::new().await;
    let sink = lake.sink(&[]);
    lake.begin(&sink, &rows.schema()).await;
    let head = lake.rows(&sink, &rows).await;
    sink.apply(&lake.ledger, head).await.unwrap();
    expect_test::expect![[r#"
        {"id":1,"i8":-128,"i16":-32768,"i32":-2147483648,"f32":1.5,"f64":1.5,"flag":true,"day":"1970-01-01","at":"2023-11-14T22:13:20.123456Z","price":987654321098765432.10,"bytes":"{","nested":{"x":"a"},"list":[{"rule":"r1","code":"c1"}],"map":{"k":7}}
        {"id":2,"i8":2,"i16":2,"i32":2,"f32":-2.0,"day":"1969-12-31","at":"1969-12-31T23:59:59.999999Z","price":-1.05,"nested":{},"list":[]}"#]].assert_eq(&all(&lake, "id").await.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_table_is_refused_also_under_an_open_handle() {
    let lake = Lake::new().await;
    let sink = lake.sink(&[]);
    lake.begin(&sink, &pages(&[]).schema()).await;
    let head = lake.rows(&sink, &pages(&[(1, None)])).await;
    sink.apply(&lake.ledger, head).await.unwrap();
    lake.rows(&sink, &pages(&[(2, None)])).await;

    std::fs::remove_dir_all(lake.folder("valid").join("_delta_log")).unwrap();
    let gone = sink.apply(&lake.ledger, 3).await.unwrap_err();
    assert!(matches!(&gone, Error::Diverged(text) if text.contains("is not there")), "{gone}");

    lake.sink(&[]).create(&pages(&[]).schema()).await.unwrap();
    foreign_commit(&lake).await;
    for sink in [&sink, &lake.sink(&[])] {
        let other = sink.apply(&lake.ledger, 3).await.unwrap_err();
        assert!(matches!(&other, Error::Diverged(text) if text.contains("was replaced")), "{other}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_beyond_the_ledger_is_refused_unless_another_process_was_faster() {
    let lake = Lake::new().await;
    let sink = lake.sink(&[]);
    lake.begin(&sink, &pages(&[]).schema()).await;
    lake.rows(&sink, &pages(&[(1, None)])).await;
    lake.rows(&sink, &pages(&[(2, None)])).await;
    sink.apply(&lake.ledger, 3).await.unwrap();
    // this caller's head is merely old
    assert_eq!(lake.sink(&[]).apply(&lake.ledger, 2).await.unwrap().entry, 3);

    sink.set_mark(9).await.unwrap();
    let lost = sink.apply(&lake.ledger, 3).await.unwrap_err();
    assert!(matches!(&lost, Error::Diverged(text) if text.contains("holds ledger entry 9")), "{lost}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_do_not_fit_a_table_are_refused_by_column_and_types() {
    let lake = Lake::new().await;
    let sink = lake.sink(&[]);
    sink.create(&pages(&[]).schema()).await.unwrap();
    let columns: Vec<(&str, ArrayRef)> = vec![("id", Arc::new(StringArray::from(vec!["1"])))];
    let other: RecordBatch = batch(columns);
    let error = sink.create(&other.schema()).await.unwrap_err().to_string();
    assert!(error.contains("column `id` as long, the pipeline's rows have it as string"), "{error}");

    let error = lake.sink(&["page"]).create(&pages(&[]).schema()).await.unwrap_err().to_string();
    assert!(error.contains("partitioned by nothing, the pipeline says page"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_demands_checks_is_refused() {
    let lake = Lake::new().await;
    let (store, _) = lake.store("valid");
    let log_store = unloaded(&lake.location("valid"), store).unwrap().log_store();
    CreateBuilder::new()
        .with_log_store(log_store)
        .with_column("id", deltalake::kernel::DataType::LONG, false, None)
        .await
        .unwrap();
    let error = lake.sink(&[]).create(&pages(&[]).schema()).await.unwrap_err().to_string();
    assert!(error.contains("column `id` (NOT NULL)"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_has_the_lowest_protocol_and_keeps_its_log_short() {
    let lake = Lake::new().await;
    let sink = lake.sink(&[]);
    sink.create(&pages(&[]).schema()).await.unwrap();
    let (store, _) = lake.store("valid");
    let about = look::open(&lake.location("valid"), store).await.unwrap().unwrap().describe().unwrap();
    assert_eq!(about.protocol, (1, 2));
    assert_eq!(
        about.properties.into_iter().collect::<Vec<_>>(),
        [
            ("delta.enableExpiredLogCleanup".to_owned(), "false".to_owned()),
            ("delta.logRetentionDuration".to_owned(), "interval 1 day".to_owned()),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_commits_make_checkpoints_and_stay_right() {
    let lake = Lake::new().await;
    let sink = lake.sink(&[]);
    lake.begin(&sink, &pages(&[]).schema()).await;
    let files = write(sink.files(), pages(&[(0, None)]), uuid::Uuid::now_v7()).await;
    for n in 0..105 {
        // a file of its own for each, without writing it anew: the log is what matters
        let (store, prefix) = lake.store("valid");
        let mut file = files[0].clone();
        file.path = format!("copy-{n:03}.parquet");
        let (from, to) = (prefix.clone().join(files[0].path.as_str()), prefix.join(file.path.as_str()));
        store.copy(&from, &to).await.unwrap();
        let head = lake.entry(Outcome::Valid, &pages(&[]), vec![file]).await;
        assert_eq!(sink.apply(&lake.ledger, head).await.unwrap().version, Some(n + 1));
    }
    let log = lake.folder("valid").join("_delta_log");
    let checkpoint = format!("{:020}.checkpoint.parquet", 99);
    assert!(log.join(&checkpoint).exists(), "{checkpoint}");
    assert_eq!(ids(&lake).await.len(), 105);
    assert_eq!(lake.sink(&[]).mark().await.unwrap(), Some(106));
}
