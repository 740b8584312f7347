//! Durable Parquet files, written before the ledger's entry names them.
//!
//! A [`TableWriter`] belongs to one worker, one sink and one entry. It runs on a plain thread: only the upload of
//! finished bytes goes through the async runtime. It commits nothing, and knows neither ledger nor table: a file that no
//! entry names does not exist for anyone.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::row::OwnedRow;
use object_store::path::Path;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::crash;
use crate::error::{Doing, Error, Result};
use crate::ledger::FileAction;
use crate::schema::REJECTED;
use crate::sink::FileTarget;
use crate::store::failed;

mod open;
mod partition;
pub mod scan;
pub mod splice;
mod stats;
mod upload;

use open::{OpenFile, are_apart};
use partition::{Part, Partitioner};
use upload::Upload;

/// Bytes that one writer may hold: encoded pages of open row groups, and parts on their way to the store. Two workers
/// with three sinks each stay under 150 MiB, well within the process's bound.
const BUDGET: usize = 24 << 20;

/// Files open at the same time. Each holds at least a page per column; beyond, the one unused for longest is finished.
const OPEN_FILES: usize = 64;

/// Bytes of rows that a partition collects before it gets an open file. With hundreds of partitions most never do: they
/// are written one after the other at the end, instead of closing each other's files with every batch.
const HELD: usize = 1 << 20;

/// Pieces of rows that a partition collects before they are put together: an array has some hundred bytes of its own.
const HELD_PIECES: usize = 16;

/// Rows in a row group at most. The budget usually closes it earlier.
const ROW_GROUP_ROWS: usize = 1 << 20;

/// Bytes of a page, and of a dictionary before a column falls back to plain encoding. A quarter of Parquet's default:
/// an open file holds one of each per column.
const PAGE: usize = 256 << 10;

/// Bytes of text that bounds in statistics keep. Parquet cuts a minimum down and a maximum up, at a character.
const STATISTICS_TEXT: usize = 32;

/// Columns that have nearly the same value in all rows of an entry. A dictionary leaves nothing for Zstandard, which would
/// need a context for each of them.
const SAME: [&str; 10] = [
    "_topic",
    "_partition",
    "_row",
    "_attempt",
    "_batch",
    "_findings.list.element.rule",
    "_findings.list.element.code",
    "_findings.list.element.severity",
    "_findings.list.element.column",
    REJECTED,
];

/// Calls of [`write`](TableWriter::write) after which a file that no row came for is finished before row groups of others are
/// ended.
const IDLE: u64 = 16;

/// Makes file names of one process unique; the entry's id does so among processes.
static SEQUENCE: AtomicU64 = AtomicU64::new(0);

/// Writes the rows of one sink and one entry.
///
/// Memory is bounded whatever the number of partitions: row groups close early, and files are finished early, when the
/// open ones hold more than a fixed budget. Dropping it without [`finish`](Self::finish) leaves no file behind.
pub struct TableWriter {
    target: FileTarget,
    schema: SchemaRef,
    file_schema: SchemaRef,
    properties: WriterProperties,
    written_for: WrittenFor,
    runtime: Handle,
    partitioner: Option<Partitioner>,
    /// rows of partitions that are not worth a file yet
    held: HashMap<OwnedRow, Held>,
    open: HashMap<Option<OwnedRow>, OpenFile>,
    /// whether any file was opened
    opened: bool,
    /// counts batches, to know which file was unused for longest
    clock: u64,
    finished: Vec<FileAction>,
    /// the column of flags whose rows get row groups of their own
    apart: Option<usize>,
}

/// Rows of one partition, and where they go.
struct Held {
    part: Part,
    pieces: Vec<RecordBatch>,
    bytes: usize,
}

impl TableWriter {
    /// A writer for rows of `schema`. Nothing is created before the first row.
    ///
    /// Must be used outside the async runtime: it blocks while bytes are on their way.
    pub fn new(target: FileTarget, schema: SchemaRef, entry: Uuid, runtime: Handle) -> Result<Self> {
        TableWriter::of(target, schema, WrittenFor::Entry(entry), runtime)
    }

    /// As [`TableWriter::new`], for rows that are in the table already, in other files.
    pub fn rewriting(target: FileTarget, schema: SchemaRef, runtime: Handle) -> Result<Self> {
        TableWriter::of(target, schema, WrittenFor::Table, runtime)
    }

    fn of(target: FileTarget, schema: SchemaRef, written_for: WrittenFor, runtime: Handle) -> Result<Self> {
        let partitioner = Partitioner::new(&schema, &target.partition_by)?;
        let file_schema = match &partitioner {
            Some(partitioner) => partitioner.file_schema().clone(),
            None => schema.clone(),
        };
        Ok(TableWriter {
            properties: properties(&file_schema)?,
            apart: file_schema.index_of(REJECTED).ok(),
            target,
            schema,
            file_schema,
            written_for,
            runtime,
            partitioner,
            held: HashMap::new(),
            open: HashMap::new(),
            opened: false,
            clock: 0,
            finished: Vec::new(),
        })
    }

    /// Writes the rows of a batch, which has exactly the writer's columns.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.check(batch)?;
        self.clock += 1;
        match &mut self.partitioner {
            None => self.write_part(None, Part::whole(batch.clone()))?,
            Some(partitioner) => {
                for (key, part) in partitioner.split(batch)? {
                    self.hold(key, part)?;
                }
            }
        }
        self.keep_budget()
    }

    /// Bytes held in memory.
    pub fn buffered(&self) -> usize {
        let held: usize = self.held.values().map(|held| held.bytes).sum();
        held + self.open.values().map(OpenFile::buffered).sum::<usize>()
    }

    /// Completes every file, durably, and answers them by path. No rows, no files.
    pub fn finish(mut self) -> Result<Vec<FileAction>> {
        for key in self.held.keys().cloned().collect::<Vec<_>>() {
            self.release(&key)?;
            self.complete(&Some(key))?; // at once, so that the last of thousands costs no more memory than the first
        }
        for key in self.open.keys().cloned().collect::<Vec<_>>() {
            self.complete(&key)?;
        }
        self.finished.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(std::mem::take(&mut self.finished))
    }

    fn check(&self, batch: &RecordBatch) -> Result<()> {
        let same = Arc::ptr_eq(batch.schema_ref(), &self.schema)
            || (batch.num_columns() == self.schema.fields().len()
                && batch
                    .schema_ref()
                    .fields()
                    .iter()
                    .zip(self.schema.fields())
                    .all(|(a, b)| a.name() == b.name() && a.data_type() == b.data_type()));
        if same {
            return Ok(());
        }
        Err(Error::Host(format!(
            "a batch for {} has other columns than its files: {} instead of {}",
            self.target.prefix,
            describe(batch.schema_ref()),
            describe(&self.schema)
        )))
    }

    fn hold(&mut self, key: OwnedRow, part: Part) -> Result<()> {
        let of_file = Some(key.clone());
        if let Some(file) = self.open.get_mut(&of_file) {
            file.used = self.clock;
            // it collects rows that are apart itself
            if are_apart(&part.rows, self.apart) {
                return self.write_part(of_file, part);
            }
        }
        let held = self.held.entry(key.clone()).or_insert_with(|| Held {
            part: part.without_rows(),
            pieces: Vec::new(),
            bytes: 0,
        });
        held.pieces.push(part.rows);
        if held.pieces.len() >= HELD_PIECES {
            held.pieces = vec![together(&self.file_schema, &held.pieces)?];
        }
        held.bytes = held.pieces.iter().map(RecordBatch::get_array_memory_size).sum();
        if held.bytes >= HELD { self.release(&key) } else { Ok(()) }
    }

    /// Writes what a partition has collected.
    fn release(&mut self, key: &OwnedRow) -> Result<()> {
        let Some(held) = self.held.remove(key) else { return Ok(()) };
        let rows = together(&self.file_schema, &held.pieces)?;
        self.write_part(Some(key.clone()), Part { rows, ..held.part })
    }

    fn write_part(&mut self, key: Option<OwnedRow>, part: Part) -> Result<()> {
        if !self.open.contains_key(&key) {
            if self.open.len() >= OPEN_FILES {
                self.complete_oldest(None)?;
            }
            if !self.opened {
                crash::point("write/first-file-open");
                self.opened = true;
            }
            let file = self.create(part.without_rows())?;
            self.open.insert(key.clone(), file);
        }
        let file = self.open.get_mut(&key).expect("opened just above");
        file.used = self.clock;
        file.write(part.rows, self.apart)
    }

    fn create(&self, part: Part) -> Result<OpenFile> {
        let name = self.written_for.name();
        let path = match part.folder.is_empty() {
            true => name,
            false => format!("{}/{name}", part.folder),
        };
        let upload = Upload::new(self.target.store.clone(), self.target.object(&path)?, self.runtime.clone());
        // the Arrow schema is left out of the footer: Delta's schema is the truth, and other readers need it no more
        let options = ArrowWriterOptions::new().with_properties(self.properties.clone()).with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(upload, self.file_schema.clone(), options)
            .doing(|| format!("cannot write {path}"))?;
        Ok(OpenFile::new(path, part, self.file_schema.clone(), writer, self.clock))
    }

    /// Finishes files that time has left behind, writes held rows, closes row groups, then files, until what is in memory fits
    /// the budget.
    fn keep_budget(&mut self) -> Result<()> {
        while self.buffered() > BUDGET {
            let left = self.open.iter().find(|(_, file)| file.used + IDLE <= self.clock);
            if let Some(key) = left.map(|(key, _)| key.clone()) {
                if let Some(key) = &key {
                    self.release(key)?;
                }
                self.complete(&key)?;
                continue;
            }
            let held = self.held.iter().max_by_key(|(_, held)| held.bytes).map(|(key, held)| (key.clone(), held.bytes));
            let fattest = self.open.values_mut().max_by_key(|file| file.encoded());
            match (held, fattest) {
                (Some((key, bytes)), fattest) if fattest.as_ref().is_none_or(|f| f.encoded() <= bytes) => {
                    self.release(&key)?;
                }
                (_, Some(file)) if file.encoded() > BUDGET / OPEN_FILES => file.flush()?,
                // many small ones: only finishing gives their buffers back
                _ => self.complete_oldest(Some(self.clock))?,
            }
        }
        Ok(())
    }

    /// Finishes the file that was unused for longest; one in use at `spare` only if there is no other.
    fn complete_oldest(&mut self, spare: Option<u64>) -> Result<()> {
        let oldest = self
            .open
            .iter()
            .min_by_key(|(_, file)| (spare == Some(file.used), file.used, file.path.clone()))
            .map(|(key, _)| key.clone());
        match oldest {
            Some(key) => self.complete(&key),
            None => Ok(()),
        }
    }

    fn complete(&mut self, key: &Option<OwnedRow>) -> Result<()> {
        let file = self.open.remove(key).expect("the key was taken from the map");
        let (path, part, metadata, size) = file.complete()?;
        self.finished.push(action(path, &metadata, size, part.values));
        Ok(())
    }
}

/// What a file was written for, which its name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrittenFor {
    /// the rows of this entry
    Entry(Uuid),
    /// rows that other files of the table had: no entry names it
    Table,
}

impl WrittenFor {
    /// What the file of this name was written for; `None` for files of anyone else.
    pub fn of(name: &str) -> Option<WrittenFor> {
        let (sequence, rest) = name.strip_prefix("part-")?.split_once('-')?;
        let is_ours = sequence.len() >= 5 && sequence.bytes().all(|b| b.is_ascii_digit());
        let rest = rest.strip_suffix(".zstd.parquet").or_else(|| rest.strip_suffix(".snappy.parquet"))?;
        let (id, part) = rest.rsplit_once('-')?;
        let id = Uuid::try_parse(id).ok()?;
        // other writers have names of this form, with random ids
        let is_ours = is_ours && id.get_version_num() == 7;
        match part {
            "c000" if is_ours => Some(WrittenFor::Entry(id)),
            "c001" if is_ours => Some(WrittenFor::Table),
            _ => None,
        }
    }

    /// A name that no other file has.
    fn name(self) -> String {
        let (id, part) = match self {
            WrittenFor::Entry(entry) => (entry, "c000"),
            WrittenFor::Table => (Uuid::now_v7(), "c001"),
        };
        let n = SEQUENCE.fetch_add(1, Ordering::Relaxed);
        format!("part-{n:05}-{}-{part}.zstd.parquet", id.as_hyphenated())
    }
}

/// What an entry says of a file that is complete.
fn action(
    path: String,
    metadata: &ParquetMetaData,
    size: u64,
    partition_values: BTreeMap<String, Option<String>>,
) -> FileAction {
    FileAction {
        stats: stats::json(metadata),
        size: i64::try_from(size).unwrap_or(i64::MAX),
        path,
        rows: u64::try_from(metadata.file_metadata().num_rows()).unwrap_or(0),
        partition_values,
    }
}

impl Drop for TableWriter {
    /// Open uploads abort themselves; files that were finished early are deleted, as far as the store allows.
    fn drop(&mut self) {
        forget(&self.target, &self.finished, &self.runtime);
    }
}

/// Deletes files that no entry names, as far as the store allows.
fn forget(target: &FileTarget, files: &[FileAction], runtime: &Handle) {
    let paths: Vec<Path> = files.iter().filter_map(|file| target.object(&file.path).ok()).collect();
    if paths.is_empty() {
        return;
    }
    let store = target.store.clone();
    upload::run_detached(runtime, async move {
        for path in paths {
            if let Err(error) = object_store::ObjectStoreExt::delete(&store, &path).await {
                tracing::debug!(%path, %error, "a file that no entry names stays behind");
            }
        }
    });
}

fn properties(schema: &Schema) -> Result<WriterProperties> {
    let level = ZstdLevel::try_new(1).map_err(|e| Error::Host(e.to_string()))?;
    let mut builder = WriterProperties::builder()
        .set_created_by(concat!("sluice version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_size_limit(PAGE)
        .set_dictionary_page_size_limit(PAGE)
        // per chunk is what Delta's statistics need; per page costs time and footer
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_statistics_truncate_length(Some(STATISTICS_TEXT))
        // names of list elements and map entries as the format's specification has them
        .set_coerce_types(true);
    // A dictionary pays where values repeat. These practically never do, and would be hashed until the page is full.
    for field in schema.fields() {
        let name = field.name().as_str();
        let unique = matches!(field.data_type(), DataType::Binary | DataType::Timestamp(..) | DataType::Float64)
            || matches!(name, "_offset" | "_timestamp" | "_key" | "_value" | "_id");
        if unique {
            builder = builder.set_column_dictionary_enabled(ColumnPath::from(name.to_owned()), false);
        }
        // payloads have no bounds that a reader could use, and each bound would be kept whole until the file is finished
        if name == "_value" {
            let column = ColumnPath::from(name.to_owned());
            builder = builder.set_column_statistics_enabled(column, EnabledStatistics::None);
        }
    }
    for column in SAME {
        let column = ColumnPath::new(column.split('.').map(str::to_owned).collect());
        builder = builder.set_column_compression(column, Compression::SNAPPY);
    }
    Ok(builder.build())
}

fn together(schema: &SchemaRef, pieces: &[RecordBatch]) -> Result<RecordBatch> {
    concat_batches(schema, pieces).doing(|| "cannot put rows of a partition together".into())
}

fn describe(schema: &Schema) -> String {
    let columns: Vec<_> = schema.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect();
    columns.join(", ")
}

#[cfg(test)]
mod tests;
