//! Values and reasons as people see them: text in quotes, cut to a line, masked where the pipeline file says so.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::run::short;
use crate::chain::Chain;
use crate::columns;
use crate::expect::RULE;
use crate::outcome::{Finding, Severity};
use crate::record::Batch;

/// `expect/has-user         user_id IS NOT NULL            user_id = null`.
pub(super) fn reason(chain: &Chain, batch: &Batch, row: usize, finding: &Finding) -> String {
    let (what, reads): (String, Vec<Arc<str>>) = if &*finding.rule == RULE {
        let expectation = chain.config.expect.iter().find(|e| e.name == finding.code);
        let what = expectation.map_or_else(String::new, |e| e.help.clone().unwrap_or_else(|| e.sql.text.clone()));
        (what, {
            let mut known = chain.parts.expectations.reads();
            known.find(|(name, _)| **name == finding.code).map_or_else(Vec::new, |(_, paths)| paths.to_vec())
        })
    } else {
        let plugin = chain.plugins().find(|plugin| *plugin.name() == finding.rule);
        let code = plugin.and_then(|plugin| plugin.codes().iter().find(|code| code.code == finding.code));
        let what = plugin.map_or_else(String::new, |p| format!("{} {} ({})", p.name(), p.version(), short(p.digest())));
        let help = code.map(|code| code.help.clone()).filter(|help| !help.is_empty());
        (help.map_or(what.clone(), |help| format!("{what}: {help}")), code.map(|c| c.reads.clone()).unwrap_or_default())
    };
    let values: Vec<String> =
        reads.iter().filter_map(|path| Some(format!("{path} = {}", value(chain, batch, row, path)?))).collect();
    let mut text = format!("{:<24}  {:<32}  {}", format!("{}/{}", finding.rule, finding.code), what, values.join(", "));
    if finding.severity == Severity::Warn {
        text += "  (warn)";
    }
    if let Some(detail) = &finding.detail {
        text += &format!("  {detail}");
    }
    text.trim_end().to_owned()
}

/// A value as people see it: text in quotes, at most 60 characters, masked where the configuration says so.
fn value(chain: &Chain, batch: &Batch, row: usize, path: &str) -> Option<String> {
    let column = columns::column(batch, path)?;
    if column.is_null(row) {
        return Some("null".into());
    }
    let options = FormatOptions::default().with_null("null");
    let text = match column.as_string_opt::<i32>() {
        Some(text) => text.value(row).to_owned(),
        None => ArrayFormatter::try_new(&column, &options).ok()?.value(row).to_string(),
    };
    let masked = chain
        .config
        .mask
        .iter()
        .any(|mask| path == mask || path.starts_with(&format!("{mask}.")) || mask.starts_with(&format!("{path}.")));
    let shown = if masked { mask(&text) } else { cut(&text, 60) };
    let quoted = column.as_string_opt::<i32>().is_some();
    Some(if quoted { format!("{shown:?}") } else { shown })
}

/// Masks columns of a row, and leaves out the raw bytes where there are masks: those cannot be masked.
pub(super) fn mask_json(row: &mut serde_json::Value, masks: &[String]) {
    use serde_json::Value;
    for path in masks {
        match row.pointer_mut(&format!("/{}", path.replace('.', "/"))) {
            Some(Value::String(text)) => *text = mask(text),
            Some(other) if !other.is_null() => *other = Value::String("***".into()),
            Some(_) | None => {}
        }
    }
    if let (false, Some(row)) = (masks.is_empty(), row.as_object_mut()) {
        for raw in ["_key", "_value", "_headers"] {
            row.remove(raw);
        }
    }
}

/// `mlind` → `ml***`.
pub(crate) fn mask(text: &str) -> String {
    text.chars().take(if text.chars().count() > 4 { 2 } else { 0 }).collect::<String>() + "***"
}

fn cut(text: &str, most: usize) -> String {
    let mut shown: String = text.chars().take(most).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masked_columns_and_raw_bytes_do_not_leave_as_json() {
        let mut row =
            serde_json::json!({ "user": { "login": "mlind", "age": 7 }, "page": "x", "_value": "6d6c696e64" });
        mask_json(&mut row, &["user.login".into(), "user.age".into(), "none".into()]);
        assert_eq!(row, serde_json::json!({ "user": { "login": "ml***", "age": "***" }, "page": "x" }));
    }

    #[test]
    fn masks_show_two_characters_of_a_long_text_only() {
        assert_eq!(mask("mlind"), "ml***");
        assert_eq!(mask("abc"), "***");
    }
}
