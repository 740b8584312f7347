//! `sluice test`: the cases of plugins and of pipelines, without a broker and without tables. What a case is, and how it is
//! judged, stands in [`crate::cases`].

use std::path::{Path, PathBuf};

use super::text::{Paint, plural};
use super::{Verdict, open};
use crate::cases::{self, Suite, junit, pipeline, pipeline_of, plugin, update};
use crate::config::Wasi;
use crate::error::{Doing, Error, Result};
use crate::plugin::Engine;
use crate::workbench::{Found, find};

/// Run the cases of plugins and of pipelines.
///
/// PATH is a pipeline file, or a folder with `sluice.toml`; a plugin's folder (its source is built first, as `sluice build`
/// does), or a component: the cases are the lines of `cases/*.ndjson` beside it, or those that it carries. Or it is a script,
/// with `cases/NAME.ndjson` beside it, or a folder of such. Exits with 1 when a case fails, or when there is none.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sluice test\n  sluice test plugins/consent pipelines/visits.toml --junit report.xml\n  sluice test --update      write what came into lines that fail or say nothing\n  \
sluice test plugins/consent.wasm --cases plugins/consent/cases\n  \
sluice test rules/consent.js      the cases are in rules/cases/consent.ndjson\n\n\
A case of a pipeline: {\"record\": {\"user_id\": null}, \"outcome\": \"error\", \"findings\": [\"expect/has-user\"]}\n\
      of a plugin:    {\"row\": {\"keep_private\": true, \"context\": {\"user\": {\"login\": \"mlind\"}}}, \"finds\": [\"login-exposed\"]}"
)]
pub struct TestArgs {
    /// Pipelines, folders, components or scripts
    #[arg(default_value = ".", value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// The folder of cases, where it is not beside the component or the pipeline file
    #[arg(long, value_name = "FOLDER")]
    pub cases: Option<PathBuf>,
    /// Serve a finished component that imports WASI 0.2 by stand-ins, as `wasi = "inert"` does in a pipeline
    #[arg(long, value_parser = ["inert"], value_name = "inert")]
    pub wasi: Option<String>,
    /// Write what came into the lines that fail or do not say what should come; look at the difference before you keep it
    #[arg(long)]
    pub update: bool,
    /// Write a report as CI systems read it
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// One JSON object per case
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(args: &TestArgs) -> Result<Verdict> {
    let engine = Engine::new(open::compiled_cache())?;
    let mut suites = Vec::new();
    let mut complete = true;
    for path in &args.paths {
        match tested(args, &engine, path, &mut suites) {
            Ok(()) => {}
            // no cases, or one that cannot be read: the others still run
            Err(Error::Config(why)) => {
                complete = false;
                eprintln!("{}: {why}", path.display());
            }
            Err(error) => return Err(error),
        }
    }
    if let Some(file) = &args.junit {
        std::fs::write(file, junit::write(&suites)).doing(|| format!("cannot write {}", file.display()))?;
    }
    Ok(Verdict::of(complete && suites.iter().all(|suite| suite.passed() == suite.cases.len())))
}

/// Tests all that `path` means, and reports each suite when it is done.
fn tested(args: &TestArgs, engine: &Engine, path: &Path, suites: &mut Vec<Suite>) -> Result<()> {
    let mut done = |(suite, updated): (Suite, usize)| {
        report(args, &suite, updated);
        suites.push(suite);
    };
    if let Some(file) = pipeline_of(path) {
        done(test_pipeline(args, &file)?);
        return Ok(());
    }
    let wasi = if args.wasi.is_some() { Wasi::Inert } else { Wasi::None };
    for found in find(path, args.cases.as_deref(), wasi)? {
        done(test_plugin(args, engine, &found)?);
    }
    Ok(())
}

fn test_pipeline(args: &TestArgs, file: &Path) -> Result<(Suite, usize)> {
    let chain = open::chain(file)?;
    let folder = args.cases.clone().unwrap_or_else(|| cases::beside(file));
    let mut suite = pipeline::run(&chain, &folder)?;
    let updated = if args.update { update(&mut suite, &pipeline::KEYS, &pipeline::INPUTS)? } else { 0 };
    Ok((suite, updated))
}

fn test_plugin(args: &TestArgs, engine: &Engine, found: &Found) -> Result<(Suite, usize)> {
    let mut suite = plugin::run(engine, found)?;
    let updated = if args.update { update(&mut suite, &plugin::KEYS, &plugin::INPUTS)? } else { 0 };
    Ok((suite, updated))
}

fn report(args: &TestArgs, suite: &Suite, updated: usize) {
    if args.json {
        for case in &suite.cases {
            let problem = case.problem.as_ref().map(|problem| problem.lines.join("; "));
            let line = serde_json::json!({
                "suite": suite.title, "file": case.file, "line": case.line, "name": case.name,
                "passed": problem.is_none(), "problem": problem,
            });
            println!("{line}");
        }
        return;
    }
    let paint = Paint::stdout();
    let updated = if updated > 0 { format!(", {} updated", plural(updated as u64, "line")) } else { String::new() };
    println!("{:<40} {} of {}{updated}", suite.title, suite.passed(), plural(suite.cases.len() as u64, "case"));
    for case in &suite.cases {
        let Some(problem) = &case.problem else { continue };
        let name = case.name.as_ref().map(|name| format!("   {name}")).unwrap_or_default();
        println!("  {} {}{name}", paint.red("✗"), case.place());
        problem.lines.iter().for_each(|line| println!("      {line}"));
    }
}
