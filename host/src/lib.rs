//! Sluice, a quality gate for streams.
//!
//! ```text
//!  Kafka ──┐                                                        ┌─► valid    every rule passed, enriched
//!  files ──┼► Source ─► decode ─► Chain ─────────► Outcome ─► route ├─► error    a rule said no; the findings are kept
//!  stdin ──┘   raw      Arrow     enrichers, rules  a value   pure  └─► dlq      nobody could judge it: raw bytes + why
//!                ▲                                                       │
//!                └── position ◄──── LEDGER: one commit point for all ◄───┘
//! ```
//!
//! Modules in reading order: [`record`] (the nouns), [`pipeline`] (the loop), [`source`], [`decode`], [`columns`],
//! [`expect`], [`plugin`], [`mod@reference`], [`chain`], [`outcome`], [`mod@derive`], [`ledger`], [`sink`], [`store`]; whole windows:
//! [`audit`]; history again:
//! [`stored`], [`compare`], [`pipeline::replay`]; how it changes over time: [`generation`], [`reload`], [`shadow`], [`admin`];
//! beside them [`config`], [`schema`], [`script`], [`maintain`], [`memory`], [`error`], [`telemetry`]; the commands stand in
//! [`cli`], and what they need to develop a pipeline without running it in [`init`], [`cases`], [`capture`] and
//! [`workbench`].
//!
//! # Invariants
//! - Only [`plugin`] knows that Wasm exists, and one file, `plugin/bindings.rs`, names WIT types.
//! - Decode, outcome and routing have no clock, no I/O, no async.
//! - No record is dropped without a count. No position advances before the ledger's entry.
//! - Every queue is bounded. Memory is bounded whatever the input.
//! - A guest gets nothing that is not in `wit/`. Guests never run on an async thread.
//! - One poison record costs one record.

pub mod admin;
pub mod audit;
pub mod capture;
pub mod cases;
pub mod chain;
pub mod cli;
pub mod columns;
pub mod compare;
pub mod component;
pub mod config;
pub mod crash;
pub mod decode;
pub mod derive;
pub mod error;
pub mod expect;
#[cfg(test)]
mod fuzz;
pub mod generate;
pub mod generation;
pub mod init;
pub mod ledger;
pub mod maintain;
pub mod memory;
pub mod new;
pub mod outcome;
pub mod pipeline;
pub mod plugin;
pub mod reconcile;
pub mod record;
pub mod reference;
pub mod reload;
pub mod schema;
pub mod script;
pub mod shadow;
pub mod sink;
pub mod source;
pub mod store;
pub mod stored;
pub mod telemetry;
pub mod workbench;
