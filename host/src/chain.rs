//! What judges: everything that a pipeline file says about rows, loaded once, run by many threads.
//!
//! Order: skip → decode → enrichers, in their order → expectations and rules. It routes nothing and writes nothing. Rows
//! that die on the way leave the batch; what remains is judged as if they had never been in it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use uuid::Uuid;

use crate::columns;
use crate::component;
use crate::config::{Config, EnrichConfig, Judges, Mistakes, PluginCode, PluginConfig};
use crate::decode::JsonDecoder;
use crate::error::{Doing, Error, Result};
use crate::expect::{self, Declared, Expectations, Planner, Skip, SqlEnricher, SqlMistake};
use crate::generation::{Code, Generation};
use crate::ledger::Counts;
use crate::outcome::{Dead, Finding, Outcome, Stage, route};
use crate::plugin::{self, Breaker, Caller, Engine, Plugin};
use crate::record::{Batch, RawBatch};

mod rows;

use rows::{Author, GROWN, Rows};

/// Everything that judges, loaded and checked: one generation at work.
pub struct Chain {
    /// the pipeline file as meant
    pub config: Arc<Config>,
    /// its hash, and what is stored of it
    pub generation: Generation,
    /// what runs
    pub parts: Parts,
    namespace: Uuid,
}

/// What judges, ready to run: planned SQL, loaded components.
pub struct Parts {
    /// declared columns, then added ones
    pub schema: SchemaRef,
    /// what must hold, in SQL
    pub expectations: Arc<Expectations>,
    /// components that judge
    pub rules: Vec<Step>,
    enrichers: Vec<Enricher>,
    skip: Option<Arc<Skip>>,
    plugins: Vec<Arc<Plugin>>,
    codes: Vec<Code>,
}

/// A loaded component and its budget of failures, shared by all threads.
#[derive(Clone)]
pub struct Step {
    /// the component
    pub plugin: Arc<Plugin>,
    /// how often it may fail
    pub breaker: Arc<Breaker>,
}

#[derive(Clone)]
enum Enricher {
    Sql(Arc<SqlEnricher>),
    Plugin(Step),
}

/// What became of a batch.
#[derive(Debug)]
pub struct Judged {
    /// the rows that were judged
    pub batch: Batch,
    /// every finding on them, by row
    pub findings: Vec<Finding>,
    /// row → valid or error
    pub outcomes: Vec<Outcome>,
    /// records and rows that could not be judged
    pub dead: Vec<Dead>,
    /// all of it in numbers
    pub counts: Counts,
}

impl Parts {
    /// Plans all SQL and loads all components, as far as possible; what is wrong goes to `mistakes`.
    pub fn load(engine: &Engine, judges: &Judges, mistakes: &mut Mistakes) -> Parts {
        let planner = Planner::new();
        let declared = Declared { file: &judges.schema.file, lines: &judges.schema.lines };
        let mut schema = judges.schema.arrow.clone();
        let mut parts = Parts {
            schema: schema.clone(),
            expectations: Arc::new(Expectations::none()),
            rules: Vec::new(),
            enrichers: Vec::new(),
            skip: None,
            plugins: Vec::new(),
            codes: Vec::new(),
        };
        for step in judges.enrich {
            match step {
                EnrichConfig::Sql { name, columns } => {
                    match SqlEnricher::plan(&planner, name.clone(), columns, &schema, declared) {
                        Ok(sql) => {
                            schema = sql.schema().clone();
                            parts.enrichers.push(Enricher::Sql(Arc::new(sql)));
                        }
                        Err(wrong) => push_all(mistakes, wrong),
                    }
                }
                EnrichConfig::Plugin(config) => {
                    if let Some(step) = parts.plugin(engine, plugin::Kind::Enricher, config, &schema, mistakes) {
                        schema = with_fields(&schema, step.plugin.adds());
                        parts.enrichers.push(Enricher::Plugin(step));
                    }
                }
            }
        }
        match Expectations::plan(&planner, judges.expect, &schema, declared) {
            Ok(expectations) => parts.expectations = Arc::new(expectations),
            Err(wrong) => push_all(mistakes, wrong),
        }
        match judges.skip.map(|sql| Skip::plan(&planner, sql)).transpose() {
            Ok(skip) => parts.skip = skip.map(Arc::new),
            Err(wrong) => push_all(mistakes, wrong),
        }
        for config in judges.rules {
            if let Some(step) = parts.plugin(engine, plugin::Kind::Rule, config, &schema, mistakes) {
                parts.rules.push(step);
            }
        }
        parts.schema = schema;
        parts
    }

    fn plugin(
        &mut self,
        engine: &Engine,
        kind: plugin::Kind,
        config: &PluginConfig,
        schema: &SchemaRef,
        mistakes: &mut Mistakes,
    ) -> Option<Step> {
        let loaded = code_of(config).and_then(|code| Ok((Plugin::load(engine, kind, config, &code, schema)?, code)));
        match loaded {
            Ok((plugin, code)) => {
                self.plugins.push(plugin.clone());
                self.codes.push(Code { name: config.name.clone(), bytes: code.into() });
                Some(Step { plugin, breaker: Arc::new(Breaker::new(config.max_failures, config.on_failure)) })
            }
            Err(error) => {
                let mut title = error.to_string();
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                if let Some(cause) = cause.filter(|cause| !title.contains(cause)) {
                    title = format!("{title}: {cause}");
                }
                mistakes.push(config.place.clone(), title, "", "");
                None
            }
        }
    }
}

fn push_all(mistakes: &mut Mistakes, wrong: Vec<SqlMistake>) {
    for mistake in wrong {
        let place = match mistake.span_in_sql {
            Some(span) => mistakes.sources().within(&mistake.place, span),
            None => mistake.place,
        };
        mistakes.push(place, mistake.title, mistake.label, mistake.help);
    }
}

impl Chain {
    /// Reads a pipeline file and loads everything that it names: SQL is planned, components are compiled, configured and
    /// checked. All mistakes come at once. `cache` holds compiled components.
    pub fn load(file: &Path, cache: Option<&Path>) -> Result<Chain> {
        let engine = Engine::new(cache.map(Path::to_path_buf))?;
        let mut parts = None;
        let config = Config::load_with(file, &|name| std::env::var(name).ok(), &mut |judges, mistakes| {
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
        })
    }

    /// A judge for one thread.
    pub fn judge(&self) -> Result<Judge> {
        let source = &self.config.source;
        let caller = |step: &Step| Caller::new(step.plugin.clone(), step.breaker.clone());
        let enrichers = self.parts.enrichers.iter().map(|enricher| match enricher {
            Enricher::Sql(sql) => Adding::Sql(sql.clone()),
            Enricher::Plugin(step) => Adding::Plugin(Box::new(caller(step))),
        });
        Ok(Judge {
            decoder: JsonDecoder::new(self.config.schema.clone(), source.unknown_fields, source.max_record)?,
            skip: self.parts.skip.clone(),
            enrichers: enrichers.collect(),
            expectations: self.parts.expectations.clone(),
            rules: self.parts.rules.iter().map(caller).collect(),
            namespace: self.namespace,
        })
    }

    /// Every component, enrichers first.
    pub fn plugins(&self) -> impl Iterator<Item = &Arc<Plugin>> {
        self.parts.plugins.iter()
    }

    /// Declared columns, then added ones.
    pub fn schema(&self) -> &SchemaRef {
        &self.parts.schema
    }
}

fn code_of(config: &PluginConfig) -> Result<Vec<u8>> {
    match &config.code {
        PluginCode::Wasm(written, path) => std::fs::read(path).doing(|| format!("cannot read {written}")),
        PluginCode::Builtin(name) => component::builtin(name).unwrap_or_else(|| {
            let known = component::BUILTINS.join(", ");
            Err(Error::Config(format!("there is no ready-made component `{name}`; there are: {known}")))
        }),
    }
}

fn with_fields(schema: &SchemaRef, added: &[Field]) -> SchemaRef {
    let fields = schema.fields().iter().cloned().chain(added.iter().cloned().map(Arc::new));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

enum Adding {
    Sql(Arc<SqlEnricher>),
    Plugin(Box<Caller>),
}

/// Judges batches on one thread.
pub struct Judge {
    decoder: JsonDecoder,
    skip: Option<Arc<Skip>>,
    enrichers: Vec<Adding>,
    expectations: Arc<Expectations>,
    rules: Vec<Caller>,
    namespace: Uuid,
}

impl Judge {
    /// Judges the records of `raw`.
    ///
    /// # Errors
    /// A component failed beyond its budget and the pipeline must stop: nothing of the batch may be committed.
    pub fn judge(&mut self, raw: RawBatch) -> Result<Judged> {
        let raw = Arc::new(raw);
        let skipped = self.skip.as_ref().map(|skip| skip.skipped(&raw));
        let decoded = self.decoder.decode(&raw, |record| skipped.as_ref().is_some_and(|s| s.value(record)));
        let batch = Batch {
            columns: decoded.rows,
            origin: decoded.origin,
            ordinal: decoded.ordinal,
            raw,
            pipeline: self.namespace,
        };
        let records = batch.raw.records.len() as u64;
        self.judge_rows(batch, decoded.dead, records, skipped.map_or(0, |s| s.true_count() as u64))
    }

    /// Judges rows that are shaped already: those of a batch, or of a table that is looked at again.
    pub fn judge_rows(&mut self, batch: Batch, dead: Vec<Dead>, records: u64, skipped: u64) -> Result<Judged> {
        let mut rows = Rows { batch, dead };
        for enricher in &mut self.enrichers {
            match enricher {
                Adding::Sql(sql) => {
                    let enriched = sql.enrich(rows.batch);
                    rows.batch = enriched.batch;
                    rows.dead.extend(enriched.dead);
                }
                Adding::Plugin(caller) => {
                    let added = caller.enrich(&rows.batch)?;
                    rows.add(&author(caller.plugin()), caller.plugin().adds(), added, GROWN)?;
                }
            }
        }
        let mut counts = Counts { records, skipped, ..Counts::default() };
        let judged = self.expectations.judge(&rows.batch);
        let mut findings = judged.findings;
        // the first who cannot judge a row names the reason
        let mut doomed: BTreeMap<u32, Dead> = judged.dead.into_iter().collect();
        for caller in &mut self.rules {
            let checked = caller.check(&rows.batch)?;
            findings.extend(checked.findings);
            for row in checked.dead {
                doomed.entry(row.row).or_insert_with(|| rows.letter(Stage::Rule, author(caller.plugin()), row));
            }
        }
        for unknown in judged.unknown {
            // a row that a rule could not judge has no verdict, so none that is unknown
            let rows = unknown.without(doomed.keys().copied());
            if rows > 0 {
                *counts.unknown.entry(format!("{}/{}", expect::RULE, unknown.name)).or_default() += rows;
            }
        }
        let (batch, mut findings, dead) = rows.without(doomed, findings)?;
        let outcomes = route(batch.len(), &findings);
        count(&mut counts, &outcomes, &findings, &dead);
        findings.sort_by_key(|finding| finding.row); // stable: those of a row stay in the order of the rules
        Ok(Judged { batch, findings, outcomes, dead, counts })
    }
}

fn author(plugin: &Plugin) -> Author {
    (plugin.name().clone(), plugin.digest().clone())
}

fn count(counts: &mut Counts, outcomes: &[Outcome], findings: &[Finding], dead: &[Dead]) {
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
    use crate::outcome::Reason;

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
