//! `sluice check` on a plugin: whether it keeps the contract, as far as one can see from outside.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use super::CheckArgs;
use crate::cases::plugin as cases;
use crate::cli::Verdict;
use crate::cli::text::plural;
use crate::component;
use crate::error::{Error, Result};
use crate::plugin::{Engine, Inspection, Kind};
use crate::script::Language;
use crate::workbench::rows::{Row, made_up, objects};
use crate::workbench::rowwise::{RowWise, compare};
use crate::workbench::{Found, Subject, find_one, on_guest_stack};

/// Rows that are made up, beside those that there are.
const MADE_UP: usize = 64;
/// Rows of a file that are judged.
const DATA: usize = 192;
/// Differences that are shown.
const SHOWN: usize = 5;

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    ok: bool,
    #[serde(flatten)]
    inspection: Inspection,
    world: Option<String>,
    /// per settings: those of the cases, or those given
    row_wise: Vec<RowWise>,
    /// columns that no code names
    unnamed: Vec<String>,
}

/// Whether the argument means a plugin, and not a pipeline file.
pub fn is_plugin(path: &Path) -> bool {
    let builtin = !path.exists() && path.to_str().and_then(component::builtin).is_some();
    let is_script = path.is_file() && Language::of_file(path).is_some();
    builtin
        || is_script
        || path.extension().is_some_and(|e| e == "wasm")
        || (path.is_dir() && !path.join("sluice.toml").exists())
}

/// Runs the command.
pub fn run(args: &CheckArgs, engine: &Engine) -> Result<Verdict> {
    let found = find_one(&args.file, args.wasi())?;
    let cases = cases::cases(&found)?;
    // rows by the settings that they go with
    let mut by_settings: BTreeMap<String, (Value, Vec<(String, Value)>)> = BTreeMap::new();
    for case in &cases {
        let settings = args.config.as_ref().unwrap_or(&case.config);
        let rows = &mut by_settings.entry(settings.to_string()).or_insert((settings.clone(), Vec::new())).1;
        rows.push((case.row().place, case.row.clone()));
    }
    if by_settings.is_empty() {
        let settings = args.config.clone().unwrap_or_else(|| json!({}));
        by_settings.insert(settings.to_string(), (settings, Vec::new()));
    }
    let first = by_settings.values().next().map(|(settings, _)| settings.clone()).unwrap_or_default();
    let inspection = found.inspect(engine, &first);
    let mut row_wise = Vec::new();
    // an auditor sees no rows
    if inspection.problem.is_none() && inspection.kind != Some(Kind::Auditor) {
        for (settings, rows) in by_settings.into_values() {
            row_wise.push(rows_compared(args, engine, &found, &settings, rows)?);
        }
    }
    let ok = inspection.problem.is_none() && row_wise.iter().all(|compared| compared.differ.is_empty());
    let world = inspection.kind.map(|kind| format!("{kind}-plugin"));
    let report = Report { ok, world, unnamed: unnamed(&inspection), inspection, row_wise };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report).map_err(|e| Error::Host(e.to_string()))?);
    } else {
        print!("{}", text(&report));
    }
    Ok(Verdict::of(ok))
}

fn rows_compared(
    args: &CheckArgs,
    engine: &Engine,
    found: &Found,
    settings: &Value,
    mut rows: Vec<(String, Value)>,
) -> Result<RowWise> {
    if let Some(file) = &args.data {
        let objects = objects(file, DATA)?.into_iter().enumerate();
        rows.extend(objects.map(|(n, row)| (format!("{file}, object {}", n + 1), row)));
    }
    let said = found.inspect(engine, settings);
    let (requests, shaped) = (said.description.map(|said| said.columns).unwrap_or_default(), !rows.is_empty());
    // a column that is wanted as JSON has the shape of the rows that there are: made up ones would be of another
    let is_json = |request: &crate::plugin::Request| request.ty == crate::plugin::Type::Json;
    if !(shaped && requests.iter().any(is_json)) {
        let made = made_up(&requests, MADE_UP, 7).into_iter().enumerate();
        rows.extend(made.map(|(n, row)| (format!("made-up row {}: {row}", n + 1), row)));
    }
    let values: Vec<&Value> = rows.iter().map(|(_, row)| row).collect();
    let subject = Subject::load(engine, found, settings, &values)?;
    let rows: Vec<Row<'_>> = rows.iter().map(|(place, row)| Row { place: place.clone(), row }).collect();
    on_guest_stack(|| compare(&subject, &rows))
}

/// Columns of a rule that none of its codes reads: `explain` cannot show their values.
fn unnamed(inspection: &Inspection) -> Vec<String> {
    let Some(said) = inspection.description.as_ref().filter(|said| !said.codes.is_empty()) else { return Vec::new() };
    let named = |n: usize| said.codes.iter().any(|code| code.reads.iter().any(|read| usize::from(*read) == n));
    said.columns.iter().enumerate().filter(|(n, _)| !named(*n)).map(|(_, column)| column.path.clone()).collect()
}

fn text(report: &Report) -> String {
    let mut text = format!("{}\n", report.inspection);
    let mut line = |what: &str, said: &str| text += &format!("  {what:<9} {said}\n");
    if let Some(world) = &report.world {
        line("world", world);
    }
    for path in &report.unnamed {
        line("unnamed", &format!("{path}: no code reads it, so `explain` cannot show its values"));
    }
    let mut unused: Vec<&String> = report.row_wise.iter().flat_map(|compared| &compared.unused).collect();
    unused.sort();
    unused.dedup();
    // one that only some settings use is used
    unused.retain(|path| report.row_wise.iter().all(|compared| compared.unused.contains(path)));
    for path in unused {
        line(
            "unused",
            &format!("{path}: no answer depends on it with these settings; passing it costs time in every call"),
        );
    }
    let rows: usize = report.row_wise.iter().map(|compared| compared.rows).sum();
    let differ: Vec<_> = report.row_wise.iter().flat_map(|compared| &compared.differ).collect();
    if let Some(compared) = report.row_wise.first() {
        match differ.len() {
            0 => line("row-wise", &format!("{} judged in {} ways, alike", plural(rows as u64, "row"), compared.ways)),
            n => line(
                "row-wise",
                &format!("no: {n} of {} are judged otherwise in other company", plural(rows as u64, "row")),
            ),
        }
    }
    for difference in differ.iter().take(SHOWN) {
        text += &format!(
            "    ✗ {}\n        alone, in a new instance: {}\n        {}: {}\n",
            difference.row, difference.alone, difference.way, difference.otherwise
        );
    }
    if differ.len() > SHOWN {
        text += &format!("    … and {} more; --json shows all\n", plural((differ.len() - SHOWN) as u64, "row"));
    }
    text
}
