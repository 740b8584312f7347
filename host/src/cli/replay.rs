//! `sluice replay`: rows of error, or dead letters, through what judges today.

use std::sync::Arc;

use super::run::in_force;
use super::text::{Paint, plural, thousands};
use super::{PipelineArg, Verdict, open};
use crate::error::{Error, Result};
use crate::ledger::entry::Cause;
use crate::outcome::Outcome;
use crate::pipeline::replay::{Replayed, Request, replay};
use crate::pipeline::{Activated, activate_stopped};

/// Send rows of error, or dead letters, through the rules of today.
///
/// What is said of a row now and was not before, becomes a new row with the same coordinates and `_attempt` + 1, in the
/// table where it belongs today; the old one stays, as tables only grow. A row of which the same is said as before stays as
/// it is, so that a replay which is repeated does nothing. It may run beside the pipeline.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sluice replay error --dry-run\n  \
sluice replay error --where \"page = 'main' AND _offset < 5000\"\n  sluice replay dlq --where \"reason = 'wrong-type'\"")]
pub struct ReplayArgs {
    /// error or dlq
    #[arg(value_name = "SINK", value_parser = parse_sink)]
    pub sink: Outcome,
    /// Which of its rows: a SQL expression over the columns of the table
    #[arg(long = "where", value_name = "SQL")]
    pub condition: Option<String>,
    /// Judge and count, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Whose tables
    #[command(flatten)]
    pub pipeline: PipelineArg,
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
}

fn parse_sink(text: &str) -> Result<Outcome, String> {
    match text {
        "error" => Ok(Outcome::Error),
        "dlq" => Ok(Outcome::Dlq),
        _ => Err("what can be replayed is error or dlq".into()),
    }
}

/// Runs the command.
pub fn run(args: &ReplayArgs) -> Result<Verdict> {
    let runtime = open::runtime()?;
    let chain = open::chain(&args.pipeline.config)?;
    let follow = open::follow(&chain.config, &runtime)?;
    let active = follow.fold()?.active.ok_or_else(|| {
        Error::Config("there is nothing to replay yet: the pipeline never ran. `sluice run` begins it".into())
    })?;
    let chain = Arc::new(in_force(chain, &follow)?);
    if chain.generation.hash != active && !args.dry_run {
        // as a run would: rows are judged by what is in force, and by nothing else
        let activated = activate_stopped(&follow, chain.clone(), Cause::File)?;
        if let Activated::At(entry) = activated
            && !args.json
        {
            println!("generation {} is in force from entry {entry} on", chain.generation.short());
        }
    }
    let request = Request { of: args.sink, condition: args.condition.clone(), dry_run: args.dry_run };
    let replayed = replay(&follow, &chain, &request)?;
    if args.json {
        println!("{}", json(&request, chain.generation.short(), &replayed));
    } else {
        print!("{}", text(&request, chain.generation.short(), &replayed, Paint::stdout()));
    }
    Ok(Verdict::Done)
}

fn text(request: &Request, generation: &str, replayed: &Replayed, paint: Paint) -> String {
    let Request { of, dry_run, .. } = request;
    let counts = &replayed.counts;
    let mut text = format!("{of}: {} chosen · generation {generation}\n", plural(replayed.chosen, "row"));
    let line = |n: u64, what: &str| if n > 0 { format!("  {:>11}  {what}\n", thousands(n)) } else { String::new() };
    let as_now = match (replayed.entry, dry_run) {
        (Some(entry), _) => format!("sent · entry {entry}"),
        (None, true) => "would be sent".to_owned(),
        (None, false) => "sent".to_owned(),
    };
    text += &line(counts.rows, &as_now);
    for outcome in Outcome::LAST {
        let name = format!("{:<5}", outcome.as_str());
        let name = match outcome {
            Outcome::Valid => paint.green(&name),
            Outcome::Error => paint.red(&name),
            Outcome::Dlq | Outcome::Staging => paint.yellow(&name),
            Outcome::Derived(_) => name,
        };
        if counts.of(outcome) > 0 {
            text += &format!("      → {name} {:>11}\n", thousands(counts.of(outcome)));
        }
    }
    text += &line(replayed.unchanged, "stay: the same is said of them as before");
    text += &line(replayed.gone, "stay: no such row is made of their records any more");
    text += &line(replayed.decided, "stay: the audit of their window put them there");
    text += &line(replayed.unasked, "stay: they cannot be judged again");
    for (name, reads) in &replayed.needs {
        let reads: Vec<&str> = reads.iter().map(|path| &**path).collect();
        text += &format!("               {name} reads {}, which is not stored for all of them\n", reads.join(", "));
    }
    if replayed.entry.is_none() && !dry_run {
        text += "  nothing to send: nothing was written\n";
    }
    text
}

fn json(request: &Request, generation: &str, replayed: &Replayed) -> String {
    let Replayed { chosen, counts, unchanged, gone, unasked, decided, needs, entry } = replayed;
    let needs: std::collections::BTreeMap<&str, Vec<&str>> =
        needs.iter().map(|(name, reads)| (&**name, reads.iter().map(|path| &**path).collect())).collect();
    serde_json::json!({
        "of": request.of, "where": request.condition, "dry_run": request.dry_run, "generation": generation,
        "chosen": chosen, "sent": counts, "unchanged": unchanged, "gone": gone, "unasked": unasked, "decided": decided, "needs": needs,
        "entry": entry,
    })
    .to_string()
}
