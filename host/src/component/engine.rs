//! The engines that judge scripts: components that take a rule's or enricher's text by `configure`.
//!
//! That of JavaScript is kept in the repository, as a core module, and embedded in the binary: whoever builds `sluice` needs no
//! compiler of C, and a generation, whose hash names the engine, has the same on every machine. That of Python is too large for
//! either; it is a file that `sluice build --engine python` makes from the sources in this binary. Each carries a mark of what
//! it was made from.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use wasm_encoder::{ComponentSection, CustomSection, Section};

use super::{javascript, python};
use crate::error::{Doing, Error, Result};
use crate::plugin::CONTRACT;
use crate::script::Language;

/// The world of both engines: a script is a rule or an enricher.
pub(super) const WORLD: &str = "engine";

/// What that world is.
const WORLD_TEXT: &str = "world engine {\n  import host;\n  export rule;\n  export enricher;\n}\n";

/// Name of the custom section with the mark, the last of the component or core module.
const SECTION: &str = "sluice:engine";

/// The file of Python's engine.
const PYTHON_FILE: &str = "sluice-python.wasm";

/// The engine for scripts of that language.
///
/// # Errors
/// Python's is not there, or was made from other sources than this binary's; the text says which command makes it.
pub fn engine(language: Language) -> Result<Bytes> {
    match language {
        Language::JavaScript => {
            static ENCODED: OnceLock<std::result::Result<Bytes, String>> = OnceLock::new();
            let encode = || super::wrap(javascript::ENGINE, &contract(), WORLD).map(Bytes::from);
            let encoded = ENCODED.get_or_init(encode).clone();
            encoded.map_err(|problem| Error::Host(format!("the embedded engine of JavaScript {problem}")))
        }
        Language::Python => {
            // read once: all scripts of a process are judged by the same
            static FOUND: OnceLock<Bytes> = OnceLock::new();
            match FOUND.get() {
                Some(found) => Ok(found.clone()),
                None => find(&places()).map(|found| FOUND.get_or_init(|| found).clone()),
            }
        }
    }
}

/// Makes the engine, unless it is there already; answers its file and its size. `out` is where; otherwise Python's goes to this
/// user's data folder.
pub fn build_engine(language: Language, out: Option<&Path>) -> Result<(PathBuf, usize)> {
    let path = match (out, language) {
        (Some(out), _) => out.to_owned(),
        (None, Language::Python) => data_folder()?.join(PYTHON_FILE),
        (None, Language::JavaScript) => {
            let text = "the engine of JavaScript is embedded in sluice; say where another goes with -o";
            return Err(Error::Config(text.into()));
        }
    };
    let section = section(language);
    if let Ok(there) = std::fs::read(&path)
        && there.ends_with(&section)
    {
        return Ok((path, there.len()));
    }
    let mut made = match language {
        Language::JavaScript => javascript::engine()?,
        Language::Python => python::engine(&contract())?,
    };
    made.extend(section);
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).doing(|| format!("cannot make {}", folder.display()))?;
    }
    super::write_whole(&path, &made)?;
    Ok((path, made.len()))
}

/// The contract, with the engines' world.
fn contract() -> String {
    format!("{CONTRACT}\n{WORLD_TEXT}")
}

/// The custom section that says what an engine was made from.
fn section(language: Language) -> Vec<u8> {
    let sources = match language {
        Language::JavaScript => javascript::engine_sources(),
        Language::Python => python::ENGINE_SOURCES.to_vec(),
    };
    let mut mark = Sha256::new().chain_update(CONTRACT).chain_update(WORLD_TEXT);
    for source in sources {
        mark.update((source.len() as u64).to_le_bytes());
        mark.update(source);
    }
    let mark: String = mark.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let mut section = Vec::new();
    let custom = CustomSection { name: Cow::Borrowed(SECTION), data: Cow::Borrowed(mark.as_bytes()) };
    match language {
        Language::JavaScript => custom.append_to(&mut section),
        Language::Python => custom.append_to_component(&mut section),
    }
    section
}

/// Where Python's engine is looked for: beside this binary, and in the data folder.
fn places() -> Vec<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|file| Some(file.parent()?.to_owned()));
    beside.into_iter().chain(data_folder().ok()).map(|folder| folder.join(PYTHON_FILE)).collect()
}

fn find(places: &[PathBuf]) -> Result<Bytes> {
    let section = section(Language::Python);
    let mut other = None;
    for path in places {
        match std::fs::read(path) {
            Ok(engine) if engine.ends_with(&section) => return Ok(engine.into()),
            Ok(_) => other = other.or(Some(path)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).doing(|| format!("cannot read {}", path.display())),
        }
    }
    let why = match other {
        Some(path) => format!("{} was made for another version of sluice", path.display()),
        None => {
            let places: Vec<_> = places.iter().map(|path| path.display().to_string()).collect();
            format!("the engine of Python is not there: neither {}", places.join(" nor "))
        }
    };
    Err(Error::Config(format!(
        "{why}; `sluice build --engine python` makes it, with Python 3 and pip, in half a minute"
    )))
}

/// This user's data folder.
fn data_folder() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_DATA_HOME").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share")));
    let base = base.ok_or_else(|| Error::Config("there is neither $XDG_DATA_HOME nor $HOME".into()))?;
    Ok(base.join("sluice"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_engine_was_made_from_these_sources() {
        let text = "`make engines` makes plugins/engine-js/engine.core.wasm anew";
        assert!(javascript::ENGINE.ends_with(&section(Language::JavaScript)), "{text}");
    }

    #[test]
    fn an_engine_of_other_sources_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let [old, new] = ["old", "new"].map(|name| folder.path().join(name));
        let none = find(&[old.clone(), new.clone()]).unwrap_err().to_string();
        assert!(none.contains("neither") && none.contains("`sluice build --engine python`"), "{none}");
        std::fs::write(&old, b"\0asm").unwrap();
        let other = find(&[old.clone(), new.clone()]).unwrap_err().to_string();
        assert!(other.contains("old was made for another version of sluice; `sluice build"), "{other}");
        let engine = [&b"\0asm"[..], &section(Language::Python)].concat();
        std::fs::write(&new, &engine).unwrap();
        assert_eq!(find(&[old, new]).unwrap(), engine);
    }
}
