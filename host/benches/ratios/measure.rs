//! Arms that take turns: what a shared machine does to one of them it does to its neighbours, so ratios within a round mean
//! something where times do not.
//!
//! Criterion measures one function after the other; here the order is a, b, …, a again in each round, and the reverse in the
//! next. The first arm's second turn is the control: how far `a ÷ a` is from 1 is the noise of every other ratio. Both
//! clocks are shown, since another process takes wall time and hardly any of our CPU time.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::mem::MaybeUninit;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What one turn took, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    pub wall: f64,
    pub cpu: f64,
    /// high-water mark of RssAnon, where a process was measured
    pub anon: Option<u64>,
}

/// Something that handles `rows` rows a turn.
pub struct Arm<'a> {
    name: String,
    rows: u64,
    run: Box<dyn FnMut() -> Cost + 'a>,
}

impl<'a> Arm<'a> {
    pub fn new(name: impl Into<String>, rows: u64, run: impl FnMut() -> Cost + 'a) -> Self {
        Arm { name: name.into(), rows, run: Box::new(run) }
    }
}

/// What all arms took in all rounds.
pub struct Measured {
    names: Vec<String>,
    rows: Vec<u64>,
    /// arm → round; the last is the first arm's second turn
    costs: Vec<Vec<Cost>>,
}

/// Which of the clocks.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    Cpu,
    Wall,
}

impl Cost {
    fn on(self, clock: Clock) -> f64 {
        match clock {
            Clock::Cpu => self.cpu,
            Clock::Wall => self.wall,
        }
    }
}

/// A median with the least and the most of all rounds.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Spread {
    pub fn of(mut values: Vec<f64>) -> Spread {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median =
            if values.len().is_multiple_of(2) { (values[middle - 1] + values[middle]) / 2.0 } else { values[middle] };
        Spread { median, least: values[0], most: values[values.len() - 1] }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:.2} ({:.2}–{:.2})", self.median, self.least, self.most);
        f.pad(&text)
    }
}

/// What a ratio of speeds should be.
#[derive(Clone, Copy, Debug)]
pub enum Wanted {
    /// this or more
    AtLeast(f64),
    /// shown, and not asked for
    Any,
}

/// Lets the arms take turns for some rounds, after one that does not count.
pub fn alternate(rounds: usize, mut arms: Vec<Arm<'_>>) -> Measured {
    let names = arms.iter().map(|arm| arm.name.clone()).collect();
    let rows = arms.iter().map(|arm| arm.rows).collect();
    let mut costs = vec![Vec::with_capacity(rounds); arms.len() + 1];
    for arm in &mut arms {
        (arm.run)();
    }
    for round in 0..rounds {
        let mut turns: Vec<usize> = (0..=arms.len()).collect();
        if round % 2 == 1 {
            turns.reverse();
        }
        for turn in turns {
            let arm = turn % arms.len();
            costs[turn].push((arms[arm].run)());
        }
    }
    Measured { names, rows, costs }
}

impl Measured {
    /// Cost per row of `arm` over that of `base`, round by round.
    pub fn cost(&self, arm: usize, base: usize, clock: Clock) -> Spread {
        let per_row = |arm: usize, cost: &Cost| cost.on(clock) / self.rows[arm % self.rows.len()] as f64;
        let rounds = self.costs[arm].iter().zip(&self.costs[base]);
        Spread::of(rounds.map(|(a, b)| per_row(arm, a) / per_row(base, b)).collect())
    }

    /// Speed of `arm` over that of `base`, round by round.
    pub fn speed(&self, arm: usize, base: usize, clock: Clock) -> Spread {
        self.cost(base, arm, clock)
    }

    /// The control: the first arm over itself.
    pub fn control(&self, clock: Clock) -> Spread {
        self.cost(self.names.len(), 0, clock)
    }

    /// Nanoseconds of CPU time per row.
    pub fn nanos(&self, arm: usize) -> f64 {
        let rows = self.rows[arm] as f64;
        Spread::of(self.costs[arm].iter().map(|cost| cost.cpu * 1e9 / rows).collect()).median
    }

    /// A line per arm.
    pub fn print_arms(&self, title: &str) {
        println!("\n{title}, {} rounds", self.costs[0].len());
        println!("  {:32} {:>12} {:>14} {:>12}", "", "rows/s", "CPU-s per M", "RssAnon MiB");
        for (arm, name) in self.names.iter().enumerate() {
            let rows = self.rows[arm] as f64;
            let wall = Spread::of(self.costs[arm].iter().map(|cost| rows / cost.wall).collect()).median;
            let anon = self.costs[arm].iter().filter_map(|cost| cost.anon).max();
            let anon = anon.map_or("-".to_owned(), |bytes| format!("{}", bytes >> 20));
            println!("  {name:32} {wall:>12.0} {:>14.3} {anon:>12}", self.nanos(arm) / 1e3);
        }
        println!("  ratios, median (least–most){:9} {:>22}   {:>22}", "", "CPU time", "wall time");
        self.print_line("the first ÷ itself (noise)", self.control(Clock::Cpu), self.control(Clock::Wall), "");
    }

    /// A line that compares two arms.
    pub fn print_ratio(&self, arm: usize, base: usize, wanted: Wanted) {
        let cpu = self.speed(arm, base, Clock::Cpu);
        let verdict = match wanted {
            Wanted::AtLeast(bound) => format!("wanted ≥ {bound}: {}", met(cpu.median >= bound)),
            Wanted::Any => String::new(),
        };
        let title = format!("speed: {} ÷ {}", self.names[arm], self.names[base]);
        self.print_line(&title, cpu, self.speed(arm, base, Clock::Wall), &verdict);
    }

    fn print_line(&self, title: &str, cpu: Spread, wall: Spread, verdict: &str) {
        println!("  {title:44} {cpu:>18}   {wall:>18}   {verdict}");
    }

    /// The most memory that any arm had in any round.
    pub fn print_memory(&self, arm: usize, bound: u64) {
        let most = self.costs[arm].iter().filter_map(|cost| cost.anon).max().unwrap_or(0);
        let verdict = met(most < bound);
        println!("  RssAnon of {}: {} MiB, wanted < {} MiB: {verdict}", self.names[arm], most >> 20, bound >> 20);
    }
}

pub fn met(is_met: bool) -> &'static str {
    if is_met { "met" } else { "MISSED" }
}

/// What `work` takes on this thread.
pub fn here(work: impl FnOnce()) -> Cost {
    let (wall, cpu) = (Instant::now(), thread_time());
    work();
    Cost { wall: wall.elapsed().as_secs_f64(), cpu: (thread_time() - cpu).as_secs_f64(), anon: None }
}

fn thread_time() -> Duration {
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the clock is one that every thread has, and the call fills the structure
    let time = unsafe {
        assert_eq!(libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, time.as_mut_ptr()), 0, "the thread has a clock");
        time.assume_init()
    };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// How often the memory of a process is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// Runs a process to its end: what it and the children that it waited for took, and what it printed.
///
/// # Panics
/// Where it fails: a benchmark of a failure measures nothing.
pub fn process(command: &mut Command) -> (Cost, String) {
    process_fed(command, Stdio::null())
}

/// The same for a process that reads this.
pub fn process_fed(command: &mut Command, input: Stdio) -> (Cost, String) {
    let mut output = tempfile::tempfile().expect("a temporary file");
    let handle = |file: &File| Stdio::from(file.try_clone().expect("a second handle"));
    command.stdin(input).stdout(handle(&output));
    let begun = Instant::now();
    #[expect(clippy::zombie_processes, reason = "wait4 below reaps it, and answers what it took")]
    let child = command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let pid = child.id();
    let ended = AtomicBool::new(false);
    let (anon, (status, cpu), wall) = std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut most = 0;
            while !ended.load(Ordering::Relaxed) {
                most = most.max(anonymous(pid).unwrap_or(0));
                std::thread::sleep(LOOK);
            }
            most
        });
        let waited = wait(pid);
        let wall = begun.elapsed().as_secs_f64();
        ended.store(true, Ordering::Relaxed);
        (looking.join().expect("the look does not panic"), waited, wall)
    });
    use std::io::Seek;
    let mut text = String::new();
    output.rewind().and_then(|()| output.read_to_string(&mut text)).expect("the output can be read again");
    assert!(status.success(), "{command:?}: {status}\n{text}");
    (Cost { wall, cpu, anon: Some(anon) }, text)
}

/// RssAnon of a process, in bytes.
fn anonymous(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}

fn wait(pid: u32) -> (ExitStatus, f64) {
    use std::os::unix::process::ExitStatusExt;
    let (mut status, mut usage) = (0, MaybeUninit::<libc::rusage>::zeroed());
    // SAFETY: the child is ours and nobody else waits for it; both pointers are valid for the call
    let (waited, usage) = unsafe {
        let waited = libc::wait4(pid as libc::pid_t, &raw mut status, 0, usage.as_mut_ptr());
        (waited, usage.assume_init())
    };
    assert_eq!(waited, pid as libc::pid_t, "the child can be waited for");
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    (ExitStatus::from_raw(status), seconds(usage.ru_utime) + seconds(usage.ru_stime))
}
