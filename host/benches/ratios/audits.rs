//! What it costs that rows wait for their window: the same pipeline with and without `[audit]`, whole windows decided beside
//! the writing; and how soon they are decided.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::measure::{Arm, Cost, Wanted, alternate, met, process, process_fed};
use crate::visits::{self, Pipeline, Rules};
use crate::{rounds, setting};

/// Rows of a window.
const WINDOW: u64 = 50_000;

/// How far the event times of that many visits go: one comes every 360 milliseconds.
const HOURS: u64 = WINDOW * 360 / 3_600_000;

/// The first visit: so long ago that the last of millions is not ahead of the clock.
const START: &str = "2026-01-01T00:00:00Z";

/// Minutes for which a window waits for its last rows.
const LATENESS: u64 = 5;

/// Time between two commits where it is measured how soon windows are decided.
const COMMIT: Duration = Duration::from_secs(1);

/// Commit intervals within which a window should be decided once the watermark has passed.
const SOON: f64 = 2.0;

/// A file → three tables, directly and by way of staging; then a stream, and when its windows were decided.
pub fn run() {
    let home = tempfile::tempdir().expect("a folder");
    let home = home.path();
    let windows = setting("SLUICE_BENCH_WINDOWS", 20).max(1);
    let n = windows * WINDOW;
    let file = visits::file_from(home, n, "2%", "0.5%", START);
    let measured = alternate(
        rounds(),
        vec![
            Arm::new("audited", n, || judged(home, &file, n, true)),
            Arm::new("directly", n, || judged(home, &file, n, false)),
        ],
    );
    measured.print_arms(&format!("audits: {windows} windows of {WINDOW} visits of 480 bytes → Delta"));
    measured.print_ratio(0, 1, Wanted::AtLeast(0.7));
    soon(home, &file, windows);
}

fn judged(home: &Path, file: &Path, records: u64, audited: bool) -> Cost {
    let pipeline = Pipeline::of_file(home, Rules::Three, file);
    if audited {
        audit(&pipeline, &format!("{WINDOW} rows"), "");
    }
    // gigabytes that nobody has read for a minute may be on the disk only, and that arm would wait for it which comes first
    let read = std::fs::File::open(file).and_then(|mut file| std::io::copy(&mut file, &mut std::io::sink()));
    read.expect("the file can be read");
    let mut command = visits::sluice();
    let (cost, output) = process(command.args(["run", "--until-end", "--json"]).current_dir(pipeline.folder()));
    let windows = decided(&output);
    assert_eq!(windows, if audited { records / WINDOW } else { 0 }, "{output}");
    cost
}

/// A stream that is read as fast as it can be, with windows of time.
fn soon(home: &Path, file: &Path, windows: u64) {
    let pipeline = Pipeline::new(home, Rules::Three, "[source]\nstdin = true\n");
    let more = format!("\n[commit]\nevery = \"{}s\"\n", COMMIT.as_secs());
    audit(&pipeline, &format!("{HOURS}h"), &format!("lateness = \"{LATENESS}m\"\n"));
    amend(&pipeline, |text| text + &more);
    let mut command = visits::sluice();
    let command = command.args(["run", "--until-end", "--json"]).current_dir(pipeline.folder());
    let input = std::fs::File::open(file).expect("the file was made");
    let (cost, output) = process_fed(command, input.into());
    assert!(decided(&output) >= windows, "{output}");
    let told = Told::read(&pipeline.folder().join("lake/_sluice/visits/ledger"));
    let (gap, mut waits) = (told.gap(), told.waits());
    waits.sort_unstable();
    let rate = (windows * WINDOW) as f64 / cost.wall;
    println!("\ndecisions: a stream of {windows} windows of {HOURS} h, {rate:.0} rows/s, a commit every {gap:.2?}");
    let [Some(middle), Some(most)] = [waits.get(waits.len() / 2), waits.last()] else {
        println!("  no window was over before the stream was: it takes more of them (SLUICE_BENCH_WINDOWS)");
        return;
    };
    let intervals = |wait: &Duration| wait.as_secs_f64() / gap.as_secs_f64();
    println!(
        "  {} windows were decided after their watermark had passed by {:.2} commit intervals, {:.2} at the most; wanted ≤ \
         {SOON}: {}",
        waits.len(),
        intervals(middle),
        intervals(most),
        met(intervals(most) <= SOON)
    );
}

fn audit(pipeline: &Pipeline, window: &str, more: &str) {
    let audit = format!(
        "[audit]\nwindow = \"{window}\"\n{more}\n[audit.expect]\nvolume = \"count(*) > 0\"\n\
         quality = \"count(*) FILTER (WHERE _rejected) * 100 <= count(*) * 25\"\n"
    );
    amend(pipeline, |text| {
        text.replacen("[sink]\n", "[sink]\nstaging = { delta = \"lake/visits_staging\" }\n", 1) + &audit
    });
}

fn amend(pipeline: &Pipeline, change: impl FnOnce(String) -> String) {
    let path = pipeline.folder().join("sluice.toml");
    let text = std::fs::read_to_string(&path).expect("a file");
    std::fs::write(&path, change(text)).expect("a file");
}

/// Windows that a run says it decided.
fn decided(output: &str) -> u64 {
    let last = output.lines().last().expect("a run says what it did");
    let last: Value = serde_json::from_str(last).expect("it says so in JSON");
    last["decided"]["windows"].as_u64().unwrap_or(0)
}

/// A ledger: its entries, in order, and when each was there.
struct Told(Vec<(SystemTime, Value)>);

impl Told {
    fn read(folder: &Path) -> Told {
        let mut entries = BTreeMap::new();
        for file in std::fs::read_dir(folder).expect("there is a ledger") {
            let path = file.expect("it can be listed").path();
            let number = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json")?.parse::<u64>().ok());
            let Some(number) = number else { continue };
            let written = path.metadata().and_then(|file| file.modified()).expect("a file has a time");
            let entry = serde_json::from_slice(&std::fs::read(&path).expect("an entry")).expect("entries are JSON");
            entries.insert(number, (written, entry));
        }
        Told(entries.into_values().collect())
    }

    fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a (SystemTime, Value)> {
        self.0.iter().filter(move |(_, entry)| entry["kind"] == kind)
    }

    /// The usual time between two commits of rows.
    fn gap(&self) -> Duration {
        let times: Vec<SystemTime> = self.of("rows").map(|(at, _)| *at).collect();
        let mut gaps: Vec<Duration> = times.windows(2).filter_map(|two| two[1].duration_since(two[0]).ok()).collect();
        gaps.sort_unstable();
        gaps.get(gaps.len() / 2).copied().unwrap_or(COMMIT)
    }

    /// How long each window waited for its decision, from the entry that moved the watermark past its end and lateness on.
    /// Windows that only the end of the stream closed are not among them.
    fn waits(&self) -> Vec<Duration> {
        let latest = |entry: &Value| {
            let ranges = entry["ranges"].as_array().into_iter().flatten();
            ranges.filter_map(|range| range["latest_event_time"].as_i64()).max()
        };
        let wait = |(at, entry): &(SystemTime, Value)| {
            let over = entry["decision"]["window"]["time"]["to"].as_i64()? + LATENESS as i64 * 60_000_000;
            let (passed, _) = self.of("rows").find(|(_, entry)| latest(entry).is_some_and(|latest| latest >= over))?;
            at.duration_since(*passed).ok()
        };
        self.of("decision").filter_map(wait).collect()
    }
}
