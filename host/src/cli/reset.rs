//! `sluice reset`: positions are set anew, by the operator's word.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tokio::runtime::Runtime;

use super::Verdict;
use crate::config::{Config, SourceKind};
use crate::error::{Error, Result};
use crate::ledger::operate::{self, NewPosition};
use crate::ledger::{Fold, Ledger};
use crate::record::TopicPartition;
use crate::source::kafka::{self, Log};
use crate::store;

/// Set positions anew: back, to judge records again; forward, to give expired offsets up as lost.
///
/// Stop the pipeline first. Going back makes new rows of the records from there on, beside those that are there.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sluice reset visits/0=184311              judge again from this offset on\n  \
sluice reset visits/0=99 visits/1=7 --gap   the offsets before these have expired: give them up\n  \
sluice reset visits=earliest --gap          the same for all partitions, wherever their logs begin now\n  \
sluice reset visits=earliest                the topic was deleted and made again: begin anew\n  \
sluice reset in/a.ndjson/0=1                read a file again from its first line")]
pub struct ResetArgs {
    /// TOPIC/PARTITION=OFFSET: the next offset (of a file: the next line) to read; of a Kafka topic also `earliest` and
    /// `latest`, and TOPIC=earliest for all partitions that have a position
    #[arg(value_name = "POSITION", required = true, value_parser = parse)]
    pub positions: Vec<Asked>,
    /// Give the offsets between the position and the new one up as lost
    #[arg(long)]
    pub gap: bool,
    /// The pipeline file
    #[arg(short = 'c', long = "config", value_name = "FILE", default_value = "sluice.toml")]
    pub config: PathBuf,
}

/// A position as it is typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    topic: String,
    /// `None`: every partition that has a position
    partition: Option<i32>,
    to: To,
}

/// Where a partition goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Offset(i64),
    /// where its log begins
    Earliest,
    /// where its log ends
    Latest,
}

fn parse(text: &str) -> std::result::Result<Asked, String> {
    let form = || {
        format!(
            "`{text}` is no position: write TOPIC/PARTITION=OFFSET, for example `visits/0=4711`, or `visits=earliest`"
        )
    };
    let (place, to) = text.rsplit_once('=').ok_or_else(form)?;
    let to = match to {
        "earliest" => To::Earliest,
        "latest" => To::Latest,
        offset => To::Offset(offset.parse().ok().filter(|offset| *offset >= 0).ok_or_else(form)?),
    };
    let numbered = place.rsplit_once('/').and_then(|(topic, n)| Some((topic, n.parse::<i32>().ok()?)));
    let (topic, partition) = match numbered {
        Some((topic, partition)) => (topic, Some(partition)),
        None => (place, None),
    };
    let fits = !topic.is_empty() && partition.is_none_or(|n| n >= 0) && (partition.is_some() || to.is_asked());
    fits.then(|| Asked { topic: topic.to_owned(), partition, to }).ok_or_else(form)
}

impl To {
    /// Whether the brokers have to be asked where it is.
    fn is_asked(self) -> bool {
        matches!(self, To::Earliest | To::Latest)
    }
}

/// Runs the command. `generation` is the hash of what the pipeline file says now.
pub fn run(args: &ResetArgs, config: &Config, generation: &str, runtime: &Runtime) -> Result<Verdict> {
    let (store, state) = store::open(&config.state)?;
    let ledger = runtime.block_on(Ledger::open(store, state, &config.name))?;
    let fold = runtime.block_on(ledger.fold())?;
    let positions = resolve(args, config, &fold)?;
    if positions.is_empty() {
        println!("nothing to give up: no position is below the one that was named");
        return Ok(Verdict::Done);
    }
    let done = runtime.block_on(operate::reset(&ledger, generation, &positions, args.gap))?;
    println!("{}: entry {}", if args.gap { "gap" } else { "reset" }, done.entry);
    for line in done.lines {
        println!("  {line}");
    }
    Ok(Verdict::Done)
}

/// What was typed, as offsets of partitions.
fn resolve(args: &ResetArgs, config: &Config, fold: &Fold) -> Result<Vec<NewPosition>> {
    let mut wanted: Vec<(TopicPartition, To)> = Vec::new();
    for asked in &args.positions {
        if let Some(partition) = asked.partition {
            wanted.push((TopicPartition::new(&*asked.topic, partition), asked.to));
            continue;
        }
        let before = wanted.len();
        let known = fold.positions.keys().filter(|partition| *partition.topic == *asked.topic);
        wanted.extend(known.map(|partition| (partition.clone(), asked.to)));
        if wanted.len() == before {
            return Err(Error::Config(format!("the ledger has no position of topic {}", asked.topic)));
        }
    }
    let asked: Vec<_> = wanted.iter().filter(|(_, to)| to.is_asked()).map(|(partition, _)| partition.clone()).collect();
    let logs = match &config.source.kind {
        SourceKind::Kafka(kafka) if !asked.is_empty() => kafka::logs(kafka, &asked)?,
        SourceKind::Kafka(_) => BTreeMap::new(),
        SourceKind::Files(_) | SourceKind::Stdin => match asked.first() {
            Some(partition) => {
                return Err(Error::Config(format!(
                    "{partition} is no topic of Kafka: name the line, which is 1 for the first"
                )));
            }
            None => BTreeMap::new(),
        },
    };
    let resolved = wanted.into_iter().map(|(partition, to)| {
        let log = logs.get(&partition);
        let of = |choose: fn(&Log) -> i64| {
            log.map(choose).ok_or_else(|| Error::Host(format!("no broker was asked for the log of {partition}")))
        };
        let offset = match to {
            To::Offset(offset) => offset,
            To::Earliest => of(|log| log.low)?,
            To::Latest => of(|log| log.high)?,
        };
        let topic_id = log.and_then(|log| log.topic_id.clone());
        Ok((NewPosition { partition, to: offset, topic_id }, to))
    });
    let resolved: Vec<_> = resolved.collect::<Result<_>>()?;
    // of several partitions some may have lost nothing
    let loses = |new: &NewPosition| fold.positions.get(&new.partition).is_none_or(|at| at.offset < new.to);
    let is_of_use = |(new, to): &(NewPosition, To)| !args.gap || !to.is_asked() || loses(new);
    Ok(resolved.into_iter().filter(is_of_use).map(|(new, _)| new).collect())
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
                Command::Reset(args) => args.positions.into_iter().map(move |asked| match asked {
                    Asked { topic, partition: Some(partition), to: To::Offset(to) } => {
                        (NewPosition { partition: TopicPartition::new(topic, partition), to, topic_id: None }, args.gap)
                    }
                    other => panic!("{other:?}"),
                }),
                other => panic!("{command} is {other:?}"),
            }
        };
        commands.flat_map(meant).collect()
    }

    #[test]
    fn a_position_is_topic_partition_and_offset() {
        for (text, expected) in [
            ("visits/0=4711", Some(("visits", Some(0), To::Offset(4711)))),
            ("in/a=b.ndjson/0=1", Some(("in/a=b.ndjson", Some(0), To::Offset(1)))),
            ("visits/2=earliest", Some(("visits", Some(2), To::Earliest))),
            ("visits=latest", Some(("visits", None, To::Latest))),
            ("visits=1", None),
            ("visits/0", None),
            ("visits/x=1", None),
            ("visits/0=-1", None),
            ("visits/-1=1", None),
            ("/0=1", None),
            ("=earliest", None),
        ] {
            let expected = expected.map(|(topic, partition, to)| Asked { topic: topic.to_owned(), partition, to });
            assert_eq!(parse(text).ok(), expected, "{text}");
        }
    }
}
