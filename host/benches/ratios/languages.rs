//! What a rule costs in each language: as a component whose instance is reused, over what the native twin costs; and the table
//! of `consent`, which is under `plugins/` in all of them.
//!
//! The rule of the comparison reads three columns of text, in every row all of them (`../guest/src/texts.rs`, and the same in
//! `../languages`). Components are built here, by the commands of `sluice build`.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use boundary_guest::texts;
use sluice_host::chain::Step;
use sluice_host::component;
use sluice_host::config::{MaxFailures, OnFailure, Place, PluginCode, PluginConfig, Wasi, defaults};
use sluice_host::generate::Share;
use sluice_host::outcome::Finding;
use sluice_host::plugin::{Caller, Engine, Kind, Plugin, inspect};
use sluice_host::record::Batch;

use crate::boundary::{Twin, batch, pipeline, step};
use crate::measure::{Arm, Clock, alternate, here, met};
use crate::{guest, rounds, setting, visits};

/// Rows of a call, as a pipeline makes them.
const ROWS: usize = 4096;

/// A language, what it may cost at most over the native twin, and calls of a turn: some milliseconds of them.
const LANGUAGES: [(&str, f64, usize); 5] =
    [("rust", 2.0, 256), ("c", 2.0, 256), ("go", 4.0, 256), ("javascript", 60.0, 8), ("python", 100.0, 8)];

/// `consent`, as it lies under `plugins/`.
const CONSENT: [(&str, &str); 6] = [
    ("Rust", "consent"),
    ("C", "consent-c"),
    ("Go", "consent-go"),
    ("JavaScript", "consent-js"),
    ("TypeScript", "consent-ts"),
    ("Python", "consent-python"),
];

/// Runs and prints.
pub fn run() {
    let folder = tempfile::tempdir().expect("a folder");
    compare(folder.path());
    table(folder.path());
}

fn compare(folder: &Path) {
    let built = LANGUAGES.map(|(language, _, _)| (language.to_owned(), texts_in(language, folder)));
    let chain = pipeline(folder, &built);
    let payloads = visits::payloads(ROWS as u64, Share::percent(2), Share::percent(0));
    let batch = batch(&chain, &payloads);
    let (twin, columns) = Twin::new(&texts::TWIN, step(&chain, "rust"), &payloads);
    let expected = twin.check(&batch, &columns);
    println!(
        "\nlanguages: {} of {ROWS} rows of 3 text columns found, instances reused, {} rounds",
        expected.len(),
        rounds()
    );

    let mut callers = LANGUAGES.map(|(language, _, _)| caller(step(&chain, language)));
    let places = |findings: &[Finding]| findings.iter().map(|f| (f.row, f.code.clone())).collect::<Vec<_>>();
    for (caller, (language, _, _)) in callers.iter_mut().zip(LANGUAGES) {
        let checked = caller.check(&batch).expect("a good rule");
        assert_eq!(places(&checked.findings), places(&expected), "{language} finds what the twin finds");
    }
    let call = |caller: &mut Caller, calls: usize| {
        here(|| (0..calls).for_each(|_| drop(black_box(caller.check(black_box(&batch)).expect("a good rule")))))
    };
    let native = || here(|| (0..256).for_each(|_| drop(black_box(twin.check(black_box(&batch), black_box(&columns))))));
    let mut arms = vec![Arm::new("native", (256 * ROWS) as u64, native)];
    for (caller, (language, _, calls)) in callers.iter_mut().zip(LANGUAGES) {
        arms.push(Arm::new(language, (calls * ROWS) as u64, move || call(caller, calls)));
    }
    let measured = alternate(rounds(), arms);
    println!("  {:12} {:>8}   ÷ native, CPU time", "", "ns/row");
    println!("  {:12} {:>8.1}   {} (noise)", "native", measured.nanos(0), measured.control(Clock::Cpu));
    for (arm, (language, most, _)) in LANGUAGES.iter().enumerate() {
        let ratio = measured.cost(arm + 1, 0, Clock::Cpu);
        let verdict = met(ratio.median <= *most);
        println!("  {language:12} {:>8.1}   {ratio:24} wanted ≤ {most}: {verdict}", measured.nanos(arm + 1));
    }
    let calls = setting("SLUICE_BENCH_CALLS", 10_000);
    for (language, _, _) in LANGUAGES {
        memory(language, &mut caller(step(&chain, language)), &batch, calls);
    }
}

/// Memory of an instance after each of many calls: whether it grows with them.
fn memory(language: &str, caller: &mut Caller, batch: &Batch, calls: u64) {
    let mut after = Vec::with_capacity(calls as usize);
    for _ in 0..calls {
        caller.check(batch).expect("a good rule");
        after.push(caller.memory());
    }
    // the first calls may still find out how much room they need
    let (early, late) = after.split_at(after.len() / 10);
    let (first, most) = (early.iter().max().copied().unwrap_or(0), late.iter().max().copied().unwrap_or(0));
    let verdict = met(most <= first);
    println!(
        "  {language:12} memory: {} KiB after a tenth of {calls} calls, {} KiB at most in the others, wanted flat: {verdict}",
        first >> 10,
        most >> 10
    );
}

/// The rule of the comparison as a component.
fn texts_in(language: &str, folder: &Path) -> Vec<u8> {
    match language {
        "rust" => guest::component("texts", true),
        other => built(&Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/languages").join(other), folder),
    }
}

fn built(source: &Path, folder: &Path) -> Vec<u8> {
    let out = folder.join("built.wasm");
    component::build(source, Some(&out)).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
    std::fs::read(&out).expect("it was just written")
}

/// A caller that gives up at nothing.
fn caller(step: &Step) -> Caller {
    Caller::new(step.plugin.clone(), step.breaker.clone())
}

/// `consent` in every language: size, compile time, cold start, speed, imports.
fn table(folder: &Path) {
    let payloads = visits::payloads(ROWS as u64, Share::percent(2), Share::percent(0));
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins");
    println!(
        "\nconsent in every language; load = compile, instantiate, configure; cold start = new instance and its first row"
    );
    println!("  {:12} {:>12} {:>10} {:>12} {:>8}   imports", "", "bytes", "load", "cold start", "ns/row");
    for (language, name) in CONSENT {
        let code = built(&plugins.join(name), folder);
        let engine = Engine::new(None).expect("an engine");
        let chain = pipeline(folder, &[]);
        let whole = batch(&chain, &payloads);
        let one = batch(&chain, &payloads[..1]);
        let begun = Instant::now();
        let plugin = Plugin::load(&engine, Kind::Rule, &config(name), &code, &chain.config.schema.arrow);
        let load = begun.elapsed();
        let plugin = plugin.unwrap_or_else(|error| panic!("{error}"));
        let unlimited = MaxFailures { count: u32::MAX, ..defaults::MAX_FAILURES };
        let breaker = Arc::new(sluice_host::plugin::Breaker::new(unlimited, OnFailure::Stop));
        let new = || Caller::new(plugin.clone(), breaker.clone());
        let mut cold: Vec<Duration> = (0..21)
            .map(|_| {
                let begun = Instant::now();
                new().check(&one).expect("a good rule");
                begun.elapsed()
            })
            .collect();
        cold.sort();
        let mut caller = new();
        caller.check(&whole).expect("a good rule");
        let calls = 32;
        let cost = here(|| (0..calls).for_each(|_| drop(black_box(caller.check(&whole).expect("a good rule")))));
        let nanos = cost.cpu * 1e9 / (calls * ROWS) as f64;
        let imports = inspect(&engine, &code).imports.join(", ");
        let (load, cold) = (load.as_secs_f64() * 1e3, cold[cold.len() / 2].as_secs_f64() * 1e3);
        println!("  {language:12} {:>12} {load:>7.0} ms {cold:>9.3} ms {nanos:>8.1}   {imports}", code.len());
    }
}

fn config(name: &str) -> PluginConfig {
    PluginConfig {
        name: name.into(),
        code: PluginCode::Wasm(name.into(), name.into()),
        place: Place { file: name.into(), span: 0..0 },
        config: serde_json::json!({ "allow": ["healthcheck"] }),
        limits: defaults::LIMITS,
        wasi: Wasi::None,
        on_failure: OnFailure::Stop,
        max_failures: defaults::MAX_FAILURES,
    }
}
