//! The pipeline file from top to bottom: each section is read, whatever is wrong in the others.

use std::sync::Arc;

use arrow::datatypes::DataType;
use toml::de::{DeTable, DeValue};

use super::plugin::{self, Names, check_name};
use super::running::{admin, commit, mask, metrics, shadow, upkeep};
use super::section::{Kind, Reader, Section};
use super::suggest::did_you_mean;
use super::{
    Config, EnrichConfig, Expectation, Judges, Limits, Mistakes, Place, PluginConfig, ReferenceConfig, SourceKind, Sql,
    Window, audit, defaults, expand, reference, sink, source,
};
use crate::outcome::{Outcome, Severity};
use crate::schema::{NAME_HELP, RESERVED, Schema, is_column_name};

/// Sections that are specified and not built yet.
const LATER: [&str; 2] = ["registry", "postgres"];

/// Reads a pipeline. `None`, or mistakes in the reader, or both, where it is not one.
pub(super) fn pipeline(
    text: &str,
    r: &mut Reader<'_>,
    further: &mut dyn FnMut(&Judges<'_>, &mut Mistakes),
) -> Option<Config> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        for error in errors {
            let span = error.span().unwrap_or(text.len()..text.len());
            r.mistake(span, "this is not TOML", error.message(), "");
        }
        return None;
    }
    let mut root = Section::root(table.get_ref());

    let name = root.required("name", "for example `name = \"visits\"`: the pipeline's identity in the ledger");
    let name = name.and_then(|value| r.text("name", value)).filter(|name| {
        let span = name.place.span.clone();
        check_name(r, span, "a pipeline", &name.value)
    });
    let state = root
        .required("state", "for example `state = \"lake/_sluice/visits\"`: the folder of ledger and generations")
        .and_then(|value| r.expanded("state", value))
        .and_then(|text| sink::location(r, &text));

    let kafka = root.section(r, "kafka").map(|section| source::kafka(r, section));
    // a `[kafka]` that is no table was reported as such
    let kafka = kafka.or_else(|| root.has("kafka").then(Default::default));
    let source = root
        .required("source", "for example `[source]` with `files = [\"in/*.ndjson\"]`")
        .and_then(|value| r.section("source".into(), value))
        .and_then(|section| source::source(r, section, kafka, name.as_ref().map_or("", |name| &name.value)));

    let schema = root
        .required("schema", "for example `[schema]` with `file = \"visits.sql\"`")
        .and_then(|value| r.section("schema".into(), value))
        .and_then(|section| schema(r, section));

    let limits_section = root.section(r, "limits");
    let limits = plugin::limits(r, limits_section, &defaults::LIMITS);
    let mut plugins = Names::default();
    let references = reference::references(r, &mut root);
    let declared = schema.as_ref().map(|(schema, ..)| &**schema);
    let enrich = enrichers(r, &mut root, &limits, &mut plugins, declared, &references);
    let mut expect = expectations(r, &mut root);
    if let Some((schema, file, _)) = &schema {
        constraints(r, schema, file, &mut expect);
    }
    let rules = rules(r, &mut root, &limits, &mut plugins);

    let sinks = root
        .required("sink", "name all three: `valid`, `error` and `dlq`")
        .and_then(|value| r.section("sink".into(), value))
        .map(|section| sink::sinks(r, section))
        .unwrap_or_default();
    let derives = reference::derives(r, &mut root);
    sink::apart(r, &root, state.as_ref(), &sinks, &derives);

    let event_time = schema.as_ref().and_then(|(.., time)| time.as_deref());
    let audit = audit::audit(r, &mut root, event_time, &limits, &mut plugins);
    audit::staged(r, &root, audit.is_some(), sinks.has_staging());
    if let (Some(audit), Some(source)) = (&audit, &source)
        && audit.window == Window::File
        && !matches!(source.kind, SourceKind::Files(_))
    {
        let help = "`\"15m\"` of event time, or `\"50000 rows\"` of a partition";
        r.mistake(root.key_span("audit"), "a window of a file needs files as the source", "", help);
    }
    let commit = root.section(r, "commit").map_or(defaults::COMMIT, |section| commit(r, section));
    sink::kept_long_enough(r, &sinks, &commit);
    let mask = mask(r, &mut root);
    let metrics = metrics(r, &mut root);
    let admin = admin(r, &mut root);
    let upkeep = upkeep(r, &mut root, &commit);
    let shadow = shadow(r, &mut root);
    root.later(r, &LATER);
    root.finish(r);

    let (schema, _, event_time) = schema?;
    let enrich = enrich?;
    let skip = source.as_ref().and_then(|source| source.skip.as_ref());
    let partitions = sinks.partitions.clone();
    let sinks = sinks.complete();
    let judges = Judges {
        schema: &schema,
        skip,
        references: &references,
        enrich: &enrich,
        expect: &expect,
        rules: &rules,
        audit: audit.as_ref(),
        derives: &derives,
        sinks: sinks.as_ref(),
    };
    further(&judges, &mut r.mistakes);
    let mut config = Config {
        file: r.file.as_ref().into(),
        base: r.base.clone(),
        name: name?.value,
        state: state?,
        source: source?,
        schema,
        event_time,
        references,
        enrich,
        expect,
        rules,
        sinks: sinks?,
        audit,
        derives,
        commit,
        mask: Vec::new(),
        metrics,
        admin,
        upkeep,
        shadow,
        sources: r.mistakes.sources().clone(),
    };
    known_columns(r, &config, &mask, &partitions);
    config.mask = mask.into_iter().map(|(path, _)| path).collect();
    Some(config)
}

/// `[schema]`: the schema, its file as shown, and the path of the event time.
fn schema(r: &mut Reader<'_>, mut section: Section<'_>) -> Option<(Arc<Schema>, Arc<str>, Option<String>)> {
    let kind = section.kind(r, "the schema", &["file"], &["subject", "table"]);
    let event_time = section.text(r, "event_time");
    section.later(r, &["formats", "mismatch"]);
    // these belong to `subject` and say nothing without it
    if section.has("subject") {
        section.ignore(&["version", "evolve"]);
    } else {
        section.later(r, &["version", "evolve"]);
    }
    section.finish(r);
    let Kind::One(key, value) = kind else { return None };
    let text = r.expanded(&format!("schema.{key}"), value)?;
    let (written, span) = (text.written, text.place.span);
    let lower = text.value.to_lowercase();
    if lower.ends_with(".avsc") || lower.ends_with(".json") {
        r.not_available(span, &format!("a schema in `{written}`"));
        return None;
    }
    if !lower.ends_with(".sql") {
        let help = "the extension decides the language: `.sql`";
        r.mistake(span, format!("`{written}` is no schema that sluice can read"), "", help);
        return None;
    }
    let ddl = match std::fs::read_to_string(r.base.join(&text.value)) {
        Ok(ddl) => ddl,
        Err(error) => {
            r.mistake(span, format!("cannot read `{written}`: {}", expand::plain(&error)), "", "");
            return None;
        }
    };
    // shown as the pipeline file is: relative to where the user stands
    let file: Arc<str> = r.shown_base.join(&written).to_string_lossy().into();
    let schema = match Schema::from_ddl(&ddl, &file) {
        Ok(schema) => Arc::new(schema),
        Err(mistakes) => {
            r.mistakes.append(mistakes);
            return None;
        }
    };
    r.mistakes.sources_mut().add(file.clone(), ddl);
    let event_time = event_time.filter(|path| {
        let span = path.place.span.clone();
        match schema.data_type(&path.value) {
            Some(DataType::Timestamp(..)) => return true,
            Some(_) => {
                let line = schema.lines.get(&path.value).copied().unwrap_or_default();
                let title = format!("`{}` is not a time", path.value);
                r.mistake(span, title, format!("{file}:{line} declares it"), "event time is a TIMESTAMP");
            }
            None => {
                let suggestion = did_you_mean(&path.value, schema.lines.keys().map(String::as_str));
                r.mistake(span, format!("the schema has no column `{}`", path.value), suggestion, "");
            }
        }
        false
    });
    Some((schema, file, event_time.map(|text| text.value)))
}

/// `[[enrich]]`, in order. `None` where one of them could not be read.
fn enrichers(
    r: &mut Reader<'_>,
    root: &mut Section<'_>,
    limits: &Limits,
    names: &mut Names,
    schema: Option<&Schema>,
    references: &[ReferenceConfig],
) -> Option<Vec<EnrichConfig>> {
    // one that could not be read was reported
    let written = root.table.get("reference").and_then(|value| value.get_ref().as_table());
    let is_written = |name: &str| written.is_some_and(|table| table.contains_key(name));
    let references = reference::Known { references, is_written: &is_written };
    let Some(value) = root.value("enrich") else { return Some(Vec::new()) };
    let Some(array) = value.get_ref().as_array() else {
        let help = "their order counts: write `[[enrich]]` for each";
        r.mistake(value.span(), "`enrich` must be an array of tables", "", help);
        return None;
    };
    let mut columns = Names::default();
    for declared in schema.into_iter().flat_map(|schema| schema.arrow.fields()) {
        let owner = "the schema declares it".to_owned();
        columns.take(r, 0..0, &declared.name().to_lowercase(), owner);
    }
    let all: Vec<_> = array
        .iter()
        .enumerate()
        .map(|(index, element)| {
            let section = r.section("enrich".into(), element)?;
            enricher(r, section, index, limits, (names, &mut columns), references)
        })
        .collect();
    all.into_iter().collect()
}

fn enricher(
    r: &mut Reader<'_>,
    mut section: Section<'_>,
    index: usize,
    limits: &Limits,
    (names, taken): (&mut Names, &mut Names),
    references: reference::Known<'_>,
) -> Option<EnrichConfig> {
    let name = section.text(r, "name");
    let given = name.as_ref().map_or_else(|| format!("enrich-{}", index + 1), |name| name.value.clone());
    let span = name.map_or(section.span.clone(), |name| name.place.span);
    let named = check_name(r, span.clone(), "an enricher", &given)
        && names.take(r, span, &given, "an enricher has it".to_owned());
    match section.kind(r, "an enricher", &["sql", "reference", "wasm", "js", "python", "builtin"], &[]) {
        Kind::Refused => {
            section.ignore(&["on", "columns"]);
            let refused = plugin::plugin(r, &mut section, &given, Kind::Refused, limits);
            section.finish(r);
            debug_assert!(refused.is_none());
            None
        }
        Kind::One("sql", value) => {
            let columns = r.section("enrich.sql".into(), value).map(|table| {
                let sql = table.table.iter().filter_map(|(column, value)| {
                    let (name, span) = (column.get_ref().as_ref(), column.span());
                    let legal = legal_column(r, span.clone(), name)
                        && taken.take(r, span, &name.to_lowercase(), format!("enricher `{given}` adds it"));
                    let text = r.text(&format!("enrich.sql.{name}"), value)?;
                    legal.then(|| (name.to_owned(), Sql { text: text.value, place: text.place }))
                });
                sql.collect::<Vec<_>>()
            });
            if columns.is_some() && value.get_ref().as_table().is_some_and(DeTable::is_empty) {
                r.mistake(value.span(), "this enricher adds no column", "", "");
            }
            section.finish(r);
            let columns = columns?;
            named.then(|| EnrichConfig::Sql { name: given.into(), columns })
        }
        Kind::One("reference", value) => {
            let reference = r.text("enrich.reference", value)?;
            reference::join(r, section, &given, &reference, taken, references).filter(|_| named)
        }
        kind @ Kind::One(..) => {
            let plugin = plugin::plugin(r, &mut section, &given, kind, limits);
            section.finish(r);
            plugin.filter(|_| named).map(|plugin| EnrichConfig::Plugin(Box::new(plugin)))
        }
    }
}

/// Whether an enricher may add a column of this name.
pub(super) fn legal_column(r: &mut Reader<'_>, span: std::ops::Range<usize>, name: &str) -> bool {
    let help = if RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(name)) {
        "every row has a column of that name"
    } else if !is_column_name(name) {
        NAME_HELP
    } else {
        return true;
    };
    r.mistake(span, format!("`{name}` cannot be the name of a column"), "", help);
    false
}

/// `[expect]`: a string, or a table with `sql`, `severity`, `help`.
fn expectations(r: &mut Reader<'_>, root: &mut Section<'_>) -> Vec<Expectation> {
    let Some(section) = root.section(r, "expect") else { return Vec::new() };
    let mut expectations = Vec::new();
    for (key, value) in section.table {
        let name = key.get_ref().as_ref();
        let named = check_name(r, key.span(), "an expectation", name);
        let path = format!("expect.{name}");
        let (sql, severity, help) = match value.get_ref() {
            DeValue::Table(_) => {
                let Some(mut long) = r.section(path.clone(), value) else { continue };
                let sql = long.required("sql", "what must hold for a row").and_then(|value| r.text(&path, value));
                let choices = [("error", Severity::Error), ("warn", Severity::Warn)];
                let severity = long.choice(r, "severity", &choices, &[]);
                let help = long.text(r, "help").map(|text| text.value);
                long.finish(r);
                (sql, severity, help)
            }
            DeValue::String(_) => (r.text(&path, value), None, None),
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_) => {
                r.wrong_type(&path, value, "an expression, or a table with `sql`");
                (None, None, None)
            }
        };
        let Some(sql) = sql.filter(|_| named) else { continue };
        let sql = Sql { text: sql.value, place: sql.place };
        expectations.push(Expectation { name: name.into(), sql, severity: severity.unwrap_or(Severity::Error), help });
    }
    expectations
}

/// What the schema's declaration demands, behind the user's own.
fn constraints(r: &mut Reader<'_>, schema: &Schema, file: &Arc<str>, expect: &mut Vec<Expectation>) {
    for constraint in &schema.constraints {
        let place = Place { file: file.clone(), span: constraint.span.clone() };
        if expect.iter().any(|own| *own.name == constraint.name) {
            let title = format!("the name `{}` is taken", constraint.name);
            r.mistakes.push(place, title, "by an expectation of the pipeline file", "rename one of them");
            continue;
        }
        let sql = Sql { text: constraint.sql.clone(), place };
        let name = constraint.name.as_str().into();
        expect.push(Expectation { name, sql, severity: Severity::Error, help: None });
    }
}

/// `[rule.NAME]`, by name.
fn rules(r: &mut Reader<'_>, root: &mut Section<'_>, limits: &Limits, names: &mut Names) -> Vec<PluginConfig> {
    let Some(section) = root.section(r, "rule") else { return Vec::new() };
    let mut rules = Vec::new();
    for (key, value) in section.table {
        let name = key.get_ref().as_ref();
        let mut named = check_name(r, key.span(), "a rule", name)
            && names.take(r, key.span(), name, "another rule has it".to_owned());
        if name == "expect" {
            let help = "findings of expectations carry it: choose another";
            r.mistake(key.span(), "`expect` cannot be the name of a rule", "", help);
            named = false;
        }
        let Some(inner) = r.section(format!("rule.{name}"), value) else { continue };
        let rule = plugin::rule(r, inner, name, limits);
        rules.extend(rule.filter(|_| named));
    }
    rules.sort_by(|one, two| one.name.cmp(&two.name));
    rules
}

/// Names that sinks and the mask use must exist: a mistyped mask would show what it should hide. Where a component adds
/// columns, only it knows which, and this is checked when it is loaded.
fn known_columns(
    r: &mut Reader<'_>,
    config: &Config,
    mask: &[(String, Place)],
    partitions: &[(Outcome, String, Place)],
) {
    for (outcome, name, place) in partitions {
        let dead_letter = sink::PROVENANCE.contains(&name.as_str()) || sink::DEAD_LETTER.contains(&name.as_str());
        if *outcome == Outcome::Dlq && !dead_letter {
            let suggestion = did_you_mean(name, sink::PROVENANCE.into_iter().chain(sink::DEAD_LETTER));
            r.mistakes.push(place.clone(), format!("a dead letter has no column `{name}`"), suggestion, "");
        }
        if *outcome != Outcome::Dlq && config.schema.data_type(name).is_some_and(DataType::is_nested) {
            let title = format!("`{name}` cannot partition a table");
            r.mistakes.push(place.clone(), title, "it is no single value", "");
        }
    }
    let mut added = Vec::new();
    for enricher in &config.enrich {
        match enricher {
            EnrichConfig::Sql { columns, .. } => added.extend(columns.iter().map(|(name, _)| name.as_str())),
            EnrichConfig::Reference(join) => added.extend(join.columns.iter().map(|column| column.name.as_str())),
            EnrichConfig::Plugin(_) => return,
        }
    }
    let known = |path: &str| {
        config.schema.lines.contains_key(path)
            || RESERVED.contains(&path)
            // an expression may make a struct, whose fields only planning knows
            || added.contains(&path.split('.').next().unwrap_or(path))
    };
    let mut used: Vec<(&str, &Place)> = mask.iter().map(|(path, place)| (path.as_str(), place)).collect();
    for sink in [&config.sinks.valid, &config.sinks.error] {
        used.extend(sink.columns.iter().flatten().map(|column| (column.path.as_str(), &column.place)));
    }
    // with `columns` their names count, which was checked where they stand
    for (outcome, name, place) in partitions {
        let all = match outcome {
            Outcome::Valid => config.sinks.valid.columns.is_none(),
            Outcome::Error => config.sinks.error.columns.is_none(),
            Outcome::Dlq | Outcome::Staging | Outcome::Derived(_) => false,
        };
        used.extend(all.then_some((name.as_str(), place)));
    }
    for (path, place) in used.into_iter().filter(|(path, _)| !known(path)) {
        let names = config.schema.lines.keys().map(String::as_str).chain(RESERVED).chain(added.iter().copied());
        let suggestion = did_you_mean(path, names);
        r.mistakes.push(place.clone(), format!("there is no column `{path}`"), suggestion, "");
    }
}
