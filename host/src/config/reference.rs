//! `[reference.NAME]` and `[derive.NAME]`: tables that rows are joined with, and tables that are made of them.

use std::sync::Arc;
use std::time::Duration;

use toml::de::DeTable;

use super::plugin::{Names, check_name};
use super::section::{Kind, Reader, Section, Text};
use super::suggest::did_you_mean;
use super::{EnrichConfig, Named, Place, SinkColumn, Sql, defaults, sink};
use crate::outcome::Outcome;
use crate::reference::{OnDuplicate, Place as Location};

/// A table that rows are joined with.
#[derive(Clone, Debug)]
pub struct ReferenceConfig {
    /// its name in the pipeline file
    pub name: Arc<str>,
    /// where it is
    pub place: crate::reference::Place,
    /// the columns that tell its rows apart
    pub key: Vec<Named>,
    /// the columns that are kept in memory, `None` = those that somebody asks for
    pub columns: Option<Vec<Named>>,
    /// what to do with rows of the same key
    pub on_duplicate: crate::reference::OnDuplicate,
    /// how often a run looks for a new version
    pub refresh: Duration,
    /// where the location stands in the pipeline file
    pub at: Place,
}

/// A left join with a reference table.
#[derive(Clone, Debug)]
pub struct JoinConfig {
    /// for messages
    pub name: Arc<str>,
    /// which table
    pub reference: Arc<str>,
    /// column of its key → path of a column of the row
    pub on: Vec<(String, Named)>,
    /// columns of the table, and what the row calls them
    pub columns: Vec<SinkColumn>,
    /// where the table is named in the pipeline file
    pub place: Place,
}

/// A table that is made of the rows of a commit.
#[derive(Clone, Debug)]
pub struct DeriveConfig {
    /// its name in the pipeline file
    pub name: Arc<str>,
    /// whose rows
    pub from: Outcome,
    /// where that was written
    pub from_place: Place,
    /// over the table `batch`
    pub sql: Sql,
    /// where it is
    pub location: super::Location,
}

/// What queries call the other tables.
const TAKEN: [&str; 5] = ["valid", "error", "dlq", "staging", "batch"];

/// `[reference.NAME]`, by name.
pub(super) fn references(r: &mut Reader<'_>, root: &mut Section<'_>) -> Vec<ReferenceConfig> {
    let Some(section) = root.section(r, "reference") else { return Vec::new() };
    let mut references = Vec::new();
    for (key, value) in section.table {
        let name = key.get_ref().as_ref();
        let named = check_name(r, key.span(), "a reference", name);
        let Some(inner) = r.section(format!("reference.{name}"), value) else { continue };
        references.extend(reference(r, inner, name, r.place(key.span())).filter(|_| named));
    }
    references.sort_by(|one, two| one.name.cmp(&two.name));
    references
}

fn reference(r: &mut Reader<'_>, mut section: Section<'_>, name: &str, at: Place) -> Option<ReferenceConfig> {
    let what = format!("reference `{name}`");
    let (place, at) = match section.kind(r, &what, &["delta", "parquet", "csv"], &["postgres"]) {
        Kind::Refused => (None, at),
        Kind::One(key, value) => {
            let at = r.place(value.span());
            (r.expanded(&section.name(key), value).and_then(|text| location(r, key, &text)), at)
        }
    };
    let path = section.name("key");
    let key = section.required("key", "the columns that tell its rows apart, as in `key = [\"type\", \"version\"]`");
    let key = key.and_then(|value| {
        let key = r.texts(&path, value, Reader::text)?;
        if key.is_empty() {
            r.mistake(value.span(), format!("`{path}` names no column"), "", "");
        }
        Some(named(r, key))
    });
    let path = section.name("columns");
    let columns = section.value("columns").and_then(|value| r.texts(&path, value, Reader::text));
    let columns = columns.map(|columns| named(r, columns));
    let choices = [("error", OnDuplicate::Error), ("first", OnDuplicate::First), ("fan-out", OnDuplicate::FanOut)];
    let on_duplicate = section.choice(r, "on_duplicate", &choices, &[]).unwrap_or(defaults::ON_DUPLICATE);
    let refresh = section.duration(r, "refresh").unwrap_or(defaults::REFRESH);
    section.finish(r);
    let key = key.filter(|key| !key.is_empty())?;
    Some(ReferenceConfig { name: name.into(), place: place?, key, columns, on_duplicate, refresh, at })
}

/// Names with their places; one that comes twice is a mistake.
fn named(r: &mut Reader<'_>, texts: Vec<Text>) -> Vec<Named> {
    let mut names: Vec<Named> = Vec::new();
    for text in texts {
        if names.iter().any(|known| known.name == text.value) {
            r.mistake(text.place.span, format!("`{}` is named twice", text.value), "", "");
        } else {
            names.push(Named { name: text.value, place: text.place });
        }
    }
    names
}

fn location(r: &mut Reader<'_>, kind: &str, text: &Text) -> Option<Location> {
    let location = sink::location(r, text)?;
    if kind == "delta" {
        return Some(Location::Delta(location));
    }
    let path = location.url.to_file_path().ok()?;
    let written = location.written;
    Some(if kind == "parquet" { Location::Parquet(written, path) } else { Location::Csv(written, path) })
}

/// The references that could be read, and whether one of a name is written at all.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub references: &'a [ReferenceConfig],
    pub is_written: &'a dyn Fn(&str) -> bool,
}

/// `[[enrich]]` with a `reference`. The caller has read the kind and the name.
pub(super) fn join(
    r: &mut Reader<'_>,
    mut section: Section<'_>,
    given: &str,
    reference: &Text,
    taken: &mut Names,
    Known { references, is_written }: Known<'_>,
) -> Option<EnrichConfig> {
    let bound = references.iter().find(|known| *known.name == *reference.value);
    if bound.is_none() && !is_written(&reference.value) {
        let suggestion = did_you_mean(&reference.value, references.iter().map(|known| &*known.name));
        let title = format!("there is no `[reference.{}]`", reference.value);
        r.mistake(reference.place.span.clone(), title, suggestion, "");
    }
    let on = section.required("on", "key column = column of the row, as in `on = { type = \"device.type\" }`");
    let on = on.and_then(|value| r.section(section.name("on"), value)).map(|table| {
        pairs(r, table.table).into_iter().map(|(key, path)| (key, Named { name: path.value, place: path.place }))
    });
    let on: Option<Vec<_>> = on.map(Iterator::collect);
    if let (Some(bound), Some(on)) = (bound, &on) {
        for (key, path) in on.iter().filter(|(key, _)| bound.key.iter().all(|column| column.name != *key)) {
            let suggestion = did_you_mean(key, bound.key.iter().map(|column| column.name.as_str()));
            let title = format!("`{key}` is not in the key of reference `{}`", bound.name);
            r.mistakes.push(path.place.clone(), title, suggestion, "");
        }
        for column in bound.key.iter().filter(|column| on.iter().all(|(key, _)| *key != column.name)) {
            let title = format!("`on` lacks `{}`, which is in the key of reference `{}`", column.name, bound.name);
            r.mistake(section.key_span("on"), title, "", "");
        }
    }
    let path = section.name("columns");
    let columns = section.required("columns", "the columns that the rows get, as in `columns = [\"full_name\"]`");
    let columns = columns.and_then(|value| {
        let columns = r.texts(&path, value, Reader::text)?;
        if columns.is_empty() {
            r.mistake(value.span(), format!("`{path}` names no column"), "", "an enricher adds columns");
        }
        Some(columns)
    });
    let columns: Option<Vec<_>> = columns.map(|columns| {
        let read = columns.iter().filter_map(|text| {
            let column = sink::column(r, text)?;
            let owner = format!("enricher `{given}` adds it");
            let legal = super::read::legal_column(r, text.place.span.clone(), &column.name)
                && taken.take(r, text.place.span.clone(), &column.name.to_lowercase(), owner);
            legal.then_some(column)
        });
        read.collect()
    });
    section.finish(r);
    bound?;
    Some(EnrichConfig::Reference(JoinConfig {
        name: given.into(),
        reference: reference.value.as_str().into(),
        on: on?,
        columns: columns?,
        place: reference.place.clone(),
    }))
}

/// The keys of a table, whose values are text.
fn pairs(r: &mut Reader<'_>, table: &DeTable<'_>) -> Vec<(String, Text)> {
    let pairs = table.iter().filter_map(|(key, value)| {
        let key = key.get_ref().as_ref();
        Some((key.to_owned(), r.text(&format!("enrich.on.{key}"), value)?))
    });
    pairs.collect()
}

/// `[derive.NAME]`, by name.
pub(super) fn derives(r: &mut Reader<'_>, root: &mut Section<'_>) -> Vec<DeriveConfig> {
    let Some(section) = root.section(r, "derive") else { return Vec::new() };
    let mut derives = Vec::new();
    for (key, value) in section.table {
        let name = key.get_ref().as_ref();
        let mut named = check_name(r, key.span(), "a derived table", name);
        if TAKEN.contains(&name) {
            let title = format!("`{name}` cannot be the name of a derived table");
            r.mistake(key.span(), title, "queries call a sink so", "choose another");
            named = false;
        }
        let Some(inner) = r.section(format!("derive.{name}"), value) else { continue };
        derives.extend(derive(r, inner, name).filter(|_| named));
    }
    derives.sort_by(|one, two| one.name.cmp(&two.name));
    derives
}

fn derive(r: &mut Reader<'_>, mut section: Section<'_>, name: &str) -> Option<DeriveConfig> {
    let choices = [("valid", Outcome::Valid), ("error", Outcome::Error), ("dlq", Outcome::Dlq)];
    let path = section.name("from");
    let from = section.required("from", "the sink whose rows it is made of, as in `from = \"valid\"`");
    let from = from.and_then(|value| {
        let text = r.text(&path, value)?;
        Some((r.chosen(&path, &text, &choices)?, text.place))
    });
    let path = section.name("sql");
    let help = "a query over the table `batch`: `SELECT page, count(*) AS n FROM batch GROUP BY page`";
    let sql = section.required("sql", help).and_then(|value| r.text(&path, value));
    let path = section.name("delta");
    let location = section.required("delta", "the folder of its table").and_then(|value| r.expanded(&path, value));
    let location = location.and_then(|text| sink::location(r, &text));
    section.later(r, &["partition_by", "keep", "parquet", "kafka", "postgres"]);
    section.finish(r);
    let ((from, from_place), sql) = (from?, sql?);
    Some(DeriveConfig {
        name: name.into(),
        from,
        from_place,
        sql: Sql { text: sql.value, place: sql.place },
        location: location?,
    })
}
