//! What a chain is put together from: SQL is planned, components are compiled, configured and checked. All mistakes of all
//! of it come at once.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use bytes::Bytes;

use crate::audit::plan;
use crate::component;
use crate::config::{DeriveConfig, EnrichConfig, Judges, Mistakes, PluginCode, PluginConfig, SinkKind, SinksConfig};
use crate::derive::Derive;
use crate::error::{Doing, Error, Result};
use crate::expect::{Declared, Expectations, Planner, Skip, SqlEnricher, SqlMistake};
use crate::generation::Code;
use crate::pipeline::shape::Shaper;
use crate::plugin::{self, Breaker, Engine, Plugin};
use crate::reference::{Join, References};
use crate::script::Script;

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
    pub(super) enrichers: Vec<Enricher>,
    pub(super) skip: Option<Arc<Skip>>,
    pub(super) plugins: Vec<Arc<Plugin>>,
    pub(super) codes: Vec<Code>,
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
pub(super) enum Enricher {
    Sql(Arc<SqlEnricher>),
    Reference(Arc<Join>),
    Plugin(Step),
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

pub(super) fn with_fields(schema: &SchemaRef, added: &[Field]) -> SchemaRef {
    let fields = schema.fields().iter().cloned().chain(added.iter().cloned().map(Arc::new));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
