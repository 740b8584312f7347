//! Guests that misbehave, and what it costs: one row where one row is to blame, a plain sentence where a component cannot
//! be loaded, and the pipeline only where the plugin fails beyond its budget.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use sluice_host::config::{Limits, MaxFailures, OnFailure, Place, PluginCode, PluginConfig};
use sluice_host::error::{Error, Result};
use sluice_host::outcome::Reason;
use sluice_host::plugin::{Added, Breaker, Caller, Checked, DeadRow, Engine, Kind, Plugin, inspect};
use sluice_host::record::{Batch, RawBatch};

mod chain;

use crate::guests::{self, Guest, INT32, INT64, NOTHING, UTF8, at_thirteen, enricher, rule};

static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::new(None).unwrap());

fn config() -> PluginConfig {
    PluginConfig {
        name: "guest".into(),
        code: PluginCode::Wasm("guest.wasm".into(), "guest.wasm".into()),
        place: Place { file: "sluice.toml".into(), span: 0..0 },
        config: serde_json::json!({}),
        limits: Limits {
            time: Duration::from_secs(20), // fuel decides, whatever else this machine does
            memory: 16 << 20,
            fuel: 5_000_000,
            fuel_per_row: 1_000,
            findings_per_row: 16,
            detail: 64,
            log_lines: 5,
            component: 1 << 20,
            call_rows: 4096,
            call_bytes: 1 << 20,
        },
        on_failure: OnFailure::Stop,
        max_failures: MaxFailures { count: 10, within: Duration::from_secs(60) },
    }
}

fn schema() -> Schema {
    Schema::new(vec![Field::new("n", DataType::Int64, true), Field::new("page", DataType::Utf8, true)])
}

/// Rows whose `n` counts from 0.
fn batch(rows: usize) -> Batch {
    let n: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows as i64));
    let schema = Schema::new(vec![Field::new("n", DataType::Int64, true)]);
    Batch {
        columns: RecordBatch::try_new(Arc::new(schema), vec![n]).unwrap(),
        origin: (0..rows as u32).collect(),
        ordinal: vec![0; rows],
        raw: Arc::new(RawBatch::default()),
        pipeline: uuid::Uuid::nil(),
    }
}

fn load(kind: Kind, config: &PluginConfig, code: &[u8]) -> Result<Arc<Plugin>> {
    Plugin::load(&ENGINE, kind, config, code, &schema())
}

fn caller(guest: &Guest, config: &PluginConfig) -> Caller {
    let kind = if guest.kind == "rule" { Kind::Rule } else { Kind::Enricher };
    let plugin = load(kind, config, &guest.component()).unwrap_or_else(|e| panic!("{e}"));
    Caller::new(plugin, Arc::new(Breaker::new(config.max_failures, config.on_failure)))
}

fn check(guest: &Guest, config: &PluginConfig, rows: usize) -> Result<Checked> {
    caller(guest, config).check(&batch(rows))
}

fn reasons(dead: &[DeadRow]) -> Vec<(u32, Reason)> {
    dead.iter().map(|row| (row.row, row.reason)).collect()
}

/// A guest that misbehaves at row 13 of 20 costs that row, with this reason and a detail that says this.
#[test]
fn a_misdeed_at_one_row_costs_that_row() {
    use Reason::{PluginError, PluginMemory, PluginOutput, PluginTimeout, PluginTrap};
    let finding = |row: &str, code: u32, column: i32, text: u32, len: i32, many: u32| {
        format!(
            "(call $finding (i32.const 3000) {row} (i32.const {code}) (i32.const {column}) (i32.const {text}) (i32.const {len}))
             (return (call $answer (i32.const 3000) (i32.const {many})))"
        )
    };
    let here = "(local.get $bad)";
    let repeated = "(local $i i32) (loop $next
        (call $finding (i32.add (i32.const 3000) (i32.mul (local.get $i) (i32.const 24)))
            (local.get $row) (i32.const 0) (i32.const -1) (i32.const 70000) (local.get $len))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $next (i32.lt_u (local.get $i) (local.get $many))))";
    let repeat = format!("(func $repeat (param $row i32) (param $len i32) (param $many i32) {repeated})");
    let exhaust = "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)";
    let text = r#"(data (i32.const 100) "boom\ff\fe")"#;
    for (name, guest, reason, says) in [
        ("a trap", at_thirteen("(unreachable)"), PluginTrap, "unreachable"),
        ("division by zero", at_thirteen("(drop (i32.div_u (i32.const 1) (i32.const 0)))"), PluginTrap, "divide by zero"),
        ("a wild pointer", at_thirteen("(drop (i32.load (i32.const -8)))"), PluginTrap, "out of bounds memory"),
        (
            "deep recursion",
            at_thirteen("(drop (call $deep (i32.const 0)))").extra(
                "(func $deep (param i32) (result i32)
                    (i32.add (call $deep (i32.add (local.get 0) (i32.const 1))) (local.get 0)))",
            ),
            PluginTrap,
            "call stack exhausted",
        ),
        ("an endless loop", at_thirteen("(loop $ever (br $ever))"), PluginTimeout, "limits.fuel"),
        ("a memory bomb", at_thirteen(exhaust), PluginMemory, "limits.memory"),
        (
            "memories that are small each",
            at_thirteen(
                "(if (i32.eq (memory.grow $second (i32.const 150)) (i32.const -1)) (then (loop $ever (br $ever))))
                 (if (i32.eq (memory.grow $third (i32.const 150)) (i32.const -1)) (then (unreachable)))",
            )
            .extra("(memory $second 0) (memory $third 0)"),
            PluginMemory,
            "limits.memory",
        ),
        (
            "a table bomb",
            at_thirteen(
                "(loop $more (br_if $more (i32.ne (table.grow $t (ref.null func) (i32.const 10000)) (i32.const -1))))
                 (unreachable)",
            )
            .extra("(table $t 1 funcref)"),
            PluginMemory,
            "limits.memory",
        ),
        (
            "a row that is not there",
            at_thirteen(&finding("(local.get $rows)", 0, -1, 0, -1, 1)),
            PluginOutput,
            "a finding for row 1 of a batch of 1",
        ),
        ("a code that is not there", at_thirteen(&finding(here, 2, -1, 0, -1, 1)), PluginOutput, "code number 2"),
        ("a column that is not there", at_thirteen(&finding(here, 0, 1, 0, -1, 1)), PluginOutput, "column number 1"),
        (
            "too many findings",
            at_thirteen("(call $repeat (local.get $bad) (i32.const -1) (i32.const 41)) (return (call $answer (i32.const 3000) (i32.const 41)))")
                .extra(&repeat),
            PluginOutput,
            "41 findings",
        ),
        ("a list beyond its memory", at_thirteen(&finding(here, 0, -1, 0, -1, 1 << 24)), PluginOutput, ""),
        (
            "the same bytes named again and again",
            at_thirteen("(call $repeat (local.get $bad) (i32.const 50000) (i32.const 30)) (return (call $answer (i32.const 3000) (i32.const 30)))")
                .extra(&repeat),
            PluginOutput,
            "too much data",
        ),
        ("text that is not UTF-8", at_thirteen(&finding(here, 0, -1, 100, 6, 1)).extra(text), PluginOutput, "utf-8"),
        (
            "a case that is not there",
            at_thirteen("(i32.store8 (i32.const 2048) (i32.const 7)) (return (i32.const 2048))"),
            PluginOutput,
            "",
        ),
        ("an answer beyond its memory", at_thirteen("(return (i32.const -8))"), PluginOutput, ""),
        ("an answer between two words", at_thirteen("(return (i32.const 2049))"), PluginOutput, "align"),
        (
            "an error for an answer",
            at_thirteen(
                "(i32.store8 (i32.const 2048) (i32.const 1)) (i32.store8 (i32.const 2052) (i32.const 1))
                 (i32.store (i32.const 2056) (i32.const 100)) (i32.store (i32.const 2060) (i32.const 4))
                 (return (i32.const 2048))",
            )
            .extra(text),
            PluginError,
            "boom",
        ),
        (
            "a panic that says why",
            at_thirteen("(call $log (i32.const 4) (i32.const 100) (i32.const 4)) (unreachable)").extra(text),
            PluginTrap,
            "it said: boom",
        ),
    ] {
        let checked = check(&guest, &config(), 20).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(reasons(&checked.dead), [(13, reason)], "{name}: {:?}", checked.dead);
        let detail = &checked.dead[0].detail;
        assert!(detail.to_lowercase().contains(&says.to_lowercase()), "{name}: {detail}");
        assert!(checked.findings.is_empty(), "{name}: {:?}", checked.findings);
    }
}

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

#[test]
fn a_flood_of_log_lines_harms_nothing() {
    let flood = "(local $i i32) (loop $next
        (call $log (i32.const 2) (i32.const 0) (i32.const 100000))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $next (i32.lt_u (local.get $i) (i32.const 500))))";
    let checked = check(&rule(&format!("{flood} {NOTHING}")), &config(), 20).unwrap();
    assert!(checked.dead.is_empty(), "{:?}", checked.dead);
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

const COPY: &str = "(call $column (local.get $rows) (i32.const 3) (i32.load offset=4 (local.get $columns))
    (i32.mul (local.get $rows) (i32.const 8)) (i32.const 0) (i32.const 0))";

fn enrich(guest: &Guest, config: &PluginConfig, rows: usize) -> Added {
    caller(guest, config).enrich(&batch(rows)).unwrap_or_else(|e| panic!("{e}"))
}

fn added(added: &Added) -> Vec<i64> {
    added.columns[0].as_primitive::<Int64Type>().values().to_vec()
}

#[test]
fn an_enricher_adds_one_value_a_row() {
    for call_rows in [4096, 8, 1] {
        let mut config = config();
        config.limits.call_rows = call_rows;
        let answer = enrich(&enricher(INT64, COPY), &config, 20);
        assert_eq!(added(&answer), (0..20).collect::<Vec<_>>());
        assert_eq!(answer.rows, (0..20).collect::<Vec<_>>());
        assert_eq!(answer.dead, []);
    }
}

#[test]
fn one_to_many_names_the_rows() {
    // every row twice: n of the pair is whatever stands there, what counts is `rows`
    let twice = "(local $i i32)
        (loop $next
            (i32.store (i32.add (i32.const 3000) (i32.mul (local.get $i) (i32.const 4))) (i32.div_u (local.get $i) (i32.const 2)))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $next (i32.lt_u (local.get $i) (i32.mul (local.get $rows) (i32.const 2)))))
        (drop (call $column (local.get $rows) (i32.const 3) (i32.const 0) (i32.mul (local.get $rows) (i32.const 16))
            (i32.const 0) (i32.const 0)))
        (call $origin (i32.const 3000) (i32.mul (local.get $rows) (i32.const 2)))
        (i32.const 2048)";
    let mut guest = enricher(INT64, twice);
    guest.says.one_to_many = true;
    let mut config = config();
    config.limits.call_rows = 2;
    let answer = enrich(&guest, &config, 5);
    assert_eq!(answer.rows, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
    assert_eq!(answer.columns[0].len(), 10);
}

/// An enricher whose answer is broken where row 13 is in the batch loses that row and no other.
#[test]
fn a_broken_answer_of_an_enricher_costs_the_row() {
    let at_thirteen = |broken: &str| {
        format!(
            "(if (i32.ne (call $thirteen (local.get $rows) (local.get $columns)) (i32.const -1)) (then {broken}))
             {COPY}"
        )
    };
    let made = |kind: u32, size: &str, offsets: u32, offsets_size: &str| {
        format!(
            "(return (call $column (local.get $rows) (i32.const {kind}) (i32.const 3000) {size}
                (i32.const {offsets}) {offsets_size}))"
        )
    };
    let (none, eight) = ("(i32.const 0)", "(i32.mul (local.get $rows) (i32.const 8))");
    let origin = |first: u32, len: u32| {
        format!(
            "(drop {COPY}) (i32.store (i32.const 3000) (i32.const {first})) (call $origin (i32.const 3000) (i32.const {len}))
             (return (i32.const 2048))"
        )
    };
    let endless = format!(
        "(drop {COPY}) (drop (memory.grow (i32.const 8))) (call $origin (i32.const 200000) (i32.const 70000))
         (return (i32.const 2048))"
    );
    for (name, broken, many, says) in [
        ("a value too few", made(3, "(i32.const 0)", 0, none), false, "0 bytes for 1 rows"),
        ("a byte too many", made(3, "(i32.const 9)", 0, none), false, "9 bytes"),
        ("another type", made(4, eight, 0, none), false, "float64, but it declared int64"),
        ("no column", made(0, none, 0, none), false, "absent"),
        ("beyond its memory", made(3, "(i32.const 100000000)", 0, none), false, ""),
        ("a dropped row", origin(0, 0), true, "dropped row 0"),
        ("a row that is not there", origin(1, 1), true, "1 stands where 0 should"),
        ("rows undeclared", origin(0, 1), false, "did not declare one-to-many"),
        ("rows without end", endless, true, "it makes 70000 rows of row 0; at most 65536 are allowed"),
    ] {
        let mut guest = enricher(INT64, &at_thirteen(&broken));
        guest.says.one_to_many = many;
        let answer = enrich(&guest, &config(), 20);
        assert_eq!(reasons(&answer.dead), [(13, Reason::PluginOutput)], "{name}: {:?}", answer.dead);
        assert!(answer.dead[0].detail.contains(says), "{name}: {}", answer.dead[0].detail);
        let others: Vec<i64> = (0..20).filter(|n| *n != 13).collect();
        assert_eq!(added(&answer), others, "{name}");
        assert_eq!(answer.rows, others.iter().map(|n| *n as u32).collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn text_of_an_enricher_is_proven() {
    let text = |first: u32, last: &str, bytes: &str| {
        // offsets 0.. at 3000, the last one is set; data at 4000
        let call = format!(
            "(i32.store (i32.const 3000) (i32.const {first}))
             (i32.store (i32.add (i32.const 3000) (i32.mul (local.get $rows) (i32.const 4))) (i32.const {last}))
             (call $column (local.get $rows) (i32.const 8) (i32.const 4000) (i32.const 3)
                (i32.const 3000) (i32.mul (i32.add (local.get $rows) (i32.const 1)) (i32.const 4)))"
        );
        enricher(UTF8, &call).extra(&format!(r#"(data (i32.const 4000) "{bytes}")"#))
    };
    let fine = enrich(&text(0, "3", "abc"), &config(), 1);
    assert_eq!(fine.columns[0].as_string::<i32>().value(0), "abc");
    for (guest, says) in [
        (text(1, "3", "abc"), "first offset"),
        (text(0, "-1", "abc"), "fall"),
        (text(0, "4", "abc"), "do not end"),
        (text(0, "3", "ab\\ff"), "UTF8"),
    ] {
        let answer = enrich(&guest, &config(), 1);
        assert_eq!(reasons(&answer.dead), [(0, Reason::PluginOutput)]);
        assert!(answer.dead[0].detail.replace('-', "").contains(says), "{}", answer.dead[0].detail);
    }
}

#[test]
fn what_cannot_be_loaded_is_refused_with_one_sentence() {
    let honest = rule(NOTHING);
    let with = |change: &dyn Fn(&mut Guest)| {
        let mut guest = honest.clone();
        change(&mut guest);
        guest
    };
    let configure = |body: &str| with(&|guest| guest.configure = body.into()).component();
    let wasi = (
        "package wasi:filesystem@0.2.6; interface preopens { open: func(); }",
        "wasi:filesystem/preopens@0.2.6",
        "open",
    );
    let imports = with(&|g| {
        g.foreign = Some(wasi);
        g.call = format!("(call $foreign) {NOTHING}");
    });
    let other_types = with(&|g| g.contract = g.contract.replace("code: u16,", "code: u32,"));
    let next = with(&|g| g.contract = g.contract.replace("@0.1.0", "@0.2.0"));
    let tails =
        rule("(return_call $again (local.get $rows))").extra("(func $again (param i32) (result i32) (i32.const 1024))");
    let too_large = rule(NOTHING).extra(&format!(r#"(data (i32.const 70000) "{}")"#, "x".repeat(2 << 20)));
    let rule_says = |change: &dyn Fn(&mut guests::Says)| with(&|guest| change(&mut guest.says)).component();
    let refused_config = "(i32.store8 (i32.const 2048) (i32.const 1)) (i32.store8 (i32.const 2052) (i32.const 0))
        (i32.store (i32.const 2056) (i32.const 100)) (i32.store (i32.const 2060) (i32.const 9)) (i32.const 2048)";
    let refuses = with(&|g| g.configure = refused_config.into()).extra(r#"(data (i32.const 100) "no max_at")"#);
    for (code, kind, expected) in [
        (b"#!/bin/sh\n".to_vec(), Kind::Rule, "it is not WebAssembly: it begins with `#!/bin/sh\\n`"),
        (b"\x7fELF\x02\x01\x01".to_vec(), Kind::Rule, "it is compiled machine code, which is never accepted"),
        (honest.core(), Kind::Rule, "it is a core module and no component; make one of it with `sluice build`"),
        (honest.component()[..200].to_vec(), Kind::Rule, "it is damaged"),
        (too_large.component(), Kind::Rule, "bytes, and 1048576 are allowed; raise limits.component"),
        (
            imports.component(),
            Kind::Rule,
            "it imports wasi:filesystem/preopens@0.2.6: a rule gets no files; rebuild it with `sluice build`",
        ),
        (next.component(), Kind::Rule, "it imports sluice:plugin/host@0.2.0; this host speaks 0.1"),
        (
            enricher(INT32, COPY).component(),
            Kind::Rule,
            "it is an enricher where a rule was expected: name it under [[enrich]]",
        ),
        (
            honest.component(),
            Kind::Enricher,
            "it is a rule where an enricher was expected: name it under [rule.<name>]",
        ),
        (
            other_types.component(),
            Kind::Rule,
            "its types differ from the contract 0.1.0 in sluice:plugin/types@0.1.0, finding, code (expected primitive",
        ),
        (tails.component(), Kind::Rule, "tail calls support is not enabled"),
        (configure("(unreachable)"), Kind::Rule, "configuring it failed (plugin-trap)"),
        (configure("(loop $ever (br $ever)) (unreachable)"), Kind::Rule, "configuring it failed (plugin-timeout)"),
        (refuses.component(), Kind::Rule, "(plugin-error): its configuration is wrong: no max_at"),
        (
            rule_says(&|s| s.reads = vec![("pages", UTF8, true)]),
            Kind::Rule,
            "it reads `pages`, which the schema does not have; it has `page`",
        ),
        (
            rule_says(&|s| s.reads = vec![("page", INT64, false)]),
            Kind::Rule,
            "it reads `page` as int64, but the schema has it as Utf8, which can be passed as utf8, binary, json",
        ),
        (rule_says(&|s| s.codes.push(("unlucky", vec![]))), Kind::Rule, "it declares the code `unlucky` twice"),
        (rule_says(&|s| s.codes[0].0 = "Un Lucky"), Kind::Rule, "is not kebab-case"),
        (rule_says(&|s| s.codes[0].1 = vec![0, 9]), Kind::Rule, "its column number 9"),
        (rule_says(&|s| s.codes.clear()), Kind::Rule, "it declares no codes"),
        (rule_says(&|s| s.name = ""), Kind::Rule, "as its name"),
        (
            {
                let mut guest = enricher(INT64, COPY);
                guest.says.produces[0].0 = "page";
                guest.component()
            },
            Kind::Enricher,
            "it adds `page`, which the row already has",
        ),
    ] {
        let error = load(kind, &config(), &code).expect_err(expected).to_string();
        assert!(error.starts_with("plugin `guest` cannot be loaded from guest.wasm: "), "{error}");
        assert!(error.contains(expected), "{error}\n{expected}");
        assert!(!error.contains('\n'), "one sentence: {error}");
    }
}

#[test]
fn an_optional_column_may_be_absent() {
    let mut guest = rule("(i32.add (i32.const 1024) (i32.mul (i32.load8_u (local.get $columns)) (i32.const 0)))");
    guest.says.reads = vec![("gone", UTF8, false), ("n", INT64, true)];
    let caller = caller(&guest, &config());
    assert_eq!(caller.plugin().reads().iter().map(|path| &**path).collect::<Vec<_>>(), ["gone", "n"]);
    assert_eq!(check(&guest, &config(), 3).unwrap().dead, []);
}

#[test]
fn compiled_code_is_kept_and_a_damaged_copy_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("compiled");
    let code = rule(NOTHING).component();
    let load = || {
        let engine = Engine::new(Some(cache.clone())).unwrap();
        Plugin::load(&engine, Kind::Rule, &config(), &code, &schema()).unwrap_or_else(|e| panic!("{e}"))
    };
    let digest = load().digest().to_string();
    let files = || std::fs::read_dir(&cache).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>();
    let [file] = &files()[..] else { panic!("{:?}", files()) };
    assert!(file.file_name().unwrap().to_string_lossy().starts_with(&digest));
    let whole = std::fs::read(file).unwrap();
    load();
    assert_eq!(std::fs::read(file).unwrap(), whole, "taken as it is");
    std::fs::write(file, &whole[..whole.len() / 2]).unwrap();
    load();
    assert_eq!(std::fs::read(file).unwrap().len(), whole.len(), "made again");
}

#[test]
fn a_component_is_described_and_a_refusal_explained() {
    let shown = inspect(&ENGINE, &rule(NOTHING).component()).to_string();
    let lines: Vec<&str> = shown.lines().skip(1).map(|line| line.strip_prefix("  ").unwrap()).collect();
    expect_test::expect![[r#"
        imports   sluice:plugin/host@0.1.0
                  sluice:plugin/types@0.1.0
        exports   sluice:plugin/rule@0.1.0
        made by   wit-component 0.263.0
        reads     n        int64
        codes     unlucky  a code of a test
                  odd      a code of a test
        loads     by contract 0.1.0"#]]
    .assert_eq(&lines.join("\n"));
    let refused = inspect(&ENGINE, &rule(NOTHING).core());
    assert_eq!(
        refused.problem.as_deref(),
        Some("it is a core module and no component; make one of it with `sluice build`")
    );
    assert_eq!(refused.description, None);
}
