//! Memory is bounded whatever the input: runs over records that grow, with the process's own memory watched.
//!
//! Small in every run; `SLUICE_MEMORY=20` makes each twenty times as long, which must change nothing but the time.

use std::fmt::Write;
use std::io::Read;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use sluice_host::source::kafka::produce::Producer;

use crate::broker;
use crate::guests::{Guest, INT64, enricher, rule};
use crate::project::Project;

/// Bytes that are this process's own, at most.
const MOST: u64 = 512 << 20;

/// Times that each run is longer than by default.
fn length() -> usize {
    std::env::var("SLUICE_MEMORY").map_or(1, |times| times.parse().expect("SLUICE_MEMORY is a number"))
}

/// `RssAnon` of a process, in bytes; `None` once it has ended.
fn own_memory(child: &Child) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// Runs to the end and answers the screen; fails where the process ever has more memory than it may.
#[track_caller]
fn run(name: &str, project: &Project) -> String {
    let mut child = project.start(&["run", "--until-end", "--workers", "2"], Stdio::null());
    let (mut screen, mut trouble) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (ended, end) = mpsc::channel();
    let trouble = std::thread::spawn(move || {
        let mut text = String::new();
        trouble.read_to_string(&mut text).map(|_| text)
    });
    std::thread::spawn(move || {
        let mut text = String::new();
        let _ = ended.send(screen.read_to_string(&mut text).map(|_| text));
    });
    let mut most = 0;
    // a look at a time: nothing tells when memory grows
    let screen = loop {
        most = most.max(own_memory(&child).unwrap_or(0));
        match end.recv_timeout(Duration::from_millis(2)) {
            Ok(screen) => break screen.unwrap(),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => panic!("the thread that reads the screen ended"),
        }
    };
    let trouble = trouble.join().unwrap().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{name}: {screen}\n{trouble}");
    println!("{name}: {} MiB", most >> 20);
    assert!(most < MOST, "{name}: {} MiB of its own", most >> 20);
    assert!(most > 0, "{name}: its memory was never seen");
    project.sluice(&["reconcile"]).expect(0);
    screen
}

/// A pipeline over `in.ndjson`.
fn project(sql: &str, sections: &str) -> Project {
    reading("files = [\"in.ndjson\"]", sql, sections)
}

fn reading(source: &str, sql: &str, sections: &str) -> Project {
    let toml = format!(
        "name = \"p\"\nstate = \"state\"\n[source]\n{source}\n[schema]\nfile = \"s.sql\"\n{sections}\n\
         [sink]\nvalid = {{ delta = \"valid\" }}\nerror = {{ delta = \"error\" }}\ndlq = {{ delta = \"dlq\" }}\n"
    );
    Project::new(&[("sluice.toml", &toml), ("s.sql", sql)])
}

/// Lines, made one after the other.
fn lines(project: &Project, many: usize, line: impl Fn(usize) -> String) {
    let mut text = String::new();
    for n in 0..many * length() {
        writeln!(text, "{}", line(n)).unwrap();
    }
    project.write("in.ndjson", text);
}

fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let parts: Vec<_> = digits.as_bytes().rchunks(3).rev().map(|part| std::str::from_utf8(part).unwrap()).collect();
    parts.join(",")
}

/// Text that hardly compresses.
fn noise(seed: usize, length: usize) -> String {
    let mut state = seed as u64 + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'a' + ((state >> 33) % 26) as u8)
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn long_records_of_text() {
    let project = project("CREATE TABLE s (n BIGINT, page STRING)", "");
    lines(&project, 60, |n| format!(r#"{{"n":{n},"page":"{}"}}"#, noise(n, 1_000_000)));
    let screen = run("60 records of 1 MB", &project);
    let all = thousands(60 * length());
    assert!(screen.contains(&format!("{all} consumed = {all} valid")), "{screen}");
}

#[test]
fn dead_letters_of_long_records() {
    let project = project("CREATE TABLE s (n BIGINT, page STRING)", "");
    lines(&project, 60, |n| format!(r#"{{"n":"{}"}}"#, noise(n, 1_000_000)));
    let all = thousands(60 * length());
    let screen = run("60 dead letters of 1 MB", &project);
    assert!(screen.contains(&format!("{all} consumed = 0 valid + 0 error + {all} dlq")), "{screen}");
}

/// `{},` is three bytes of a payload and an item with fifty columns.
#[test]
fn lists_of_empty_objects() {
    let fields: Vec<_> = (0..50).map(|n| format!("f{n}: BIGINT")).collect();
    let project = project(&format!("CREATE TABLE s (items ARRAY<STRUCT<{}>>)", fields.join(", ")), "");
    // 16 MB each as columns; one of them 128 MB, more than a record may take
    lines(&project, 20, |n| format!(r#"{{"items":[{}{{}}]}}"#, "{},".repeat(if n == 7 { 320_000 } else { 40_000 })));
    let screen = run("20 lists that grow 130 times", &project);
    let all = 20 * length();
    let said = format!("{} consumed = {} valid + 0 error + 1 dlq", thousands(all), thousands(all - 1));
    assert!(screen.contains(&said), "{said}\n{screen}");
}

#[test]
fn sql_that_makes_much_of_little() {
    let project = project(
        "CREATE TABLE s (n BIGINT, page STRING)",
        "[[enrich]]\nname = \"long\"\nsql = { long = \"repeat(page, n)\", padded = \"lpad(page, n, '-')\" }\n\
         [expect]\nshort = \"octet_length(repeat(long, 3)) > 0\"\n",
    );
    // 60 kB a row; every thousandth wants gigabytes, or more than there is
    let n = |n: usize| match n % 1000 {
        5 => 2_000_000_000,
        6 => i64::MAX,
        _ => 1000,
    };
    lines(&project, 4000, |line| format!(r#"{{"n":{},"page":"{}"}}"#, n(line), noise(line, 60)));
    let screen = run("4,000 rows of 61 kB by SQL", &project);
    let (all, dead) = (4000 * length(), 8 * length());
    let said = format!("{} consumed = {} valid + 0 error + {dead} dlq", thousands(all), thousands(all - dead));
    assert!(screen.contains(&said), "{said}\n{screen}");
}

#[test]
fn a_rule_with_details_of_sixty_thousand_bytes() {
    let call = "(local $i i32)
        (drop (memory.grow (i32.const 8)))
        (memory.fill (i32.const 300000) (i32.const 120) (i32.const 60000))
        (loop $next
            (call $finding (i32.add (i32.const 200000) (i32.mul (local.get $i) (i32.const 24)))
                (local.get $i) (i32.const 0) (i32.const -1) (i32.const 300000) (i32.const 60000))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $next (i32.lt_u (local.get $i) (local.get $rows))))
        (call $answer (i32.const 200000) (local.get $rows))";
    let limits = "limits = { detail = \"60KiB\", call_rows = 256 }";
    let project = with_guest(&rule(call), &format!("[rule.guest]\nwasm = \"guest.wasm\"\n{limits}\n"));
    lines(&project, 5000, |n| format!(r#"{{"n":{n}}}"#));
    let screen = run("5,000 findings of 60 kB", &project);
    let all = thousands(5000 * length());
    assert!(screen.contains(&format!("{all} consumed = 0 valid + {all} error")), "{screen}");
}

/// Every row becomes a thousand, each with a page of 10 kB.
#[test]
fn an_enricher_that_makes_a_thousand_rows_of_each() {
    let call = "(local $i i32)
        (drop (memory.grow (i32.const 64)))
        (loop $next
            (i32.store (i32.add (i32.const 200000) (i32.mul (local.get $i) (i32.const 4)))
                (i32.div_u (local.get $i) (i32.const 1000)))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $next (i32.lt_u (local.get $i) (i32.mul (local.get $rows) (i32.const 1000)))))
        (drop (call $column (local.get $rows) (i32.const 3) (i32.const 1000000)
            (i32.mul (local.get $rows) (i32.const 8000)) (i32.const 0) (i32.const 0)))
        (call $origin (i32.const 200000) (i32.mul (local.get $rows) (i32.const 1000)))
        (i32.const 2048)";
    let mut guest = enricher(INT64, call);
    guest.says.one_to_many = true;
    let section = "[[enrich]]\nname = \"guest\"\nwasm = \"guest.wasm\"\nlimits = { call_rows = 100 }\n";
    let project = with_guest(&guest, section);
    lines(&project, 40, |n| format!(r#"{{"n":{n},"page":"{}"}}"#, noise(n, 10_000)));
    let screen = run("40 records made 40,000 rows of 10 kB", &project);
    let (records, rows) = (thousands(40 * length()), thousands(40_000 * length()));
    assert!(screen.contains(&format!("{records} consumed = {rows} valid + 0 error + 0 dlq")), "{screen}");
}

fn with_guest(guest: &Guest, section: &str) -> Project {
    let project = project("CREATE TABLE s (n BIGINT, page STRING)", section);
    project.write("guest.wasm", guest.component());
    project
}

#[test]
fn many_columns_of_nothing() {
    let columns: Vec<_> = (0..500).map(|n| format!("c{n} DECIMAL(20, 2)")).collect();
    let project = project(&format!("CREATE TABLE s ({})", columns.join(", ")), "");
    lines(&project, 20_000, |_| "{}".into());
    let screen = run("20,000 rows of 500 empty columns", &project);
    assert!(screen.contains(&format!("{0} consumed = {0} valid", thousands(20_000 * length()))), "{screen}");
}

#[tokio::test]
async fn messages_of_twenty_megabytes() {
    let properties = ["message.max.bytes=30000000", "replica.fetch.max.bytes=30000000"].map(str::to_owned).to_vec();
    let broker = broker::Broker::start(broker::Options { properties, ..Default::default() });
    let brokers = broker.bootstrap();
    let written = brokers.clone();
    let many = 12 * length();
    let produce = move || {
        let settings =
            [("bootstrap.servers", &*written), ("message.max.bytes", "30000000"), ("compression.type", "none")];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let mut producer = Producer::new(&settings).unwrap();
        producer.create_topic("large", 2).unwrap();
        let large = noise(1, 20_000_000);
        for n in 0..many {
            producer.send(None, Some(br#"{"n":1}"#), (n % 2) as i32, None).unwrap();
            producer.send(None, Some(large.as_bytes()), (n % 2) as i32, None).unwrap();
        }
        assert_eq!(producer.finish().unwrap(), 2 * many as u64);
    };
    tokio::task::spawn_blocking(produce).await.unwrap();
    let project =
        reading("kafka = [\"large\"]", "CREATE TABLE s (n BIGINT)", &format!("[kafka]\nbrokers = \"{brokers}\"\n"));
    let screen = run("12 messages of 20 MB", &project);
    let said = format!("{} consumed = {many} valid + 0 error + {many} dlq", thousands(2 * many));
    assert!(screen.contains(&said), "{said}\n{screen}");
}
