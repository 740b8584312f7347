//! `sluice init`: from records that nobody described to a pipeline that runs.
//!
//! Parses arguments, samples, and writes two files; what is in them is decided in [`crate::init`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;

use super::text::{plural, thousands};
use super::{Verdict, open};
use crate::chain::Chain;
use crate::config::{Properties, is_name};
use crate::error::{Doing, Error, Result};
use crate::generate::Share;
use crate::init::thin::Thin;
use crate::init::{self, Checked, Draft, Place, Sample, Sampled, pipeline};
use crate::outcome::Outcome;
use crate::plugin::Engine;
use crate::record::RawBatch;
use crate::source::files::FilesSource;
use crate::source::kafka::peek::{Pick, peek};
use crate::source::reading;

/// Sample a file or a topic; write schema, pipeline file and suggested expectations, each with its evidence
///
/// What is written holds for the sample: nothing of it that is JSON becomes a dead letter, and no suggestion refuses any.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct InitArgs {
    /// A file (.gz and .zst, too), a glob in quotes, or a topic
    #[arg(long, value_name = "FILE|TOPIC")]
    from: String,
    /// Brokers, where it is a topic
    #[arg(long, value_name = "HOST:PORT,…", env = "KAFKA_BROKERS")]
    brokers: Option<String>,
    /// A further setting of librdkafka, such as security.protocol=sasl_ssl
    #[arg(short = 'X', value_name = "KEY=VALUE", value_parser = super::generate::property)]
    properties: Vec<(String, String)>,
    /// Records that are looked at, spread over all there are
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    records: u32,
    /// Share of a field's values that may be of another kind than it is declared: dead letters, then. Without it such a
    /// field is left out of the schema
    #[arg(long, value_name = "SHARE", default_value = "0%")]
    misfits: Share,
    /// Name of the pipeline; by default that of the file or topic
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Folder to write to
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Replace files that are there already
    #[arg(long)]
    force: bool,
}

const EXAMPLES: &str = "\
Examples:
  sluice init --from visits.ndjson
  sluice init --from 'in/*.ndjson.gz' --name visits --dir pipelines/visits
  sluice init --from visits --brokers localhost:9092 --misfits 0.1%
  sluice init --from visits --brokers b:9093 -X security.protocol=sasl_ssl -X sasl.username=me -X sasl.password=\"$PASSWORD\"";

/// Bytes of payloads that are held at once.
const MOST_BYTES: usize = 256 << 20;
/// Bytes of files that are read for a sample: seconds, on any disk.
const MOST_READ: u64 = 4 << 30;

/// Runs the command.
pub fn run(args: &InitArgs) -> Result<Verdict> {
    let here = std::env::current_dir().map_err(|e| Error::environment("cannot find the working folder", e))?;
    let is_file = args.from.contains(['*', '?', '[', '/']) || here.join(&args.from).exists();
    let name = args.name.clone().unwrap_or_else(|| name_of(&args.from, is_file));
    if !is_name(&name) {
        return Err(Error::Config(format!(
            "`{name}` cannot be the name of a pipeline: give one of letters, digits, `-` and `_` with --name"
        )));
    }
    let schema = format!("{name}.sql");
    let (pipeline_file, schema_file) = (args.dir.join("sluice.toml"), args.dir.join(&schema));
    if let (false, Some(there)) = (args.force, [&pipeline_file, &schema_file].into_iter().find(|file| file.exists())) {
        return Err(Error::Config(format!(
            "{} is there already: choose another folder with --dir, or replace it with --force",
            there.display()
        )));
    }

    let (sample, from) = if is_file { of_files(args, &here)? } else { of_topic(args)? };
    let described = init::describe(&sample)?;
    let header = format!("Written by `sluice init` from {}. Yours to edit.", sample.describe());
    let draft = described.draft(&name, &header, args.misfits)?;
    let text = pipeline::write(&name, &header, &from, &schema, &described, &draft);
    std::fs::create_dir_all(&args.dir).doing(|| format!("cannot make the folder {}", args.dir.display()))?;
    for (file, text) in [(&schema_file, &draft.sql), (&pipeline_file, &text)] {
        std::fs::write(file, text).doing(|| format!("cannot write {}", file.display()))?;
    }
    // the very file that will run; secrets that it asks for may not be set in this shell
    let variables = |name: &str| std::env::var(name).ok().or_else(|| Some(format!("<{name}>")));
    let chain = Chain::load_given(&pipeline_file, Engine::new(open::compiled_cache())?, &variables)?;
    let checked = init::check(&sample, &chain)?;
    promise(args, &checked)?;
    print!("{}", screen(args, &sample, &draft, &checked, &pipeline_file, &schema_file));
    Ok(Verdict::Done)
}

/// What was written holds for the sample, or it is our mistake.
fn promise(args: &InitArgs, checked: &Checked) -> Result<()> {
    let tolerated = args.misfits != Share::percent(0);
    let broken = checked.refused.iter().find(|(why, _)| !(tolerated && why.starts_with("decode/")));
    match broken {
        None => Ok(()),
        Some((why, n)) => {
            Err(Error::Host(format!("what init wrote refuses {} of its own sample ({why})", plural(*n, "record"))))
        }
    }
}

fn screen(
    args: &InitArgs,
    sample: &Sample,
    draft: &Draft,
    checked: &Checked,
    pipeline: &Path,
    schema: &Path,
) -> String {
    let hold = draft.suggestions.iter().filter(|s| s.holds).count() as u64;
    let mentioned = draft.suggestions.len() as u64 - hold;
    let mut columns = plural(draft.columns as u64, "column");
    if draft.left_out > 0 {
        columns += &format!(", {} left out: the reasons stand beside them", plural(draft.left_out as u64, "field"));
    }
    let mut expected = plural(hold, "expectation");
    if mentioned > 0 {
        expected += &format!(" that hold, {mentioned} more in comments that nearly do");
    }
    let of = |outcome| thousands(checked.counts.of(outcome));
    let mut result = format!(
        "{} valid, {} error, {} dlq, {} skipped",
        of(Outcome::Valid),
        of(Outcome::Error),
        of(Outcome::Dlq),
        thousands(checked.counts.skipped)
    );
    let dead: Vec<String> = checked.counts.dead.iter().map(|(why, n)| format!("{why} {}", thousands(*n))).collect();
    if !dead.is_empty() {
        result += &format!(" ({})", dead.join(", "));
    }
    let shown = |path: &Path| path.strip_prefix("./").unwrap_or(path).display().to_string();
    let (schema, pipeline) = (shown(schema), shown(pipeline));
    let width = schema.len().max(pipeline.len());
    let option = if pipeline == "sluice.toml" { String::new() } else { format!(" {pipeline}") };
    let looked = if args.from.contains(['*', '?']) { format!("'{}'", args.from) } else { args.from.clone() };
    let mut text = format!(
        "  sampled  {}\n  wrote    {schema:width$}  {columns}\n           {pipeline:width$}  {expected}\n  checked  the sample: {result}\n\n",
        sample.describe()
    );
    text += &format!("  sluice check{option}\n");
    if Path::new(&args.from).is_file() {
        let config = if option.is_empty() { String::new() } else { format!(" -c{option}") };
        text += &format!("  sluice try {looked}{config}\n");
    }
    text + &format!("  sluice run{option} --until-end\n")
}

/// `in/visits-2026.ndjson.gz` → `visits-2026`.
fn name_of(from: &str, is_file: bool) -> String {
    // of a path the last part that says something: `in/*.json` is about `in`
    let parts = from.rsplit('/').map(|part| part.split('.').next().unwrap_or(part));
    let stem = match is_file {
        true => parts.filter(|part| !part.is_empty()).find(|part| !part.contains(['*', '?', '['])).unwrap_or("records"),
        false => from,
    };
    let plain: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '-' }).collect();
    let plain = plain.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let begun =
        if plain.starts_with(|c: char| c.is_ascii_alphabetic()) { plain.to_owned() } else { format!("p{plain}") };
    begun.chars().take(64).collect()
}

fn of_files(args: &InitArgs, here: &Path) -> Result<(Sample, pipeline::From)> {
    let patterns = [args.from.clone()];
    // as long as a record may be at all
    let mut source = FilesSource::new(here, &patterns, 64 << 20)?;
    let mut thin = Thin::new(args.records as usize, MOST_BYTES);
    let mut read = 0;
    reading::read(&mut source, |batch| {
        read += batch.data.len() as u64;
        for record in 0..batch.records.len() {
            thin.offer(|| sampled(&batch, record));
        }
        Ok(read < MOST_READ)
    })?;
    let of = (read < MOST_READ).then_some(thin.seen());
    let sample = Sample { from: args.from.clone(), records: thin.into_kept(), of };
    Ok((sample, pipeline::From::Files(vec![relative(&args.from, here, &args.dir)?])))
}

fn sampled(batch: &RawBatch, record: usize) -> (Sampled, usize) {
    let place =
        Place { topic: batch.partition(record).topic.clone(), partition: None, offset: batch.records[record].offset };
    let value = batch.value(record).map(bytes::Bytes::copy_from_slice); // a slice would hold its whole block
    let bytes = value.as_ref().map_or(0, bytes::Bytes::len) + size_of::<Sampled>();
    (Sampled { place, value }, bytes)
}

/// The pattern as the pipeline file in `dir` has to write it.
fn relative(pattern: &str, here: &Path, dir: &Path) -> Result<String> {
    std::fs::create_dir_all(dir).doing(|| format!("cannot make the folder {}", dir.display()))?;
    let real = |path: &Path| path.canonicalize().doing(|| format!("cannot find {}", path.display()));
    let (here, dir) = (real(here)?, real(&here.join(dir))?);
    if Path::new(pattern).is_absolute() || here == dir {
        return Ok(pattern.to_owned());
    }
    match here.strip_prefix(&dir) {
        Ok(below) => Ok(below.join(pattern).to_string_lossy().into_owned()),
        Err(_) => Ok(here.join(pattern).to_string_lossy().into_owned()),
    }
}

fn of_topic(args: &InitArgs) -> Result<(Sample, pipeline::From)> {
    let topic = &args.from;
    let Some(brokers) = &args.brokers else {
        return Err(Error::Config(format!(
            "there is no file {topic}; if it is a topic, say where: --brokers localhost:9092"
        )));
    };
    let mut properties: BTreeMap<String, String> = args.properties.iter().cloned().collect();
    properties.insert("bootstrap.servers".to_owned(), brokers.clone());
    let connection = Properties::from(properties.clone());
    let (peeked, all) = peek(&connection, topic, args.records as usize, Pick::Spread, MOST_BYTES)?;
    let name: std::sync::Arc<str> = topic.as_str().into();
    let records: Vec<Sampled> = peeked
        .into_iter()
        .map(|record| Sampled {
            place: Place { topic: name.clone(), partition: Some(record.partition), offset: record.offset },
            value: record.value,
        })
        .collect();
    // what this shell has in the variable, the pipeline's shell has, too
    if std::env::var("KAFKA_BROKERS").is_ok_and(|set| set == *brokers) {
        properties.insert("bootstrap.servers".to_owned(), "${KAFKA_BROKERS}".to_owned());
    }
    // gaps of compaction and transactions count as offsets
    let of = Some(all.max(records.len() as u64));
    Ok((Sample { from: format!("topic {topic}"), records, of }, pipeline::From::Topic(topic.clone(), properties)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_is_named_after_its_source() {
        for (from, is_file, expected) in [
            ("visits.ndjson", true, "visits"),
            ("/data/in/visits-2026.ndjson.gz", true, "visits-2026"),
            ("in/*.json", true, "in"),
            ("*.json", true, "records"),
            ("dev.orders", false, "dev-orders"),
            ("2026.json", true, "p2026"),
            ("größe", false, "gr--e"),
        ] {
            assert_eq!(name_of(from, is_file), expected, "{from}");
            assert!(is_name(&name_of(from, is_file)), "{from}");
        }
    }
}
