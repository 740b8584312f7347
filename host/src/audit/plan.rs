//! What must hold for a window, as SQL: checked before anything runs.
//!
//! An expectation is an aggregate over the table `window`: all columns of staging, `_rejected` among them. Here it is only
//! planned, against columns without rows.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::columns;
use crate::config::{AuditConfig, Mistakes, Place};
use crate::error::{Doing, Result};
use crate::pipeline::shape::provenance_fields;
use crate::plugin::Plugin;
use crate::schema::{REJECTED, WINDOW};

/// Bytes that an audit may hold to sort or group a window's rows; beyond, it goes to disk or fails, which holds the window.
const MEMORY: usize = 256 << 20;

/// Rows that it takes at a time.
const BATCH: usize = 8192;

/// A session in which audits run: names as they are written, in the dialect of all expressions.
pub fn session() -> Result<SessionContext> {
    let config = SessionConfig::new()
        .with_batch_size(BATCH)
        // rows are judged beside it by as many threads as there are
        .with_target_partitions(1)
        .set_str("datafusion.sql_parser.dialect", "databricks")
        .set_bool("datafusion.sql_parser.enable_ident_normalization", false)
        .set_bool("datafusion.execution.parquet.schema_force_view_types", false);
    let doing = || "cannot prepare an audit".to_owned();
    let runtime = RuntimeEnvBuilder::new().with_memory_limit(MEMORY, 1.0).build_arc().doing(doing)?;
    Ok(SessionContext::new_with_config_rt(config, runtime))
}

/// The columns of the table `window` for rows of `schema` (declared and added columns).
fn window(schema: &Schema) -> SchemaRef {
    let mut fields: Vec<Field> = schema.fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.extend(provenance_fields());
    fields.push(Field::new(REJECTED, DataType::Boolean, true));
    fields.push(Field::new(WINDOW, DataType::Utf8, true));
    Arc::new(Schema::new(fields))
}

/// A path as SQL: each name in the dialect's quotes.
pub fn quoted(path: &str) -> String {
    path.split('.').map(|name| format!("`{name}`")).collect::<Vec<_>>().join(".")
}

/// Plans every expectation; what is wrong goes to `mistakes`.
pub fn check(audit: &AuditConfig, schema: &Schema, mistakes: &mut Mistakes) {
    for path in &audit.unique {
        match columns::data_type(schema, &path.text).map(|found| found.is_nested()) {
            Some(false) if columns::pseudo_type(&path.text).is_none() => {}
            Some(_) => {
                let title = format!("`{}` cannot be part of a key", path.text);
                mistakes.push(path.place.clone(), title, "it is no column with single values", "");
            }
            None => mistakes.push(path.place.clone(), format!("there is no column `{}`", path.text), "", ""),
        }
    }
    let session = session().expect("a session without tables needs nothing");
    let empty = datafusion::datasource::empty::EmptyTable::new(window(schema));
    session.register_table("window", Arc::new(empty)).expect("the name is free");
    for expectation in &audit.expect {
        let what = format!("`audit.expect.{}`", expectation.name);
        let sql = format!("SELECT ({}) AS `holds` FROM `window`", expectation.sql.text);
        // planning waits for nothing
        let planned = futures::executor::block_on(session.sql(&sql));
        let (title, help) = match planned {
            Err(error) => (format!("{what} cannot be planned: {}", error.strip_backtrace()), String::new()),
            Ok(frame) => match frame.schema().field(0).data_type() {
                DataType::Boolean if aggregates(frame.logical_plan()) => continue,
                DataType::Boolean => (
                    format!("{what} says something of each row, not of all of them together"),
                    "count rows, as in `count(*) FILTER (WHERE page IS NULL) = 0`; `[expect]` is for single rows"
                        .into(),
                ),
                other => (format!("{what} is {other}, not true or false"), String::new()),
            },
        };
        mistakes.push(expectation.sql.place.clone(), title, "", help);
    }
}

/// Plans what an auditor wants computed; what is wrong goes to `mistakes`.
pub fn check_metrics(auditor: &Plugin, place: &Place, schema: &Schema, mistakes: &mut Mistakes) {
    let session = session().expect("a session without tables needs nothing");
    let empty = datafusion::datasource::empty::EmptyTable::new(window(schema));
    session.register_table("window", Arc::new(empty)).expect("the name is free");
    for metric in auditor.metrics() {
        let sql = format!("SELECT CAST(({}) AS DOUBLE) AS `value` FROM `window`", metric.sql);
        let what = format!("auditor `{}` measures `{}` as `{}`, which", auditor.name(), metric.name, metric.sql);
        let title = match futures::executor::block_on(session.sql(&sql)) {
            Err(error) => format!("{what} cannot be planned: {}", error.strip_backtrace()),
            Ok(frame) if aggregates(frame.logical_plan()) => continue,
            Ok(_) => format!("{what} says something of each row, not of all of them together"),
        };
        mistakes.push(place.clone(), title, "", "");
    }
}

fn aggregates(plan: &LogicalPlan) -> bool {
    let mut found = false;
    let walked = plan.apply(|node| {
        found |= matches!(node, LogicalPlan::Aggregate(_));
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    walked.is_ok() && found
}
