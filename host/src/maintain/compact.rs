//! Small files put together: what a stream commits every few seconds, a reader should not have to open piece by piece.
//!
//! A compaction changes no row, and nothing that the ledger says. It is one Delta commit that removes some files and adds
//! others with the same rows (`dataChange = false`), with the progress mark as it was. It is a compare-and-swap on the
//! version that it looked at, tried again on a later one as long as all its files are still named: of two at once the
//! second finds them gone. One that lay still while a [`sweep`](super::sweep) took its files for orphans sees the sweep's
//! mark in the table, and names them no more. Files that it leaves behind are orphans like any other.
//!
//! Left alone are tables without provenance columns and derived ones, whose rows are accounted for by their files; staging,
//! whose rows leave it soon; files with deletion vectors, which somebody else is at work on.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use deltalake::DeltaTableError;
use deltalake::kernel::engine::arrow_conversion::TryIntoArrow;
use deltalake::kernel::{Action, Add, Remove};
use deltalake::protocol::DeltaOperation;
use futures::TryStreamExt;
use serde::Serialize;
use tokio::sync::mpsc::{Receiver, channel};
use uuid::Uuid;

use super::{Bound, Files};
use crate::crash;
use crate::error::{Doing, Error, Result};
use crate::ledger::FileAction;
use crate::outcome::Outcome;
use crate::sink::FileTarget;
use crate::sink::delta::{Handle, load, log};
use crate::sink::files::TableWriter;
use crate::store;

/// Bytes of a file that is left alone: what readers like to open at once.
const LARGE: i64 = 64 << 20;

/// Bytes of files that are put together at most. Their rows become one file, or a few where it is partitioned otherwise.
const TARGET: i64 = 128 << 20;

/// Files of about one size that are worth it. A row is rewritten once for each step in size, so a handful of times at all.
const FEWEST: usize = 8;

/// How many times larger a file is than one of the step below.
const STEP: i64 = 8;

/// Bytes of the first step.
const SMALL: i64 = 1 << 20;

/// Attempts at one commit; whoever commits meanwhile is the pipeline, every few seconds, or another maintainer.
const ATTEMPTS: u32 = 10;

/// Wait before the second attempt; doubled for each further one.
const BACKOFF: Duration = Duration::from_millis(20);

/// What was put together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Compacted {
    /// files that are named no more
    pub from: Files,
    /// those that have their rows now; in a dry run nobody knows
    pub into: Files,
}

/// Partition columns and their values.
type Partition = Vec<(String, Option<String>)>;

/// Live files with the same partition values and of about the same size.
struct Bin {
    files: Vec<Live>,
}

struct Live {
    add: Add,
    remove: Remove,
    rows: u64,
}

/// Puts the small files of a table together.
pub(super) async fn compact(bound: &Bound<'_>, application: &str, dry_run: bool) -> Result<Compacted> {
    let mut compacted = Compacted::default();
    let (table, doing) = (&bound.table, || format!("cannot compact {}", bound.table.name()));
    let is_ours = match table.outcome {
        Outcome::Valid | Outcome::Error | Outcome::Dlq => table.provenance,
        Outcome::Staging | Outcome::Derived(_) => false,
    };
    if !is_ours {
        return Ok(compacted);
    }
    let (store, prefix) = store::open(bound.location)?;
    let state = table.table.snapshot().doing(doing)?;
    let schema: Schema = state.schema().as_ref().try_into_arrow().doing(doing)?;
    let partition_by = state.metadata().partition_columns().to_vec();
    let target = FileTarget { store: store.clone(), prefix, partition_by };
    let mut handle = Handle::new(bound.location.clone(), store, application.to_owned());
    for bin in bins(table.table.snapshot().doing(doing)?.log_data().iter().filter_map(live)) {
        let from = || bin.files.iter().map(|file| Files { files: 1, bytes: file.add.size.unsigned_abs() });
        if dry_run {
            compacted.from = [compacted.from].into_iter().chain(from()).sum();
            continue;
        }
        // before its rows are read: a sweep from here on may take our files for orphans
        let Some(fence) = handle.fresh().await.doing(doing)?.map(|state| state.sweeps()) else { break };
        let made = rewrite(bound, &bin, schema.clone().into(), target.clone()).await?;
        crash::point("compact/written");
        if commit(bound, &mut handle, fence, &bin, &made).await.doing(doing)? {
            compacted.from = [compacted.from].into_iter().chain(from()).sum();
            let into = made.iter().map(|file| Files { files: 1, bytes: file.size.unsigned_abs() });
            compacted.into = [compacted.into].into_iter().chain(into).sum();
        }
        crash::point("compact/committed");
    }
    Ok(compacted)
}

fn live(file: deltalake::kernel::LogicalFileView) -> Option<Live> {
    let rows = file.num_records()? as u64;
    let is_whole = file.deletion_vector_descriptor().is_none();
    let add = Add {
        path: file.path().into_owned(),
        size: file.size(),
        modification_time: file.modification_time(),
        partition_values: file.partition_values_map(),
        ..Add::default()
    };
    is_whole.then(|| Live { add, remove: file.remove_action(false), rows })
}

/// What is worth putting together, oldest files first.
fn bins(files: impl Iterator<Item = Live>) -> Vec<Bin> {
    let mut kinds: BTreeMap<(Partition, u32), Vec<Live>> = BTreeMap::new();
    for file in files.filter(|file| file.add.size < LARGE) {
        let mut values: Partition = file.add.partition_values.clone().into_iter().collect();
        values.sort();
        kinds.entry((values, step(file.add.size))).or_default().push(file);
    }
    let mut bins = Vec::new();
    for mut files in kinds.into_values() {
        files.sort_by(|a, b| (a.add.modification_time, &a.add.path).cmp(&(b.add.modification_time, &b.add.path)));
        let mut bin: Vec<Live> = Vec::new();
        for file in files {
            if bin.iter().map(|file| file.add.size).sum::<i64>() + file.add.size > TARGET {
                bins.push(std::mem::take(&mut bin));
            }
            bin.push(file);
        }
        bins.push(bin);
    }
    bins.into_iter().filter(|files| files.len() >= FEWEST).map(|files| Bin { files }).collect()
}

/// 0 below a megabyte, and one more for each eightfold.
fn step(size: i64) -> u32 {
    let mut step = 0;
    let mut bound = SMALL;
    while size >= bound && bound < i64::MAX {
        (step, bound) = (step + 1, bound.saturating_mul(STEP));
    }
    step
}

/// Writes the rows of a bin anew, durably.
async fn rewrite(bound: &Bound<'_>, bin: &Bin, schema: SchemaRef, target: FileTarget) -> Result<Vec<FileAction>> {
    let doing = || format!("cannot rewrite files of {}", bound.table.name());
    let session = datafusion::prelude::SessionContext::new_with_config(
        // one file after the other: rows keep their order, and memory is that of one
        datafusion::prelude::SessionConfig::new().with_target_partitions(1),
    );
    bound.table.table.update_datafusion_session(&session.state()).doing(doing)?;
    let chosen = bin.files.iter().map(|file| file.add.clone());
    let provider = bound.table.table.table_provider().with_adds(chosen).await.doing(doing)?;
    let mut rows = session.read_table(provider).doing(doing)?.execute_stream().await.doing(doing)?;
    let (send, receive) = channel::<Option<RecordBatch>>(2);
    let runtime = tokio::runtime::Handle::current();
    let writer = {
        let schema = schema.clone();
        // the writer blocks
        tokio::task::spawn_blocking(move || write(TableWriter::new(target, schema, Uuid::now_v7(), runtime)?, receive))
    };
    while let Some(batch) = rows.try_next().await.doing(doing)? {
        let batch = fit(&batch, &schema).doing(doing)?;
        if send.send(Some(batch)).await.is_err() {
            break; // the writer failed, and says why
        }
    }
    // without this the writer takes the end for a failure of ours, and leaves no file
    drop(send.send(None).await);
    let made = writer.await.map_err(|e| Error::Host(format!("a writer panicked: {e}")))??;
    let (before, after): (u64, u64) =
        (bin.files.iter().map(|file| file.rows).sum(), made.iter().map(|file| file.rows).sum());
    if before != after {
        return Err(Error::Diverged(format!(
            "{}: files with {before} rows by the table's count have {after}: it was left as it is",
            bound.table.name()
        )));
    }
    Ok(made)
}

fn write(mut writer: TableWriter, mut rows: Receiver<Option<RecordBatch>>) -> Result<Vec<FileAction>> {
    loop {
        match rows.blocking_recv() {
            Some(Some(batch)) => writer.write(&batch)?,
            Some(None) => return writer.finish(),
            None => return Ok(Vec::new()), // whoever reads has failed, and says why
        }
    }
}

/// The batch in the table's own types: a reader may answer partition columns as dictionaries, and texts as views.
fn fit(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, arrow::error::ArrowError> {
    let columns = schema.fields().iter().map(|field| {
        let missing = || arrow::error::ArrowError::SchemaError(format!("there is no column `{}`", field.name()));
        arrow::compute::cast(batch.column_by_name(field.name()).ok_or_else(missing)?, field.data_type())
    });
    RecordBatch::try_new(schema.clone(), columns.collect::<Result<_, _>>()?)
}

/// Names the new files instead of the old ones; `false` where somebody else took these first, or a sweep the new ones.
async fn commit(
    bound: &Bound<'_>,
    handle: &mut Handle,
    fence: i64,
    bin: &Bin,
    made: &[FileAction],
) -> Result<bool, DeltaTableError> {
    let operation = || DeltaOperation::Optimize { predicate: None, target_size: TARGET };
    let mut failed = None;
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            tokio::time::sleep(BACKOFF * 2u32.pow(attempt - 1).min(64)).await;
        }
        handle.forget();
        let Some(state) = handle.fresh().await? else { return Ok(false) };
        let (version, sweeps) = (state.version(), state.sweeps());
        if let Some(why) = state.unsupported() {
            return Err(DeltaTableError::generic(format!("it {why}")));
        }
        let Some(mark) = state.mark() else { return Ok(false) };
        let (store, _) = store::open(bound.location).map_err(DeltaTableError::generic)?;
        let now = log::beside_others(async || load(bound.location, store.clone()).await).await?;
        let Some(now) = now.filter(|now| now.version() == Some(version)) else { continue };
        let named: HashSet<String> = now.snapshot()?.log_data().iter().map(|file| file.path().into_owned()).collect();
        if made.iter().any(|file| named.contains(&file.path)) {
            return Ok(true); // an attempt that was said to have failed is there
        }
        // of a bin that is not whole any more nothing is named: somebody else put some of it together, or removed rows
        if sweeps != fence || !bin.files.iter().all(|file| named.contains(&file.add.path)) {
            return Ok(false);
        }
        match handle.commit(actions(bin, made), operation(), mark).await {
            Ok(_) => return Ok(true),
            Err(error) => failed = Some(error),
        }
    }
    // what was written is an orphan, or named all the same: the next run finds out
    tracing::info!(table = %bound.table.name(), error = ?failed, "others commit faster than a compaction; next time");
    Ok(false)
}

fn actions(bin: &Bin, made: &[FileAction]) -> Vec<Action> {
    let now = chrono::Utc::now().timestamp_millis();
    let removed =
        bin.files.iter().map(|file| Action::Remove(Remove { deletion_timestamp: Some(now), ..file.remove.clone() }));
    let added = made.iter().map(|file| {
        Action::Add(Add {
            path: file.path.clone(),
            partition_values: file.partition_values.clone().into_iter().collect(),
            size: file.size,
            modification_time: now,
            data_change: false,
            stats: Some(file.stats.clone()),
            ..Add::default()
        })
    });
    removed.chain(added).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, size: i64, at: i64, day: &str) -> Live {
        let partition_values = [("day".to_owned(), Some(day.to_owned()))].into();
        let add = Add { path: name.into(), size, modification_time: at, partition_values, ..Add::default() };
        Live { add, remove: Remove::default(), rows: 1 }
    }

    #[test]
    fn files_of_one_partition_and_one_size_go_together_oldest_first() {
        let mut files: Vec<Live> = (0..9).map(|n| file(&format!("a{n}"), 1000, 9 - n, "1")).collect();
        files.extend((0..7).map(|n| file(&format!("few{n}"), 1000, n, "2")));
        files.extend((0..8).map(|n| file(&format!("larger{n}"), 2 << 20, n, "1")));
        files.extend((0..8).map(|n| file(&format!("large{n}"), LARGE, n, "1")));
        let bins = bins(files.into_iter());
        let names: Vec<Vec<&str>> =
            bins.iter().map(|bin| bin.files.iter().map(|file| &*file.add.path).collect()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        assert_eq!(names[0], ["a8", "a7", "a6", "a5", "a4", "a3", "a2", "a1", "a0"]);
        assert!(names[1].iter().all(|name| name.starts_with("larger")), "{names:?}");
    }

    #[test]
    fn no_bin_is_larger_than_its_target() {
        let bins = bins((0..40).map(|n| file(&format!("f{n}"), 12 << 20, n, "1")));
        assert_eq!(bins.iter().map(|bin| bin.files.len()).collect::<Vec<_>>(), [10, 10, 10, 10]);
    }

    #[test]
    fn steps_are_eightfold() {
        for (size, expected) in [(0, 0), (SMALL - 1, 0), (SMALL, 1), (8 * SMALL - 1, 1), (8 * SMALL, 2), (i64::MAX, 15)]
        {
            assert_eq!(step(size), expected, "{size}");
        }
    }
}
