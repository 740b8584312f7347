//! What a candidate costs while it is compiled: the pace of a run meanwhile, over that of the same records without one.
//!
//! A run goes on until its candidate is decided about, whether or not there is something left to read.

use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sluice_host::component;

#[path = "../../../tests/hostile/slow.rs"]
mod slow;

use crate::ledger::Pace;
use crate::measure::{Spread, met, process};
use crate::visits::{self, Pipeline, Rules};
use crate::{cores, records, rounds, setting};

/// When the candidate comes: the run is at full speed.
const AFTER: Duration = Duration::from_secs(1);

/// A file → three tables, commits every 200 ms; in every other run a component of 20 MB takes the rule's place.
pub fn run() {
    let home = tempfile::tempdir().expect("a folder");
    let home = home.path();
    let n = records() * 8;
    let file = visits::file(home, n, "2%", "0.5%");
    let bytes = setting("SLUICE_SLOW_BYTES", 20_000_000) as usize;
    let candidate = slow::slow(component::demo_rule().expect("the embedded rule").to_vec(), bytes);
    let (mut beside, mut control, mut took, mut longest) = (vec![], vec![], vec![], Duration::ZERO);
    for _ in 0..rounds() {
        let (before, _) = judged(home, &file, None);
        let (with, asked) = judged(home, &file, Some(&candidate));
        let (after, _) = judged(home, &file, None);
        let ready = *with.activated().first().expect("a candidate that is good");
        let meanwhile = with.within(asked.expect("it was put there"), ready);
        beside.push(with.rate(meanwhile) / after.rate(meanwhile));
        control.push(before.rate(meanwhile) / after.rate(meanwhile));
        took.push((ready - asked.expect("it was put there")).as_seconds_f64());
        longest = longest.max(with.longest(0));
    }
    let (beside, took) = (Spread::of(beside), Spread::of(took));
    let cores = cores();
    let wanted = 1.0 - 1.0 / cores as f64;
    println!("\na candidate of {} MB, {n} visits of 480 bytes → Delta, {} rounds", bytes / 1_000_000, rounds());
    println!("  from the new file to the new generation    {took} s");
    println!("  without ÷ without (noise), wall time       {}", Spread::of(control));
    println!(
        "  speed: meanwhile ÷ without, wall time      {beside}   wanted ≥ {wanted:.2}, all but one of {cores} cores: {}",
        met(beside.median >= wanted)
    );
    println!("  longest time between two entries           {} ms; they are due every 200 ms", longest.as_millis());
}

/// One run, and when the candidate was in its place.
fn judged(home: &Path, file: &Path, candidate: Option<&[u8]>) -> (Pace, Option<DateTime<Utc>>) {
    let pipeline = Pipeline::of_file(home, Rules::Three, file);
    let path = pipeline.folder().join("sluice.toml");
    let text = std::fs::read_to_string(&path).expect("a file");
    let limits = "\n[limits]\ncomponent = \"64MiB\"\ncompile = \"5m\"\n\n[commit]\nevery = \"200ms\"\n";
    std::fs::write(&path, text + limits).expect("a file");
    let mut command = visits::sluice();
    // what an earlier run compiled would be ready at once
    command.args(["run", "--json"]).env("XDG_CACHE_HOME", pipeline.folder().join("cache"));
    let asked = std::thread::scope(|scope| {
        let replacing = scope.spawn(|| {
            let code = candidate?;
            std::thread::sleep(AFTER);
            let (new, old) = (pipeline.folder().join("new.wasm"), pipeline.folder().join("consent.wasm"));
            std::fs::write(&new, code).and_then(|()| std::fs::rename(&new, old)).expect("a file");
            Some(Utc::now())
        });
        process(command.current_dir(pipeline.folder()));
        replacing.join().expect("nothing is wrong with the file")
    });
    (Pace::of(pipeline.folder()), asked)
}
