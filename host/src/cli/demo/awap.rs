//! `sluice demo awap-visits`: eight windows of visits, written to staging, audited, and published or rejected as a whole.

use std::collections::BTreeMap;

use super::{DemoArgs, PARTITIONS, prepare, shown, write_texts};
use crate::cli::generate::topic_output;
use crate::cli::run::{self, Finished, Screen};
use crate::cli::summary::Summary;
use crate::cli::text::{plural, thousands};
use crate::cli::{Verdict, open};
use crate::error::{Error, Result};
use crate::generate::awap::{EXPECTED, Windows};
use crate::generate::{Output, START};
use crate::ledger::window::Past;
use crate::pipeline::Options;
use crate::reconcile;

const DATA: &str = "visits.ndjson";
const PIPELINE: &str = include_str!("../../../../tests/scenarios/awap-visits/sluice.toml");
const SCHEMA: &str = include_str!("../../../../tests/scenarios/awap-visits/visits.sql");
/// The lines of [`PIPELINE`] that a Kafka source replaces.
const FILE_SOURCE: &str = "[source]\nfiles = [\"visits.ndjson\"]             # one record per line\n";

pub(super) fn run(args: &DemoArgs) -> Result<Verdict> {
    let dir = &args.dir;
    prepare(dir)?;
    println!("awap-visits demo in {} · nothing outside it is touched\n", shown(dir));
    let (mut output, name, mut windows, pipeline) = match &args.brokers {
        None => (Output::file(&dir.join(DATA))?, DATA.to_owned(), Windows::new(START, 1), PIPELINE.to_owned()),
        Some(brokers) => {
            let topic = format!("awap-visits-{:06x}", uuid::Uuid::new_v4().as_u128() & 0xff_ffff);
            let properties = BTreeMap::from([("bootstrap.servers".to_owned(), brokers.clone())]);
            let output = topic_output(&properties, &topic, PARTITIONS)?;
            let source = format!("[kafka]\nbrokers = {brokers:?}\n\n[source]\nkafka = [{topic:?}]\n");
            let windows = Windows::new(Windows::over_now(), PARTITIONS);
            (output, format!("topic {topic}"), windows, PIPELINE.replace(FILE_SOURCE, &source))
        }
    };
    while let Some(record) = windows.next() {
        output.put(&record)?;
    }
    output.finish()?;
    println!("  wrote   {name:24} {} in 8 windows", plural(Windows::total(), "record"));
    let texts = [("sluice.toml", pipeline.as_str()), ("visits.sql", SCHEMA)];
    write_texts(dir, &texts)?;
    let lines: usize = texts.iter().map(|(_, text)| text.lines().count()).sum();
    println!("  wrote   sluice.toml  visits.sql  {lines} lines, yours to edit");

    let options = Options { until_end: true, workers: run::workers(None) };
    let finished = run::pipeline(&dir.join("sluice.toml"), &options, true, Screen::Bar)?;
    let consumed = thousands(finished.ran.counts.records);
    let flags = if args.brokers.is_some() { " --close-windows" } else { "" };
    println!("  ran     sluice run --until-end{flags}   {}  {consumed}\n", "━".repeat(22));

    let runtime = open::runtime()?;
    let past = open::follow(&finished.chain.config, &runtime)?.fold()?.past;
    print!("{}", table(past.iter()));
    let report = runtime.block_on(reconcile::pipeline(&finished.chain.config))?;
    print!("\n{}", Summary::of(&finished, Some(report.to_string())).render());
    compare(&finished)?;
    let config = format!("-c {}", shown(&dir.join("sluice.toml")));
    println!("\n  sluice audit list {config}     every window, and why");
    println!("  sluice show error {config}     rows with their reasons");
    Ok(Verdict::of(report.ok))
}

/// One line per window.
fn table<'p>(past: impl Iterator<Item = &'p Past>) -> String {
    let mut text = format!("  {:22} {:>8} {:>10}   decision\n", "window", "rows", "incomplete");
    for Past { decision, .. } in past {
        let why: Vec<&str> = decision.objections.iter().map(|objection| &*objection.code).collect();
        let line = format!(
            "  {:22} {:>8} {:>10}   {:<8}  {}",
            decision.window.key(),
            thousands(decision.rows),
            thousands(decision.rejected),
            decision.verdict,
            why.join(", ")
        );
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// What the scenario says must come out: the two share no code.
fn compare(finished: &Finished) -> Result<()> {
    let expected =
        EXPECTED.iter().fold((0, 0), |(v, e), (valid, error)| (v + u64::from(*valid), e + u64::from(*error)));
    let counts = finished.outcomes();
    let found = (counts.of(crate::outcome::Outcome::Valid), counts.of(crate::outcome::Outcome::Error));
    if found == expected {
        return Ok(());
    }
    Err(Error::Host(format!("the run made {found:?} rows valid and error, and the scenario has {expected:?}")))
}
