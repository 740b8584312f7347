//! What kind of plugin a folder holds, seen from the files of its language's own tools.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::error::{Doing, Error, Result};
use crate::plugin::Kind;

/// The language of a folder, with what its tools must be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Language {
    /// a Cargo.toml
    Rust,
    /// a go.mod
    Go,
    /// rule.py or enricher.py
    Python(Kind),
    /// rule.js or enricher.js, or the same in TypeScript (.ts): the file
    JavaScript(PathBuf, Kind),
    /// rule.c or enricher.c
    C,
}

/// Endings of files that a Python or JavaScript plugin is made of.
const SOURCES: [&str; 7] = ["py", "js", "mjs", "ts", "json", "txt", "wit"];

/// The language of the plugin in `folder`.
pub fn language(folder: &Path) -> Result<Language> {
    if folder.join("Cargo.toml").is_file() {
        return Ok(Language::Rust);
    }
    if folder.join("go.mod").is_file() {
        return Ok(Language::Go);
    }
    for kind in [Kind::Rule, Kind::Enricher] {
        let file = |extension: &str| Path::new(kind.interface()).with_extension(extension);
        let has = |extension: &str| folder.join(file(extension)).is_file();
        if has("py") {
            return Ok(Language::Python(kind));
        }
        if let Some(extension) = ["ts", "js"].into_iter().find(|extension| has(extension)) {
            return Ok(Language::JavaScript(file(extension), kind));
        }
        if has("c") {
            return Ok(Language::C);
        }
    }
    if !folder.is_dir() {
        return Err(Error::Config(format!("there is no folder {}", folder.display())));
    }
    Err(Error::Config(format!(
        "{} is no plugin's folder: it has no Cargo.toml (Rust), no go.mod (Go), and no rule or enricher with the ending .py, \
         .js, .ts or .c; `sluice new rule NAME --lang python` makes one that has",
        folder.display()
    )))
}

/// A plugin's name where its tools know none: that of the folder.
pub(super) fn name(folder: &Path) -> Result<String> {
    let whole = folder.canonicalize().doing(|| format!("cannot find {}", folder.display()))?;
    Ok(whole.file_name().map_or_else(|| "plugin".into(), |name| name.to_string_lossy().into_owned()))
}

/// When a source file of the folder was last changed; what tools, pipelines and people keep beside the source is left out.
pub(super) fn newest(folder: &Path) -> Option<SystemTime> {
    let mut newest = None;
    for entry in std::fs::read_dir(folder).ok()?.flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let name = name.to_string_lossy();
        let is_source = !name.starts_with('.') && !["node_modules", "__pycache__", "cases", "lake"].contains(&&*name);
        let extension = path.extension().unwrap_or_default().to_string_lossy();
        newest = match () {
            () if path.is_dir() && is_source => newest.max(self::newest(&path)),
            () if is_source && SOURCES.contains(&&*extension) => newest.max(entry.metadata().ok()?.modified().ok()),
            () => newest,
        };
    }
    newest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(files: &[&str], expected: Option<Language>) {
        let folder = tempfile::tempdir().unwrap();
        files.iter().for_each(|file| std::fs::write(folder.path().join(file), "").unwrap());
        assert_eq!(language(folder.path()).ok(), expected, "{files:?}");
    }

    #[test]
    fn the_files_of_its_tools_tell_a_language() {
        check(&["Cargo.toml", "build.py"], Some(Language::Rust));
        check(&["go.mod", "rule.go"], Some(Language::Go));
        check(&["rule.py", "requirements.txt"], Some(Language::Python(Kind::Rule)));
        check(&["enricher.py"], Some(Language::Python(Kind::Enricher)));
        check(&["rule.js", "package.json"], Some(Language::JavaScript("rule.js".into(), Kind::Rule)));
        check(&["enricher.ts", "package.json"], Some(Language::JavaScript("enricher.ts".into(), Kind::Enricher)));
        check(&["rule.c"], Some(Language::C));
        check(&["main.py"], None);
        check(&[], None);
    }
}
