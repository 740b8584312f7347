//! A Go plugin's folder → its core module, by the standard compiler.

use std::path::Path;
use std::process::Command;

use super::Made;
use super::tools::{exists, run};
use crate::error::{Doing, Error, Result};

pub(super) fn build(folder: &Path) -> Result<Made> {
    if !exists("go") {
        let text = format!("{} is a Go plugin: install Go 1.24 or newer (https://go.dev/dl)", folder.display());
        return Err(Error::Config(text));
    }
    let doing = || "cannot make a temporary folder".to_owned();
    let scratch = tempfile::tempdir().doing(doing)?;
    let core = scratch.path().join("rule.core.wasm");
    let mut command = Command::new("go");
    command.args(["build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o"]).arg(&core).arg(".");
    command.env("GOOS", "wasip1").env("GOARCH", "wasm").env("CGO_ENABLED", "0");
    run(&mut command, folder, || format!("{} does not compile: go says why, above", folder.display()))?;
    std::fs::read(&core).map(Made::Core).doing(|| format!("cannot read what go made of {}", folder.display()))
}
