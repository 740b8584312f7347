//! From a stored generation back to what judges: the part of a [`Config`] that a generation covers.
//!
//! Where records come from and where rows go is not in a generation; it is taken from the pipeline file of today. Whoever
//! revives one gets the very same hash again, which is checked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use super::{Code, Generation, short};
use crate::config::{
    AuditConfig, AuditExpectation, Config, DeriveConfig, EnrichConfig, Expectation, JoinConfig, Limits, MaxFailures,
    Named, OnFail, OnFailure, Place, PluginCode, PluginConfig, ReferenceConfig, SinkColumn, Sql, UnknownFields, Wasi,
    Window, defaults,
};
use crate::error::{Error, Result};
use crate::outcome::{Outcome, Severity};
use crate::reference::OnDuplicate;
use crate::schema::Schema;
use crate::script::{Language, Script};

/// The judgement as [`Generation::of`] writes it.
#[derive(Deserialize)]
struct Judgement {
    schema: Declared,
    event_time: Option<String>,
    source: Source,
    enrich: Vec<Enrich>,
    expect: Vec<Expect>,
    rules: BTreeMap<String, Component>,
    #[serde(default)]
    audit: Option<Audit>,
    #[serde(default)]
    references: BTreeMap<String, Binding>,
    #[serde(default)]
    derive: BTreeMap<String, Derived>,
}

#[derive(Deserialize)]
struct Audit {
    window: Windows,
    lateness_ns: u64,
    idle_ns: u64,
    max_ahead_ns: u64,
    unique: Vec<String>,
    on_fail: String,
    expect: BTreeMap<String, AuditExpect>,
    auditors: BTreeMap<String, Component>,
}

#[derive(Deserialize)]
struct AuditExpect {
    sql: String,
    on_fail: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Windows {
    Time { time_ns: u64 },
    Rows { rows: u64 },
    Word(String),
}

#[derive(Deserialize)]
struct Binding {
    key: Vec<String>,
    columns: Option<Vec<String>>,
    on_duplicate: String,
}

#[derive(Deserialize)]
struct Derived {
    from: Outcome,
    sql: String,
}

#[derive(Deserialize)]
struct Declared {
    text: String,
}

#[derive(Deserialize)]
struct Source {
    skip: Option<String>,
    max_record: usize,
    unknown_fields: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Enrich {
    Sql { sql: Vec<Column> },
    Reference { reference: String, on: BTreeMap<String, String>, columns: Vec<Joined> },
    Plugin(Box<Component>),
}

#[derive(Deserialize)]
struct Column {
    name: String,
    sql: String,
}

#[derive(Deserialize)]
struct Joined {
    name: String,
    column: String,
}

#[derive(Deserialize)]
struct Expect {
    name: String,
    sql: String,
    severity: Severity,
}

#[derive(Deserialize)]
struct Component {
    name: String,
    code: String,
    #[serde(default)]
    script: Option<Text>,
    config: Value,
    limits: Used,
    #[serde(default)]
    wasi: Option<String>,
    on_failure: String,
    max_failures: Budget,
}

#[derive(Deserialize)]
struct Text {
    language: String,
    text: String,
}

#[derive(Deserialize)]
struct Used {
    time_ns: u64,
    memory: usize,
    fuel: u64,
    fuel_per_row: u64,
    findings_per_row: usize,
    detail: usize,
    log_lines: u32,
    component: usize,
    call_rows: usize,
    call_bytes: usize,
}

#[derive(Deserialize)]
struct Budget {
    count: u32,
    within_ns: u64,
}

impl Generation {
    /// `today` with everything that judges replaced by this generation's.
    ///
    /// # Errors
    /// [`Error::Diverged`] where the stored judgement cannot be read by this version, or does not mean what it meant.
    pub fn revive(&self, today: &Config) -> Result<Config> {
        let unreadable = |why: String| {
            Error::Diverged(format!("generation {} cannot be revived by this version of sluice: {why}", self.short()))
        };
        let judgement: Judgement =
            serde_json::from_value(self.judgement.clone()).map_err(|e| unreadable(e.to_string()))?;
        // places in a text that nobody sees any more: messages name the generation instead
        let file: Arc<str> = format!("generation {}", self.short()).into();
        let place = || Place { file: file.clone(), span: 0..0 };
        let sql = |text: String| Sql { text, place: place() };
        let named = |name: String| Named { name, place: place() };
        let ddl = self.object(&judgement.schema.text)?;
        let ddl = std::str::from_utf8(ddl).map_err(|e| unreadable(e.to_string()))?;
        let schema = Schema::from_ddl(ddl, &file).map_err(|mistakes| unreadable(mistakes.to_string()))?;
        let mut plugins = Vec::new();
        let mut plugin = |component: Component| -> Result<PluginConfig> {
            let bytes = self.object(&component.code)?.clone();
            let text = component.script.as_ref().map(|script| self.object(&script.text)).transpose()?;
            let revived = component.revive(bytes.clone(), text, place()).map_err(unreadable)?;
            plugins.push(Code { name: revived.name.clone(), bytes });
            Ok(revived)
        };
        let mut enrich = Vec::new();
        for (index, step) in judgement.enrich.into_iter().enumerate() {
            enrich.push(match step {
                Enrich::Sql { sql: columns } => EnrichConfig::Sql {
                    name: format!("enrich-{}", index + 1).into(),
                    columns: columns.into_iter().map(|column| (column.name, sql(column.sql))).collect(),
                },
                Enrich::Reference { reference, on, columns } => EnrichConfig::Reference(JoinConfig {
                    name: format!("enrich-{}", index + 1).into(),
                    reference: reference.into(),
                    on: on.into_iter().map(|(key, path)| (key, named(path))).collect(),
                    columns: columns
                        .into_iter()
                        .map(|joined| SinkColumn { name: joined.name, path: joined.column, place: place() })
                        .collect(),
                    place: place(),
                }),
                Enrich::Plugin(component) => EnrichConfig::Plugin(Box::new(plugin(*component)?)),
            });
        }
        let rules = judgement.rules.into_values().map(&mut plugin).collect::<Result<Vec<_>>>()?;
        let expectation =
            |e: Expect| Expectation { name: e.name.into(), sql: sql(e.sql), severity: e.severity, help: None };
        let keep = today.audit.as_ref().map_or(defaults::KEEP_STAGED, |audit| audit.keep);
        let audit = match judgement.audit {
            None => None,
            Some(mut audit) => {
                let auditors = std::mem::take(&mut audit.auditors);
                let auditors = auditors.into_values().map(&mut plugin).collect::<Result<Vec<_>>>()?;
                Some(AuditConfig { auditors, ..audit.revive(keep, &sql).map_err(unreadable)? })
            }
        };
        let mut references = Vec::new();
        for (name, binding) in judgement.references {
            let today = today.references.iter().find(|r| *r.name == *name).ok_or_else(|| {
                unreadable(format!(
                    "its rows are joined with `{name}`, and the pipeline file says no more where that is"
                ))
            })?;
            let on_duplicate = OnDuplicate::parse(&binding.on_duplicate);
            references.push(ReferenceConfig {
                key: binding.key.into_iter().map(named).collect(),
                columns: binding.columns.map(|columns| columns.into_iter().map(named).collect()),
                on_duplicate: on_duplicate
                    .ok_or_else(|| unreadable(format!("on_duplicate is `{}`", binding.on_duplicate)))?,
                ..today.clone()
            });
        }
        let mut derives = Vec::new();
        for (name, derived) in judgement.derive {
            let today = today.derives.iter().find(|d| *d.name == *name).ok_or_else(|| {
                unreadable(format!("it fills the table `{name}`, and the pipeline file says no more where that is"))
            })?;
            derives.push(DeriveConfig { from: derived.from, sql: sql(derived.sql), ..today.clone() });
        }
        let mut revived = Config {
            audit,
            references,
            derives,
            schema: Arc::new(schema),
            event_time: judgement.event_time,
            enrich,
            expect: judgement.expect.into_iter().map(expectation).collect(),
            rules,
            ..today.clone()
        };
        revived.source.skip = judgement.source.skip.map(sql);
        revived.source.max_record = judgement.source.max_record;
        revived.source.unknown_fields = match judgement.source.unknown_fields.as_str() {
            "ignore" => UnknownFields::Ignore,
            "reject" => UnknownFields::Reject,
            other => return Err(unreadable(format!("unknown_fields is `{other}`"))),
        };
        let again = Generation::of(&revived, &plugins)?;
        if again.hash != self.hash {
            return Err(unreadable(format!("what it says is generation {} today", short(&again.hash))));
        }
        Ok(revived)
    }

    fn object(&self, digest: &str) -> Result<&Bytes> {
        self.objects.get(digest).ok_or_else(|| {
            Error::Host(format!("generation {} was loaded without object {}", self.short(), short(digest)))
        })
    }
}

impl Audit {
    fn revive(self, keep: Duration, sql: &dyn Fn(String) -> Sql) -> Result<AuditConfig, String> {
        let on_fail = |written: &str| match written {
            "reject" => Ok(OnFail::Reject),
            "hold" => Ok(OnFail::Hold),
            other => Err(format!("on_fail is `{other}`")),
        };
        let mut expect = Vec::new();
        for (name, e) in self.expect {
            expect.push(AuditExpectation { name: name.into(), sql: sql(e.sql), on_fail: on_fail(&e.on_fail)? });
        }
        Ok(AuditConfig {
            window: match self.window {
                Windows::Time { time_ns } => Window::Time(Duration::from_nanos(time_ns)),
                Windows::Rows { rows } => Window::Rows(rows),
                Windows::Word(word) if word == "file" => Window::File,
                Windows::Word(other) => return Err(format!("window is `{other}`")),
            },
            lateness: Duration::from_nanos(self.lateness_ns),
            idle: Duration::from_nanos(self.idle_ns),
            max_ahead: Duration::from_nanos(self.max_ahead_ns),
            unique: self.unique.into_iter().map(sql).collect(),
            on_fail: on_fail(&self.on_fail)?,
            keep,
            expect,
            auditors: Vec::new(),
        })
    }
}

impl Component {
    fn revive(self, bytes: Bytes, text: Option<&Bytes>, place: Place) -> Result<PluginConfig, String> {
        let limits = self.limits;
        let code = match (self.script, text) {
            (Some(script), Some(text)) => {
                let language = Language::of_key(&script.language);
                let language = language.ok_or_else(|| format!("a script is written in `{}`", script.language))?;
                let text = std::str::from_utf8(text).map_err(|e| format!("a script is not UTF-8: {e}"))?;
                let file: Arc<str> = format!("{}.{}", self.name, language.extension()).into();
                let (shown, text) = (file.clone(), text.into());
                PluginCode::Script(Script { language, file, shown, path: None, text, engine: Some(bytes) })
            }
            (Some(_), None) | (None, _) => PluginCode::Stored(self.code, bytes),
        };
        Ok(PluginConfig {
            name: self.name.into(),
            code,
            place,
            config: self.config,
            limits: Limits {
                time: Duration::from_nanos(limits.time_ns),
                memory: limits.memory,
                fuel: limits.fuel,
                fuel_per_row: limits.fuel_per_row,
                findings_per_row: limits.findings_per_row,
                detail: limits.detail,
                log_lines: limits.log_lines,
                component: limits.component,
                compile: defaults::LIMITS.compile,
                call_rows: limits.call_rows,
                call_bytes: limits.call_bytes,
            },
            wasi: match self.wasi.as_deref() {
                None => Wasi::None,
                Some("inert") => Wasi::Inert,
                Some(other) => return Err(format!("wasi is `{other}`")),
            },
            on_failure: match self.on_failure.as_str() {
                "stop" => OnFailure::Stop,
                "dead-letter" => OnFailure::DeadLetter,
                other => return Err(format!("on_failure is `{other}`")),
            },
            max_failures: MaxFailures {
                count: self.max_failures.count,
                within: Duration::from_nanos(self.max_failures.within_ns),
            },
        })
    }
}
