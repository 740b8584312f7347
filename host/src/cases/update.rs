//! Writes what came into the lines of cases that fail, and leaves every other byte as it is.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::{Line, Suite, Update};
use crate::error::{Doing, Result};

/// Every key that says what should come: one that no longer applies leaves its line.
const OURS: [&str; 7] = ["finds", "adds", "outcome", "findings", "reason", "row", "rows"];

/// Updates the lines of a suite's failed cases; answers how many, and takes their problems away. `known` are the keys of a
/// case; `inputs` those of them that are no expectation (a plugin's `row`).
pub fn update(suite: &mut Suite, known: &[&str], inputs: &[&str]) -> Result<usize> {
    let mut by_file: BTreeMap<&Path, BTreeMap<usize, &Update>> = BTreeMap::new();
    for case in &suite.cases {
        if let Some(update) = case.problem.as_ref().and_then(|problem| problem.update.as_ref()) {
            by_file.entry(&case.file).or_default().insert(case.line, update);
        }
    }
    let mut updated = 0;
    for (file, lines) in by_file {
        let text = std::fs::read_to_string(file).doing(|| format!("cannot read {}", file.display()))?;
        let mut changed = String::with_capacity(text.len());
        for (n, whole) in text.split_inclusive('\n').enumerate() {
            let line = whole.trim_end_matches(['\n', '\r']);
            match lines.get(&(n + 1)) {
                None => changed += line,
                Some(update) => {
                    updated += 1;
                    let stale = OURS.into_iter().filter(|key| !inputs.contains(key));
                    let stale = stale.filter(|key| !update.iter().any(|(new, _)| new == key)).map(|key| (key, None));
                    let new = update.iter().map(|(key, value)| (*key, Some(spaced(value))));
                    changed += &Line::parse(file, n + 1, line, known)?.with(&new.chain(stale).collect::<Vec<_>>());
                }
            }
            changed += &whole[line.len()..];
        }
        // beside it first: a crash must not leave half of somebody's cases
        let beside = file.with_extension("ndjson.new");
        std::fs::write(&beside, changed).doing(|| format!("cannot write {}", beside.display()))?;
        std::fs::rename(&beside, file).doing(|| format!("cannot replace {}", file.display()))?;
    }
    for case in &mut suite.cases {
        if case.problem.as_ref().is_some_and(|problem| problem.update.is_some()) {
            case.problem = None;
        }
    }
    Ok(updated)
}

/// JSON as people write it in a line: a space behind commas and colons.
pub fn spaced(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(spaced).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(name, value)| format!("{}: {}", Value::from(name.as_str()), spaced(value)))
                .collect();
            format!("{{{}}}", fields.join(", "))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}
