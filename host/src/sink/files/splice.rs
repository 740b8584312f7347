//! Row groups of other files of ours, taken over as they are: what is encoded already is copied and not read.
//!
//! One column is new, that of the entry which puts the rows into the table. Columns that the table has not are left behind.
//! It chooses no row groups, and takes whole ones only.

use bytes::Bytes;
use parquet::arrow::ArrowSchemaConverter;
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::properties::WriterPropertiesPtr;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};

use super::*;

/// Row groups in a file at most: each has a place in the footer.
const GROUPS: usize = 1_000;

/// Values of the new column that are made at once.
const VALUES: usize = 8_192;

/// The encoded columns of a row group.
pub struct Encoded {
    /// the bytes of the file that hold them
    pub bytes: Bytes,
    /// where in the file they begin
    pub from: u64,
}

impl Length for Encoded {
    fn len(&self) -> u64 {
        self.from + self.bytes.len() as u64
    }
}

impl ChunkReader for Encoded {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        let rest = self.len().saturating_sub(start);
        self.get_bytes(start, usize::try_from(rest).unwrap_or(usize::MAX)).map(bytes::Buf::reader)
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let begin = start.checked_sub(self.from).and_then(|begin| usize::try_from(begin).ok());
        let range = begin.and_then(|begin| Some(begin..begin.checked_add(length)?));
        match range.filter(|range| range.end <= self.bytes.len()) {
            Some(range) => Ok(self.bytes.slice(range)),
            None => Err(parquet::errors::ParquetError::EOF(format!("bytes {start} + {length} are of no row group"))),
        }
    }
}

/// Columns as files have them.
pub struct Columns(SchemaDescriptor);

impl Columns {
    /// The columns of files that [`TableWriter`] makes of rows with this schema, of a table without partitions.
    pub fn of(schema: &SchemaRef) -> Result<Columns> {
        let columns = ArrowSchemaConverter::new().with_coerce_types(true).convert(schema);
        columns.map(Columns).doing(|| "these columns fit into no file".into())
    }

    /// Whether they are those of a file, in their order.
    pub fn are_of(&self, footer: &ParquetMetaData) -> bool {
        footer.file_metadata().schema_descr().columns() == self.0.columns()
    }
}

/// Fills the files of one table for one entry with row groups of others.
///
/// Dropping it without [`finish`](Self::finish) leaves no file behind.
pub struct Splicer {
    target: FileTarget,
    columns: Columns,
    properties: WriterPropertiesPtr,
    entry: Uuid,
    runtime: Handle,
    open: Option<Spliced>,
    finished: Vec<FileAction>,
}

struct Spliced {
    path: String,
    writer: SerializedFileWriter<Upload>,
    groups: usize,
}

impl Splicer {
    /// For a table of these columns; `None` where it is partitioned, since rows of a group may be of several partitions.
    /// Nothing is created before the first row group.
    ///
    /// Must be used outside the async runtime.
    pub fn new(target: FileTarget, schema: &SchemaRef, entry: Uuid, runtime: Handle) -> Result<Option<Splicer>> {
        if !target.partition_by.is_empty() {
            return Ok(None);
        }
        let columns = Columns::of(schema)?;
        // where pages are, copied columns do not know
        let properties = Arc::new(properties(schema)?.into_builder().set_offset_index_disabled(true).build());
        Ok(Some(Splicer { target, columns, properties, entry, runtime, open: None, finished: Vec::new() }))
    }

    /// Whether a row group has all that the table stores.
    pub fn fits(&self, group: &RowGroupMetaData) -> bool {
        self.columns.0.columns().iter().all(|column| is_entry(column) || chunk(group, column).is_some())
    }

    /// Takes a row group over, which [fits](Self::fits).
    pub fn append(&mut self, group: &RowGroupMetaData, encoded: &Encoded) -> Result<()> {
        if self.open.as_ref().is_some_and(|open| open.groups >= GROUPS) {
            self.complete()?;
        }
        let (mut open, is_new) = match self.open.take() {
            Some(open) => (open, false),
            None => (self.create()?, true),
        };
        if is_new {
            crash::point("write/first-file-open");
        }
        let spliced = self.splice(&mut open, group, encoded);
        spliced.doing(|| format!("cannot take rows over into {}", open.path))?;
        open.groups += 1;
        self.open = Some(open);
        Ok(())
    }

    /// Completes every file, durably.
    pub fn finish(mut self) -> Result<Vec<FileAction>> {
        self.complete()?;
        Ok(std::mem::take(&mut self.finished))
    }

    fn splice(&self, open: &mut Spliced, group: &RowGroupMetaData, encoded: &Encoded) -> parquet::errors::Result<()> {
        let rows = usize::try_from(group.num_rows()).unwrap_or(0);
        let mut to = open.writer.next_row_group()?;
        for column in self.columns.0.columns() {
            if is_entry(column) {
                let Some(mut writer) = to.next_column()? else { continue };
                let id = ByteArray::from(self.entry.to_string().into_bytes());
                let (ids, levels) = (vec![id; rows.min(VALUES)], vec![column.max_def_level(); rows.min(VALUES)]);
                let mut left = rows;
                while left > 0 {
                    let n = left.min(VALUES);
                    writer.typed::<ByteArrayType>().write_batch(&ids[..n], Some(&levels[..n]), None)?;
                    left -= n;
                }
                writer.close()?;
            } else if let Some(chunk) = chunk(group, column) {
                let close = ColumnCloseResult {
                    bytes_written: u64::try_from(chunk.compressed_size()).unwrap_or(0),
                    rows_written: rows as u64,
                    metadata: chunk.clone(),
                    bloom_filter: None,
                    column_index: None,
                    offset_index: None,
                };
                to.append_column(encoded, close)?;
            }
        }
        to.close().map(drop)
    }

    fn create(&self) -> Result<Spliced> {
        let path = WrittenFor::Entry(self.entry).name();
        let object = self.target.object(&path)?;
        let upload = Upload::new(self.target.store.clone(), object, self.runtime.clone());
        let writer = SerializedFileWriter::new(upload, self.columns.0.root_schema_ptr(), self.properties.clone());
        Ok(Spliced { writer: writer.doing(|| format!("cannot write {path}"))?, path, groups: 0 })
    }

    fn complete(&mut self) -> Result<()> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let metadata = open.writer.finish().doing(|| format!("cannot write {}", open.path))?;
        let upload = open.writer.inner_mut();
        upload.complete().map_err(|e| failed(format!("cannot complete {}", open.path), e))?;
        self.finished.push(action(open.path, &metadata, upload.written(), Default::default()));
        Ok(())
    }
}

impl Drop for Splicer {
    fn drop(&mut self) {
        forget(&self.target, &self.finished, &self.runtime);
    }
}

/// Whether a column says which entry put the row into the table.
fn is_entry(column: &ColumnDescriptor) -> bool {
    column.path().parts() == ["_batch"]
}

/// The same column in a row group.
fn chunk<'a>(group: &'a RowGroupMetaData, column: &ColumnDescriptor) -> Option<&'a ColumnChunkMetaData> {
    group.columns().iter().find(|chunk| chunk.column_descr() == column)
}
