//! What came against what should have come, as lines that a person reads.

use serde_json::Value;

/// Bytes of a value that are shown.
const SHOWN: usize = 200;

/// A value in a line.
pub(super) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// `outcome: expected "valid", came "error"`.
pub(super) fn value(lines: &mut Vec<String>, what: &str, expected: &Value, came: &Value) {
    if !same(expected, came) {
        lines.push(format!("{what}: expected {}, came {}", shown(expected), shown(came)));
    }
}

/// A line for each that came and was not expected, and the other way round; one that is there twice must come twice.
pub(super) fn set(lines: &mut Vec<String>, what: &str, expected: &[String], came: &[String]) {
    let mut left: Vec<&String> = expected.iter().collect();
    for found in came {
        match left.iter().position(|one| *one == found) {
            Some(at) => drop(left.remove(at)),
            None => lines.push(format!("{what}: + {found}  came and was not expected")),
        }
    }
    lines.extend(left.into_iter().map(|missing| format!("{what}: - {missing}  was expected and did not come")));
}

/// A line for each column that is named and differs; a null is the same as none.
pub(super) fn columns(lines: &mut Vec<String>, what: &str, expected: &Value, came: &Value) {
    let Value::Object(named) = expected else { return value(lines, what, expected, came) };
    if !came.is_object() {
        return value(lines, what, expected, came);
    }
    for (name, expected) in named {
        columns(lines, &format!("{what}.{name}"), expected, &came[name]);
    }
}

/// Whether two values mean the same: `1` and `1.0` do.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x == y || x.as_f64() == y.as_f64(),
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y)),
        (Value::Object(x), Value::Object(y)) => {
            let null = &Value::Null;
            let names = x.keys().chain(y.keys());
            names.into_iter().all(|name| same(x.get(name).unwrap_or(null), y.get(name).unwrap_or(null)))
        }
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn differences_are_named_by_their_place() {
        let mut lines = Vec::new();
        let expected = json!({ "a": 1, "b": { "c": null, "d": "x", "e": { "f": 1 } }, "g": [1, { "h": null }] });
        let came = json!({ "a": 1.0, "b": { "d": "y", "e": null }, "g": [1, {}], "z": 1 });
        columns(&mut lines, "row", &expected, &came);
        assert_eq!(lines, ["row.b.d: expected \"x\", came \"y\"", "row.b.e: expected {\"f\":1}, came null"]);

        lines.clear();
        let own = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        set(&mut lines, "findings", &own(&["a", "b", "b"]), &own(&["b", "c"]));
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert_eq!(lines[0], "findings: + c  came and was not expected");
    }
}
