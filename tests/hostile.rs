//! Guests that misbehave, and what it costs: one row where one row is to blame, a plain sentence where a component cannot
//! be loaded, and the pipeline only where the plugin fails beyond its budget.
//!
//! The kinds of misdeed are data, in `guests/hostile.toml`; `table` runs them all.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use sluice_host::config::{Limits, MaxFailures, OnFailure, Place, PluginCode, PluginConfig, Wasi};
use sluice_host::error::Result;
use sluice_host::outcome::Reason;
use sluice_host::plugin::{Breaker, Caller, Checked, DeadRow, Engine, Kind, Plugin};
use sluice_host::record::{Batch, RawBatch};

mod chain;
mod enrichers;
pub mod fixtures;
mod loading;
mod rules;
pub mod slow;
mod table;
mod wasi;

use crate::guests::Guest;

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
            compile: std::time::Duration::from_secs(60),
            call_rows: 4096,
            call_bytes: 1 << 20,
        },
        wasi: Wasi::None,
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
    Caller::new(plugin, breaker(config))
}

fn breaker(config: &PluginConfig) -> Arc<Breaker> {
    Arc::new(Breaker::new(config.max_failures, config.on_failure))
}

fn check(guest: &Guest, config: &PluginConfig, rows: usize) -> Result<Checked> {
    caller(guest, config).check(&batch(rows))
}

fn reasons(dead: &[DeadRow]) -> Vec<(u32, Reason)> {
    dead.iter().map(|row| (row.row, row.reason)).collect()
}
