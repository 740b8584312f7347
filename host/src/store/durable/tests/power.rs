//! Power cuts under a whole pipeline: ledger, Delta logs, Parquet files, generations, everything that it stores.
//!
//! A pipeline runs on a store that keeps a journal. At a random step the power fails: what was synced is put into another
//! folder, and of the rest whatever the disk happened to write. There the pipeline is started again, and cut again, until it
//! may run to its end: then everything is there once, and nothing that was answered for was ever gone.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;

use super::*;
use crate::chain::Chain;
use crate::config::{Location, SinkConfig, SinkKind, SourceKind};
use crate::ledger::Ledger;
use crate::outcome::Outcome;
use crate::pipeline::{Follow, Happening, Options, Pipeline, Stop};
use crate::sink::Sink;
use crate::sink::delta::DeltaSink;
use crate::source::files::FilesSource;

/// Files of the source, each an entry: enough to be cut in many places, few enough for a test.
const FILES: u64 = 8;

const TOML: &str = r#"
name = "visits"
state = "lake/_sluice/visits"
[commit]
rows = 1
[source]
files = ["in/*.ndjson"]
[schema]
file = "visits.sql"
[expect]
has-user = "user_id IS NOT NULL"
[sink]
valid = { delta = "lake/visits" }
error = { delta = "lake/visits_errors" }
dlq = { delta = "lake/visits_dlq" }
"#;

/// A folder with a pipeline that has not run.
fn project() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("sluice.toml", TOML);
    write("visits.sql", "CREATE TABLE visits (user_id STRING, page STRING)");
    std::fs::create_dir(folder.path().join("in")).unwrap();
    for n in 0..FILES {
        write(&format!("in/{n}.ndjson"), &format!("{{\"user_id\": \"u{n}\"}}\n{{\"page\": \"index\"}}\nnot json\n"));
    }
    folder
}

/// What a run did to its disk.
struct Journal {
    /// what was there before
    before: Survivors,
    bytes: BTreeMap<u32, Vec<u8>>,
    steps: Vec<Step>,
    contents: BTreeMap<usize, Vec<u8>>,
    /// after so many steps so many entries had been answered for
    landed: Vec<(usize, u64)>,
}

/// Runs the pipeline to the end of its files.
fn run(folder: &FsPath) -> Journal {
    let (before, bytes) = found(&folder.join("lake"));
    let store = Arc::new(Durable::new());
    let disk = store.disk.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let chain = Arc::new(Chain::load(&folder.join("sluice.toml"), None).unwrap());
    let config = chain.config.clone();
    let place = |location: &Location| crate::store::open(location).unwrap().1;
    let ledger = Ledger::open(store.clone(), place(&config.state), &config.name);
    let sink = |outcome, sink: &SinkConfig| {
        let SinkKind::Delta(location) = &sink.kind else { panic!("{outcome} is no Delta table") };
        let (store, prefix) = (store.clone(), place(location));
        Arc::new(DeltaSink::new(outcome, location.clone(), store, prefix, vec![], &config.name)) as Arc<dyn Sink>
    };
    let sinks = &config.sinks;
    let follow = Follow {
        ledger: Arc::new(runtime.block_on(ledger).unwrap()),
        sinks: vec![
            sink(Outcome::Valid, &sinks.valid),
            sink(Outcome::Error, &sinks.error),
            sink(Outcome::Dlq, &sinks.dlq),
        ],
        runtime: runtime.handle().clone(),
    };
    let SourceKind::Files(patterns) = &config.source.kind else { panic!("the source is no files") };
    let mut source = FilesSource::new(&config.base, patterns, config.source.max_record).unwrap();
    let mut landed = Vec::new();
    let options = Options { until_end: true, workers: 1 };
    let pipeline = Pipeline::open(chain, follow.clone(), Stop::default(), Arc::default()).unwrap();
    let ran = pipeline.run(&mut source, &options, &mut |happening| {
        if let Happening::Landed(entry, _) = happening {
            landed.push((disk.journal.lock().unwrap().len(), entry.number));
        }
    });
    ran.unwrap();
    follow.catch_up().unwrap();
    let (steps, contents) = (disk.journal.lock().unwrap().clone(), disk.contents.lock().unwrap().clone());
    Journal { before, bytes, steps, contents, landed }
}

/// A folder as it is, which counts as durable.
fn found(folder: &FsPath) -> (Survivors, BTreeMap<u32, Vec<u8>>) {
    let (mut disk, mut bytes) = (Survivors::default(), BTreeMap::new());
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        disk.folders.insert(folder, true);
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                open.push(path);
                continue;
            }
            disk.next += 1;
            bytes.insert(disk.next, std::fs::read(&path).unwrap());
            disk.synced.insert(disk.next);
            disk.names.insert(path.clone(), disk.next);
            disk.kept.insert(path, disk.next);
        }
    }
    (disk, bytes)
}

impl Journal {
    /// The disk after a power cut behind `cut` steps, put into another folder. `mercy` says, name by name, whether the disk
    /// happened to write what nobody had asked it to.
    fn restore(self, cut: usize, mercy: &mut dyn FnMut() -> bool, from: &FsPath, to: &FsPath) {
        let Journal { before: mut disk, mut bytes, steps, mut contents, .. } = self;
        for (n, step) in steps[..cut].iter().enumerate() {
            if let Step::SyncFile(path) = step
                && let (Some(file), Some(content)) = (disk.names.get(path), contents.remove(&n))
            {
                bytes.insert(*file, content);
            }
            disk.step(step);
            assert_eq!(disk.lies(), None, "after step {n}, {step:?}");
        }
        let lost: Vec<_> = disk.folders.iter().filter(|(_, kept)| !**kept && !mercy()).map(|(path, _)| path).collect();
        let names: BTreeSet<&PathBuf> = disk.names.keys().chain(disk.kept.keys()).collect();
        for name in names {
            let (now, kept) = (disk.names.get(name), disk.kept.get(name));
            let file = if now == kept || !mercy() { kept } else { now };
            let Some(file) = file.filter(|_| !lost.iter().any(|folder| name.starts_with(folder))) else { continue };
            let there = to.join(name.strip_prefix(from).unwrap());
            std::fs::create_dir_all(there.parent().unwrap()).unwrap();
            // what was not synced is empty, as ext4 and XFS leave it
            std::fs::write(there, bytes.get(file).map_or(&[][..], Vec::as_slice)).unwrap();
        }
    }

    fn landed_before(&self, cut: usize) -> u64 {
        self.landed.iter().filter(|(steps, _)| *steps <= cut).map(|(_, number)| *number).max().unwrap_or(0)
    }
}

fn head(folder: &FsPath) -> u64 {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let state = Path::from_absolute_path(folder.join("lake/_sluice/visits")).unwrap();
    runtime.block_on(async { Ledger::open(Arc::new(Durable::new()), state, "visits").await?.head().await }).unwrap()
}

/// Everything is there once.
fn is_whole(folder: &FsPath, what: &str) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = crate::config::Config::load(&folder.join("sluice.toml")).unwrap();
    let report = runtime.block_on(crate::reconcile::pipeline(&config)).unwrap();
    assert!(report.ok && report.pending.is_empty() && report.notes.is_empty(), "{what}: {report}");
    let outcomes = Outcome::LAST.map(|outcome| (outcome, FILES)).into();
    assert_eq!((report.counts.records, report.counts.outcomes), (3 * FILES, outcomes), "{what}");
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

/// `SLUICE_POWER_ROUNDS` says how many pipelines are cut off, `SLUICE_POWER_SEED` where.
#[test]
fn whatever_a_power_cut_leaves_the_next_run_makes_whole() {
    let seed = number("SLUICE_POWER_SEED", 7);
    let mut random = StdRng::seed_from_u64(seed);
    for round in 0..number("SLUICE_POWER_ROUNDS", 4) {
        let mut folder = project();
        let mut cuts = Vec::new();
        for _ in 0..3 {
            let journal = run(folder.path());
            let cut = random.random_range(0..=journal.steps.len());
            let landed = journal.landed_before(cut);
            // a disk that writes nothing unasked, everything, or this and that
            let mercy = *[0.0, 0.5, 1.0].choose(&mut random).unwrap();
            cuts.push((cut, mercy));
            let next = project();
            journal.restore(cut, &mut || random.random_bool(mercy), folder.path(), next.path());
            folder = next;
            let head = head(folder.path());
            assert!(head >= landed, "seed {seed}, round {round}, cuts {cuts:?}: of {landed} entries {head} are left");
        }
        run(folder.path());
        is_whole(folder.path(), &format!("seed {seed}, round {round}, cuts {cuts:?}"));
    }
}

#[test]
fn all_that_a_pipeline_stores_is_synced_and_the_model_notices_what_is_not() {
    let folder = project();
    let journal = run(folder.path());
    for kind in ["ledger/", "generations/", "objects/", "pipeline.json", "visits/_delta_log/", "visits_dlq/part-"] {
        let synced = |step: &Step| matches!(step, Step::SyncFile(path) if path.to_string_lossy().contains(kind));
        assert!(journal.steps.iter().any(synced), "{kind}");
    }
    let (end, landed) = (journal.steps.len(), journal.landed_before(usize::MAX));
    assert_eq!(landed, FILES + 2);
    let next = project();
    journal.restore(end, &mut || false, folder.path(), next.path());
    assert_eq!(head(next.path()), landed);
    is_whole(next.path(), "after the last step");

    // the same on a store that forgets one kind of sync
    let (folder, next) = (project(), project());
    let mut careless = run(folder.path());
    for step in &mut careless.steps {
        if matches!(step, Step::SyncDir(folder) if folder.ends_with("ledger")) {
            *step = Step::SyncDir(PathBuf::from("/"));
        }
    }
    let end = careless.steps.len();
    careless.restore(end, &mut || false, folder.path(), next.path());
    assert_eq!(head(next.path()), 0);
}
