//! A plugin by itself: found, built, configured, and asked about rows that come from no source.
//!
//! For those who write plugins: [`crate::cases`] runs their cases here, `sluice check` looks whether a verdict depends on its
//! row alone ([`rowwise`]), `sluice bench` measures ([`measure`]). Rows have the shape that the plugin asks for, and go
//! through the strict decoder and the sandbox that a pipeline uses. It knows no pipeline file.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::UInt32Array;
use arrow::datatypes::Schema as ArrowSchema;
use serde_json::Value;

use crate::config::{MaxFailures, Mistakes, OnFailure, Place, PluginCode, PluginConfig, defaults};
use crate::error::{Error, Result};
use crate::plugin::{Breaker, Caller, Engine, Kind, Plugin};
use crate::record::Batch;
use crate::schema::Schema;

mod found;
pub mod measure;
pub mod rows;
pub mod rowwise;

pub use found::{Found, find, find_one};
use rows::Row;

/// An objection, as far as it is the same wherever its row stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Objection {
    /// the declared code
    pub code: String,
    /// the column at fault
    pub column: Option<String>,
    /// what it says beyond the code
    pub detail: Option<String>,
}

/// What a plugin made of one row.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// a rule's objections, sorted
    Finds(Vec<Objection>),
    /// the rows that an enricher made of it: what it added to each
    Adds(Vec<Value>),
    /// it could not judge it, and why
    Dead(String),
}

impl Answer {
    /// Whether the row is judged alike. How a plugin failed on a row is told in other words where it failed on others, too.
    pub fn is_like(&self, other: &Answer) -> bool {
        matches!((self, other), (Answer::Dead(_), Answer::Dead(_))) || self == other
    }

    /// The codes of the objections, sorted.
    pub fn codes(&self) -> Vec<&str> {
        match self {
            Answer::Finds(found) => found.iter().map(|objection| objection.code.as_str()).collect(),
            Answer::Adds(_) | Answer::Dead(_) => Vec::new(),
        }
    }
}

/// In a sentence: `finds login-exposed`, `adds {"engine": "Blink"}`.
impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Answer::Finds(found) if found.is_empty() => f.write_str("finds nothing"),
            Answer::Finds(found) => {
                let one = |objection: &Objection| {
                    let column = objection.column.as_ref().map(|c| format!(" at {c}")).unwrap_or_default();
                    let detail = objection.detail.as_ref().map(|d| format!(" ({d})")).unwrap_or_default();
                    format!("{}{column}{detail}", objection.code)
                };
                write!(f, "finds {}", found.iter().map(one).collect::<Vec<_>>().join(", "))
            }
            Answer::Adds(rows) => {
                let rows: Vec<String> = rows.iter().map(Value::to_string).collect();
                write!(f, "adds {}", if rows.is_empty() { "no row".to_owned() } else { rows.join(", ") })
            }
            Answer::Dead(why) => write!(f, "fails: {why}"),
        }
    }
}

/// A plugin that is configured, and the shape of the rows it is given.
pub struct Subject {
    /// ready to be called
    pub plugin: Arc<Plugin>,
    /// size of the component; of a script that of its text
    pub bytes: usize,
    schema: Arc<Schema>,
}

impl Subject {
    /// Loads a plugin with these settings; `rows` say which shape a column has that it wants as JSON.
    pub fn load(engine: &Engine, found: &Found, settings: &Value, rows: &[&Value]) -> Result<Subject> {
        let name = &found.name;
        let inspection = found.inspect(engine, settings);
        let bytes = inspection.bytes;
        let (Some(description), Some(kind)) = (inspection.description, inspection.kind) else {
            let why = inspection.problem.unwrap_or_else(|| "it does not describe itself".into());
            let mut mistakes = Mistakes::default();
            if let PluginCode::Script(script) = &found.plugin
                && script.explain(&why, name, &mut mistakes)
            {
                return Err(Error::Mistakes(Box::new(mistakes)));
            }
            return Err(Error::plugin(name, format!("cannot be loaded: {why}")));
        };
        if kind == Kind::Auditor {
            return Err(rowless(name));
        }
        let schema = Arc::new(Schema {
            arrow: Arc::new(ArrowSchema::new(rows::fields(&description.columns, rows))),
            constraints: Vec::new(),
            file: name.as_str().into(),
            text: String::new(),
            lines: BTreeMap::new(),
        });
        let config = PluginConfig {
            name: description.name.as_str().into(),
            code: found.plugin.clone(),
            place: Place { file: name.as_str().into(), span: 0..0 },
            config: settings.clone(),
            limits: defaults::LIMITS,
            wasi: found.wasi,
            on_failure: OnFailure::Stop,
            max_failures: defaults::MAX_FAILURES,
        };
        Ok(Subject { plugin: Plugin::load(engine, kind, &config, &found.code, &schema.arrow)?, bytes, schema })
    }

    /// `consent 1.2.0 (9c1e04)`.
    pub fn title(&self) -> String {
        format!("{} {} ({})", self.plugin.own_name(), self.plugin.version(), &self.plugin.digest()[..6])
    }

    /// Something to call it with that never gives up: each failure is an answer.
    pub fn caller(&self) -> Caller {
        let unlimited = MaxFailures { count: u32::MAX, ..defaults::MAX_FAILURES };
        Caller::new(self.plugin.clone(), Arc::new(Breaker::new(unlimited, OnFailure::DeadLetter)))
    }

    /// Rows as a batch; a row that does not decode is a mistake of whoever wrote it.
    pub fn batch(&self, rows: &[Row<'_>]) -> Result<Batch> {
        rows::batch(&self.schema, rows)
    }

    /// The records of a file in the shape that the plugin asks for, and how many do not have it.
    pub fn records(&self, file: &str) -> Result<(Batch, u64)> {
        rows::records(&self.schema, file)
    }

    /// Asks about every row of a batch.
    pub fn answers(&self, caller: &mut Caller, batch: &Batch) -> Result<Vec<Answer>> {
        let dead = |row: &crate::plugin::DeadRow| {
            (row.row as usize, Answer::Dead(format!("{}: {}", row.reason.as_str(), row.detail)))
        };
        let (mut answers, died): (Vec<Answer>, Vec<(usize, Answer)>) = match self.plugin.kind() {
            Kind::Rule => {
                let checked = caller.check(batch)?;
                let mut found = vec![Vec::new(); batch.len()];
                for finding in checked.findings {
                    found[finding.row as usize].push(Objection {
                        code: finding.code.to_string(),
                        column: finding.column.map(|column| column.to_string()),
                        detail: finding.detail,
                    });
                }
                let sorted = found.into_iter().map(|mut found| {
                    found.sort();
                    Answer::Finds(found)
                });
                (sorted.collect(), checked.dead.iter().map(dead).collect())
            }
            Kind::Auditor => return Err(rowless(self.plugin.name())),
            Kind::Enricher => {
                let added = caller.enrich(batch)?;
                let schema = ArrowSchema::new(self.plugin.adds().to_vec());
                let columns = arrow::array::RecordBatch::try_new(Arc::new(schema), added.columns);
                let columns = columns.map_err(|e| Error::Host(format!("checked columns do not make a batch: {e}")))?;
                let mut rows = vec![Vec::new(); batch.len()];
                for (answer, &row) in added.rows.iter().enumerate() {
                    rows[row as usize].push(rows::explicit(&columns.slice(answer, 1))?);
                }
                (rows.into_iter().map(Answer::Adds).collect(), added.dead.iter().map(dead).collect())
            }
        };
        died.into_iter().for_each(|(row, answer)| answers[row] = answer);
        Ok(answers)
    }
}

/// An auditor is nothing that rows can be put to.
pub(crate) fn rowless(name: &str) -> Error {
    Error::Config(format!(
        "{name} is an auditor: it decides over windows, and cannot be asked about rows. A pipeline with `[auditor.NAME]` asks \
         it, and `sluice audit show WINDOW` tells what it said"
    ))
}

/// The rows of a batch with these numbers, in this order; one may come several times.
pub fn pick(batch: &Batch, rows: &[usize]) -> Result<Batch> {
    let indices = UInt32Array::from_iter_values(rows.iter().map(|row| *row as u32));
    let columns = arrow::compute::take_record_batch(&batch.columns, &indices);
    Ok(Batch {
        columns: columns.map_err(|e| Error::Host(format!("rows of a batch cannot be taken: {e}")))?,
        origin: rows.iter().map(|row| batch.origin[*row]).collect(),
        ordinal: rows.iter().map(|row| batch.ordinal[*row]).collect(),
        raw: batch.raw.clone(),
        pipeline: batch.pipeline,
    })
}

/// Runs `work` on a thread with a stack that guests may use.
pub fn on_guest_stack<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("workbench".into()).stack_size(crate::plugin::THREAD_STACK);
        let thread = thread.spawn_scoped(scope, work).map_err(|e| Error::environment("cannot start a thread", e))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
