//! One window's rows in staging, and what is true of them.
//!
//! It reads a snapshot of the staging table and decides nothing. Rows come in no order; whatever depends on one says so
//! itself.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{Int64Type, Schema, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::{SessionContext, col, lit};
use deltalake::DeltaTable;
use futures::TryStreamExt;

use super::plan::{quoted, session};
use crate::config::{AuditConfig, AuditExpectation, Sql};
use crate::error::{Doing, Error, Result};
use crate::schema::{REJECTED, WINDOW};

/// Beside the columns of staging: whether the row is a later copy of a key.
pub const COPY: &str = "_duplicate";

/// A window's rows.
pub struct Rows {
    session: SessionContext,
    window: String,
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

impl Rows {
    /// The rows of window `key` in a table with all columns of `schema`.
    pub async fn open(table: &DeltaTable, schema: SchemaRef, key: &str, audit: &AuditConfig) -> Result<Rows> {
        let rows = Rows { session: session()?, window: key.to_owned(), schema };
        rows.register(table, audit).await.doing(|| rows.doing())?;
        Ok(rows)
    }

    async fn register(
        &self,
        table: &DeltaTable,
        audit: &AuditConfig,
    ) -> Result<(), datafusion::error::DataFusionError> {
        let session = &self.session;
        table.update_datafusion_session(&session.state())?;
        let provider = table.table_provider().await?;
        let of_window =
            session.read_table(provider)?.filter(col(format!("\"{WINDOW}\"")).eq(lit(self.window.as_str())))?;
        // a column that no staged row has yet is null in all of them
        let there = of_window.schema().clone();
        session.register_table("staged", of_window.into_view())?;
        let sql = format!("SELECT *, {} AS `{COPY}` FROM `staged`", is_copy(&audit.unique));
        session.register_table("audited", session.sql(&sql).await?.into_view())?;
        let others = self.schema.fields().iter().map(|field| field.name()).filter(|name| *name != REJECTED);
        let column = |name: &String| match there.has_column_with_unqualified_name(name) {
            true => format!("`{name}`"),
            false => format!("NULL AS `{name}`"),
        };
        let columns: Vec<String> = others.map(column).collect();
        let sql = format!("SELECT {}, (`{REJECTED}` OR `{COPY}`) AS `{REJECTED}` FROM `audited`", columns.join(", "));
        session.register_table("window", session.sql(&sql).await?.into_view())?;
        Ok(())
    }

    /// Counts them.
    pub async fn measure(&self) -> Result<Measured> {
        let sql = format!(
            "SELECT count(*), count(*) FILTER (WHERE `{REJECTED}`), count(*) FILTER (WHERE `{COPY}`) FROM `audited`"
        );
        let row = self.one(&sql).await.doing(|| self.doing())?;
        let count = |i: usize| row.column(i).as_primitive_opt::<Int64Type>().map_or(0, |n| n.value(0).unsigned_abs());
        Ok(Measured { rows: count(0), rejected: count(1), duplicates: count(2) })
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

    /// The next rows of a stream, with the types that staging has in memory.
    pub async fn next(&self, stream: &mut SendableRecordBatchStream) -> Result<Option<RecordBatch>> {
        let Some(rows) = stream.try_next().await.doing(|| self.doing())? else { return Ok(None) };
        let copy = Schema::new(vec![arrow::datatypes::Field::new(COPY, arrow::datatypes::DataType::Boolean, true)]);
        let wanted: Vec<_> = self.schema.fields().iter().chain(copy.fields()).cloned().collect();
        let mut columns = Vec::with_capacity(wanted.len());
        for field in &wanted {
            // a table may be older than a column
            let column = match rows.column_by_name(field.name()) {
                Some(column) => cast(column, field.data_type()).doing(|| self.doing())?,
                None => arrow::array::new_null_array(field.data_type(), rows.num_rows()),
            };
            columns.push(column);
        }
        let rows = RecordBatch::try_new(Arc::new(Schema::new(wanted)), columns);
        rows.map(Some).map_err(|e| Error::Host(format!("staged rows do not fit their columns: {e}")))
    }

    /// The first and only row of a query.
    async fn one(&self, sql: &str) -> Result<RecordBatch, datafusion::error::DataFusionError> {
        let batches = self.session.sql(sql).await?.collect().await?;
        let row = batches.into_iter().find(|batch| batch.num_rows() == 1);
        row.ok_or_else(|| datafusion::error::DataFusionError::Execution("it answers no single row".into()))
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
    if unique.is_empty() {
        return "false".to_owned();
    }
    let keys: Vec<String> = unique.iter().map(|path| quoted(&path.text)).collect();
    let whole: Vec<String> = keys.iter().map(|key| format!("{key} IS NOT NULL")).collect();
    format!(
        "(NOT `{REJECTED}` AND {} AND row_number() OVER (PARTITION BY `{REJECTED}`, {} ORDER BY `_topic`, `_partition`, \
         `_offset`, `_row`) > 1)",
        whole.join(" AND "),
        keys.join(", ")
    )
}
