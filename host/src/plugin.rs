//! Plugins: rules, enrichers and auditors that users wrote, as WebAssembly components behind the contract in `wit/`.
//!
//! The only place that knows Wasm exists. A plugin is loaded off the hot path ([`Plugin::load`], [`load`]) and called
//! with whole batches ([`Caller`]); what it returns is checked before it is believed ([`answer`]), what it may use is
//! bounded ([`sandbox`]), and where it fails, the rows at which it fails are found ([`call`], [`isolate`]).
//!
//! It routes nothing, and it never runs on an async thread: a [`Caller`] belongs to one OS thread with a stack of
//! [`THREAD_STACK`] bytes. It accepts no compiled code from anyone, links no WASI but the inert stand-ins that a
//! pipeline may ask for ([`inert`]), and gives a guest nothing but
//! `host.log`.

mod answer;
mod audit;
mod bindings;
mod breaker;
mod cache;
mod call;
mod describe;
mod engine;
#[cfg(test)]
mod fuzz;
mod inert;
mod inspect;
mod isolate;
mod lend;
mod load;
mod log;
mod pass;
mod sandbox;
mod sections;

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::Field;
use serde::Serialize;

pub use audit::{Metric, Opinion, Summary, Window};
pub use breaker::Breaker;
pub use call::{Added, Caller, Checked, DeadRow, FINDING, PROBES, Tally};
pub use describe::{Instances, Request, Type};
pub use engine::{Engine, THREAD_STACK};
pub use inspect::{Inspection, conform, inspect, inspect_script, inspect_with};
pub use load::{Start, compile_time};
pub use sections::{CONTRACT, contract_version};

use crate::outcome::Severity;

/// What a plugin is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// judges rows and changes nothing
    Rule,
    /// adds columns and drops nothing
    Enricher,
    /// decides over windows
    Auditor,
}

impl Kind {
    /// The interface that it exports.
    pub fn interface(self) -> &'static str {
        match self {
            Kind::Rule => "rule",
            Kind::Enricher => "enricher",
            Kind::Auditor => "auditor",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.interface())
    }
}

/// One reason why a rule objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// kebab-case, unique within the rule
    pub code: Arc<str>,
    /// what it does to the row
    pub severity: Severity,
    /// one sentence for the person who finds the row
    pub help: String,
    /// paths of the columns that it judges
    pub reads: Vec<Arc<str>>,
}

/// A plugin that was checked and is ready to be called: code, configuration and limits.
pub struct Plugin {
    name: Arc<str>,
    digest: Arc<str>,
    kind: Kind,
    described: describe::Described,
    /// paths of [`Described::columns`](describe::Described), in order
    reads: Vec<Arc<str>>,
    /// whether the schema has each of them
    present: Vec<bool>,
    codes: Vec<Code>,
    adds: Vec<Field>,
    template: sandbox::Template,
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin")
            .field("name", &self.name)
            .field("digest", &self.digest)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl Plugin {
    /// Its name in the pipeline file.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The name that it gives itself.
    pub fn own_name(&self) -> &str {
        &self.described.name
    }

    /// The version that it gives itself.
    pub fn version(&self) -> &str {
        &self.described.version
    }

    /// SHA-256 of its code, in hexadecimal.
    pub fn digest(&self) -> &Arc<str> {
        &self.digest
    }

    /// What it is for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How its instances are run.
    pub fn instances(&self) -> Instances {
        self.described.instances
    }

    /// The columns that it asks for, in the order in which they are passed.
    pub fn requests(&self) -> &[Request] {
        &self.described.columns
    }

    /// A rule's reasons to object; none for an enricher.
    pub fn codes(&self) -> &[Code] {
        &self.codes
    }

    /// Paths of the columns that it reads, those that the schema does not have among them.
    pub fn reads(&self) -> &[Arc<str>] {
        &self.reads
    }

    /// The columns that an enricher adds, all nullable; none for a rule.
    pub fn adds(&self) -> &[Field] {
        &self.adds
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use crate::config::Limits;

    /// Limits for tests; each test overrides what it is about.
    pub(crate) fn limits() -> Limits {
        Limits {
            time: Duration::from_secs(5),
            memory: 64 << 20,
            fuel: 100_000_000,
            fuel_per_row: 100_000,
            findings_per_row: 16,
            detail: 64,
            log_lines: 10,
            component: 64 << 20,
            compile: Duration::from_secs(60),
            call_rows: 4096,
            call_bytes: 1 << 20,
        }
    }
}
