//! Every mistake of what the user wrote, at once: collected by whoever finds one, rendered as compilers do.
//!
//! ```text
//! error: expectation `has-user` reads `usr_id`, which the schema does not have
//!   --> sluice.toml:21:14
//!    |
//! 21 | has-user  = "usr_id IS NOT NULL"
//!    |              ^^^^^^ visits.sql:3 declares `user_id STRING`
//! ```
//!
//! A collector knows the texts that its places point into ([`Sources`]). It opens no file and judges nothing.
//! Values that look like secrets are covered with `*` wherever a line of the file is shown.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde::Serialize;

use super::hide;
use crate::error::{Error, Result};

/// A place in a file that a person edits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// path as shown
    pub file: Arc<str>,
    /// the bytes of the value within the file, quotes included
    pub span: Range<usize>,
}

/// The texts of the files that were read, so that places in them can be shown.
#[derive(Clone, Default)]
pub struct Sources(BTreeMap<Arc<str>, Arc<str>>);

impl Sources {
    /// Remembers the text of a file under the path that is shown.
    pub fn add(&mut self, file: Arc<str>, text: impl Into<Arc<str>>) {
        self.0.insert(file, text.into());
    }

    /// The text of a file, secrets included: not for printing.
    pub fn text(&self, file: &str) -> Option<&str> {
        self.0.get(file).map(|text| &**text)
    }

    /// The place of the bytes `range` of a string *value* that stands at `place`, as in marking one column of an
    /// expression. The whole value where escapes or line ends make the bytes of value and file differ.
    pub fn within(&self, place: &Place, range: Range<usize>) -> Place {
        let exact = self.text(&place.file).and_then(|text| text.get(place.span.clone())).and_then(|written| {
            // in a schema an expression stands as it is, in the pipeline file in quotes
            let quotes: &[&str] = match place.file.ends_with(".sql") {
                true => &[""],
                false => &["\"\"\"\n", "'''\n", "\"\"\"", "'''", "\"", "'"],
            };
            let open = quotes.iter().find(|quote| written.starts_with(**quote))?;
            let escapes = open.starts_with('"') && written.contains('\\');
            let start = place.span.start + open.len();
            let span = start + range.start..start + range.end;
            let end = place.span.end - open.trim_end().len();
            (!escapes && !written.contains('\r') && span.start <= span.end && span.end <= end).then_some(span)
        });
        Place { file: place.file.clone(), span: exact.unwrap_or(place.span.clone()) }
    }

    /// Line and column, both from 1 and in characters, of a byte of a file.
    pub fn line_column(&self, file: &str, byte: usize) -> Option<(usize, usize)> {
        let text = self.text(file)?;
        let mut byte = byte.min(text.len());
        while !text.is_char_boundary(byte) {
            byte -= 1;
        }
        let line_start = text[..byte].rfind('\n').map_or(0, |newline| newline + 1);
        Some((text[..byte].matches('\n').count() + 1, text[line_start..byte].chars().count() + 1))
    }
}

/// Names the files only: their texts may hold secrets.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// One mistake. `Serialize` is what `--json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// the file it stands in
    pub file: Arc<str>,
    /// from 1
    pub line: usize,
    /// from 1, in characters
    pub column: usize,
    /// what is wrong, in one sentence
    pub message: String,
    /// what stands beside the marked text
    #[serde(skip_serializing_if = "String::is_empty")]
    pub label: String,
    /// what to do
    #[serde(skip_serializing_if = "String::is_empty")]
    pub help: String,
    #[serde(skip)]
    span: Range<usize>,
}

/// Collects mistakes in any order; shows them file by file, from top to bottom.
#[derive(Clone, Debug, Default)]
pub struct Mistakes {
    sources: Sources,
    list: Vec<Mistake>,
}

impl Mistakes {
    /// An empty collector for places in these files.
    pub fn new(sources: Sources) -> Self {
        Mistakes { sources, list: Vec::new() }
    }

    /// Adds a mistake. `title`: what is wrong, one sentence; `label`: a few words beside the marked text; `help`: what
    /// to do. An empty label or help is left out. The very same mistake at the same place is kept once.
    pub fn push(&mut self, place: Place, title: impl Into<String>, label: impl Into<String>, help: impl Into<String>) {
        let (line, column) = self.sources.line_column(&place.file, place.span.start).unwrap_or((0, 0));
        let (message, label, help) = (title.into(), label.into(), help.into());
        let mistake = Mistake { file: place.file, line, column, message, label, help, span: place.span };
        if !self.list.contains(&mistake) {
            self.list.push(mistake);
        }
    }

    /// Takes over the mistakes, and the texts they point into, of another collector.
    pub fn append(&mut self, other: Mistakes) {
        self.sources.0.extend(other.sources.0);
        self.list.extend(other.list);
    }

    /// The texts that places may point into.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// The texts that places may point into, to add another.
    pub fn sources_mut(&mut self) -> &mut Sources {
        &mut self.sources
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// `Ok` where there are none, else all of them as an error.
    pub fn into_result(self) -> Result<()> {
        if self.is_empty() { Ok(()) } else { Err(Error::Mistakes(Box::new(self))) }
    }

    /// In the order in which they are shown: by file in the order of their names, the pipeline file first, then by place.
    pub fn sorted(&self) -> Vec<&Mistake> {
        let mut sorted: Vec<_> = self.list.iter().collect();
        sorted.sort_by_key(|m| (!m.file.ends_with(".toml"), &m.file, m.span.start));
        sorted
    }

    /// The first of them in one line, with its place, and how many there are beside it.
    pub fn sentence(&self) -> String {
        let sorted = self.sorted();
        let Some(first) = sorted.first() else { return String::new() };
        let label = if first.label.is_empty() { String::new() } else { format!(" ({})", first.label) };
        let more = match sorted.len() {
            1 => String::new(),
            n => format!(", and {} more mistakes: `sluice check` shows them", n - 1),
        };
        format!("{}:{}: {}{label}{more}", first.file, first.line, first.message)
    }

    /// One diagnostic each, with or without colour.
    pub fn rendered(&self, colour: bool) -> Vec<String> {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        self.sorted().into_iter().map(|mistake| self.render(mistake, &renderer)).collect()
    }

    fn render(&self, mistake: &Mistake, renderer: &Renderer) -> String {
        let title = Level::ERROR.primary_title(mistake.message.as_str());
        let text = self.sources.text(&mistake.file).unwrap_or_default();
        let shown = hide::secrets(text);
        let mut annotation = AnnotationKind::Primary.span(first_line(text, mistake.span.clone()));
        if !mistake.label.is_empty() {
            annotation = annotation.label(mistake.label.as_str());
        }
        let mut group = title.element(Snippet::source(shown).path(&*mistake.file).annotation(annotation));
        if !mistake.help.is_empty() {
            group = group.element(Level::HELP.message(mistake.help.as_str()));
        }
        renderer.render(&[group])
    }
}

/// A span over several lines would frame half the file: its first line is enough to find it.
fn first_line(text: &str, span: Range<usize>) -> Range<usize> {
    let start = span.start.min(text.len());
    let end = span.end.clamp(start, text.len());
    let line = text.get(start..end).and_then(|marked| marked.find(['\n', '\r'])).map_or(end, |at| start + at);
    start..line
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rendered(false).join("\n\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_a_value_are_found_in_the_file() {
        for (written, range, expected) in [
            (r#""usr_id IS NOT NULL""#, 0..6, "usr_id"),
            ("'usr_id IS NOT NULL'", 7..9, "IS"),
            ("\"\"\"\nusr_id\"\"\"", 0..6, "usr_id"),
            ("\"\"\"usr_id\"\"\"", 0..6, "usr_id"),
            (r#""a\tb""#, 0..1, r#""a\tb""#),
            (r"'a\tb'", 1..2, r"\"),
            (r#""short""#, 3..30, r#""short""#),
        ] {
            let text = format!("key = {written}\n");
            let place = Place { file: "f.toml".into(), span: 6..6 + written.len() };
            let mut sources = Sources::default();
            sources.add("f.toml".into(), text.as_str());
            assert_eq!(&text[sources.within(&place, range).span], expected, "{written}");
        }
    }
}
