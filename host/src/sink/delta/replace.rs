//! Files of a table instead of others with the same rows: one commit that changes no row, and takes its turn with what
//! this process appends.
//!
//! It is a compare-and-swap on the newest version. What came since the rows were read is only looked at for whether it took
//! one of the files away: an append is no reason to do the work again, and looking takes as long as reading a few commits.

use std::collections::HashSet;

use deltalake::DeltaTableError;
use deltalake::kernel::{Action, Remove};
use deltalake::protocol::DeltaOperation;
use serde::Deserialize;

use super::{ATTEMPTS, DeltaSink, Handle, add, back_off, load};
use crate::error::{Doing, Result};
use crate::ledger::FileAction;

type DeltaResult<T> = std::result::Result<T, DeltaTableError>;

/// Files with the same rows as others.
#[derive(Debug)]
pub struct Replacement<'a> {
    /// the version that names all of `gone`
    pub version: u64,
    /// how many times orphans had been swept before the rows were read: see [`DeltaSink::sweeps`]
    pub sweeps: i64,
    /// what is named no more
    pub gone: &'a [Remove],
    /// what is named instead
    pub made: &'a [FileAction],
    /// bytes that a file should have, for the table's history
    pub target: i64,
}

/// What became of the files up to a version.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Since {
    /// nothing
    Same,
    /// some of them are not named any more
    Gone,
    /// the new ones are named
    Done,
}

#[derive(Deserialize)]
struct Line {
    add: Option<Named>,
    remove: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    path: String,
}

impl DeltaSink {
    /// How many times orphans were swept from the table: files that were written before the next time are not to be named
    /// after it. `None` where there is no table, or nothing in it.
    pub async fn sweeps(&self) -> Result<Option<i64>> {
        let mut handle = self.handle.lock().await;
        let state = self.fresh(&mut handle).await?;
        Ok(state.filter(|state| state.mark().is_some()).map(|state| state.sweeps()))
    }

    /// Says in the table that its orphans are swept from here on: whoever wrote files and has not named them yet, begins anew.
    pub async fn begin_sweep(&self) -> Result<()> {
        let mut failed = None;
        for attempt in 0..ATTEMPTS {
            back_off(attempt).await;
            match self.handle.lock().await.begin_sweep().await {
                Ok(()) => return Ok(()),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(()), Err).doing(|| format!("cannot commit to {}", self.name()))
    }

    /// Names files instead of others; `false` where somebody else took some of these first, or a sweep the new ones.
    pub async fn replace(&self, files: &Replacement<'_>) -> Result<bool> {
        let doing = || format!("cannot commit to {}", self.name());
        let mut failed = None;
        let mut looked_at = files.version;
        for attempt in 0..ATTEMPTS {
            back_off(attempt).await;
            let mut handle = self.handle.lock().await;
            match self.replace_once(&mut handle, files, &mut looked_at).await {
                Ok(replaced) => return Ok(replaced),
                Err(error) => {
                    handle.forget();
                    failed = Some(error);
                }
            }
        }
        // what was written is an orphan, or named all the same: the next compaction finds out
        failed.map_or(Ok(false), Err).doing(doing)
    }

    async fn replace_once(
        &self,
        handle: &mut Handle,
        files: &Replacement<'_>,
        looked_at: &mut u64,
    ) -> DeltaResult<bool> {
        let Some(state) = handle.fresh().await? else { return Ok(false) };
        if let Some(why) = state.unsupported() {
            return Err(DeltaTableError::generic(format!("it {why}")));
        }
        let Some(mark) = state.mark() else { return Ok(false) };
        let (version, sweeps) = (state.version(), state.sweeps());
        match self.since(handle, files, *looked_at, version).await? {
            Since::Done => return Ok(true), // an attempt that was said to have failed is there
            Since::Gone => return Ok(false),
            Since::Same => *looked_at = version,
        }
        if sweeps != files.sweeps {
            return Ok(false);
        }
        let gone = files.gone.iter().map(|file| {
            let now = Some(chrono::Utc::now().timestamp_millis());
            Action::Remove(Remove { deletion_timestamp: now, data_change: false, ..file.clone() })
        });
        let actions = gone.chain(files.made.iter().map(|file| add(file, false))).collect();
        let operation = DeltaOperation::Optimize { predicate: None, target_size: files.target };
        handle.commit(actions, operation, mark).await.map(|_| true)
    }

    /// What became of the files after version `from` and up to `to`.
    async fn since(&self, handle: &mut Handle, files: &Replacement<'_>, from: u64, to: u64) -> DeltaResult<Since> {
        let gone: HashSet<&str> = files.gone.iter().map(|file| last(&file.path)).collect();
        let made: HashSet<&str> = files.made.iter().map(|file| last(&file.path)).collect();
        for version in from + 1..=to {
            let Some(commit) = handle.commit_of(version).await? else {
                // its log was shortened beside us: the table itself knows
                let now = load(&self.location, self.store.clone()).await?;
                let now = now.filter(|now| now.version() == Some(to));
                let now = now.ok_or_else(|| DeltaTableError::generic("the table went on while it was read"))?;
                let named: HashSet<String> =
                    now.snapshot()?.log_data().iter().map(|file| last(&file.path()).to_owned()).collect();
                return Ok(match () {
                    () if made.iter().any(|name| named.contains(*name)) => Since::Done,
                    () if gone.iter().all(|name| named.contains(*name)) => Since::Same,
                    () => Since::Gone,
                });
            };
            for line in serde_json::Deserializer::from_slice(&commit).into_iter::<Line>() {
                let line =
                    line.map_err(|e| DeltaTableError::generic(format!("version {version} is no commit: {e}")))?;
                if line.add.is_some_and(|add| made.contains(last(&add.path))) {
                    return Ok(Since::Done);
                }
                // of a bin that is not whole any more nothing is named: somebody else put some of it together, or removed rows
                if line.remove.is_some_and(|remove| gone.contains(last(&remove.path))) {
                    return Ok(Since::Gone);
                }
            }
        }
        Ok(Since::Same)
    }
}

/// Names are compared, not paths: they are unique by themselves, and need no word on how a path is encoded.
fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
