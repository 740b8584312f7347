//! Reading tables for people: counts, rows, SQL.
//!
//! It only reads, and any Delta table, whoever wrote it. What is hidden (`[mask]`) is the caller's business.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::json::LineDelimitedWriter;
use arrow::util::pretty::pretty_format_batches;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::SQLOptions;
use datafusion::prelude::{DataFrame, SessionContext};
use deltalake::DeltaTable;
use deltalake::delta_datafusion::DeltaSessionContext;
use futures::TryStreamExt;
use object_store::ObjectStore;
use serde::Serialize;

use crate::config::Location;
use crate::error::{Doing, Error, Result};
use crate::sink::delta::load;

/// A table and its place.
pub struct Table {
    location: Location,
    table: DeltaTable,
}

/// What a table holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// the table's version
    pub version: u64,
    /// live rows
    pub rows: u64,
    /// live files
    pub files: usize,
    /// bytes of the live files
    pub bytes: u64,
    /// partition (`day=2026-11-21`) → its part; empty where the table is not partitioned
    pub partitions: BTreeMap<String, Size>,
}

/// What a partition holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Size {
    /// live rows
    pub rows: u64,
    /// live files
    pub files: usize,
    /// bytes of the live files
    pub bytes: u64,
}

/// What a table is.
#[derive(Clone, Debug, Serialize)]
pub struct Description {
    /// its identity, to which a ledger is bound
    pub id: String,
    /// its version
    pub version: u64,
    /// least version of the protocol that a reader, and that a writer must know
    pub protocol: (i32, i32),
    /// column → type, in order
    pub columns: Vec<(String, String)>,
    /// columns that partition it
    pub partition_columns: Vec<String>,
    /// its properties
    pub properties: BTreeMap<String, String>,
}

/// Opens the table at a location, `None` where there is none. `store` is rooted where the location's URL is.
pub async fn open(location: &Location, store: Arc<dyn ObjectStore>) -> Result<Option<Table>> {
    let table = load(location, store).await.doing(|| format!("cannot read the table {}", location.written))?;
    Ok(table.map(|table| Table { location: location.clone(), table }))
}

impl Table {
    /// What it holds, from its log alone where every file tells its rows.
    pub async fn counts(&self) -> Result<Counts> {
        let state = self.table.snapshot().doing(|| self.doing())?;
        let columns = state.metadata().partition_columns().to_vec();
        let mut counts = Counts { version: state.version(), rows: 0, files: 0, bytes: 0, partitions: BTreeMap::new() };
        let mut complete = true;
        for file in state.log_data().iter() {
            let rows = file.num_records().map(|n| n as u64);
            complete &= rows.is_some() && file.deletion_vector_descriptor().is_none();
            let size = Size { rows: rows.unwrap_or(0), files: 1, bytes: u64::try_from(file.size()).unwrap_or(0) };
            (counts.rows, counts.files, counts.bytes) =
                (counts.rows + size.rows, counts.files + 1, counts.bytes + size.bytes);
            if !columns.is_empty() {
                let values = file.partition_values_map();
                let name: Vec<_> = columns
                    .iter()
                    .map(|c| format!("{c}={}", values.get(c).cloned().flatten().unwrap_or_else(|| "null".into())))
                    .collect();
                let part = counts.partitions.entry(name.join("/")).or_default();
                (part.rows, part.files, part.bytes) = (part.rows + size.rows, part.files + 1, part.bytes + size.bytes);
            }
        }
        if !complete {
            // files of other writers may have no statistics, or deletion vectors
            counts.rows = self.count_by_query().await?;
        }
        Ok(counts)
    }

    async fn count_by_query(&self) -> Result<u64> {
        let session = session(&BTreeMap::from([("t".to_owned(), self)])).await?;
        let batches = collect(query(&session, "SELECT count(*) FROM t").await?).await?.1;
        let count = batches.first().map(|b| b.column(0).as_primitive::<arrow::datatypes::Int64Type>().value(0));
        Ok(count.and_then(|n| u64::try_from(n).ok()).unwrap_or(0))
    }

    /// Its version.
    pub fn version(&self) -> Result<u64> {
        Ok(self.table.snapshot().doing(|| self.doing())?.version())
    }

    /// All its rows, to be queried in `session`.
    pub async fn frame(&self, session: &SessionContext) -> Result<DataFrame> {
        self.table.update_datafusion_session(&session.state()).doing(|| self.doing())?;
        let provider = self.table.table_provider().await.doing(|| self.doing())?;
        session.read_table(provider).doing(|| self.doing())
    }

    /// What it is.
    pub fn describe(&self) -> Result<Description> {
        let state = self.table.snapshot().doing(|| self.doing())?;
        let (metadata, protocol) = (state.metadata(), state.protocol());
        Ok(Description {
            id: metadata.id().to_owned(),
            version: state.version(),
            protocol: (protocol.min_reader_version(), protocol.min_writer_version()),
            columns: state.schema().fields().map(|f| (f.name.clone(), f.data_type.to_string())).collect(),
            partition_columns: metadata.partition_columns().to_vec(),
            properties: metadata.configuration().clone().into_iter().collect(),
        })
    }

    fn doing(&self) -> String {
        format!("cannot read the table {}", self.location.written)
    }
}

/// A session that knows these tables by these names.
pub async fn session(tables: &BTreeMap<String, &Table>) -> Result<SessionContext> {
    // the dialect in which pipelines write their expressions; the generic one takes `context.user` for a function
    let overrides = [("datafusion.sql_parser.dialect".to_owned(), "databricks".to_owned())];
    let session = DeltaSessionContext::new_with_session_overrides(&overrides.into())
        .map_err(|e| Error::Host(format!("cannot prepare a session for queries: {e}")))?
        .into_inner();
    for (name, table) in tables {
        table.table.update_datafusion_session(&session.state()).doing(|| table.doing())?;
        let provider = table.table.table_provider().await.doing(|| table.doing())?;
        session.register_table(name.as_str(), provider).doing(|| table.doing())?;
    }
    Ok(session)
}

/// Runs one query; it may read and nothing else.
pub async fn query(session: &SessionContext, sql: &str) -> Result<SendableRecordBatchStream> {
    let only_reads = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    let frame = session.sql_with_options(sql, only_reads).await.map_err(|e| wrong(sql, e))?;
    frame.execute_stream().await.map_err(|e| wrong(sql, e))
}

/// All rows of a query, and their columns.
pub async fn collect(stream: SendableRecordBatchStream) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let schema = stream.schema();
    Ok((schema, stream.try_collect().await.doing(|| "cannot finish the query".into())?))
}

/// Writes the rows of a query as JSON lines, as they come. Answers their number.
pub async fn stream_lines(mut stream: SendableRecordBatchStream, out: &mut dyn Write) -> Result<u64> {
    let mut rows = 0;
    while let Some(batch) = stream.try_next().await.doing(|| "cannot finish the query".into())? {
        write_lines(out, &batch)?;
        rows += batch.num_rows() as u64;
    }
    Ok(rows)
}

fn wrong(sql: &str, error: datafusion::error::DataFusionError) -> Error {
    Error::Config(format!("this query cannot be run: {}: {sql}", error.strip_backtrace()))
}

/// One JSON object per row and line. Bytes are shown as text; what is null is left out.
pub fn write_lines(out: &mut dyn Write, batch: &RecordBatch) -> Result<()> {
    let mut writer = LineDelimitedWriter::new(out);
    writer.write(&readable(batch)?).doing(|| "cannot write rows as JSON".into())?;
    writer.finish().doing(|| "cannot write rows as JSON".into())
}

/// The rows as a table for a terminal.
pub fn grid(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<String> {
    let mut readable_batches = batches.iter().map(readable).collect::<Result<Vec<_>>>()?;
    if readable_batches.is_empty() {
        readable_batches.push(RecordBatch::new_empty(schema.clone()));
    }
    pretty_format_batches(&readable_batches)
        .map(|table| table.to_string())
        .map_err(|e| Error::Host(format!("cannot show rows: {e}")))
}

/// The same rows with top-level bytes as text.
fn readable(batch: &RecordBatch) -> Result<RecordBatch> {
    let (fields, columns): (Vec<_>, Vec<_>) = batch
        .schema_ref()
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, column)| match text(column) {
            Some(text) => (Arc::new(Field::new(field.name(), DataType::Utf8, true)), text),
            None => (field.clone(), column.clone()),
        })
        .unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .map_err(|e| Error::Host(format!("cannot show rows: {e}")))
}

fn text(column: &ArrayRef) -> Option<ArrayRef> {
    let texts = |bytes: &mut dyn Iterator<Item = Option<&[u8]>>| -> ArrayRef {
        Arc::new(bytes.map(|b| b.map(|b| String::from_utf8_lossy(b).into_owned())).collect::<StringArray>())
    };
    match column.data_type() {
        DataType::Binary => Some(texts(&mut column.as_binary::<i32>().iter())),
        DataType::LargeBinary => Some(texts(&mut column.as_binary::<i64>().iter())),
        DataType::BinaryView => Some(texts(&mut column.as_binary_view().iter())),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
