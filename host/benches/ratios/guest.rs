//! The rules of `../guest` as components, compiled here as `sluice build` compiles a user's.

use std::path::Path;

use sluice_host::component;

// the commands that `sluice build` and the build script use too
#[path = "../../src/component/toolchain.rs"]
mod toolchain;

/// A component of one of the rules, `one`, `three`, `ten` or `texts`.
///
/// # Panics
/// Where it does not compile.
pub fn component(rule: &str, is_reused: bool) -> Vec<u8> {
    let host = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest");
    let toolchain = toolchain::find().unwrap_or_else(|problem| panic!("{problem}"));
    let root = host.parent().expect("the host is a folder of the workspace").to_owned();
    let mut command = toolchain::build_command(&toolchain, &target, &[(root, "plugin")]);
    command.arg("--quiet").arg("--manifest-path").arg(host.join("benches/guest/Cargo.toml"));
    command.arg("--features").arg(if is_reused { format!("{rule},reused") } else { rule.to_owned() });
    let status = command.status().expect("cargo starts");
    assert!(status.success(), "the rule `{rule}` does not compile: {status}");
    let core = target.join(toolchain::TARGET).join("release/boundary_guest.wasm");
    let core = std::fs::read(&core).unwrap_or_else(|error| panic!("{}: {error}", core.display()));
    component::encode(&core).expect("what the SDK makes is a plugin")
}
