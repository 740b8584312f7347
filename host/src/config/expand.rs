//! Placeholders: `${NAME}`, `${NAME:-default}`, `${file:path}`, expanded after parsing, in unhashed values only.
//!
//! What they stand for never appears in a message: a mistake names the variable or the file, not what is in it.

use std::path::Path;

/// Where `${NAME}` looks: the environment, or what a test says.
pub type Variables<'v> = &'v dyn Fn(&str) -> Option<String>;

/// A file that holds a secret is small; anything longer is the wrong file.
const LONGEST_FILE: u64 = 64 * 1024;

/// What is wrong with a placeholder, and where in the value it stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// bytes within the value
    pub range: std::ops::Range<usize>,
    /// a sentence
    pub title: String,
    /// what to do
    pub help: String,
}

/// One piece of a value.
enum Piece<'t> {
    Literal(&'t str),
    /// the inside of `${…}`, and where the whole stands
    Placeholder(&'t str, std::ops::Range<usize>),
}

/// Cuts a value at its placeholders; an unclosed one is `Err` with its start.
fn pieces(value: &str) -> Result<Vec<Piece<'_>>, usize> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while let Some(found) = value[at..].find("${") {
        let start = at + found;
        let end = start + value[start..].find('}').ok_or(start)?;
        pieces.push(Piece::Literal(&value[at..start]));
        pieces.push(Piece::Placeholder(&value[start + 2..end], start..end + 1));
        at = end + 1;
    }
    pieces.push(Piece::Literal(&value[at..]));
    Ok(pieces)
}

/// The first well-formed placeholder of a value that must not have one.
pub(super) fn first_placeholder(value: &str) -> Option<std::ops::Range<usize>> {
    pieces(value).ok()?.into_iter().find_map(|piece| match piece {
        Piece::Placeholder(inside, range) if inside.starts_with("file:") || is_name(inside.split(":-").next()?) => {
            Some(range)
        }
        Piece::Placeholder(..) | Piece::Literal(_) => None,
    })
}

/// The value with every placeholder replaced. Paths of `${file:…}` start at `base`.
pub(super) fn expand(value: &str, base: &Path, variables: Variables<'_>) -> Result<String, Vec<Wrong>> {
    let pieces = pieces(value).map_err(|start| {
        let title = "this placeholder has no end".to_owned();
        vec![Wrong { range: start..value.len(), title, help: "close it: `${NAME}`".to_owned() }]
    })?;
    let mut expanded = String::new();
    let mut wrong = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Literal(text) => expanded.push_str(text),
            Piece::Placeholder(inside, range) => match resolve(inside, base, variables) {
                Ok(text) => expanded.push_str(&text),
                Err((title, help)) => wrong.push(Wrong { range, title, help }),
            },
        }
    }
    if wrong.is_empty() { Ok(expanded) } else { Err(wrong) }
}

fn resolve(inside: &str, base: &Path, variables: Variables<'_>) -> Result<String, (String, String)> {
    if let Some(path) = inside.strip_prefix("file:") {
        return read(&base.join(path)).map_err(|why| (format!("cannot read `{path}`: {why}"), String::new()));
    }
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    if !is_name(name) {
        return Err((
            format!("`${{{inside}}}` is not a placeholder"),
            "write `${NAME}`, `${NAME:-default}` or `${file:path}`".to_owned(),
        ));
    }
    // as in a shell, `:-` also stands in for a variable that is set to nothing
    match (variables(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err((
            format!("the environment variable `{name}` is not set"),
            format!("set it, or give a default: `${{{name}:-…}}`"),
        )),
    }
}

/// The text of a secret's file without its last line end.
fn read(path: &Path) -> Result<String, String> {
    let length = std::fs::metadata(path).map_err(|error| plain(&error))?.len();
    if length > LONGEST_FILE {
        return Err(format!("it has {length} bytes, more than any secret"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| plain(&error))?;
    Ok(text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line)).to_owned())
}

/// An I/O error as a person says it.
pub(super) fn plain(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound => "there is no such file".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::InvalidData => "it is not UTF-8".to_owned(),
        ErrorKind::IsADirectory => "it is a folder".to_owned(),
        _ => error.to_string(),
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(name: &str) -> Option<String> {
        match name {
            "LAKE" => Some("/data/lake".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn placeholders_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), "s3cret\n").unwrap();
        for (value, expected) in [
            ("plain", "plain"),
            ("${LAKE}/visits", "/data/lake/visits"),
            ("${NONE:-lake}/a/${LAKE}", "lake/a//data/lake"),
            ("${EMPTY:-x}${EMPTY}", "x"),
            ("${file:secret}", "s3cret"),
            ("100 $ {x}", "100 $ {x}"),
        ] {
            assert_eq!(expand(value, folder.path(), &variables).unwrap(), expected, "{value}");
        }
    }

    #[test]
    fn every_placeholder_that_cannot_be_replaced_is_named() {
        for (value, expected) in [
            (
                "${NONE}/${NADA}",
                vec!["the environment variable `NONE` is not set", "the environment variable `NADA` is not set"],
            ),
            ("a ${LAKE", vec!["this placeholder has no end"]),
            ("${no-name}", vec!["`${no-name}` is not a placeholder"]),
            ("${file:nowhere}", vec!["cannot read `nowhere`: there is no such file"]),
        ] {
            let wrong = expand(value, Path::new("/nonexistent"), &variables).unwrap_err();
            assert_eq!(wrong.iter().map(|w| w.title.as_str()).collect::<Vec<_>>(), expected, "{value}");
        }
    }

    #[test]
    fn regular_expressions_are_not_placeholders() {
        assert_eq!(first_placeholder("page ~ '^a{3}$' AND x"), None);
        assert_eq!(first_placeholder("page = '${PAGE}'"), Some(8..15));
        assert_eq!(first_placeholder("page ~ '${1}'"), None);
    }
}
