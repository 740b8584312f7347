//! What it costs that what judges changes all the time: the same run with and without swaps, commits every 200 ms in both.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::measure::{Arm, Cost, Wanted, alternate, process};
use crate::visits::{self, Pipeline, Rules};
use crate::{records, rounds};

/// Between two changes of the file. Each is a candidate that is loaded, tried and swapped at the next entry's beginning.
const EVERY: Duration = Duration::from_millis(300);

/// A file → three tables, in peace and while the rule's settings are edited.
pub fn run() {
    let home = tempfile::tempdir().expect("a folder");
    let home = home.path();
    // the last candidate is tried to its end although nothing is left to judge: in a longer run that weighs less
    let n = records() * 4;
    let file = visits::file(home, n, "2%", "0.5%");
    let measured = alternate(
        rounds(),
        vec![
            Arm::new("with swaps", n, || judged(home, &file, n, true)),
            Arm::new("without", n, || judged(home, &file, n, false)),
        ],
    );
    measured
        .print_arms(&format!("swaps: {n} visits of 480 bytes → Delta, commits every 200 ms, a change every 300 ms"));
    measured.print_ratio(0, 1, Wanted::AtLeast(0.9));
}

fn judged(home: &Path, file: &Path, records: u64, swaps: bool) -> Cost {
    let pipeline = Pipeline::of_file(home, Rules::Three, file);
    let path = pipeline.folder().join("sluice.toml");
    let text = std::fs::read_to_string(&path).expect("a file") + "\n[commit]\nevery = \"200ms\"\n";
    let other = text.replace("max_late = \"7d\"", "max_late = \"8d\"");
    std::fs::write(&path, &text).expect("a file");
    let over = Arc::new(AtomicBool::new(!swaps));
    let editor = {
        let over = over.clone();
        std::thread::spawn(move || {
            for text in [other, text].iter().cycle() {
                std::thread::park_timeout(EVERY);
                if over.load(Ordering::Relaxed) {
                    return;
                }
                std::fs::write(&path, text).expect("a file");
            }
        })
    };
    // a run that is told to end by itself watches no files; one of files ends with them in any case
    let mut command = visits::sluice();
    let (cost, output) = process(command.args(["run", "--json"]).current_dir(pipeline.folder()));
    over.store(true, Ordering::Relaxed);
    editor.thread().unpark();
    editor.join().expect("nothing is wrong with the file");
    let last = output.lines().last().expect("a run says what it did");
    let last: serde_json::Value = serde_json::from_str(last).expect("it says so in JSON");
    assert_eq!(last["counts"]["records"], records, "{last}");
    let ledger = std::fs::read_dir(pipeline.folder().join("lake/_sluice/visits/ledger")).expect("a ledger");
    let activations = ledger.flatten().filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    let activations = activations.filter(|text| text.contains("\"activation\"")).count();
    assert_eq!(activations > 0, swaps, "{activations} swaps");
    cost
}
