//! The contract in Rust: the only file that names WIT types.
//!
//! It translates between them and the host's own types, and checks nothing: what guests say is judged in
//! [`describe`](super::describe) and [`answer`](super::answer).

use wasmtime::component::{Component, HasSelf, InstancePre, Linker};
use wasmtime::{Result, Store};

use super::answer::{RawColumn, RawEnriched, RawFinding};
use super::audit::{Metric, Opinion, Summary, Window};
use super::describe::{Code, Described, Instances, Produced, Request, Type};
use super::log::Level;
use super::pass::Passed;
use super::sandbox::State;
use super::{Kind, inert};
use crate::config::Wasi;
use crate::outcome::Severity;

#[allow(missing_docs)]
mod generated {
    // One world for the host, so that rules and enrichers share their types. Borrowed: the host's buffers are lowered
    // from slices, without a copy in between.
    wasmtime::component::bindgen!({
        path: "../wit",
        inline: "
            package sluice:every@0.1.0;
            world plugin {
                import sluice:plugin/host@0.1.0;
                import sluice:plugin/reference@0.1.0;
                export sluice:plugin/rule@0.1.0;
                export sluice:plugin/enricher@0.1.0;
                export sluice:plugin/auditor@0.1.0;
            }
        ",
        world: "sluice:every/plugin",
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

use generated::exports::sluice::plugin::{auditor, enricher, rule};
use generated::sluice::plugin::{host, reference, types};

/// A compiled component of one kind, ready to be instantiated in any number of stores.
pub(super) struct Entry {
    pre: InstancePre<State>,
    indices: Indices,
}

enum Indices {
    Rule(rule::GuestIndices),
    Enricher(enricher::GuestIndices),
    Auditor(auditor::GuestIndices),
}

/// An instance's functions.
pub(super) enum Guest {
    Rule(rule::Guest),
    Enricher(enricher::Guest),
    Auditor(auditor::Guest),
}

impl Entry {
    /// Links the component to `host.log` and `reference.lookup`, or to those and the stand-ins for WASI, and to nothing else.
    pub(super) fn new(engine: &wasmtime::Engine, component: &Component, kind: Kind, wasi: Wasi) -> Result<Entry> {
        let mut linker = Linker::new(engine);
        host::add_to_linker::<State, HasSelf<State>>(&mut linker, |state| state)?;
        reference::add_to_linker::<State, HasSelf<State>>(&mut linker, |state| state)?;
        match wasi {
            Wasi::None => {}
            Wasi::Inert => inert::link(&mut linker, component)?,
        }
        let pre = linker.instantiate_pre(component)?;
        let indices = match kind {
            Kind::Rule => Indices::Rule(rule::GuestIndices::new(&pre)?),
            Kind::Enricher => Indices::Enricher(enricher::GuestIndices::new(&pre)?),
            Kind::Auditor => Indices::Auditor(auditor::GuestIndices::new(&pre)?),
        };
        Ok(Entry { pre, indices })
    }

    /// A new instance, not configured yet.
    pub(super) fn instantiate(&self, store: &mut Store<State>) -> Result<Guest> {
        let instance = self.pre.instantiate(&mut *store)?;
        Ok(match &self.indices {
            Indices::Rule(indices) => Guest::Rule(indices.load(store, &instance)?),
            Indices::Enricher(indices) => Guest::Enricher(indices.load(store, &instance)?),
            Indices::Auditor(indices) => Guest::Auditor(indices.load(store, &instance)?),
        })
    }
}

/// What a call came to where the component ran to its end: an answer, or the plugin's own error.
pub(super) type Said<T> = std::result::Result<T, String>;

impl Guest {
    /// Calls `configure`.
    pub(super) fn configure(&self, store: &mut Store<State>, config: &str) -> Result<Said<Described>> {
        Ok(match self {
            Guest::Rule(guest) => guest.call_configure(store, config)?.map(Described::from).map_err(error),
            Guest::Enricher(guest) => guest.call_configure(store, config)?.map(Described::from).map_err(error),
            Guest::Auditor(guest) => guest.call_configure(store, config)?.map(Described::from).map_err(error),
        })
    }

    /// Calls `check`. Panics on an enricher: the caller knows the kind.
    pub(super) fn check(
        &self,
        store: &mut Store<State>,
        rows: u32,
        columns: &[Passed],
    ) -> Result<Said<Vec<RawFinding>>> {
        let Guest::Rule(guest) = self else { unreachable!("check is called on rules only") };
        let columns = lower(columns);
        let answer = guest.call_check(store, types::Batch { rows, columns: &columns })?;
        Ok(answer.map_err(error).map(|findings| findings.into_iter().map(RawFinding::from).collect()))
    }

    /// Calls `enrich`. Panics on a rule: the caller knows the kind.
    pub(super) fn enrich(&self, store: &mut Store<State>, rows: u32, columns: &[Passed]) -> Result<Said<RawEnriched>> {
        let Guest::Enricher(guest) = self else { unreachable!("enrich is called on enrichers only") };
        let columns = lower(columns);
        let answer = guest.call_enrich(store, types::Batch { rows, columns: &columns })?;
        Ok(answer.map_err(error).map(|enriched| RawEnriched {
            rows: enriched.rows,
            columns: enriched.columns.into_iter().map(RawColumn::from).collect(),
        }))
    }
}

impl Guest {
    /// Calls `audit`. Panics on another kind: the caller knows it.
    pub(super) fn audit(&self, store: &mut Store<State>, summary: &Summary) -> Result<Said<Opinion>> {
        let Guest::Auditor(guest) = self else { unreachable!("audit is called on auditors only") };
        let findings: Vec<auditor::Found<'_>> =
            summary.findings.iter().map(|(code, rows)| auditor::Found { code, rows: *rows }).collect();
        let history: Vec<auditor::PastWindow<'_>> = summary
            .history
            .iter()
            .map(|(past, published)| auditor::PastWindow {
                window: window(past),
                verdict: if *published { auditor::Verdict::Published } else { auditor::Verdict::Rejected },
            })
            .collect();
        let summary = auditor::Summary { window: window(&summary.window), findings: &findings, history: &history };
        let answer = guest.call_audit(store, summary)?;
        Ok(answer.map_err(error).map(|decision| match decision {
            auditor::Decision::Publish => Opinion::Publish,
            auditor::Decision::Hold(why) => Opinion::Hold(why),
            auditor::Decision::Reject(why) => Opinion::Reject(why),
        }))
    }
}

fn window(window: &Window) -> auditor::Window<'_> {
    auditor::Window {
        key: &window.key,
        starts: window.span.map(|(starts, _)| starts),
        ends: window.span.map(|(_, ends)| ends),
        rows: window.rows,
        rejected: window.rejected,
        values: &window.values,
    }
}

fn error(error: types::PluginError) -> String {
    match error {
        types::PluginError::Config(text) => format!("its configuration is wrong: {text}"),
        types::PluginError::Internal(text) => text,
    }
}

fn lower(columns: &[Passed]) -> Vec<types::ColumnParam<'_>> {
    columns.iter().map(lower_column).collect()
}

fn lower_column(column: &Passed) -> types::ColumnParam<'_> {
    use types::ColumnParam as C;
    match column {
        Passed::Absent => C::Absent,
        Passed::Boolean(values) => C::Boolean(fixed(&values.data, &values.validity)),
        Passed::Int32(values) => C::Int32(fixed(&values.data, &values.validity)),
        Passed::Int64(values) => C::Int64(fixed(&values.data, &values.validity)),
        Passed::Float64(values) => C::Float64(fixed(&values.data, &values.validity)),
        Passed::Date32(values) => C::Date32(fixed(&values.data, &values.validity)),
        Passed::TimestampUs(values) => C::TimestampUs(fixed(&values.data, &values.validity)),
        Passed::Decimal(precision, scale, values) => C::Decimal(types::DecimalsParam {
            precision: *precision,
            scale: *scale,
            values: fixed(&values.data, &values.validity),
        }),
        Passed::Utf8(values) => C::Utf8(varlen(&values.offsets, &values.data, &values.validity)),
        Passed::Binary(values) => C::Binary(varlen(&values.offsets, &values.data, &values.validity)),
        Passed::Json(values) => C::Json(varlen(&values.offsets, &values.data, &values.validity)),
    }
}

fn fixed<'a>(data: &'a [u8], validity: &'a [u8]) -> types::FixedParam<'a> {
    types::FixedParam { data, validity }
}

fn varlen<'a>(offsets: &'a [u8], data: &'a [u8], validity: &'a [u8]) -> types::VarlenParam<'a> {
    types::VarlenParam { offsets, data, validity }
}

impl From<types::ColumnResult> for RawColumn {
    fn from(column: types::ColumnResult) -> Self {
        use types::ColumnResult as C;
        let (ty, decimal, fixed) = match column {
            C::Absent => return RawColumn { ty: None, ..RawColumn::default() },
            C::Utf8(v) => return varlen_result(Type::Utf8, v),
            C::Binary(v) => return varlen_result(Type::Binary, v),
            C::Json(v) => return varlen_result(Type::Json, v),
            C::Decimal(d) => (Type::Decimal, Some((d.precision, d.scale)), d.values),
            C::Boolean(f) => (Type::Boolean, None, f),
            C::Int32(f) => (Type::Int32, None, f),
            C::Int64(f) => (Type::Int64, None, f),
            C::Float64(f) => (Type::Float64, None, f),
            C::Date32(f) => (Type::Date32, None, f),
            C::TimestampUs(f) => (Type::TimestampUs, None, f),
        };
        RawColumn { ty: Some(ty), decimal, offsets: Vec::new(), data: fixed.data, validity: fixed.validity }
    }
}

fn varlen_result(ty: Type, v: types::VarlenResult) -> RawColumn {
    RawColumn { ty: Some(ty), decimal: None, offsets: v.offsets, data: v.data, validity: v.validity }
}

impl From<rule::Finding> for RawFinding {
    fn from(finding: rule::Finding) -> Self {
        RawFinding { row: finding.row, code: finding.code, column: finding.column, detail: finding.detail }
    }
}

impl From<rule::Description> for Described {
    fn from(said: rule::Description) -> Self {
        Described {
            name: said.name,
            version: said.version,
            columns: said.columns.into_iter().map(Request::from).collect(),
            codes: said.codes.into_iter().map(Code::from).collect(),
            produces: Vec::new(),
            one_to_many: false,
            metrics: Vec::new(),
            history: 0,
            instances: said.instances.into(),
        }
    }
}

impl From<enricher::Description> for Described {
    fn from(said: enricher::Description) -> Self {
        Described {
            name: said.name,
            version: said.version,
            columns: said.columns.into_iter().map(Request::from).collect(),
            codes: Vec::new(),
            produces: said.produces.into_iter().map(Produced::from).collect(),
            one_to_many: said.one_to_many,
            metrics: Vec::new(),
            history: 0,
            instances: said.instances.into(),
        }
    }
}

impl From<auditor::Description> for Described {
    fn from(said: auditor::Description) -> Self {
        Described {
            name: said.name,
            version: said.version,
            columns: Vec::new(),
            codes: Vec::new(),
            produces: Vec::new(),
            one_to_many: false,
            metrics: said.metrics.into_iter().map(|metric| Metric { name: metric.name, sql: metric.sql }).collect(),
            history: said.history,
            instances: said.instances.into(),
        }
    }
}

impl From<types::ColumnRequest> for Request {
    fn from(said: types::ColumnRequest) -> Self {
        Request { path: said.path, ty: said.ty.into(), required: said.required }
    }
}

impl From<types::CodeInfo> for Code {
    fn from(said: types::CodeInfo) -> Self {
        let severity = match said.severity {
            types::Severity::Error => Severity::Error,
            types::Severity::Warn => Severity::Warn,
        };
        Code { code: said.code, severity, help: said.help, reads: said.reads }
    }
}

impl From<enricher::ColumnInfo> for Produced {
    fn from(said: enricher::ColumnInfo) -> Self {
        Produced { name: said.name, ty: said.ty.into(), precision: said.precision, scale: said.scale }
    }
}

impl From<types::Instances> for Instances {
    fn from(said: types::Instances) -> Self {
        match said {
            types::Instances::Fresh => Instances::Fresh,
            types::Instances::Reused => Instances::Reused,
        }
    }
}

impl From<types::LogicalType> for Type {
    fn from(said: types::LogicalType) -> Self {
        match said {
            types::LogicalType::Boolean => Type::Boolean,
            types::LogicalType::Int32 => Type::Int32,
            types::LogicalType::Int64 => Type::Int64,
            types::LogicalType::Float64 => Type::Float64,
            types::LogicalType::Date32 => Type::Date32,
            types::LogicalType::TimestampUs => Type::TimestampUs,
            types::LogicalType::Decimal => Type::Decimal,
            types::LogicalType::Utf8 => Type::Utf8,
            types::LogicalType::Binary => Type::Binary,
            types::LogicalType::Json => Type::Json,
        }
    }
}

impl types::Host for State {}

impl reference::Host for State {
    fn lookup(
        &mut self,
        table: String,
        rows: u32,
        keys: Vec<types::ColumnResult>,
        columns: Vec<types::ColumnRequest>,
    ) -> std::result::Result<reference::Joined, String> {
        let keys = keys.into_iter().map(RawColumn::from).collect();
        let columns: Vec<Request> = columns.into_iter().map(Request::from).collect();
        let lent = State::lookup(self, &table, rows as usize, keys, &columns)?;
        Ok(reference::Joined { rows: lent.rows, columns: lent.columns.iter().map(owned).collect() })
    }
}

/// What the host answers itself is copied once: it is the guest's.
fn owned(column: &Passed) -> types::ColumnResult {
    use types::ColumnResult as C;
    let fixed = |values: &super::pass::Fixed| types::FixedResult {
        data: values.data.to_vec(),
        validity: values.validity.to_vec(),
    };
    let varlen = |values: &super::pass::Varlen| types::VarlenResult {
        offsets: values.offsets.to_vec(),
        data: values.data.to_vec(),
        validity: values.validity.to_vec(),
    };
    match column {
        Passed::Absent => C::Absent,
        Passed::Boolean(values) => C::Boolean(fixed(values)),
        Passed::Int32(values) => C::Int32(fixed(values)),
        Passed::Int64(values) => C::Int64(fixed(values)),
        Passed::Float64(values) => C::Float64(fixed(values)),
        Passed::Date32(values) => C::Date32(fixed(values)),
        Passed::TimestampUs(values) => C::TimestampUs(fixed(values)),
        Passed::Decimal(precision, scale, values) => {
            C::Decimal(types::DecimalsResult { precision: *precision, scale: *scale, values: fixed(values) })
        }
        Passed::Utf8(values) => C::Utf8(varlen(values)),
        Passed::Binary(values) => C::Binary(varlen(values)),
        Passed::Json(values) => C::Json(varlen(values)),
    }
}

impl host::Host for State {
    fn log(&mut self, level: host::Level, message: String) {
        let level = match level {
            host::Level::Trace => Level::Trace,
            host::Level::Debug => Level::Debug,
            host::Level::Info => Level::Info,
            host::Level::Warn => Level::Warn,
            host::Level::Error => Level::Error,
        };
        State::log(self, level, &message);
    }
}
