//! A C plugin's folder → its core module, by clang and lld, or by Zig, which brings both.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Made;
use super::tools::{self, exists, run, succeeds};
use crate::error::{Doing, Error, Result};

/// Versions of clang that are looked for beside plain `clang`: Debian's carry their number.
const CLANGS: std::ops::RangeInclusive<u32> = 14..=23;

/// Zig as a package of Python: the last resort, since it needs no administrator.
pub(super) const ZIG: &str = "ziglang==0.17.0";

pub(super) fn build(folder: &Path) -> Result<Made> {
    let doing = || format!("cannot list {}", folder.display());
    let entries = std::fs::read_dir(folder).doing(doing)?;
    let files = entries.flatten().map(|entry| PathBuf::from(entry.file_name()));
    let mut sources: Vec<PathBuf> = files.filter(|file| file.extension().is_some_and(|e| e == "c")).collect();
    sources.sort();
    let scratch = tempfile::tempdir().doing(|| "cannot make a temporary folder".to_owned())?;
    let core = scratch.path().join("rule.core.wasm");
    let mut command = compiler()?;
    command.args(["-O2", "-std=c11", "-Wall", "-nostdlib", "-mbulk-memory", "-Wl,--no-entry", "-Wl,--strip-all", "-o"]);
    command.arg(&core).args(sources);
    run(&mut command, folder, || format!("{} does not compile: the compiler says why, above", folder.display()))?;
    std::fs::read(&core).map(Made::Core).doing(|| format!("cannot read what was made of {}", folder.display()))
}

/// A compiler of C for WebAssembly.
fn compiler() -> Result<Command> {
    let names = std::iter::once(String::new()).chain(CLANGS.rev().map(|version| format!("-{version}")));
    for version in names {
        let (clang, linker) = (format!("clang{version}"), format!("wasm-ld{version}"));
        // a clang for one machine only (Apple's) knows no other
        if exists(&clang) && exists(&linker) && succeeds(&clang, ["--target=wasm32", "-E", "-x", "c", "/dev/null"]) {
            let mut command = Command::new(clang);
            command.arg("--target=wasm32");
            return Ok(command);
        }
    }
    let zig = |mut command: Command| {
        command.args(["cc", "--target=wasm32-freestanding"]);
        command
    };
    if exists("zig") {
        return Ok(zig(Command::new("zig")));
    }
    let with_module = |python: PathBuf| {
        let mut command = Command::new(python);
        command.args(["-m", "ziglang"]);
        zig(command)
    };
    if succeeds("python3", ["-m", "ziglang", "version"]) {
        return Ok(with_module("python3".into()));
    }
    let missing = |why: Error| {
        Error::Config(format!(
            "a C plugin needs clang and lld (Debian: apt-get install clang-14 lld-14), or Zig (pip install {ZIG}): {why}"
        ))
    };
    tools::python(ZIG, "a C plugin").map(|venv| with_module(venv.join("bin/python"))).map_err(missing)
}
