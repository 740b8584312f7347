use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use object_store::ObjectStoreExt;
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::ledger::apply::apply_all;
use crate::ledger::tests::{entry, range};
use crate::ledger::{Appended, Entry, EntryRange, Kind, SinkActions};
use crate::sink::Sink;
use crate::sink::delta::{DeltaSink, delta_schema};
use crate::sink::fixture::write;

/// A pipeline's ledger and three tables, filled without a pipeline.
pub(crate) struct Lake {
    pub(crate) dir: TempDir,
    pub(crate) ledger: Ledger,
    pub(crate) sinks: Vec<Arc<DeltaSink>>,
    pub(crate) provenance: bool,
}

/// Offset, ordinal, outcome.
pub(crate) type Row = (i64, i32, Outcome);

use Outcome::{Dlq as D, Error as E, Valid as V};

impl Lake {
    pub(crate) async fn new(provenance: bool) -> Lake {
        let dir = tempfile::tempdir().unwrap();
        let (store, state) = store::open(&location(&dir, "state")).unwrap();
        let ledger = Ledger::open(store, state, "visits").await.unwrap();
        let sinks = Outcome::LAST.map(|outcome| {
            let location = location(&dir, outcome.as_str());
            let (store, prefix) = store::open(&location).unwrap();
            Arc::new(DeltaSink::new(outcome, location, store, prefix, vec![], "visits"))
        });
        let lake = Lake { dir, ledger, sinks: sinks.into(), provenance };
        let mut start = entry(Kind::Start, vec![range("t", 0, 0)]);
        for sink in &lake.sinks {
            start.tables.insert(sink.outcome(), sink.create(&lake.schema()).await.unwrap());
        }
        lake.append(&start).await;
        lake
    }

    /// Creates the table of an outcome anew; answers its identity.
    pub(crate) async fn create(&self, outcome: Outcome) -> String {
        let sink = self.sinks.iter().find(|sink| sink.outcome() == outcome).expect("one per outcome");
        sink.create(&self.schema()).await.unwrap()
    }

    fn schema(&self) -> SchemaRef {
        self.batch(Uuid::nil(), "t", &[]).schema()
    }

    fn batch(&self, id: Uuid, topic: &str, rows: &[Row]) -> RecordBatch {
        let n = rows.len();
        let page: ArrayRef = Arc::new(StringArray::from(vec!["/"; n]));
        let provenance: Vec<(&str, ArrayRef)> = vec![
            ("_topic", Arc::new(StringArray::from(vec![topic; n]))),
            ("_partition", Arc::new(Int32Array::from(vec![0; n]))),
            ("_offset", Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0)))),
            ("_row", Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.1)))),
            ("_attempt", Arc::new(Int32Array::from(vec![0; n]))),
            ("_batch", Arc::new(StringArray::from(vec![id.to_string(); n]))),
        ];
        let columns = std::iter::once(("page", page)).chain(provenance.into_iter().filter(|_| self.provenance));
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
    }

    pub(crate) async fn append(&self, entry: &Entry) -> u64 {
        match self.ledger.append(entry).await.unwrap() {
            Appended::At(n) => n,
            moved => panic!("{moved:?}"),
        }
    }

    /// An entry over `ranges` that counts `rows`, with files that hold `written`, which name `batch`.
    async fn rows_entry(&self, ranges: Vec<EntryRange>, rows: &[Row], written: &[Row], batch: Option<Uuid>) -> u64 {
        let mut entry = entry(Kind::Rows, ranges);
        let topic = entry.ranges[0].partition.topic.clone();
        let of = |rows: &[Row], outcome| rows.iter().copied().filter(|r| r.2 == outcome).collect::<Vec<_>>();
        entry.counts.rows = rows.len() as u64;
        let mut offsets: Vec<i64> = rows.iter().map(|r| r.0).collect();
        offsets.dedup();
        entry.counts.skipped = entry.counts.records - offsets.len() as u64;
        entry.counts.outcomes.clear();
        for sink in &self.sinks {
            let outcome = sink.outcome();
            let (counted, written) = (of(rows, outcome), of(written, outcome));
            if !counted.is_empty() {
                entry.counts.outcomes.insert(outcome, counted.len() as u64);
            }
            if written.is_empty() {
                continue;
            }
            let batch = self.batch(batch.unwrap_or(entry.id), &topic, &written);
            let mut files = write(sink.files(), batch.clone(), entry.id).await;
            if let Some(file) = files.first_mut() {
                file.rows = counted.len() as u64;
            }
            let schema = delta_schema(batch.schema_ref()).unwrap();
            entry.sinks.insert(outcome, SinkActions { schema, files });
        }
        let unnamed = entry.counts.outcomes.keys().any(|outcome| !entry.sinks.contains_key(outcome));
        if unnamed { self.force(&entry).await } else { self.append(&entry).await }
    }

    /// An entry that no append would take.
    async fn force(&self, entry: &Entry) -> u64 {
        let (store, state) = self.ledger.place();
        let n = self.ledger.head().await.unwrap() + 1;
        let path = state.clone().join("ledger").join(format!("{n:020}.json"));
        store.put(&path, crate::ledger::seal::seal(entry).into()).await.unwrap();
        n
    }

    /// An honest entry.
    pub(crate) async fn rows(&self, from: i64, to: i64, rows: &[Row]) -> u64 {
        self.rows_entry(vec![range("t", from, to)], rows, rows, None).await
    }

    pub(crate) async fn apply(&self) {
        let sinks: Vec<Arc<dyn Sink>> = self.sinks.iter().map(|sink| Arc::clone(sink) as Arc<dyn Sink>).collect();
        apply_all(&sinks, &self.ledger, self.ledger.head().await.unwrap()).await.unwrap();
    }

    pub(crate) async fn tables(&self) -> Vec<Table> {
        let mut tables = Vec::new();
        for sink in &self.sinks {
            let location = location(&self.dir, sink.outcome().as_str());
            let (store, _) = store::open(&location).unwrap();
            tables.extend(Table::open(sink.outcome(), &location, store, "sluice/visits").await.unwrap());
        }
        tables
    }

    async fn report(&self) -> Report {
        // as another process sees it
        let (store, state) = self.ledger.place();
        let ledger = Ledger::open(Arc::clone(store), state.clone(), "visits").await.unwrap();
        let report = reconcile(&ledger, &self.tables().await, &[]).await.unwrap();
        let one_by_one = reconcile_by(1, &ledger, &self.tables().await, &[]).await.unwrap();
        assert_eq!(one_by_one.to_string(), report.to_string(), "however many entries are looked at together");
        report
    }

    /// Applies everything and expects exactly these lines.
    async fn check(&self, expected: &str) {
        self.apply().await;
        self.expect(expected).await;
    }

    async fn expect(&self, expected: &str) {
        let report = self.report().await;
        let said = report.to_string();
        let (advice, facts): (Vec<&str>, Vec<&str>) = said.lines().partition(|line| line.starts_with("  to do: "));
        assert_eq!(facts.join("\n"), expected, "{report:#?}");
        assert_eq!(advice.len(), report.advice.len());
        assert_eq!(report.ok, expected.starts_with("reconciled"));
        assert!(!report.ok || advice.is_empty(), "{report}");
    }
}

fn location(dir: &TempDir, name: &str) -> Location {
    let url = url::Url::from_directory_path(dir.path().join(name)).unwrap();
    Location { written: format!("lake/{name}"), url }
}

#[tokio::test]
async fn what_is_whole_is_proven() {
    let lake = Lake::new(true).await;
    lake.check("reconciled: 0 consumed, no gap, no overlap").await;
    lake.rows(0, 4, &[(0, 0, V), (1, 0, V), (1, 1, E), (2, 0, D)]).await;
    lake.rows(4, 1_204, &[(4, 0, V)]).await;
    lake.check("reconciled: 1,204 consumed, no gap, no overlap").await;
    let report = lake.report().await;
    assert_eq!((report.head, report.counts.skipped, report.counts.rows), (3, 1_200, 5));
}

#[tokio::test]
async fn each_contradiction_is_a_sentence_that_names_entry_table_and_coordinates() {
    let stranger = Uuid::parse_str("01900000-0000-7000-8000-000000000001").unwrap();
    let good = [(0, 0, V), (1, 0, E)];
    for (counted, written, batch, expected) in [
        (
            &good[..],
            &[(0, 0, V), (1, 0, V), (1, 0, E)][..],
            None,
            &[
                "entry 2 counts 1 rows for valid (lake/valid), which has 2 of it",
                "entry 2: t/0 offset 1 row 0 is in valid and in error",
            ][..],
        ),
        (&[(0, 0, V), (1, 0, V)], &[(1, 0, V), (1, 0, V)], None, &["entry 2: t/0 offset 1 row 0 is twice in valid"]),
        (
            &good,
            &[(0, 0, V)],
            None,
            &["entry 2 counts 1 rows for error (lake/error), which has 0 of it; in no table: t/0 offset 1"],
        ),
        (
            &good,
            &[(0, 0, V), (7, 0, E)],
            None,
            &[
                "entry 2, error (lake/error): 1 rows lie outside the entry's offsets, the first at t/0 offset 7 row 0",
                "entry 2 judged 2 records, but the tables have rows of 1; in no table: t/0 offset 1",
            ],
        ),
        (
            &[(0, 0, V), (0, 1, V), (1, 0, V)],
            &[(0, 0, V), (0, 1, V), (0, 2, V)],
            None,
            &["entry 2 judged 2 records, but the tables have rows of 1; in no table: t/0 offset 1"],
        ),
        (
            &[(0, 0, V)],
            &[(0, 0, V)],
            Some(stranger),
            &[
                "valid (lake/valid) has 1 rows with _batch 01900000-0000-7000-8000-000000000001, which is no entry of the ledger",
                "entry 2 counts 1 rows for valid (lake/valid), which has 0 of it; in no table, some of them skipped or never \
                 there: t/0 offsets 0, 1",
            ],
        ),
    ] {
        let lake = Lake::new(true).await;
        lake.rows_entry(vec![range("t", 0, 2)], counted, written, batch).await;
        let n = expected.len();
        let noun = if n == 1 { "discrepancy" } else { "discrepancies" };
        lake.check(&format!("not reconciled: {n} {noun}\n  {}", expected.join("\n  "))).await;
    }
}

#[tokio::test]
async fn entries_that_wait_are_pending_and_not_missing() {
    let lake = Lake::new(true).await;
    lake.rows(0, 2, &[(0, 0, V), (1, 0, D)]).await;
    lake.apply().await;
    lake.rows(2, 3, &[(2, 0, V)]).await;
    lake.rows(3, 4, &[(3, 0, V)]).await;
    lake.expect(
        "reconciled: 4 consumed, no gap, no overlap\n  2 entries are not applied to valid (lake/valid) yet: `sluice run` \
         applies them first",
    )
    .await;
    assert_eq!(lake.report().await.pending, [(V, 2)].into());
}

#[tokio::test]
async fn what_an_operator_decided_is_told_and_not_held_against_the_ledger() {
    let lake = Lake::new(true).await;
    lake.rows(0, 2, &[(0, 0, V), (1, 0, V)]).await;
    lake.append(&entry(Kind::Gap, vec![range("t", 2, 5)])).await;
    lake.append(&entry(Kind::Reset, vec![range("t", 1, 1)])).await;
    lake.rows(1, 2, &[(1, 0, E)]).await;
    lake.check(
        "reconciled: 3 consumed, 3 offsets given up, 1 offsets read again\n  \
         t/0: 3 offsets from 2 on given up as lost by an operator's word (entry 3)\n  \
         t/0: set back from 5 to 1 by an operator's word (entry 4): rows from there on come again",
    )
    .await;
}

#[tokio::test]
async fn without_provenance_counts_per_file_are_compared_and_that_is_said() {
    let lake = Lake::new(false).await;
    lake.rows(0, 2, &[(0, 0, V), (1, 0, V)]).await;
    let only = "has no provenance columns: only counts per file were compared";
    let notes = ["valid", "error", "dlq"].map(|name| format!("\n  {name} (lake/{name}) {only}")).concat();
    lake.check(&format!("reconciled: 2 consumed, no gap, no overlap{notes}")).await;
    lake.rows_entry(vec![range("t", 2, 4)], &[(2, 0, V)], &[(2, 0, V), (3, 0, V)], None).await;
    lake.apply().await;
    let report = lake.report().await;
    assert_eq!(report.discrepancies.len(), 1, "{report}");
    let text = &report.discrepancies[0];
    assert!(text.contains("entry 3, valid") && text.contains("counts as 1 rows, has 2 rows in the table"), "{text}");
}

#[tokio::test]
async fn a_table_that_vanished_or_was_replaced_is_a_discrepancy() {
    let lake = Lake::new(true).await;
    lake.rows(0, 1, &[(0, 0, V)]).await;
    lake.apply().await;
    let path = lake.dir.path().join("valid");
    std::fs::rename(&path, lake.dir.path().join("aside")).unwrap();
    lake.expect(
        "not reconciled: 1 discrepancy\n  the ledger counts 1 rows for valid, but its table is not there: put it back \
         from a copy, or let `sluice adopt` begin an empty one",
    )
    .await;
    let other = lake.create(V).await;
    let report = lake.report().await;
    assert!(report.discrepancies[0].contains(&other) && report.discrepancies[0].contains("was replaced"), "{report}");
}

#[tokio::test]
async fn a_ledger_with_a_hole_proves_nothing() {
    let lake = Lake::new(true).await;
    for offset in 0..3 {
        lake.rows(offset, offset + 1, &[(offset, 0, V)]).await;
    }
    lake.apply().await;
    std::fs::remove_file(lake.dir.path().join(format!("state/ledger/{:020}.json", 2))).unwrap();
    let report = lake.report().await;
    assert!(!report.ok && report.discrepancies[0].contains("ledger entry 2"), "{report}");
}

#[test]
fn numbers_are_readable() {
    for (n, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
        assert_eq!(thousands(n), text);
    }
}
