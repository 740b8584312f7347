//! A reference table in memory: bytes per row, nanoseconds per lookup, and how long rows wait while a new version is read.
//!
//! `cargo bench --bench reference`; `SLUICE_ROWS=100000` for a smaller table than 5 million rows. One text key of 17 bytes
//! and one text column beside it; half of what is asked for is there; batches of 4,096, in no order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use rand::{RngExt, SeedableRng};
use sluice_host::reference::{OnDuplicate, Snapshot};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What a lookup may cost, per row.
const BUDGET: f64 = 60.0;

const BATCH: usize = 4096;

/// Batches of one round, and rounds: the best round is what the code costs, the others are what the machine does beside it.
const BATCHES: usize = 250;
const ROUNDS: usize = 7;

fn main() -> Result<()> {
    let rows: usize = match std::env::var("SLUICE_ROWS") {
        Ok(text) => text.parse()?,
        Err(_) => 5_000_000,
    };
    let before = anonymous();
    let began = Instant::now();
    let snapshot = snapshot(rows)?;
    println!("rows       {rows}, one text key of 17 bytes, one text column");
    println!("built in   {:.2} s", began.elapsed().as_secs_f64());
    let bytes = snapshot.bytes();
    println!(
        "memory     {:.1} bytes a row by its own count, of which values {:.1}",
        per(bytes, rows),
        per(values(rows), rows)
    );
    println!("           {:.1} bytes a row by RssAnon", per(anonymous().saturating_sub(before) as usize * 1024, rows));

    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(7);
    let asked: Vec<ArrayRef> = (0..BATCHES)
        .map(|_| {
            let keys = (0..BATCH).map(|_| key(random.random_range(0..2 * rows)));
            Arc::new(StringArray::from_iter_values(keys)) as ArrayRef
        })
        .collect();
    let round = |work: &dyn Fn(&ArrayRef) -> usize| -> f64 {
        let began = Instant::now();
        let found: usize = asked.iter().map(work).sum();
        assert!(found * 3 > BATCH * BATCHES, "about half of the keys are there");
        began.elapsed().as_nanos() as f64 / (BATCH * BATCHES) as f64
    };
    let found = |keys: &ArrayRef| {
        let matches = snapshot.lookup(std::slice::from_ref(keys)).expect("the key is one text column");
        matches.found.len() - arrow::array::Array::null_count(&matches.found)
    };
    let joined = |keys: &ArrayRef| {
        let matches = snapshot.lookup(std::slice::from_ref(keys)).expect("the key is one text column");
        let names = snapshot.values("full_name", &matches).expect("it has the column");
        names.len() - names.null_count()
    };
    let (mut lookups, mut joins) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        lookups.push(round(&found));
        joins.push(round(&joined));
    }
    println!("lookup     {} ns a row (best and median of {ROUNDS}); budget {BUDGET}", best_and_median(&mut lookups));
    println!("with value {} ns a row", best_and_median(&mut joins));
    if lookups[0] > BUDGET {
        println!("           over budget");
    }

    // the new version is built beside the lookups, as a run does it
    let over = AtomicBool::new(false);
    let mut longest = Duration::ZERO;
    let mut batches = 0u64;
    let took = std::thread::scope(|scope| -> Result<Duration> {
        let next = scope.spawn(|| {
            let began = Instant::now();
            let built = self::snapshot(rows).map(drop).map_err(|e| e.to_string());
            over.store(true, Ordering::SeqCst);
            built.map(|()| began.elapsed())
        });
        for keys in asked.iter().cycle() {
            if over.load(Ordering::SeqCst) {
                break;
            }
            let began = Instant::now();
            std::hint::black_box(found(keys));
            longest = longest.max(began.elapsed());
            batches += 1;
        }
        Ok(next.join().map_err(|_| "the thread that builds panicked")??)
    })?;
    println!(
        "refresh    {:.2} s beside {batches} batches; the longest of them took {:.1} ms",
        took.as_secs_f64(),
        longest.as_secs_f64() * 1000.0
    );
    Ok(())
}

fn key(n: usize) -> String {
    // scattered, so that neighbours in the table are none in the order of keys
    format!("device-{:010x}", (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24)
}

fn snapshot(rows: usize) -> Result<Snapshot> {
    let fields = vec![Field::new("device", DataType::Utf8, true), Field::new("full_name", DataType::Utf8, true)];
    let keys = StringArray::from_iter_values((0..rows).map(key));
    let names = StringArray::from_iter_values((0..rows).map(|n| format!("Device {n}")));
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![Arc::new(keys), Arc::new(names)])?;
    Ok(Snapshot::new("devices".into(), "1".into(), batch, &["device".to_owned()], OnDuplicate::First)?)
}

/// Bytes of the text itself.
fn values(rows: usize) -> usize {
    (0..rows).map(|n| key(n).len() + format!("Device {n}").len()).sum()
}

fn per(bytes: usize, rows: usize) -> f64 {
    bytes as f64 / rows.max(1) as f64
}

fn best_and_median(times: &mut [f64]) -> String {
    times.sort_by(f64::total_cmp);
    format!("{:.1}, {:.1}", times[0], times[times.len() / 2])
}

/// RssAnon, KiB.
fn anonymous() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
