//! The files of one window in staging: what the table names now, and what their footers say of the rows in them.
//!
//! It reads no rows. Row groups of which a footer tells that all rows have an error finding, or none, can be taken over as
//! they are.

use std::sync::Arc;

use bytes::Bytes;
use deltalake::DeltaTable;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::statistics::Statistics;

use crate::error::{Doing, Error, Result};
use crate::ledger::FileAction;
use crate::schema::{REJECTED, WINDOW};
use crate::sink::FileTarget;
use crate::sink::files::splice::Encoded;

/// Bytes at the end of a file that are read first: a footer is nearly always shorter.
const TAIL: u64 = 64 << 10;

/// Footers that are read at the same time.
const AT_ONCE: usize = 8;

/// Files of a window whose footers stay in memory, some ten KiB each; of more, they are read again.
const KEPT: usize = 256;

/// The files of a window.
pub struct Staged {
    source: FileTarget,
    files: Vec<StagedFile>,
}

/// A file, and what is known of each of its row groups.
pub struct StagedFile {
    /// as the table names it
    pub action: FileAction,
    /// in their order
    pub groups: Vec<Group>,
    footer: Option<Arc<ParquetMetaData>>,
}

/// A row group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// rows in it
    pub rows: u64,
    /// whether all of them have an error finding, or none of them; `None` where that is not known
    pub rejected: Option<bool>,
}

impl Staged {
    /// The files of window `key` in a table whose files lie in `source`.
    pub async fn of(table: &DeltaTable, source: FileTarget, key: &str) -> Result<Staged> {
        let doing = || format!("cannot read the files of window {key} in staging");
        let mut named = Vec::new();
        for file in table.snapshot().doing(doing)?.log_data().iter() {
            let partition_values = file.partition_values_map();
            if partition_values.get(WINDOW).and_then(Option::as_deref) != Some(key) {
                continue;
            }
            if file.deletion_vector_descriptor().is_some() {
                let what = format!("another writer removed rows from {} in staging", file.path());
                return Err(Error::Diverged(format!("{what}: bring the table back to a version before that")));
            }
            named.push(FileAction {
                path: file.path().into_owned(),
                size: file.size(),
                rows: 0,
                partition_values: partition_values.into_iter().collect(),
                stats: String::new(),
            });
        }
        let is_kept = named.len() <= KEPT;
        let files = futures::stream::iter(named).map(|action| StagedFile::read(&source, action, is_kept));
        let files = files.buffered(AT_ONCE).try_collect().await?;
        Ok(Staged { source, files })
    }

    /// Where the files lie.
    pub fn source(&self) -> &FileTarget {
        &self.source
    }

    /// The files.
    pub fn files(&self) -> &[StagedFile] {
        &self.files
    }

    /// Rows in them.
    pub fn rows(&self) -> u64 {
        self.groups().map(|group| group.rows).sum()
    }

    /// Rows with an error finding; `None` where the footers do not tell.
    pub fn rejected(&self) -> Option<u64> {
        self.groups().map(|group| group.rejected.map(|rejected| if rejected { group.rows } else { 0 })).sum()
    }

    /// Rows of the groups in which all rows have an error finding, or none has one.
    pub fn rows_that_are(&self, rejected: bool) -> u64 {
        self.groups().filter(|group| group.rejected == Some(rejected)).map(|group| group.rows).sum()
    }

    /// The footer of a file.
    pub async fn footer(&self, file: &StagedFile) -> Result<Arc<ParquetMetaData>> {
        match &file.footer {
            Some(footer) => Ok(footer.clone()),
            None => Ok(Arc::new(footer(&self.source, &file.action).await?)),
        }
    }

    /// The encoded columns of a row group.
    pub async fn encoded(&self, file: &StagedFile, group: &RowGroupMetaData) -> Result<Encoded> {
        let ranges = || group.columns().iter().map(|column| column.byte_range());
        let from = ranges().map(|(from, _)| from).min().unwrap_or(0);
        let to = ranges().map(|(from, length)| from + length).max().unwrap_or(0);
        Ok(Encoded { bytes: bytes(&self.source, &file.action, from, to).await?, from })
    }

    fn groups(&self) -> impl Iterator<Item = &Group> {
        self.files.iter().flat_map(|file| &file.groups)
    }
}

impl StagedFile {
    async fn read(source: &FileTarget, action: FileAction, is_kept: bool) -> Result<StagedFile> {
        let footer = footer(source, &action).await?;
        let group = |group: &RowGroupMetaData| Group {
            rows: u64::try_from(group.num_rows()).unwrap_or(0),
            rejected: rejected(group),
        };
        let groups: Vec<Group> = footer.row_groups().iter().map(group).collect();
        let rows = groups.iter().map(|group| group.rows).sum();
        Ok(StagedFile { action: FileAction { rows, ..action }, groups, footer: is_kept.then(|| footer.into()) })
    }
}

async fn footer(source: &FileTarget, file: &FileAction) -> Result<ParquetMetaData> {
    let doing = || format!("cannot read the footer of {} in staging", file.path);
    let size = u64::try_from(file.size).unwrap_or(0);
    let mut from = size.saturating_sub(TAIL);
    loop {
        let tail = bytes(source, file, from, size).await?;
        let mut reader = ParquetMetaDataReader::new();
        match reader.try_parse_sized(&tail, size) {
            Ok(()) => return reader.finish().doing(doing),
            Err(ParquetError::NeedMoreData(needed)) if from > 0 => {
                from = size.saturating_sub((needed as u64).max(2 * (size - from)));
            }
            Err(error) => return Err(error).doing(doing),
        }
    }
}

async fn bytes(source: &FileTarget, file: &FileAction, from: u64, to: u64) -> Result<Bytes> {
    let read = source.store.get_range(&source.object(&file.path)?, from..to).await;
    read.doing(|| format!("cannot read {} in staging", file.path))
}

/// Whether all rows of a group have an error finding, or none, as its footer has it.
fn rejected(group: &RowGroupMetaData) -> Option<bool> {
    let column = group.columns().iter().find(|column| column.column_path().parts() == [REJECTED])?;
    match column.statistics()? {
        Statistics::Boolean(flags) if flags.null_count_opt() == Some(0) => {
            flags.min_opt().filter(|least| flags.max_opt() == Some(*least)).copied()
        }
        _ => None,
    }
}
