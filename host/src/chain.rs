//! What judges: everything that a pipeline file says about rows, loaded once, run by many threads.
//!
//! Order: skip → decode → enrichers, in their order → expectations and rules. It routes nothing and writes nothing. Rows
//! that die on the way leave the batch; what remains is judged as if they had never been in it.
//!
//! Memory is bounded whatever a batch grows to: where columns, copies or findings take too much, the batch is judged in
//! halves ([`Judge::next`]), since a verdict depends on its record alone. What is too much for a single record is a dead
//! letter.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, BooleanArray, new_empty_array};
use arrow::datatypes::{Field, Schema, SchemaRef};
use bytes::Bytes;
use uuid::Uuid;

use crate::audit::assign::Windows;
use crate::audit::plan;
use crate::columns;
use crate::component;
use crate::config::{
    Config, DeriveConfig, EnrichConfig, Judges, Mistakes, PluginCode, PluginConfig, SinkKind, SinksConfig, Variables,
};
use crate::decode::JsonDecoder;
use crate::derive::Derive;
use crate::error::{Doing, Error, Result};
use crate::expect::{self, Declared, Expectations, Planner, Skip, SqlEnricher, SqlMistake};
use crate::generation::{Code, Generation};
use crate::ledger::Counts;
use crate::outcome::{Dead, Finding, Outcome, Reason, Stage, route};
use crate::pipeline::shape::Shaper;
use crate::plugin::{self, Added, Breaker, Caller, DeadRow, Engine, FINDING, Plugin, Tally};
use crate::record::{Batch, RawBatch};
use crate::reference::{Join, Pinned, References};
use crate::script::Script;

mod asked;
mod rows;

use rows::{Author, Rows};

/// Bytes that a batch of several records may grow to, in each of its ways to grow, before it is judged in halves: eight
/// times what an ordinary batch has. Each thread that judges may hold this several times over.
const PIECE: usize = 32 << 20;

/// Bytes that a single record may grow to, likewise: with two threads and writers, within half a gigabyte.
const RECORD: usize = 64 << 20;

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

/// What judges, ready to run: planned SQL, loaded components.
pub struct Parts {
    /// declared columns, then added ones
    pub schema: SchemaRef,
    /// what must hold, in SQL
    pub expectations: Arc<Expectations>,
    /// components that judge
    pub rules: Vec<Step>,
    /// components that decide over windows
    pub auditors: Vec<Arc<Plugin>>,
    /// what rows are joined with
    pub references: References,
    /// what is made of the rows of a commit
    pub derives: Vec<Derive>,
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
    Reference(Arc<Join>),
    Plugin(Step),
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
            auditors: Vec::new(),
            references: References::bind(judges.references, judges.enrich, &schema, mistakes),
            derives: Vec::new(),
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
                EnrichConfig::Reference(config) => {
                    if let Some(join) = Join::plan(config, &parts.references, &schema, mistakes) {
                        schema = with_fields(&schema, join.adds());
                        parts.enrichers.push(Enricher::Reference(Arc::new(join)));
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
        if let Some(audit) = judges.audit {
            plan::check(audit, &schema, mistakes);
            for config in &audit.auditors {
                if let Some(step) = parts.plugin(engine, plugin::Kind::Auditor, config, &schema, mistakes) {
                    plan::check_metrics(&step.plugin, &config.place, &schema, mistakes);
                    parts.auditors.push(step.plugin);
                }
            }
        }
        parts.schema = schema;
        if let Some(sinks) = judges.sinks {
            parts.derives = derives(judges.derives, sinks, &parts.schema, mistakes);
        }
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
                self.codes.push(Code { name: config.name.clone(), bytes: code });
                Some(Step { plugin, breaker: Arc::new(Breaker::new(config.max_failures, config.on_failure)) })
            }
            Err(error) => {
                let mut title = error.to_string();
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                if let Some(cause) = cause.filter(|cause| !title.contains(cause)) {
                    title = format!("{title}: {cause}");
                }
                let is_shown = match &config.code {
                    PluginCode::Script(script) => {
                        script.explain(&title, &format!("{kind} `{}`", config.name), mistakes)
                    }
                    PluginCode::Wasm(..) | PluginCode::Builtin(_) | PluginCode::Stored(..) => false,
                };
                if !is_shown {
                    mistakes.push(config.place.clone(), title, "", "");
                }
                None
            }
        }
    }
}

/// Plans what is made of the rows of a commit.
fn derives(configs: &[DeriveConfig], sinks: &SinksConfig, rows: &Schema, mistakes: &mut Mistakes) -> Vec<Derive> {
    let mut derives = Vec::new();
    for config in configs {
        let Some(from) = sinks.of(config.from) else { continue };
        if let SinkKind::Stdout = from.kind {
            let title = format!("derived table `{}` needs a table that it is made of", config.name);
            let label = format!("`{}` is standard output", config.from);
            mistakes.push(config.from_place.clone(), title, label, "");
            continue;
        }
        // a sink that stores what rows do not have is reported where it is opened
        let Ok(shaper) = Shaper::new(config.from, from, rows) else { continue };
        derives.extend(Derive::plan(config, shaper.schema(), mistakes));
    }
    derives
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
        let source = &self.config.source;
        let caller = |step: &Step| Caller::new(step.plugin.clone(), step.breaker.clone());
        let enrichers = self.parts.enrichers.iter().map(|enricher| match enricher {
            Enricher::Sql(sql) => Adding::Sql(sql.clone()),
            Enricher::Reference(join) => Adding::Reference(join.clone()),
            Enricher::Plugin(step) => Adding::Plugin(Box::new(caller(step))),
        });
        let mut judge = Judge {
            decoder: JsonDecoder::new(self.config.schema.clone(), source.unknown_fields, source.max_record)?,
            skip: self.parts.skip.clone(),
            enrichers: enrichers.collect(),
            expectations: self.parts.expectations.clone(),
            rules: self.parts.rules.iter().map(caller).collect(),
            pinned: self.parts.references.pinned()?,
            namespace: self.namespace,
            spent: Spent::default(),
        };
        judge.lend();
        Ok(judge)
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

fn code_of(config: &PluginConfig) -> Result<Bytes> {
    match &config.code {
        PluginCode::Wasm(written, path) => {
            std::fs::read(path).map(Bytes::from).doing(|| format!("cannot read {written}"))
        }
        PluginCode::Script(Script { engine: Some(engine), .. }) => Ok(engine.clone()),
        PluginCode::Script(script) => component::engine(script.language),
        PluginCode::Stored(_, bytes) => Ok(bytes.clone()),
        PluginCode::Builtin(name) => component::builtin(name).map_or_else(
            || {
                let known = component::BUILTINS.join(", ");
                Err(Error::Config(format!("there is no ready-made component `{name}`; there are: {known}")))
            },
            |code| code.map(Bytes::from),
        ),
    }
}

fn with_fields(schema: &SchemaRef, added: &[Field]) -> SchemaRef {
    let fields = schema.fields().iter().cloned().chain(added.iter().cloned().map(Arc::new));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Records that wait to be judged: a batch, cut into pieces where it grows too large.
#[derive(Debug)]
pub struct Waiting(Vec<RawBatch>);

impl From<RawBatch> for Waiting {
    fn from(raw: RawBatch) -> Self {
        Waiting(vec![raw])
    }
}

/// How much a batch may grow.
#[derive(Clone, Copy)]
struct Bound {
    bytes: usize,
    /// beyond it the batch is cut; else the rows that grow the most are dead
    cuts: bool,
}

enum Adding {
    Sql(Arc<SqlEnricher>),
    Reference(Arc<Join>),
    Plugin(Box<Caller>),
}

/// Judges batches on one thread.
pub struct Judge {
    decoder: JsonDecoder,
    skip: Option<Arc<Skip>>,
    enrichers: Vec<Adding>,
    expectations: Arc<Expectations>,
    rules: Vec<Caller>,
    pinned: Pinned,
    namespace: Uuid,
    spent: Spent,
}

/// Where a judge's time went.
#[derive(Clone, Debug, Default)]
pub struct Spent {
    /// predicate and decoder
    pub decode: Duration,
    /// all enrichers
    pub enrich: Duration,
    /// all expectations
    pub expect: Duration,
    /// all components that judge
    pub rules: Duration,
    /// rows that came to expectations and rules
    pub judged: u64,
    /// what was done with each plugin
    pub plugins: Vec<(Arc<str>, Tally)>,
}

impl Judge {
    /// Joins with these snapshots from now on.
    pub fn pin(&mut self, pinned: &Pinned) {
        if !self.pinned.is(pinned) {
            self.pinned = pinned.clone();
            self.lend();
        }
    }

    /// Components get the tables that rows are joined with.
    fn lend(&mut self) {
        let enrichers = self.enrichers.iter_mut().filter_map(|enricher| match enricher {
            Adding::Sql(_) | Adding::Reference(_) => None,
            Adding::Plugin(caller) => Some(&mut **caller),
        });
        for caller in enrichers.chain(&mut self.rules) {
            caller.pin(&self.pinned);
        }
    }

    /// Where the time went since this was last asked.
    pub fn take_spent(&mut self) -> Spent {
        let enrichers = self.enrichers.iter_mut().filter_map(|enricher| match enricher {
            Adding::Sql(_) | Adding::Reference(_) => None,
            Adding::Plugin(caller) => Some(&mut **caller),
        });
        let plugins =
            enrichers.chain(&mut self.rules).map(|caller| (caller.plugin().name().clone(), caller.take_tally()));
        Spent { plugins: plugins.collect(), ..std::mem::take(&mut self.spent) }
    }

    /// Judges the next of the records that wait: all of them, unless that takes too much memory. `None` when none is left.
    ///
    /// # Errors
    /// A component failed beyond its budget and the pipeline must stop: nothing of the batch may be committed.
    pub fn next(&mut self, waiting: &mut Waiting) -> Result<Option<Judged>> {
        while let Some(raw) = waiting.0.pop() {
            let cuts = raw.records.len() > 1;
            let bound = Bound { bytes: if cuts { PIECE } else { RECORD }, cuts };
            let raw = Arc::new(raw);
            if let Some(judged) = self.judge_within(raw.clone(), bound)? {
                return Ok(Some(judged));
            }
            let (all, half) = (raw.records.len(), raw.records.len() / 2);
            waiting.0.extend([raw.part(half..all), raw.part(0..half)]); // the last is the next
        }
        Ok(None)
    }

    /// Judges the records of `raw` in one piece, as if they were one: for a single record, or few.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn judge(&mut self, raw: RawBatch) -> Result<Judged> {
        let bound = Bound { bytes: RECORD, cuts: false };
        self.judge_within(Arc::new(raw), bound)?.ok_or_else(uncut)
    }

    fn judge_within(&mut self, raw: Arc<RawBatch>, bound: Bound) -> Result<Option<Judged>> {
        let begun = Instant::now();
        let skipped = self.skip.as_ref().map(|skip| skip.skipped(&raw));
        let is_skipped = |record| skipped.as_ref().is_some_and(|s: &BooleanArray| s.value(record));
        let most = if bound.cuts { bound.bytes } else { usize::MAX };
        let Some(decoded) = self.decoder.decode_within(&raw, is_skipped, most) else { return Ok(None) };
        let batch = Batch {
            columns: decoded.rows,
            origin: decoded.origin,
            ordinal: decoded.ordinal,
            raw,
            pipeline: self.namespace,
        };
        let records = batch.raw.records.len() as u64;
        self.spent.decode += begun.elapsed();
        let counts = Counts { records, skipped: skipped.map_or(0, |s| s.true_count() as u64), ..Counts::default() };
        self.judge_batch(batch, decoded.dead, counts, bound)
    }

    /// Judges rows that are shaped already: those of a batch, or of a table that is looked at again.
    pub fn judge_rows(&mut self, batch: Batch, dead: Vec<Dead>, records: u64, skipped: u64) -> Result<Judged> {
        let counts = Counts { records, skipped, ..Counts::default() };
        self.judge_batch(batch, dead, counts, Bound { bytes: RECORD, cuts: false })?.ok_or_else(uncut)
    }

    /// The same for many rows, each of a record of its own: in as many pieces as it takes.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn judge_stored(&mut self, batch: Batch) -> Result<Vec<Judged>> {
        let mut waiting = vec![batch];
        let mut done = Vec::new();
        while let Some(batch) = waiting.pop() {
            let cuts = batch.len() > 1;
            let bound = Bound { bytes: if cuts { PIECE } else { RECORD }, cuts };
            let counts = Counts { records: batch.len() as u64, ..Counts::default() };
            match self.judge_batch(batch.clone(), Vec::new(), counts, bound)? {
                Some(judged) => done.push(judged),
                None => {
                    let (all, half) = (batch.len(), batch.len() / 2);
                    waiting.extend([batch.part(half..all), batch.part(0..half)]); // the last is the next
                }
            }
        }
        Ok(done)
    }

    /// `None` where the batch is to be cut.
    fn judge_batch(
        &mut self,
        batch: Batch,
        dead: Vec<Dead>,
        mut counts: Counts,
        bound: Bound,
    ) -> Result<Option<Judged>> {
        let mut rows = Rows { batch, dead };
        let begun = Instant::now();
        let mut room = bound.bytes; // for the columns that are added, all together
        for enricher in &mut self.enrichers {
            let before = rows.batch.columns.num_columns();
            match enricher {
                Adding::Sql(sql) => {
                    let enriched = match sql.enrich(&rows.batch, room) {
                        Some(enriched) => enriched,
                        None if bound.cuts => return Ok(None),
                        None => sql.give_up(&rows.batch, bound.bytes),
                    };
                    rows.batch = enriched.batch;
                    rows.dead.extend(enriched.dead);
                }
                Adding::Reference(join) => {
                    let added = match join.look_up(&rows.batch, &self.pinned, room)? {
                        Some(added) => added,
                        None if bound.cuts => return Ok(None),
                        None => too_much(join, &rows.batch, bound.bytes),
                    };
                    if bound.cuts && rows.grow_beyond(&added, bound.bytes) {
                        return Ok(None);
                    }
                    rows.add(None, join.adds(), added, bound.bytes)?;
                }
                Adding::Plugin(caller) => {
                    let added = match caller.enrich_within(&rows.batch, room)? {
                        Some(added) => added,
                        None if bound.cuts => return Ok(None),
                        None => caller.add_nothing(&rows.batch, bound.bytes),
                    };
                    if bound.cuts && rows.grow_beyond(&added, bound.bytes) {
                        return Ok(None);
                    }
                    rows.add(Some(&author(caller.plugin())), caller.plugin().adds(), added, bound.bytes)?;
                }
            }
            let added = rows.batch.columns.columns().iter().skip(before);
            room = room.saturating_sub(added.map(|column| columns::size(column, 0, column.len())).sum());
        }
        let enriched = Instant::now();
        let judged = self.expectations.judge(&rows.batch);
        let expected = Instant::now();
        self.spent.enrich += enriched - begun;
        self.spent.expect += expected - enriched;
        self.spent.judged += rows.batch.len() as u64;
        let mut findings = judged.findings;
        let mut room = bound.bytes; // for what is found, stored once more in the error table
        let taken = findings.len().saturating_mul(FINDING);
        if bound.cuts && taken > room {
            return Ok(None);
        }
        room = room.saturating_sub(taken);
        // the first who cannot judge a row names the reason
        let mut doomed: BTreeMap<u32, Dead> = judged.dead.into_iter().collect();
        for caller in &mut self.rules {
            let checked = match caller.check_within(&rows.batch, room)? {
                Some(checked) => checked,
                None if bound.cuts => return Ok(None),
                None => caller.find_nothing(&rows.batch, bound.bytes),
            };
            let details = checked.findings.iter().filter_map(|finding| finding.detail.as_ref()).map(String::len);
            room = room.saturating_sub(details.sum::<usize>() + checked.findings.len() * FINDING);
            findings.extend(checked.findings);
            for row in checked.dead {
                doomed.entry(row.row).or_insert_with(|| rows.letter(Stage::Rule, Some(author(caller.plugin())), row));
            }
        }
        self.spent.rules += expected.elapsed();
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
        Ok(Some(Judged { batch, findings, outcomes, windows: None, dead, counts }))
    }
}

fn uncut() -> Error {
    Error::Host("a batch that must stay whole was to be cut".into())
}

/// Every row is dead: what it is joined with is too much.
fn too_much(join: &Join, batch: &Batch, most: usize) -> Added {
    let detail = format!("{}: its rows of `{}` would take more than {most} bytes", join.name(), join.reference());
    let dead = |row| DeadRow { row, reason: Reason::TooLarge, detail: detail.clone() };
    let columns = join.adds().iter().map(|field| new_empty_array(field.data_type())).collect();
    Added { rows: Vec::new(), columns, dead: (0..batch.len() as u32).map(dead).collect() }
}

fn author(plugin: &Plugin) -> Author {
    (plugin.name().clone(), plugin.digest().clone())
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
