//! `sluice rollback`: an earlier generation judges again.

use std::path::PathBuf;

use super::Verdict;
use crate::admin::{Asked, Back};
use crate::error::Result;

/// Put an earlier generation in force: the one before, or the one that is named.
///
/// A running pipeline follows within seconds, at a commit boundary; one that is stopped judges by it when it starts. What
/// the pipeline file says is left alone, and counts again as soon as it changes. `sluice history` lists the generations.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sluice rollback\n  sluice rollback 7f3a1c")]
pub struct RollbackArgs {
    /// The beginning of a generation's hash [default: the one that was in force before]
    pub generation: Option<String>,
    /// The pipeline file
    #[arg(short = 'c', long = "config", value_name = "FILE", default_value = "sluice.toml")]
    pub config: PathBuf,
}

/// Runs the command.
pub fn run(args: &RollbackArgs) -> Result<Verdict> {
    println!("{}", super::shadow::ask(&args.config, &Asked::Rollback(Back { generation: args.generation.clone() }))?);
    Ok(Verdict::Done)
}
