//! A JavaScript or TypeScript plugin's folder → its component, by esbuild and componentize-qjs.
//!
//! esbuild takes the types away and puts everything that the plugin imports into one file; componentize-qjs makes the
//! component itself: QuickJS, its state after running that file, and the contract's bindings.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Made;
use super::tools::{self, run};
use crate::error::{Doing, Result};
use crate::plugin::{CONTRACT, Kind};

/// What a folder without package.json is built with.
const PACKAGE: &str = r#"{"private": true, "devDependencies": {"componentize-qjs": "0.4.5", "esbuild": "0.28.2"}}"#;

/// The SDK, for the engine of scripts.
const SDK: &str = include_str!("../../../plugins/sdk-js/sluice.js");

/// The engine of scripts.
const ENGINE: &str = include_str!("../../../plugins/engine-js/engine.js");

pub(super) fn build(folder: &Path, entry: &Path, kind: Kind) -> Result<Made> {
    let world = format!("{}-plugin", kind.interface());
    let what = folder.display().to_string();
    componentize(&modules(folder)?, CONTRACT, &world, folder, entry, &what).map(Made::Component)
}

/// The engine of scripts: what it is made from.
pub(super) const ENGINE_SOURCES: &[&str] = &[PACKAGE, SDK, ENGINE];

/// Makes the engine of scripts, by a contract that has its world.
pub(super) fn engine(contract: &str) -> Result<Vec<u8>> {
    let what = "the engine of JavaScript";
    let modules = tools::node(PACKAGE, what)?.join("node_modules");
    let folder = tempfile::tempdir().doing(|| "cannot make a temporary folder".to_owned())?;
    for (name, text) in [("engine-js/engine.js", ENGINE), ("sdk-js/sluice.js", SDK)] {
        let file = folder.path().join(name);
        file.parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| std::fs::write(&file, text))
            .doing(|| format!("cannot write {}", file.display()))?;
    }
    componentize(&modules, contract, super::engine::WORLD, folder.path(), Path::new("engine-js/engine.js"), what)
}

/// Makes a component of `world` from the file `entry` in `folder`.
fn componentize(
    modules: &Path,
    contract: &str,
    world: &str,
    folder: &Path,
    entry: &Path,
    what: &str,
) -> Result<Vec<u8>> {
    let tool = |name: &str| Command::new(modules.join(".bin").join(name));
    let scratch = tempfile::tempdir().doing(|| "cannot make a temporary folder".to_owned())?;
    let file = |name: &str| scratch.path().join(name);
    std::fs::write(file("plugin.wit"), contract).doing(|| format!("cannot write to {}", scratch.path().display()))?;

    let mut bundle = tool("esbuild");
    bundle.arg(entry).args(["--bundle", "--format=esm", "--external:sluice:*", "--log-level=warning"]);
    bundle.arg(format!("--outfile={}", file("bundle.js").display())).env("NODE_PATH", modules);
    run(&mut bundle, folder, || format!("{what} does not compile: esbuild says why, above"))?;

    let mut wrap = tool("componentize-qjs");
    wrap.args(["--wit", "plugin.wit", "--js", "bundle.js", "--sync", "--stub-wasi", "--output", "rule.wasm"]);
    wrap.args(["--world", world]);
    run(&mut wrap, scratch.path(), || format!("{what} cannot be made a component: componentize-qjs says why, above"))?;
    std::fs::read(file("rule.wasm")).doing(|| format!("cannot read what was made of {what}"))
}

/// `node_modules` with the two tools: the folder's own, or one in the cache for the same package.json.
fn modules(folder: &Path) -> Result<PathBuf> {
    let own = folder.join("node_modules");
    if own.join(".bin/componentize-qjs").exists() && own.join(".bin/esbuild").exists() {
        return own.canonicalize().doing(|| format!("cannot find {}", own.display()));
    }
    let package = std::fs::read_to_string(folder.join("package.json")).unwrap_or_else(|_| PACKAGE.into());
    Ok(tools::node(&package, "a JavaScript plugin")?.join("node_modules"))
}
