//! `sluice capture`: records of a topic to a file. It joins no group; what a line holds is decided in [`crate::capture`].

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::PipelineArg;
use super::text::{plural, thousands};
use crate::capture::{Form, Left, line};
use crate::cases::FOLDER;
use crate::config::{Config, Properties, SourceKind};
use crate::error::{Doing, Error, Result};
use crate::source::kafka::peek::{Pick, peek};

/// Write some records of a topic to a file, fields masked
///
/// Columns of `[mask]` in the pipeline file are masked, and those of --mask. Where there are any, keys and headers are left out,
/// and so is what is no JSON object: nothing in them can be told apart.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CaptureArgs {
    /// The topic
    #[arg(value_name = "TOPIC")]
    topic: String,
    /// the connection, and what is masked
    #[command(flatten)]
    pipeline: PipelineArg,
    /// How many records
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
    records: u32,
    /// Which ones, evenly over the partitions
    #[arg(long, value_enum, default_value_t = PickArg::Latest)]
    pick: PickArg,
    /// File to write; - is standard output. In a folder `cases` its lines are cases
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    out: String,
    /// What a line holds; by default cases in a folder `cases`, elsewhere payloads
    #[arg(long, value_enum)]
    format: Option<FormatArg>,
    /// A column to mask, by its path; may be given several times
    #[arg(long, value_name = "PATH")]
    mask: Vec<String>,
    /// Brokers, instead of those of the pipeline file
    #[arg(long, value_name = "HOST:PORT,…")]
    brokers: Option<String>,
    /// A further setting of librdkafka, with --brokers
    #[arg(short = 'X', value_name = "KEY=VALUE", value_parser = super::generate::property, requires = "brokers")]
    properties: Vec<(String, String)>,
    /// Replace a file that is there already
    #[arg(long)]
    force: bool,
}

const EXAMPLES: &str = "\
Examples:
  sluice capture visits -n 20 -o cases/visits.ndjson   then: sluice test --update
  sluice capture visits --mask context.user.login -o sample.ndjson   then: sluice try sample.ndjson
  sluice capture visits --brokers localhost:9092 --pick spread -n 1000 -o sample.ndjson";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PickArg {
    /// the last ones
    Latest,
    /// the first ones there are
    Earliest,
    /// from several places all over the topic
    Spread,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FormatArg {
    /// payloads, one a line, as a file source reads them
    Lines,
    /// records with coordinates, key and headers, as `sluice test` reads them
    Cases,
}

/// Bytes that are held at once.
const MOST_BYTES: usize = 256 << 20;

/// Runs the command.
pub fn run(args: &CaptureArgs) -> Result<()> {
    let out = Path::new(&args.out);
    if args.out != "-" && out.exists() && !args.force {
        return Err(Error::Config(format!(
            "{} is there already: choose another name, or replace it with --force",
            args.out
        )));
    }
    let (properties, mut masks) = connection(args)?;
    masks.extend(args.mask.iter().cloned());
    let form = match args.format {
        Some(FormatArg::Lines) => Form::Lines,
        Some(FormatArg::Cases) => Form::Cases,
        None if is_cases(out) => Form::Cases,
        None => Form::Lines,
    };
    let pick = match args.pick {
        PickArg::Latest => Pick::Latest,
        PickArg::Earliest => Pick::Earliest,
        PickArg::Spread => Pick::Spread,
    };
    let (peeked, _) = peek(&properties, &args.topic, args.records as usize, pick, MOST_BYTES)?;
    let mut text = String::new();
    let mut left: BTreeMap<Left, u64> = BTreeMap::new();
    let mut written = 0;
    for record in &peeked {
        match line(record, &args.topic, form, &masks) {
            Ok(line) => {
                written += 1;
                text += &line;
                text.push('\n');
            }
            Err(why) => *left.entry(why).or_default() += 1,
        }
    }
    if args.out == "-" {
        std::io::stdout().write_all(text.as_bytes()).doing(|| "cannot write to standard output".into())?;
    } else {
        if let Some(folder) = out.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).doing(|| format!("cannot make the folder {}", folder.display()))?;
        }
        std::fs::write(out, text).doing(|| format!("cannot write {}", args.out))?;
        let masked = if masks.is_empty() { String::new() } else { format!(" · masked: {}", masks.join(", ")) };
        println!("{} of {} → {}{masked}", plural(written, "record"), args.topic, args.out);
        println!("  {}", next(form, &args.out));
    }
    for (why, n) in left {
        eprintln!("left out: {} {}", thousands(n), why.as_str());
    }
    Ok(())
}

/// What to type next.
fn next(form: Form, out: &str) -> String {
    match form {
        Form::Lines => format!("sluice try {out}"),
        Form::Cases => "sluice test --update      writes what comes of them into their lines".to_owned(),
    }
}

/// Whether a file lies in a folder of cases.
pub(super) fn is_cases(file: &Path) -> bool {
    file.parent().and_then(Path::file_name).is_some_and(|folder| folder == FOLDER)
        && file.extension().is_some_and(|extension| extension == "ndjson")
}

/// What librdkafka is told, and what is masked. A pipeline file that is there must be right: its masks hold.
fn connection(args: &CaptureArgs) -> Result<(Properties, Vec<String>)> {
    let file: &PathBuf = &args.pipeline.config;
    let config = match (&args.brokers, file.exists()) {
        (Some(_), false) => None,
        (_, _) => Some(Config::load(file)?),
    };
    let masks = config.as_ref().map(|config| config.mask.clone()).unwrap_or_default();
    if let Some(brokers) = &args.brokers {
        let mut properties: BTreeMap<String, String> = args.properties.iter().cloned().collect();
        properties.insert("bootstrap.servers".to_owned(), brokers.clone());
        return Ok((properties.into(), masks));
    }
    match config.map(|config| config.source.kind) {
        Some(SourceKind::Kafka(kafka)) => Ok((kafka.properties, masks)),
        Some(SourceKind::Files(_) | SourceKind::Stdin) | None => Err(Error::Config(format!(
            "{} reads no topic: say where {} is with --brokers localhost:9092",
            file.display(),
            args.topic
        ))),
    }
}
