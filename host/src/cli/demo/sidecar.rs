//! `sluice demo device-sidecar`: batches of visits, joined with a table that changes between them; every number compared.

use std::collections::BTreeMap;
use std::path::Path;

use url::Url;

use super::{DemoArgs, shown, write_texts};
use crate::cli::generate::topic_output;
use crate::cli::run::{self, Finished, Screen};
use crate::cli::text::{plural, thousands};
use crate::cli::{Verdict, open};
use crate::config::Config;
use crate::error::{Doing, Error, Result};
use crate::generate::Output;
use crate::generate::devices::{self, ADDED, BATCHES, DEVICES};
use crate::outcome::Outcome;
use crate::pipeline::Options;
use crate::sink::look;
use crate::{reconcile, store};

pub(super) const PIPELINE: &str = include_str!("../../../../tests/scenarios/device-sidecar/sluice.toml");
pub(super) const SCHEMA: &str = include_str!("../../../../tests/scenarios/device-sidecar/visits.sql");

/// The lines of [`PIPELINE`] that a Kafka source replaces.
const FILE_SOURCE: &str = "[source]\nfiles = [\"in/*.ndjson\"]          # one record per line; a file per batch\n";

/// What must be there after each batch: enriched rows, rows of statistics, visits that they count.
const EXPECTED: [(u64, u64, u64); BATCHES] = [(10, 5, 10), (70, 10, 70), (83, 16, 83), (89, 21, 89), (93, 22, 93)];

/// Runs the scenario in a folder that was prepared for it.
pub(super) fn run(args: &DemoArgs) -> Result<Verdict> {
    let dir = &args.dir;
    println!("device-sidecar demo in {} · nothing outside it is touched\n", shown(dir));
    let input = dir.join("in");
    for path in (0..BATCHES).map(|n| input.join(format!("b{n}.ndjson"))).filter(|path| path.exists()) {
        std::fs::remove_file(&path).doing(|| format!("cannot remove {}", path.display()))?;
    }
    std::fs::create_dir_all(&input).doing(|| format!("cannot make the folder {}", input.display()))?;
    let topic = args.brokers.as_deref().map(Topic::new);
    let pipeline = topic.as_ref().map_or(PIPELINE.to_owned(), Topic::pipeline);
    write_texts(dir, &[("sluice.toml", pipeline.as_str()), ("visits.sql", SCHEMA)])?;
    let table = folder(&dir.join("lake/devices"))?;
    let runtime = open::runtime()?;
    runtime.block_on(devices::append(&table, &DEVICES))?;
    println!("  wrote   sluice.toml  visits.sql  lake/devices: {}\n", plural(DEVICES.len() as u64, "device"));
    println!("  batch        records   devices   enriched   statistics");

    let mut right = true;
    let mut last = None;
    for (n, expected) in EXPECTED.into_iter().enumerate() {
        if n == 3 {
            runtime.block_on(devices::append(&table, &[ADDED]))?;
            println!("  {} {} comes into the table", ADDED.0, ADDED.2);
        }
        let visits = devices::batch(n);
        let mut output = match &topic {
            Some(topic) => topic.output()?,
            None => Output::file(&input.join(format!("b{n}.ndjson")))?,
        };
        for record in devices::records(&visits) {
            output.put(&record)?;
        }
        output.finish()?;
        let finished = pipeline_once(dir)?;
        let found = runtime.block_on(counted(&finished.chain.config))?;
        right &= show(&format!("b{n}"), &finished, found, expected);
        if n == 1 {
            // as after a crash whose offsets nobody committed: the ledger knows better
            let again = pipeline_once(dir)?;
            let found = runtime.block_on(counted(&again.chain.config))?;
            right &= show("b1 again", &again, found, expected) && again.ran.counts.records == 0;
        }
        last = Some(finished);
    }
    let finished = last.ok_or_else(|| Error::Host("the scenario has no batches".into()))?;
    let report = runtime.block_on(reconcile::pipeline(&finished.chain.config))?;
    println!("\n  {report}\n");
    println!("  cd {}", dir.display());
    println!("  sluice show derive/devices_stats     what was counted, commit by commit");
    println!("  sluice inspect ledger                which version of the table each commit saw");
    Ok(Verdict::of(right && report.ok))
}

fn pipeline_once(dir: &Path) -> Result<Finished> {
    let options = Options { until_end: true, workers: run::workers(None) };
    run::pipeline(&dir.join("sluice.toml"), &options, false, Screen::Bar)
}

fn show(batch: &str, finished: &Finished, found: (u64, u64, u64), expected: (u64, u64, u64)) -> bool {
    let pinned = finished.chain.parts.references.pinned().map(|pinned| pinned.versions()).unwrap_or_default();
    let version = pinned.get("devices").map_or(String::new(), |version| format!("version {version}"));
    let (enriched, stats, sum) = found;
    let line = format!(
        "  {batch:<10} {:>9}   {version:<9} {:>6}      {:>4} rows, sum {}",
        finished.ran.counts.records,
        thousands(enriched),
        thousands(stats),
        thousands(sum)
    );
    match found == expected {
        true => println!("{line}"),
        false => println!("{line}   instead of {}, {} and {}", expected.0, expected.1, expected.2),
    }
    found == expected
}

/// Enriched rows, rows of statistics, visits that they count: read from the tables.
async fn counted(config: &Config) -> Result<(u64, u64, u64)> {
    let mut tables = BTreeMap::new();
    for (outcome, location) in config.tables() {
        let name = match outcome {
            Outcome::Derived(derived) => derived.name(),
            Outcome::Valid | Outcome::Error | Outcome::Dlq | Outcome::Staging => outcome.as_str(),
        };
        if let Some(table) = look::open(location, store::open(location)?.0).await? {
            tables.insert(name.to_owned(), table);
        }
    }
    let session = look::session(&tables.iter().map(|(name, table)| (name.clone(), table)).collect()).await?;
    let one = async |sql: &str| -> Result<u64> {
        let (_, rows) = look::collect(look::query(&session, sql).await?).await?;
        let first = rows.iter().find(|batch| batch.num_rows() > 0).map(|batch| batch.column(0).clone());
        let value = first.and_then(|column| arrow::util::display::array_value_to_string(&column, 0).ok());
        Ok(value.and_then(|value| value.parse().ok()).unwrap_or(0))
    };
    Ok((
        one("SELECT count(*) FROM valid").await?,
        one("SELECT count(*) FROM devices_stats").await?,
        one("SELECT coalesce(sum(count), 0) FROM devices_stats").await?,
    ))
}

fn folder(path: &Path) -> Result<Url> {
    std::fs::create_dir_all(path).doing(|| format!("cannot make the folder {}", path.display()))?;
    let path = path.canonicalize().doing(|| format!("cannot find {}", path.display()))?;
    Url::from_directory_path(&path).map_err(|()| Error::Host(format!("{} is no folder", path.display())))
}

/// A topic of this run's own.
struct Topic {
    brokers: String,
    name: String,
}

impl Topic {
    fn new(brokers: &str) -> Topic {
        let name = format!("visits-sidecar-{:06x}", uuid::Uuid::new_v4().as_u128() & 0xff_ffff);
        Topic { brokers: brokers.to_owned(), name }
    }

    fn pipeline(&self) -> String {
        let Topic { brokers, name } = self;
        let source = format!("[kafka]\nbrokers = {brokers:?}\n\n[source]\nkafka = [{name:?}]\n");
        PIPELINE.replace(FILE_SOURCE, &source)
    }

    fn output(&self) -> Result<Output> {
        let properties = BTreeMap::from([("bootstrap.servers".to_owned(), self.brokers.clone())]);
        topic_output(&properties, &self.name, 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_source_is_one_section() {
        let topic = Topic { brokers: "localhost:9092".into(), name: "visits".into() };
        assert!(topic.pipeline().contains("kafka = [\"visits\"]"));
        assert_ne!(topic.pipeline(), PIPELINE);
        assert!(!topic.pipeline().contains("ndjson"));
    }
}
