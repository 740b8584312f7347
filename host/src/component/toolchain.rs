//! A toolchain that compiles Rust to WebAssembly: the one that is installed, or the one that can be fetched.
//!
//! Only the standard library: `build.rs` includes this file too, to compile the embedded plugins.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The target that plugins are compiled for: no WASI, hence nothing to import.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// What is said where nothing helps.
const MISSING: &str = "no Rust toolchain for WebAssembly: install rustup and run `rustup target add \
                       wasm32-unknown-unknown`, or on Debian `apt-get install rustc-web cargo-web rust-web-src lld-19`";

/// Debian's packages: their standard library comes as source, and is compiled with the plugin.
const DEBIAN: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "lld-19"];

/// How a plugin is compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// This cargo, whose rustc has the target.
    Cargo(OsString),
    /// Debian's, in /usr/bin: the standard library is built from source.
    Debian,
}

/// Finds a toolchain, or fetches one: what is installed, then rustup's target, then Debian's packages.
pub fn find() -> Result<Toolchain, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    if has_target(&rustc) {
        return Ok(Toolchain::Cargo(cargo));
    }
    if is_debian_ready() {
        return Ok(Toolchain::Debian);
    }
    if succeeds(Command::new("rustup").args(["target", "add", TARGET])) && has_target(&rustc) {
        return Ok(Toolchain::Cargo(cargo));
    }
    if install_debian() && is_debian_ready() {
        return Ok(Toolchain::Debian);
    }
    Err(MISSING.into())
}

/// `cargo build --release` for the target, with nothing of the surrounding build in its environment; the caller adds what
/// to build. `sources` are folders whose paths must not show in the component, so that it is the same on every machine.
pub fn build_command(toolchain: &Toolchain, target_folder: &Path, sources: &[(PathBuf, &str)]) -> Command {
    let mut command = match toolchain {
        Toolchain::Cargo(cargo) => Command::new(cargo),
        Toolchain::Debian => Command::new("/usr/bin/cargo"),
    };
    command.args(["build", "--release", "--target", TARGET, "--target-dir"]).arg(target_folder);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_of_another_build) {
            command.env_remove(&name);
        }
    }
    let remaps = sources.iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()));
    command.env("CARGO_ENCODED_RUSTFLAGS", remaps.collect::<Vec<_>>().join("\u{1f}"));
    // a panic is reported by the SDK's hook, so neither unwinding nor names are worth their bytes
    for (key, value) in
        [("LTO", "true"), ("CODEGEN_UNITS", "1"), ("PANIC", "abort"), ("STRIP", "true"), ("DEBUG", "false")]
    {
        command.env(format!("CARGO_PROFILE_RELEASE_{key}"), value);
    }
    if *toolchain == Toolchain::Debian {
        command.args(["-Z", "build-std=std,panic_abort"]);
        command.env("RUSTC_BOOTSTRAP", "1").env("RUSTC", "/usr/bin/rustc");
        command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "wasm-ld-19");
    }
    command
}

/// What cargo, rustup and the user say to the build that we are part of, and not to this one.
fn is_of_another_build(name: &str) -> bool {
    const NAMES: [&str; 9] = [
        "RUSTFLAGS",
        "RUSTDOCFLAGS",
        "RUSTC",
        "RUSTDOC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_LINKER",
        "CARGO_MAKEFLAGS",
        "MAKEFLAGS",
    ];
    const PREFIXES: [&str; 6] =
        ["CARGO_ENCODED_", "CARGO_BUILD_", "CARGO_TARGET_", "CARGO_PROFILE_", "CARGO_CFG_", "CARGO_FEATURE_"];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether this rustc has the target's standard library.
fn has_target(rustc: &OsString) -> bool {
    let printed = Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]).output();
    let Ok(printed) = printed else { return false };
    let folder = PathBuf::from(String::from_utf8_lossy(&printed.stdout).trim());
    printed.status.success()
        && std::fs::read_dir(folder).is_ok_and(|mut entries| {
            entries.any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("libstd-")))
        })
}

fn is_debian_ready() -> bool {
    ["/usr/bin/cargo", "/usr/bin/rustc", "/usr/bin/wasm-ld-19"].iter().all(|file| Path::new(file).exists())
        && std::fs::read_dir("/usr/lib/rustlib/src").or_else(|_| std::fs::read_dir("/usr/src")).is_ok()
}

/// Only as root, and only where apt-get is: otherwise the packages are named, not installed.
fn install_debian() -> bool {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
    let apt = || {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        apt
    };
    is_root
        && succeeds(apt().arg("update"))
        && succeeds(apt().args(["install", "--yes", "--no-install-recommends"]).args(DEBIAN))
}

/// Runs a command that need not exist. Its output is not ours to show: what matters is checked afterwards.
fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
