//! What a rule costs more as a component than as a native function of the same source.
//!
//! A component's price is all that [`Caller::check`] does: finding and slicing the columns, lowering them into the guest's memory,
//! the rule itself under fuel and deadline, lifting its answer and checking it. The native twin is what the host would do if the
//! rule were a part of it: find the columns, call the same function through the same SDK with the same checks on its buffers,
//! check its findings and make them the pipeline's. Nobody copies columns for it.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use boundary_guest::sluice::batch::Batch as Cells;
use boundary_guest::sluice::cases;
use boundary_guest::sluice::plugin::{Rule, State};
use boundary_guest::{one, ten, three};
use serde_json::Value;
use sluice_host::chain::{Chain, Step};
use sluice_host::columns;
use sluice_host::decode::JsonDecoder;
use sluice_host::generate::Share;
use sluice_host::outcome::Finding;
use sluice_host::plugin::Caller;
use sluice_host::record::Batch;

use crate::measure::{Arm, Clock, Measured, alternate, here, met};
use crate::{guest, rounds, visits};

const RULES: [(&str, usize, Rule); 3] = [("one", 1, one::TWIN), ("three", 3, three::TWIN), ("ten", 10, ten::TWIN)];
const SIZES: [usize; 4] = [256, 1024, 4096, 16384];
/// Rows of a turn: some milliseconds, so that the clock's own price vanishes.
const ROWS: usize = 1 << 20;

/// Runs and prints.
pub fn run() {
    let folder = tempfile::tempdir().expect("a folder");
    let chain = chain(folder.path());
    // findings in as many rows as the demo plants
    let payloads = visits::payloads(SIZES[SIZES.len() - 1] as u64, Share::percent(2), Share::percent(0));
    println!("\nboundary: nanoseconds of CPU time a row; cost ÷ native: median (least–most) of {} rounds", rounds());
    println!(
        "  columns   rows  native  reused   fresh   {:20} {:20} native ÷ itself",
        "reused ÷ native", "fresh ÷ native"
    );
    let mut verdicts = Vec::new();
    for (name, columns, twin) in &RULES {
        for rows in SIZES {
            let measured = compare(&chain, name, twin, &payloads[..rows]);
            let (reused, fresh) = (measured.cost(1, 0, Clock::Cpu), measured.cost(2, 0, Clock::Cpu));
            println!(
                "  {columns:>7} {rows:>6} {:>7.1} {:>7.1} {:>7.1}   {reused:20} {fresh:20} {}",
                measured.nanos(0),
                measured.nanos(1),
                measured.nanos(2),
                measured.control(Clock::Cpu)
            );
            if *columns == 10 && rows >= 4096 {
                verdicts.push((rows, reused.median, fresh.median));
            }
        }
    }
    for (rows, reused, fresh) in verdicts {
        let (is_reused, is_fresh) = (met(reused <= 2.0), met(fresh <= 5.0));
        println!("  10 columns, {rows} rows: reused wanted ≤ 2: {is_reused}; fresh wanted ≤ 5: {is_fresh}");
    }
}

/// A pipeline with all rules, each once fresh and once reused.
fn chain(folder: &Path) -> Chain {
    let kinds = [("fresh", false), ("reused", true)];
    let named = RULES.iter().flat_map(|(name, _, _)| {
        kinds.map(|(kind, is_reused)| (format!("{name}-{kind}"), guest::component(name, is_reused)))
    });
    pipeline(folder, &named.collect::<Vec<_>>())
}

/// A pipeline over visits with these components as its rules.
pub fn pipeline(folder: &Path, rules: &[(String, Vec<u8>)]) -> Chain {
    let mut text = "name = \"boundary\"\nstate = \"state\"\n[source]\nstdin = true\n[schema]\nfile = \"visits.sql\"\n\
                    [sink]\nvalid = { delta = \"a\" }\nerror = { delta = \"b\" }\ndlq = { delta = \"c\" }\n"
        .to_owned();
    for (name, component) in rules {
        let file = format!("{name}.wasm");
        std::fs::write(folder.join(&file), component).expect("a file");
        text += &format!("[rule.{name}]\nwasm = {file:?}\n");
    }
    std::fs::write(folder.join("visits.sql"), visits::SCHEMA).expect("a file");
    let file = folder.join("sluice.toml");
    std::fs::write(&file, text).expect("a file");
    Chain::load(&file, None).unwrap_or_else(|error| panic!("{error}"))
}

/// One of its rules.
pub fn step<'c>(chain: &'c Chain, name: &str) -> &'c Step {
    chain.parts.rules.iter().find(|step| &**step.plugin.name() == name).expect("the pipeline has it")
}

/// A rule as a part of the host.
pub struct Twin<'a> {
    rule: &'a Rule,
    state: State,
    paths: Vec<String>,
    /// the same rule as a component, for the names of its codes
    step: &'a Step,
}

impl<'a> Twin<'a> {
    /// The rule beside its component, and the columns that it reads.
    pub fn new(rule: &'a Rule, step: &'a Step, payloads: &[Vec<u8>]) -> (Self, Cells) {
        let (description, state) = (rule.configure)("{}").expect("it takes no settings");
        let rows: Vec<Value> =
            payloads.iter().map(|payload| serde_json::from_slice(payload).expect("good JSON")).collect();
        let columns = cases::batch(&rows.iter().collect::<Vec<_>>(), &description.columns);
        let paths = description.columns.into_iter().map(|request| request.path).collect();
        (Twin { rule, state, paths, step }, columns.expect("cells of good types"))
    }

    /// What the host would do.
    pub fn check(&self, batch: &Batch, cells: &Cells) -> Vec<Finding> {
        for path in &self.paths {
            black_box(columns::column(batch, path).expect("the schema has it"));
        }
        let found = (self.rule.check)(&self.state, cells).expect("a good batch");
        let (rule, plugin) = (self.step.plugin.name(), &self.step.plugin);
        let finding = |found: boundary_guest::sluice::codes::Finding| {
            assert!((found.row as usize) < batch.len());
            let code = &plugin.codes()[usize::from(found.code)];
            Finding {
                row: found.row,
                rule: rule.clone(),
                code: code.code.clone(),
                severity: code.severity,
                column: found.column.map(|column| plugin.reads()[usize::from(column)].clone()),
                detail: found.detail,
            }
        };
        found.into_iter().map(finding).collect()
    }
}

/// Native, reused, fresh.
fn compare(chain: &Chain, name: &str, twin: &Rule, payloads: &[Vec<u8>]) -> Measured {
    let batch = batch(chain, payloads);
    let caller = |kind: &str| {
        let step = step(chain, &format!("{name}-{kind}"));
        Caller::new(step.plugin.clone(), step.breaker.clone())
    };
    let (mut reused, mut fresh) = (caller("reused"), caller("fresh"));
    let (twin, columns) = Twin::new(twin, step(chain, &format!("{name}-fresh")), payloads);
    for caller in [&mut reused, &mut fresh] {
        let checked = caller.check(&batch).expect("a good rule");
        let found = |findings: &[Finding]| -> Vec<_> { findings.iter().map(|f| (f.row, f.code.clone())).collect() };
        assert_eq!(found(&checked.findings), found(&twin.check(&batch, &columns)), "twins find the same");
    }
    let turns = ROWS / batch.len();
    let all = (turns * batch.len()) as u64;
    let call = |caller: &mut Caller| {
        here(|| (0..turns).for_each(|_| drop(black_box(caller.check(&batch).expect("a good rule")))))
    };
    let native =
        || here(|| (0..turns).for_each(|_| drop(black_box(twin.check(black_box(&batch), black_box(&columns))))));
    alternate(
        rounds(),
        vec![
            Arm::new("native", all, native),
            Arm::new("reused", all, || call(&mut reused)),
            Arm::new("fresh", all, || call(&mut fresh)),
        ],
    )
}

/// The payloads as one batch.
pub fn batch(chain: &Chain, payloads: &[Vec<u8>]) -> Batch {
    let source = &chain.config.source;
    let mut decoder = JsonDecoder::new(chain.config.schema.clone(), source.unknown_fields, source.max_record)
        .expect("a schema that JSON has");
    let raw = visits::batches(payloads, payloads.len()).remove(0);
    let decoded = decoder.decode(&raw, |_| false);
    assert!(decoded.dead.is_empty(), "all of them decode");
    Batch {
        columns: decoded.rows,
        origin: decoded.origin,
        ordinal: decoded.ordinal,
        raw: Arc::new(raw),
        pipeline: uuid::Uuid::nil(),
    }
}
