//! Metrics, probes and `sluice top`, through the binary: what an operator scrapes while a pipeline runs.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use sluice_host::telemetry::names;
use sluice_host::telemetry::scrape::{self, Snapshot};

use crate::broker;
use crate::project::{Project, VISITS_SQL, visits_toml};

const PATIENCE: Duration = Duration::from_secs(60);

/// `sluice run`, up to the line that says where its metrics are.
struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    url: String,
    screen: String,
}

impl Running {
    fn start(project: &Project) -> Running {
        let mut child = project.start(&["run"], Stdio::piped());
        let stdin = child.stdin.take();
        let mut running = Running {
            stdout: BufReader::new(child.stdout.take().expect("it is piped")),
            child,
            stdin,
            url: String::new(),
            screen: String::new(),
        };
        running.url = running.read_until("  metrics  ").split(' ').next().expect("a word").to_owned();
        running
    }

    /// Reads the screen up to a line that begins so; answers the rest of that line.
    #[track_caller]
    fn read_until(&mut self, start: &str) -> String {
        loop {
            let mut line = String::new();
            if self.stdout.read_line(&mut line).expect("the screen is text") == 0 {
                let mut stderr = String::new();
                let _ = self.child.stderr.take().map(|mut pipe| pipe.read_to_string(&mut stderr));
                panic!("the run ended before a line `{start}`:\n{}{stderr}", self.screen);
            }
            self.screen.push_str(&line);
            if let Some(rest) = line.strip_prefix(start) {
                return rest.trim_end().to_owned();
            }
        }
    }

    /// The first snapshot for which something holds.
    #[track_caller]
    fn snapshot_when(&self, holds: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let begun = Instant::now();
        loop {
            let snapshot = scrape::fetch(&self.url).expect("the run serves its metrics");
            if holds(&snapshot) {
                return snapshot;
            }
            assert!(begun.elapsed() < PATIENCE, "never so: {snapshot:?}");
            std::thread::yield_now();
        }
    }

    fn probe(&self, path: &str) -> (u16, String) {
        let url = self.url.replace("/metrics", path);
        scrape::get(&url, PATIENCE).expect("the run answers")
    }

    /// Ends its input, or it by a signal where it has none; answers its last line.
    #[track_caller]
    fn end(mut self) -> String {
        if self.stdin.take().is_none() {
            // SAFETY: kill takes no pointers, and the child is not reaped yet
            unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
        }
        self.stdout.read_to_string(&mut self.screen).expect("the screen is text");
        assert!(self.child.wait().expect("it ends").success(), "{}", self.screen);
        self.screen.lines().find(|line| line.starts_with("stopped at")).expect("the last line").to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A pipeline over standard input, whose metrics are where `listen` says.
fn stdin_project(listen: &str) -> Project {
    let extra = format!("[commit]\nevery = \"50ms\"\n[metrics]\nlisten = \"{listen}\"\n");
    let toml = visits_toml("stdin = true\nskip = \"_offset % 6 = 0\"", &extra);
    Project::new(&[("sluice.toml", &toml), ("visits.sql", VISITS_SQL)])
}

const LINES: &[u8] =
    b"{\"user_id\": \"u1\"}\n{\"user_id\": \"u2\"}\n{\"user_id\": \"u3\", \"keep_private\": true, \"context\": \
{\"user\": {\"login\": \"m\"}}}\n{\"page\": \"index\"}\n{broken\n\n";

#[test]
fn metrics_of_a_running_pipeline_are_its_summary() {
    let project = stdin_project("127.0.0.1:0");
    let mut running = Running::start(&project);
    for round in 1..=2 {
        running.stdin.as_mut().expect("it is piped").write_all(LINES).unwrap();
        let consumed = f64::from(6 * round);
        running.snapshot_when(|snapshot| snapshot.sum(&names::CONSUMED) == consumed);
    }
    assert_eq!(running.probe("/livez"), (200, "ok\n".into()));
    assert_eq!(running.probe("/readyz"), (200, "ok\n".into()));
    assert_eq!(running.probe("/nothing-there").0, 404);

    let (status, text) = running.probe("/metrics");
    assert_eq!(status, 200);
    for line in [
        "sluice_records_total{outcome=\"valid\"} 4",
        "sluice_records_total{outcome=\"error\"} 4",
        "sluice_records_total{outcome=\"dlq\"} 2",
        "sluice_records_total{outcome=\"skipped\"} 2",
        "sluice_findings_total{rule=\"expect\",code=\"has-user\",severity=\"error\"} 2",
        "sluice_findings_total{rule=\"expect\",code=\"login-exposed\",severity=\"error\"} 2",
        "sluice_dead_letters_total{at=\"decode\",reason=\"not-json\"} 2",
        "sluice_sink_lag_entries{outcome=\"valid\"} 0",
        "sluice_source_up 1",
        "sluice_open_entry_records 0.0",
    ] {
        assert!(text.lines().any(|served| served == line), "{line}\nin\n{text}");
    }
    let snapshot = Snapshot::parse(&text);
    for name in names::ALL {
        for series in snapshot.all(name) {
            let labels: Vec<&str> = series.labels.iter().map(|(label, _)| label.as_str()).collect();
            assert_eq!(labels, name.labels, "{}", name.name);
        }
    }
    let commits = snapshot.observed(&names::COMMIT_SECONDS).0;
    assert_eq!(commits, snapshot.sum(&names::LEDGER_ENTRIES));
    assert!(commits >= 2.0 && snapshot.sum(&names::LAST_COMMIT) > snapshot.sum(&names::STARTED));
    assert!(snapshot.of(&names::STAGE_SECONDS, &["decode"]) > 0.0);
    assert!(snapshot.sum(&names::ANONYMOUS) > 1e6);

    let url = running.url.clone();
    let top = project.sluice(&["top", &url, "--once"]).expect(0);
    assert!(top.starts_with("visits · generation ") && top.contains(" · ready\n"), "{top}");
    for words in ["expect/has-user", "decode/not-json", "40.0 %", " retries"] {
        assert!(top.contains(words), "{words}\nin\n{top}");
    }
    let last = running.end();
    assert!(last.ends_with("12 consumed = 4 valid + 4 error + 2 dlq + 2 skipped"), "{last}");
    assert!(scrape::fetch(&url).is_err(), "the endpoint ends with the run");
}

#[test]
fn plugins_show_their_time_and_their_failures() {
    let project = stdin_project("127.0.0.1:0");
    let toml = project.read("sluice.toml");
    project.write(
        "sluice.toml",
        format!("{toml}\n[rule.timely]\nbuiltin = \"timely\"\nconfig = {{ max_late = \"7d\" }}\n"),
    );
    let mut running = Running::start(&project);
    running.stdin.as_mut().expect("it is piped").write_all(LINES).unwrap();
    let snapshot = running.snapshot_when(|snapshot| snapshot.sum(&names::CONSUMED) == 6.0);
    // every kind of series is there now
    let text = running.probe("/metrics").1;
    let served: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let typed = |name: &&names::Name| format!("{} {}", name.name.trim_end_matches("_total"), name.kind.as_str());
    // but for those of a shadow and of windows, of which there are none
    let is_rare = |name: &str| name.starts_with("sluice_shadow_") || name.starts_with("sluice_windows");
    let is_there = |name: &&&names::Name| !is_rare(name.name) || name.labels.is_empty();
    let listed: BTreeSet<String> = names::ALL.iter().filter(is_there).map(typed).collect();
    assert_eq!(served, listed.iter().map(String::as_str).collect());
    assert_eq!(snapshot.of(&names::PLUGIN_ROWS, &["timely"]), 4.0);
    assert!(snapshot.of(&names::PLUGIN_SECONDS, &["timely"]) > 0.0);
    assert!(snapshot.of(&names::PLUGIN_FUEL, &["timely"]) > 0.0);
    assert_eq!(snapshot.sum(&names::PLUGIN_FAILURES), 0.0);
    let top = project.sluice(&["top", &running.url, "--once"]).expect(0);
    assert!(top.lines().any(|line| line.starts_with("  timely ") && line.ends_with(" 0")), "{top}");
    running.end();
}

#[test]
fn without_a_word_the_next_free_port_is_taken_and_top_finds_its_own() {
    let extra = "[commit]\nevery = \"50ms\"\n";
    let toml = visits_toml("stdin = true", extra);
    let projects = [(); 2].map(|()| Project::new(&[("sluice.toml", &toml), ("visits.sql", VISITS_SQL)]));
    let mut running = projects.each_ref().map(Running::start);
    assert_ne!(running[0].url, running[1].url);
    for (n, run) in running.iter_mut().enumerate() {
        run.stdin.as_mut().expect("it is piped").write_all(&b"{\"user_id\": \"u\"}\n".repeat(n + 1)).unwrap();
        run.snapshot_when(|snapshot| snapshot.sum(&names::CONSUMED) == n as f64 + 1.0);
    }
    for (n, project) in projects.iter().enumerate() {
        let place = running[n].url.replace("http://", "").replace("/metrics", "");
        let top = project.sluice(&["top"]).expect(0);
        assert!(top.contains(&place), "the same name elsewhere is another pipeline: {place}\nin\n{top}");
        assert!(top.lines().any(|line| line.split_whitespace().take(2).eq(["valid", &(n + 1).to_string()])), "{top}");
    }
    for run in running {
        run.end();
    }
    let gone = projects[0].sluice(&["top"]);
    assert_eq!(gone.code, Some(2));
    assert!(gone.stderr.contains("start `sluice run`"), "{}", gone.stderr);
}

#[test]
fn a_port_that_was_asked_for_and_is_taken_is_an_error_that_names_who_has_it() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let project = stdin_project(&address);
    let refused = project.sluice(&["run"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stdout);
    for words in [&*address, "[metrics] listen", &format!("pid {} (", std::process::id())] {
        assert!(refused.stderr.contains(words), "{words}: {}", refused.stderr);
    }
    assert!(!project.path().join("lake").exists(), "nothing was written");
}

#[test]
fn metrics_can_be_switched_off() {
    let project = stdin_project("off");
    let ran = project.feed(&["run"], LINES).expect(0);
    assert!(!ran.contains("metrics") && ran.contains("ctrl-c flushes and stops"), "{ran}");
    let top = project.sluice(&["top"]);
    assert_eq!(top.code, Some(2));
    assert!(top.stderr.contains("listen = \"off\""), "{}", top.stderr);
}

#[test]
fn listen_must_be_a_place() {
    let project = stdin_project("everywhere");
    let refused = project.sluice(&["check"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("must be a host and a port"), "{}{}", refused.stdout, refused.stderr);
}

#[test]
fn every_metric_is_listed() {
    assert_eq!(Project::new(&[]).sluice(&["top", "--list"]).expect(0), names::table());
}

#[test]
fn alive_and_not_ready_while_no_broker_answers() {
    let extra = "[kafka]\nbrokers = \"127.0.0.1:1\"\n[metrics]\nlisten = \"127.0.0.1:0\"\n";
    let toml = visits_toml("kafka = [\"visits\"]", extra);
    let project = Project::new(&[("sluice.toml", &toml), ("visits.sql", VISITS_SQL)]);
    let running = Running::start(&project);
    let begun = Instant::now();
    let (status, why) = loop {
        let (status, why) = running.probe("/readyz");
        if !why.starts_with("starting: ") {
            break (status, why);
        }
        assert!(begun.elapsed() < PATIENCE, "it never begins to read: {why}");
    };
    assert_eq!(status, 503);
    assert!(why.contains("where to read") || why.contains("no broker"), "{why}");
    assert_eq!(running.probe("/livez").0, 200);
    let top = project.sluice(&["top", &running.url]).expect(0);
    assert!(top.contains("not ready: "), "{top}");
}

#[test]
fn lag_and_partitions_of_a_topic_are_seen() {
    let broker = broker::shared().bootstrap();
    let topic = broker::topic("metrics");
    let extra =
        format!("[commit]\nevery = \"200ms\"\n[kafka]\nbrokers = \"{broker}\"\n[metrics]\nlisten = \"127.0.0.1:0\"\n");
    let toml = visits_toml(&format!("kafka = [\"{topic}\"]"), &extra);
    let project = Project::new(&[("sluice.toml", &toml), ("visits.sql", VISITS_SQL)]);
    let generate = ["generate", "visits", "--records", "1000", "--topic", &topic, "--brokers", &broker];
    project.sluice(&[&generate[..], &["--partitions", "2", "--tally", "tally.json"]].concat()).expect(0);
    let mut running = Running::start(&project);
    running.stdin = None;
    let all_there =
        |s: &Snapshot| s.sum(&names::CONSUMED) == 1000.0 && s.all(&names::LAG).len() == 2 && s.sum(&names::LAG) == 0.0;
    let snapshot = running.snapshot_when(all_there);
    assert!(snapshot.all(&names::LAG).iter().all(|series| series.label("topic") == topic));
    assert_eq!(snapshot.sum(&names::PARTITIONS), 2.0);
    assert!(snapshot.of(&names::REBALANCES, &["assigned"]) >= 1.0);
    assert_eq!(running.probe("/readyz"), (200, "ok\n".into()));
    let tally: serde_json::Value = serde_json::from_str(&project.read("tally.json")).unwrap();
    let mut shown = Vec::new();
    for outcome in ["valid", "error", "dlq"] {
        let n = snapshot.of(&names::RECORDS, &[outcome]) as u64;
        assert_eq!(Some(n), tally["outcomes"][outcome].as_u64(), "{outcome}");
        shown.push(format!("{n} {outcome}"));
    }
    let last = running.end();
    assert!(last.ends_with(&format!("1,000 consumed = {} + 0 skipped", shown.join(" + "))), "{last}");
}

#[test]
fn log_lines_can_be_read_by_machine() {
    let project = stdin_project("127.0.0.1:x");
    let refused = project.sluice(&["run", "--log-format", "json"]);
    assert_eq!(refused.code, Some(2));
    let line: serde_json::Value = serde_json::from_str(refused.stderr.lines().next().unwrap_or_default())
        .unwrap_or_else(|e| panic!("{e}: {}", refused.stderr));
    assert_eq!((line["level"].as_str(), line["message"].as_str()), (Some("ERROR"), Some("sluice cannot go on")));
    assert!(line["error"].as_str().is_some_and(|text| text.contains("metrics.listen")), "{line}");
}
