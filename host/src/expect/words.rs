//! DataFusion's errors in words for people.

use datafusion::common::DataFusionError;

/// What the layers of an error say about themselves, and nobody needs.
const LAYERS: &[&str] = &[
    "Error during planning: ",
    "SQL error: ",
    "Schema error: ",
    "Execution error: ",
    "Arrow error: ",
    "Compute error: ",
    "Arithmetic overflow: ",
    "Cast error: ",
    "Invalid argument error: ",
    "This feature is not implemented: ",
    "ParserError(\"",
    "TokenizerError(\"",
];

/// An error in one line, in its own words.
pub(crate) fn of(error: &DataFusionError) -> String {
    let root = error.find_root().strip_backtrace();
    let mut text = root.lines().next().unwrap_or_default().trim();
    while let Some(rest) = LAYERS.iter().find_map(|layer| text.strip_prefix(layer)) {
        text = rest;
    }
    if let Some(node) = text.strip_prefix("Unsupported ast node in sqltorel: ") {
        let name = node.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        return format!("`{name}` is not supported");
    }
    let text = text.trim_end_matches("\")").trim_end_matches('.');
    let mut letters = text.chars();
    match (letters.next(), letters.next()) {
        (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
            first.to_lowercase().chain(text.chars().skip(1)).collect()
        }
        _ => text.to_owned(),
    }
}

/// The same for an error on a row, without the values in it: they may be secret.
pub(super) fn without_values(error: &DataFusionError) -> String {
    let words = of(error);
    let words = words.split_once(" happened on: ").map_or(words.as_str(), |(what, _)| what);
    let parts: Vec<_> = words.split('\'').collect();
    if let [before, .., after] = &parts[..] { format!("{before}'…'{after}") } else { words.to_owned() }
}
