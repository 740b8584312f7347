//! A pipeline's file → what commands work with: the chain, the ledger, the sinks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::runtime::Runtime;

use crate::chain::Chain;
use crate::config::{Config, Location, SinkConfig, SinkKind};
use crate::error::{Doing, Result};
use crate::ledger::Ledger;
use crate::outcome::Outcome;
use crate::pipeline::Follow;
use crate::sink::Sink;
use crate::sink::delta::DeltaSink;
use crate::sink::stdout::StdoutSink;
use crate::store;

/// Threads for object stores and table logs; rows are judged elsewhere.
pub fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("store")
        .enable_all()
        .build()
        .doing(|| "cannot start the runtime".into())
}

/// Reads the pipeline file and loads everything that judges.
pub fn chain(file: &Path) -> Result<Chain> {
    Chain::load(file, compiled_cache().as_deref())
}

/// Where compiled components are kept: a private folder of this user, `None` where there is no home.
pub fn compiled_cache() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").filter(|v| !v.is_empty()).map(PathBuf::from);
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))?;
    Some(base.join("sluice/compiled"))
}

/// Opens ledger and sinks of a pipeline. Creates nothing.
pub fn follow(config: &Config, runtime: &Runtime) -> Result<Follow> {
    let (store, prefix) = store::open(&config.state)?;
    let ledger = runtime.block_on(Ledger::open(store, prefix, &config.name))?;
    Ok(Follow { ledger: Arc::new(ledger), sinks: sinks(config)?, runtime: runtime.handle().clone() })
}

/// The sinks of a pipeline, in the order in which they follow the ledger.
pub fn sinks(config: &Config) -> Result<Vec<Arc<dyn Sink>>> {
    let own = config.sinks.each().map(|(outcome, sink)| sink_of(config, outcome, sink));
    own.chain(config.derived().map(|(outcome, location)| derived(config, outcome, location))).collect()
}

fn derived(config: &Config, outcome: Outcome, location: &Location) -> Result<Arc<dyn Sink>> {
    let (store, prefix) = store::open(location)?;
    Ok(Arc::new(DeltaSink::new(outcome, location.clone(), store, prefix, Vec::new(), &config.name)))
}

fn sink_of(config: &Config, outcome: Outcome, sink: &SinkConfig) -> Result<Arc<dyn Sink>> {
    Ok(match &sink.kind {
        SinkKind::Delta(location) => {
            let (store, prefix) = store::open(location)?;
            Arc::new(DeltaSink::new(outcome, location.clone(), store, prefix, sink.partition_by.clone(), &config.name))
        }
        SinkKind::Stdout => {
            let (store, state) = store::open(&config.state)?;
            Arc::new(StdoutSink::new(outcome, store, state.join("spool")))
        }
    })
}
