//! Derived tables: SQL over the rows of one commit of a sink, appended to a table of its own in the same ledger entry.
//!
//! The rows are read back from the files that the entry will name, column by column as far as the query needs them: memory
//! is bounded by the query's own state, which goes to disk beyond a limit, and not by the size of a commit. A query sees the
//! rows of one entry and nothing else, as the table `batch`; what it makes is written once, before the entry exists, so it is
//! there exactly once, like the rows. It is not made again, and it judges nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::DataFusionError;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::config::Dialect;
use datafusion::datasource::MemTable;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::prelude::{SessionConfig, SessionContext, col};
use futures::StreamExt;
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::config::{DeriveConfig, Mistakes};
use crate::error::{Doing, Error, Result};
use crate::expect::{described, storable, words};
use crate::ledger::{FileAction, SinkActions};
use crate::outcome::Outcome;
use crate::schema::is_column_name;
use crate::sink::FileTarget;
use crate::sink::delta::delta_schema;
use crate::sink::files::TableWriter;
use crate::sink::files::scan::Scan;

/// The table that a query sees.
const BATCH: &str = "batch";

/// Bytes that a query may hold: groups, sorted runs. Beyond, it writes to disk or fails. As much as the writers of a commit
/// hold, which are closed by then.
const MEMORY: usize = 128 << 20;

/// A planned query and the table that it fills.
#[derive(Clone)]
pub struct Derive {
    outcome: Outcome,
    from: Outcome,
    sql: Arc<str>,
    /// the columns of the rows that it is made of
    rows: SchemaRef,
    /// the columns of the table
    schema: SchemaRef,
    actions_schema: serde_json::Value,
}

impl Derive {
    /// Plans a query over rows of `rows`, which are those of the sink that it names; what is wrong goes to `mistakes`.
    pub fn plan(config: &DeriveConfig, rows: &SchemaRef, mistakes: &mut Mistakes) -> Option<Derive> {
        let what = format!("derived table `{}`", config.name);
        let mut refuse = |title: String, help: &str| mistakes.push(config.sql.place.clone(), title, "", help);
        let planned = crate::reference::blocking(|| async {
            let session = session()?;
            let empty = MemTable::try_new(rows.clone(), vec![vec![]]).doing(String::new)?;
            session.register_table(BATCH, Arc::new(empty)).doing(String::new)?;
            Ok(plan(&session, &config.sql.text).await)
        });
        let planned = match planned {
            Ok(Ok(planned)) => planned,
            Ok(Err(error)) => {
                let known: Vec<&str> = rows.fields().iter().map(|field| field.name().as_str()).collect();
                let help = format!("the table `{BATCH}` has {}", known.join(", "));
                refuse(format!("{what} cannot be planned: {}", words::of(&error)), &help);
                return None;
            }
            Err(error) => {
                refuse(format!("{what} cannot be planned: {error}"), "");
                return None;
            }
        };
        if let Some(function) = volatile(&planned) {
            let help = "the same rows must make the same table";
            refuse(format!("{what} calls `{function}`, which does not depend on the rows alone"), help);
            return None;
        }
        let mut fields = Vec::new();
        let mut names = BTreeSet::new();
        for field in planned.schema().fields() {
            let name = field.name();
            if !is_column_name(name) {
                refuse(format!("{what} has a column `{name}`"), "give it a name that a table can have, with AS");
                return None;
            }
            if !names.insert(name.to_lowercase()) {
                refuse(format!("{what} has two columns `{name}`"), "name one of them otherwise, with AS");
                return None;
            }
            let Some(ty) = storable(field.data_type()) else {
                let title = format!("column `{name}` of {what} is {}", described(field.data_type()));
                refuse(title, "a table cannot store it: name a type, `CAST(… AS STRING)`");
                return None;
            };
            fields.push(Field::new(name, ty, true));
        }
        let schema = Arc::new(Schema::new(fields));
        match delta_schema(&schema) {
            Ok(actions_schema) => Some(Derive {
                outcome: Outcome::derived(&config.name),
                from: config.from,
                sql: config.sql.text.as_str().into(),
                rows: rows.clone(),
                schema,
                actions_schema,
            }),
            Err(error) => {
                refuse(format!("{what}: {error}"), "");
                None
            }
        }
    }

    /// The sink that it fills.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// The sink whose rows it is made of.
    pub fn from(&self) -> Outcome {
        self.from
    }

    /// The columns of its table.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Makes what belongs to the rows in `files`, which lie in `source`, and writes it durably for `entry` into `target`.
    /// `None` where that is nothing.
    ///
    /// Must be called outside the async runtime, like everything that writes files.
    pub fn fill(
        &self,
        entry: Uuid,
        files: &[FileAction],
        source: &FileTarget,
        target: FileTarget,
        runtime: &Handle,
    ) -> Result<Option<SinkActions>> {
        let doing = || format!("cannot fill {} for entry {entry}", self.outcome);
        let outside = |error: DataFusionError| Error::environment(doing(), Box::new(error));
        let mut stream = runtime.block_on(async {
            let session = session()?;
            let rows =
                Scan::new(&session, &self.rows, files.iter().map(|file| (file, None)), source).map_err(outside)?;
            let rows = session.read_table(Arc::new(rows)).map_err(outside)?;
            // as they were planned: in the sink's order
            let columns = self.rows.fields().iter().map(|field| col(format!("\"{}\"", field.name())));
            let rows = rows.select(columns.collect::<Vec<_>>()).map_err(outside)?;
            session.register_table(BATCH, rows.into_view()).map_err(outside)?;
            let planned = plan(&session, &self.sql).await.map_err(outside)?;
            let frame = session.execute_logical_plan(planned).await.map_err(outside)?;
            frame.execute_stream().await.map_err(outside)
        })?;
        let mut writer = TableWriter::new(target, self.schema.clone(), entry, runtime.clone())?;
        while let Some(batch) = runtime.block_on(stream.next()) {
            writer.write(&self.shaped(&batch.map_err(outside)?)?)?;
        }
        let files = writer.finish()?;
        Ok((!files.is_empty()).then(|| SinkActions { schema: self.actions_schema.clone(), files }))
    }

    /// Columns of the table's types.
    fn shaped(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let doing = || format!("columns of {} are not of the types that were planned", self.outcome);
        let columns = batch.columns().iter().zip(self.schema.fields());
        let columns = columns.map(|(column, field)| cast(column, field.data_type()).doing(doing));
        RecordBatch::try_new(self.schema.clone(), columns.collect::<Result<_>>()?).doing(doing)
    }
}

/// A session whose queries speak the language of the pipeline file.
fn session() -> Result<SessionContext> {
    let mut config = SessionConfig::new().with_target_partitions(1);
    let options = config.options_mut();
    options.sql_parser.dialect = Dialect::Databricks;
    options.sql_parser.enable_ident_normalization = false;
    options.sql_parser.map_string_types_to_utf8view = false;
    options.execution.parquet.schema_force_view_types = false;
    let memory = RuntimeEnvBuilder::new().with_memory_limit(MEMORY, 1.0).build_arc();
    Ok(SessionContext::new_with_config_rt(config, memory.doing(|| "cannot make room for queries".into())?))
}

/// A query, and nothing that changes or sets anything.
async fn plan(session: &SessionContext, sql: &str) -> Result<LogicalPlan, DataFusionError> {
    let planned = session.state().create_logical_plan(sql).await?;
    let only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    only.verify_plan(&planned)?;
    Ok(planned)
}

/// A function whose value is another one each time.
fn volatile(plan: &LogicalPlan) -> Option<String> {
    let mut found = None;
    let walked = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::ScalarFunction(call) = expr
                    && call.func.signature().volatility != Volatility::Immutable
                {
                    found = Some(call.func.name().to_owned());
                }
                Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })
        })
    });
    walked.ok().and(found)
}
