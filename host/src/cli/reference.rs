//! `sluice reference`: what rows are joined with, and a word to running processes that it changed.

use std::sync::Arc;

use super::text::{bytes, plural, thousands};
use super::{PipelineArg, Verdict, open};
use crate::chain::Chain;
use crate::error::{Error, Result};
use crate::reference::{self, Table};

/// Look at reference tables, or let running pipelines take new versions at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sluice reference show\n  sluice reference refresh            all of them\n  \
sluice reference refresh devices    one of them")]
pub struct ReferenceArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Read the tables as a run would, and say what they are
    Show {
        /// Names in the pipeline file; all without it
        names: Vec<String>,
        #[command(flatten)]
        pipeline: PipelineArg,
        /// As JSON, one object per table
        #[arg(long)]
        json: bool,
    },
    /// Ask every running process of the pipeline to take new versions now
    ///
    /// The tables are read here first: what a run could not take is said at once, and nobody is asked.
    Refresh {
        /// Names in the pipeline file; all without it
        names: Vec<String>,
        #[command(flatten)]
        pipeline: PipelineArg,
    },
}

/// Runs the command.
pub fn run(args: &ReferenceArgs) -> Result<Verdict> {
    match &args.what {
        What::Show { names, pipeline, json } => {
            let chain = open::chain(&pipeline.config)?;
            for table in tables(&chain, names)? {
                println!("{}", if *json { object(&table)? } else { described(&table)? });
            }
        }
        What::Refresh { names, pipeline } => {
            let chain = open::chain(&pipeline.config)?;
            let runtime = open::runtime()?;
            let tables = tables(&chain, names)?;
            for table in &tables {
                let snapshot = table.current()?;
                let rows = plural(snapshot.len() as u64, "row");
                println!("{}  {}  version {}: {rows}", table.name(), table.written(), snapshot.version());
            }
            let (store, state) = crate::store::open(&chain.config.state)?;
            runtime.block_on(reference::ask(&store, &state, names))?;
            println!("running processes take {} with their next entry", if tables.len() == 1 { "it" } else { "them" });
        }
    }
    Ok(Verdict::Done)
}

/// The tables of these names, all where there are none.
fn tables(chain: &Chain, names: &[String]) -> Result<Vec<Arc<Table>>> {
    let references = &chain.parts.references;
    if references.is_empty() {
        return Err(Error::Config("the pipeline has no reference tables: `[reference.NAME]` names one".into()));
    }
    if names.is_empty() {
        return Ok(references.iter().map(|(table, _)| table.clone()).collect());
    }
    let known: Vec<_> = references.iter().map(|(table, _)| table.name().to_string()).collect();
    let find = |name: &String| {
        let table = references.get(name).cloned();
        let unknown = || Error::Config(format!("there is no reference `{name}`; there are: {}", known.join(", ")));
        table.ok_or_else(unknown)
    };
    names.iter().map(find).collect()
}

fn described(table: &Table) -> Result<String> {
    let snapshot = table.current()?;
    let rows = snapshot.len() as u64;
    let each = (snapshot.bytes() as u64).checked_div(rows);
    let each = each.map_or(String::new(), |each| format!(", {} bytes a row", thousands(each)));
    let columns: Vec<String> =
        table.columns().iter().map(|(name, ty)| format!("{name} {}", reference::sql(ty))).collect();
    Ok(format!(
        "{}  {}  version {}\n  rows     {}\n  memory   {}{each}\n  key      {}\n  columns  {}",
        table.name(),
        table.written(),
        snapshot.version(),
        thousands(rows),
        bytes(snapshot.bytes() as u64),
        table.key().join(", "),
        columns.join(", ")
    ))
}

fn object(table: &Table) -> Result<String> {
    let snapshot = table.current()?;
    let columns: std::collections::BTreeMap<_, _> =
        table.columns().iter().map(|(name, ty)| (name, reference::sql(ty))).collect();
    let object = serde_json::json!({
        "name": &**table.name(),
        "location": table.written(),
        "version": snapshot.version(),
        "rows": snapshot.len(),
        "bytes": snapshot.bytes(),
        "key": table.key(),
        "columns": columns,
    });
    Ok(object.to_string())
}
