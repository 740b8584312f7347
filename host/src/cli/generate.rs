//! `sluice generate KIND`: seeded test data, to a file or a topic, with its tally.
//!
//! Parses arguments and shows progress; the data is made in [`crate::generate`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use super::text::thousands;
use crate::error::{Doing, Error, Result};
use crate::generate::{Damage, Kind, Output, Pace, START, Share, Spec, Tally, Visits, ending_now};
use crate::source::kafka::produce::Producer;

/// Make seeded test data, to a file or a topic, with a tally of what was planted in it
#[derive(Debug, Args)]
pub struct GenerateArgs {
    #[command(subcommand)]
    kind: GenerateKind,
}

#[derive(Debug, Subcommand)]
enum GenerateKind {
    Visits(VisitsArgs),
}

/// Visits of a web site: nested JSON of about 480 bytes
///
/// Shares are met exactly: 2% of 100,000 are 2,000 records. The same seed gives the same bytes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct VisitsArgs {
    /// How many records
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    records: u64,
    /// The same seed gives the same bytes
    #[arg(long, value_name = "S", default_value_t = 7)]
    seed: u64,
    /// Share with damage; of the records, or of the visits (--damage-by)
    #[arg(long, value_name = "SHARE", default_value = "2%")]
    damage: Share,
    /// What a share of damage is counted in
    #[arg(long, value_enum, default_value_t = By::Record)]
    damage_by: By,
    /// Kinds of damage by record, each with an optional weight: no-user, no-page, login-exposed, wrong-type
    #[arg(long, value_name = "KIND[=N],…", value_delimiter = ',', value_parser = Kind::weighted, default_value = "no-user=3,login-exposed=1")]
    kinds: Vec<(Kind, u32)>,
    /// Share of payloads that are not JSON
    #[arg(long, value_name = "SHARE", default_value = "0.5%")]
    not_json: Share,
    /// Share of good records that come a second time
    #[arg(long, value_name = "SHARE", default_value = "0%")]
    duplicates: Share,
    /// Share of good records whose event time lies 8 to 30 days before the flow
    #[arg(long, value_name = "SHARE", default_value = "0%")]
    late: Share,
    /// Time of the first record; by default 2026-11-01T00:00:00Z for a file, and for a topic so that the flow ends now
    #[arg(long, value_name = "TIME", value_parser = instant)]
    start: Option<i64>,
    /// File to write, replaced if it is there; .gz and .zst compress, - is standard output
    #[arg(long, value_name = "FILE", required_unless_present = "topic", conflicts_with = "topic")]
    out: Option<PathBuf>,
    /// Topic to write to, created where it is not there
    #[arg(long, value_name = "TOPIC", requires = "brokers")]
    topic: Option<String>,
    /// Brokers of the topic
    #[arg(long, value_name = "HOST:PORT,…", env = "KAFKA_BROKERS")]
    brokers: Option<String>,
    /// Partitions to spread the visits over, when writing to a topic
    #[arg(long, value_name = "P", default_value_t = 4)]
    partitions: u32,
    /// A further setting of librdkafka
    #[arg(short = 'X', value_name = "KEY=VALUE", value_parser = property)]
    properties: Vec<(String, String)>,
    /// Records per second; by default as fast as it can
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// File for the tally, as JSON
    #[arg(long, value_name = "FILE")]
    tally: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  sluice generate visits --out visits.ndjson --tally tally.json
  sluice generate visits --records 1000000 --kinds no-user,no-page --late 1% --out visits.ndjson.zst
  sluice generate visits --topic visits --brokers localhost:9092 --partitions 4 --rate 1000
  sluice generate visits --records 20 --damage 10% --out - | sluice try -";

/// What a share of damage is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    /// exactly this share of the records, each with one of --kinds
    Record,
    /// this share of the visits: their records lose 1 to 6 top-level fields each, and what is lost stays lost
    Visit,
}

/// Runs the command.
pub fn run(args: &GenerateArgs) -> Result<()> {
    match &args.kind {
        GenerateKind::Visits(args) => visits(args),
    }
}

fn visits(args: &VisitsArgs) -> Result<()> {
    let spec = spec(args);
    let generator = Visits::new(spec.clone())?;
    let (output, target) = output(args)?;
    let tally = write(generator, output, Pace::new(args.rate), spec.records)?;
    if let Some(path) = &args.tally {
        save(&tally, path)?;
    }
    // standard output may be the data
    eprintln!("wrote {target}: {}", describe(&spec, &tally));
    Ok(())
}

fn spec(args: &VisitsArgs) -> Spec {
    let start = args.start.unwrap_or_else(|| match args.topic {
        Some(_) => ending_now(args.records),
        None => START,
    });
    Spec {
        records: args.records,
        seed: args.seed,
        damage: match args.damage_by {
            By::Record => Damage::Records(args.damage, args.kinds.clone()),
            By::Visit => Damage::Visits(args.damage),
        },
        not_json: args.not_json,
        duplicates: args.duplicates,
        late: args.late,
        partitions: if args.topic.is_some() { args.partitions } else { 1 },
        start,
    }
}

fn output(args: &VisitsArgs) -> Result<(Output, String)> {
    let Some(topic) = &args.topic else {
        let path = args.out.as_deref().expect("clap requires --out without --topic");
        return Ok((Output::file(path)?, path.display().to_string()));
    };
    let brokers = args.brokers.as_deref().expect("clap requires --brokers with --topic");
    let mut properties: BTreeMap<String, String> = args.properties.iter().cloned().collect();
    properties.insert("bootstrap.servers".to_owned(), brokers.to_owned());
    Ok((topic_output(&properties, topic, args.partitions)?, format!("topic {topic}")))
}

/// A topic, created where it is not there.
pub(super) fn topic_output(properties: &BTreeMap<String, String>, topic: &str, partitions: u32) -> Result<Output> {
    let mut producer = Producer::new(properties)?;
    producer.create_topic(topic, partitions as i32)?;
    Ok(Output::Topic(producer))
}

/// Runs the generator to its end and shows how far it is, where someone can see it.
pub(super) fn write(mut visits: Visits, mut output: Output, pace: Pace, records: u64) -> Result<Tally> {
    let bar = ProgressBar::new(records).with_style(
        ProgressStyle::with_template("{bar:30} {human_pos}/{human_len}  {per_sec}  {eta}")
            .expect("the template is valid"),
    );
    while let Some(record) = visits.next() {
        output.put(&record)?;
        let done = visits.tally().records;
        pace.hold(done);
        if done.is_multiple_of(4096) {
            bar.set_position(done);
        }
    }
    output.finish()?;
    bar.finish_and_clear();
    Ok(visits.tally().clone())
}

/// Writes the tally as JSON.
pub(super) fn save(tally: &Tally, path: &Path) -> Result<()> {
    let mut text =
        serde_json::to_string_pretty(tally).map_err(|why| Error::Host(format!("a tally is not JSON: {why}")))?;
    text.push('\n');
    std::fs::write(path, text).doing(|| format!("cannot write {}", path.display()))
}

/// `100,000 records: 2 % damaged, 0.5 % not JSON`.
pub(super) fn describe(spec: &Spec, tally: &Tally) -> String {
    let damage = match &spec.damage {
        Damage::Records(share, _) => format!("{share} damaged"),
        Damage::Visits(share) => format!("{share} of the visits damaged"),
    };
    let mut text = format!("{} records: {damage}, {} not JSON", thousands(tally.records), spec.not_json);
    for (share, what) in [(spec.duplicates, "duplicates"), (spec.late, "late")] {
        if share != Share::percent(0) {
            text += &format!(", {share} {what}");
        }
    }
    text
}

fn instant(text: &str) -> Result<i64, String> {
    let wanted = |_| format!("`{text}` is not a time: write it as 2026-11-01T00:00:00Z");
    chrono::DateTime::parse_from_rfc3339(text).map(|time| time.timestamp_millis()).map_err(wanted)
}

pub(super) fn property(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("`{text}` has no `=`: write KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        Ok(_) | Err(_) => Err(format!("`{text}` is not a rate: write records per second, such as 1000")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::generate::STEP;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        kind: GenerateKind,
    }

    fn parse(line: &str) -> Result<Spec, String> {
        let words = std::iter::once("sluice").chain(line.split_whitespace());
        let Line { kind: GenerateKind::Visits(args) } = Line::try_parse_from(words).map_err(|e| e.to_string())?;
        Ok(spec(&args))
    }

    #[test]
    fn without_options_it_is_the_demo() {
        let spec = parse("visits --out v").unwrap();
        let demo = Spec::default();
        assert_eq!((spec.records, spec.seed, spec.start), (demo.records, demo.seed, demo.start));
        assert_eq!((spec.damage, spec.not_json, spec.partitions), (demo.damage, demo.not_json, demo.partitions));
    }

    #[test]
    fn a_flow_to_a_topic_ends_now() {
        let spec = parse("visits --topic t --brokers b --records 1000").unwrap();
        let end = spec.start + 1000 * STEP;
        assert!((chrono::Utc::now().timestamp_millis() - end).abs() < 60_000);
        assert_eq!(spec.partitions, 4);
    }

    #[test]
    fn wrong_arguments_are_refused_with_what_would_be_right() {
        for (line, expected) in [
            ("visits", "--out"),
            ("visits --topic t", "--brokers"),
            ("visits --out v --topic t --brokers b", "cannot be used with"),
            ("visits --out v --damage 2", "such as 0.5%"),
            ("visits --out v --kinds nobody", "no-user, no-page"),
            ("visits --out v --start yesterday", "2026-11-01T00:00:00Z"),
            ("visits --out v --rate 0", "such as 1000"),
        ] {
            let error = parse(line).map(drop).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
