//! Cases: what a plugin must answer for a row. They lie beside its source, and travel in its component.
//!
//! What a case is stands in [`crate::cases`]. [`super::build`] puts each file of `cases/` into a custom section [`SECTION`] of the
//! component, its name in the first line, so that whoever gets the component can ask whether it still does what its author
//! meant. Nothing here runs a plugin.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use wasm_encoder::{ComponentSection, CustomSection};
use wasmparser::{BinaryReader, BinaryReaderError, Parser};

use crate::cases::files;
use crate::cases::plugin::cases_in;
use crate::error::{Doing, Error, Result};

/// Name of the custom sections; one is one file of cases.
pub const SECTION: &str = "sluice:cases";

/// Cases that one component may carry, in bytes: thousands of them. They are examples, and no data.
const MOST: usize = 4 << 20;

/// Bytes before the first section: the magic number and the version.
const PREAMBLE: usize = 8;

/// The id of a section that only tools read.
const CUSTOM: u8 = 0;

/// The files of cases that a component carries, with their names; none, where it was built without.
///
/// The component need not be one that this host would load.
///
/// # Errors
/// It is no component, it is damaged, or its cases are no text.
pub fn carried(component: &[u8]) -> Result<Vec<(&str, &str)>> {
    let sections = sections(component).map_err(Error::Config)?;
    Ok(sections.into_iter().map(|section| section.split_once('\n').unwrap_or((section, ""))).collect())
}

/// Whether it is a component at all, and no core module or anything else.
pub fn is_component(code: &[u8]) -> bool {
    Parser::is_component(code)
}

/// `component` with the cases of `folder` instead of those that it carries. A mistake in them is told now, and not at load.
pub(super) fn carry(component: &[u8], folder: &Path) -> Result<Vec<u8>> {
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).doing(|| format!("cannot read {}", path.display()))?;
        Ok((path, text))
    };
    let files = files(folder).into_iter().map(read).collect::<Result<Vec<_>>>()?;
    let bytes: usize = files.iter().map(|(_, text)| text.len()).sum();
    if bytes > MOST {
        return Err(Error::Config(format!(
            "the cases in {} have {bytes} bytes, and a component carries {MOST} at most: cases are examples; keep data elsewhere",
            folder.display()
        )));
    }
    let mut out = without(component).map_err(Error::Config)?;
    for (file, text) in files {
        check(&file, &text)?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let data = format!("{name}\n{text}");
        CustomSection { name: Cow::Borrowed(SECTION), data: Cow::Borrowed(data.as_bytes()) }
            .append_to_component(&mut out);
    }
    Ok(out)
}

/// A case that travels says what should come: a trial has nobody to ask.
fn check(file: &Path, text: &str) -> Result<()> {
    match cases_in(file, text)?.into_iter().find(|case| !case.is_whole()) {
        None => Ok(()),
        Some(case) => {
            let place = case.row().place;
            Err(Error::Config(format!(
                "{place}: not a case: it needs `finds` (of a rule) or `adds` (of an enricher); `sluice test --update` writes \
                 what comes"
            )))
        }
    }
}

/// The component's own sections of cases; what modules in it hold is not its author's word.
fn sections(component: &[u8]) -> Result<Vec<&str>, String> {
    let no_text = |_| "it carries cases that are no text".to_owned();
    customs(component)?.iter().map(|custom| std::str::from_utf8(custom.data).map_err(no_text)).collect()
}

/// The component without its sections of cases.
fn without(component: &[u8]) -> Result<Vec<u8>, String> {
    let mut rest = Vec::with_capacity(component.len());
    let mut from = 0;
    for custom in customs(component)? {
        rest.extend_from_slice(&component[from..custom.begin]);
        from = custom.end;
    }
    rest.extend_from_slice(&component[from..]);
    Ok(rest)
}

/// A section of cases, and where it lies.
struct Custom<'a> {
    begin: usize,
    end: usize,
    data: &'a [u8],
}

/// Goes from section to section of the component itself, and looks into none but those that are named as cases.
fn customs(component: &[u8]) -> Result<Vec<Custom<'_>>, String> {
    if !Parser::is_component(component) {
        return Err("it is no component".into());
    }
    let damaged = |error: BinaryReaderError| format!("it is damaged: {}", error.message());
    let mut reader = BinaryReader::new(component, 0);
    reader.read_bytes(PREAMBLE).map_err(damaged)?;
    let mut found = Vec::new();
    while !reader.eof() {
        let begin = reader.current_position();
        let id = reader.read_u8().map_err(damaged)?;
        let mut section = reader.read_reader().map_err(damaged)?;
        if id == CUSTOM && section.read_string().map_err(damaged)? == SECTION {
            let data = section.read_bytes(section.bytes_remaining()).map_err(damaged)?;
            found.push(Custom { begin, end: reader.current_position(), data });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASES: &str = "{\"row\": {\"a\": null}, \"finds\": []}\n\n{\"row\": {\"a\": \"é\"}, \"config\": {\"b\": 1}, \"finds\": [\"c\"]}\n";

    fn component() -> Vec<u8> {
        // a section of that name in a module within is not the component's
        wat::parse_str("(component (core module (@custom \"sluice:cases\" \"inner.ndjson\\nnot a case\")))").unwrap()
    }

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, text)| std::fs::write(folder.path().join(name), text).unwrap());
        folder
    }

    #[test]
    fn cases_travel_with_the_component() {
        let own = component();
        assert!(carried(&own).unwrap().is_empty());
        let folder = folder(&[
            ("b.ndjson", CASES),
            ("a.ndjson", "{\"row\": {}, \"adds\": {\"x\": 1}}"),
            ("notes.md", "no case"),
        ]);
        let carrying = carry(&own, folder.path()).unwrap();
        assert_eq!(
            carried(&carrying).unwrap(),
            [("a.ndjson", "{\"row\": {}, \"adds\": {\"x\": 1}}"), ("b.ndjson", CASES)]
        );
        // others take their place, and none of them is left
        std::fs::remove_file(folder.path().join("b.ndjson")).unwrap();
        assert_eq!(carried(&carry(&carrying, folder.path()).unwrap()).unwrap().len(), 1);
        assert_eq!(carry(&carrying, &folder.path().join("nowhere")).unwrap(), own);
    }

    #[test]
    fn a_mistake_in_a_case_is_told_with_its_place() {
        for (text, expected) in [
            ("\n{\"row\": 1, \"finds\": []}", "a.ndjson:2: not a case: `row` is no object"),
            ("{\"row\": {}}", "a.ndjson:1: not a case: it needs `finds`"),
            ("{\"row\": {}, \"find\": []}", "a.ndjson:1: not a case: it has `find`"),
        ] {
            let folder = folder(&[("a.ndjson", text)]);
            let error = carry(&component(), folder.path()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let folder = folder(&[("a.ndjson", &"\n".repeat(MOST + 1))]);
        let error = carry(&component(), folder.path()).unwrap_err().to_string();
        assert!(error.contains("a component carries 4194304 at most"), "{error}");
    }

    #[test]
    fn a_component_that_lies_about_its_cases_is_refused_in_words() {
        let with = |data: &[u8]| {
            let mut out = component();
            CustomSection { name: SECTION.into(), data: data.into() }.append_to_component(&mut out);
            out
        };
        assert_eq!(carried(&with(b"a.ndjson\n")).unwrap(), [("a.ndjson", "")]);
        let refused = |code: &[u8]| carried(code).unwrap_err().to_string();
        assert!(refused(&with(b"a.ndjson\n\xff")).contains("cases that are no text"));
        let whole = with(b"a.ndjson\n");
        assert!(refused(&whole[..whole.len() - 1]).contains("it is damaged"));
        assert!(refused(b"not wasm").contains("it is no component"));
    }
}
