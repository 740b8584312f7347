//! What a PATH means: a component, a folder to build one from, a script, or the name of a ready-made plugin; and which cases
//! are its own.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::Value;

use crate::cases::FOLDER;
use crate::component;
use crate::config::{PluginCode, Wasi};
use crate::error::{Doing, Error, Result};
use crate::plugin::{Engine, Inspection, inspect_script, inspect_with};
use crate::script::{Language, Script, cases_of};

/// A plugin that is not configured yet, and where its cases are.
#[derive(Clone, Debug)]
pub struct Found {
    /// the file it was read from, or the name of a ready-made one
    pub name: String,
    /// the component; of a script its engine
    pub code: Bytes,
    /// the same, as a pipeline names it
    pub plugin: PluginCode,
    /// what it may have of WASI
    pub wasi: Wasi,
    /// the folder of its cases, or the file, whether or not it is there
    pub cases: PathBuf,
    /// whether those that travel in the component count, where there are no others
    pub carries: bool,
}

impl Found {
    /// A component that lies nowhere, with the cases that it carries and no others.
    pub fn component(name: &str, code: &Bytes, wasi: Wasi) -> Found {
        Found {
            name: name.to_owned(),
            code: code.clone(),
            plugin: PluginCode::Wasm(name.to_owned(), PathBuf::from(name)),
            wasi,
            cases: PathBuf::new(),
            carries: true,
        }
    }

    /// Looks at it, configured with `settings`.
    pub fn inspect(&self, engine: &Engine, settings: &Value) -> Inspection {
        match &self.plugin {
            PluginCode::Script(script) => inspect_script(engine, &self.code, script, settings),
            PluginCode::Wasm(..) | PluginCode::Builtin(_) | PluginCode::Stored(..) => {
                inspect_with(engine, &self.code, &settings.to_string(), self.wasi)
            }
        }
    }
}

/// Finds all that `path` means: a component, the one of a folder (built first, where it holds a plugin's source), a ready-made
/// one by its name, a script, or every script of a folder that has cases. Cases stand beside it, unless `cases` says otherwise.
///
/// # Errors
/// There is nothing of the kind, it cannot be read, or it cannot be built.
pub fn find(path: &Path, cases: Option<&Path>, wasi: Wasi) -> Result<Vec<Found>> {
    if let Some(language) = Language::of_file(path) {
        return Ok(vec![script(language, path, cases)?]);
    }
    if path.is_dir() && component::language(path).is_err() {
        let scripts = scripts(path)?;
        if !scripts.is_empty() {
            return scripts.into_iter().map(|(language, file)| script(language, &file, cases)).collect();
        }
    }
    Ok(vec![whole(path, cases, wasi)?])
}

/// The one plugin that `path` means.
///
/// # Errors
/// Like [`find`]; and there are several.
pub fn find_one(path: &Path, wasi: Wasi) -> Result<Found> {
    let mut found = find(path, None, wasi)?;
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        _ => Err(Error::Config(format!("{} holds several scripts: name one of them", path.display()))),
    }
}

fn whole(path: &Path, cases: Option<&Path>, wasi: Wasi) -> Result<Found> {
    let builtin = path.to_str().filter(|_| !path.exists()).and_then(component::builtin);
    if let Some(code) = builtin {
        // what lies in a folder `cases` here is of something else
        let cases = cases.map_or_else(|| path.to_owned(), Path::to_owned);
        return Ok(Found { cases, ..Found::component(&path.display().to_string(), &code?.into(), wasi) });
    }
    let file = if path.is_dir() && component::language(path).is_ok() {
        match component::built(path) {
            Some(component) => component,
            None => component::build(path, None)?.path,
        }
    } else if path.is_dir() {
        only_component(path)?
    } else {
        path.to_owned()
    };
    let beside = if path.is_dir() { path } else { file.parent().unwrap_or(Path::new("")) };
    let beside = beside.strip_prefix(".").unwrap_or(beside); // `cases`, not `./cases`
    let code = std::fs::read(&file).doing(|| format!("cannot read {}", file.display()))?;
    Ok(Found {
        cases: cases.map_or_else(|| beside.join(FOLDER), Path::to_owned),
        carries: cases.is_none(),
        plugin: PluginCode::Wasm(file.display().to_string(), file.clone()),
        ..Found::component(&file.display().to_string(), &code.into(), wasi)
    })
}

fn only_component(folder: &Path) -> Result<PathBuf> {
    let entries = std::fs::read_dir(folder).doing(|| format!("cannot list {}", folder.display()))?;
    let is_component =
        |p: &PathBuf| p.extension().is_some_and(|e| e == "wasm") && !p.to_string_lossy().ends_with(".core.wasm");
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_component).collect();
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(_), false) => {
            Err(Error::Config(format!("{} holds several components: name one of them", folder.display())))
        }
        (None, _) => Err(Error::Config(format!(
            "{} holds no pipeline file (sluice.toml), no plugin's source, no component (*.wasm) and no script with cases \
             (cases/NAME.ndjson)",
            folder.display()
        ))),
    }
}

fn script(language: Language, file: &Path, cases: Option<&Path>) -> Result<Found> {
    let shown = file.display().to_string();
    let script = Script::read(language, &shown, &shown, file).doing(|| format!("cannot read {shown}"))?;
    let cases = match cases {
        Some(folder) => folder.to_owned(),
        // a folder as `sluice new` makes it is one plugin's
        None if is_whole_plugin(file) => file.with_file_name(FOLDER),
        None => cases_of(file),
    };
    Ok(Found {
        name: shown,
        code: component::engine(language)?,
        plugin: PluginCode::Script(script),
        wasi: Wasi::None,
        cases,
        carries: false,
    })
}

/// Whether it is the source of a plugin that has a folder of its own: `consent/rule.js`.
fn is_whole_plugin(script: &Path) -> bool {
    script.file_stem().is_some_and(|stem| stem == "rule" || stem == "enricher")
}

/// The scripts of a folder that have cases, by name.
fn scripts(folder: &Path) -> Result<Vec<(Language, PathBuf)>> {
    let entries = std::fs::read_dir(folder).doing(|| format!("cannot list {}", folder.display()))?;
    let files = entries.flatten().map(|entry| entry.path());
    let mut scripts: Vec<_> = files
        .filter_map(|file| Some((Language::of_file(&file)?, file)))
        .filter(|(_, file)| cases_of(file).is_file())
        .collect();
    scripts.sort_by(|(_, one), (_, other)| one.cmp(other));
    Ok(scripts)
}
