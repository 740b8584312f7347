//! `sluice demo`: a complete example in a folder of its own. It makes data, runs the pipeline as `sluice run` does, and
//! shows what became of the records.
//!
//! Nothing outside the folder is touched, and nothing in it that a person has edited.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use sha2::{Digest, Sha256};

use super::explain::place;
use super::generate::{describe, save, topic_output, write};
use super::run::{self, Finished, Screen};
use super::summary::Summary;
use super::text::{plural, thousands};
use super::{Verdict, open};
use crate::component;
use crate::error::{Doing, Error, Result};
use crate::generate::{Output, Pace, Spec, Tally, Visits, ending_now};
use crate::outcome::Outcome;
use crate::pipeline::Options;
use crate::reconcile;

mod awap;

/// A complete example in a folder of its own: generate data, run the pipeline, show the result
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DemoArgs {
    /// Which example
    #[arg(value_enum, default_value_t = Demo::Visits)]
    name: Demo,
    /// Folder of the example: a new one, an empty one, or that of an earlier demo
    #[arg(long, value_name = "DIR", default_value = "sluice-demo")]
    dir: PathBuf,
    /// How many records
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    records: u64,
    /// The same seed gives the same data
    #[arg(long, value_name = "S", default_value_t = 7)]
    seed: u64,
    /// Read from a new topic of this cluster instead of a file
    #[arg(long, value_name = "HOST:PORT,…")]
    brokers: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  sluice demo
  sluice demo --dir big --records 1000000
  sluice demo --dir kafka --brokers localhost:9092
  sluice demo awap-visits --dir awap
  sluice demo device-sidecar --dir sidecar";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Demo {
    /// visits of a web site, from a file to three Delta tables
    Visits,
    /// eight windows of visits: staged, audited, and published or rejected as a whole
    AwapVisits,
    /// visits joined with a table of devices that changes, and statistics of each commit
    DeviceSidecar,
}

mod sidecar;

/// Marks a folder as ours, and holds the digests of what a person may edit.
const MARK: &str = ".sluice-demo";
const DATA: &str = "visits.ndjson";
const TALLY: &str = "tally.json";
const PLUGIN: &str = "plugins/consent.wasm";
const PIPELINE: &str = include_str!("demo/sluice.toml");
/// The lines of [`PIPELINE`] that a Kafka source replaces.
const FILE_SOURCE: &str = "[source]\nfiles = [\"visits.ndjson\"]       # one record per line\n";
const SCHEMA: &str = include_str!("demo/visits.sql");
/// Partitions of a demo's topic.
const PARTITIONS: u32 = 4;

/// Runs the command.
pub fn run(args: &DemoArgs) -> Result<Verdict> {
    match args.name {
        Demo::Visits => visits(args),
        Demo::AwapVisits => awap::run(args),
        Demo::DeviceSidecar => {
            prepare(&args.dir)?;
            sidecar::run(args)
        }
    }
}

fn visits(args: &DemoArgs) -> Result<Verdict> {
    let dir = &args.dir;
    prepare(dir)?;
    println!("visits demo in {} · nothing outside it is touched\n", shown(dir));

    let (tally, pipeline) = generate(args)?;
    let texts = [("sluice.toml", pipeline.as_str()), ("visits.sql", SCHEMA)];
    write_texts(dir, &texts)?;
    put(&dir.join(PLUGIN), &component::demo_rule()?)?;
    let lines: usize = texts.iter().map(|(_, text)| text.lines().count()).sum();
    println!("  wrote   sluice.toml  visits.sql  {lines} lines, yours to edit");

    let options = Options { until_end: true, workers: run::workers(None) };
    let finished = run::pipeline(&dir.join("sluice.toml"), &options, false, Screen::Bar)?;
    let consumed = thousands(finished.ran.counts.records);
    println!("  ran     sluice run --until-end   {}  {consumed}\n", "━".repeat(22));

    let report = open::runtime()?.block_on(reconcile::pipeline(&finished.chain.config))?;
    print!("{}", Summary::of(&finished, Some(report.to_string())).render());
    compare(&finished, &tally)?;
    print!("{}", next(args, &tally, &finished));
    Ok(Verdict::of(report.ok))
}

/// Makes the data; answers what was planted in it, and the pipeline that reads it.
fn generate(args: &DemoArgs) -> Result<(Tally, String)> {
    let mut spec = Spec { records: args.records, seed: args.seed, ..Spec::default() };
    let (output, name, pipeline) = match &args.brokers {
        None => (Output::file(&args.dir.join(DATA))?, DATA.to_owned(), PIPELINE.to_owned()),
        Some(brokers) => {
            // a topic of an earlier demo would hold that demo's records
            let topic = format!("visits-demo-{:06x}", uuid::Uuid::new_v4().as_u128() & 0xff_ffff);
            spec.partitions = PARTITIONS;
            spec.start = ending_now(spec.records);
            let properties = BTreeMap::from([("bootstrap.servers".to_owned(), brokers.clone())]);
            let output = topic_output(&properties, &topic, PARTITIONS)?;
            (output, format!("topic {topic}"), kafka_pipeline(brokers, &topic))
        }
    };
    let tally = write(Visits::new(spec.clone())?, output, Pace::new(None), spec.records)?;
    save(&tally, &args.dir.join(TALLY))?;
    println!("  wrote   {name:24} {}", describe(&spec, &tally));
    Ok((tally, pipeline))
}

/// The demo's pipeline with a topic as its source.
fn kafka_pipeline(brokers: &str, topic: &str) -> String {
    let source = format!("[kafka]\nbrokers = {brokers:?}\n\n[source]\nkafka = [{topic:?}]\n");
    PIPELINE.replace(FILE_SOURCE, &source)
}

/// Makes the folder, or makes an earlier demo's folder as it was before its run.
fn prepare(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).doing(|| format!("cannot make the folder {}", dir.display()))?;
    let Some(mark) = read(&dir.join(MARK))? else {
        let mut entries = std::fs::read_dir(dir).doing(|| format!("cannot read the folder {}", dir.display()))?;
        return match entries.next() {
            None => write_texts(dir, &[]),
            Some(_) => Err(Error::Config(format!(
                "{} is not empty and not of an earlier demo: choose another folder with --dir",
                dir.display()
            ))),
        };
    };
    let mark = String::from_utf8_lossy(&mark);
    for (digest, name) in mark.lines().filter_map(|line| line.split_once("  ")) {
        let path = dir.join(name);
        if read(&path)?.is_some_and(|bytes| sha256(&bytes) != digest) {
            return Err(Error::Config(format!(
                "{} was edited, and the demo would overwrite it: run it with `sluice run` instead, or choose another \
                 folder with --dir",
                path.display()
            )));
        }
    }
    let lake = dir.join("lake");
    if lake.exists() {
        std::fs::remove_dir_all(&lake).doing(|| format!("cannot remove {}", lake.display()))?;
    }
    Ok(())
}

/// Writes what a person may edit, and remembers how it was.
fn write_texts(dir: &Path, texts: &[(&str, &str)]) -> Result<()> {
    let mark: String = texts.iter().map(|(name, text)| format!("{}  {name}\n", sha256(text.as_bytes()))).collect();
    for (name, text) in texts {
        put(&dir.join(name), text.as_bytes())?;
    }
    put(&dir.join(MARK), mark.as_bytes())
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of a file, `None` where there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::environment(format!("cannot read {}", path.display()), error)),
    }
}

fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).doing(|| format!("cannot make the folder {}", parent.display()))?;
    }
    std::fs::write(path, bytes).doing(|| format!("cannot write {}", path.display()))
}

/// What the generator planted is what the run must have found: the two share no code.
fn compare(finished: &Finished, tally: &Tally) -> Result<()> {
    let counts = &finished.ran.counts;
    for outcome in Outcome::LAST {
        let (found, planted) = (counts.of(outcome), tally.outcomes.get(&outcome).copied().unwrap_or(0));
        if found != planted {
            return Err(Error::Host(format!(
                "the run made {} {outcome}, but the generator planted {}",
                plural(found, "row"),
                thousands(planted)
            )));
        }
    }
    Ok(())
}

/// What to type next.
fn next(args: &DemoArgs, tally: &Tally, finished: &Finished) -> String {
    let refused = match args.brokers {
        // the tally counts records of the file, a topic has offsets
        None => tally.planted.values().map(|planted| planted.first).min().map(|line| format!("{DATA}:{line}")),
        Some(_) => finished.ran.examples.values().next().map(|e| place(&finished.chain.config, &e.partition, e.offset)),
    };
    let again = if args.brokers.is_none() { Some(format!("sluice try {DATA} --watch")) } else { None };
    commands(&args.dir, refused.as_deref(), again)
}

fn commands(dir: &Path, refused: Option<&str>, again: Option<String>) -> String {
    let mut lines = vec![(format!("cd {}", dir.display()), "")];
    lines.extend(refused.map(|place| (format!("sluice explain {place}"), "why one record was refused")));
    lines.extend(again.map(|command| (command, "edit sluice.toml and see")));
    let wide = lines.iter().skip(1).map(|(command, _)| command.len()).max().unwrap_or(0);
    let mut text = String::from("\n");
    for (command, what) in lines {
        let line = format!("  {command:wide$}     {what}");
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn shown(dir: &Path) -> String {
    let plain = dir.is_relative() && !dir.starts_with(".") && !dir.starts_with("..");
    if plain { format!("./{}", dir.display()) } else { dir.display().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_anything_else_in_it_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("thesis.txt"), "years of work").unwrap();
        let error = prepare(dir.path()).unwrap_err().to_string();
        assert!(error.contains("--dir"), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_earlier_demo_begins_anew_unless_someone_edited_it() {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path()).unwrap();
        put(&dir.path().join("lake/visits/part-0.parquet"), b"old").unwrap();
        put(&dir.path().join("notes.txt"), b"mine").unwrap();
        write_texts(dir.path(), &[("sluice.toml", PIPELINE), ("visits.sql", SCHEMA)]).unwrap();
        prepare(dir.path()).unwrap();
        assert!(!dir.path().join("lake").exists());
        assert!(dir.path().join("notes.txt").exists());

        put(&dir.path().join("lake/visits/part-0.parquet"), b"old").unwrap();
        put(&dir.path().join("visits.sql"), b"CREATE TABLE visits (page STRING)").unwrap();
        let error = prepare(dir.path()).unwrap_err().to_string();
        assert!(error.contains("visits.sql was edited"), "{error}");
        assert!(dir.path().join("lake").exists());
    }

    #[test]
    fn the_pipelines_of_the_demo_have_no_mistakes() {
        for pipeline in [PIPELINE.to_owned(), kafka_pipeline("localhost:9092", "visits-demo-1a2b3c")] {
            let dir = tempfile::tempdir().unwrap();
            write_texts(dir.path(), &[("sluice.toml", pipeline.as_str()), ("visits.sql", SCHEMA)]).unwrap();
            put(&dir.path().join(PLUGIN), b"not read here").unwrap();
            crate::config::Config::load(&dir.path().join("sluice.toml")).unwrap();
        }
        assert_ne!(kafka_pipeline("b", "t"), PIPELINE);
    }

    #[test]
    fn it_says_what_to_type_next() {
        let expected = [
            "",
            "  cd sluice-demo",
            "  sluice explain visits.ndjson:1042     why one record was refused",
            "  sluice try visits.ndjson --watch      edit sluice.toml and see",
            "",
        ];
        let again = Some("sluice try visits.ndjson --watch".to_owned());
        assert_eq!(commands(Path::new("sluice-demo"), Some("visits.ndjson:1042"), again), expected.join("\n"));
        assert_eq!(commands(Path::new("d"), None, None), "\n  cd d\n");
    }

    #[test]
    fn folders_are_shown_as_one_would_type_them() {
        for (dir, expected) in [("sluice-demo", "./sluice-demo"), ("../x", "../x"), ("./x", "./x"), ("/x", "/x")] {
            assert_eq!(shown(Path::new(dir)), expected);
        }
    }
}
