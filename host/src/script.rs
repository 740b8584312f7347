//! Scripts: rules and enrichers whose text goes to a ready-made engine, so that they need no toolchain.
//!
//! An engine is a component like any other ([`crate::component::engine()`]), compiled once for all scripts of its language; the
//! text goes in by `configure`. Nothing here runs or parses a script: what is wrong in it the engine says, with its place.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::cases::FOLDER;
use crate::config::{Mistakes, Place};
use crate::plugin::Kind;

/// What a script is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Language {
    /// QuickJS judges it
    #[value(name = "javascript", alias = "js")]
    JavaScript,
    /// CPython judges it
    Python,
}

impl Language {
    /// Both.
    pub const ALL: [Language; 2] = [Language::JavaScript, Language::Python];

    /// The key of the pipeline file.
    pub fn key(self) -> &'static str {
        match self {
            Language::JavaScript => "js",
            Language::Python => "python",
        }
    }

    /// The language with this key.
    pub fn of_key(key: &str) -> Option<Language> {
        Language::ALL.into_iter().find(|language| language.key() == key)
    }

    /// The ending of its files.
    pub fn extension(self) -> &'static str {
        match self {
            Language::JavaScript => "js",
            Language::Python => "py",
        }
    }

    /// The language of a file, by its ending.
    pub fn of_file(file: &Path) -> Option<Language> {
        let extension = file.extension()?;
        Language::ALL.into_iter().find(|language| extension == language.extension())
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Language::JavaScript => "JavaScript",
            Language::Python => "Python",
        })
    }
}

/// A script as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// what it is written in
    pub language: Language,
    /// the file as written in the pipeline file: so it stands in dead letters
    pub file: Arc<str>,
    /// the file as a person finds it from here
    pub shown: Arc<str>,
    /// where it lies; none for one that a generation was stored with
    pub path: Option<PathBuf>,
    /// all of it
    pub text: Arc<str>,
    /// the engine that a generation was stored with; otherwise that of this host
    pub engine: Option<Bytes>,
}

impl Script {
    /// Reads a script. `file` is its path as written, `shown` as a person finds it.
    ///
    /// # Errors
    /// It is not there, or not UTF-8.
    pub fn read(language: Language, file: &str, shown: &str, path: &Path) -> std::io::Result<Script> {
        let text = std::fs::read_to_string(path)?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text).into();
        Ok(Script { language, file: file.into(), shown: shown.into(), path: Some(path.to_owned()), text, engine: None })
    }

    /// What the engine is configured with: the script, and the script's own configuration.
    pub fn settings(&self, config: &Value) -> String {
        let config = if config.is_null() { &json!({}) } else { config };
        json!({"script": &*self.text, "file": &*self.file, "config": config}).to_string()
    }

    /// Digest of what judges, given that of the engine.
    pub fn digest(&self, engine: &str) -> String {
        let both = Sha256::new().chain_update(engine).chain_update("\n").chain_update(&*self.text).finalize();
        both.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What it says that it is, where no pipeline says what it is for: the name that it gives its plugin.
    pub fn kind(&self) -> Kind {
        let is_enricher = |line: &str| match self.language {
            Language::JavaScript => line.starts_with("export const enricher") || line.contains("defineEnricher("),
            Language::Python => {
                line.strip_prefix("Enricher").is_some_and(|rest| rest.trim_start().starts_with([':', '=']))
            }
        };
        if self.text.lines().any(is_enricher) { Kind::Enricher } else { Kind::Rule }
    }

    /// Adds what an engine said is wrong in this text, with its place; `false` where `problem` names none. `what` is the rule or
    /// enricher.
    pub fn explain(&self, problem: &str, what: &str, mistakes: &mut Mistakes) -> bool {
        let Some((span, message)) = self.place(problem) else { return false };
        mistakes.sources_mut().add(self.shown.clone(), self.text.clone());
        mistakes.push(Place { file: self.shown.clone(), span }, format!("{what} cannot be loaded: {message}"), "", "");
        true
    }

    /// `rules/consent.js:2:29: what is wrong` → the bytes there, and what is wrong. The column may be left out.
    fn place<'p>(&self, problem: &'p str) -> Option<(Range<usize>, &'p str)> {
        let prefix = format!("{}:", self.file);
        problem.match_indices(&*prefix).find_map(|(at, _)| {
            let (line, rest) = number(&problem[at + prefix.len()..])?;
            let (column, message) = number(rest).map_or((None, rest), |(column, rest)| (Some(column), rest));
            Some((self.span(line, column), message.trim_start()))
        })
    }

    /// The word at a line and column, both from 1; the whole line where there is none.
    fn span(&self, line: usize, column: Option<usize>) -> Range<usize> {
        let Some(text) = self.text.split('\n').nth(line.saturating_sub(1)) else { return 0..0 };
        let start = text.as_ptr() as usize - self.text.as_ptr() as usize;
        let indent = text.len() - text.trim_start().len();
        let whole = start + indent..start + text.trim_end().len().max(indent);
        let Some(at) = column.and_then(|column| text.char_indices().nth(column.saturating_sub(1))) else {
            return whole;
        };
        let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
        let word = text[at.0..].find(|c| !is_word(c)).unwrap_or(text.len() - at.0).max(at.1.len_utf8());
        start + at.0..start + at.0 + word
    }
}

/// Where the cases of a script are: `rules/consent.js` → `rules/cases/consent.ndjson`. A folder has many scripts, each with cases of
/// its own.
pub fn cases_of(script: &Path) -> PathBuf {
    let name = Path::new(script.file_stem().unwrap_or_default()).with_extension("ndjson");
    script.with_file_name(FOLDER).join(name)
}

/// `29: what` → 29, ` what`
fn number(text: &str) -> Option<(usize, &str)> {
    let (digits, rest) = text.split_once(':')?;
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(language: Language, text: &str) -> Script {
        Script {
            language,
            file: "rules/a.js".into(),
            shown: "/x/rules/a.js".into(),
            path: None,
            text: text.into(),
            engine: None,
        }
    }

    #[test]
    fn what_an_engine_says_is_found_in_the_text() {
        let script = script(Language::JavaScript, "let á = 1;\n  nothing();\n");
        for (problem, expected) in [
            (
                "x failed from rules/a.js: wrong: rules/a.js:2:3: ReferenceError: no",
                Some(("nothing", "ReferenceError: no")),
            ),
            ("rules/a.js:1:7: bad", Some(("=", "bad"))),
            ("rules/a.js:2: TypeError: a: b", Some(("nothing();", "TypeError: a: b"))),
            ("rules/a.js:2:900: bad", Some(("nothing();", "bad"))),
            ("rules/a.js:900:1: bad", Some(("", "bad"))),
            ("rules/b.js:1:1: bad", None),
            ("rules/a.js: bad", None),
        ] {
            let found = script.place(problem).map(|(span, message)| (&script.text[span], message));
            assert_eq!(found, expected, "{problem}");
        }
    }

    #[test]
    fn a_script_says_what_it_is() {
        for (language, text, expected) in [
            (Language::JavaScript, "export const rule = defineRule({})", Kind::Rule),
            (Language::JavaScript, "\nexport const enricher = defineEnricher({})", Kind::Enricher),
            (Language::Python, "from sluice import enricher\nEnricher = enricher()", Kind::Enricher),
            (Language::Python, "from sluice import enricher\nEnricherlike = 1\nRule = 1", Kind::Rule),
        ] {
            assert_eq!(script(language, text).kind(), expected, "{text}");
        }
    }

    #[test]
    fn the_text_and_the_engine_are_what_judges() {
        let one = script(Language::JavaScript, "a").digest("e");
        assert_ne!(one, script(Language::JavaScript, "b").digest("e"));
        assert_ne!(one, script(Language::JavaScript, "a").digest("f"));
    }
}
