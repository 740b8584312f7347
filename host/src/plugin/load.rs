//! From bytes to a [`Plugin`]: size → sections → names → types → compile → trial instance → description.
//!
//! Off the hot path, and in the order of cost, so that most mistakes are told before anything is compiled. A plugin
//! that cannot be loaded disturbs nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::Schema;
use sha2::{Digest, Sha256};

use super::bindings::Entry;
use super::cache::hex;
use super::describe::{self, Described};
use super::engine::{Engine, THREAD_STACK};
use super::log::{LogGate, clean};
use super::sandbox::{Instance, Template};
use super::{Code, Kind, Plugin, sections};
use crate::config::{Limits, PluginCode, PluginConfig, Wasi};
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
                PluginCode::Script(script) => format!(" from {}", script.file),
                PluginCode::Builtin(_) | PluginCode::Stored(..) => String::new(),
            };
            Error::plugin(&*config.name, format!("cannot be loaded{place}: {}", clean(&why, REASON)))
        };
        let script = match &config.code {
            PluginCode::Script(script) => Some(script),
            PluginCode::Wasm(..) | PluginCode::Builtin(_) | PluginCode::Stored(..) => None,
        };
        // an engine is ours, and as large as it is
        let bytes = script.map_or(code.len(), |script| script.text.len());
        if bytes > config.limits.component {
            return Err(refuse(format!(
                "it has {bytes} bytes, and {} are allowed; raise limits.component if that is right",
                config.limits.component
            )));
        }
        let code_digest = digest(code);
        if script.is_none() || !engine.has_engine(&code_digest) {
            let sections = sections::parse(code).map_err(refuse)?;
            sections.fit(kind, config.wasi).map_err(refuse)?;
            sections.check_types(code, kind, config.wasi).map_err(refuse)?;
        }
        let (settings, digest) = match script {
            Some(script) => (script.settings(&config.config), script.digest(&code_digest)),
            None if config.config.is_null() => ("{}".to_owned(), code_digest.clone()),
            None => (config.config.to_string(), code_digest.clone()),
        };
        let name = &config.name;
        let raw = Raw { code, digest: &code_digest, is_engine: script.is_some() };
        let entry = (kind, config.wasi);
        let (template, said) = try_out(engine, entry, name, raw, settings, &config.limits).map_err(refuse)?;
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

/// What it takes until a plugin can be asked.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// to instantiate and configure it once
    pub time: Duration,
    /// bytes of memory that an instance then has
    pub memory: usize,
}

impl Plugin {
    /// Starts an instance and throws it away. Call it on a thread with a stack of [`THREAD_STACK`] bytes.
    pub fn start(&self) -> Result<Start> {
        let begun = Instant::now();
        let started = Instance::start(&self.template);
        let time = begun.elapsed();
        let (instance, _) = started.map_err(|failure| {
            let why = format!("cannot be started again ({}): {}", failure.reason.as_str(), failure.detail);
            Error::plugin(&*self.name, why)
        })?;
        Ok(Start { time, memory: instance.memory() })
    }

    /// What it may use.
    pub fn limits(&self) -> &Limits {
        &self.template.limits
    }
}

/// How long compiling `code` takes, whatever is compiled already.
pub fn compile_time(engine: &Engine, code: &[u8]) -> Result<Duration> {
    let begun = Instant::now();
    let compiled = wasmtime::component::Component::from_binary(engine.wasm(), code);
    let time = begun.elapsed();
    compiled.map(|_| time).map_err(|e| Error::plugin("component", format!("cannot be compiled: {}", e.root_cause())))
}

fn resolve_code(code: &describe::Code, columns: &[Arc<str>]) -> Code {
    Code {
        code: code.code.as_str().into(),
        severity: code.severity,
        help: code.help.clone(),
        reads: code.reads.iter().map(|index| Arc::clone(&columns[usize::from(*index)])).collect(),
    }
}

/// Code that is to be compiled.
#[derive(Clone, Copy)]
pub(super) struct Raw<'c> {
    pub code: &'c [u8],
    /// of `code`
    pub digest: &'c str,
    /// whether it is an engine of scripts, which many plugins share
    pub is_engine: bool,
}

/// Compiles, instantiates and configures, once.
pub(super) fn try_out(
    engine: &Engine,
    (kind, wasi): (Kind, Wasi),
    name: &Arc<str>,
    raw: Raw<'_>,
    config: String,
    limits: &Limits,
) -> Result<(Template, Described), String> {
    // the caller may be an async thread, and may have little stack
    let work = || {
        let component = match raw.is_engine {
            true => engine.compile_engine(raw.code, raw.digest, limits.compile),
            false => engine.compile(raw.code, raw.digest, limits.compile),
        }?;
        let entry = Entry::new(engine.wasm(), &component, kind, wasi)
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
