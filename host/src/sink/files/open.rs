//! One open file of a [`TableWriter`](super::TableWriter).
//!
//! Rows that are [apart](OpenFile::write) get row groups of their own: whoever reads the file finds out from its footer which
//! row groups have them, and can take the others over as they are.

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch, not, prep_null_mask_filter};
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::Compression;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::writer::SerializedFileWriter;

use super::partition::Part;
use super::upload::Upload;
use crate::error::{Doing, Result};
use crate::store::failed;

/// Bytes of rows that wait for a row group of their own. They are few where the others are many; where they are not, row
/// groups become small, and cost more to read.
const APART: usize = 4 << 20;

/// A file, and the rows that are not in it yet.
pub struct OpenFile {
    /// relative to the target, as in an action
    pub path: String,
    /// where it lies
    pub part: Part,
    /// when it was last written to
    pub used: u64,
    schema: SchemaRef,
    writer: ArrowWriter<Upload>,
    apart: Vec<RecordBatch>,
    apart_bytes: usize,
}

impl OpenFile {
    /// A file without rows.
    pub fn new(path: String, part: Part, schema: SchemaRef, writer: ArrowWriter<Upload>, used: u64) -> OpenFile {
        OpenFile { path, part, used, schema, writer, apart: Vec::new(), apart_bytes: 0 }
    }

    /// Bytes held in memory.
    pub fn buffered(&self) -> usize {
        self.encoded() + self.writer.inner().buffered()
    }

    /// Those of them that [`flush`](Self::flush) gives back.
    pub fn encoded(&self) -> usize {
        self.writer.memory_size() + self.apart_bytes
    }

    /// Writes rows; those whose flag in the column `apart` is set, apart from the others.
    pub fn write(&mut self, rows: RecordBatch, apart: Option<usize>) -> Result<()> {
        let flags = apart.and_then(|column| rows.column(column).as_boolean_opt()).map(set);
        let Some(flags) = flags.filter(|flags| flags.true_count() > 0) else { return self.append(&rows) };
        if flags.true_count() == rows.num_rows() {
            return self.put_apart(rows);
        }
        let doing = || format!("cannot tell the rows of {} apart", self.path);
        let others = filter_record_batch(&rows, &not(&flags).doing(doing)?).doing(doing)?;
        let apart = filter_record_batch(&rows, &flags).doing(doing)?;
        self.append(&others)?;
        self.put_apart(apart)
    }

    fn put_apart(&mut self, rows: RecordBatch) -> Result<()> {
        self.apart_bytes += rows.get_array_memory_size();
        self.apart.push(rows);
        if self.apart_bytes >= APART { self.flush() } else { Ok(()) }
    }

    /// Ends the row group.
    pub fn flush(&mut self) -> Result<()> {
        if !self.apart.is_empty() {
            self.end_group()?;
            let apart = std::mem::take(&mut self.apart);
            self.apart_bytes = 0;
            self.append(&concat_batches(&self.schema, &apart).doing(|| format!("cannot write {}", self.path))?)?;
        }
        self.end_group()
    }

    /// Makes the file visible, durably. Answers its footer and its size.
    pub fn complete(self) -> Result<(String, Part, ParquetMetaData, u64)> {
        let OpenFile { path, part, writer, apart, schema, .. } = self;
        let doing = || format!("cannot write {path}");
        let (mut file, _) = writer.into_serialized_writer().doing(doing)?;
        if !apart.is_empty() {
            let rows = concat_batches(&schema, &apart).doing(doing)?;
            few(&mut file, &rows).doing(doing)?;
        }
        let metadata = file.finish().doing(doing)?;
        let upload = file.inner_mut();
        upload.complete().map_err(|e| failed(format!("cannot complete {path}"), e))?;
        let size = upload.written();
        Ok((path, part, metadata, size))
    }

    fn append(&mut self, rows: &RecordBatch) -> Result<()> {
        self.writer.write(rows).doing(|| format!("cannot write {}", self.path))
    }

    fn end_group(&mut self) -> Result<()> {
        self.writer.flush().doing(|| format!("cannot write {}", self.path))
    }
}

/// A row group of few rows. Snappy takes no time to begin with; Zstandard takes longer for each column than for such rows.
fn few(file: &mut SerializedFileWriter<Upload>, rows: &RecordBatch) -> parquet::errors::Result<()> {
    let light = file.properties().as_ref().clone().into_builder();
    let light = light.set_compression(Compression::SNAPPY).build();
    let columns = file.schema_descr().root_schema_ptr();
    // it makes writers of columns, and is no file
    let model = SerializedFileWriter::new(std::io::sink(), columns, light.into())?;
    let writers = ArrowRowGroupWriterFactory::new(&model, rows.schema()).create_column_writers(0)?;
    let mut leaves = Vec::with_capacity(writers.len());
    for (field, column) in rows.schema_ref().fields().iter().zip(rows.columns()) {
        leaves.extend(compute_leaves(field, column)?);
    }
    let mut group = file.next_row_group()?;
    for (mut writer, leaf) in writers.into_iter().zip(&leaves) {
        writer.write(leaf)?;
        writer.close()?.append_to_row_group(&mut group)?;
    }
    group.close().map(drop)
}

/// Whether all rows are [apart](OpenFile::write), by their flag in this column.
pub fn are_apart(rows: &RecordBatch, apart: Option<usize>) -> bool {
    let flags = apart.and_then(|column| rows.column(column).as_boolean_opt());
    flags.is_some_and(|flags| flags.true_count() == rows.num_rows())
}

/// Flags without nulls.
fn set(flags: &BooleanArray) -> BooleanArray {
    if flags.null_count() > 0 { prep_null_mask_filter(flags) } else { flags.clone() }
}
