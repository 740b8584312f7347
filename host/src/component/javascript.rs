//! A JavaScript or TypeScript plugin's folder → its core module: the engine of scripts, with the plugin's text in it.
//!
//! esbuild takes the types away and puts everything that the plugin imports into one file, but for the SDK, which the engine
//! brings. What an engine is made from stands here too; where the text goes in a core module, that is [`text`]'s.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Made;
use super::c::ZIG;
use super::tools::{self, run};
use crate::error::{Doing, Error, Result};
use crate::plugin::Kind;

mod text;

/// What a folder without package.json is built with.
const PACKAGE: &str = r#"{"private": true, "devDependencies": {"esbuild": "0.28.2"}}"#;

/// The engine's core module.
pub(super) static ENGINE: &[u8] = include_bytes!("../../../plugins/engine-js/engine.core.wasm");

/// QuickJS as a package of Python, which has its source.
const QUICKJS: &str = "quickjs-ng==0.17.0.2";

/// Where the source is in the folder that the package unpacks to.
const QUICKJS_FOLDER: &str = "quickjs_ng-0.17.0.2/upstream-quickjs";

/// What is compiled beside engine.c, which includes the rest.
const QUICKJS_FILES: [&str; 3] = ["libregexp.c", "libunicode.c", "dtoa.c"];

/// How: fast rather than small, with what wasmtime has in every version. Text and rows need little stack.
const FLAGS: [&str; 12] = [
    "--target=wasm32-wasi-musl",
    "-mexec-model=reactor",
    "-mcpu=generic+bulk_memory+sign_ext+nontrapping_fptoint+mutable_globals",
    "-O3",
    "-DNDEBUG",
    "-D_GNU_SOURCE",
    "-w",
    "-Wl,-z,stack-size=1048576",
    "-Wl,--export=sluice_script",
    "-Wl,--strip-all",
    "-I.",
    "-o",
];

/// The files that the engine is made of.
const FILES: [(&str, &str); 7] = [
    ("engine.c", include_str!("../../../plugins/engine-js/engine.c")),
    ("memory.h", include_str!("../../../plugins/engine-js/memory.h")),
    ("answers.h", include_str!("../../../plugins/engine-js/answers.h")),
    ("columns.h", include_str!("../../../plugins/engine-js/columns.h")),
    ("engine.js", include_str!("../../../plugins/engine-js/engine.js")),
    ("sluice.js", include_str!("../../../plugins/sdk-js/sluice.js")),
    ("sluice.h", include_str!("../../../plugins/sdk-c/sluice.h")),
];

pub(super) fn build(folder: &Path, entry: &Path, kind: Kind) -> Result<Made> {
    let esbuild = modules(folder)?.join(".bin/esbuild");
    let scratch = scratch()?;
    let bundle = scratch.path().join("bundle.js");
    let mut command = Command::new(esbuild);
    command.arg(entry).args(["--bundle", "--format=esm", "--log-level=warning"]);
    command.args(["--external:sluice", "--external:*/sluice.js"]);
    command.arg(format!("--outfile={}", bundle.display()));
    run(&mut command, folder, || format!("{} does not compile: esbuild says why, above", folder.display()))?;
    let text =
        std::fs::read_to_string(bundle).doing(|| format!("cannot read what was made of {}", folder.display()))?;
    with_text(&text, kind).map(Made::Core)
}

/// The core module of a plugin that is one file of JavaScript.
pub(super) fn with_text(text: &str, kind: Kind) -> Result<Vec<u8>> {
    let problem = |problem| Error::Host(format!("the engine of JavaScript cannot take a text: {problem}"));
    text::put(ENGINE, text, kind).map_err(problem)
}

/// What the engine of scripts is made from.
pub(super) fn engine_sources() -> Vec<&'static str> {
    let files = FILES.iter().map(|(_, text)| *text);
    [QUICKJS, ZIG].into_iter().chain(FLAGS).chain(QUICKJS_FILES).chain(files).collect()
}

/// Makes the core module of the engine, by Zig, from the source of QuickJS.
pub(super) fn engine() -> Result<Vec<u8>> {
    let what = "the engine of JavaScript";
    let python = tools::python(ZIG, what)?.join("bin/python");
    let scratch = scratch()?;
    let folder = scratch.path();
    let failed = || format!("cannot fetch {QUICKJS} for {what}: pip says why, above");
    let fetch =
        ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary", ":all:"];
    run(Command::new(&python).args(fetch).arg(QUICKJS), folder, failed)?;
    let archive = format!("{}.tar.gz", QUICKJS_FOLDER.split('/').next().unwrap_or_default());
    let failed = || format!("cannot unpack {archive}: Python says why, above");
    run(Command::new(&python).args(["-m", "tarfile", "-e"]).arg(&archive), folder, failed)?;
    for (name, text) in FILES {
        std::fs::write(folder.join(name), text).doing(|| format!("cannot write {name} to {}", folder.display()))?;
    }
    let mut command = Command::new(&python);
    command.args(["-m", "ziglang", "cc"]).args(FLAGS).args(["engine.core.wasm", "engine.c"]);
    command.arg(format!("-isystem{QUICKJS_FOLDER}"));
    command.args(QUICKJS_FILES.map(|file| format!("{QUICKJS_FOLDER}/{file}")));
    run(&mut command, folder, || format!("{what} does not compile: Zig says why, above"))?;
    std::fs::read(folder.join("engine.core.wasm")).doing(|| format!("cannot read what was made of {what}"))
}

fn scratch() -> Result<tempfile::TempDir> {
    tempfile::tempdir().doing(|| "cannot make a temporary folder".to_owned())
}

/// `node_modules` with esbuild: the folder's own, or one in the cache for the same package.json.
fn modules(folder: &Path) -> Result<PathBuf> {
    let own = folder.join("node_modules");
    if own.join(".bin/esbuild").exists() {
        return own.canonicalize().doing(|| format!("cannot find {}", own.display()));
    }
    let package = std::fs::read_to_string(folder.join("package.json")).unwrap_or_else(|_| PACKAGE.into());
    Ok(tools::node(&package, "a JavaScript plugin")?.join("node_modules"))
}
