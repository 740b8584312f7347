//! JSON lines on standard output, for trying things.
//!
//! It promises nothing: what was printed is not remembered beyond this process. Rows come from the durable files of
//! applied entries like any other sink's, and the files are removed once they are printed. A value of bytes is shown as
//! text.

use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use deltalake::datafile::DataFileReader;
use deltalake::datafile::reader::ParquetFileReader;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::sync::Mutex;

use crate::error::{Doing, Error, Result};
use crate::ledger::{FileAction, Ledger};
use crate::outcome::Outcome;
use crate::sink::{Applied, FileTarget, Guarantee, Sink, look};

/// Prints the rows of one outcome.
pub struct StdoutSink {
    outcome: Outcome,
    store: Arc<dyn ObjectStore>,
    spool: Path,
    printer: Mutex<Printer>,
}

struct Printer {
    out: Box<dyn Write + Send>,
    /// last entry that was printed; `None` before the first look
    mark: Option<u64>,
}

impl StdoutSink {
    /// Prints rows of `outcome`; their files pass through the folder `spool` of `store`.
    pub fn new(outcome: Outcome, store: Arc<dyn ObjectStore>, spool: Path) -> Self {
        Self::with_output(outcome, store, spool, Box::new(io::stdout()))
    }

    /// The same, to anywhere.
    pub fn with_output(outcome: Outcome, store: Arc<dyn ObjectStore>, spool: Path, out: Box<dyn Write + Send>) -> Self {
        StdoutSink {
            spool: spool.join(outcome.as_str()),
            outcome,
            store,
            printer: Mutex::new(Printer { out, mark: None }),
        }
    }

    /// Where this process begins. Files of entries that an earlier one appended and did not print are still in the spool;
    /// without any there is nothing to catch up with.
    async fn begin(&self, head: u64) -> Result<u64> {
        let mut left = self.store.list(Some(&self.spool));
        let any = left.try_next().await.doing(|| format!("cannot list {}", self.spool))?.is_some();
        Ok(if any { 0 } else { head })
    }

    async fn print(&self, out: &mut (dyn Write + Send), file: &FileAction) -> Result<()> {
        let path =
            Path::parse(format!("{}/{}", self.spool, file.path)).doing(|| format!("cannot read {}", file.path))?;
        let reader = ParquetFileReader::new(self.store.clone());
        match self.store.head(&path).await {
            Ok(_) => {}
            Err(object_store::Error::NotFound { .. }) => return Ok(()), // printed, then the process died
            Err(error) => return Err(Error::environment(format!("cannot read {path}"), error)),
        }
        let mut batches = reader.read_file(path.clone()).await.doing(|| format!("cannot read {path}"))?;
        while let Some(batch) = batches.next().await {
            let batch = batch.doing(|| format!("cannot read {path}"))?;
            look::write_lines(out, &with_outcome(&batch, self.outcome)?)?;
        }
        out.flush().doing(|| "cannot write to standard output".into())?;
        self.store.delete(&path).await.doing(|| format!("cannot remove {path}"))
    }
}

/// The row with its outcome in front.
fn with_outcome(batch: &RecordBatch, outcome: Outcome) -> Result<RecordBatch> {
    let constant = arrow::array::StringArray::from(vec![outcome.as_str(); batch.num_rows()]);
    let mut columns: Vec<(String, arrow::array::ArrayRef)> = vec![("_outcome".into(), Arc::new(constant))];
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        columns.push((field.name().clone(), column.clone()));
    }
    RecordBatch::try_from_iter(columns).map_err(|e| Error::Host(format!("cannot print rows: {e}")))
}

#[async_trait]
impl Sink for StdoutSink {
    fn outcome(&self) -> Outcome {
        self.outcome
    }

    fn kind(&self) -> &'static str {
        "stdout"
    }

    fn location(&self) -> &str {
        "standard output"
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::None
    }

    fn files(&self) -> FileTarget {
        FileTarget { store: self.store.clone(), prefix: self.spool.clone(), partition_by: vec![] }
    }

    async fn identity(&self) -> Result<Option<String>> {
        Ok(Some("stdout".into()))
    }

    async fn create(&self, _schema: &SchemaRef) -> Result<String> {
        Ok("stdout".into())
    }

    async fn apply(&self, ledger: &Ledger, head: u64) -> Result<Applied> {
        let mut printer = self.printer.lock().await;
        let mark = match printer.mark {
            Some(mark) => mark,
            None => self.begin(head).await?,
        };
        // recorded per entry: a failure in between must not print the earlier ones again
        printer.mark = Some(mark);
        for (number, entry) in ledger.entries(mark, head.max(mark)).await? {
            for file in entry.sinks.get(&self.outcome).iter().flat_map(|actions| &actions.files) {
                self.print(&mut printer.out, file).await?;
            }
            printer.mark = Some(number);
        }
        let entry = head.max(mark);
        printer.mark = Some(entry);
        Ok(Applied { entry, version: None })
    }
}

#[cfg(test)]
mod tests;
