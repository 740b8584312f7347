//! What judges, as one immutable thing with a name: schema, enrichers, expectations, rules with code, configuration and
//! limits.
//!
//! Its hash is that of a canonical JSON text (the *judgement*), which names code and schema by their digests. Connections,
//! locations and the names of files stay out, so the hash that was tested is the hash that runs in production. Text and
//! code lie beside it by content, so that any past generation can be loaded again. It judges nothing itself, and does not
//! know how code is compiled.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use arrow::datatypes::Field;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use serde_json::{Value, json};

use crate::config::{
    AuditConfig, Config, DeriveConfig, EnrichConfig, Named, OnFail, OnFailure, PluginCode, PluginConfig,
    ReferenceConfig, UnknownFields, Wasi, Window,
};
use crate::error::{Error, Result};
use crate::ledger::seal::digest;
use crate::store::{failed, shown};

mod changes;
mod revive;

/// Version of the judgement's form; part of the hash.
const FORMAT: u32 = 1;

/// How often the creation of an object is tried whose answer was unclear.
const UNCLEAR: u32 = 3;

/// The set of everything that judges, and the bytes that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// SHA-256 of the canonical judgement, 64 hex digits
    pub hash: String,
    /// what judges
    pub judgement: Value,
    /// digest → schema text, script or component
    pub objects: BTreeMap<String, Bytes>,
}

/// A plugin's code as it was loaded.
#[derive(Clone, Debug)]
pub struct Code {
    /// its name in the pipeline file
    pub name: Arc<str>,
    /// the component; of a script its engine
    pub bytes: Bytes,
}

impl Generation {
    /// The generation of a pipeline whose plugins have this code: enrichers first, then rules, then auditors, each in the
    /// order of `config`.
    pub fn of(config: &Config, plugins: &[Code]) -> Result<Generation> {
        let schema = Bytes::from(config.schema.text.clone().into_bytes());
        let mut objects = BTreeMap::new();
        let mut keep = |bytes: &Bytes| {
            let digest = digest(bytes);
            objects.insert(digest.clone(), bytes.clone());
            digest
        };
        let schema_digest = keep(&schema);
        let mut codes = plugins.iter();
        let mut plugin = |plugin: &PluginConfig| -> Result<Value> {
            match codes.next() {
                Some(code) if code.name == plugin.name => {
                    let mut judging = judging_plugin(plugin, &keep(&code.bytes));
                    if let PluginCode::Script(script) = &plugin.code {
                        let text = keep(&Bytes::copy_from_slice(script.text.as_bytes()));
                        judging["script"] = json!({"language": script.language.key(), "text": text});
                    }
                    Ok(judging)
                }
                _ => Err(Error::Host(format!("plugin `{}` is part of a generation without its code", plugin.name))),
            }
        };
        let mut enrich = Vec::new();
        for step in &config.enrich {
            enrich.push(match step {
                EnrichConfig::Sql { name: _, columns } => {
                    let columns: Vec<Value> =
                        columns.iter().map(|(name, sql)| json!({"name": name, "sql": sql.text})).collect();
                    json!({"sql": columns})
                }
                EnrichConfig::Reference(join) => {
                    let on: BTreeMap<&str, &str> =
                        join.on.iter().map(|(key, path)| (key.as_str(), path.name.as_str())).collect();
                    let columns: Vec<Value> =
                        join.columns.iter().map(|c| json!({"name": c.name, "column": c.path})).collect();
                    json!({"reference": &*join.reference, "on": on, "columns": columns})
                }
                EnrichConfig::Plugin(config) => plugin(config)?,
            });
        }
        // neither expectations nor rules depend on their order
        let expect: BTreeSet<String> = config
            .expect
            .iter()
            .map(|e| canonical(&json!({"name": &*e.name, "sql": e.sql.text, "severity": e.severity.as_str()})))
            .collect();
        let expect: Vec<Value> =
            expect.iter().map(|text| serde_json::from_str(text).expect("it was just written")).collect();
        let rules: Vec<Value> = config.rules.iter().map(&mut plugin).collect::<Result<_>>()?;
        let rules: BTreeMap<&str, Value> = config.rules.iter().map(|rule| &*rule.name).zip(rules).collect();
        let mut judgement = json!({
            "format": FORMAT,
            "schema": {
                "text": schema_digest,
                "columns": config.schema.arrow.fields().iter().map(|field| column(field)).collect::<Vec<_>>(),
            },
            "event_time": config.event_time,
            "source": {
                "format": "json",
                "skip": config.source.skip.as_ref().map(|sql| &sql.text),
                "max_record": config.source.max_record,
                "unknown_fields": match config.source.unknown_fields {
                    UnknownFields::Ignore => "ignore",
                    UnknownFields::Reject => "reject",
                },
            },
            "enrich": enrich,
            "expect": expect,
            "rules": rules,
        });
        // where there are none they say nothing: the hash of a pipeline does not change because others can have some
        if let Some(audit) = &config.audit {
            judgement["audit"] = judging_audit(audit);
            let auditors: Vec<Value> = audit.auditors.iter().map(&mut plugin).collect::<Result<_>>()?;
            let auditors: BTreeMap<&str, Value> = audit.auditors.iter().map(|a| &*a.name).zip(auditors).collect();
            judgement["audit"]["auditors"] = json!(auditors);
        }
        if !config.references.is_empty() {
            judgement["references"] = config.references.iter().map(|r| (r.name.to_string(), binding(r))).collect();
        }
        if !config.derives.is_empty() {
            let derived = |d: &DeriveConfig| json!({"from": d.from.as_str(), "sql": d.sql.text});
            judgement["derive"] = config.derives.iter().map(|d| (d.name.to_string(), derived(d))).collect();
        }
        Ok(Generation { hash: digest(canonical(&judgement).as_bytes()), judgement, objects })
    }

    /// For the screen: the first six digits.
    pub fn short(&self) -> &str {
        short(&self.hash)
    }

    /// Stores it under the state folder, code and text first. What is there already is left alone: its name is its content.
    pub async fn store(&self, store: &Arc<dyn ObjectStore>, state: &Path) -> Result<()> {
        for (digest, bytes) in &self.objects {
            create(store, &object(state, digest), bytes.clone()).await?;
        }
        create(store, &file(state, &self.hash), canonical(&self.judgement).into()).await
    }

    /// Loads a past generation by its whole hash; every byte is checked against the digest that names it.
    pub async fn load(store: &Arc<dyn ObjectStore>, state: &Path, hash: &str) -> Result<Generation> {
        let text = read(store, &file(state, hash), hash, &format!("generation {}", short(hash))).await?;
        let judgement: Value = serde_json::from_slice(&text)
            .map_err(|e| Error::Diverged(format!("generation {} is no judgement: {e}", short(hash))))?;
        match judgement["format"].as_u64() {
            Some(format) if format <= u64::from(FORMAT) => {}
            format => {
                let format = format.map_or("none".to_owned(), |n| n.to_string());
                return Err(Error::Diverged(format!(
                    "generation {} has format {format}, which a newer sluice wrote: use that one",
                    short(hash)
                )));
            }
        }
        let mut objects = BTreeMap::new();
        for digest in named(&judgement) {
            let what = format!("object {} of generation {}", short(&digest), short(hash));
            let bytes = read(store, &object(state, &digest), &digest, &what).await?;
            objects.insert(digest, bytes);
        }
        Ok(Generation { hash: hash.to_owned(), judgement, objects })
    }

    /// The whole hashes of all stored generations that begin with `beginning`, sorted.
    pub async fn find(store: &Arc<dyn ObjectStore>, state: &Path, beginning: &str) -> Result<Vec<String>> {
        let folder = state.clone().join("generations");
        let listed: Vec<_> =
            store.list(Some(&folder)).try_collect().await.map_err(|e| failed(format!("cannot list {folder}"), e))?;
        let hash = |path: &Path| path.filename()?.strip_suffix(".json").map(str::to_owned);
        let mut found: Vec<String> = listed.iter().filter_map(|object| hash(&object.location)).collect();
        found.retain(|hash| hash.starts_with(beginning));
        found.sort();
        Ok(found)
    }
}

/// For the screen: the first six digits of a hash.
pub fn short(hash: &str) -> &str {
    hash.get(..6).unwrap_or(hash)
}

/// How a generation is bound to a table: neither where it is nor how often it is looked at.
fn binding(reference: &ReferenceConfig) -> Value {
    let names = |named: &[Named]| named.iter().map(|n| n.name.clone()).collect::<Vec<_>>();
    json!({
        "key": names(&reference.key),
        "columns": reference.columns.as_deref().map(names),
        "on_duplicate": reference.on_duplicate.as_str(),
    })
}

fn judging_plugin(plugin: &PluginConfig, code: &str) -> Value {
    let limits = &plugin.limits;
    let mut judging = json!({
        "name": &*plugin.name,
        "code": code,
        "config": plugin.config,
        "limits": {
            "time_ns": nanos(limits.time),
            "memory": limits.memory,
            "fuel": limits.fuel,
            "fuel_per_row": limits.fuel_per_row,
            "findings_per_row": limits.findings_per_row,
            "detail": limits.detail,
            "log_lines": limits.log_lines,
            "component": limits.component,
            "call_rows": limits.call_rows,
            "call_bytes": limits.call_bytes,
        },
        "on_failure": match plugin.on_failure {
            OnFailure::Stop => "stop",
            OnFailure::DeadLetter => "dead-letter",
        },
        "max_failures": {"count": plugin.max_failures.count, "within_ns": nanos(plugin.max_failures.within)},
    });
    match plugin.wasi {
        Wasi::None => {} // said nowhere, so that generations keep the hashes that they had before there was a choice
        Wasi::Inert => judging["wasi"] = "inert".into(),
    }
    judging
}

/// How long staging is kept judges nothing.
fn judging_audit(audit: &AuditConfig) -> Value {
    let expect: BTreeMap<&str, Value> =
        audit.expect.iter().map(|e| (&*e.name, json!({"sql": e.sql.text, "on_fail": on_fail(e.on_fail)}))).collect();
    json!({
        "window": match audit.window {
            Window::Time(length) => json!({"time_ns": nanos(length)}),
            Window::Rows(rows) => json!({"rows": rows}),
            Window::File => json!("file"),
        },
        "lateness_ns": nanos(audit.lateness),
        "idle_ns": nanos(audit.idle),
        "max_ahead_ns": nanos(audit.max_ahead),
        "unique": audit.unique.iter().map(|path| &path.text).collect::<Vec<_>>(),
        "on_fail": on_fail(audit.on_fail),
        "expect": expect,
    })
}

fn on_fail(on_fail: OnFail) -> &'static str {
    match on_fail {
        OnFail::Reject => "reject",
        OnFail::Hold => "hold",
    }
}

fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn column(field: &Field) -> Value {
    json!({"name": field.name(), "type": field.data_type().to_string(), "nullable": field.is_nullable()})
}

/// The digests that a judgement names.
fn named(judgement: &Value) -> BTreeSet<String> {
    let steps = judgement["enrich"].as_array().into_iter().flatten();
    let rules = judgement["rules"].as_object().into_iter().flat_map(|rules| rules.values());
    let auditors = judgement["audit"]["auditors"].as_object().into_iter().flat_map(|auditors| auditors.values());
    let plugins = steps.chain(rules).chain(auditors);
    let codes = plugins.flat_map(|plugin| [&plugin["code"], &plugin["script"]["text"]]);
    let codes = codes.filter_map(Value::as_str);
    codes.chain(judgement["schema"]["text"].as_str()).map(str::to_owned).collect()
}

/// JSON with sorted keys and no white space: the same value is the same text, whoever writes it.
pub fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    text
}

fn write_canonical(value: &Value, to: &mut String) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            write!(to, "{value}").expect("a string takes everything");
        }
        Value::Array(items) => {
            to.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    to.push(',');
                }
                write_canonical(item, to);
            }
            to.push(']');
        }
        Value::Object(fields) => {
            // serde_json sorts them too, unless some crate of the build asks it not to
            let sorted: BTreeMap<&String, &Value> = fields.iter().collect();
            to.push('{');
            for (i, (name, value)) in sorted.into_iter().enumerate() {
                if i > 0 {
                    to.push(',');
                }
                write!(to, "{}:", Value::String(name.clone())).expect("a string takes everything");
                write_canonical(value, to);
            }
            to.push('}');
        }
    }
}

fn file(state: &Path, hash: &str) -> Path {
    state.clone().join("generations").join(format!("{hash}.json"))
}

fn object(state: &Path, digest: &str) -> Path {
    state.clone().join("objects").join(digest)
}

/// Creates an object under the name of its content, or finds it there, durably. Where the answer is unclear, the next
/// attempt is told.
async fn create(store: &Arc<dyn ObjectStore>, path: &Path, bytes: Bytes) -> Result<()> {
    let mut unclear = 0;
    loop {
        match store.put_opts(path, bytes.clone().into(), PutOptions::from(PutMode::Create)).await {
            Ok(_) | Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                return Ok(());
            }
            Err(e) => {
                unclear += 1;
                if unclear == UNCLEAR {
                    return Err(failed(format!("cannot create {}", shown(path)), e));
                }
            }
        }
    }
}

async fn read(store: &Arc<dyn ObjectStore>, path: &Path, expected: &str, what: &str) -> Result<Bytes> {
    let bytes = match async { store.get(path).await?.bytes().await }.await {
        Ok(bytes) => bytes,
        Err(object_store::Error::NotFound { .. }) => {
            return Err(Error::Diverged(format!("{what} is not stored here: {} is missing", shown(path))));
        }
        Err(e) => return Err(failed(format!("cannot read {}", shown(path)), e)),
    };
    if digest(&bytes) != expected {
        return Err(Error::Diverged(format!(
            "{what} is damaged: {} does not have the content that it is named for; put it back from a copy",
            shown(path)
        )));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
