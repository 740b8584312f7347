//! Delta tables as sinks.
//!
//! The table's transaction `sluice/<pipeline>` holds the number of the last ledger entry in it, so that files and
//! progress change together or not at all. It writes no rows of records (that is [`files`](super::files)), retries nothing on a
//! stale snapshot, and never removes a data file: what expired is only no longer named.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use chrono::Utc;
use deltalake::DeltaTableError;
use deltalake::kernel::{Action, Add, MetadataExt, StructType};
use deltalake::protocol::{DeltaOperation, SaveMode};
use object_store::ObjectStore;
use object_store::path::Path;
use tokio::sync::Mutex;

use crate::config::Location;
use crate::error::{Error, Result};
use crate::ledger::apply::{Due, Merged, due, merge};
use crate::ledger::{FileAction, Ledger, PAGE};
use crate::outcome::Outcome;
use crate::sink::{Applied, FileTarget, Guarantee, Sink};

pub(crate) mod age;
pub mod broken;
mod handle;
pub(crate) mod log;
mod remove;
pub(crate) mod replace;
pub(crate) mod rewrite;
pub mod schema;

use handle::State;
pub use handle::{Handle, load, unloaded};
pub use schema::delta_schema;

/// Attempts at one commit before it is the environment's fault. Each loser of a race has a winner, so a handful is much.
const ATTEMPTS: u32 = 10;

/// Wait before the second attempt; doubled for each further one up to a second.
const BACKOFF: Duration = Duration::from_millis(20);

/// A Delta table that follows the ledger.
pub struct DeltaSink {
    outcome: Outcome,
    location: Location,
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    partition_by: Vec<String>,
    /// held during an Apply: two of one process at once would only race each other
    handle: Mutex<Handle>,
    retries: AtomicU64,
}

/// Why an attempt ended.
enum Failure {
    /// try again from a fresh snapshot
    Again(DeltaTableError),
    /// no attempt will end differently
    Stop(Error),
}

impl From<DeltaTableError> for Failure {
    fn from(error: DeltaTableError) -> Self {
        Failure::Again(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Stop(error)
    }
}

impl DeltaSink {
    /// The sink of `pipeline` for rows of `outcome`. `store` is rooted where the location's URL is, and `prefix` is the
    /// location's path in it, as [`store::open`](crate::store::open) answers them. Nothing is opened or created.
    pub fn new(
        outcome: Outcome,
        location: Location,
        store: Arc<dyn ObjectStore>,
        prefix: Path,
        partition_by: Vec<String>,
        pipeline: &str,
    ) -> Self {
        DeltaSink {
            handle: Mutex::new(Handle::new(location.clone(), store.clone(), format!("sluice/{pipeline}"))),
            retries: AtomicU64::new(0),
            outcome,
            location,
            store,
            prefix,
            partition_by,
        }
    }

    /// Sets the progress mark to `entry`, whatever it was, in a commit without rows: for `adopt` and `reset`, by the
    /// operator's word only.
    pub async fn set_mark(&self, entry: u64) -> Result<()> {
        let mut handle = self.handle.lock().await;
        let table = self.fresh(&mut handle).await?;
        let table = table.ok_or_else(|| self.missing())?;
        if self.mark_of(table)? == entry {
            return Ok(());
        }
        self.commit(&mut handle, vec![], entry).await.map(drop).map_err(|failure| self.outside(failure))
    }

    /// Appends files that no ledger entry names, of rows whose Delta schema is `rows`: differences of a shadow. `mark` is the
    /// entry they were seen in, for people; nothing is fenced by it.
    pub async fn append(&self, files: &[FileAction], rows: &serde_json::Value, mark: u64) -> Result<()> {
        let mut handle = self.handle.lock().await;
        let merged = Merged {
            files: files.iter().map(|file| (mark, file.clone())).collect(),
            schema: Some(rows.clone()),
            expired: BTreeSet::new(),
            kept_from: None,
            last: mark,
        };
        let mut attempt = 0;
        loop {
            back_off(attempt).await;
            match self.append_once(&mut handle, &merged).await {
                Ok(()) => return Ok(()),
                Err(Failure::Again(_)) if attempt + 1 < ATTEMPTS => {
                    handle.forget();
                    attempt += 1;
                }
                Err(failure) => return Err(self.outside(failure)),
            }
        }
    }

    async fn append_once(&self, handle: &mut Handle, merged: &Merged) -> Result<(), Failure> {
        let Some(table) = handle.fresh().await? else { return Err(self.missing().into()) };
        let actions = self.actions(table, merged)?;
        self.commit(handle, actions, merged.last).await.map(drop)
    }

    /// One commit at most, of one page of entries: the table may be less far than `head` then.
    async fn attempt(&self, handle: &mut Handle, ledger: &Ledger, head: u64) -> Result<Applied, Failure> {
        let bound = ledger.bound(self.outcome).await?;
        let Some(table) = handle.fresh().await? else { return Err(self.missing().into()) };
        let (version, identity) = (table.version(), table.id().to_owned());
        let mark = self.mark_of(table)?;
        // the caller's head may be old: another process appended and applied since
        let head = if mark > head { ledger.head().await?.max(head) } else { head };
        let (after, up_to) = match due(&self.name(), mark, head, &identity, bound.as_ref())? {
            Due::Nothing => return Ok(Applied { entry: mark, version: Some(version) }),
            Due::Entries { after, up_to } => (handle.idle_since(after), up_to),
        };
        let mut reached = after;
        while reached < up_to {
            let entries = ledger.page(reached, up_to).await?;
            let merged = merge(&entries, self.outcome)?;
            if !merged.files.is_empty() || !merged.expired.is_empty() || merged.kept_from.is_some() {
                let mut actions = self.actions(handle.state()?, &merged)?;
                if !merged.expired.is_empty() {
                    actions.extend(self.windows(version, &merged.expired).await?);
                }
                if let Some(kept_from) = merged.kept_from {
                    actions.extend(self.older_than(version, kept_from).await?);
                }
                let version = self.commit(handle, actions, merged.last).await?;
                return Ok(Applied { entry: merged.last, version: Some(version) });
            }
            reached = merged.last;
        }
        if reached - mark >= PAGE {
            let version = self.commit(handle, vec![], reached).await?;
            return Ok(Applied { entry: reached, version: Some(version) });
        }
        // Nothing for this table: its mark may stay a little behind. Whoever looks comes to the same end, at the price of
        // reading these entries again, which this process spares itself.
        handle.set_idle(mark, reached);
        Ok(Applied { entry: reached, version: Some(version) })
    }

    /// Wider metadata, where needed, then the files in the ledger's order.
    fn actions(&self, table: &State, merged: &Merged) -> Result<Vec<Action>, Failure> {
        let mut actions = Vec::with_capacity(merged.files.len() + 1);
        if let Some(rows) = &merged.schema {
            let wider = schema::widened(table.schema(), &schema::from_json(rows)?).map_err(|m| self.misfit(&m))?;
            if let Some(wider) = wider {
                let metadata = table.metadata().clone().with_schema(&wider).map_err(DeltaTableError::from)?;
                actions.push(Action::Metadata(metadata));
            }
        }
        let partitions: BTreeSet<&str> = table.metadata().partition_columns().iter().map(String::as_str).collect();
        for (entry, file) in &merged.files {
            if !partitions.iter().copied().eq(file.partition_values.keys().map(String::as_str)) {
                return Err(self.other_partitions(partitions.iter().copied(), *entry, file).into());
            }
            actions.push(add(file, true));
        }
        Ok(actions)
    }

    /// One strict compare-and-swap on the handle's snapshot: actions and mark. Answers the new version.
    async fn commit(&self, handle: &mut Handle, actions: Vec<Action>, mark: u64) -> Result<u64, Failure> {
        let mark = i64::try_from(mark).map_err(|_| Error::Host(format!("entry number {mark} is out of range")))?;
        if let Some(why) = handle.state()?.unsupported() {
            return Err(Error::Diverged(format!(
                "{} {why}: the table was changed. Put it back as it was",
                self.name()
            ))
            .into());
        }
        let operation = DeltaOperation::Write {
            mode: SaveMode::Append,
            partition_by: Some(self.partition_by.clone()).filter(|columns| !columns.is_empty()),
            predicate: None,
        };
        Ok(handle.commit(actions, operation, mark).await?)
    }

    fn mark_of(&self, table: &State) -> Result<u64> {
        u64::try_from(table.mark().unwrap_or(0))
            .map_err(|_| Error::Diverged(format!("{} has a negative progress mark: it is not of sluice", self.name())))
    }

    /// Whether rows of this schema can go into a table that is there.
    fn fits(&self, table: &State, rows: &StructType) -> Result<()> {
        if let Some(why) = table.unsupported() {
            return Err(Error::Config(format!("{} {why}; name another folder", self.name())));
        }
        schema::widened(table.schema(), rows).map_err(|mismatch| self.misfit(&mismatch))?;
        let partitions = table.metadata().partition_columns();
        if partitions != &self.partition_by[..] {
            let list = |columns: &[String]| match columns.is_empty() {
                true => "nothing".to_owned(),
                false => columns.join(", "),
            };
            return Err(Error::Config(format!(
                "{} is partitioned by {}, the pipeline says {}: set `partition_by` accordingly, or name another folder",
                self.name(),
                list(partitions),
                list(&self.partition_by)
            )));
        }
        Ok(())
    }

    fn name(&self) -> String {
        format!("{} ({})", self.outcome, self.location.written)
    }

    fn misfit(&self, mismatch: &schema::Mismatch) -> Error {
        Error::Config(format!(
            "{} has column `{}` as {}, the pipeline's rows have it as {}: change the schema or the column's name, or name \
             another folder",
            self.name(),
            mismatch.column,
            mismatch.table,
            mismatch.rows
        ))
    }

    fn other_partitions<'a>(&self, table: impl Iterator<Item = &'a str>, entry: u64, file: &FileAction) -> Error {
        let file_has: Vec<_> = file.partition_values.keys().map(String::as_str).collect();
        Error::Diverged(format!(
            "{} is partitioned by [{}], but ledger entry {entry} names {} with the partition columns [{}]: the table was \
             changed. Put the old one back, or see `sluice adopt --help`",
            self.name(),
            table.collect::<Vec<_>>().join(", "),
            file.path,
            file_has.join(", ")
        ))
    }

    fn missing(&self) -> Error {
        Error::Diverged(format!(
            "{} is not there, although the pipeline has begun: the table was removed. Put it back from a copy, or let \
             `sluice adopt` begin an empty one",
            self.name()
        ))
    }

    async fn fresh<'h>(&self, handle: &'h mut Handle) -> Result<Option<&'h State>> {
        match handle.fresh().await {
            Ok(table) => Ok(table),
            Err(error) => {
                let doing = format!("cannot read {}", self.name());
                Err(broken::explain(doing, &self.location, &self.store, error).await)
            }
        }
    }

    fn outside(&self, failure: Failure) -> Error {
        match failure {
            Failure::Again(error) => Error::environment(format!("cannot commit to {}", self.name()), error),
            Failure::Stop(error) => error,
        }
    }
}

#[async_trait]
impl Sink for DeltaSink {
    fn outcome(&self) -> Outcome {
        self.outcome
    }

    fn kind(&self) -> &'static str {
        "delta"
    }

    fn location(&self) -> &str {
        &self.location.written
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn files(&self) -> FileTarget {
        FileTarget { store: self.store.clone(), prefix: self.prefix.clone(), partition_by: self.partition_by.clone() }
    }

    async fn identity(&self) -> Result<Option<String>> {
        let mut handle = self.handle.lock().await;
        let table = self.fresh(&mut handle).await?;
        match table {
            Some(table) => Ok(Some(table.id().to_owned())),
            None => Ok(None),
        }
    }

    async fn check(&self, schema: &SchemaRef) -> Result<()> {
        let rows = schema::struct_type(schema)?;
        let mut handle = self.handle.lock().await;
        match self.fresh(&mut handle).await? {
            Some(table) => self.fits(table, &rows),
            None => Ok(()),
        }
    }

    async fn mark(&self) -> Result<Option<u64>> {
        let mut handle = self.handle.lock().await;
        let Some(table) = self.fresh(&mut handle).await? else { return Ok(None) };
        self.mark_of(table).map(Some)
    }

    fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    fn delta(&self) -> Option<&DeltaSink> {
        Some(self)
    }

    async fn create(&self, schema: &SchemaRef) -> Result<String> {
        let rows = schema::struct_type(schema)?;
        let mut handle = self.handle.lock().await;
        let mut failed = None;
        for attempt in 0..ATTEMPTS {
            back_off(attempt).await;
            if let Some(table) = self.fresh(&mut handle).await? {
                self.fits(table, &rows)?;
                return Ok(table.id().to_owned());
            }
            // whoever loses the race for version 0 finds the winner's table in the next round
            failed = handle.create(&rows, &self.partition_by).await.err();
        }
        let why = failed.unwrap_or_else(|| DeltaTableError::generic("it vanishes as soon as it is created"));
        Err(Error::environment(format!("cannot create {} after {ATTEMPTS} attempts", self.name()), why))
    }

    async fn apply(&self, ledger: &Ledger, head: u64) -> Result<Applied> {
        let mut handle = self.handle.lock().await;
        let mut attempt = 0;
        loop {
            back_off(attempt).await;
            match self.attempt(&mut handle, ledger, head).await {
                Ok(applied) if applied.entry >= head => return Ok(applied),
                Ok(_) => attempt = 0, // a page further
                Err(Failure::Stop(error)) => return Err(error),
                Err(Failure::Again(error)) => {
                    tracing::debug!(sink = %self.outcome, attempt, %error, "apply begins again");
                    handle.forget();
                    attempt += 1;
                    self.retries.fetch_add(1, Ordering::Relaxed);
                    if attempt == ATTEMPTS {
                        let doing = format!("cannot commit to {} after {ATTEMPTS} attempts", self.name());
                        return Err(broken::explain(doing, &self.location, &self.store, error).await);
                    }
                }
            }
        }
    }
}

/// Names a file from here on; `data_change` where its rows are new.
fn add(file: &FileAction, data_change: bool) -> Action {
    Action::Add(Add {
        path: file.path.clone(),
        partition_values: file.partition_values.clone().into_iter().collect(),
        size: file.size,
        modification_time: Utc::now().timestamp_millis(),
        data_change,
        stats: Some(file.stats.clone()),
        ..Add::default()
    })
}

/// Waits before every attempt but the first, each time about twice as long; never in step with others.
async fn back_off(attempt: u32) {
    if attempt > 0 {
        let longest = (BACKOFF * 2u32.pow(attempt - 1)).min(Duration::from_secs(1));
        tokio::time::sleep(longest.mul_f64(rand::random_range(0.5..1.0))).await;
    }
}

#[cfg(test)]
mod tests;
