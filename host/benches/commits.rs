//! 2,000 small commits by the binary: time per commit and memory, block by block.
//!
//! `cargo bench --bench commits`; `SLUICE_COMMITS=400` for fewer. Each file is one entry: batches end with their file, and
//! `commit.rows = 1` makes an entry of every batch. Nothing is compared with a limit here: the last lines say how much
//! more the last block took than the first, and what share of that is noise is for the reader to judge. The second arm
//! puts small files together meanwhile.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Commits that are looked at together.
const BLOCK: usize = 200;

/// Records of each commit.
const RECORDS: usize = 50;

const PIPELINE: &str = r#"name   = "visits"
state  = "lake/_sluice/visits"
commit = { rows = 1 }

[source]
files = ["in/*.ndjson"]

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

/// Far more often than anybody would: a run of 2,000 commits takes seconds here, and hours where it matters.
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
        Err(_) => 2_000,
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
        .args(["run", "--until-end", "--json"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .spawn()?;
    let began = Instant::now();
    let blocks = watch(&mut run)?;
    let status = run.wait()?;
    if !status.success() {
        return Err(format!("sluice run ended with {status}").into());
    }
    println!("{:>12}  {:>10}  {:>10}  {:>14}", "commits", "median ms", "p95 ms", "RssAnon MiB");
    for (n, block) in blocks.iter().enumerate() {
        let name = format!("{}-{}", n * BLOCK + 1, n * BLOCK + block.times.len());
        let (median, p95) = (block.at(50), block.at(95));
        println!("{name:>12}  {:>10.1}  {:>10.1}  {:>14.0}", ms(median), ms(p95), block.memory as f64 / 1024.0);
    }
    let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else { return Ok(()) };
    let (early, late) = (ms(first.at(50)), ms(last.at(50)));
    let per_thousand = (late - early) / (commits - BLOCK).max(1) as f64 * 1000.0;
    println!("{commits} commits in {:.1} s", began.elapsed().as_secs_f64());
    println!("time    last block / first block {:.2}, {per_thousand:+.1} ms per thousand commits", late / early);
    println!("memory  last block / first block {:.2}", last.memory as f64 / first.memory as f64);
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
    std::fs::create_dir(folder.join("in"))?;
    let mut lines = BufReader::new(std::fs::File::open(folder.join("all.ndjson"))?);
    let mut text = Vec::new();
    for n in 0..commits {
        text.clear();
        for _ in 0..RECORDS {
            lines.read_until(b'\n', &mut text)?;
        }
        std::fs::File::create(folder.join(format!("in/{n:06}.ndjson")))?.write_all(&text)?;
    }
    std::fs::write(folder.join("sluice.toml"), format!("{PIPELINE}{upkeep}"))?;
    std::fs::write(folder.join("visits.sql"), SCHEMA)?;
    Ok(())
}

#[derive(Default)]
struct Block {
    /// from one commit to the next
    times: Vec<Duration>,
    /// highest of all samples, KiB
    memory: u64,
}

impl Block {
    fn at(&self, percent: usize) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        times.get((times.len() * percent / 100).min(times.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

fn watch(run: &mut Child) -> Result<Vec<Block>> {
    let lines = BufReader::new(run.stdout.take().ok_or("standard output is piped")?).lines();
    let mut blocks: Vec<Block> = Vec::new();
    let mut last = None;
    for line in lines {
        if !line?.contains("\"entry\":") {
            continue;
        }
        let now = Instant::now();
        if let Some(before) = last.replace(now) {
            if blocks.last().is_none_or(|block| block.times.len() == BLOCK) {
                blocks.push(Block::default());
            }
            let Some(block) = blocks.last_mut() else { continue };
            block.times.push(now - before);
            if block.times.len().is_multiple_of(10) {
                block.memory = block.memory.max(anonymous(run.id())?);
            }
        }
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
