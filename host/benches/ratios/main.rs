//! The speed of Sluice, as ratios: to native code, in every language, to other decoders, to itself without rules, to
//! the bare work, to peers.
//!
//! ```text
//! make bench          boundary, languages, decode, file, kafka
//! make bench-peers    peers: DuckDB, a Python consumer
//!                     swaps: the same run while what judges changes; candidate: while a large component is compiled;
//!                     audits: by way of staging
//! cargo bench … --bench ratios -- decode file      some of them
//! ```
//! Sizes: `SLUICE_BENCH_RECORDS` (500,000 visits of 480 bytes in a file or topic), `SLUICE_BENCH_ROUNDS` (5),
//! `SLUICE_BENCH_WINDOWS` (20 windows of 50,000 visits; 200 of them need 15 GB of disk).
//! A missed ratio is printed as such and fails nothing: the machine may be busy with other things.
//!
//! Whole runs are processes: this binary started again, as `sluice` ([`SLUICE`]) or as the bare loop ([`ceiling`]), so that
//! all arms have the same compiler settings. No numbers are kept, no history drawn.

use std::process::ExitCode;

mod audits;
mod boundary;
mod candidate;
mod ceiling;
mod decode;
mod guest;
mod languages;
mod ledger;
mod measure;
mod peers;
mod pipeline;
mod swaps;
mod visits;

/// As the first argument: be `sluice` with the others.
const SLUICE: &str = "--sluice";
/// As the first argument: be the bare loop, see [`ceiling::run`].
const CEILING: &str = "--ceiling";

/// What runs where nothing is named; peers need Python and some minutes of their own.
const USUAL: [&str; 5] = ["boundary", "languages", "decode", "file", "kafka"];

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        // the command line is parsed from the process's arguments
        Some(SLUICE) => return sluice(),
        Some(CEILING) => return ceiling::run(&arguments[1..]),
        Some(_) | None => {}
    }
    arguments.retain(|argument| argument != "--bench"); // what cargo tells every benchmark
    if arguments.is_empty() {
        arguments = USUAL.map(str::to_owned).to_vec();
    }
    println!("{} cores; CPU-s = user and system time of all threads, children included", cores());
    for argument in &arguments {
        match argument.as_str() {
            "boundary" => boundary::run(),
            "languages" => languages::run(),
            "decode" => decode::run(),
            "file" => pipeline::file(),
            "kafka" => pipeline::kafka(),
            "swaps" => swaps::run(),
            "candidate" => candidate::run(),
            "audits" => audits::run(),
            "peers" => peers::run(),
            other => {
                eprintln!(
                    "there is no benchmark `{other}`; there are boundary, languages, decode, file, kafka, swaps, \
                     candidate, audits, peers"
                );
                return ExitCode::from(2);
            }
        }
    }
    ExitCode::SUCCESS
}

/// `ratios --sluice run …` is `sluice run …`: the arguments that the command line sees begin one later.
fn sluice() -> ExitCode {
    sluice_host::cli::main_with(std::env::args_os().skip(1))
}

/// Cores of this machine.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

/// A size from the environment.
fn setting(name: &str, usual: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a number, not `{text}`")),
        Err(_) => usual,
    }
}

/// Records of a whole run.
fn records() -> u64 {
    setting("SLUICE_BENCH_RECORDS", 500_000)
}

/// Rounds of a comparison.
fn rounds() -> usize {
    setting("SLUICE_BENCH_ROUNDS", 5) as usize
}
