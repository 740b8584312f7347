//! Faults of stores, folders and tables, on purpose: whatever happens, nothing is lost or doubled, and a sentence says
//! what to do.
//!
//! A pipeline runs through the library's door where the store must misbehave, or where something must happen between two
//! entries; through the binary otherwise. Kills and faults of a broker stand elsewhere.

use std::sync::Arc;

use object_store::ObjectStore;
use sluice_host::chain::Chain;
use sluice_host::config::{Location, SinkKind, SourceKind};
use sluice_host::error::{Error, Result};
use sluice_host::ledger::Ledger;
use sluice_host::ledger::apply::apply_all;
use sluice_host::outcome::Outcome;
use sluice_host::pipeline::{Follow, Happening, Options, Pipeline, Stop};
use sluice_host::sink::Sink;
use sluice_host::sink::delta::DeltaSink;
use sluice_host::source::files::FilesSource;
use sluice_host::store;

use crate::project::{Counted, Project, VISITS_SQL, visits_toml};

mod answers;
mod ledger;
mod reconcile;
mod space;
mod tables;
mod unsure;
mod writers;

/// Where the entries are, within the project.
const LEDGER: &str = "lake/_sluice/visits/ledger";

/// An entry of the ledger, by number.
fn entry(n: u64) -> String {
    format!("{LEDGER}/{n:020}.json")
}

/// A pipeline that makes an entry of each of its `files`, with three records for valid, one for error, one for dlq.
fn small(files: usize) -> Project {
    let toml = visits_toml("files = [\"in/*.ndjson\"]", "[commit]\nrows = 1\n");
    let project = Project::new(&[("sluice.toml", &toml), ("visits.sql", VISITS_SQL)]);
    more(&project, 0, files);
    project
}

/// Puts `files` more of them beside those that are there.
fn more(project: &Project, from: usize, files: usize) {
    for n in from..from + files {
        let line = |user: usize| format!("{{\"user_id\": \"u{n}-{user}\", \"page\": \"index\"}}\n");
        let bad = "{\"page\": \"main\"}\nnot json\n";
        project.write(&format!("in/{n:04}.ndjson"), line(1) + &line(2) + bad + &line(3));
    }
}

/// What `files` of them come to.
fn of(files: usize) -> Counted {
    let n = files as u64;
    Counted { valid: 3 * n, error: n, dlq: n, doubled: 0 }
}

/// Runs the project's pipeline to the end of its files, with ledger and tables in `store`; `landed` hears of each entry.
fn run_on(project: &Project, store: Arc<dyn ObjectStore>, mut landed: impl FnMut(u64)) -> Result<u64> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let chain = Arc::new(Chain::load(&project.path().join("sluice.toml"), None)?);
    let config = chain.config.clone();
    let place = |location: &Location| store::open(location).unwrap().1;
    let ledger = runtime.block_on(Ledger::open(store.clone(), place(&config.state), &config.name))?;
    let sinks = &config.sinks;
    let sinks = [(Outcome::Valid, &sinks.valid), (Outcome::Error, &sinks.error), (Outcome::Dlq, &sinks.dlq)].map(
        |(outcome, sink)| {
            let SinkKind::Delta(location) = &sink.kind else { panic!("{outcome} is no Delta table") };
            let (store, prefix) = (store.clone(), place(location));
            Arc::new(DeltaSink::new(outcome, location.clone(), store, prefix, vec![], &config.name)) as Arc<dyn Sink>
        },
    );
    let follow = Follow { ledger: Arc::new(ledger), sinks: sinks.into(), runtime: runtime.handle().clone() };
    let SourceKind::Files(patterns) = &config.source.kind else { panic!("the source is no files") };
    let mut source = FilesSource::new(&config.base, patterns, config.source.max_record)?;
    let pipeline = Pipeline::open(chain, follow.clone(), Stop::default(), Arc::default())?;
    let options = Options { until_end: true, workers: 1 };
    pipeline.run(&mut source, &options, &mut |happening| {
        if let Happening::Landed(entry, _) = happening {
            landed(entry.number);
        }
    })?;
    runtime.block_on(async {
        let head = follow.ledger.head().await?;
        apply_all(&follow.sinks, &follow.ledger, head).await?;
        Ok(head)
    })
}

/// What a user would read: the error and its causes.
fn sentence(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text += &format!(": {inner}");
        cause = inner.source();
    }
    text
}

/// A run that must end with exit code 2 and a sentence with these words.
#[track_caller]
fn refused(project: &Project, arguments: &[&str], words: &[&str]) -> String {
    let ran = project.sluice(arguments);
    assert_eq!(ran.code, Some(2), "{}{}", ran.stdout, ran.stderr);
    for word in words {
        assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
    }
    ran.stderr
}

/// The way back to normal: the run ends, the proof holds, and another reader finds what was planted.
#[track_caller]
fn all_is_well(project: &Project, expected: &Counted) {
    project.sluice(&["run", "--until-end"]).expect(0);
    project.sluice(&["reconcile"]).expect(0);
    assert_eq!(project.counted(), *expected);
}
