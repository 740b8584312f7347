//! Plugin code → component: `sluice build`, and the ready-made components that are embedded in the binary.
//!
//! A language's compiler makes a core module; [`encode`] wraps it, in this process, as a component of the contract in
//! `wit/`, and stands in for WASI where the language insists on it ([`adapter`]). JavaScript's is the engine of scripts with the
//! text in it; Python's own tools make the component themselves. Nothing here runs a component or names a type of the contract: that is [`crate::plugin`]'s.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::cases::FOLDER;
use crate::error::{Doing, Error, Result};
use crate::plugin::{CONTRACT, Kind, conform, contract_version};
use crate::script::{self, Script};

mod adapter;
mod c;
mod cargo;
pub mod cases;
mod engine;
mod folder;
mod go;
mod javascript;
mod python;
mod toolchain;
mod tools;

pub use cases::{carried, is_component};
pub use engine::{build_engine, engine};
pub use folder::{Language, language};

/// The contract's package, without the version.
const PACKAGE: &str = "sluice:plugin/";

/// What a plugin can be for.
const KINDS: [Kind; 3] = [Kind::Rule, Kind::Enricher, Kind::Auditor];

/// The functions that a plugin exports.
fn functions(kind: Kind) -> [&'static str; 2] {
    match kind {
        Kind::Rule => ["configure", "check"],
        Kind::Enricher => ["configure", "enrich"],
        Kind::Auditor => ["configure", "audit"],
    }
}

/// A component that was built.
#[derive(Clone, Debug)]
pub struct Built {
    /// where it was written
    pub path: PathBuf,
    /// how large it is
    pub bytes: usize,
    /// what it is for
    pub kind: Kind,
    /// the plugin's name, that of its crate
    pub name: String,
}

/// What a language's own tools made of a folder.
enum Made {
    /// a core module, still to be wrapped
    Core(Vec<u8>),
    /// a component of the contract
    Component(Vec<u8>),
}

/// Builds the plugin in `folder` with its language's own tools, and writes its component to `out`.
///
/// Without `out` it lands beside the folder, under the name of the library (in Rust) or of the folder:
/// `plugins/browser-engine` makes `plugins/browser_engine.wasm`; `.` makes it in the folder itself. The cases in the folder's
/// `cases/` travel in it.
pub fn build(folder: &Path, out: Option<&Path>) -> Result<Built> {
    let (name, library, made) = match language(folder)? {
        Language::Rust => {
            let core = cargo::build(folder)?;
            let bytes = std::fs::read(&core.path).doing(|| format!("cannot read {}", core.path.display()))?;
            (core.name, core.library, Made::Core(bytes))
        }
        Language::Go => named(folder, go::build(folder)?)?,
        Language::C => named(folder, c::build(folder)?)?,
        Language::Python(kind) => named(folder, python::build(folder, kind)?)?,
        Language::JavaScript(entry, kind) => named(folder, javascript::build(folder, &entry, kind)?)?,
    };
    let path = out.map_or_else(|| beside(folder, &library), Path::to_owned);
    let cases = folder.join(FOLDER);
    match made {
        Made::Core(core) => write(&name, &core, path, &cases),
        Made::Component(component) => {
            let kind = conform(&component).map_err(|problem| Error::plugin(&*name, problem))?;
            let component = cases::carry(&component, &cases)?;
            write_whole(&path, &component)?;
            Ok(Built { path, bytes: component.len(), kind, name })
        }
    }
}

/// The component that [`build`] makes of `folder`, if it is there and nothing in the folder is newer, and the tools are slow.
///
/// Only where the SDK lies in the folder too: what lies elsewhere may have changed. It gets the cases as they are now.
pub fn built(folder: &Path) -> Option<PathBuf> {
    match language(folder).ok()? {
        Language::Python(_) | Language::JavaScript(..) => {}
        Language::Rust | Language::Go | Language::C => return None,
    }
    let component = beside(folder, &folder::name(folder).ok()?.replace('-', "_"));
    let made = component.metadata().ok()?.modified().ok()?;
    if !folder.join("sluice").is_dir() || folder::newest(folder)? >= made {
        return None;
    }
    let bytes = std::fs::read(&component).ok()?;
    let carrying = cases::carry(&bytes, &folder.join(FOLDER)).ok()?;
    if carrying != bytes {
        write_whole(&component, &carrying).ok()?;
    }
    Some(component)
}

/// What was made of a folder whose tools know no name for it: it gets the folder's.
fn named(folder: &Path, made: Made) -> Result<(String, String, Made)> {
    let name = folder::name(folder)?;
    let library = name.replace('-', "_");
    Ok((name, library, made))
}

/// Makes a component of the core module in `file`, or of the module of JavaScript that it is: `rule.core.wasm` and `rule.js` make
/// `rule.wasm` beside it, unless `out` says otherwise.
///
/// The cases in `cases/` beside the component travel in it.
pub fn encode_file(file: &Path, out: Option<&Path>) -> Result<Built> {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let name = stem.strip_suffix(".core").unwrap_or(&stem).to_owned();
    let path = out.map_or_else(|| file.with_file_name(format!("{name}.wasm")), Path::to_owned);
    if path == file {
        let text = format!("the component would replace {}: say where it goes with -o", file.display());
        return Err(Error::Config(text));
    }
    let core = match script::Language::of_file(file) {
        Some(script::Language::JavaScript) => {
            let shown = file.display().to_string();
            let reading = || format!("cannot read {shown}");
            let script = Script::read(script::Language::JavaScript, &shown, &shown, file).doing(reading)?;
            javascript::with_text(&script.text, script.kind())?
        }
        Some(script::Language::Python) | None => {
            std::fs::read(file).doing(|| format!("cannot read {}", file.display()))?
        }
    };
    let cases = path.with_file_name(FOLDER);
    write(&name, &core, path, &cases)
}

fn write(name: &str, core: &[u8], path: PathBuf, cases: &Path) -> Result<Built> {
    let refuse = |problem: String| Error::plugin(name, problem);
    let kind = kind_of(core).map_err(refuse)?;
    let component = cases::carry(&encode_core(core).map_err(refuse)?, cases)?;
    write_whole(&path, &component)?;
    Ok(Built { path, bytes: component.len(), kind, name: name.to_owned() })
}

/// A core module → a component of the contract. The module's exports decide the world.
pub fn encode(core: &[u8]) -> Result<Vec<u8>> {
    encode_core(core).map_err(|problem| Error::plugin("component", problem))
}

/// Names of the components that are embedded in the binary.
pub const BUILTINS: &[&str] = &["timely", "learned"];

/// The ready-made component of that name, encoded at first use; none if there is no such.
pub fn builtin(name: &str) -> Option<Result<Vec<u8>>> {
    static TIMELY: OnceLock<Result<Vec<u8>, String>> = OnceLock::new();
    static LEARNED: OnceLock<Result<Vec<u8>, String>> = OnceLock::new();
    let (core, encoded): (&[u8], _) = match name {
        "timely" => (include_bytes!(concat!(env!("OUT_DIR"), "/timely.core.wasm")), &TIMELY),
        "learned" => (include_bytes!(concat!(env!("OUT_DIR"), "/learned.core.wasm")), &LEARNED),
        _ => return None,
    };
    let encoded = encoded.get_or_init(|| encode_core(core));
    Some(encoded.clone().map_err(|problem| Error::Host(format!("the embedded component `{name}` {problem}"))))
}

/// The component that `sluice demo` puts beside its pipeline, as a user would: embedded, but no [`builtin`].
pub fn demo_rule() -> Result<Vec<u8>> {
    encode(include_bytes!(concat!(env!("OUT_DIR"), "/consent.core.wasm")))
}

/// As [`encode`]; the problem reads on from the plugin's name.
fn encode_core(core: &[u8]) -> Result<Vec<u8>, String> {
    let kind = kind_of(core)?;
    wrap(core, CONTRACT, &format!("{}-plugin", kind.interface()))
}

/// A core module of a world → its component; the problem reads on from the plugin's name.
fn wrap(core: &[u8], contract: &str, world: &str) -> Result<Vec<u8>, String> {
    let failed = |error: anyhow::Error| format!("cannot be made a component: {error:#}");
    let mut core = core.to_vec();
    if !has_component_type(&core) {
        let mut resolve = Resolve::default();
        let package = resolve.push_source("plugin.wit", contract).map_err(failed)?;
        let world = resolve.select_world(&[package], Some(world)).map_err(failed)?;
        embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8, false).map_err(failed)?;
    }
    let mut encoder = ComponentEncoder::default();
    encoder.validate(true).module(&core).map_err(failed)?;
    if has_preview1(&core) {
        encoder.adapter(adapter::MODULE, adapter::bytes()).map_err(failed)?;
    }
    encoder.encode().map_err(failed)
}

/// What a core module is for; in plain words why it is no plugin.
fn kind_of(core: &[u8]) -> Result<Kind, String> {
    if Parser::is_component(core) {
        return Err("is a component already: name it in the pipeline file as it is".into());
    }
    let (mut exports, mut imports) = (Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(core) {
        let not_wasm = |error: wasmparser::BinaryReaderError| format!("is not WebAssembly: {error}");
        match payload.map_err(not_wasm)? {
            Payload::ExportSection(section) => {
                for export in section {
                    exports.push(export.map_err(not_wasm)?.name.to_owned());
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.map_err(not_wasm)?;
                    imports.push((import.module.to_owned(), import.name.to_owned()));
                }
            }
            // the other sections are the encoder's to check
            _ => {}
        }
    }
    check_imports(&imports)?;
    check_exports(&exports)
}

fn check_imports(imports: &[(String, String)]) -> Result<(), String> {
    let own = format!("{PACKAGE}host@{}", contract_version());
    let tables = format!("{PACKAGE}reference@{}", contract_version());
    let is_offered = |(module, name): &&(String, String)| {
        *module == own || *module == tables || (module == adapter::MODULE && adapter::functions().contains(name))
    };
    let Some((module, name)) = imports.iter().find(|import| !is_offered(import)) else { return Ok(()) };
    Err(match module.as_str() {
        module if module.starts_with("wasi") => format!(
            "imports {module}.{name}: a plugin has no files, clock or environment; of WASI only preview 1 can be stood in for"
        ),
        module if module.starts_with("__wbindgen") => {
            format!(
                "imports {module}.{name}: some crate of it expects a browser (its feature `js` or `wasmbind` is on)"
            )
        }
        module if module.starts_with(PACKAGE) => {
            format!("imports {module}, and this sluice offers {own}: rebuild it with the matching SDK")
        }
        module => format!("imports {module}.{name}, which nobody provides: a plugin may import {own} and nothing else"),
    })
}

fn check_exports(exports: &[String]) -> Result<Kind, String> {
    let prefix = |kind: &Kind| format!("{PACKAGE}{}@", kind.interface());
    let is_exported = |kind: &Kind| exports.iter().any(|export| export.starts_with(&prefix(kind)));
    let kinds: Vec<Kind> = KINDS.into_iter().filter(is_exported).collect();
    let kind = match kinds[..] {
        [kind] => kind,
        [] => {
            return Err("exports neither a rule nor an enricher nor an auditor: in Rust that takes `#[rule]` or \
                        `#[enricher]` on a function, or `sluice::auditor!`, and `crate-type = [\"cdylib\", \"rlib\"]`"
                .into());
        }
        _ => return Err("exports several of a rule, an enricher and an auditor: one component is one plugin".into()),
    };
    let ours = contract_version();
    for function in functions(kind) {
        let name = format!("{}{ours}#{function}", prefix(&kind));
        if !exports.contains(&name) {
            let other = exports.iter().find_map(|export| export.strip_prefix(&prefix(&kind))?.split('#').next());
            return Err(match other.filter(|other| *other != ours) {
                Some(other) => {
                    format!(
                        "speaks version {other} of the contract, and this sluice {ours}: rebuild it with the matching SDK"
                    )
                }
                None => format!("does not export {name}"),
            });
        }
    }
    for name in ["memory", "cabi_realloc"] {
        if !exports.iter().any(|export| export == name) {
            return Err(format!("does not export {name}, through which the host passes columns"));
        }
    }
    Ok(kind)
}

/// Whether the module says itself of which world it is, as bindings of `wit-bindgen` do.
fn has_component_type(core: &[u8]) -> bool {
    Parser::new(0).parse_all(core).any(|payload| {
        matches!(payload, Ok(Payload::CustomSection(section)) if section.name().starts_with("component-type"))
    })
}

/// Whether the module expects WASI's preview 1, for which [`adapter`] stands in.
fn has_preview1(core: &[u8]) -> bool {
    Parser::new(0).parse_all(core).any(|payload| match payload {
        Ok(Payload::ImportSection(section)) => {
            section.into_imports().any(|import| import.is_ok_and(|import| import.module == adapter::MODULE))
        }
        _ => false,
    })
}

/// `plugins/consent` → `plugins/consent.wasm`; `.` → `./consent.wasm`.
fn beside(folder: &Path, library: &str) -> PathBuf {
    let file = format!("{library}.wasm");
    match (folder.file_name(), folder.parent()) {
        (Some(_), Some(parent)) => parent.join(file),
        (None, _) | (Some(_), None) => folder.join(file),
    }
}

/// Writes beside the target and renames, so that a pipeline which watches the file never loads half of it.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let part = path.with_extension("wasm.part");
    let doing = || format!("cannot write {}", path.display());
    std::fs::write(&part, bytes).doing(doing)?;
    std::fs::rename(&part, path).doing(doing)
}

#[cfg(test)]
mod tests;
