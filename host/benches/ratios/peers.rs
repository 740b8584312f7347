//! The same visits through other tools, in turn with ours: DuckDB from a file, a plain Python consumer from Kafka.
//!
//! Both come from PyPI, in the versions that `peers/requirements.txt` names, into a folder of their own in the user's cache. The rules
//! are two that all of them can say in a line, and every arm must find as many rows of each outcome as was planted.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::measure::{Arm, Cost, Wanted, alternate, process};
use crate::pipeline::{Outcomes, broker, run as ours};
use crate::visits::{self, Pipeline, Rules};
use crate::{records, rounds};

const REQUIREMENTS: &str = include_str!("../peers/requirements.txt");

/// Runs and prints.
pub fn run() {
    let python = python();
    let home = tempfile::tempdir().expect("a folder");
    file(home.path(), &python);
    topic(home.path(), &python);
}

fn file(home: &Path, python: &Path) {
    let n = records();
    let file = visits::file(home, n, "2%", "0.5%");
    let planted = ours(&Pipeline::of_file(home, Rules::Sql, &file), n).1;
    let sluice = || {
        let (cost, outcomes) = ours(&Pipeline::of_file(home, Rules::Sql, &file), n);
        assert_eq!(outcomes, planted);
        cost
    };
    let duck = || peer(home, python, "duck.py", &[&file.display().to_string()], planted);
    let measured = alternate(
        rounds(),
        vec![Arm::new("sluice, file → 3 Delta", n, sluice), Arm::new("DuckDB, file → 3 Parquet", n, duck)],
    );
    measured.print_arms(&format!("peers: {n} visits of 480 bytes from a file, two rules"));
    measured.print_ratio(0, 1, Wanted::AtLeast(1.5));
}

fn topic(home: &Path, python: &Path) {
    let broker = broker::Broker::start(broker::Options::default());
    let (n, brokers) = (records(), broker.bootstrap());
    visits::topic(&brokers, "visits", n);
    let planted = ours(&Pipeline::of_topic(home, Rules::Sql, &brokers, "visits"), n).1;
    let sluice = || {
        let (cost, outcomes) = ours(&Pipeline::of_topic(home, Rules::Sql, &brokers, "visits"), n);
        assert_eq!(outcomes, planted);
        cost
    };
    let consumer = || peer(home, python, "consumer.py", &[&brokers, "visits"], planted);
    let measured = alternate(
        rounds().min(3), // the consumer takes a while
        vec![Arm::new("sluice, Kafka → 3 Delta", n, sluice), Arm::new("Python, Kafka → 3 Delta", n, consumer)],
    );
    measured.print_arms(&format!("peers: {n} visits of 480 bytes from Kafka, two rules"));
    measured.print_ratio(0, 1, Wanted::AtLeast(3.0));
}

/// Runs one of the scripts; its tables go where nothing is.
fn peer(home: &Path, python: &Path, script: &str, arguments: &[&str], planted: Outcomes) -> Cost {
    let folder = tempfile::tempdir_in(home).expect("a folder");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers").join(script);
    let mut command = Command::new(python);
    let (cost, output) = process(command.arg(script).args(arguments).arg(folder.path().join("tables")));
    let counts: Value = serde_json::from_str(&output).expect("the script prints JSON");
    assert_eq!(Outcomes::of(&counts), planted, "peers find what we find");
    cost
}

/// The Python that has the peers, installed once.
fn python() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let home = base.unwrap_or_else(std::env::temp_dir).join("sluice/peers");
    let python = home.join("bin/python");
    let ready = home.join("ready");
    if std::fs::read_to_string(&ready).is_ok_and(|known| known == REQUIREMENTS) {
        return python;
    }
    let run = |command: &mut Command| {
        let output = command.output().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    run(Command::new("python3").args(["-m", "venv"]).arg(&home));
    let requirements = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/requirements.txt");
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "-r", requirements]));
    std::fs::write(ready, REQUIREMENTS).expect("the folder was made a moment ago");
    python
}
