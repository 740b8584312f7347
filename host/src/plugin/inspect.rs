//! What a file is, seen from outside: for a person who has a component and wants to know what it does, or why it is
//! refused.
//!
//! It compiles and configures the component with an empty configuration, in the same sandbox as a pipeline does.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::describe::{self, Described};
use super::engine::Engine;
use super::load::{Raw, digest, try_out};
use super::sections::{self, contract_version};
use super::{Kind, Type};
use crate::config::{Limits, Wasi};
use crate::outcome::Severity;
use crate::script::Script;

/// What a file is.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// of the file
    pub bytes: usize,
    /// SHA-256 of the file, in hexadecimal
    pub digest: String,
    /// by its exports
    pub kind: Option<Kind>,
    /// the contract's version of this host
    pub contract: &'static str,
    /// names, in order
    pub imports: Vec<String>,
    /// names, in order
    pub exports: Vec<String>,
    /// tools that made it
    pub producers: Vec<String>,
    /// what it says about itself, as configured
    pub description: Option<Described>,
    /// why this host does not load it; or why it does not configure with nothing, which some plugins rightly do not
    pub problem: Option<String>,
}

/// Looks at a file, whatever it is; a component is configured with nothing.
pub fn inspect(engine: &Engine, code: &[u8]) -> Inspection {
    inspect_with(engine, code, "{}", Wasi::None)
}

/// The same, configured with `settings`, a JSON object, and with what it may have of WASI.
pub fn inspect_with(engine: &Engine, code: &[u8], settings: &str, wasi: Wasi) -> Inspection {
    let mut found = Inspection::of(code);
    found.problem = look(engine, code, settings, wasi, &mut found).err();
    found
}

/// The same of a script, which `code` is the engine of.
pub fn inspect_script(engine: &Engine, code: &[u8], script: &Script, config: &Value) -> Inspection {
    let code_digest = digest(code);
    let mut found = Inspection {
        bytes: script.text.len(),
        digest: script.digest(&code_digest),
        kind: Some(script.kind()),
        ..Inspection::of(code)
    };
    let raw = Raw { code, digest: &code_digest, is_engine: true };
    let said = configured(engine, (script.kind(), Wasi::None), raw, script.settings(config));
    (found.description, found.problem) = said.map_or_else(|why| (None, Some(why)), |said| (Some(said), None));
    found
}

/// Compares a component with the contract by names and types, without compiling it; what it is for, or why it is refused.
pub fn conform(code: &[u8]) -> Result<Kind, String> {
    let sections = sections::parse(code)?;
    let kind = sections.kind().unwrap_or(Kind::Rule);
    sections.fit(kind, Wasi::None)?;
    sections.check_types(code, kind, Wasi::None)?;
    Ok(kind)
}

fn look(engine: &Engine, code: &[u8], settings: &str, wasi: Wasi, found: &mut Inspection) -> Result<(), String> {
    let sections = sections::parse(code)?;
    found.imports.clone_from(&sections.imports);
    found.exports.clone_from(&sections.exports);
    found.producers = sections.producers.iter().cloned().collect();
    found.kind = sections.kind();
    // without an export of ours, the comparison with a rule's world says what is missing
    let kind = found.kind.unwrap_or(Kind::Rule);
    sections.fit(kind, wasi)?;
    sections.check_types(code, kind, wasi)?;
    let raw = Raw { code, digest: &found.digest, is_engine: false };
    found.description = Some(configured(engine, (kind, wasi), raw, settings.into())?);
    Ok(())
}

fn configured(engine: &Engine, entry: (Kind, Wasi), raw: Raw<'_>, settings: String) -> Result<Described, String> {
    let name: Arc<str> = "inspected".into();
    let (_, said) = try_out(engine, entry, &name, raw, settings, &limits())?;
    describe::check(&said, entry.0).map_err(|why| format!("it {why}"))?;
    Ok(said)
}

impl Inspection {
    /// Of code that was not looked at yet.
    fn of(code: &[u8]) -> Inspection {
        Inspection {
            bytes: code.len(),
            digest: digest(code),
            kind: None,
            contract: contract_version(),
            imports: Vec::new(),
            exports: Vec::new(),
            producers: Vec::new(),
            description: None,
            problem: None,
        }
    }
}

/// Wide enough for any honest plugin; no pipeline's limits are known here.
fn limits() -> Limits {
    Limits {
        time: Duration::from_secs(10),
        memory: 1 << 30,
        fuel: 0,
        fuel_per_row: 0,
        findings_per_row: 0,
        detail: 0,
        log_lines: 10,
        component: usize::MAX,
        compile: Duration::from_secs(600),
        call_rows: 0,
        call_bytes: 0,
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = match (&self.description, self.kind) {
            (Some(said), Some(kind)) => format!("{} {} · {kind}", said.name, said.version),
            (_, Some(kind)) => kind.to_string(),
            (_, None) => "no plugin".to_owned(),
        };
        writeln!(f, "{title} · {} bytes · sha256 {}", thousands(self.bytes), self.digest)?;
        let list = |f: &mut fmt::Formatter<'_>, what: &str, names: &[String]| match names {
            [] => Ok(()),
            names => names
                .iter()
                .enumerate()
                .try_for_each(|(i, name)| writeln!(f, "  {:<9} {name}", if i == 0 { what } else { "" })),
        };
        list(f, "imports", &self.imports)?;
        list(f, "exports", &self.exports)?;
        list(f, "made by", &self.producers)?;
        if let Some(said) = &self.description {
            describe_lines(f, said)?;
        }
        match &self.problem {
            Some(problem) => write!(f, "  problem   {problem}"),
            None => write!(f, "  loads     by contract {}", self.contract),
        }
    }
}

fn describe_lines(f: &mut fmt::Formatter<'_>, said: &Described) -> fmt::Result {
    let paths = said.columns.iter().map(|c| c.path.as_str());
    let codes = said.codes.iter().map(|c| c.code.as_str());
    let produced = said.produces.iter().map(|p| p.name.as_str());
    let width = paths.chain(codes).chain(produced).map(|name| name.chars().count()).max().unwrap_or(0);
    for (i, column) in said.columns.iter().enumerate() {
        let optional = if column.required { "" } else { ", optional" };
        writeln!(f, "  {:<9} {:<width$}  {}{optional}", head("reads", i), column.path, column.ty.as_str())?;
    }
    for (i, code) in said.codes.iter().enumerate() {
        let severity = match code.severity {
            Severity::Error => "",
            Severity::Warn => "warn: ",
        };
        writeln!(f, "  {:<9} {:<width$}  {severity}{}", head("codes", i), code.code, code.help)?;
    }
    for (i, metric) in said.metrics.iter().enumerate() {
        writeln!(f, "  {:<9} {:<width$}  {}", head("measures", i), metric.name, metric.sql)?;
    }
    for (i, added) in said.produces.iter().enumerate() {
        let ty = match added.ty {
            Type::Decimal => format!("decimal({}, {})", added.precision, added.scale),
            other => other.as_str().to_owned(),
        };
        writeln!(f, "  {:<9} {:<width$}  {ty}", head("adds", i), added.name)?;
    }
    Ok(())
}

fn head(what: &'static str, line: usize) -> &'static str {
    if line == 0 { what } else { "" }
}

fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
