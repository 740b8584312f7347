//! Whole runs, each a process of its own: a file, or a topic of a real Kafka on the same cores, into three Delta tables.
//!
//! Time begins when the process is started: components come from the cache, tables are new. The broker's own CPU time is not
//! counted, and takes its part of the wall time.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::measure::{Arm, Cost, Wanted, alternate, process};
use crate::visits::{self, Pipeline, Rules};
use crate::{CEILING, records, rounds};

#[path = "../../../tests/broker.rs"]
#[allow(dead_code, unused_imports, reason = "tests use what a benchmark does not")]
pub mod broker;

/// The bound of a run's memory, whatever it reads.
const MEMORY: u64 = 512 << 20;

/// A file → three tables: with three rules, without, bare; and with input that does not decode.
pub fn file() {
    let home = tempfile::tempdir().expect("a folder");
    let home = home.path();
    let usual = visits::file(home, records(), "2%", "0.5%");
    let clean = visits::file(home, records(), "0%", "0%");
    let one_bad = visits::file(home, records(), "0%", "1%");
    // as long as good ones, and cut at the last byte, so that nothing about them is cheaper
    let undecodable = cut_short(&clean);
    let n = records();
    let arm = |name: &str, rules, file: &Path| {
        let file = file.to_owned();
        Arm::new(name, n, move || run(&Pipeline::of_file(home, rules, &file), n).0)
    };
    let measured = alternate(
        rounds(),
        vec![
            arm("three rules", Rules::Three, &usual),
            arm("no rules", Rules::None, &usual),
            Arm::new("bare loop", n, || {
                bare(&Pipeline::of_file(home, Rules::None, &usual), &[&usual.display().to_string()], n)
            }),
            arm("three rules, clean", Rules::Three, &clean),
            arm("three rules, 1 % not JSON", Rules::Three, &one_bad),
            arm("three rules, all cut short", Rules::Three, &undecodable),
        ],
    );
    measured.print_arms(&format!("file: {n} visits of 480 bytes → Delta"));
    measured.print_ratio(0, 1, Wanted::AtLeast(0.9));
    measured.print_ratio(0, 2, Wanted::AtLeast(0.75));
    measured.print_ratio(4, 3, Wanted::AtLeast(0.9));
    measured.print_ratio(5, 3, Wanted::AtLeast(0.5));
    for arm in [0, 1, 5] {
        measured.print_memory(arm, MEMORY);
    }
}

/// A topic → three tables: with three rules, without, bare.
pub fn kafka() {
    let broker = broker::Broker::start(broker::Options::default());
    let home = tempfile::tempdir().expect("a folder");
    let (home, n) = (home.path(), records());
    visits::topic(&broker.bootstrap(), "visits", n);
    let arm = |name: &str, rules| {
        let brokers = broker.bootstrap();
        Arm::new(name, n, move || run(&Pipeline::of_topic(home, rules, &brokers, "visits"), n).0)
    };
    let brokers = broker.bootstrap();
    let bare_pipeline = || Pipeline::of_topic(home, Rules::None, &brokers, "visits");
    let measured = alternate(
        rounds(),
        vec![
            arm("three rules", Rules::Three),
            arm("no rules", Rules::None),
            Arm::new("bare loop", n, || bare(&bare_pipeline(), &[&brokers, "visits"], n)),
        ],
    );
    measured.print_arms(&format!("kafka: {n} visits of 480 bytes, 4 partitions → Delta"));
    measured.print_ratio(0, 1, Wanted::AtLeast(0.9));
    measured.print_ratio(0, 2, Wanted::AtLeast(0.75));
    measured.print_memory(0, MEMORY);
}

/// Rows per outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcomes {
    pub valid: u64,
    pub error: u64,
    pub dlq: u64,
}

impl Outcomes {
    /// Of a JSON object with these three counts.
    pub fn of(counts: &Value) -> Outcomes {
        let of = |name: &str| counts[name].as_u64().unwrap_or(0);
        Outcomes { valid: of("valid"), error: of("error"), dlq: of("dlq") }
    }
}

/// Runs a pipeline to its source's end.
pub fn run(pipeline: &Pipeline, records: u64) -> (Cost, Outcomes) {
    let mut command = visits::sluice();
    let (cost, output) = process(command.args(["run", "--until-end", "--json"]).current_dir(pipeline.folder()));
    let last = output.lines().last().expect("a run says what it did");
    let last: Value = serde_json::from_str(last).expect("it says so in JSON");
    let outcomes = Outcomes::of(&last["counts"]["outcomes"]);
    assert_eq!(outcomes.valid + outcomes.error + outcomes.dlq, records, "{last}");
    (cost, outcomes)
}

fn bare(pipeline: &Pipeline, source: &[&str], records: u64) -> Cost {
    let mut command = Command::new(std::env::current_exe().expect("the binary has a path"));
    let (cost, output) = process(command.args([CEILING, "sluice.toml"]).args(source).current_dir(pipeline.folder()));
    assert_eq!(output.trim(), records.to_string(), "the bare loop wrote all rows");
    cost
}

fn cut_short(file: &Path) -> std::path::PathBuf {
    let text = std::fs::read_to_string(file).expect("the file was just made");
    let cut = file.with_extension("cut.ndjson");
    std::fs::write(&cut, text.replace("}\n", "\n")).expect("a file");
    cut
}
