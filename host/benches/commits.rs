//! 4,000 small commits by the binary: time per commit and memory, block by block.
//!
//! `cargo bench --bench commits`; `SLUICE_COMMITS=400` for fewer. One stream, whose next records come when the entry of the
//! last ones has landed: a file for each entry would leave the ledger a position more with each. Nothing is compared with a
//! limit here: the last lines say how much more the last block took than the first, and what share of that is noise is for
//! the reader to judge. The second arm puts small files together meanwhile.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Commits that are looked at together.
const BLOCK: usize = 200;

/// Records of each commit, as the pipeline says it.
const RECORDS: usize = 50;

const PIPELINE: &str = r#"name   = "visits"
state  = "lake/_sluice/visits"
commit = { rows = 50 }

[source]
stdin = true

[schema]
file       = "visits.sql"
event_time = "event_time"

[expect]
has-user      = "user_id IS NOT NULL"
login-exposed = "NOT keep_private OR context.user.login IS NULL"

[sink]
valid = { delta = "lake/visits" }
error = { delta = "lake/visits_errors" }
dlq   = { delta = "lake/visits_dlq" }
"#;

/// Far more often than anybody would: a run of 4,000 commits takes minutes here, and hours where it matters.
const UPKEEP: &str = "[upkeep]\nevery = \"1s\"\n";

const SCHEMA: &str = "CREATE TABLE visits (
  visit_id STRING, event_time TIMESTAMP, user_id STRING, keep_private BOOLEAN, page STRING,
  context STRUCT<referral: STRING, ad_id: STRING,
    user: STRUCT<ip: STRING, login: STRING, connected_since: TIMESTAMP>,
    technical: STRUCT<browser: STRING, browser_version: STRING, network_type: STRING, device_type: STRING, device_version: STRING>>
)
";

fn main() -> Result<()> {
    let commits = match std::env::var("SLUICE_COMMITS") {
        Ok(text) => text.parse()?,
        Err(_) => 4_000,
    };
    for (title, section) in [("without upkeep", ""), ("with upkeep every second", UPKEEP)] {
        println!("{title}");
        measure(commits, section)?;
    }
    Ok(())
}

fn measure(commits: usize, upkeep: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    prepare(folder.path(), commits, upkeep)?;
    let mut run = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(["run", "--json"])
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let began = Instant::now();
    let blocks = watch(&mut run, BufReader::new(File::open(folder.path().join("all.ndjson"))?))?;
    let status = run.wait()?;
    if !status.success() {
        return Err(format!("sluice run ended with {status}").into());
    }
    println!("{:>12}  {:>10}  {:>10}  {:>16}", "commits", "median ms", "p95 ms", "RssAnon MiB");
    for (n, block) in blocks.iter().enumerate() {
        let name = format!("{}-{}", n * BLOCK + 1, n * BLOCK + block.times.len());
        let (median, p95) = (block.at(50), block.at(95));
        let memory = format!("{} to {}", block.least >> 10, block.most >> 10);
        println!("{name:>12}  {:>10.1}  {:>10.1}  {memory:>16}", ms(median), ms(p95));
    }
    let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else { return Ok(()) };
    let (early, late) = (ms(first.at(50)), ms(last.at(50)));
    let per_thousand = (late - early) / (commits - BLOCK).max(1) as f64 * 1000.0;
    println!("{commits} commits in {:.1} s", began.elapsed().as_secs_f64());
    println!("time    last block / first block {:.2}, {per_thousand:+.1} ms per thousand commits", late / early);
    // at first a process still finds out how much room it needs
    let quarter = |n: usize| &blocks[blocks.len() * (n - 1) / 4..blocks.len() * n / 4];
    let most = |blocks: &[Block]| blocks.iter().map(|block| block.most).max().unwrap_or(0) as f64;
    println!("memory  most in the last quarter / most in the second {:.2}", most(quarter(4)) / most(quarter(2)));
    for sink in ["valid", "error", "dlq"] {
        let shown = Command::new(env!("CARGO_BIN_EXE_sluice"))
            .args(["inspect", "table", sink, "--json"])
            .current_dir(folder.path())
            .output()?;
        let shown: serde_json::Value = serde_json::from_slice(&shown.stdout)?;
        println!("{sink:<6}  {} live files, {} rows", shown["counts"]["files"], shown["counts"]["rows"]);
    }
    println!();
    Ok(())
}

fn prepare(folder: &Path, commits: usize, upkeep: &str) -> Result<()> {
    let records = (commits * RECORDS).to_string();
    let made = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(["generate", "visits", "--records", &records, "--out", "all.ndjson"])
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    if !made.success() {
        return Err("sluice generate failed".into());
    }
    std::fs::write(folder.join("sluice.toml"), format!("{PIPELINE}{upkeep}"))?;
    std::fs::write(folder.join("visits.sql"), SCHEMA)?;
    Ok(())
}

#[derive(Default)]
struct Block {
    /// from one commit to the next
    times: Vec<Duration>,
    /// lowest and highest of all samples, KiB
    least: u64,
    most: u64,
}

impl Block {
    fn at(&self, percent: usize) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        times.get((times.len() * percent / 100).min(times.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

fn watch(run: &mut Child, mut records: impl BufRead) -> Result<Vec<Block>> {
    let lines = BufReader::new(run.stdout.take().ok_or("standard output is piped")?).lines();
    let mut to = run.stdin.take();
    let mut feed = || -> Result<()> {
        let mut text = Vec::new();
        for _ in 0..RECORDS {
            records.read_until(b'\n', &mut text)?;
        }
        match &mut to {
            Some(open) if !text.is_empty() => open.write_all(&text)?,
            Some(_) | None => to = None, // that was all: the run ends
        }
        Ok(())
    };
    feed()?;
    let mut blocks: Vec<Block> = Vec::new();
    let mut last = None;
    for line in lines {
        if !line?.contains("\"entry\":") {
            continue;
        }
        let now = Instant::now();
        if let Some(before) = last.replace(now) {
            if blocks.last().is_none_or(|block| block.times.len() == BLOCK) {
                blocks.push(Block { least: u64::MAX, ..Block::default() });
            }
            let Some(block) = blocks.last_mut() else { continue };
            block.times.push(now - before);
            if block.times.len().is_multiple_of(10) {
                let memory = anonymous(run.id())?;
                (block.least, block.most) = (block.least.min(memory), block.most.max(memory));
            }
        }
        feed()?;
    }
    Ok(blocks)
}

/// RssAnon of a process, KiB.
fn anonymous(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    Ok(line.map(|text| text.trim().trim_end_matches(" kB").parse()).transpose()?.unwrap_or(0))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
