//! What a running process tells those who watch: logs, metrics, health.
//!
//! The name of every metric stands once, in [`names`]. A log line is fields first, then a fixed sentence that one can search
//! for; `error` means that someone must act, `warn` that someone should know, `info` what changed, `debug` why. Logs go to
//! standard error, so that standard output belongs to what a command answers. Nothing here decides anything.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

pub mod health;
pub mod http;
pub mod metrics;
pub mod names;
pub mod process;
pub mod scrape;

pub use metrics::Metrics;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// for people
    Text,
    /// one JSON object per line
    Json,
}

/// Starts logging at `level`, a level or a filter of the form `target=level,…`.
///
/// A filter that cannot be read is reported, and `warn` used.
pub fn start(level: &str, format: LogFormat) {
    // What libraries below say is for those who ask by name. Those of the tables call every error an error that they hand
    // up, a lost race too: what matters of them is told by us.
    let filter = match level {
        "error" | "warn" | "info" | "debug" | "trace" => {
            format!("error,buoyant_kernel=off,deltalake_core=off,rdkafka=off,sluice_host={level}")
        }
        filter => filter.to_owned(),
    };
    let filter = EnvFilter::try_new(&filter).unwrap_or_else(|error| {
        eprintln!("warning: --log `{level}` is no filter ({error}); using `warn`");
        EnvFilter::new("error,sluice_host=warn")
    });
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let started = match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    if let Err(error) = started {
        eprintln!("warning: logging is on already: {error}");
    }
}
