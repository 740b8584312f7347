//! Where rows go: followers of the ledger.
//!
//! A sink decides nothing. Rows are written into durable files first ([`files`]), the ledger's entry names the files, and
//! then the sink *applies* entries: each in one transaction of its own, with its progress mark in the same transaction.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use object_store::ObjectStore;
use object_store::path::Path;

use crate::error::{Doing, Result};
use crate::ledger::Ledger;
use crate::outcome::Outcome;

pub mod delta;
pub mod files;
pub mod look;
pub mod stdout;

#[cfg(test)]
pub(crate) mod fixture;

/// What a sink promises about each row, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Guarantee {
    /// nothing survives a crash: rows may be missing or come again
    None,
    /// every row at least once
    AtLeastOnce,
    /// every row exactly once
    ExactlyOnce,
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Guarantee::None => "no guarantee",
            Guarantee::AtLeastOnce => "at least once",
            Guarantee::ExactlyOnce => "exactly once",
        })
    }
}

/// Where a sink wants its durable files.
#[derive(Clone, Debug)]
pub struct FileTarget {
    /// the store, syncing where it is local
    pub store: Arc<dyn ObjectStore>,
    /// the folder within the store; paths in [`FileAction`](crate::ledger::FileAction) are relative to it
    pub prefix: Path,
    /// columns that partition the table: one file per distinct combination of values
    pub partition_by: Vec<String>,
}

impl FileTarget {
    /// The object behind a path as it stands in an action.
    pub fn object(&self, path: &str) -> Result<Path> {
        // parsed and not built from parts: that would percent-encode the partition values a second time
        Path::parse(format!("{}/{path}", self.prefix)).doing(|| format!("no object can have the path {path}"))
    }
}

/// How far a sink has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// number of the last entry in it
    pub entry: u64,
    /// version of the table, where it has versions
    pub version: Option<u64>,
}

/// A follower of the ledger.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Which rows it takes.
    fn outcome(&self) -> Outcome;

    /// `delta`, `stdout`: the key under which the user named it.
    fn kind(&self) -> &'static str;

    /// The location as the user wrote it, for messages.
    fn location(&self) -> &str;

    /// What it promises about each row.
    fn guarantee(&self) -> Guarantee;

    /// Where to write the files that its entries name.
    fn files(&self) -> FileTarget;

    /// The identity of the target, `None` when there is none yet.
    async fn identity(&self) -> Result<Option<String>>;

    /// The entry that its progress mark names, 0 where it has none, `None` where there is no target or no mark.
    async fn mark(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    /// Whether rows of this schema can go into the target that is there; nothing is wrong where there is none.
    async fn check(&self, schema: &SchemaRef) -> Result<()> {
        let _ = schema;
        Ok(())
    }

    /// How often [`Sink::apply`] began anew since the sink was opened: another writer was faster, or a store had trouble.
    fn retries(&self) -> u64 {
        0
    }

    /// The Delta table that it is, where it is one: what puts files together takes turns with what appends them.
    fn delta(&self) -> Option<&delta::DeltaSink> {
        None
    }

    /// Creates the target for rows of this schema where it is missing; answers its identity.
    async fn create(&self, schema: &SchemaRef) -> Result<String>;

    /// Brings the target up to `head`: a fresh look at its progress mark `a`, then everything in `(a, head]` in one
    /// transaction. Refuses (`Error::Diverged`) where the mark is beyond the head, or the target's identity differs from
    /// the one that the fold binds. Anyone may apply anyone's entries; to repeat it changes nothing.
    async fn apply(&self, ledger: &Ledger, head: u64) -> Result<Applied>;
}
