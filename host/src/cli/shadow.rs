//! `sluice shadow` and `sluice promote`: a candidate generation beside the one in force, and putting it in force.
//!
//! Where the pipeline file names an admin endpoint that answers, the running host is asked; else the state folder is written,
//! which a running host reads within seconds.

use std::path::{Path, PathBuf};

use super::text::{share, thousands};
use super::{PipelineArg, Verdict, open};
use crate::admin::{self, Asked, Begin};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::generation::short;
use crate::shadow::{Order, Progress, Side, State, control};

/// Judge the same batches by a candidate generation too, and record only what differs.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sluice shadow start --with next.toml --share 10%\n  sluice shadow status\n  sluice promote\n\n\
What differs is kept row by row in a Delta table under the state folder; `shadow status` names it. Nothing of the pipeline's \
tables changes until `sluice promote`."
)]
pub struct ShadowArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Let a candidate judge beside
    Start {
        /// The pipeline file of the candidate: what judges in it counts, and nothing else
        #[arg(long, value_name = "FILE")]
        with: PathBuf,
        /// Of the batches
        #[arg(long, default_value = "100%", value_parser = parse_share)]
        share: f64,
        #[command(flatten)]
        pipeline: PipelineArg,
    },
    /// What it would do otherwise so far
    Status {
        #[command(flatten)]
        pipeline: PipelineArg,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// End it; what was recorded stays
    Stop {
        #[command(flatten)]
        pipeline: PipelineArg,
    },
}

/// Put the shadow's candidate in force.
///
/// A running pipeline follows at its next entry. What the pipeline file says is left alone, and counts again as soon as it
/// changes. `sluice rollback` undoes it.
#[derive(Debug, clap::Args)]
pub struct PromoteArgs {
    #[command(flatten)]
    pipeline: PipelineArg,
}

/// `10%`: above nothing, at most all.
pub fn parse_share(text: &str) -> Result<f64, String> {
    let percent: Option<f64> = text.strip_suffix('%').and_then(|percent| percent.trim().parse().ok());
    match percent {
        Some(percent) if percent > 0.0 && percent <= 100.0 => Ok(percent / 100.0),
        Some(_) | None => Err(format!("a share is more than 0% and at most 100%, not `{text}`")),
    }
}

/// Runs `sluice shadow`.
pub fn run(args: &ShadowArgs) -> Result<Verdict> {
    match &args.what {
        What::Start { with, share, pipeline } => {
            println!("{}", ask(&pipeline.config, &Asked::Shadow(Begin { with: with.clone(), share: *share }))?);
            Ok(Verdict::Done)
        }
        What::Stop { pipeline } => {
            println!("{}", ask(&pipeline.config, &Asked::Stop)?);
            Ok(Verdict::Done)
        }
        What::Status { pipeline, json } => status(&pipeline.config, *json),
    }
}

/// Runs `sluice promote`.
pub fn promote(args: &PromoteArgs) -> Result<Verdict> {
    println!("{}", ask(&args.pipeline.config, &Asked::Promote)?);
    Ok(Verdict::Done)
}

/// Asks the running host, or does it where none answers.
pub fn ask(file: &Path, asked: &Asked) -> Result<String> {
    let config = Config::load(file)?;
    if let Some(answer) = admin::ask(&config.admin, asked)? {
        return Ok(answer);
    }
    let today = open::chain(file)?;
    let runtime = open::runtime()?;
    let follow = open::follow(&today.config, &runtime)?;
    admin::carry_out(asked, &follow, &today.config, &today.engine)
}

fn status(file: &Path, json: bool) -> Result<Verdict> {
    let config = Config::load(file)?;
    let runtime = open::runtime()?;
    let follow = open::follow(&config, &runtime)?;
    let Some(order) = control::read(&follow)? else {
        return Err(Error::Config("this pipeline had no shadow yet: `sluice shadow start --with FILE`".into()));
    };
    let seen = runtime.block_on(crate::shadow::progress(&follow, &order))?;
    let table = crate::shadow::place(&config, &order.id);
    if json {
        println!("{}", serde_json::json!({ "order": order, "seen": seen, "table": table.written }));
    } else {
        print!("{}", shown(&order, &seen, &table.written));
    }
    Ok(Verdict::Done)
}

fn shown(order: &Order, seen: &Progress, table: &str) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    let mut line = |name: &str, what: String| {
        writeln!(text, "  {name:<10} {what}").expect("a string takes everything");
    };
    let since = order.since.format("%Y-%m-%d %H:%M:%S");
    let state = match &order.state {
        State::Running => format!("on {} % of the batches since {since} UTC", admin::percent(order.share)),
        State::Stopped { why } => format!("over: {why}"),
        State::Promoted { why, .. } => format!("promoted: {why}"),
        State::Undone { why } => format!("promoted and undone: {why}"),
    };
    line("state", state);
    line("compared", format!("{} records in {} batches", thousands(seen.records), thousands(seen.batches)));
    line("flips", format!("{} records, {}", thousands(seen.flipped), share(seen.flipped, seen.records)));
    for (flip, rows) in &seen.flips {
        let samples = seen.samples.get(flip).map(|all| all.join("  ")).unwrap_or_default();
        line("", format!("{flip:<16} {:>9} rows  {samples}", thousands(*rows)));
    }
    for (name, all) in [("gained", &seen.gained), ("lost", &seen.lost), ("columns", &seen.columns)] {
        for (n, (key, rows)) in all.iter().enumerate() {
            line(if n == 0 { name } else { "" }, format!("{key:<32} {:>9} rows", thousands(*rows)));
        }
    }
    let cost = |side: &Side| {
        let per_row = |n: u64| n.checked_div(seen.rows).unwrap_or(0);
        format!("{} ns, {} fuel a row", thousands(per_row(side.nanos)), thousands(per_row(side.fuel)))
    };
    line("cost", format!("{} in force · {} the candidate", cost(&seen.active), cost(&seen.candidate)));
    line("rows", table.to_owned());
    format!("shadow of generation {} beside {}\n{text}", short(&order.candidate), short(&order.base))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_some_of_the_batches() {
        assert_eq!(parse_share("10%"), Ok(0.1));
        assert_eq!(parse_share("100 %"), Ok(1.0));
        for wrong in ["0%", "101%", "10", "x%", "NaN%"] {
            assert!(parse_share(wrong).is_err(), "{wrong}");
        }
    }
}
