//! One window's rows in staging, and what is true of them.
//!
//! It reads the files that staging names, where their footers do not tell, and decides nothing. Rows come in no order;
//! whatever depends on one says so itself.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{Int64Type, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;

use super::plan::quoted;
use super::staged::Staged;
use crate::config::{AuditConfig, AuditExpectation, Sql};
use crate::error::{Doing, Error, Result};
use crate::schema::REJECTED;
use crate::sink::files::scan::{Chosen, Scan};

/// Beside the columns of staging: whether the row is a later copy of a key.
pub const COPY: &str = "_duplicate";

/// A window's rows.
pub struct Rows<'a> {
    staged: &'a Staged,
    session: SessionContext,
    window: String,
    unique: &'a [Sql],
    /// the columns of staging
    schema: SchemaRef,
}

/// What is true of a window's rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// rows in staging
    pub rows: u64,
    /// those among them with an error finding
    pub rejected: u64,
    /// later copies of a key
    pub duplicates: u64,
}

/// What became of an expectation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// true, or unknown
    Yes,
    /// false
    No,
    /// it cannot be computed for these rows
    Failed(String),
}

impl<'a> Rows<'a> {
    /// The rows of window `key`; `schema` is that of staging.
    ///
    /// They are tables of `session`, until it is asked for the rows of another window.
    pub async fn open(
        session: &SessionContext,
        staged: &'a Staged,
        schema: SchemaRef,
        key: &str,
        audit: &'a AuditConfig,
    ) -> Result<Rows<'a>> {
        let (session, window) = (session.clone(), key.to_owned());
        let rows = Rows { staged, session, window, unique: &audit.unique, schema };
        rows.register().await.doing(|| rows.doing())?;
        Ok(rows)
    }

    async fn register(&self) -> Result<(), DataFusionError> {
        let session = &self.session;
        for table in ["staged", "audited", "window"] {
            session.deregister_table(table)?;
        }
        let all = self.scan(self.staged.files().iter().map(|file| (&file.action, None)))?;
        if self.unique.is_empty() {
            // planning is what a small window costs most
            session.register_table("audited", all.clone())?;
            session.register_table("window", all)?;
            return Ok(());
        }
        session.register_table("staged", all)?;
        let sql = format!("SELECT *, {} AS `{COPY}` FROM `staged`", is_copy(self.unique));
        session.register_table("audited", session.sql(&sql).await?.into_view())?;
        let others = self.schema.fields().iter().map(|field| field.name()).filter(|name| *name != REJECTED);
        let columns: Vec<String> = others.map(|name| format!("`{name}`")).collect();
        let sql = format!("SELECT {}, (`{REJECTED}` OR `{COPY}`) AS `{REJECTED}` FROM `audited`", columns.join(", "));
        session.register_table("window", session.sql(&sql).await?.into_view())?;
        Ok(())
    }

    fn scan<'f>(&self, files: impl IntoIterator<Item = Chosen<'f>>) -> Result<Arc<Scan>, DataFusionError> {
        Scan::new(&self.session, &self.schema, files, self.staged.source()).map(Arc::new)
    }

    /// Counts them.
    pub async fn measure(&self) -> Result<Measured> {
        let rows = self.staged.rows();
        // an older file, or another writer's, may not tell
        let rejected = match self.staged.rejected() {
            Some(rejected) => rejected,
            None => self.count(&format!("`{REJECTED}`")).await?,
        };
        let duplicates = if self.unique.is_empty() { 0 } else { self.count(&format!("`{COPY}`")).await? };
        Ok(Measured { rows, rejected, duplicates })
    }

    /// Rows of which this is true.
    async fn count(&self, condition: &str) -> Result<u64> {
        let row =
            self.one(&format!("SELECT count(*) FROM `audited` WHERE {condition}")).await.doing(|| self.doing())?;
        Ok(row.column(0).as_primitive_opt::<Int64Type>().map_or(0, |n| n.value(0).unsigned_abs()))
    }

    /// Whether each of these is true of them.
    pub async fn expect(&self, expectations: &[AuditExpectation]) -> Result<Vec<Held>> {
        if expectations.is_empty() {
            return Ok(Vec::new());
        }
        let all: Vec<String> = expectations.iter().map(|expectation| format!("({})", expectation.sql.text)).collect();
        // in one go, and only where that fails each by itself, to know which
        if let Ok(row) = self.one(&format!("SELECT {} FROM `window`", numbered(&all))).await {
            return Ok((0..all.len()).map(|i| held(&row, i)).collect());
        }
        let mut found = Vec::new();
        for sql in &all {
            let asked = self.one(&format!("SELECT {} FROM `window`", numbered(std::slice::from_ref(sql)))).await;
            found.push(match asked {
                Ok(row) => held(&row, 0),
                Err(error) => Held::Failed(error.strip_backtrace()),
            });
        }
        Ok(found)
    }

    /// A number that SQL over the table `window` answers; `None` where it is null.
    pub async fn number(&self, sql: &str) -> Result<Option<f64>> {
        let row = self.one(&format!("SELECT CAST(({sql}) AS DOUBLE) FROM `window`")).await.doing(|| self.doing())?;
        let number = row.column(0).as_primitive_opt::<arrow::datatypes::Float64Type>();
        Ok(number.filter(|number| number.is_valid(0)).map(|number| number.value(0)))
    }

    /// `rule/code` → findings on them.
    pub async fn findings(&self) -> Result<Vec<(String, u64)>> {
        let sql = "SELECT concat(f['rule'], '/', f['code']) AS code, count(*) AS n FROM \
                   (SELECT unnest(`_findings`) AS f FROM `audited`) GROUP BY 1 ORDER BY 1";
        let frame = self.session.sql(sql).await.doing(|| self.doing())?;
        let mut found = Vec::new();
        for batch in frame.collect().await.doing(|| self.doing())? {
            let codes = cast(batch.column(0), &arrow::datatypes::DataType::Utf8).doing(|| self.doing())?;
            let counts = batch.column(1).as_primitive::<Int64Type>();
            let codes = codes.as_string::<i32>().iter();
            found.extend(codes.zip(counts.iter()).filter_map(|(code, n)| Some((code?.to_owned(), n?.unsigned_abs()))));
        }
        Ok(found)
    }

    /// All columns of staging and [`COPY`], row by row.
    pub async fn stream(&self) -> Result<SendableRecordBatchStream> {
        let frame = self.session.sql("SELECT * FROM `audited`").await.doing(|| self.doing())?;
        frame.execute_stream().await.doing(|| self.doing())
    }

    /// All columns of staging, of those row groups whose flag is set. `chosen`: file → row group → flag.
    pub async fn stream_of(&self, chosen: Vec<Vec<bool>>) -> Result<SendableRecordBatchStream> {
        let files = self.staged.files().iter().zip(chosen).filter(|(_, groups)| groups.contains(&true));
        let rest = self.scan(files.map(|(file, groups)| (&file.action, Some(groups)))).doing(|| self.doing())?;
        let frame = self.session.read_table(rest).doing(|| self.doing())?;
        frame.execute_stream().await.doing(|| self.doing())
    }

    /// The next rows of a stream, with the types that staging has in memory.
    pub async fn next(&self, stream: &mut SendableRecordBatchStream) -> Result<Option<RecordBatch>> {
        let rows = stream.try_next().await.doing(|| self.doing())?;
        rows.map(|rows| self.fit(&rows)).transpose()
    }

    /// Rows as they were read, with the types that staging has in memory, and [`COPY`]. Columns that are not there are null:
    /// which window it is stands in no file, and copies are told of by queries alone.
    pub fn fit(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let copy = Schema::new(vec![arrow::datatypes::Field::new(COPY, arrow::datatypes::DataType::Boolean, true)]);
        let wanted: Vec<_> = self.schema.fields().iter().chain(copy.fields()).cloned().collect();
        let mut columns = Vec::with_capacity(wanted.len());
        for field in &wanted {
            let column = match rows.column_by_name(field.name()) {
                Some(column) => cast(column, field.data_type()).doing(|| self.doing())?,
                None => arrow::array::new_null_array(field.data_type(), rows.num_rows()),
            };
            columns.push(column);
        }
        let rows = RecordBatch::try_new(Arc::new(Schema::new(wanted)), columns);
        rows.map_err(|e| Error::Host(format!("staged rows do not fit their columns: {e}")))
    }

    /// The first and only row of a query.
    async fn one(&self, sql: &str) -> Result<RecordBatch, DataFusionError> {
        let batches = self.session.sql(sql).await?.collect().await?;
        let row = batches.into_iter().find(|batch| batch.num_rows() == 1);
        row.ok_or_else(|| DataFusionError::Execution("it answers no single row".into()))
    }

    fn doing(&self) -> String {
        format!("cannot read window {} in staging", self.window)
    }
}

/// `(…) AS _0, (…) AS _1`
fn numbered(expressions: &[String]) -> String {
    let numbered = expressions.iter().enumerate().map(|(i, sql)| format!("{sql} AS `_{i}`"));
    numbered.collect::<Vec<_>>().join(", ")
}

fn held(row: &RecordBatch, i: usize) -> Held {
    match row.column(i).as_boolean_opt() {
        Some(answer) if answer.is_valid(0) && !answer.value(0) => Held::No,
        // null passes, as in every expectation
        Some(_) | None => Held::Yes,
    }
}

/// True for the later copies of a key, among rows without an error finding; a key with a null in it is no copy of another.
fn is_copy(unique: &[Sql]) -> String {
    let keys: Vec<String> = unique.iter().map(|path| quoted(&path.text)).collect();
    let whole: Vec<String> = keys.iter().map(|key| format!("{key} IS NOT NULL")).collect();
    format!(
        "(NOT `{REJECTED}` AND {} AND row_number() OVER (PARTITION BY `{REJECTED}`, {} ORDER BY `_topic`, `_partition`, \
         `_offset`, `_row`) > 1)",
        whole.join(" AND "),
        keys.join(", ")
    )
}
