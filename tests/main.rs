//! The tests of the host: behaviour through the binary, or through the library's door. One module per theme.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod audit;
mod broker;
mod commands;
mod config;
mod crash;
mod demo;
mod derive;
mod devloop;
mod diff;
mod faults;
mod guests;
mod hostile;
mod kafka;
mod kafka_source;
mod languages;
mod maintain;
mod memory;
mod metrics;
mod payloads;
mod peer;
mod pipeline;
mod plugins;
mod project;
mod reference;
mod reload;
mod replay;
mod scenarios;
mod schema;
mod scripts;
mod shadow;
