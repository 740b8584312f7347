//! A Python plugin's folder → its component, by componentize-py.
//!
//! The tool makes the component itself: the interpreter, its state after importing the plugin, and the contract's bindings.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Made;
use super::tools::{self, run};
use crate::error::{Doing, Result};
use crate::plugin::{CONTRACT, Kind};

/// What a folder without requirements.txt is built with.
const REQUIREMENTS: &str = "componentize-py==0.25.1\n";

/// The SDK, for a folder that does not hold it.
const SDK: &str = include_str!("../../../plugins/sdk-python/sluice/__init__.py");

/// What makes the SDK's rows: an extension module for the interpreter of [`REQUIREMENTS`], which another one does without.
static ROWS: &[u8] = include_bytes!("../../../plugins/engine-python/_sluice_rows.cpython-314-wasm32-wasi.so");

/// Its name there.
const ROWS_NAME: &str = "_sluice_rows.cpython-314-wasm32-wasi.so";

/// What it was made from.
const ROWS_SOURCE: &str = include_str!("../../../plugins/engine-python/_sluice_rows.c");

/// The engine of scripts.
const ENGINE: &str = include_str!("../../../plugins/engine-python/engine.py");

pub(super) fn build(folder: &Path, kind: Kind) -> Result<Made> {
    let folder = folder.canonicalize().doing(|| format!("cannot find {}", folder.display()))?;
    let own = folder.join(".venv");
    let venv = if own.join("bin/componentize-py").exists() {
        own
    } else {
        let list = folder.join("requirements.txt");
        let list = std::fs::read_to_string(list).unwrap_or_else(|_| REQUIREMENTS.into());
        tools::python(&list, "a Python plugin")?
    };
    let what = folder.display().to_string();
    let mut paths = vec![folder.clone()];
    let sdk = tempfile::tempdir().doing(|| "cannot make a temporary folder".to_owned())?;
    write_rows(sdk.path())?;
    if !folder.join("sluice").is_dir() {
        write_sdk(sdk.path())?;
    }
    paths.push(sdk.path().to_owned());
    let world = format!("{}-plugin", kind.interface());
    componentize(&venv, CONTRACT, &world, &paths, kind.interface(), &what).map(Made::Component)
}

/// The engine of scripts: what it is made from.
pub(super) const ENGINE_SOURCES: &[&str] = &[REQUIREMENTS, SDK, ROWS_SOURCE, ENGINE];

/// Makes the engine of scripts, by a contract that has its world.
pub(super) fn engine(contract: &str) -> Result<Vec<u8>> {
    let what = "the engine of Python";
    let venv = tools::python(REQUIREMENTS, what)?;
    let folder = tempfile::tempdir().doing(|| "cannot make a temporary folder".to_owned())?;
    write_sdk(folder.path())?;
    write_rows(folder.path())?;
    let file = folder.path().join("engine.py");
    std::fs::write(&file, ENGINE).doing(|| format!("cannot write {}", file.display()))?;
    componentize(&venv, contract, super::engine::WORLD, &[folder.path().to_owned()], "engine", what)
}

fn write_sdk(folder: &Path) -> Result<()> {
    let package = folder.join("sluice");
    let file = package.join("__init__.py");
    std::fs::create_dir_all(&package)
        .and_then(|()| std::fs::write(&file, SDK))
        .doing(|| format!("cannot write {}", file.display()))
}

fn write_rows(folder: &Path) -> Result<()> {
    let file = folder.join(ROWS_NAME);
    std::fs::write(&file, ROWS).doing(|| format!("cannot write {}", file.display()))
}

/// Makes a component of `world` from `module`, which stands in one of `paths`.
fn componentize(
    venv: &Path,
    contract: &str,
    world: &str,
    paths: &[PathBuf],
    module: &str,
    what: &str,
) -> Result<Vec<u8>> {
    let scratch = tempfile::tempdir().doing(|| "cannot make a temporary folder".to_owned())?;
    let (wit, out) = (scratch.path().join("wit"), scratch.path().join("rule.wasm"));
    let doing = || format!("cannot write to {}", scratch.path().display());
    std::fs::create_dir(&wit).doing(doing)?;
    std::fs::write(wit.join("plugin.wit"), contract).doing(doing)?;
    let mut command = Command::new(venv.join("bin/componentize-py"));
    command.env("VIRTUAL_ENV", venv).arg("-d").arg(&wit).args(["-w", world, "componentize", "--stub-wasi"]);
    paths.iter().for_each(|path| {
        command.arg("-p").arg(path);
    });
    command.arg(module).arg("-o").arg(&out);
    run(&mut command, scratch.path(), || {
        format!("{what} cannot be made a component: componentize-py says why, above")
    })?;
    std::fs::read(&out).doing(|| format!("cannot read what was made of {what}"))
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn rows_were_made_of_this_source() {
        let digest = Sha256::digest(ROWS_SOURCE);
        let digest: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let made_of = "bc8d51a3c41327d28b87a14454067434";
        assert_eq!(digest, made_of, "make {ROWS_NAME} anew, as its README says, and put the digest here");
        assert!(ROWS.starts_with(b"\0asm"));
    }
}
