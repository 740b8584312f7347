//! The lines of a folder of cases, as they were written: values keep their text.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::{Doing, Error, Result};

/// The name of a folder with cases: what lies in it is not a file of payloads.
pub const FOLDER: &str = "cases";

/// An object whose keys keep their order and whose values keep their text.
#[derive(Debug)]
pub struct Line {
    /// the file
    pub file: PathBuf,
    /// its line, from 1
    pub number: usize,
    keys: Vec<(String, Box<RawValue>)>,
}

/// The keys of one object, in order, with the text of their values; none twice.
pub(crate) struct Keys(pub Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Keys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys: Vec<(String, Box<RawValue>)> = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    if keys.iter().any(|(known, _)| *known == key) {
                        return Err(serde::de::Error::custom(format!("it has `{key}` twice")));
                    }
                    keys.push((key, value));
                }
                Ok(Keys(keys))
            }
        }
        deserializer.deserialize_map(Visit)
    }
}

impl Line {
    /// Reads one line; its keys must be among `known`.
    pub fn parse(file: &Path, number: usize, text: &str, known: &[&str]) -> Result<Line> {
        let mut line = Line { file: file.to_owned(), number, keys: Vec::new() };
        match serde_json::from_str::<Keys>(text) {
            Ok(Keys(keys)) => line.keys = keys,
            Err(error) => return Err(line.wrong(&error.to_string())),
        }
        match line.keys.iter().find(|(key, _)| !known.contains(&key.as_str())) {
            Some((unknown, _)) => {
                let known: Vec<String> = known.iter().map(|key| format!("`{key}`")).collect();
                Err(line.wrong(&format!("it has `{unknown}`; a case may have {}", known.join(", "))))
            }
            None => Ok(line),
        }
    }

    /// `cases/visits.ndjson:3`.
    pub fn place(&self) -> String {
        format!("{}:{}", self.file.display(), self.number)
    }

    /// A mistake of whoever wrote the line.
    pub fn wrong(&self, why: &str) -> Error {
        Error::Config(format!("{}: not a case: {why}", self.place()))
    }

    /// The text of a value; `None` where the key is not there.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.keys.iter().find(|(known, _)| known == key).map(|(_, value)| value.get())
    }

    /// A value in the type that it must have; `None` where the key is not there.
    pub fn get<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let read = |text| serde_json::from_str(text).map_err(|why| self.wrong(&format!("`{key}`: {why}")));
        self.text(key).map(read).transpose()
    }

    /// The line with other values; those of null are left out. New keys stand behind the others.
    pub(super) fn with(&self, changed: &[(&'static str, Option<String>)]) -> String {
        let new = |key: &str| changed.iter().find(|(name, _)| *name == key).map(|(_, text)| text.clone());
        let kept = self.keys.iter().filter_map(|(key, value)| {
            let text = new(key).unwrap_or_else(|| Some(value.get().to_owned()))?;
            Some((key.as_str(), text))
        });
        let added = changed.iter().filter(|(key, _)| self.text(key).is_none());
        let added = added.filter_map(|(key, text)| Some((*key, text.clone()?)));
        let all: Vec<String> =
            kept.chain(added).map(|(key, text)| format!("{}: {text}", serde_json::Value::from(key))).collect();
        format!("{{{}}}", all.join(", "))
    }
}

/// Every line of every `*.ndjson` in a folder, by file and line; or those of one file. None, where there is no such thing.
pub fn read(place: &Path, known: &[&str]) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for file in files(place) {
        let text = std::fs::read_to_string(&file).doing(|| format!("cannot read {}", file.display()))?;
        lines.extend(parse(&file, &text, known)?);
    }
    Ok(lines)
}

/// The lines of a text; `file` is what it is called.
pub fn parse(file: &Path, text: &str, known: &[&str]) -> Result<Vec<Line>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(n, line)| Line::parse(file, n + 1, line, known)).collect()
}

/// `*.ndjson` of the folder, by name; or the file.
pub fn files(place: &Path) -> Vec<PathBuf> {
    if place.is_file() {
        return vec![place.to_owned()];
    }
    let Ok(entries) = std::fs::read_dir(place) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "ndjson"));
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_keeps_what_is_not_changed_as_it_was_written() {
        let text = r#"{"record": {"b": 1.0,  "a": 1e3}, "outcome": "valid", "row": {}}"#;
        let line = Line::parse(Path::new("c.ndjson"), 3, text, &["record", "outcome", "row"]).unwrap();
        assert_eq!(line.text("record"), Some(r#"{"b": 1.0,  "a": 1e3}"#));
        let changed = [("outcome", Some("\"error\"".to_owned())), ("row", None), ("findings", Some("[]".to_owned()))];
        let expected = r#"{"record": {"b": 1.0,  "a": 1e3}, "outcome": "error", "findings": []}"#;
        assert_eq!(line.with(&changed), expected);
    }

    #[test]
    fn what_is_no_case_is_named() {
        for (text, expected) in [
            ("[1]", "c.ndjson:3: not a case: invalid type: sequence, expected an object"),
            ("{\"outcom\": 1}", "c.ndjson:3: not a case: it has `outcom`; a case may have `record`, `outcome`"),
            ("{\"record\": 1, \"record\": 2}", "c.ndjson:3: not a case: it has `record` twice"),
        ] {
            let error = Line::parse(Path::new("c.ndjson"), 3, text, &["record", "outcome"]).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
