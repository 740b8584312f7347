//! What must be known of a Delta table to append to it: as fresh as its log, at a cost that does not grow with the table.
//!
//! deltalake's table holds every live file and goes through all of them for every commit. A follower of the ledger asks
//! for four things only: version, metadata, protocol and its own progress mark. They are read once by deltalake and from
//! then on kept up by reading each later commit by its name: versions follow each other without a hole, so where the next
//! one is not there, none is. Nothing is listed and no file is remembered. It knows nothing of the ledger.

use std::sync::Arc;

use deltalake::kernel::transaction::{CommitData, CommitProperties, PROTOCOL};
use deltalake::kernel::{Action, Metadata, Protocol, Snapshot, StructType, StructTypeExt, Transaction};
use deltalake::logstore::{CommitOrBytes, LogStoreRef, commit_uri_from_version};
use deltalake::operations::create::CreateBuilder;
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::{DeltaTable, DeltaTableBuilder, DeltaTableError, TableProperty};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use serde::Deserialize;
use uuid::Uuid;

use super::log;
use crate::config::Location;

type DeltaResult<T> = std::result::Result<T, DeltaTableError>;

/// Versions from one checkpoint to the next where the table does not say: Delta's default.
const CHECKPOINT_INTERVAL: u64 = 100;

/// What follows the application's name where its sweeps are counted.
const SWEEPS: &str = "/sweeps";

/// Features that an appender need not know more of: they say how rows are read or removed, or are looked for in the
/// table's properties and schema ([`unsupported`]).
const HARMLESS_FEATURES: &[&str] = &[
    "appendOnly",
    "changeDataFeed",
    "checkConstraints",
    "columnMapping",
    "deletionVectors",
    "generatedColumns",
    "invariants",
    "timestampNtz",
    "v2Checkpoint",
    "variantType",
    "variantType-preview",
];

/// A table at one version, as far as an appender must know it.
#[derive(Clone, Debug)]
pub struct State {
    version: u64,
    metadata: Metadata,
    protocol: Protocol,
    schema: StructType,
    /// the version of our application's transaction
    mark: Option<i64>,
    /// the version of our application's transaction of sweeps, 0 where there was none
    sweeps: i64,
    /// why nothing may be appended
    unsupported: Option<String>,
}

/// The actions of a commit that change a [`State`]; most lines are files, and are passed over.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    meta_data: Option<Metadata>,
    protocol: Option<Protocol>,
    txn: Option<Transaction>,
}

impl State {
    fn new(version: u64, metadata: Metadata, protocol: Protocol, marks: (Option<i64>, i64)) -> DeltaResult<State> {
        let schema = metadata.parse_schema()?;
        let unsupported = unsupported(&metadata, &protocol, &schema);
        Ok(State { version, metadata, protocol, schema, mark: marks.0, sweeps: marks.1, unsupported })
    }

    /// Its version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Its identity.
    pub fn id(&self) -> &str {
        self.metadata.id()
    }

    /// Its metadata, to be changed and committed again.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Its columns.
    pub fn schema(&self) -> &StructType {
        &self.schema
    }

    /// The progress mark, `None` where there is none yet.
    pub fn mark(&self) -> Option<i64> {
        self.mark
    }

    /// How many times orphans were swept from it: whoever wrote files before that must not name them after it.
    pub fn sweeps(&self) -> i64 {
        self.sweeps
    }

    /// Why sluice must not write into this table; reads on from its name. Its commits add files and check no row.
    pub fn unsupported(&self) -> Option<&str> {
        self.unsupported.as_deref()
    }

    /// Goes on to the next version, whose commit has this text.
    fn follow(&mut self, commit: &[u8], application: &str) -> DeltaResult<()> {
        let mut changed = false;
        for line in serde_json::Deserializer::from_slice(commit).into_iter::<Line>() {
            let line = line.map_err(|e| {
                DeltaTableError::generic(format!("version {} of the table is no Delta commit: {e}", self.version + 1))
            })?;
            if let Some(metadata) = line.meta_data {
                (self.metadata, changed) = (metadata, true);
            }
            if let Some(protocol) = line.protocol {
                (self.protocol, changed) = (protocol, true);
            }
            if let Some(txn) = line.txn {
                if txn.app_id == application {
                    self.mark = Some(txn.version);
                } else if txn.app_id.strip_prefix(application) == Some(SWEEPS) {
                    self.sweeps = txn.version;
                }
            }
        }
        let version = self.version + 1;
        if changed {
            *self = State::new(version, self.metadata.clone(), self.protocol.clone(), (self.mark, self.sweeps))?;
        }
        self.version = version;
        Ok(())
    }

    fn checkpoint_interval(&self) -> u64 {
        let written = self.metadata.configuration().get("delta.checkpointInterval");
        written.and_then(|n| n.parse().ok()).filter(|n| *n > 0).unwrap_or(CHECKPOINT_INTERVAL)
    }
}

/// A table, once it is there.
pub struct Handle {
    location: Location,
    store: Arc<dyn ObjectStore>,
    application: String,
    log: Option<LogStoreRef>,
    state: Option<State>,
    /// the commit file of the state's version, to notice that a table was replaced by another with the same name
    seen: Option<ObjectMeta>,
    /// entries in `(mark, up_to]` ask nothing of this table
    idle: Option<(u64, u64)>,
}

impl Handle {
    /// A handle that has not looked yet. `application` is whose transactions are its progress mark.
    pub fn new(location: Location, store: Arc<dyn ObjectStore>, application: String) -> Self {
        Handle { location, store, application, log: None, state: None, seen: None, idle: None }
    }

    /// The table as it is now, or `None` where there is none.
    pub async fn fresh(&mut self) -> DeltaResult<Option<&State>> {
        let log = self.log()?;
        let version = match &self.state {
            Some(state) if self.seen == commit_file(&log, state.version).await? => state.version,
            // not looked yet, or someone removed or replaced the table, or cleaned its log further than we have read
            Some(_) | None => match self.read(&log).await? {
                Some(state) => self.state.insert(state).version,
                None => {
                    self.forget();
                    return Ok(None);
                }
            },
        };
        let Some(state) = &mut self.state else { return Ok(None) };
        while let Some(commit) = log.read_commit_entry(state.version + 1).await? {
            state.follow(&commit, &self.application)?;
        }
        if self.seen.is_none() || state.version != version {
            self.seen = commit_file(&log, state.version).await?;
        }
        Ok(self.state.as_ref())
    }

    /// The table as [`fresh`](Self::fresh) last saw it.
    pub fn state(&self) -> DeltaResult<&State> {
        self.state.as_ref().ok_or(DeltaTableError::NotInitialized)
    }

    /// Reads the table anew next time.
    pub fn forget(&mut self) {
        (self.state, self.seen) = (None, None);
    }

    /// One strict compare-and-swap: the version after the one that [`fresh`](Self::fresh) last saw, created only if it is
    /// not there yet. Answers it. On an error the commit may be there all the same.
    pub async fn commit(&mut self, actions: Vec<Action>, operation: DeltaOperation, mark: i64) -> DeltaResult<u64> {
        let log = self.log()?;
        let state = self.state.as_mut().ok_or(DeltaTableError::NotInitialized)?;
        let version = state.version + 1;
        let marks = vec![Transaction::new(&self.application, mark)];
        let commit = CommitData::new(actions, operation, Default::default(), marks).get_bytes()?;
        log.write_commit_entry(version, CommitOrBytes::LogBytes(commit.clone()), Uuid::new_v4()).await?;
        // From here on it stands: what fails is noticed by reading the table anew, and must not look like a failed commit.
        let followed = state.follow(&commit, &self.application);
        let due = (version + 1).is_multiple_of(state.checkpoint_interval());
        match (followed, commit_file(&log, version).await) {
            (Ok(()), Ok(Some(file))) => self.seen = Some(file),
            _ => self.forget(),
        }
        if due {
            if let Err(error) = log::tend(&log, version).await {
                tracing::warn!(table = %self.location.written, version, %error, "committed, but the log was not tended");
            }
            // a good moment to find out that it is as it was followed
            self.forget();
        }
        Ok(version)
    }

    /// Says in the table that its orphans are swept from here on: whoever wrote files and has not named them yet, begins
    /// anew. Another's commit in between is an error, and calls for another attempt on what is [`fresh`](Self::fresh).
    pub async fn begin_sweep(&mut self) -> DeltaResult<()> {
        let Some((sweeps, mark)) = self.fresh().await?.map(|state| (state.sweeps, state.mark)) else { return Ok(()) };
        let Some(mark) = mark else { return Ok(()) };
        let sweep = Transaction::new(format!("{}{SWEEPS}", self.application), sweeps + 1);
        let operation = DeltaOperation::Write { mode: SaveMode::Append, partition_by: None, predicate: None };
        let committed = self.commit(vec![Action::Txn(sweep)], operation, mark).await.map(drop);
        if committed.is_err() {
            self.forget();
        }
        committed
    }

    /// The text of a version's commit, `None` where the log has it no more.
    pub async fn commit_of(&mut self, version: u64) -> DeltaResult<Option<bytes::Bytes>> {
        self.log()?.read_commit_entry(version).await
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
        let log_store = self.log()?;
        self.forget();
        CreateBuilder::new()
            .with_log_store(log_store)
            .with_columns(columns.fields().cloned())
            .with_partition_columns(partition_by)
            // without these, every commit of another writer lists the whole log
            .with_configuration_property(TableProperty::LogRetentionDuration, Some("interval 1 day"))
            .with_configuration_property(TableProperty::EnableExpiredLogCleanup, Some("false"))
            .with_commit_properties(
                CommitProperties::default().with_max_retries(0).with_cleanup_expired_logs(Some(false)),
            )
            .await
            .map(drop)
    }

    async fn read(&self, log: &LogStoreRef) -> DeltaResult<Option<State>> {
        if !log.is_delta_table_location().await? {
            return Ok(None);
        }
        let snapshot = Snapshot::try_new(log.as_ref(), None).await?;
        // the way to the snapshot that knows transactions without having read a single file's line
        let kernel = snapshot.scan_builder().build()?.snapshot().clone();
        let (engine, application) = (log.engine(None), self.application.clone());
        let marks = tokio::task::spawn_blocking(move || {
            let mark = kernel.get_app_id_version(&application, engine.as_ref())?;
            let sweeps = kernel.get_app_id_version(&format!("{application}{SWEEPS}"), engine.as_ref())?;
            Ok::<_, DeltaTableError>((mark, sweeps.unwrap_or(0)))
        });
        let marks = marks.await.map_err(DeltaTableError::generic)??;
        State::new(snapshot.version(), snapshot.metadata().clone(), snapshot.protocol().clone(), marks).map(Some)
    }

    fn log(&mut self) -> DeltaResult<LogStoreRef> {
        match &self.log {
            Some(log) => Ok(log.clone()),
            None => Ok(self.log.insert(unloaded(&self.location, self.store.clone())?.log_store()).clone()),
        }
    }
}

async fn commit_file(log: &LogStoreRef, version: u64) -> DeltaResult<Option<ObjectMeta>> {
    match log.object_store(None).head(&commit_uri_from_version(Some(version))).await {
        Ok(meta) => Ok(Some(meta)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The table at a location as it is now, with all its files, or `None` where there is none. `store` is rooted where the
/// location's URL is.
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

fn unsupported(metadata: &Metadata, protocol: &Protocol, schema: &StructType) -> Option<String> {
    if let Err(why) = PROTOCOL.can_read_from_protocol(protocol) {
        return Some(format!("cannot be read ({why})"));
    }
    let version = protocol.min_writer_version();
    if version == 6 || version > 7 {
        return Some(format!("asks for writers of version {version}, which sluice is not"));
    }
    let features = serde_json::to_value(protocol).unwrap_or_default();
    let mut features = features["writerFeatures"].as_array().into_iter().flatten().filter_map(|name| name.as_str());
    if let Some(feature) = features.find(|name| !HARMLESS_FEATURES.contains(name)) {
        return Some(format!("has the feature `{feature}`, which sluice cannot follow"));
    }
    let configuration = metadata.configuration();
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
