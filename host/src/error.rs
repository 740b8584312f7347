//! One error for the whole host: what was tried, why it failed, what to do.
//!
//! Bad *data* is never an error here: it is an [`Outcome`](crate::outcome::Outcome). An `Err` means that a batch or a
//! command could not be completed.

use std::fmt::Display;

/// The result of everything that can fail in the host.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Any error of a library below us, kept as the source.
pub type Source = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// What the user wrote: the pipeline file, a file that it names, an argument.
    Config,
    /// A plugin: it cannot be loaded, or it failed beyond its budget.
    Plugin,
    /// Disk, network, broker, another process, a table that someone changed.
    Environment,
    /// Sluice itself: a bug.
    Host,
}

/// Why something could not be completed, cut by what an operator can do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pipeline file or a file that it names has mistakes: all of them, with their places.
    #[error("{0}")]
    Mistakes(Box<crate::config::Mistakes>),
    /// An argument or a setting is wrong, and the text says which and what would be right.
    #[error("{0}")]
    Config(String),
    /// A plugin cannot be loaded, or failed more often than its breaker allows.
    #[error("plugin `{plugin}` {problem}")]
    Plugin {
        /// the name it has in the pipeline file
        plugin: String,
        /// reads on from the name: "traps on every row: …"
        problem: String,
    },
    /// Something outside failed. Trying again may help.
    #[error("{doing}: {source}")]
    Environment {
        /// what was tried, with its place: "cannot write lake/visits/part-0.parquet"
        doing: String,
        /// why it failed
        #[source]
        source: Source,
    },
    /// Ledger, tables and sources contradict each other. Nothing was written; an operator decides.
    #[error("{0}")]
    Diverged(String),
    /// A bug in Sluice.
    #[error("{0} (this is a bug in sluice)")]
    Host(String),
}

impl Error {
    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self {
            Error::Mistakes(_) | Error::Config(_) => Blame::Config,
            Error::Plugin { .. } => Blame::Plugin,
            Error::Environment { .. } | Error::Diverged(_) => Blame::Environment,
            Error::Host(_) => Blame::Host,
        }
    }

    /// All of it in one line, with every cause that adds something; of several mistakes the first, and how many there are.
    pub fn sentence(&self) -> String {
        use std::fmt::Write;
        let mut text = match self {
            Error::Mistakes(mistakes) => return mistakes.sentence(),
            Error::Config(_)
            | Error::Plugin { .. }
            | Error::Environment { .. }
            | Error::Diverged(_)
            | Error::Host(_) => self.to_string(),
        };
        let mut cause = std::error::Error::source(self);
        while let Some(inner) = cause {
            let inner_text = inner.to_string();
            if !text.contains(&inner_text) {
                let _ = write!(text, ": {inner_text}");
            }
            cause = inner.source();
        }
        text
    }

    /// An [`Error::Environment`]: `doing` is what was tried, with its place.
    pub fn environment(doing: impl Display, source: impl Into<Source>) -> Self {
        Error::Environment { doing: doing.to_string(), source: source.into() }
    }

    /// An [`Error::Plugin`]: `problem` reads on from the plugin's name.
    pub fn plugin(plugin: impl Into<String>, problem: impl Into<String>) -> Self {
        Error::Plugin { plugin: plugin.into(), problem: problem.into() }
    }
}

/// Says what was tried when a library's call fails.
pub trait Doing<T> {
    /// Turns the error into an [`Error::Environment`].
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Source>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::environment(what(), source))
    }
}
