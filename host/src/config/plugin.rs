//! A component in the pipeline file: its code, its configuration, its limits.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use toml::de::DeValue;

use super::section::{Kind, Reader, Section, Value};
use super::{Place, defaults, expand, units};
use crate::script::{Language, Script};

/// A component with its configuration and limits.
#[derive(Clone, Debug)]
pub struct PluginConfig {
    /// its name in the pipeline file
    pub name: Arc<str>,
    /// where the code is
    pub code: PluginCode,
    /// where the code is named in the pipeline file
    pub place: Place,
    /// passed to `configure` as JSON
    pub config: serde_json::Value,
    /// what it may use
    pub limits: Limits,
    /// what it may import of WASI
    pub wasi: Wasi,
    /// what happens when it fails beyond its budget
    pub on_failure: OnFailure,
    /// the budget: failures within a time
    pub max_failures: MaxFailures,
}

/// Where a plugin's code is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginCode {
    /// a component's file: path as written, and absolute
    Wasm(String, PathBuf),
    /// a ready-made one, embedded in the binary
    Builtin(String),
    /// a text that a ready-made engine judges by
    Script(Script),
    /// one that a generation was stored with: its digest, and the component
    Stored(String, bytes::Bytes),
}

/// What a component may import of WASI 0.2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wasi {
    /// nothing: it is refused with the import's name
    #[default]
    None,
    /// all of it, with nothing behind it
    Inert,
}

/// What one plugin may use. Every default stands in `config/defaults.rs`, with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// wall-clock time of one call
    pub time: Duration,
    /// bytes, summed over memories and tables of an instance
    pub memory: usize,
    /// fuel of a call, whatever its size
    pub fuel: u64,
    /// fuel of a call for each row in it
    pub fuel_per_row: u64,
    /// findings that a rule may return for one row
    pub findings_per_row: usize,
    /// bytes of a finding's detail that are kept
    pub detail: usize,
    /// lines that it may log in a second
    pub log_lines: u32,
    /// bytes of the component
    pub component: usize,
    /// wall-clock time that compiling it may take; not part of a generation, as no verdict depends on it
    pub compile: Duration,
    /// rows passed in one call at most
    pub call_rows: usize,
    /// bytes of columns passed in one call at most (a single larger row is passed alone)
    pub call_bytes: usize,
}

/// What happens when a plugin fails beyond its budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// the pipeline stops; nothing of the batch is committed
    Stop,
    /// every row that it should have seen is dead, until it is replaced
    DeadLetter,
}

/// So many failures within so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxFailures {
    /// failures that are tolerated
    pub count: u32,
    /// within this time
    pub within: Duration,
}

/// `[limits]`, or `limits = {…}` on one plugin: what is not said stays as in `base`.
pub(super) fn limits(r: &mut Reader<'_>, section: Option<Section<'_>>, base: &Limits) -> Limits {
    // beyond it nothing is bounded any more; the same for all, since each protects the same memory
    const MOST: u64 = 1 << 32;
    let Some(mut section) = section else { return base.clone() };
    let bytes = |bytes: Option<u64>, base: usize| bytes.and_then(|b| usize::try_from(b).ok()).unwrap_or(base);
    let limits = Limits {
        time: section.duration(r, "time").unwrap_or(base.time),
        memory: bytes(section.size(r, "memory"), base.memory),
        fuel: section.count(r, "fuel", u64::MAX / 2).unwrap_or(base.fuel),
        fuel_per_row: section.count(r, "fuel_per_row", MOST).unwrap_or(base.fuel_per_row),
        findings_per_row: bytes(section.count(r, "findings_per_row", 1024), base.findings_per_row),
        detail: bytes(section.size(r, "detail"), base.detail),
        log_lines: section.count(r, "log_lines", 10_000).and_then(|n| n.try_into().ok()).unwrap_or(base.log_lines),
        component: bytes(section.size(r, "component"), base.component),
        compile: section.duration(r, "compile").unwrap_or(base.compile),
        call_rows: bytes(section.count(r, "call_rows", 1 << 20), base.call_rows),
        call_bytes: bytes(section.size(r, "call_bytes"), base.call_bytes),
    };
    section.finish(r);
    limits
}

/// `[rule.NAME]`: a component that judges.
pub(super) fn rule(r: &mut Reader<'_>, mut section: Section<'_>, name: &str, base: &Limits) -> Option<PluginConfig> {
    let what = format!("rule `{name}`");
    let kind = section.kind(r, &what, &["wasm", "js", "python", "builtin"], &[]);
    let plugin = plugin(r, &mut section, name, kind, base);
    section.finish(r);
    plugin
}

/// The keys that every component has. The caller has read the kind, and finishes the section.
pub(super) fn plugin(
    r: &mut Reader<'_>,
    section: &mut Section<'_>,
    name: &str,
    kind: Kind<'_>,
    base: &Limits,
) -> Option<PluginConfig> {
    let wasi = section.choice(r, "wasi", &[("inert", Wasi::Inert)], &[]);
    let config = match section.section(r, "config") {
        Some(config) => json(r, &section.name("config"), config.table.iter().map(|(k, v)| (k.get_ref().as_ref(), v))),
        None => serde_json::Map::new(),
    };
    let own = section.section(r, "limits");
    let limits = limits(r, own, base);
    let on_failure = section.choice(
        r,
        "on_failure",
        &[("stop", OnFailure::Stop), ("dead-letter", OnFailure::DeadLetter)],
        &["rollback"],
    );
    let max_failures = max_failures(r, section);
    let Kind::One(key, value) = kind else { return None };
    let place = r.place(value.span());
    let code = match (key, Language::of_key(key)) {
        (_, Some(language)) => PluginCode::Script(script(r, &section.name(key), language, value)?),
        ("wasm", None) => {
            let text = r.expanded(&section.name(key), value)?;
            PluginCode::Wasm(text.written, r.base.join(text.value))
        }
        (_, None) => PluginCode::Builtin(r.text(&section.name(key), value)?.value),
    };
    if let (PluginCode::Script(_), Some(_)) = (&code, wasi) {
        let help = "what judges scripts imports no WASI";
        r.mistake(section.key_span("wasi"), format!("`{}` says nothing of a script", section.name("wasi")), "", help);
    }
    Some(PluginConfig {
        name: Arc::from(name),
        code,
        place,
        config: serde_json::Value::Object(config),
        limits,
        wasi: wasi.unwrap_or_default(),
        on_failure: on_failure.unwrap_or(defaults::ON_FAILURE),
        max_failures: max_failures.unwrap_or(defaults::MAX_FAILURES),
    })
}

/// The text that `js` or `python` names.
fn script(r: &mut Reader<'_>, name: &str, language: Language, value: &Value<'_>) -> Option<Script> {
    let text = r.expanded(name, value)?;
    let (path, shown) = (r.base.join(&text.value), r.shown_base.join(&text.value));
    match Script::read(language, &text.written, &shown.display().to_string(), &path) {
        Ok(script) => Some(script),
        Err(error) => {
            let title = format!("cannot read `{}`: {}", text.written, expand::plain(&error));
            r.mistake(text.place.span, title, "", "");
            None
        }
    }
}

/// `"10 in 1m"`
fn max_failures(r: &mut Reader<'_>, section: &mut Section<'_>) -> Option<MaxFailures> {
    let text = section.text(r, "max_failures")?;
    let parsed = text.value.split_once(" in ").and_then(|(count, within)| {
        let count = count.trim().replace('_', "").parse().ok()?;
        let within = units::duration(within).ok().filter(|within| !within.is_zero())?;
        Some(MaxFailures { count, within })
    });
    if parsed.is_none() {
        let title = format!("`{}` must be a number and a time", section.name("max_failures"));
        r.mistake(text.place.span, title, "", "for example `max_failures = \"10 in 1m\"`");
    }
    parsed
}

/// What a plugin is configured with. It is hashed and handed to a guest, so it holds no placeholder and no secret.
fn json<'t>(
    r: &mut Reader<'_>,
    name: &str,
    entries: impl Iterator<Item = (&'t str, &'t Value<'t>)>,
) -> serde_json::Map<String, serde_json::Value> {
    entries.filter_map(|(key, value)| Some((key.to_owned(), json_value(r, &format!("{name}.{key}"), value)?))).collect()
}

fn json_value(r: &mut Reader<'_>, name: &str, value: &Value<'_>) -> Option<serde_json::Value> {
    use serde_json::Value as Json;
    Some(match value.get_ref() {
        DeValue::String(_) => Json::String(r.text(name, value)?.value),
        DeValue::Boolean(flag) => Json::Bool(*flag),
        DeValue::Datetime(time) => Json::String(time.to_string()),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(integer) => Json::from(integer),
            Err(_) => {
                r.mistake(value.span(), format!("`{name}` does not fit into 64 bits"), "", "");
                return None;
            }
        },
        DeValue::Float(float) => {
            let number = float.as_str().parse().ok().and_then(serde_json::Number::from_f64);
            if number.is_none() {
                r.mistake(value.span(), format!("`{name}` must be finite"), "", "plugins are configured in JSON");
            }
            Json::Number(number?)
        }
        DeValue::Array(array) => Json::Array(array.iter().filter_map(|v| json_value(r, name, v)).collect()),
        DeValue::Table(table) => {
            Json::Object(json(r, name, table.iter().map(|(key, value)| (key.get_ref().as_ref(), value))))
        }
    })
}

/// A name that a person gave: it becomes part of metrics, columns and files.
pub(crate) fn is_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

/// Refuses a name that is none.
pub(super) fn check_name(r: &mut Reader<'_>, span: std::ops::Range<usize>, what: &str, name: &str) -> bool {
    let placeholder = expand::first_placeholder(name).is_some();
    if !is_name(name) {
        let title = format!("`{name}` cannot be the name of {what}");
        let help = match placeholder {
            true => "placeholders are expanded only in locations and connections",
            false => "a name has letters, digits, `-` and `_`, begins with a letter, and is at most 64 long",
        };
        r.mistake(span, title, "", help);
        return false;
    }
    true
}

/// Names that are taken, and by what.
#[derive(Default)]
pub(super) struct Names(BTreeMap<String, String>);

impl Names {
    /// Takes a name; a second owner is a mistake.
    pub fn take(&mut self, r: &mut Reader<'_>, span: std::ops::Range<usize>, name: &str, owner: String) -> bool {
        if let Some(other) = self.0.get(name) {
            r.mistake(span, format!("the name `{name}` is taken"), other.as_str(), "rename one of them");
            return false;
        }
        self.0.insert(name.to_owned(), owner);
        true
    }
}
