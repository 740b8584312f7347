//! A Rust plugin's folder → its core module.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::toolchain;
use crate::error::{Doing, Error, Result};

/// A core module that cargo made.
#[derive(Clone, Debug)]
pub(super) struct Core {
    /// where it is
    pub path: PathBuf,
    /// name of the package
    pub name: String,
    /// name of the library, with underscores
    pub library: String,
}

/// Compiles the plugin whose Cargo.toml stands in `folder`. Cargo's own messages go to standard error.
pub(super) fn build(folder: &Path) -> Result<Core> {
    let manifest = folder.join("Cargo.toml");
    if !manifest.is_file() {
        return Err(Error::Config(format!(
            "{} has no Cargo.toml: `sluice build` takes the folder of a Rust plugin, or a core module",
            folder.display()
        )));
    }
    let manifest = manifest.canonicalize().doing(|| format!("cannot find {}", manifest.display()))?;
    let toolchain = toolchain::find().map_err(Error::Config)?;
    let package = package(&manifest)?;

    // A folder of our own: another build neither waits for this one nor hands it the wrong file. It is the workspace's, where
    // no two packages share a name.
    let target = package.workspace.join("target").join("sluice");
    let mut sources = vec![(package.workspace, "plugin")];
    if let Some(home) = cargo_home() {
        sources.push((home, "cargo"));
    }
    let mut command = toolchain::build_command(&toolchain, &target, &sources);
    command.args(["--lib", "--message-format", "json-render-diagnostics", "--manifest-path"]).arg(&manifest);
    let doing = || format!("cannot run cargo for {}", folder.display());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().doing(doing)?;
    let mut path = None;
    if let Some(messages) = child.stdout.take() {
        for line in std::io::BufReader::new(messages).lines() {
            path = artifact(&line.doing(doing)?, &package.id).or(path);
        }
    }
    if !child.wait().doing(doing)?.success() {
        return Err(Error::Config(format!("{} does not compile: cargo says why, above", folder.display())));
    }
    let path = path.ok_or_else(|| {
        Error::Config(format!(
            "{} makes no WebAssembly module: its Cargo.toml needs `[lib]` with `crate-type = [\"cdylib\", \"rlib\"]`",
            folder.display()
        ))
    })?;
    Ok(Core { path, name: package.name, library: package.library })
}

struct Package {
    id: String,
    name: String,
    library: String,
    workspace: PathBuf,
}

/// What cargo knows of the package with that manifest.
fn package(manifest: &Path) -> Result<Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let doing = || format!("cannot read {}", manifest.display());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"])
        .arg(manifest)
        .stdin(Stdio::null())
        .output()
        .doing(doing)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::Config(format!("{}: {said}", doing())));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).doing(doing)?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let package = packages.iter().find(|package| package["manifest_path"].as_str().map(Path::new) == Some(manifest));
    let found = package.and_then(|package| {
        let targets = package["targets"].as_array()?;
        let is_library =
            |target: &&Value| target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "cdylib"));
        let name = text(&package["name"])?;
        let library = targets.iter().find(is_library).and_then(|target| text(&target["name"]));
        Some(Package {
            id: text(&package["id"])?,
            library: library.unwrap_or_else(|| name.clone()).replace('-', "_"),
            name,
            workspace: text(&metadata["workspace_root"])?.into(),
        })
    });
    found.ok_or_else(|| Error::Config(format!("{} describes no package", manifest.display())))
}

/// The module that a message of cargo names, if it is about that package.
fn artifact(line: &str, package: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(line).ok()?;
    let is_ours = message["reason"] == "compiler-artifact" && message["package_id"] == package;
    let files = message["filenames"].as_array().filter(|_| is_ours)?;
    files.iter().filter_map(Value::as_str).find(|file| file.ends_with(".wasm")).map(PathBuf::from)
}

fn cargo_home() -> Option<PathBuf> {
    std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))
}
