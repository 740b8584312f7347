//! Lines in the host's log: rate-limited, cut off at a length. In native tests they go to standard error.
//!
//! For what an operator should know about the plugin; what is wrong with a row is a finding.

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// for the author
    Debug,
    /// for who is curious
    Info,
    /// someone should look
    Warn,
    /// someone must act
    Error,
}

/// Writes a line to the host's log.
pub fn log(level: Level, message: &str) {
    #[cfg(target_family = "wasm")]
    crate::guest::log(level, message);
    #[cfg(not(target_family = "wasm"))]
    eprintln!("{level:?}: {message}");
}

/// Writes a line for who is curious.
pub fn info(message: &str) {
    log(Level::Info, message);
}

/// Writes a line that someone should look at.
pub fn warn(message: &str) {
    log(Level::Warn, message);
}
