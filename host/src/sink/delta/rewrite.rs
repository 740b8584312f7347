//! Rows of some files of a table, written anew: what compaction and retention do to them before a commit says so.
//!
//! It commits nothing. What it writes is an orphan until somebody names it.

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use datafusion::common::DataFusionError;
use datafusion::prelude::{DataFrame, Expr, SessionConfig, SessionContext};
use deltalake::DeltaTable;
use deltalake::kernel::Add;
use deltalake::kernel::engine::arrow_conversion::TryIntoArrow;
use futures::TryStreamExt;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, channel};

use crate::error::{Doing, Error, Result};
use crate::ledger::FileAction;
use crate::sink::FileTarget;
use crate::sink::files::TableWriter;

/// Writes the rows of some files anew, durably: those for which `only` holds, all of them where it is `None`, in the files'
/// order. `name` is the table's, for messages.
pub async fn rewrite(
    table: &DeltaTable,
    name: &str,
    files: Vec<Add>,
    only: Option<Expr>,
    target: FileTarget,
) -> Result<Vec<FileAction>> {
    let doing = || format!("cannot rewrite files of {name}");
    let schema = table.snapshot().doing(doing)?.schema();
    let schema: Schema = schema.as_ref().try_into_arrow().doing(doing)?;
    let schema: SchemaRef = schema.into();
    let mut rows = rows(table, files).await.doing(doing)?;
    if let Some(only) = only {
        rows = rows.filter(only).doing(doing)?;
    }
    let mut rows = rows.execute_stream().await.doing(doing)?;
    let (send, receive) = channel::<Option<RecordBatch>>(2);
    let runtime = Handle::current();
    let writer = {
        let schema = schema.clone();
        // the writer blocks
        tokio::task::spawn_blocking(move || write(TableWriter::rewriting(target, schema, runtime)?, receive))
    };
    while let Some(batch) = rows.try_next().await.doing(doing)? {
        let batch = fit(&batch, &schema).doing(doing)?;
        if send.send(Some(batch)).await.is_err() {
            break; // the writer failed, and says why
        }
    }
    // without this the writer takes the end for a failure of ours, and leaves no file
    drop(send.send(None).await);
    writer.await.map_err(|e| Error::Host(format!("a writer panicked: {e}")))?
}

/// How many rows of some files there are for which something holds.
pub async fn count(table: &DeltaTable, files: Vec<Add>, holds: Expr) -> Result<u64, DataFusionError> {
    let rows = rows(table, files).await?.filter(holds)?;
    Ok(rows.count().await? as u64)
}

async fn rows(table: &DeltaTable, files: Vec<Add>) -> Result<DataFrame, DataFusionError> {
    // one file after the other: rows keep their order, and memory is that of one
    let session = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    table.update_datafusion_session(&session.state())?;
    session.read_table(table.table_provider().with_adds(files).await?)
}

fn write(mut writer: TableWriter, mut rows: Receiver<Option<RecordBatch>>) -> Result<Vec<FileAction>> {
    loop {
        match rows.blocking_recv() {
            Some(Some(batch)) => writer.write(&batch)?,
            Some(None) => return writer.finish(),
            None => return Ok(Vec::new()), // whoever reads has failed, and says why
        }
    }
}

/// The batch in the table's own types: a reader may answer partition columns as dictionaries, and texts as views.
fn fit(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = schema.fields().iter().map(|field| {
        let missing = || ArrowError::SchemaError(format!("there is no column `{}`", field.name()));
        cast(batch.column_by_name(field.name()).ok_or_else(missing)?, field.data_type())
    });
    RecordBatch::try_new(schema.clone(), columns.collect::<Result<_, _>>()?)
}
