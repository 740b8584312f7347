//! Every log, metric and event name, once.
//!
//! Logs go to standard error, so that standard output belongs to what a command answers.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging at `level`, a level or a filter of the form `target=level,…`.
///
/// A filter that cannot be read is reported, and `warn` used.
pub fn start(level: &str) {
    // what libraries below say is for those who ask by name
    let filter = match level {
        "error" | "warn" | "info" | "debug" | "trace" => format!("error,sluice_host={level}"),
        filter => filter.to_owned(),
    };
    let filter = EnvFilter::try_new(&filter).unwrap_or_else(|error| {
        eprintln!("warning: --log `{level}` is no filter ({error}); using `warn`");
        EnvFilter::new("error,sluice_host=warn")
    });
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .try_init();
    if let Err(error) = started {
        eprintln!("warning: logging is on already: {error}");
    }
}
