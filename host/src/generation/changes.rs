//! What two generations judge differently, as people say it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Generation, short};

impl Generation {
    /// What this one judges otherwise than `before`, a phrase each: `+ expect/has-page`, `consent 9c1e04 → 41aa7b`. Empty
    /// where they judge alike.
    pub fn changes(&self, before: &Generation) -> Vec<String> {
        let (old, new) = (&before.judgement, &self.judgement);
        let mut changes = Vec::new();
        compare(&components(old), &components(new), "", &mut changes, |old, new| {
            let differing = |digest: fn(&Value) -> &Value| match (digest(old), digest(new)) {
                (Value::String(old), Value::String(new)) if old != new => {
                    Some(format!(" {} → {}", short(old), short(new)))
                }
                _ => None,
            };
            differing(|plugin| &plugin["script"]["text"])
                .or_else(|| differing(|plugin| &plugin["code"]))
                .unwrap_or_else(|| " (its settings or limits)".to_owned())
        });
        compare(&expectations(old), &expectations(new), "expect/", &mut changes, |_, _| String::new());
        compare(&columns(old), &columns(new), "column ", &mut changes, |old, new| {
            format!(" {} → {}", text(&old["type"]), text(&new["type"]))
        });
        let sql = |judgement: &Value| -> Vec<Value> {
            judgement["enrich"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|step| step["sql"].is_array())
                .cloned()
                .collect()
        };
        if sql(old) != sql(new) {
            changes.push("SQL enrichers".into());
        }
        if joins(old) != joins(new) {
            changes.push("joins with reference tables".into());
        }
        for key in ["references", "derive"] {
            let kind = if key == "derive" { "derive/" } else { "reference " };
            compare(&entries(&old[key]), &entries(&new[key]), kind, &mut changes, |_, _| String::new());
        }
        for key in ["skip", "max_record", "unknown_fields", "format"] {
            if old["source"][key] != new["source"][key] {
                changes.push(format!("source.{key} {} → {}", text(&old["source"][key]), text(&new["source"][key])));
            }
        }
        if old["event_time"] != new["event_time"] {
            changes.push(format!("event_time {} → {}", text(&old["event_time"]), text(&new["event_time"])));
        }
        if old["audit"] != new["audit"] {
            changes.push(match (old["audit"].is_object(), new["audit"].is_object()) {
                (false, _) => "+ audit".to_owned(),
                (true, false) => "- audit".to_owned(),
                (true, true) => {
                    let keys = new["audit"].as_object().into_iter().flatten();
                    let keys = keys.filter(|(key, value)| old["audit"][*key] != **value);
                    let keys: Vec<&str> = keys.map(|(key, _)| key.strip_suffix("_ns").unwrap_or(key)).collect();
                    format!("audit ({})", keys.join(", "))
                }
            });
        }
        if changes.is_empty() && self.hash != before.hash {
            changes.push("the text of the schema, or the order of steps".into());
        }
        changes
    }
}

fn compare(
    old: &BTreeMap<String, &Value>,
    new: &BTreeMap<String, &Value>,
    kind: &str,
    changes: &mut Vec<String>,
    how: impl Fn(&Value, &Value) -> String,
) {
    for (name, value) in new {
        match old.get(name) {
            None => changes.push(format!("+ {kind}{name}")),
            Some(before) if before != value => changes.push(format!("{kind}{name}{}", how(before, value))),
            Some(_) => {}
        }
    }
    changes.extend(old.keys().filter(|name| !new.contains_key(*name)).map(|name| format!("- {kind}{name}")));
}

/// Rules and enrichers that are components, by name.
fn components(judgement: &Value) -> BTreeMap<String, &Value> {
    let steps = judgement["enrich"].as_array().into_iter().flatten();
    let rules = judgement["rules"].as_object().into_iter().flat_map(|rules| rules.values());
    named(steps.chain(rules).filter(|step| step["code"].is_string()))
}

fn expectations(judgement: &Value) -> BTreeMap<String, &Value> {
    named(judgement["expect"].as_array().into_iter().flatten())
}

fn columns(judgement: &Value) -> BTreeMap<String, &Value> {
    named(judgement["schema"]["columns"].as_array().into_iter().flatten())
}

fn joins(judgement: &Value) -> Vec<&Value> {
    let steps = judgement["enrich"].as_array().into_iter().flatten();
    steps.filter(|step| step["reference"].is_string()).collect()
}

fn entries(value: &Value) -> BTreeMap<String, &Value> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), value)).collect()
}

fn named<'v>(values: impl Iterator<Item = &'v Value>) -> BTreeMap<String, &'v Value> {
    values.filter_map(|value| Some((value["name"].as_str()?.to_owned(), value))).collect()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
