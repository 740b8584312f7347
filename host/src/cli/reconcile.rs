//! `sluice reconcile`: the proof that every record and row is accounted for, once.

use std::path::PathBuf;

use tokio::runtime::Runtime;

use super::Verdict;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::reconcile::{self, Report};

/// Prove from ledger and tables that every record and row is accounted for, once.
///
/// Applies nothing and repairs nothing; it may run while the pipeline does.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sluice reconcile\n  sluice reconcile pipelines/visits.toml --json | jq .discrepancies\n\n\
Exit codes: 0 everything is accounted for; 1 something is not; 2 ledger or tables cannot be read"
)]
pub struct ReconcileArgs {
    /// The pipeline file
    #[arg(value_name = "FILE", default_value = "sluice.toml")]
    pub file: PathBuf,
    /// As one JSON object: ok, counts, pending, notes, discrepancies, advice
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(args: &ReconcileArgs, config: &Config, runtime: &Runtime) -> Result<Verdict> {
    let report: Report = runtime.block_on(reconcile::pipeline(config))?;
    if args.json {
        let text =
            serde_json::to_string_pretty(&report).map_err(|e| Error::Host(format!("a report is no JSON: {e}")))?;
        println!("{text}");
    } else {
        println!("{report}");
    }
    Ok(Verdict::of(report.ok))
}
