//! `[sink]`: one place per outcome. None has a default: a missing one would lose rows without a word.

use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use url::Url;

use super::section::{Kind, Reader, Section, Text};
use super::suggest::listed;
use super::{CommitConfig, DeriveConfig, Location, Place, SinkColumn, SinkConfig, SinkKind, SinksConfig, defaults};
use crate::outcome::Outcome;

/// Columns that tables store beside the user's, unless `provenance = false`.
pub(super) const PROVENANCE: [&str; 7] = ["_topic", "_partition", "_offset", "_row", "_attempt", "_batch", "_findings"];

/// Columns of a dead letter beside [`PROVENANCE`].
pub(super) const DEAD_LETTER: [&str; 9] =
    ["_key", "_value", "_headers", "_timestamp", "stage", "reason", "detail", "plugin", "digest"];

/// The sinks as far as they could be read.
#[derive(Default)]
pub(super) struct Sinks {
    valid: Option<SinkConfig>,
    error: Option<SinkConfig>,
    dlq: Option<SinkConfig>,
    staging: Option<SinkConfig>,
    /// every column of a `partition_by`, and where it stands
    pub partitions: Vec<(Outcome, String, Place)>,
    kept: Vec<Kept>,
}

/// A `keep`, and where it stands.
struct Kept {
    name: String,
    keep: Duration,
    span: Range<usize>,
}

impl Sinks {
    /// All three, and staging where it is named, or nothing.
    pub fn complete(self) -> Option<SinksConfig> {
        Some(SinksConfig { valid: self.valid?, error: self.error?, dlq: self.dlq?, staging: self.staging })
    }

    /// Whether rows have a place to wait.
    pub fn has_staging(&self) -> bool {
        self.staging.is_some()
    }
}

/// A row is as old as its entry, which is open for up to `commit.every`: what would be gone before it is there could never
/// be written.
pub(super) fn kept_long_enough(r: &mut Reader<'_>, sinks: &Sinks, commit: &CommitConfig) {
    for kept in sinks.kept.iter().filter(|kept| kept.keep < commit.every * 2) {
        let help = "an entry is open for up to `commit.every`, and its rows must not be gone before they are there";
        r.mistake(kept.span.clone(), format!("`{}` is less than twice `commit.every`", kept.name), "", help);
    }
}

/// `keep = "90d"`
fn keep(
    r: &mut Reader<'_>,
    section: &mut Section<'_>,
    kind: Option<&SinkKind>,
    all: &mut Vec<Kept>,
) -> Option<Duration> {
    let span = section.key_span("keep");
    let keep = section.duration(r, "keep")?;
    let name = section.name("keep");
    if matches!(kind, Some(SinkKind::Stdout)) {
        let help = "only a Delta table lets rows go after a time; leave `keep` out";
        r.mistake(span, format!("`{name}`: what went to standard output cannot be taken back"), "", help);
        return None;
    }
    all.push(Kept { name, keep, span });
    Some(keep)
}

/// `[sink]`
pub(super) fn sinks(r: &mut Reader<'_>, mut section: Section<'_>) -> Sinks {
    let (mut partitions, mut kept) = (Vec::new(), Vec::new());
    let mut read = |key: &'static str, outcome, why: &str| {
        section.required(key, why)?;
        let inner = section.section(r, key)?;
        sink(r, inner, outcome, &mut partitions, &mut kept)
    };
    let valid = read("valid", Outcome::Valid, "for example `valid = { delta = \"lake/visits\" }`");
    let error = read("error", Outcome::Error, "rows that a rule refuses go there; nothing is ever dropped");
    let dlq = read("dlq", Outcome::Dlq, "records that nobody can judge go there; nothing is ever dropped");
    let staging = section.section(r, "staging").and_then(|inner| staging(r, inner));
    section.finish(r);
    Sinks { valid, error, dlq, staging, partitions, kept }
}

/// Where rows wait. All that can be chosen is the place: it holds every column, partitioned by window, so that a window is
/// read and removed without touching another.
fn staging(r: &mut Reader<'_>, mut section: Section<'_>) -> Option<SinkConfig> {
    let location = match section.kind(r, "`sink.staging`", &["delta"], &["postgres"]) {
        Kind::Refused => None,
        Kind::One(key, value) => {
            let text = r.expanded(&section.name(key), value);
            text.and_then(|text| location(r, &text))
        }
    };
    for key in ["columns", "provenance", "partition_by", "keep"].into_iter().filter(|key| section.has(key)) {
        let help = match key {
            "keep" => "`keep` of `[audit]` says how long published windows stay",
            _ => "it holds every column, by window: leave it out",
        };
        r.mistake(section.key_span(key), format!("`{}` cannot be chosen", section.name(key)), "", help);
    }
    section.ignore(&["columns", "provenance", "partition_by", "keep"]);
    section.finish(r);
    Some(SinkConfig {
        kind: SinkKind::Delta(location?),
        columns: None,
        provenance: true,
        partition_by: vec![crate::schema::WINDOW.to_owned()],
        keep: None,
    })
}

fn sink(
    r: &mut Reader<'_>,
    mut section: Section<'_>,
    outcome: Outcome,
    partitions: &mut Vec<(Outcome, String, Place)>,
    kept: &mut Vec<Kept>,
) -> Option<SinkConfig> {
    let what = format!("`{}`", section.path);
    let kind = match section.kind(r, &what, &["delta", "stdout"], &["kafka", "parquet", "postgres"]) {
        Kind::Refused => None,
        Kind::One("stdout", value) => {
            if value.get_ref().as_bool() != Some(true) {
                r.mistake(value.span(), format!("`{}.stdout` can only be `true`", section.path), "", "");
            }
            Some(SinkKind::Stdout)
        }
        Kind::One(key, value) => {
            let text = r.expanded(&section.name(key), value);
            text.and_then(|text| location(r, &text)).map(SinkKind::Delta)
        }
    };
    let keep = keep(r, &mut section, kind.as_ref(), kept);
    let provenance = section.flag(r, "provenance").unwrap_or(defaults::PROVENANCE);
    let columns = columns(r, &mut section, outcome, provenance);
    let name = section.name("partition_by");
    let partition_by = section.value("partition_by").and_then(|value| r.texts(&name, value, Reader::text));
    let mut seen: Vec<String> = Vec::new();
    for text in partition_by.into_iter().flatten() {
        if matches!(kind, Some(SinkKind::Stdout)) {
            r.mistake(text.place.span.clone(), "standard output has no partitions", "", "leave `partition_by` out");
        }
        if let Some(columns) = &columns
            && !columns.iter().any(|column| column.name == text.value)
            && !(provenance && PROVENANCE.contains(&text.value.as_str()))
        {
            let title = format!("`{}` is not among the columns of this sink", text.value);
            r.mistake(text.place.span.clone(), title, "", "add it to `columns`");
        }
        if seen.contains(&text.value) {
            r.mistake(text.place.span, format!("`{}` is named twice", text.value), "", "");
        } else {
            partitions.push((outcome, text.value.clone(), text.place));
            seen.push(text.value);
        }
    }
    section.finish(r);
    Some(SinkConfig { kind: kind?, columns, provenance, partition_by: seen, keep })
}

/// `columns = ["_key AS key", "order_id"]`
fn columns(
    r: &mut Reader<'_>,
    section: &mut Section<'_>,
    outcome: Outcome,
    provenance: bool,
) -> Option<Vec<SinkColumn>> {
    let value = section.value("columns")?;
    if outcome == Outcome::Dlq {
        let help = "it holds the raw bytes and the reason; leave `columns` out";
        r.mistake(section.key_span("columns"), "the columns of a dlq cannot be chosen", "", help);
        return None;
    }
    if value.get_ref().as_array().is_some_and(|array| array.is_empty()) {
        r.mistake(value.span(), format!("`{}` names no column", section.name("columns")), "", "leave it out for all");
    }
    let mut columns: Vec<SinkColumn> = Vec::new();
    for text in r.texts(&section.name("columns"), value, Reader::text)? {
        let Some(column) = column(r, &text) else { continue };
        let span = text.place.span;
        // Delta's names are unique whatever their case
        if let Some(other) = columns.iter().find(|other| other.name.eq_ignore_ascii_case(&column.name)) {
            let title = format!("two columns are called `{}`", column.name);
            r.mistake(span, title, format!("the other is `{}`", other.path), "name one with AS");
        } else if provenance && PROVENANCE.iter().any(|name| name.eq_ignore_ascii_case(&column.name)) {
            let title = format!("`{}` is stored anyway", column.name);
            r.mistake(span, title, "", "leave it out, or choose all columns yourself with `provenance = false`");
        } else {
            columns.push(column);
        }
    }
    Some(columns)
}

/// `path`, or `path AS name`
pub(super) fn column(r: &mut Reader<'_>, text: &Text) -> Option<SinkColumn> {
    let words: Vec<_> = text.value.split_whitespace().collect();
    let (path, name) = match words.as_slice() {
        [path] => (*path, *path),
        [path, r#as, name] if r#as.eq_ignore_ascii_case("as") => (*path, *name),
        _ => {
            let title = format!("`{}` is not a column", text.value);
            r.mistake(text.place.span.clone(), title, "", "write a path, or a path and a name: `_key AS key`");
            return None;
        }
    };
    if name.contains('.') {
        let last = path.rsplit('.').next().unwrap_or(path);
        let help = format!("name it, as in `{path} AS {last}`");
        r.mistake(text.place.span.clone(), format!("`{name}` cannot be the name of a column in a table"), "", help);
        return None;
    }
    Some(SinkColumn { name: name.to_owned(), path: path.to_owned(), place: text.place.clone() })
}

/// A folder or a URL, absolute.
pub(super) fn location(r: &mut Reader<'_>, text: &Text) -> Option<Location> {
    const OBJECT_STORES: [&str; 10] = ["s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss", "http", "https"];
    let span = text.place.span.clone();
    if text.value.trim().is_empty() {
        r.mistake(span, "this location is empty", "", "name a folder, relative to the pipeline file");
        return None;
    }
    let path = match text.value.split_once("://") {
        None => Some(r.base.join(&text.value)),
        Some((scheme, _)) if OBJECT_STORES.contains(&scheme) => {
            r.not_available(span, &format!("a location on `{scheme}://`"));
            return None;
        }
        Some(_) => {
            Url::parse(&text.value).ok().filter(|url| url.scheme() == "file").and_then(|url| url.to_file_path().ok())
        }
    };
    let Some(path) = path else {
        // the expanded text may hold a secret: only what was written is shown
        let title = format!("`{}` is not a location", text.written);
        r.mistake(span, title, "", "name a folder, relative to the pipeline file, or a `file:///…` URL");
        return None;
    };
    let url = Url::from_file_path(normal(&path)).expect("a path that starts at the root is a URL");
    Some(Location { written: text.written.clone(), url })
}

/// The path without `.` and `..`, which URLs do not have. The folder it starts at is free of links already.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => normal.push(component),
        }
    }
    normal
}

/// Two tables in one folder, or one inside another, would destroy each other.
pub(super) fn apart(
    r: &mut Reader<'_>,
    root: &Section<'_>,
    state: Option<&Location>,
    sinks: &Sinks,
    derives: &[DeriveConfig],
) {
    let mut places: Vec<(String, &Location)> = state.map(|state| ("state".to_owned(), state)).into_iter().collect();
    for (name, sink) in
        [("valid", &sinks.valid), ("error", &sinks.error), ("dlq", &sinks.dlq), ("staging", &sinks.staging)]
    {
        match sink.as_ref().map(|sink| &sink.kind) {
            Some(SinkKind::Delta(location)) => places.push((format!("sink.{name}"), location)),
            Some(SinkKind::Stdout) | None => {}
        }
    }
    places.extend(derives.iter().map(|derive| (format!("derive.{}", derive.name), &derive.location)));
    for (index, (name, location)) in places.iter().enumerate() {
        for (other_name, other) in &places[..index] {
            let (one, two) = (folder(&location.url), folder(&other.url));
            if one.starts_with(&two) || two.starts_with(&one) {
                let span = name
                    .split_once('.')
                    .and_then(|(section, name)| root.table.get(section)?.get_ref().as_table()?.get(name))
                    .map_or(root.span.clone(), |value| value.span());
                let title = format!("{} share a folder", listed(&[other_name, name], "and"));
                let label = format!("`{}` and `{}`", other.written, location.written);
                r.mistake(span, title, label, "each needs one of its own, and none inside another's");
            }
        }
    }
}

fn folder(url: &Url) -> String {
    format!("{}/", url.as_str().trim_end_matches('/'))
}
