//! A candidate generation beside the one in force: what differs is recorded, row by row, and nothing else changes until it is
//! promoted.

use std::path::PathBuf;

use serde_json::{Value, json};
use sluice_host::telemetry::{names, scrape};

use crate::guests::rule;
use crate::peer;
use crate::project::{Counted, Project};
use crate::reload::{Running, entries, project, toml};

const BASE: &str = "[expect]\nsmall = \"n < 1000000\"";

/// Flips one record of 125: 0.8 %.
const NEXT: &str = "[expect]\nsmall = \"n < 1000000 AND n % 125 <> 0\"";

fn status(project: &Project) -> Value {
    serde_json::from_str(&project.sluice(&["shadow", "status", "--json"]).expect(0)).expect("JSON")
}

/// Waits until so many records were compared; answers the status then.
#[track_caller]
fn compared(project: &Project, records: u64) -> Value {
    let begun = std::time::Instant::now();
    loop {
        let status = status(project);
        if status["seen"]["records"] == records {
            return status;
        }
        assert!(begun.elapsed().as_secs() < 60, "{records} records are compared: {status:#}");
        std::thread::park_timeout(std::time::Duration::from_millis(50));
    }
}

/// Feeds records in pieces, each an entry of its own.
fn feed(running: &mut Running, numbers: std::ops::Range<i64>) {
    let mut from = numbers.start;
    while from < numbers.end {
        let to = numbers.end.min(from + 2_500);
        running.feed(from..to);
        running.until(" rows ");
        from = to;
    }
}

#[test]
fn a_rule_that_flips_eight_in_a_thousand_is_reported_with_exactly_those_records() {
    let project = project(&toml(BASE));
    project.write("next.toml", toml(NEXT));
    let mut running = Running::of(&project);
    let metrics = running.until("metrics  http://").split_whitespace().nth(1).expect("an address").to_owned();
    let started = project.sluice(&["shadow", "start", "--with", "next.toml"]).expect(0);
    assert!(started.contains("on 100 % of the batches\n  changed  expect/small"), "{started}");
    running.until("judges beside");
    feed(&mut running, 0..10_000);
    let status = compared(&project, 10_000);
    let seen = &status["seen"];
    assert_eq!((&seen["flipped"], &seen["flips"]), (&json!(80), &json!({"valid → error": 80})));
    assert_eq!(
        (&seen["gained"], &seen["lost"], &seen["columns"]),
        (&json!({"expect/small": 80}), &json!({}), &json!({}))
    );
    let table: PathBuf = project.path().join(status["table"].as_str().expect("a place"));
    let differing = peer::sql(
        "SELECT _offset, before, after, gained[1] AS gained, count(*) OVER (PARTITION BY _offset) AS n FROM d ORDER BY 1",
        &[("d", table)],
    );
    let expected: Vec<Value> = (0..10_000)
        .filter(|n| n % 125 == 0)
        .map(|n| json!({"_offset": n + 1, "before": "valid", "after": "error", "gained": "expect/small", "n": 1}))
        .collect();
    assert_eq!(differing, Value::Array(expected));
    let scraped = scrape::fetch(&metrics).expect("the run serves its metrics");
    assert_eq!(scraped.of(&names::SHADOW_FLIPS, &["valid", "error"]), 80.0);
    assert_eq!(scraped.sum(&names::SHADOW_RECORDS), 10_000.0);
    assert_eq!(
        project.counted(),
        Counted { valid: 10_000, error: 0, dlq: 0, doubled: 0 },
        "the tables know nothing of it"
    );

    let second = project.sluice(&["shadow", "start", "--with", "next.toml"]);
    assert!(second.stderr.contains("judges beside already"), "{}", second.stderr);
    let promoted = project.sluice(&["promote"]).expect(0);
    assert!(promoted.contains("is in force from entry"), "{promoted}");
    running.until("by the ledger's word");
    feed(&mut running, 0..125);
    running.end();
    assert_eq!(project.counted(), Counted { valid: 10_124, error: 1, dlq: 0, doubled: 0 });
    let shown = project.sluice(&["shadow", "status"]).expect(0);
    assert!(shown.contains("promoted: by an operator") && shown.contains("80 records, 0.8 %"), "{shown}");
    let history = project.sluice(&["history"]).expect(0);
    assert!(history.contains("promote   expect/small  ← in force"), "{history}");
    // the pipeline file still says what it said: the promotion stands
    project.feed(&["run"], b"{\"n\": 250}\n").expect(0);
    assert_eq!(project.counted().error, 2);
    project.sluice(&["reconcile"]).expect(0);
}

#[test]
fn a_share_of_the_batches_is_judged_beside() {
    let project = project(&toml(BASE));
    project.write("next.toml", toml(NEXT));
    let mut running = Running::with(&project, &["run", "--workers", "1"]);
    running.until("ctrl-c");
    project.sluice(&["shadow", "start", "--with", "next.toml", "--share", "50%"]).expect(0);
    running.until("judges beside, on 50 % of the batches");
    for n in 0..6 {
        running.feed([n]);
        running.until(" rows ");
    }
    compared(&project, 3);
    let stopped = project.sluice(&["shadow", "stop"]).expect(0);
    assert!(stopped.contains("is over"), "{stopped}");
    running.until("is over: by an operator");
    running.feed([7]);
    running.until(" rows ");
    running.end();
    assert_eq!(status(&project)["seen"]["records"], 3);
    let none = project.sluice(&["promote"]);
    assert_eq!(none.code, Some(2));
    assert!(none.stderr.contains("no shadow judges beside"), "{}", none.stderr);
}

#[test]
fn rules_promote_what_flips_little_and_undo_what_then_errs() {
    let rules = "\n[shadow]\npromote_after = 1_000\nmax_flips = \"1%\"\nmax_errors = \"5%\"";
    let project = project(&toml(&(BASE.to_owned() + rules)));
    project.write("next.toml", toml(NEXT));
    project.write("worse.toml", toml("[expect]\nsmall = \"n < 1000000 AND n % 25 <> 0\""));
    let mut running = Running::of(&project);
    running.until("ctrl-c");
    project.sluice(&["shadow", "start", "--with", "worse.toml"]).expect(0);
    running.until("judges beside");
    feed(&mut running, 0..1_000);
    let line = running.until("ends: ");
    assert!(line.contains("40 of 1000 records flip, 4.000 %, and 1 % may"), "{line}");

    project.sluice(&["shadow", "start", "--with", "next.toml"]).expect(0);
    running.until("judges beside");
    feed(&mut running, 0..1_000);
    let line = running.until("is promoted: ");
    assert!(line.contains("8 of 1000 records flip, 0.800 %"), "{line}");
    // what was promoted meets records of which every tenth is wrong
    let wrong: Vec<i64> = (1..=1_000).map(|n| if n % 10 == 0 { 0 } else { 1 }).collect();
    running.feed(wrong);
    let line = running.until("is in force again");
    assert!(line.contains("100 of 1000 rows since its promotion"), "{line}");
    feed(&mut running, 0..125);
    running.end();
    assert_eq!(project.counted(), Counted { valid: 3_025, error: 100, dlq: 0, doubled: 0 });
    let history = project.sluice(&["history", "--json"]).expect(0);
    let causes: Vec<_> = history.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()["cause"].clone()).collect();
    assert_eq!(causes, ["file", "promote", "rollback"]);
    project.sluice(&["reconcile"]).expect(0);
}

#[test]
fn a_candidate_that_fails_ends_its_shadow_and_nothing_else() {
    let project = project(&toml(BASE));
    project.write("next.toml", toml(&format!("{BASE}\n[rule.guest]\nwasm = \"guest.wasm\"")));
    project.write("guest.wasm", rule("(unreachable)").component());
    let mut running = Running::of(&project);
    running.until("ctrl-c");
    project.sluice(&["shadow", "start", "--with", "next.toml"]).expect(0);
    running.until("judges beside");
    feed(&mut running, 0..200);
    let line = running.until("ends: it failed: ");
    assert!(line.contains("plugin `guest`") && line.contains("plugin-trap"), "{line}");
    feed(&mut running, 0..200);
    running.end();
    assert_eq!(project.counted(), Counted { valid: 400, error: 0, dlq: 0, doubled: 0 });
    project.sluice(&["reconcile"]).expect(0);
}

#[test]
fn a_running_host_is_asked_through_its_endpoint_by_whoever_knows_the_token() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let admin = format!("{BASE}\n[admin]\nlisten = \"{address}\"\ntoken = \"${{TOKEN:-open sesame}}\"");
    let project = project(&toml(&admin));
    project.write("next.toml", toml(NEXT));
    let mut running = Running::of(&project);
    running.until("ctrl-c");
    let ask = |method: &str, path: &str, token: Option<&str>, body: &str| {
        let url = format!("http://{address}{path}");
        scrape::request(method, &url, token, body, std::time::Duration::from_secs(30)).expect("it answers")
    };
    assert_eq!(ask("GET", "/status", None, "").0, 401);
    assert_eq!(ask("POST", "/promote", Some("sesame"), "").0, 401);
    assert_eq!(
        ask("POST", "/promote", Some("open sesame"), ""),
        (409, "no shadow judges beside: `sluice shadow start --with FILE` begins one\n".into())
    );
    let stranger = project.sluice_with(("TOKEN", "guess"), &["shadow", "start", "--with", "next.toml"]);
    assert!(stranger.stderr.contains("does not know the token"), "{}", stranger.stderr);
    project.sluice(&["shadow", "start", "--with", "next.toml"]).expect(0);
    running.until("judges beside");
    feed(&mut running, 0..125);
    compared(&project, 125);
    let (code, shown) = ask("GET", "/status", Some("open sesame"), "");
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!((code, &shown["pipeline"], &shown["shadow"]["seen"]["flipped"]), (200, &json!("t"), &json!(1)));
    project.write("sluice.toml", toml(&admin.replace("n <", "m <")));
    running.until("refused");
    let (_, shown) = ask("GET", "/status", Some("open sesame"), "");
    assert!(shown.contains("reads `m`"), "{shown}");
    project.write("sluice.toml", toml(&admin));
    let promoted = project.sluice(&["promote"]).expect(0);
    assert!(promoted.contains("is in force from entry"), "{promoted}");
    running.until("by the ledger's word");
    let back = ask("POST", "/rollback", Some("open sesame"), "");
    assert_eq!(back.0, 200, "{}", back.1);
    running.until("by the ledger's word");
    feed(&mut running, 0..125);
    running.end();
    assert_eq!(project.counted(), Counted { valid: 250, error: 0, dlq: 0, doubled: 0 });
    project.sluice(&["reconcile"]).expect(0);
}

#[test]
fn a_kill_in_the_midst_of_a_promotion_leaves_the_ledgers_word() {
    let rules = "\n[shadow]\npromote_after = 100\nmax_flips = \"1%\"";
    for (point, is_promoted) in [("activate/stored", false), ("activate/appended", true)] {
        let project = project(&toml(&(BASE.to_owned() + rules)));
        project.write("next.toml", toml(NEXT));
        project.feed(&["run"], b"{\"n\": 1}\n").expect(0);
        project.sluice(&["shadow", "start", "--with", "next.toml"]).expect(0);
        let mut command = project.command(&["run"]);
        command.env("SLUICE_CRASH_AT", point);
        let mut running = Running::start(command);
        running.until("judges beside");
        running.feed(1..=100);
        running.dies();
        let promotions = || entries(&project).iter().filter(|entry| entry["kind"] == "activate").count();
        assert_eq!(promotions(), usize::from(is_promoted), "{point}");
        project.sluice(&["reconcile"]).expect(0);
        let mut running = Running::of(&project);
        if is_promoted {
            running.until("is in force, by `sluice promote` or `sluice rollback`");
            running.until("ctrl-c");
        } else {
            // the numbers of the process that died count, so the rule decides again
            running.until("is promoted: ");
        }
        running.feed([125, 125]);
        running.until("valid 0  error 2");
        running.end();
        assert_eq!(promotions(), 1, "{point}");
        assert_eq!(project.counted(), Counted { valid: 101, error: 2, dlq: 0, doubled: 0 }, "{point}");
        let shown = project.sluice(&["shadow", "status"]).expect(0);
        assert!(shown.contains("promoted: "), "{point}: {shown}");
        project.sluice(&["reconcile"]).expect(0);
    }
}
