//! `sluice build`: a plugin's folder, or a core module, → a component.

use std::path::PathBuf;

use super::text;
use crate::component;
use crate::error::Result;
use crate::script::Language;

/// Make the component of a plugin.
///
/// PATH is a plugin's folder: in Rust (Cargo.toml), Go (go.mod), C, Python, JavaScript or TypeScript (rule.c, enricher.py and
/// so on). It is compiled with that language's own tools; those that a package manager can fetch are kept in this user's
/// cache. Or PATH is a core module (*.wasm) that another compiler made, or one module of JavaScript (*.js), which needs no tool.
/// No component imports WASI: what is left of it is stood in for.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sluice build                               the plugin in this folder → ./<name>.wasm\n  \
sluice build plugins/consent               → plugins/consent.wasm, beside the folder\n  \
sluice build plugins/consent -o rule.wasm\n  \
sluice build rule.core.wasm                → rule.wasm\n  \
sluice build rules/consent.js              → rules/consent.wasm\n  \
sluice build --engine python               what `python = \"rules/consent.py\"` needs, once"
)]
pub struct BuildArgs {
    /// The plugin's folder, or a core module, or a module of JavaScript
    #[arg(default_value = ".", value_name = "PATH")]
    pub path: PathBuf,
    /// Make the engine of scripts in that language instead: Python's, into this user's data folder
    #[arg(long, value_name = "LANGUAGE", conflicts_with = "path")]
    pub engine: Option<Language>,
    /// Where to write the component
    #[arg(short, long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &BuildArgs) -> Result<()> {
    if let Some(language) = args.engine {
        let (path, bytes) = component::build_engine(language, args.out.as_deref())?;
        println!("{}  the engine of scripts in {language}, {}", path.display(), text::bytes(bytes as u64));
        return Ok(());
    }
    let built = if args.path.is_file() {
        component::encode_file(&args.path, args.out.as_deref())?
    } else {
        component::build(&args.path, args.out.as_deref())?
    };
    let component::Built { path, bytes, kind, name } = built;
    println!("{}  {kind} {name}, {}", path.display(), text::bytes(bytes as u64));
    Ok(())
}
