use arrow::array::{BinaryArray, Int64Array, StringArray};

use super::*;
use crate::sink::Sink;
use crate::sink::fixture::{Lake, batch, pages};

async fn lake(partition_by: &[&str], batches: &[RecordBatch]) -> (Lake, Table) {
    let lake = Lake::new().await;
    let sink = lake.sink(partition_by);
    lake.begin(&sink, &batches[0].schema()).await;
    for batch in batches {
        let head = lake.rows(&sink, batch).await;
        sink.apply(&lake.ledger, head).await.unwrap();
    }
    let (store, _) = lake.store("valid");
    let table = open(&lake.location("valid"), store).await.unwrap().unwrap();
    (lake, table)
}

async fn ask(table: &Table, sql: &str) -> Result<String> {
    let session = session(&BTreeMap::from([("valid".to_owned(), table)])).await?;
    let (schema, batches) = collect(query(&session, sql).await?).await?;
    grid(&schema, &batches)
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_come_per_partition() {
    let rows = pages(&[(1, Some("a")), (2, None), (3, Some("a"))]);
    let (_lake, table) = lake(&["page"], &[rows.clone(), rows]).await;
    let counts = table.counts().await.unwrap();
    assert_eq!((counts.version, counts.rows, counts.files), (2, 6, 4));
    let partitions: Vec<_> =
        counts.partitions.iter().map(|(name, size)| (name.as_str(), size.rows, size.files)).collect();
    assert_eq!(partitions, [("page=a", 4, 2), ("page=null", 2, 2)]);
    assert_eq!(counts.bytes, counts.partitions.values().map(|size| size.bytes).sum::<u64>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_table_is_none() {
    let lake = Lake::new().await;
    let (store, _) = lake.store("nowhere");
    assert!(open(&lake.location("nowhere"), store).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_shown_as_text_and_nothing_rows_is_still_a_table() {
    let rows = batch(vec![
        ("_value", Arc::new(BinaryArray::from_opt_vec(vec![Some(b"{\"a\":"), Some(b"\xff"), None]))),
        ("n", Arc::new(Int64Array::from(vec![1, 2, 3]))),
    ]);
    let (_lake, table) = lake(&[], &[rows]).await;
    let shown = ask(&table, "SELECT _value, n FROM valid ORDER BY n").await.unwrap();
    expect_test::expect![[r#"
        +--------+---+
        | _value | n |
        +--------+---+
        | {"a":  | 1 |
        | �      | 2 |
        |        | 3 |
        +--------+---+"#]]
    .assert_eq(&shown);
    let empty = ask(&table, "SELECT n FROM valid WHERE n > 9").await.unwrap();
    assert!(empty.contains("| n |"), "{empty}");
}

#[tokio::test(flavor = "multi_thread")]
async fn extremes_are_those_of_the_rows_and_not_of_cut_statistics() {
    let long = "x".repeat(500);
    let rows = batch(vec![("s", Arc::new(StringArray::from(vec![long.as_str(), "a"])))]);
    let (_lake, table) = lake(&[], &[rows]).await;
    let shown = ask(&table, "SELECT max(s) = repeat('x', 500) AS whole FROM valid").await.unwrap();
    assert!(shown.contains("| true  |"), "{shown}");
    let found = ask(&table, "SELECT count(*) AS n FROM valid WHERE s = repeat('x', 500)").await.unwrap();
    assert!(found.contains("| 1 |"), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_reads_and_nothing_else() {
    let (_lake, table) = lake(&[], &[pages(&[(1, None)])]).await;
    for sql in ["DROP TABLE valid", "INSERT INTO valid VALUES (2, 'x')", "SET x = 1", "SELECT nope FROM valid", "SELEC"]
    {
        let error = ask(&table, sql).await.unwrap_err();
        assert!(
            matches!(&error, Error::Config(text) if text.starts_with("this query cannot be run")),
            "{sql}: {error}"
        );
    }
}
