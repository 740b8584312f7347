//! A plugin's name, as every language writes it.

use crate::error::{Error, Result};

/// Words that mean something else in one of the languages, or in what the templates import.
const TAKEN: [&str; 56] = [
    "abstract", "add", "and", "as", "async", "await", "bool", "break", "case", "check", "class", "code", "codes",
    "col", "const", "continue", "def", "default", "defer", "do", "double", "else", "enricher", "enum", "export",
    "exposed", "float", "fn", "for", "found", "func", "go", "if", "import", "in", "init", "int", "is", "let", "main",
    "match", "new", "not", "or", "row", "rule", "self", "settings", "sluice", "static", "test", "text", "type", "var",
    "while", "with",
];

/// A name in lower case with dashes: `no-future`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// The name, if every language can have it.
    pub fn new(name: &str) -> Result<Name> {
        let is_word = |word: &str| {
            word.starts_with(|c: char| c.is_ascii_lowercase())
                && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        if !name.split('-').all(is_word) || name.len() > 64 {
            return Err(Error::Config(format!(
                "`{name}` is no name for a plugin: say what must hold or what is added, in lower case with dashes, like `no-future`"
            )));
        }
        if TAKEN.contains(&name) {
            return Err(Error::Config(format!(
                "`{name}` is a word of some language or of the SDK: name the plugin otherwise"
            )));
        }
        Ok(Name(name.to_owned()))
    }

    /// `no-future`
    pub fn kebab(&self) -> &str {
        &self.0
    }

    /// `no_future`
    pub fn snake(&self) -> String {
        self.0.replace('-', "_")
    }

    /// `noFuture`
    pub fn camel(&self) -> String {
        let pascal = self.pascal();
        pascal[..1].to_ascii_lowercase() + &pascal[1..]
    }

    /// `NoFuture`
    pub fn pascal(&self) -> String {
        self.0.split('-').map(|word| word[..1].to_ascii_uppercase() + &word[1..]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_its_form_in_every_language() {
        let name = Name::new("no-future-2b".trim_end_matches("-2b")).unwrap();
        let forms = (name.kebab(), &*name.snake(), &*name.camel(), &*name.pascal());
        assert_eq!(forms, ("no-future", "no_future", "noFuture", "NoFuture"));
        for wrong in ["", "No", "no_future", "no--future", "-no", "2b", "é", "a b", "../x", "rule", "class"] {
            assert!(Name::new(wrong).is_err(), "{wrong}");
        }
    }
}
