//! What it costs that rows wait for their window: the same pipeline with and without `[audit]`, whole windows decided beside
//! the writing.

use std::path::Path;

use crate::measure::{Arm, Cost, Wanted, alternate, process};
use crate::visits::{self, Pipeline, Rules};
use crate::{records, rounds};

/// Rows of a window.
const WINDOW: u64 = 50_000;

/// Windows of a run, where no other size is asked for.
const WINDOWS: u64 = 10;

/// A file → three tables, directly and by way of staging.
pub fn run() {
    let home = tempfile::tempdir().expect("a folder");
    let home = home.path();
    let n = records().max(WINDOWS * WINDOW) / WINDOW * WINDOW;
    let file = visits::file(home, n, "2%", "0.5%");
    let measured = alternate(
        rounds(),
        vec![
            Arm::new("audited", n, || judged(home, &file, n, true)),
            Arm::new("directly", n, || judged(home, &file, n, false)),
        ],
    );
    measured.print_arms(&format!("audits: {} windows of {WINDOW} visits of 480 bytes → Delta", n / WINDOW));
    measured.print_ratio(0, 1, Wanted::AtLeast(0.7));
}

fn judged(home: &Path, file: &Path, records: u64, audited: bool) -> Cost {
    let pipeline = Pipeline::of_file(home, Rules::Three, file);
    let path = pipeline.folder().join("sluice.toml");
    let mut text = std::fs::read_to_string(&path).expect("a file");
    if audited {
        let audit = format!(
            "[audit]\nwindow = \"{WINDOW} rows\"\n\n[audit.expect]\nvolume = \"count(*) > 0\"\n\
             quality = \"count(*) FILTER (WHERE _rejected) * 100 <= count(*) * 25\"\n"
        );
        text = text.replacen("[sink]\n", "[sink]\nstaging = { delta = \"lake/visits_staging\" }\n", 1) + &audit;
    }
    std::fs::write(&path, text).expect("a file");
    let mut command = visits::sluice();
    let (cost, output) = process(command.args(["run", "--until-end", "--json"]).current_dir(pipeline.folder()));
    let last = output.lines().last().expect("a run says what it did");
    let last: serde_json::Value = serde_json::from_str(last).expect("it says so in JSON");
    let windows = last["decided"]["windows"].as_u64().unwrap_or(0);
    assert_eq!(windows, if audited { records / WINDOW } else { 0 }, "{last}");
    cost
}
