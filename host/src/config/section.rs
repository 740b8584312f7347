//! One table of the pipeline file, read key by key: what is missing, of a wrong type or unknown becomes a mistake, and
//! reading goes on.
//!
//! The tree is walked by hand rather than deserialized into structs, because serde stops at the first mistake. A key is
//! known because someone asked for it; what nobody asked for is refused in [`Section::finish`].

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

use super::expand::{self, Variables};
use super::suggest::{did_you_mean, listed, nearest};
use super::{Mistakes, Place, units};

/// A value with its place in the file.
pub(super) type Value<'t> = Spanned<DeValue<'t>>;

/// What reading needs beside the tree.
pub(super) struct Reader<'v> {
    /// the pipeline file as shown
    pub file: Arc<str>,
    /// its folder, absolute: relative paths start here
    pub base: PathBuf,
    /// its folder as shown
    pub shown_base: PathBuf,
    /// for `${NAME}`
    pub variables: Variables<'v>,
    /// what is wrong so far
    pub mistakes: Mistakes,
}

/// A string of the file. No `Debug`: once expanded, it may be a secret.
pub(super) struct Text {
    /// as written, placeholders unexpanded
    pub written: String,
    /// as meant
    pub value: String,
    /// where it stands
    pub place: Place,
}

impl Reader<'_> {
    pub fn place(&self, span: Range<usize>) -> Place {
        Place { file: self.file.clone(), span }
    }

    pub fn mistake(
        &mut self,
        span: Range<usize>,
        title: impl Into<String>,
        label: impl Into<String>,
        help: impl Into<String>,
    ) {
        let place = self.place(span);
        self.mistakes.push(place, title, label, help);
    }

    /// `` `commit.rows` must be an integer ``
    pub fn wrong_type(&mut self, name: &str, value: &Value<'_>, wanted: &str) {
        let label = match value.get_ref() {
            DeValue::String(_) => "this is a string",
            DeValue::Integer(_) => "this is an integer",
            DeValue::Float(_) => "this is a float",
            DeValue::Boolean(_) => "this is a boolean",
            DeValue::Datetime(_) => "this is a date or time",
            DeValue::Array(_) => "this is an array",
            DeValue::Table(_) => "this is a table",
        };
        self.mistake(value.span(), format!("`{name}` must be {wanted}"), label, "");
    }

    /// A string in which placeholders have no place, since it is part of what the generation hashes.
    pub fn text(&mut self, name: &str, value: &Value<'_>) -> Option<Text> {
        let Some(text) = value.get_ref().as_str() else {
            self.wrong_type(name, value, "a string");
            return None;
        };
        if let Some(range) = expand::first_placeholder(text) {
            let place = self.mistakes.sources().within(&self.place(value.span()), range);
            self.mistakes.push(
                place,
                format!("`{name}` cannot have a placeholder"),
                "",
                "placeholders are expanded only in locations and connections: what judges must be the same everywhere",
            );
            return None;
        }
        Some(Text { written: text.to_owned(), value: text.to_owned(), place: self.place(value.span()) })
    }

    /// A string with its placeholders expanded: a location, or part of a connection.
    pub fn expanded(&mut self, name: &str, value: &Value<'_>) -> Option<Text> {
        let Some(text) = value.get_ref().as_str() else {
            self.wrong_type(name, value, "a string");
            return None;
        };
        let place = self.place(value.span());
        match expand::expand(text, &self.base, self.variables) {
            Ok(expanded) => Some(Text { written: text.to_owned(), value: expanded, place }),
            Err(wrong) => {
                for wrong in wrong {
                    let place = self.mistakes.sources().within(&place, wrong.range);
                    self.mistakes.push(place, wrong.title, "", wrong.help);
                }
                None
            }
        }
    }

    /// An array of strings, each read by `one`.
    pub fn texts(
        &mut self,
        name: &str,
        value: &Value<'_>,
        one: impl Fn(&mut Self, &str, &Value<'_>) -> Option<Text>,
    ) -> Option<Vec<Text>> {
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(name, value, "an array of strings");
            return None;
        };
        // every element is read before the first failure counts
        let texts: Vec<_> = array.iter().map(|element| one(self, name, element)).collect();
        texts.into_iter().collect()
    }

    /// A table.
    pub fn section<'t>(&mut self, path: String, value: &'t Value<'t>) -> Option<Section<'t>> {
        match value.get_ref() {
            DeValue::Table(table) => Some(Section {
                path,
                span: value.span(),
                table,
                known: Vec::new(),
                later: Vec::new(),
                missing: Vec::new(),
            }),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_) => {
                self.wrong_type(&path, value, "a table");
                None
            }
        }
    }

    /// One of a few words, whatever its case.
    pub fn chosen<T: Copy>(&mut self, name: &str, text: &Text, choices: &[(&'static str, T)]) -> Option<T> {
        if let Some((_, choice)) = choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(&text.value)) {
            return Some(*choice);
        }
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        let title = format!("`{name}` must be {}", listed(&words, "or"));
        // what stands there is not repeated: once expanded it may be a secret
        self.mistake(text.place.span.clone(), title, did_you_mean(&text.value, words), "");
        None
    }

    /// Something that is specified and that this version does not have.
    pub fn not_available(&mut self, span: Range<usize>, what: &str) {
        self.mistake(
            span,
            format!("{what} is not available yet"),
            "",
            "leave it out: what cannot be done is refused, never ignored",
        );
    }
}

/// Which of several keys says what kind a thing is.
pub(super) enum Kind<'t> {
    /// exactly one, and it is available
    One(&'static str, &'t Value<'t>),
    /// a mistake that has been reported
    Refused,
}

/// A table that is being read.
pub(super) struct Section<'t> {
    /// `sink.valid`; empty for the file itself
    pub path: String,
    /// the header, or the inline table
    pub span: Range<usize>,
    pub table: &'t DeTable<'t>,
    known: Vec<&'static str>,
    /// known, and not available yet
    later: Vec<&'static str>,
    missing: Vec<Missing>,
}

/// Keys of which none is there. Reported in the end, since one of them may be there, mistyped.
struct Missing {
    keys: Vec<&'static str>,
    title: String,
    label: &'static str,
    help: String,
}

impl<'t> Section<'t> {
    /// The whole file.
    pub fn root(table: &'t DeTable<'t>) -> Self {
        Section { path: String::new(), span: 0..0, table, known: Vec::new(), later: Vec::new(), missing: Vec::new() }
    }

    /// The full name of a key, for messages.
    pub fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Where a key itself is written.
    pub fn key_span(&self, key: &str) -> Range<usize> {
        self.table.get_key_value(key).map_or(self.span.clone(), |(key, _)| key.span())
    }

    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The value of a key, which is known from here on.
    pub fn value(&mut self, key: &'static str) -> Option<&'t Value<'t>> {
        self.known.push(key);
        self.table.get(key)
    }

    /// The value of a key that must be there.
    pub fn required(&mut self, key: &'static str, help: &str) -> Option<&'t Value<'t>> {
        let value = self.value(key);
        if value.is_none() {
            let title = format!("`{}` is missing", self.name(key));
            self.missing.push(Missing { keys: vec![key], title, label: "", help: help.to_owned() });
        }
        value
    }

    pub fn text(&mut self, r: &mut Reader<'_>, key: &'static str) -> Option<Text> {
        let value = self.value(key)?;
        r.text(&self.name(key), value)
    }

    pub fn expanded(&mut self, r: &mut Reader<'_>, key: &'static str) -> Option<Text> {
        let value = self.value(key)?;
        r.expanded(&self.name(key), value)
    }

    /// A table within.
    pub fn section(&mut self, r: &mut Reader<'_>, key: &'static str) -> Option<Section<'t>> {
        let value = self.value(key)?;
        r.section(self.name(key), value)
    }

    pub fn flag(&mut self, r: &mut Reader<'_>, key: &'static str) -> Option<bool> {
        let value = self.value(key)?;
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            r.wrong_type(&self.name(key), value, "true or false");
        }
        flag
    }

    /// A positive integer.
    pub fn count(&mut self, r: &mut Reader<'_>, key: &'static str, most: u64) -> Option<u64> {
        let value = self.value(key)?;
        let name = self.name(key);
        let DeValue::Integer(integer) = value.get_ref() else {
            r.wrong_type(&name, value, "an integer");
            return None;
        };
        let count = u64::from_str_radix(integer.as_str(), integer.radix()).ok().filter(|n| (1..=most).contains(n));
        if count.is_none() {
            r.mistake(value.span(), format!("`{name}` must lie between 1 and {most}"), "", "");
        }
        count
    }

    /// A string with a unit, read by `parse`, which must not be nothing.
    fn quantity<T: PartialEq + Default>(
        &mut self,
        r: &mut Reader<'_>,
        key: &'static str,
        wanted: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.value(key)?;
        let name = self.name(key);
        let written = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(integer) => integer.as_str().to_owned(),
            DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                r.wrong_type(&name, value, wanted);
                return None;
            }
        };
        match parse(&written) {
            Ok(quantity) if quantity != T::default() => return Some(quantity),
            Ok(_) => r.mistake(value.span(), format!("`{name}` must be more than nothing"), "", ""),
            Err(why) => r.mistake(value.span(), format!("`{name}` must be {wanted}"), why, ""),
        }
        None
    }

    /// `"64MiB"`
    pub fn size(&mut self, r: &mut Reader<'_>, key: &'static str) -> Option<u64> {
        self.quantity(r, key, "a size", units::size)
    }

    /// `"5s"`
    pub fn duration(&mut self, r: &mut Reader<'_>, key: &'static str) -> Option<Duration> {
        self.quantity(r, key, "a duration", units::duration)
    }

    /// One of a few words. Those of `later` are not available yet.
    pub fn choice<T: Copy>(
        &mut self,
        r: &mut Reader<'_>,
        key: &'static str,
        choices: &[(&'static str, T)],
        later: &[&str],
    ) -> Option<T> {
        let text = self.text(r, key)?;
        let name = self.name(key);
        if later.contains(&text.value.as_str()) {
            r.not_available(text.place.span, &format!("`{name} = \"{}\"`", text.value));
            return None;
        }
        r.chosen(&name, &text, choices)
    }

    /// Keys that are specified but not built: each that is there is a mistake of its own.
    pub fn later(&mut self, r: &mut Reader<'_>, keys: &[&'static str]) {
        self.later.extend(keys);
        for key in keys {
            if self.has(key) {
                r.not_available(self.key_span(key), &format!("`{}`", self.name(key)));
            }
        }
    }

    /// Keys that belong to something that was refused already.
    pub fn ignore(&mut self, keys: &[&'static str]) {
        self.later.extend(keys);
    }

    /// The key is the kind: exactly one of `now`, or one of `later`, which are refused as not available yet.
    pub fn kind(&mut self, r: &mut Reader<'_>, what: &str, now: &[&'static str], later: &[&'static str]) -> Kind<'t> {
        self.known.extend(now);
        self.later.extend(later);
        let mut there: Vec<_> = now.iter().chain(later).copied().filter(|key| self.has(key)).collect();
        there.sort_by_key(|key| self.key_span(key).start);
        match (there.as_slice(), there.first().and_then(|key| self.table.get(*key))) {
            ([key], Some(value)) if now.contains(key) => return Kind::One(key, value),
            ([key], _) => r.not_available(self.key_span(key), &format!("`{}`", self.name(key))),
            ([], _) => {
                let title = format!("{what} needs exactly one of {}", listed(now, "and"));
                self.missing.push(Missing { keys: now.to_vec(), title, label: "there is none", help: String::new() });
            }
            ([first, .., last], _) => {
                let title = format!("{what} needs exactly one of {}", listed(now, "and"));
                r.mistake(self.key_span(last), title, format!("`{first}` is there already"), "");
            }
        }
        Kind::Refused
    }

    /// Refuses every key that nobody asked for, and reports what is missing.
    pub fn finish(self, r: &mut Reader<'_>) {
        let mut known = self.known.clone();
        known.sort_unstable();
        known.dedup();
        let mut meant = Vec::new();
        for (key, _) in self.table {
            let written = key.get_ref().as_ref();
            if self.known.contains(&written) || self.later.contains(&written) {
                continue;
            }
            let suggestion = nearest(written, known.iter().copied().filter(|known| !self.has(known)));
            meant.extend(suggestion);
            let (label, help) = match suggestion {
                Some(suggestion) => (format!("did you mean `{suggestion}`?"), String::new()),
                None => (String::new(), format!("known here: {}", listed(&known, "and"))),
            };
            let place = if self.path.is_empty() { String::new() } else { format!(" in `{}`", self.path) };
            r.mistake(key.span(), format!("unknown key `{written}`{place}"), label, help);
        }
        for missing in self.missing {
            // a mistyped key is one mistake, not two
            if !missing.keys.iter().any(|key| meant.contains(key)) {
                r.mistake(self.span.clone(), missing.title, missing.label, missing.help);
            }
        }
    }
}
