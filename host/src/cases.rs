//! Cases: what should come of a record or a row, written down beside a pipeline or a plugin, in NDJSON files of a folder
//! `cases/`. `sluice test` runs them without a broker and without tables.
//!
//! # Of a plugin
//! A line is a row and what the plugin makes of it; pseudo-columns (`_key`, `_timestamp`, …) stand in the row. `sluice build`
//! puts them into the component, too (see [`crate::component::cases`]).
//!
//! ```json
//! {"row": {"keep_private": true, "context": {"user": {"login": "mlind"}}}, "finds": ["login-exposed"]}
//! {"row": {"n": 1}, "config": {"factor": 2}, "adds": {"added": 2}, "name": "settings, and a name for the report"}
//! ```
//!
//! # Of a pipeline
//! A line is a record and what becomes of it. What it does not say is not compared; it must say something.
//!
//! ```json
//! {"record": {"user_id": null, "page": "/"}, "outcome": "error", "findings": ["expect/has-user"]}
//! {"raw": "{\"user_id\": ", "outcome": "dlq", "reason": "decode/not-json"}
//! {"raw": null, "key": "u1", "timestamp": "2026-11-20T21:03:11Z", "outcome": "skipped"}
//! {"record": {"user_id": "u1"}, "headers": {"source": "app"}, "topic": "visits", "offset": 7, "outcome": "valid", "row": {"user_id": "u1", "context": null}}
//! {"record": {"items": ["a", "b"]}, "rows": [{"outcome": "valid", "row": {"item": "a"}}, {"outcome": "valid", "row": {"item": "b"}}]}
//! ```
//!
//! | key | meaning |
//! |---|---|
//! | `record` | the payload, a JSON value: its text as it stands in the line |
//! | `raw` | or the payload as text, as `{"base64": "…"}`, or null for a tombstone |
//! | `key`, `headers` | text, `{"base64": "…"}` or null; headers as an object, or as a list of pairs where names repeat |
//! | `timestamp`, `topic`, `partition`, `offset` | of the record; by default none, `cases`, 0, and the line |
//! | `outcome` | `valid`, `error`, `dlq` or `skipped` |
//! | `findings` | all of them, warnings too, as `rule/code`, in any order |
//! | `reason` | why a record is dead: `decode/not-json`, `consent/plugin-trap` |
//! | `row` | columns of the row as they are stored; those that are not named are not compared |
//! | `rows` | instead of these four, where a record makes several rows, or none: a list of objects with these keys |
//! | `name` | for the report |
//!
//! What `sluice capture` writes are such lines, without what should come. `--update` writes what came into the lines that fail
//! or say nothing, and leaves the others as they are. Every case is judged twice, with all others and alone: a verdict depends
//! on its row and on nothing else.

use std::path::{Path, PathBuf};

pub mod binary;
mod diff;
pub mod junit;
mod line;
pub mod pipeline;
pub mod plugin;
mod update;

pub(crate) use line::Keys;
pub use line::{FOLDER, Line, files, read};
pub use update::update;

/// The cases of one pipeline or plugin, and what came of them.
#[derive(Debug)]
pub struct Suite {
    /// `consent 1.2.0 (9c1e04)`, `visits`
    pub title: String,
    /// in the order of files and lines
    pub cases: Vec<Tested>,
}

impl Suite {
    /// How many came out as they should.
    pub fn passed(&self) -> usize {
        self.cases.iter().filter(|case| case.problem.is_none()).count()
    }
}

/// What came of one case.
#[derive(Debug)]
pub struct Tested {
    /// the file
    pub file: PathBuf,
    /// its line, from 1
    pub line: usize,
    /// what it is called
    pub name: Option<String>,
    /// what is wrong, in lines that a person reads; `None`: it passed
    pub problem: Option<Problem>,
}

/// What is wrong with a case.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// a line for each difference
    pub lines: Vec<String>,
    /// the keys that would say what came, in order; `None` where that would not mend it
    pub update: Option<Update>,
}

/// Keys of a case with what came.
pub type Update = Vec<(&'static str, serde_json::Value)>;

impl Tested {
    /// `cases/visits.ndjson:3`.
    pub fn place(&self) -> String {
        format!("{}:{}", self.file.display(), self.line)
    }
}

/// Whether `path` means a pipeline; the file, then.
pub fn pipeline_of(path: &Path) -> Option<PathBuf> {
    let inside = path.join("sluice.toml");
    if path.extension().is_some_and(|e| e == "toml") {
        Some(path.to_owned())
    } else if inside.exists() && crate::component::language(path).is_err() {
        Some(if path == Path::new(".") { PathBuf::from("sluice.toml") } else { inside })
    } else {
        None
    }
}

/// The cases beside a pipeline file.
pub fn beside(file: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(FOLDER)
}
