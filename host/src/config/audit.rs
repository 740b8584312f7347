//! `[audit]`: rows wait in staging, and whole windows are decided.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use toml::de::DeValue;

use super::plugin::{self, Names, check_name};
use super::section::{Reader, Section};
use super::{Limits, PluginConfig, Sql, defaults, units};

/// Whole windows instead of single rows: `[audit]`.
#[derive(Clone, Debug)]
pub struct AuditConfig {
    /// which rows are decided together
    pub window: Window,
    /// how long after a window's end its last rows may come
    pub lateness: Duration,
    /// how long a silent partition holds the watermark back
    pub idle: Duration,
    /// an event time so far beyond the record's own is not usable
    pub max_ahead: Duration,
    /// paths of columns of which a window has each combination of values once
    pub unique: Vec<Sql>,
    /// what a failed expectation means, where it does not say so itself
    pub on_fail: OnFail,
    /// how long a published window stays in staging
    pub keep: Duration,
    /// what must hold for the rows of a window
    pub expect: Vec<AuditExpectation>,
    /// components that decide over windows, by name
    pub auditors: Vec<PluginConfig>,
}

/// Which rows are decided together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// the same interval of event time, of this length
    Time(Duration),
    /// so many consecutive offsets of a partition
    Rows(u64),
    /// the same file
    File,
}

/// What a failed audit does to its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFail {
    /// every row is an error
    Reject,
    /// it waits for an operator
    Hold,
}

/// What must hold for the rows of a window, in SQL.
#[derive(Clone, Debug)]
pub struct AuditExpectation {
    /// the code of the finding that a rejected window's rows get
    pub name: Arc<str>,
    /// an aggregate over the table `window`; null passes
    pub sql: Sql,
    /// what it does where it is false
    pub on_fail: OnFail,
}

const ON_FAIL: [(&str, OnFail); 2] = [("reject", OnFail::Reject), ("hold", OnFail::Hold)];

/// Reads `[audit]` and `[auditor.NAME]`; `None` where there is none, or where it could not be read. `event_time` is the
/// schema's.
pub(super) fn audit(
    r: &mut Reader<'_>,
    root: &mut Section<'_>,
    event_time: Option<&str>,
    limits: &Limits,
    names: &mut Names,
) -> Option<AuditConfig> {
    let auditors = auditors(r, root, limits, names);
    if !auditors.is_empty() && !root.has("audit") {
        let span = root.key_span("auditor");
        r.mistake(span, "auditors decide over windows, and there are none", "", "add `[audit]` with a `window`");
    }
    let mut section = root.section(r, "audit")?;
    let window = section.required("window", "`\"15m\"` of event time, `\"50000 rows\"` of a partition, or `\"file\"`");
    let window = window.and_then(|value| {
        let text = r.text("audit.window", value)?;
        let window = parse(r, &text.value, text.place.span.clone())?;
        if matches!(window, Window::Time(_)) && event_time.is_none() {
            let help =
                "name the column: `[schema] event_time = \"…\"`; or let windows be `\"50000 rows\"` or `\"file\"`";
            r.mistake(text.place.span, "a window of time needs an event time", "", help);
            return None;
        }
        Some(window)
    });
    let lateness = lateness(r, &mut section);
    let idle = section.duration(r, "idle").unwrap_or(defaults::IDLE);
    let max_ahead = section.duration(r, "max_ahead").unwrap_or(defaults::MAX_AHEAD);
    let on_fail = section.choice(r, "on_fail", &ON_FAIL, &[]).unwrap_or(defaults::ON_FAIL);
    let keep = section.duration(r, "keep").unwrap_or(defaults::KEEP_STAGED);
    let unique = section.value("unique").and_then(|value| r.texts("audit.unique", value, Reader::text));
    let expect = expectations(r, &mut section, on_fail);
    section.finish(r);
    let unique = unique.into_iter().flatten().map(|text| Sql { text: text.value, place: text.place }).collect();
    Some(AuditConfig { window: window?, lateness, idle, max_ahead, unique, on_fail, keep, expect, auditors })
}

/// `[auditor.NAME]`, by name.
fn auditors(r: &mut Reader<'_>, root: &mut Section<'_>, limits: &Limits, names: &mut Names) -> Vec<PluginConfig> {
    let Some(section) = root.section(r, "auditor") else { return Vec::new() };
    let mut auditors = Vec::new();
    for (key, value) in section.table {
        let name = key.get_ref().as_ref();
        let named = check_name(r, key.span(), "an auditor", name)
            && names.take(r, key.span(), name, "another auditor has it".to_owned());
        let Some(mut inner) = r.section(format!("auditor.{name}"), value) else { continue };
        let kind = inner.kind(r, &format!("auditor `{name}`"), &["wasm", "builtin"], &["js", "python"]);
        let auditor = plugin::plugin(r, &mut inner, name, kind, limits);
        inner.finish(r);
        auditors.extend(auditor.filter(|_| named));
    }
    auditors.sort_by(|one, two| one.name.cmp(&two.name));
    auditors
}

/// `[audit]` and a place for its rows go together.
pub(super) fn staged(r: &mut Reader<'_>, root: &Section<'_>, is_audited: bool, has_staging: bool) {
    let names_staging =
        root.table.get("sink").and_then(|s| s.get_ref().as_table()).is_some_and(|s| s.contains_key("staging"));
    if is_audited && !has_staging && !names_staging {
        let help = "for example `staging = { delta = \"lake/visits_staging\" }` in `[sink]`";
        r.mistake(root.key_span("audit"), "`sink.staging` is missing", "rows wait there for their window", help);
    }
    if names_staging && !root.has("audit") {
        let span = root.key_span("sink");
        r.mistake(span, "`sink.staging` has no use without `[audit]`", "", "add `[audit]` with a `window`");
    }
}

/// `15m`, `50000 rows`, `file`.
fn parse(r: &mut Reader<'_>, text: &str, span: Range<usize>) -> Option<Window> {
    let help = "`\"15m\"` of event time, `\"50000 rows\"` of a partition, or `\"file\"`";
    if text.trim() == "file" {
        return Some(Window::File);
    }
    if let Some(number) = text.trim().strip_suffix("rows").or_else(|| text.trim().strip_suffix("row")) {
        let rows: Option<u64> = number.trim().replace('_', "").parse().ok();
        return match rows.filter(|rows| (1..=1 << 40).contains(rows)) {
            Some(rows) => Some(Window::Rows(rows)),
            None => {
                r.mistake(span, "`audit.window` is no number of rows", "", help);
                None
            }
        };
    }
    match units::duration(text) {
        Ok(length) if !length.is_zero() => Some(Window::Time(length)),
        Ok(_) => {
            r.mistake(span, "`audit.window` must be more than nothing", "", help);
            None
        }
        Err(why) => {
            r.mistake(span, "`audit.window` is no window", why, help);
            None
        }
    }
}

/// As a duration, but nothing is a lateness like any other.
fn lateness(r: &mut Reader<'_>, section: &mut Section<'_>) -> Duration {
    let Some(value) = section.value("lateness") else { return defaults::LATENESS };
    let Some(text) = r.text("audit.lateness", value) else { return defaults::LATENESS };
    units::duration(&text.value).unwrap_or_else(|why| {
        r.mistake(value.span(), "`audit.lateness` must be a duration", why, "");
        defaults::LATENESS
    })
}

/// `[audit.expect]`: a string, or a table with `sql` and `on_fail`.
fn expectations(r: &mut Reader<'_>, section: &mut Section<'_>, on_fail: OnFail) -> Vec<AuditExpectation> {
    let Some(section) = section.section(r, "expect") else { return Vec::new() };
    let mut expectations = Vec::new();
    for (key, value) in section.table {
        let name = key.get_ref().as_ref();
        let mut named = check_name(r, key.span(), "an expectation", name);
        if ["late", "duplicate", "event-time-ahead", "operator"].contains(&name) {
            let help = "findings of the audit itself carry it: choose another";
            r.mistake(key.span(), format!("`{name}` cannot be the name of an expectation here"), "", help);
            named = false;
        }
        let path = format!("audit.expect.{name}");
        let (sql, own) = match value.get_ref() {
            DeValue::Table(_) => {
                let Some(mut long) = r.section(path.clone(), value) else { continue };
                let sql = long.required("sql", "what must hold for a window").and_then(|value| r.text(&path, value));
                let own = long.choice(r, "on_fail", &ON_FAIL, &[]);
                long.finish(r);
                (sql, own)
            }
            DeValue::String(_) => (r.text(&path, value), None),
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_) => {
                r.wrong_type(&path, value, "an expression, or a table with `sql`");
                (None, None)
            }
        };
        let Some(sql) = sql.filter(|_| named) else { continue };
        let sql = Sql { text: sql.value, place: sql.place };
        expectations.push(AuditExpectation { name: name.into(), sql, on_fail: own.unwrap_or(on_fail) });
    }
    expectations
}
