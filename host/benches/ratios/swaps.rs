//! What it costs that what judges changes all the time: the same run with and without swaps, commits every 200 ms in both;
//! one process on a file, and two of a group on a topic.

use std::cell::Cell;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::ledger::Pace;
use crate::measure::{Arm, Cost, Spread, Wanted, alternate, met, process};
use crate::pipeline::broker;
use crate::visits::{self, Pipeline, Rules};
use crate::{records, rounds};

/// Between two entries of a process.
const COMMIT: Duration = Duration::from_millis(200);

/// Between two changes of the file. Each is a candidate that is loaded, tried and swapped at the next entry's beginning.
const EVERY: Duration = Duration::from_millis(300);

/// Until two processes have judged all there is.
const PATIENCE: Duration = Duration::from_secs(300);

/// One process, then two.
pub fn run() {
    one();
    two();
}

/// A file → three tables, in peace and while the rule's settings are edited.
fn one() {
    let home = tempfile::tempdir().expect("a folder");
    let home = home.path();
    // the last candidate is tried to its end although nothing is left to judge: in a longer run that weighs less
    let n = records() * 4;
    let file = visits::file(home, n, "2%", "0.5%");
    let longest = [const { Cell::new(Duration::ZERO) }; 2];
    let judged = |swaps: bool| {
        let (cost, pace) = of_file(home, &file, n, swaps);
        longest[usize::from(swaps)].update(|most| most.max(pace.longest(0)));
        cost
    };
    let measured =
        alternate(rounds(), vec![Arm::new("with swaps", n, || judged(true)), Arm::new("without", n, || judged(false))]);
    measured
        .print_arms(&format!("swaps: {n} visits of 480 bytes → Delta, commits every 200 ms, a change every 300 ms"));
    measured.print_ratio(0, 1, Wanted::AtLeast(0.9));
    print_longest(longest.map(Cell::into_inner));
}

/// A topic → three tables by two processes. What counts is the pace of entries in the second half: until then both have
/// joined the group, which takes seconds or none as the broker likes.
fn two() {
    let broker = broker::Broker::start(broker::Options::default());
    let home = tempfile::tempdir().expect("a folder");
    let n = records() * 4; // more would not stay in the broker's log
    visits::topic(&broker.bootstrap(), "visits", n);
    let judged = |swaps: bool| of_topic(home.path(), &broker.bootstrap(), n, swaps);
    let (mut ratios, mut control, mut longest, mut activations) = (vec![], vec![], [Duration::ZERO; 2], 0);
    for _ in 0..rounds() {
        let (before, with, after) = (judged(false), judged(true), judged(false));
        let late = |pace: &Pace| pace.rate((n / 2, n));
        ratios.push(late(&with) / late(&after));
        control.push(late(&before) / late(&after));
        let pause = |pace: &Pace| pace.longest(n / 2);
        longest = [longest[0].max(pause(&before)).max(pause(&after)), longest[1].max(pause(&with))];
        activations += with.activated().len();
    }
    let (ratio, control) = (Spread::of(ratios), Spread::of(control));
    println!("\nswaps: {n} visits of 480 bytes in 4 partitions, two processes of a group, {} rounds", rounds());
    println!("  {activations} generations came into force");
    println!("  without ÷ without (noise), wall time         {control}");
    println!("  speed: with swaps ÷ without, wall time       {ratio}   wanted ≥ 0.9: {}", met(ratio.median >= 0.9));
    print_longest(longest);
}

/// A batch that waits for a swap makes its entry later by as much.
fn print_longest([without, with]: [Duration; 2]) {
    println!(
        "  longest time between two entries: {} ms with swaps, {} ms without; wanted: at most an interval of {} ms more: {}",
        with.as_millis(),
        without.as_millis(),
        COMMIT.as_millis(),
        met(with <= without + COMMIT)
    );
}

fn of_file(home: &Path, file: &Path, records: u64, swaps: bool) -> (Cost, Pace) {
    let pipeline = Pipeline::of_file(home, Rules::Three, file);
    // a run that is told to end by itself watches no files; one of files ends with them in any case
    let mut command = visits::sluice();
    let command = command.args(["run", "--json"]).current_dir(pipeline.folder());
    let (cost, _) = edited(pipeline.folder(), swaps, || process(command));
    let pace = Pace::of(pipeline.folder());
    assert_eq!(pace.records(), records);
    assert_eq!(!pace.activated().is_empty(), swaps, "{} swaps", pace.activated().len());
    (cost, pace)
}

fn of_topic(home: &Path, brokers: &str, records: u64, swaps: bool) -> Pace {
    let pipeline = Pipeline::of_topic(home, Rules::Three, brokers, "visits");
    edited(pipeline.folder(), swaps, || {
        let mut command = visits::sluice();
        let command = command.args(["run", "--json"]).current_dir(pipeline.folder());
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let members = [(); 2].map(|()| command.spawn().expect("this binary starts"));
        let folder = pipeline.folder();
        let is_there = || folder.join("lake/_sluice/visits/ledger").exists() && Pace::of(folder).records() == records;
        let begun = Instant::now();
        while !is_there() {
            assert!(begun.elapsed() < PATIENCE, "{} of {records} records", Pace::of(folder).records());
            std::thread::sleep(COMMIT);
        }
        members.into_iter().for_each(stop);
    });
    let pace = Pace::of(pipeline.folder());
    assert_eq!(pace.records(), records);
    assert_eq!(!pace.activated().is_empty(), swaps, "{} swaps", pace.activated().len());
    pace
}

/// As `kill` does it: the process ends by itself.
fn stop(mut member: Child) {
    // SAFETY: the child is ours and nobody has waited for it, so that the number is still its own
    unsafe { libc::kill(member.id() as libc::pid_t, libc::SIGTERM) };
    let status = member.wait().expect("the child can be waited for");
    assert!(status.success(), "a run that is told to stop: {status}");
}

/// Does the work with commits every 200 ms; with swaps, the rule's settings are edited meanwhile.
fn edited<T>(folder: &Path, swaps: bool, work: impl FnOnce() -> T) -> T {
    let path = folder.join("sluice.toml");
    let text = std::fs::read_to_string(&path).expect("a file") + "\n[commit]\nevery = \"200ms\"\n";
    let other = text.replace("max_late = \"7d\"", "max_late = \"8d\"");
    std::fs::write(&path, &text).expect("a file");
    let over = AtomicBool::new(!swaps);
    std::thread::scope(|scope| {
        let editor = scope.spawn(|| {
            for text in [&other, &text].into_iter().cycle() {
                std::thread::park_timeout(EVERY);
                if over.load(Ordering::Relaxed) {
                    return;
                }
                std::fs::write(&path, text).expect("a file");
            }
        });
        let done = work();
        over.store(true, Ordering::Relaxed);
        editor.thread().unpark();
        done
    })
}
