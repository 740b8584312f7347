//! From bytes to a [`Plugin`]: size → sections → names → types → compile → trial instance → description.
//!
//! Off the hot path, and in the order of cost, so that most mistakes are told before anything is compiled. A plugin
//! that cannot be loaded disturbs nothing.

use std::sync::Arc;

use arrow::datatypes::Schema;
use sha2::{Digest, Sha256};

use super::bindings::Entry;
use super::cache::hex;
use super::describe::{self, Described};
use super::engine::{Engine, THREAD_STACK};
use super::log::{LogGate, clean};
use super::sandbox::{Instance, Template};
use super::{Code, Kind, Plugin, sections};
use crate::config::{Limits, PluginCode, PluginConfig};
use crate::error::{Error, Result};

/// Bytes of a refusal that are shown: it may quote the plugin.
const REASON: usize = 1024;

impl Plugin {
    /// Loads `code` as a plugin of `kind` for rows of `schema` (declared columns, and those that earlier enrichers add).
    ///
    /// Compiles and calls `configure` once, on a thread of its own; blocks until that is done.
    pub fn load(
        engine: &Engine,
        kind: Kind,
        config: &PluginConfig,
        code: &[u8],
        schema: &Schema,
    ) -> Result<Arc<Plugin>> {
        let refuse = |why: String| {
            let place = match &config.code {
                PluginCode::Wasm(written, _) => format!(" from {written}"),
                PluginCode::Builtin(_) => String::new(),
            };
            Error::plugin(&*config.name, format!("cannot be loaded{place}: {}", clean(&why, REASON)))
        };
        if code.len() > config.limits.component {
            return Err(refuse(format!(
                "it has {} bytes, and {} are allowed; raise limits.component if that is right",
                code.len(),
                config.limits.component
            )));
        }
        let sections = sections::parse(code).map_err(refuse)?;
        sections.fit(kind).map_err(refuse)?;
        sections.check_types(code, kind).map_err(refuse)?;
        let digest = digest(code);
        let settings = match &config.config {
            serde_json::Value::Null => "{}".to_owned(),
            value => value.to_string(),
        };
        let name = &config.name;
        let (template, said) = try_out(engine, kind, name, code, &digest, settings, &config.limits).map_err(refuse)?;
        let it = |why: String| refuse(format!("it {why}"));
        describe::check(&said, kind).map_err(it)?;
        let present = describe::resolve(&said, schema).map_err(it)?;
        let reads: Vec<Arc<str>> = said.columns.iter().map(|c| c.path.as_str().into()).collect();
        let codes = said.codes.iter().map(|code| resolve_code(code, &reads)).collect();
        Ok(Arc::new(Plugin {
            name: Arc::clone(name),
            digest: digest.into(),
            kind,
            adds: describe::fields(&said),
            described: said,
            reads,
            present,
            codes,
            template,
        }))
    }
}

fn resolve_code(code: &describe::Code, columns: &[Arc<str>]) -> Code {
    Code {
        code: code.code.as_str().into(),
        severity: code.severity,
        help: code.help.clone(),
        reads: code.reads.iter().map(|index| Arc::clone(&columns[usize::from(*index)])).collect(),
    }
}

/// Compiles, instantiates and configures, once.
pub(super) fn try_out(
    engine: &Engine,
    kind: Kind,
    name: &Arc<str>,
    code: &[u8],
    digest: &str,
    config: String,
    limits: &Limits,
) -> Result<(Template, Described), String> {
    // the caller may be an async thread, and may have little stack
    let work = || {
        let component =
            engine.compile(code, digest).map_err(|e| format!("it cannot be compiled: {}", e.root_cause()))?;
        let entry = Entry::new(engine.wasm(), &component, kind)
            .map_err(|e| format!("it cannot be linked: {}", e.root_cause()))?;
        let log = Arc::new(LogGate::new(Arc::clone(name), limits.log_lines));
        let template = Template { engine: engine.clone(), entry, config, limits: limits.clone(), log };
        let (_, said) = Instance::start(&template)
            .map_err(|failure| format!("configuring it failed ({}): {}", failure.reason.as_str(), failure.detail))?;
        Ok((template, said))
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("plugin-load".into()).stack_size(THREAD_STACK);
        match thread.spawn_scoped(scope, work) {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(e) => Err(format!("no thread could be started for it: {e}")),
        }
    })
}

/// SHA-256 of a plugin's code, in hexadecimal.
pub(super) fn digest(code: &[u8]) -> String {
    hex(&Sha256::digest(code))
}
