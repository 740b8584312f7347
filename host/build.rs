//! Compiles the ready-made plugins to WebAssembly, so that the binary carries them.
//!
//! Cargo inside cargo: it gets a target folder of its own, so that the two never wait for each other's lock. The host makes a
//! component of each core module when it is first used; here that would need the component tools compiled twice.

use std::path::{Path, PathBuf};

// `sluice build` finds its toolchain by the same code
#[path = "src/component/toolchain.rs"]
mod toolchain;

/// The ready-made ones, and the demo's own, so that the demo needs no toolchain.
const EMBEDDED: [&str; 3] = ["timely", "consent", "learned"];

fn main() {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let host = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let root = host.parent().expect("the host is a folder of the workspace").to_owned();
    for watched in ["plugins/sdk", "wit"].into_iter().map(|folder| root.join(folder)) {
        println!("cargo::rerun-if-changed={}", watched.display());
    }
    println!("cargo::rerun-if-changed={}", host.join("src/component/toolchain.rs").display());
    for plugin in EMBEDDED {
        println!("cargo::rerun-if-changed={}", root.join("plugins").join(plugin).display());
        if let Err(problem) = compile(&root, plugin, &out) {
            println!(
                "cargo::error=the plugin `{plugin}`, which is embedded in the binary, cannot be compiled: {problem}"
            );
        }
    }
}

fn compile(root: &Path, plugin: &str, out: &Path) -> Result<(), String> {
    let toolchain = toolchain::find()?;
    let target = out.join("guest");
    let home = std::env::var_os("CARGO_HOME").map(|home| (PathBuf::from(home), "cargo"));
    let sources: Vec<_> = [(root.to_owned(), "plugin")].into_iter().chain(home).collect();
    let mut command = toolchain::build_command(&toolchain, &target, &sources);
    command.arg("--lib").arg("--manifest-path").arg(root.join("plugins").join(plugin).join("Cargo.toml"));
    let output = command.output().map_err(|error| format!("cannot run cargo: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).replace('\n', " · "));
    }
    let core = target.join(toolchain::TARGET).join("release").join(format!("{}.wasm", plugin.replace('-', "_")));
    let kept = out.join(format!("{plugin}.core.wasm"));
    std::fs::copy(&core, kept).map_err(|error| format!("cannot copy {}: {error}", core.display()))?;
    Ok(())
}
