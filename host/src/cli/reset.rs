//! `sluice reset`: positions are set anew, by the operator's word.

use std::path::PathBuf;

use tokio::runtime::Runtime;

use super::Verdict;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::ledger::Ledger;
use crate::ledger::operate::{self, NewPosition};
use crate::record::TopicPartition;
use crate::store;

/// Set positions anew: back, to judge records again; forward, to give expired offsets up as lost.
///
/// Stop the pipeline first. Going back makes new rows of the records from there on, beside those that are there.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sluice reset visits/0=184311              judge again from this offset on\n  \
sluice reset visits/0=99 visits/1=7 --gap   the offsets before these have expired: give them up\n  \
sluice reset in/a.ndjson/0=1                read a file again from its first line")]
pub struct ResetArgs {
    /// TOPIC/PARTITION=OFFSET: the next offset (of a file: the next line) to read
    #[arg(value_name = "POSITION", required = true, value_parser = parse)]
    pub positions: Vec<NewPosition>,
    /// Give the offsets between the position and the new one up as lost
    #[arg(long)]
    pub gap: bool,
    /// The pipeline file
    #[arg(short = 'c', long = "config", value_name = "FILE", default_value = "sluice.toml")]
    pub config: PathBuf,
}

fn parse(text: &str) -> std::result::Result<NewPosition, String> {
    let form = || format!("`{text}` is no position: write TOPIC/PARTITION=OFFSET, for example `visits/0=4711`");
    let (partition, offset) = text.rsplit_once('=').ok_or_else(form)?;
    let (topic, partition) = partition.rsplit_once('/').ok_or_else(form)?;
    if matches!(offset, "earliest" | "latest") {
        return Err(format!("`{offset}` is not available yet here: name the offset"));
    }
    let partition = partition.parse::<i32>().ok().filter(|p| *p >= 0 && !topic.is_empty()).ok_or_else(form)?;
    let to = offset.parse::<i64>().ok().filter(|to| *to >= 0).ok_or_else(form)?;
    Ok(NewPosition { partition: TopicPartition::new(topic, partition), to, topic_id: None })
}

/// Runs the command. `generation` is the hash of what the pipeline file says now.
pub fn run(args: &ResetArgs, config: &Config, generation: &str, runtime: &Runtime) -> Result<Verdict> {
    let done = runtime.block_on(async {
        let (store, state) = store::open(&config.state)?;
        let ledger = Ledger::open(store, state, &config.name).await?;
        operate::reset(&ledger, generation, &args.positions, args.gap).await
    })?;
    println!("{}: entry {}", if args.gap { "gap" } else { "reset" }, done.entry);
    for line in done.lines {
        println!("  {line}");
    }
    Ok::<_, Error>(Verdict::Done)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser as _;

    /// What the `sluice reset` commands in a message mean, typed into a shell: position, and whether it is a gap.
    pub(crate) fn printed(message: &str) -> Vec<(NewPosition, bool)> {
        let commands = message.split('`').skip(1).step_by(2).filter(|code| code.starts_with("sluice reset"));
        let meant = |command: &str| {
            let typed = std::process::Command::new("sh").args(["-c", &format!("printf '%s\\n' {command}")]).output();
            let typed = String::from_utf8(typed.unwrap().stdout).unwrap();
            match Cli::try_parse_from(typed.lines()).unwrap_or_else(|e| panic!("{command}: {e}")).command {
                Command::Reset(args) => args.positions.into_iter().map(move |position| (position, args.gap)),
                other => panic!("{command} is {other:?}"),
            }
        };
        commands.flat_map(meant).collect()
    }

    #[test]
    fn a_position_is_topic_partition_and_offset() {
        for (text, expected) in [
            ("visits/0=4711", Some(("visits", 0, 4711))),
            ("in/a=b.ndjson/0=1", Some(("in/a=b.ndjson", 0, 1))),
            ("visits=1", None),
            ("visits/0", None),
            ("visits/x=1", None),
            ("visits/0=-1", None),
            ("/0=1", None),
            ("visits/0=latest", None),
        ] {
            let got = parse(text).ok().map(|p| (p.partition.topic.to_string(), p.partition.partition, p.to));
            assert_eq!(got, expected.map(|(topic, partition, to)| (topic.to_owned(), partition, to)), "{text}");
        }
    }
}
