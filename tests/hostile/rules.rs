//! Calls of rules: how batches are cut, which instance judges, when a plugin has failed.

use std::time::Duration;

use sluice_host::config::OnFailure;
use sluice_host::error::Error;
use sluice_host::outcome::Reason;

use super::{batch, caller, check, config, reasons};
use crate::guests::{INT64, NOTHING, UTF8, at_thirteen, rule};

#[test]
fn a_call_that_has_fuel_left_ends_at_its_deadline() {
    let mut config = config();
    config.limits.fuel = u64::MAX;
    config.limits.time = Duration::from_millis(20);
    let checked = check(&at_thirteen("(loop $ever (br $ever))"), &config, 20).unwrap();
    assert_eq!(reasons(&checked.dead), [(13, Reason::PluginTimeout)]);
    assert_eq!(checked.dead[0].detail.split(" in ").next(), Some("it ran longer than 20ms (limits.time)"));
}

#[test]
fn a_detail_is_cut_and_escaped() {
    let say = |len: u32| {
        let call = format!(
            "(call $finding (i32.const 3000) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 70000) (i32.const {len}))
             (call $answer (i32.const 3000) (i32.const 1))"
        );
        let guest = rule(&call).extra(r#"(data (i32.const 70000) "a\1b[2J\0ab")"#);
        check(&guest, &config(), 1).unwrap().findings.remove(0)
    };
    assert_eq!(say(7).detail.as_deref(), Some("a\\u{1b}[2J\\nb"));
    assert_eq!(say(40_000).detail.map(|text| text.len()), Some(63), "12 characters, then NULs of 5 bytes each");
    let finding = say(1);
    assert_eq!((&*finding.rule, &*finding.code, finding.column.as_deref()), ("guest", "unlucky", Some("n")));
}

/// The verdict on a row is the same however its batch was cut.
#[test]
fn findings_keep_their_rows_across_calls() {
    let object = "(local $row i32)
        (local.set $row (call $thirteen (local.get $rows) (local.get $columns)))
        (if (i32.eq (local.get $row) (i32.const -1)) (then (return (i32.const 1024))))
        (call $finding (i32.const 3000) (local.get $row) (i32.const 1) (i32.const -1) (i32.const 0) (i32.const -1))
        (call $answer (i32.const 3000) (i32.const 1))";
    for (call_rows, call_bytes) in [(4096, 1 << 20), (8, 1 << 20), (4096, 100), (1, 1)] {
        let mut config = config();
        (config.limits.call_rows, config.limits.call_bytes) = (call_rows, call_bytes);
        let checked = check(&rule(object), &config, 80).unwrap();
        let found: Vec<(u32, &str)> = checked.findings.iter().map(|f| (f.row, &*f.code)).collect();
        assert_eq!(found, [(13, "odd")], "{call_rows} rows, {call_bytes} bytes a call");
    }
}

/// A guest that counts its calls tells whether an instance is new.
#[test]
fn instances_are_fresh_unless_the_plugin_asks_for_reused_ones() {
    let count = "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
        (call $finding (i32.const 3000) (i32.const 0) (i32.ne (global.get $calls) (i32.const 1)) (i32.const -1)
            (i32.const 0) (i32.const -1))
        (call $answer (i32.const 3000) (i32.const 1))";
    for (reused, expected) in [(false, ["unlucky", "unlucky", "unlucky"]), (true, ["unlucky", "odd", "odd"])] {
        let mut guest = rule(count).extra("(global $calls (mut i32) (i32.const 0))");
        guest.says.reused = reused;
        let mut config = config();
        config.limits.call_rows = 8;
        let checked = check(&guest, &config, 24).unwrap();
        let found: Vec<&str> = checked.findings.iter().map(|f| &*f.code).collect();
        assert_eq!(found, expected, "reused: {reused}");
    }
}

/// Fails once in its life, at the second call: a new instance does not.
#[test]
fn a_failure_that_does_not_come_again_costs_no_row() {
    let second = format!(
        "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
         (if (i32.eq (global.get $calls) (i32.const 2)) (then (unreachable))) {NOTHING}"
    );
    let mut guest = rule(&second).extra("(global $calls (mut i32) (i32.const 0))");
    guest.says.reused = true;
    let mut config = config();
    config.limits.call_rows = 8;
    assert_eq!(check(&guest, &config, 80).unwrap().dead, []);
}

#[test]
fn a_plugin_that_fails_everywhere_stops_the_pipeline() {
    let mut config = config();
    config.limits.call_rows = 16;
    let error = check(&rule("(unreachable)"), &config, 400).unwrap_err();
    let Error::Plugin { plugin, problem } = &error else { panic!("{error}") };
    assert_eq!(plugin, "guest");
    assert!(problem.starts_with("failed 11 times within 1m, the last time with plugin-trap: wasm trap:"), "{problem}");
    assert!(problem.contains("nothing of this batch is committed"), "{problem}");
}

#[test]
fn a_plugin_that_fails_everywhere_goes_to_the_dead_letter_where_that_is_wanted() {
    let mut config = config();
    config.on_failure = OnFailure::DeadLetter;
    config.limits.call_rows = 16;
    let mut caller = caller(&rule("(unreachable)"), &config);
    let dead = caller.check(&batch(400)).unwrap().dead;
    assert_eq!(dead.iter().map(|row| row.row).collect::<Vec<_>>(), (0..400).collect::<Vec<_>>());
    assert!(dead.iter().any(|row| row.reason == Reason::PluginTrap), "some rows were found one by one");
    assert_eq!(dead.last().map(|row| row.reason), Some(Reason::PluginFailed));
    let dead = caller.check(&batch(3)).unwrap().dead;
    assert_eq!(reasons(&dead), [0, 1, 2].map(|row| (row, Reason::PluginFailed)), "it is not called again");
}

/// Single rows, one a batch: slow streams have such. A plugin that fails on every one of them is broken all the same;
/// one that judges some is not.
#[test]
fn small_batches_trip_the_breaker_too() {
    let mut config = config();
    config.max_failures.count = 2;
    let mut broken = caller(&rule("(unreachable)"), &config);
    let outcomes: Vec<bool> = (0..3).map(|_| broken.check(&batch(1)).is_ok()).collect();
    assert_eq!(outcomes, [true, true, false]);
    let mut poisoned = caller(&at_thirteen("(unreachable)"), &config);
    for _ in 0..20 {
        assert_eq!(poisoned.check(&batch(20)).unwrap().dead.len(), 1);
    }
}

#[test]
fn an_optional_column_may_be_absent() {
    let mut guest = rule("(i32.add (i32.const 1024) (i32.mul (i32.load8_u (local.get $columns)) (i32.const 0)))");
    guest.says.reads = vec![("gone".into(), UTF8, false), ("n".into(), INT64, true)];
    let caller = caller(&guest, &config());
    assert_eq!(caller.plugin().reads().iter().map(|path| &**path).collect::<Vec<_>>(), ["gone", "n"]);
    assert_eq!(check(&guest, &config(), 3).unwrap().dead, []);
}
