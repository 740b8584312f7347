//! Swaps under load: every record is judged once, by one generation, and every entry names one.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::peer;

/// Swaps; 1,000 by hand.
pub fn swaps() -> u64 {
    std::env::var("SLUICE_SWAPS").map_or(8, |n| n.parse().expect("a number of swaps"))
}

/// The two versions that take turns.
pub fn versions() -> [Vec<u8>; 2] {
    ["1.0.0", "2.0.0"].map(|version| versioned(version).component())
}

/// Each entry's rows carry exactly one code, and each generation always the same.
pub fn judged_by_one(project: &Project, entries: &[Value]) {
    let sql = "SELECT _batch, _findings[1]['code'] AS code, count(*) AS n, max(array_length(_findings)) AS findings \
               FROM error GROUP BY 1, 2";
    let mut codes: BTreeMap<String, (String, u64)> = BTreeMap::new();
    for row in peer::sql(sql, &project.tables()).as_array().expect("rows") {
        let text = |name: &str| row[name].as_str().unwrap_or_else(|| panic!("{name} in {row}")).to_owned();
        let n = row["n"].as_u64().expect("a count");
        assert_eq!(row["findings"], 1, "{row}");
        let other = codes.insert(text("_batch"), (text("code"), n));
        assert_eq!(other, None, "an entry was judged by two generations: {row}");
    }
    let mut pairs = BTreeSet::new();
    for entry in entries.iter().filter(|entry| entry["kind"] == "rows") {
        let (code, n) = codes.remove(entry["id"].as_str().expect("an id")).expect("the entry's rows");
        assert_eq!(entry["counts"]["outcomes"]["error"], n);
        pairs.insert((entry["generation"].as_str().expect("a hash").to_owned(), code));
    }
    assert!(codes.is_empty(), "rows of no entry: {codes:?}");
    let generations: BTreeSet<&String> = pairs.iter().map(|(generation, _)| generation).collect();
    let codes: BTreeSet<&String> = pairs.iter().map(|(_, code)| code).collect();
    assert_eq!((pairs.len(), generations.len(), codes.len()), (2, 2, 2), "{pairs:?}");
}

/// Records that go in for as long as a test waits.
#[derive(Default)]
struct Load {
    fed: i64,
    entries: u64,
    /// seconds of the entry that took longest, from its first record to its end
    longest: f64,
}

impl Load {
    #[track_caller]
    fn until(&mut self, running: &mut Running, text: &str) {
        let begun = Instant::now();
        let mut seen = Vec::new();
        loop {
            running.feed(self.fed..self.fed + 100);
            self.fed += 100;
            if let Ok(line) = running.lines.recv_timeout(Duration::from_millis(10)) {
                if let Some(seconds) = serde_json::from_str::<Value>(&line).ok().and_then(|l| l["seconds"].as_f64()) {
                    self.entries += 1;
                    self.longest = self.longest.max(seconds);
                }
                if line.contains(text) {
                    return;
                }
                seen.push(line);
            }
            assert!(begun.elapsed().as_secs() < 60, "no line with `{text}` among {seen:#?}");
        }
    }
}

#[test]
fn swaps_under_load_lose_and_double_nothing_and_each_entry_names_one_generation() {
    let project = project(&toml("[rule.guest]\nwasm = \"guest.wasm\""));
    let versions = versions();
    project.write("guest.wasm", &versions[0]);
    let mut running = Running::with(&project, &["run", "--json"]);
    let mut load = Load::default();
    load.until(&mut running, "\"entry\"");
    let calm = load.longest;
    let n = swaps();
    for swap in 1..=n {
        project.write("guest.wasm", &versions[swap as usize % 2]);
        load.until(&mut running, "from entry");
    }
    running.end();
    println!(
        "{n} swaps, {} records, {} entries; longest {:.3} s, the first {calm:.3} s",
        load.fed, load.entries, load.longest
    );
    let entries = entries(&project);
    assert_eq!(entries.iter().filter(|entry| entry["kind"] == "activate").count() as u64, n);
    assert_eq!(project.counted(), Counted { valid: 0, error: load.fed as u64, dlq: 0, doubled: 0 });
    judged_by_one(&project, &entries);
    project.sluice(&["reconcile"]).expect(0);
    // an entry takes batches for one interval and is then committed; a swap that somebody waited for would take longer
    assert!(load.longest < 5.0, "an entry took {:.3} s, commits are due every 0.2 s", load.longest);
}
