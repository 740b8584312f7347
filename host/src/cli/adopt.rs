//! `sluice adopt`: tables are taken over as they are, by the operator's word.

use std::path::PathBuf;

use arrow::datatypes::SchemaRef;
use tokio::runtime::Runtime;

use super::Verdict;
use super::text::thousands;
use crate::chain::Chain;
use crate::config::{Config, Location};
use crate::error::{Error, Result};
use crate::ledger::Ledger;
use crate::ledger::operate::{self, Adoptable, Done};
use crate::outcome::Outcome;
use crate::pipeline::shape::Shaper;
use crate::reconcile::{self, Table};
use crate::sink::Sink;
use crate::sink::delta::DeltaSink;
use crate::store;

/// Take the tables over as they are: after one was replaced, or after the ledger was lost.
///
/// A replaced table is followed from here on, and one that was removed begins anew, empty. Where tables hold entries that the ledger no longer has, reading goes on
/// behind the highest offset in any of them, and what cannot be known is said. Stop the pipeline first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sluice adopt\n  sluice adopt pipelines/visits.toml --accept-lag")]
pub struct AdoptArgs {
    /// The pipeline file
    #[arg(value_name = "FILE", default_value = "sluice.toml")]
    pub file: PathBuf,
    /// Adopt although some tables hold fewer entries than others: rows of lost entries may be missing in them for good
    #[arg(long)]
    pub accept_lag: bool,
}

/// Runs the command. `chain` is what the pipeline file says now.
pub fn run(args: &AdoptArgs, chain: &Chain, runtime: &Runtime) -> Result<Verdict> {
    let done = runtime.block_on(adopt(chain, args.accept_lag))?;
    println!("adopted: entry {}", done.entry);
    for line in done.lines {
        println!("  {line}");
    }
    Ok(Verdict::Done)
}

/// Adopts the tables of a pipeline.
pub async fn adopt(chain: &Chain, accept_lag: bool) -> Result<Done> {
    let config = &*chain.config;
    let (store, state) = store::open(&config.state)?;
    let ledger = Ledger::open(store, state, &config.name).await?;
    let mut tables = Table::of(config, &ledger.application()).await?;
    let sinks =
        config.tables().map(|(outcome, location)| sink(config, outcome, location)).collect::<Result<Vec<_>>>()?;
    // a ledger that cannot be read says so later, in its own words
    let fold = ledger.fold().await.ok();
    let is_bound = fold.as_ref().is_some_and(|fold| !fold.tables.is_empty());
    let has_begun = tables.iter().any(|table| table.mark > 0) || is_bound;
    let mut created = Vec::new();
    for sink in sinks.iter().filter(|sink| !tables.iter().any(|table| table.outcome == sink.outcome())) {
        let name = format!("{} ({})", sink.outcome(), sink.location());
        if !has_begun {
            return Err(Error::Diverged(format!("{name} is not there; `sluice run` creates it")));
        }
        sink.create(&schema(chain, sink.outcome())?).await?;
        let gone = fold.as_ref().map_or(0, |fold| fold.rows(sink.outcome()));
        created.push(match gone {
            0 => format!("{name} was not there: it begins anew, empty"),
            rows => format!(
                "{name} was not there: it begins anew, empty, without the {} rows that the ledger counts for it",
                thousands(rows)
            ),
        });
    }
    if !created.is_empty() {
        tables = Table::of(config, &ledger.application()).await?;
    }
    let mut adoptable = Vec::new();
    for sink in &sinks {
        let table = tables.iter().find(|table| table.outcome == sink.outcome());
        let table = table.ok_or_else(|| {
            Error::Diverged(format!("{} ({}) vanishes while it is adopted", sink.outcome(), sink.location()))
        })?;
        adoptable.push(Adoptable { table, sink });
    }
    let generation = &chain.generation.hash;
    let seen = async || reconcile::seen(&tables).await;
    let mut done = operate::adopt(&ledger, &adoptable, generation, accept_lag, seen).await?;
    done.lines.splice(0..0, created);
    Ok(done)
}

/// The columns of a table that begins anew.
fn schema(chain: &Chain, outcome: Outcome) -> Result<SchemaRef> {
    let none = || Error::Host(format!("there is no sink for {outcome}"));
    match outcome {
        Outcome::Valid | Outcome::Error | Outcome::Dlq | Outcome::Staging => {
            let shaper = Shaper::of(outcome, &chain.config.sinks, chain.schema())?.ok_or_else(none)?;
            Ok(shaper.schema().clone())
        }
        Outcome::Derived(_) => {
            let derive = chain.parts.derives.iter().find(|derive| derive.outcome() == outcome);
            derive.map(|derive| derive.schema().clone()).ok_or_else(none)
        }
    }
}

fn sink(config: &Config, outcome: Outcome, location: &Location) -> Result<DeltaSink> {
    let partition_by = config.sinks.of(outcome).map(|sink| sink.partition_by.clone()).unwrap_or_default();
    let (store, prefix) = store::open(location)?;
    Ok(DeltaSink::new(outcome, location.clone(), store, prefix, partition_by, &config.name))
}
