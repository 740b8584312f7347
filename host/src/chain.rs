//! What judges: everything that a pipeline file says about rows, loaded once, run by many threads.
//!
//! Order: skip → decode → enrichers, in their order → expectations and rules. It routes nothing and writes nothing. Rows
//! that die on the way leave the batch; what remains is judged as if they had never been in it.
//!
//! Memory is bounded whatever a batch grows to: where columns, copies or findings take too much, the batch is judged in
//! halves ([`Judge::next`]), since a verdict depends on its record alone. What is too much for a single record is a dead
//! letter.

use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use uuid::Uuid;

use crate::audit::assign::Windows;
use crate::columns;
use crate::config::{Config, Variables};
use crate::error::{Error, Result};
use crate::generation::Generation;
use crate::ledger::Counts;
use crate::outcome::{Dead, Finding, Outcome};
use crate::plugin::{Engine, Plugin};
use crate::record::Batch;

mod asked;
mod judge;
mod parts;
mod rows;

pub use judge::{Judge, Spent, Waiting};
pub use parts::{Parts, Step};

/// Everything that judges, loaded and checked: one generation at work.
pub struct Chain {
    /// the pipeline file as meant
    pub config: Arc<Config>,
    /// its hash, and what is stored of it
    pub generation: Generation,
    /// what runs
    pub parts: Parts,
    /// what compiled its components, and will compile those of the next generation
    pub engine: Engine,
    namespace: Uuid,
}

/// What became of a batch.
#[derive(Clone, Debug)]
pub struct Judged {
    /// the rows that were judged
    pub batch: Batch,
    /// every finding on them, by row
    pub findings: Vec<Finding>,
    /// row → valid or error; where rows wait for their window: staging or, late, error
    pub outcomes: Vec<Outcome>,
    /// the windows of rows, where they wait for them
    pub windows: Option<Windows>,
    /// records and rows that could not be judged
    pub dead: Vec<Dead>,
    /// all of it in numbers
    pub counts: Counts,
}

impl Chain {
    /// Reads a pipeline file and loads everything that it names: SQL is planned, components are compiled, configured and
    /// checked. All mistakes come at once. `cache` holds compiled components.
    pub fn load(file: &Path, cache: Option<&Path>) -> Result<Chain> {
        Chain::load_with(file, Engine::new(cache.map(Path::to_path_buf))?)
    }

    /// As [`Chain::load`], with an engine that may have compiled some of it already.
    pub fn load_with(file: &Path, engine: Engine) -> Result<Chain> {
        Chain::load_given(file, engine, &|name| std::env::var(name).ok())
    }

    /// As [`Chain::load_with`], with `${NAME}` looked up in `variables`.
    pub fn load_given(file: &Path, engine: Engine, variables: Variables<'_>) -> Result<Chain> {
        let mut parts = None;
        let config = Config::load_with(file, variables, &mut |judges, mistakes| {
            parts = Some(Parts::load(&engine, judges, mistakes));
        })?;
        let parts = parts.ok_or_else(|| Error::Host("a pipeline without mistakes was not loaded".into()))?;
        // only now are the columns known that components add; a mistyped mask would show what it should hide
        if let Some(unknown) = config.mask.iter().find(|path| columns::data_type(&parts.schema, path).is_none()) {
            return Err(Error::Config(format!("[mask] names the column `{unknown}`, which rows do not have")));
        }
        Ok(Chain {
            generation: Generation::of(&config, &parts.codes)?,
            namespace: columns::pipeline_namespace(&config.name),
            config: Arc::new(config),
            parts,
            engine,
        })
    }

    /// A stored generation at work again, in the pipeline of `today`: its connections and locations, and nothing else of it.
    /// `engine` may have the code compiled already.
    pub fn revive(generation: Generation, today: &Config, engine: &Engine) -> Result<Chain> {
        let config = generation.revive(today)?;
        let mut mistakes = config.mistakes();
        let parts = Parts::load(engine, &config.judges(), &mut mistakes);
        mistakes.into_result()?;
        let namespace = columns::pipeline_namespace(&config.name);
        Ok(Chain { config: Arc::new(config), generation, parts, engine: engine.clone(), namespace })
    }

    /// A judge for one thread, with the reference tables as they are now.
    pub fn judge(&self) -> Result<Judge> {
        Judge::new(&self.parts, &self.config, self.namespace)
    }

    /// Every component, enrichers first.
    pub fn plugins(&self) -> impl Iterator<Item = &Arc<Plugin>> {
        self.parts.plugins.iter()
    }

    /// Every component and its code, enrichers first.
    pub fn components(&self) -> impl Iterator<Item = (&Arc<Plugin>, &[u8])> {
        self.parts.plugins.iter().zip(self.parts.codes.iter().map(|code| &code.bytes[..]))
    }

    /// Declared columns, then added ones.
    pub fn schema(&self) -> &SchemaRef {
        &self.parts.schema
    }
}

pub(crate) fn count(counts: &mut Counts, outcomes: &[Outcome], findings: &[Finding], dead: &[Dead]) {
    let errors = outcomes.iter().filter(|o| **o == Outcome::Error).count() as u64;
    counts.rows = (outcomes.len() + dead.len()) as u64;
    for (outcome, n) in
        [(Outcome::Valid, outcomes.len() as u64 - errors), (Outcome::Error, errors), (Outcome::Dlq, dead.len() as u64)]
    {
        counts.outcomes.insert(outcome, n);
    }
    let mut last: Option<(&Finding, u64)> = None;
    let mut add = |finding: &Finding, n: u64| {
        *counts.findings.entry(format!("{}/{}", finding.rule, finding.code)).or_default() += n;
    };
    // findings come in runs of one code: a key is made per run, not per finding
    for finding in findings {
        last = match last {
            Some((f, n)) if Arc::ptr_eq(&f.code, &finding.code) && Arc::ptr_eq(&f.rule, &finding.rule) => {
                Some((f, n + 1))
            }
            Some((f, n)) => {
                add(f, n);
                Some((finding, 1))
            }
            None => Some((finding, 1)),
        };
    }
    if let Some((f, n)) = last {
        add(f, n);
    }
    for row in dead {
        *counts.dead.entry(dead_key(row)).or_default() += 1;
    }
}

/// `decode/not-json`, `consent/plugin-trap`: under what a dead letter is counted.
pub fn dead_key(dead: &Dead) -> String {
    let place = dead.plugin.as_ref().map_or(dead.stage.as_str(), |(name, _)| name);
    format!("{place}/{}", dead.reason.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Reason, Stage};

    #[test]
    fn dead_letters_are_counted_under_the_plugin_that_failed() {
        let dead = |plugin| Dead {
            record: 0,
            ordinal: 0,
            stage: Stage::Rule,
            reason: Reason::PluginTrap,
            detail: String::new(),
            plugin,
        };
        assert_eq!(dead_key(&dead(None)), "rule/plugin-trap");
        assert_eq!(dead_key(&dead(Some(("consent".into(), "9c1e04".into())))), "consent/plugin-trap");
    }
}
