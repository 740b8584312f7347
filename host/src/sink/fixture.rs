//! A lake in a temporary folder for the tests of sinks: real stores, a real ledger, real files.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use chrono::DateTime;
use object_store::ObjectStore;
use object_store::path::Path;
use tempfile::TempDir;
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::config::Location;
use crate::ledger::{Appended, Entry, EntryRange, FileAction, Kind, Ledger, SinkActions};
use crate::outcome::Outcome;
use crate::record::TopicPartition;
use crate::sink::delta::{DeltaSink, delta_schema};
use crate::sink::files::TableWriter;
use crate::sink::{FileTarget, Sink};
use crate::store;

/// A folder with a ledger and any number of tables.
pub struct Lake {
    dir: TempDir,
    pub ledger: Ledger,
}

impl Lake {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (store, state) = store::open(&at(&dir, "state")).unwrap();
        Lake { ledger: Ledger::open(store, state, "visits").await.unwrap(), dir }
    }

    pub fn location(&self, name: &str) -> Location {
        at(&self.dir, name)
    }

    pub fn store(&self, name: &str) -> (Arc<dyn ObjectStore>, Path) {
        store::open(&self.location(name)).unwrap()
    }

    pub fn folder(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// A sink for the table `valid`.
    pub fn sink(&self, partition_by: &[&str]) -> DeltaSink {
        let (store, prefix) = self.store("valid");
        let by = partition_by.iter().map(|s| (*s).to_owned()).collect();
        DeltaSink::new(Outcome::Valid, self.location("valid"), store, prefix, by, "visits")
    }

    /// Creates the sink's table and binds the ledger to it.
    pub async fn begin(&self, sink: &dyn Sink, schema: &SchemaRef) -> String {
        let id = sink.create(schema).await.unwrap();
        let mut start = entry(Kind::Start, 0, 0);
        start.tables.insert(sink.outcome(), id.clone());
        assert_eq!(self.append(&start).await, 1);
        id
    }

    /// Writes the batch and appends an entry that names its files.
    pub async fn rows(&self, sink: &dyn Sink, batch: &RecordBatch) -> u64 {
        let files = write(sink.files(), batch.clone(), Uuid::now_v7()).await;
        self.entry(sink.outcome(), batch, files).await
    }

    /// Appends an entry that names these files.
    pub async fn entry(&self, outcome: Outcome, batch: &RecordBatch, files: Vec<FileAction>) -> u64 {
        let from = self.ledger.fold().await.unwrap().offsets().into_values().next().unwrap_or(0);
        let rows: u64 = files.iter().map(|file| file.rows).sum();
        let mut entry = entry(Kind::Rows, from, from + rows as i64);
        entry.counts.records = rows;
        entry.counts.rows = rows;
        entry.counts.outcomes.insert(outcome, rows);
        entry.sinks.insert(outcome, SinkActions { schema: delta_schema(batch.schema_ref()).unwrap(), files });
        self.append(&entry).await
    }

    /// Appends an entry that asks nothing of any sink.
    pub async fn nothing(&self) -> u64 {
        let from = self.ledger.fold().await.unwrap().offsets().into_values().next().unwrap_or(0);
        let mut entry = entry(Kind::Rows, from, from + 1);
        (entry.counts.records, entry.counts.skipped) = (1, 1);
        self.append(&entry).await
    }

    async fn append(&self, entry: &Entry) -> u64 {
        match self.ledger.append(entry).await.unwrap() {
            Appended::At(n) => n,
            Appended::Moved { partitions } => panic!("moved: {partitions:?}"),
        }
    }
}

fn at(dir: &TempDir, name: &str) -> Location {
    let url = url::Url::from_directory_path(dir.path().join(name)).unwrap();
    Location { written: format!("${{LAKE}}/{name}"), url }
}

fn entry(kind: Kind, from: i64, to: i64) -> Entry {
    let ranges = vec![EntryRange {
        partition: TopicPartition::new("visits", 0),
        from,
        to,
        topic_id: None,
        latest_event_time: None,
        ended: false,
    }];
    Entry { at: DateTime::UNIX_EPOCH, ranges, ..Entry::new(kind, "7f3a1c") }
}

/// Writes one batch as a worker does: from a plain thread.
pub async fn write(target: FileTarget, batch: RecordBatch, id: Uuid) -> Vec<FileAction> {
    let runtime = Handle::current();
    let work = move || {
        let mut writer = TableWriter::new(target, batch.schema(), id, runtime)?;
        writer.write(&batch)?;
        writer.finish()
    };
    tokio::task::spawn_blocking(work).await.unwrap().unwrap()
}

/// Rows of an `id` and a `page`.
pub fn pages(rows: &[(i64, Option<&str>)]) -> RecordBatch {
    let (ids, pages): (Vec<i64>, Vec<Option<&str>>) = rows.iter().copied().unzip();
    batch(vec![("id", Arc::new(Int64Array::from(ids))), ("page", Arc::new(StringArray::from(pages)))])
}

/// Columns by name, all of which may be null.
pub fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}
