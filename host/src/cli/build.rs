//! `sluice build`: the folder of a Rust plugin, or a core module of any language, → a component.

use std::path::PathBuf;

use super::text;
use crate::component;
use crate::error::Result;

/// Make the component of a plugin.
///
/// PATH is the folder of a Rust plugin, which is compiled with the toolchain that is installed (or fetched by rustup, or
/// from Debian's packages), or a core module (*.wasm) that another compiler made. The component is wrapped in this process.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sluice build                               the plugin in this folder → ./<name>.wasm\n  \
sluice build plugins/consent               → plugins/consent.wasm, beside the folder\n  \
sluice build plugins/consent -o rule.wasm\n  \
sluice build rule.core.wasm                → rule.wasm"
)]
pub struct BuildArgs {
    /// The plugin's folder, or a core module
    #[arg(default_value = ".", value_name = "PATH")]
    pub path: PathBuf,
    /// Where to write the component
    #[arg(short, long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &BuildArgs) -> Result<()> {
    let built = if args.path.is_file() {
        component::encode_file(&args.path, args.out.as_deref())?
    } else {
        component::build(&args.path, args.out.as_deref())?
    };
    let component::Built { path, bytes, kind, name } = built;
    println!("{}  {kind} {name}, {}", path.display(), text::bytes(bytes as u64));
    Ok(())
}
