//! The exports of a component, and what it may ask of the host. Only compiled for wasm.
//!
//! The one place of the SDK that names WIT types. Buffers are moved, never copied.

use std::cell::RefCell;

use crate::audit;
use crate::batch::{Batch, Column, Fixed, LogicalType, PluginError, Request, Varlen};
use crate::codes::{Finding, Severity};
use crate::log::Level;
use crate::plugin::{ColumnRequest, Enricher, Meta, Rule};
use crate::settings::State;

#[doc(hidden)]
#[allow(missing_docs)] // generated
pub mod rule_world {
    wit_bindgen::generate!({
        path: "../../wit/plugin.wit",
        world: "rule-plugin",
        pub_export_macro: true,
        export_macro_name: "export_rule",
        default_bindings_module: "::sluice::guest::rule_world",
        generate_unused_types: true,
    });
}

#[doc(hidden)]
#[allow(missing_docs)] // generated
pub mod enricher_world {
    wit_bindgen::generate!({
        path: "../../wit/plugin.wit",
        world: "enricher-plugin",
        pub_export_macro: true,
        export_macro_name: "export_enricher",
        default_bindings_module: "::sluice::guest::enricher_world",
        with: {
            "sluice:plugin/types@0.1.0": crate::guest::rule_world::sluice::plugin::types,
            "sluice:plugin/host@0.1.0": crate::guest::rule_world::sluice::plugin::host,
            "sluice:plugin/reference@0.1.0": crate::guest::rule_world::sluice::plugin::reference,
        },
    });
}

#[doc(hidden)]
#[allow(missing_docs)] // generated
pub mod auditor_world {
    wit_bindgen::generate!({
        path: "../../wit/plugin.wit",
        world: "auditor-plugin",
        pub_export_macro: true,
        export_macro_name: "export_auditor",
        default_bindings_module: "::sluice::guest::auditor_world",
        with: {
            "sluice:plugin/types@0.1.0": crate::guest::rule_world::sluice::plugin::types,
            "sluice:plugin/host@0.1.0": crate::guest::rule_world::sluice::plugin::host,
        },
    });
}

use auditor_world::exports::sluice::plugin::auditor as wit_auditor;
use enricher_world::exports::sluice::plugin::enricher as wit_enricher;
use rule_world::exports::sluice::plugin::rule as wit_rule;
use rule_world::sluice::plugin::{host, reference, types as wit};

pub use auditor_world::export_auditor;
pub use enricher_world::export_enricher;
pub use rule_world::export_rule;

thread_local! {
    /// The settings of this instance; a component has one plugin and one thread.
    static STATE: RefCell<Option<State>> = const { RefCell::new(None) };
}

/// A rule that is exported; `#[rule]` implements it.
pub trait RulePlugin: 'static {
    /// The rule.
    const RULE: Rule;
}

/// An enricher that is exported; `#[enricher]` implements it.
pub trait EnricherPlugin: 'static {
    /// The enricher.
    const ENRICHER: Enricher;
}

impl<T: RulePlugin> wit_rule::Guest for T {
    fn configure(config_json: String) -> Result<wit_rule::Description, wit::PluginError> {
        report_panics();
        let (description, state) = (T::RULE.configure)(&config_json)?;
        STATE.set(Some(state));
        let codes = description.codes.into_iter().map(|code| wit::CodeInfo {
            code: code.code.into(),
            severity: match code.severity {
                Severity::Error => wit::Severity::Error,
                Severity::Warn => wit::Severity::Warn,
            },
            help: code.help.into(),
            reads: code.reads,
        });
        Ok(wit_rule::Description {
            name: description.meta.name.into(),
            version: description.meta.version.into(),
            columns: description.columns.into_iter().map(Into::into).collect(),
            codes: codes.collect(),
            instances: instances(description.meta),
        })
    }

    fn check(batch: wit::Batch) -> Result<Vec<wit::Finding>, wit::PluginError> {
        let findings = with_state(|state| (T::RULE.check)(state, &batch.into()))?;
        let send = |Finding { row, code, column, detail }| wit::Finding { row, code, column, detail };
        Ok(findings.into_iter().map(send).collect())
    }
}

impl<T: EnricherPlugin> wit_enricher::Guest for T {
    fn configure(config_json: String) -> Result<wit_enricher::Description, wit::PluginError> {
        report_panics();
        let (description, state) = (T::ENRICHER.configure)(&config_json)?;
        STATE.set(Some(state));
        let produces = description.produces.iter().map(|column| wit_enricher::ColumnInfo {
            name: column.name.into(),
            ty: column.ty.into(),
            precision: column.precision,
            scale: column.scale,
        });
        Ok(wit_enricher::Description {
            name: description.meta.name.into(),
            version: description.meta.version.into(),
            columns: description.columns.into_iter().map(Into::into).collect(),
            produces: produces.collect(),
            one_to_many: description.one_to_many,
            instances: instances(description.meta),
        })
    }

    fn enrich(batch: wit::Batch) -> Result<wit_enricher::Enriched, wit::PluginError> {
        let enriched = with_state(|state| (T::ENRICHER.enrich)(state, &batch.into()))?;
        let columns = enriched.columns.into_iter().map(Into::into).collect();
        Ok(wit_enricher::Enriched { rows: enriched.rows, columns })
    }
}

/// An auditor that is exported; `sluice::auditor!` implements it.
pub trait AuditorPlugin: 'static {
    /// What decides.
    type Auditor: audit::Auditor;
    /// Name and version.
    const META: Meta;
}

impl<T: AuditorPlugin> wit_auditor::Guest for T {
    fn configure(config_json: String) -> Result<wit_auditor::Description, wit::PluginError> {
        report_panics();
        let (description, state) = audit::configure::<T::Auditor>(T::META, &config_json)?;
        STATE.set(Some(state));
        let metrics = description.metrics.into_iter();
        Ok(wit_auditor::Description {
            name: description.meta.name.into(),
            version: description.meta.version.into(),
            metrics: metrics.map(|audit::Metric { name, sql }| wit_auditor::Metric { name, sql }).collect(),
            history: description.history,
            instances: instances(description.meta),
        })
    }

    fn audit(summary: wit_auditor::Summary) -> Result<wit_auditor::Decision, wit::PluginError> {
        let past = |past: wit_auditor::PastWindow| audit::Past {
            window: past.window.into(),
            published: matches!(past.verdict, wit_auditor::Verdict::Published),
        };
        let summary = audit::Summary {
            window: summary.window.into(),
            findings: summary.findings.into_iter().map(|found| (found.code, found.rows)).collect(),
            history: summary.history.into_iter().map(past).collect(),
        };
        Ok(match with_state(|state| audit::audit::<T::Auditor>(state, &summary))? {
            audit::Decision::Publish => wit_auditor::Decision::Publish,
            audit::Decision::Hold(why) => wit_auditor::Decision::Hold(why),
            audit::Decision::Reject(why) => wit_auditor::Decision::Reject(why),
        })
    }
}

impl From<wit_auditor::Window> for audit::Window {
    fn from(window: wit_auditor::Window) -> Self {
        audit::Window {
            key: window.key,
            starts: window.starts,
            ends: window.ends,
            rows: window.rows,
            rejected: window.rejected,
            values: window.values,
        }
    }
}

/// A line in the host's log.
pub(crate) fn log(level: Level, message: &str) {
    let level = match level {
        Level::Debug => host::Level::Debug,
        Level::Info => host::Level::Info,
        Level::Warn => host::Level::Warn,
        Level::Error => host::Level::Error,
    };
    host::log(level, message);
}

/// What a table of the pipeline has for `rows` keys: for each answer its key, and the columns.
pub(crate) fn lookup(
    table: &str,
    rows: u32,
    keys: Vec<Column>,
    wanted: &[Request],
) -> Result<(Option<Vec<u32>>, Vec<Column>), PluginError> {
    let keys: Vec<wit::Column> = keys.into_iter().map(Into::into).collect();
    let wanted: Vec<wit::ColumnRequest> = wanted
        .iter()
        .map(|request| wit::ColumnRequest {
            path: request.path.into(),
            ty: request.ty.into(),
            required: request.required,
        })
        .collect();
    let joined = reference::lookup(table, rows, &keys, &wanted).map_err(PluginError::Internal)?;
    Ok((joined.rows, joined.columns.into_iter().map(Into::into).collect()))
}

/// Without this a panic is a bare `unreachable`: the host would know that the plugin trapped, and nobody why.
fn report_panics() {
    std::panic::set_hook(Box::new(|panic| log(Level::Error, &panic.to_string())));
}

fn with_state<T>(call: impl FnOnce(&State) -> Result<T, PluginError>) -> Result<T, PluginError> {
    STATE.with_borrow(|state| match state {
        Some(state) => call(state),
        None => Err(PluginError::Internal("called before `configure`".into())),
    })
}

fn instances(meta: Meta) -> wit::Instances {
    if meta.reused { wit::Instances::Reused } else { wit::Instances::Fresh }
}

impl From<PluginError> for wit::PluginError {
    fn from(error: PluginError) -> Self {
        match error {
            PluginError::Config(text) => wit::PluginError::Config(text),
            PluginError::Internal(text) => wit::PluginError::Internal(text),
        }
    }
}

impl From<ColumnRequest> for wit::ColumnRequest {
    fn from(request: ColumnRequest) -> Self {
        wit::ColumnRequest { path: request.path, ty: request.ty.into(), required: request.required }
    }
}

impl From<LogicalType> for wit::LogicalType {
    fn from(ty: LogicalType) -> Self {
        match ty {
            LogicalType::Boolean => wit::LogicalType::Boolean,
            LogicalType::Int32 => wit::LogicalType::Int32,
            LogicalType::Int64 => wit::LogicalType::Int64,
            LogicalType::Float64 => wit::LogicalType::Float64,
            LogicalType::Date32 => wit::LogicalType::Date32,
            LogicalType::TimestampUs => wit::LogicalType::TimestampUs,
            LogicalType::Decimal => wit::LogicalType::Decimal,
            LogicalType::Utf8 => wit::LogicalType::Utf8,
            LogicalType::Binary => wit::LogicalType::Binary,
            LogicalType::Json => wit::LogicalType::Json,
        }
    }
}

impl From<wit::Batch> for Batch {
    fn from(batch: wit::Batch) -> Self {
        Batch { rows: batch.rows as usize, columns: batch.columns.into_iter().map(Into::into).collect() }
    }
}

impl From<wit::Fixed> for Fixed {
    fn from(fixed: wit::Fixed) -> Self {
        Fixed { data: fixed.data, validity: fixed.validity }
    }
}

impl From<wit::Varlen> for Varlen {
    fn from(varlen: wit::Varlen) -> Self {
        Varlen { offsets: varlen.offsets, data: varlen.data, validity: varlen.validity }
    }
}

impl From<wit::Column> for Column {
    fn from(column: wit::Column) -> Self {
        match column {
            wit::Column::Absent => Column::Absent,
            wit::Column::Boolean(fixed) => Column::Boolean(fixed.into()),
            wit::Column::Int32(fixed) => Column::Int32(fixed.into()),
            wit::Column::Int64(fixed) => Column::Int64(fixed.into()),
            wit::Column::Float64(fixed) => Column::Float64(fixed.into()),
            wit::Column::Date32(fixed) => Column::Date32(fixed.into()),
            wit::Column::TimestampUs(fixed) => Column::TimestampUs(fixed.into()),
            wit::Column::Decimal(decimals) => {
                Column::Decimal { precision: decimals.precision, scale: decimals.scale, values: decimals.values.into() }
            }
            wit::Column::Utf8(varlen) => Column::Utf8(varlen.into()),
            wit::Column::Binary(varlen) => Column::Binary(varlen.into()),
            wit::Column::Json(varlen) => Column::Json(varlen.into()),
        }
    }
}

impl From<Fixed> for wit::Fixed {
    fn from(fixed: Fixed) -> Self {
        wit::Fixed { data: fixed.data, validity: fixed.validity }
    }
}

impl From<Varlen> for wit::Varlen {
    fn from(varlen: Varlen) -> Self {
        wit::Varlen { offsets: varlen.offsets, data: varlen.data, validity: varlen.validity }
    }
}

impl From<Column> for wit::Column {
    fn from(column: Column) -> Self {
        match column {
            Column::Absent => wit::Column::Absent,
            Column::Boolean(fixed) => wit::Column::Boolean(fixed.into()),
            Column::Int32(fixed) => wit::Column::Int32(fixed.into()),
            Column::Int64(fixed) => wit::Column::Int64(fixed.into()),
            Column::Float64(fixed) => wit::Column::Float64(fixed.into()),
            Column::Date32(fixed) => wit::Column::Date32(fixed.into()),
            Column::TimestampUs(fixed) => wit::Column::TimestampUs(fixed.into()),
            Column::Decimal { precision, scale, values } => {
                wit::Column::Decimal(wit::Decimals { precision, scale, values: values.into() })
            }
            Column::Utf8(varlen) => wit::Column::Utf8(varlen.into()),
            Column::Binary(varlen) => wit::Column::Binary(varlen.into()),
            Column::Json(varlen) => wit::Column::Json(varlen.into()),
        }
    }
}
