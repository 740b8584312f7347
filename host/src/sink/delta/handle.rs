//! An open Delta table that is as fresh as its log, and cheap to keep so.
//!
//! It knows Delta and nothing of pipelines or the ledger.

use std::sync::Arc;

use deltalake::kernel::transaction::{CommitProperties, FinalizedCommit};
use deltalake::kernel::{StructType, StructTypeExt};
use deltalake::operations::create::CreateBuilder;
use deltalake::table::state::DeltaTableState;
use deltalake::{DeltaTable, DeltaTableBuilder, DeltaTableError, TableProperty};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use uuid::Uuid;

use crate::config::Location;

type DeltaResult<T> = std::result::Result<T, DeltaTableError>;

/// Commits and looks after which the table is opened anew: a long-lived handle slows down with each.
const REOPEN: u32 = 32;

/// A table, once it is there.
pub struct Handle {
    location: Location,
    store: Arc<dyn ObjectStore>,
    table: Option<DeltaTable>,
    /// the commit file of the table's version, to notice that a table was replaced by another with the same name
    seen: Option<ObjectMeta>,
    uses: u32,
    /// entries in `(mark, up_to]` ask nothing of this table
    idle: Option<(u64, u64)>,
}

impl Handle {
    /// A handle that has not looked yet.
    pub fn new(location: Location, store: Arc<dyn ObjectStore>) -> Self {
        Handle { location, store, table: None, seen: None, uses: 0, idle: None }
    }

    /// The table as it is now, or `None` where there is none.
    pub async fn fresh(&mut self) -> DeltaResult<Option<&DeltaTable>> {
        self.uses += 1;
        if self.uses > REOPEN || self.seen != self.commit_file().await? {
            self.forget();
        }
        match &mut self.table {
            Some(table) => table.update_state().await?,
            None => {
                self.table = load(&self.location, self.store.clone()).await?;
                self.uses = 0;
            }
        }
        self.seen = self.commit_file().await?;
        Ok(self.table.as_ref())
    }

    /// The table as [`fresh`](Self::fresh) last saw it.
    pub fn table(&self) -> DeltaResult<&DeltaTable> {
        self.table.as_ref().ok_or(DeltaTableError::NotInitialized)
    }

    /// Opens the table anew next time.
    pub fn forget(&mut self) {
        (self.table, self.seen) = (None, None);
    }

    /// Goes on from an own commit; tends the log after a checkpoint.
    pub async fn committed(&mut self, done: FinalizedCommit) {
        let Some(table) = &mut self.table else { return };
        table.state = Some(done.snapshot());
        if done.metrics.new_checkpoint_created {
            // listing the log costs most there is to a commit, so it is done where it has got long
            if let Err(error) = deltalake::checkpoints::cleanup_metadata(table, Some(Uuid::new_v4())).await {
                tracing::warn!(table = %self.location.written, %error, "old commits stay in the table's log");
            }
            self.forget();
            return;
        }
        match self.commit_file().await {
            Ok(file) => self.seen = file,
            Err(_) => self.forget(),
        }
    }

    /// `mark`, or how far it is known that nothing comes after it.
    pub fn idle_since(&self, mark: u64) -> u64 {
        match self.idle {
            Some((from, up_to)) if from <= mark => mark.max(up_to),
            _ => mark,
        }
    }

    /// Nothing in `(mark, up_to]` is for this table.
    pub fn set_idle(&mut self, mark: u64, up_to: u64) {
        self.idle = Some((mark, up_to));
    }

    /// Creates the table at the lowest protocol. An error may mean that another was first.
    pub async fn create(&mut self, columns: &StructType, partition_by: &[String]) -> DeltaResult<()> {
        let log_store = unloaded(&self.location, self.store.clone())?.log_store();
        self.forget();
        CreateBuilder::new()
            .with_log_store(log_store)
            .with_columns(columns.fields().cloned())
            .with_partition_columns(partition_by)
            // without these, every commit lists the whole log
            .with_configuration_property(TableProperty::LogRetentionDuration, Some("interval 1 day"))
            .with_configuration_property(TableProperty::EnableExpiredLogCleanup, Some("false"))
            .with_commit_properties(
                CommitProperties::default().with_max_retries(0).with_cleanup_expired_logs(Some(false)),
            )
            .await
            .map(drop)
    }

    async fn commit_file(&self) -> DeltaResult<Option<ObjectMeta>> {
        let Some(table) = &self.table else { return Ok(None) };
        let Some(version) = table.version() else { return Ok(None) };
        let path = Path::from(format!("_delta_log/{version:020}.json"));
        match table.object_store().head(&path).await {
            Ok(meta) => Ok(Some(meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// The table at a location as it is now, or `None` where there is none. `store` is rooted where the location's URL is.
pub async fn load(location: &Location, store: Arc<dyn ObjectStore>) -> DeltaResult<Option<DeltaTable>> {
    let mut table = unloaded(location, store)?;
    if !table.verify_deltatable_existence().await? {
        return Ok(None);
    }
    table.load().await?;
    Ok(Some(table))
}

/// The table at a location, nothing read yet. `store` is rooted where the location's URL is.
pub fn unloaded(location: &Location, store: Arc<dyn ObjectStore>) -> DeltaResult<DeltaTable> {
    DeltaTableBuilder::from_url(location.url.clone())?.with_storage_backend(store, location.url.clone()).build()
}

/// Why sluice must not write into this table; reads on from its name. Its commits add files and check no row.
pub fn unsupported(state: &DeltaTableState) -> Option<String> {
    let configuration = state.metadata().configuration();
    let is_set = |key: &str| configuration.get(key).is_some_and(|v| !matches!(v.as_str(), "false" | "none"));
    for (key, what) in [
        ("delta.columnMapping.mode", "maps its columns to other names"),
        ("delta.enableRowTracking", "numbers its rows"),
        ("delta.enableIcebergCompatV1", "is an Iceberg table, too"),
        ("delta.enableIcebergCompatV2", "is an Iceberg table, too"),
        ("delta.setTransactionRetentionDuration", "forgets progress marks after a time"),
    ] {
        if is_set(key) {
            return Some(format!("{what} (`{key}`), which sluice cannot follow"));
        }
    }
    if let Some(key) = configuration.keys().find(|key| key.starts_with("delta.constraints.")) {
        return Some(format!("has the constraint `{key}`, which sluice does not check; write it as an expectation"));
    }
    let schema = state.schema();
    if schema.get_generated_columns().is_ok_and(|columns| !columns.is_empty()) {
        return Some("has generated columns, which sluice does not compute".into());
    }
    if let Some(field) = schema.fields().find(|field| !field.nullable) {
        return Some(format!(
            "demands a value in column `{}` (NOT NULL), which sluice does not check; write it as an expectation",
            field.name
        ));
    }
    None
}
