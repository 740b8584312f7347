//! Asking an auditor about a window.
//!
//! Once in a while and never for rows, so that every question gets a new instance on a thread of its own. It is asked again
//! when it fails, once; whoever asks decides what a failure means.

use super::log::clean;
use super::sandbox::{Failure, Instance};
use super::{Kind, Plugin, THREAD_STACK};
use crate::error::{Error, Result};

/// One window in numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Window {
    /// as people type it
    pub key: String,
    /// begin and end of a window of time, microseconds since the epoch
    pub span: Option<(i64, i64)>,
    /// its rows
    pub rows: u64,
    /// rows with an error finding
    pub rejected: u64,
    /// in the order of [`Plugin::metrics`]; `None` where SQL answers null
    pub values: Vec<Option<f64>>,
}

/// What an auditor sees.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// the window that is decided over
    pub window: Window,
    /// `rule/code` → rows
    pub findings: Vec<(String, u64)>,
    /// windows before it, oldest first, and whether they were published
    pub history: Vec<(Window, bool)>,
}

/// What an auditor thinks should become of a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opinion {
    /// nothing is wrong
    Publish,
    /// a person should look; why
    Hold(String),
    /// every row is wrong; why
    Reject(String),
}

/// A number that an auditor wants computed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Metric {
    /// kebab-case
    pub name: String,
    /// over the table `window`
    pub sql: String,
}

impl Plugin {
    /// What an auditor wants computed; none for other kinds.
    pub fn metrics(&self) -> &[Metric] {
        &self.described.metrics
    }

    /// How many past windows an auditor wants to see.
    pub fn history(&self) -> usize {
        self.described.history as usize
    }

    /// Asks an auditor. The inner error is the auditor's own failure, in one clean sentence.
    pub fn audit(&self, summary: &Summary) -> Result<std::result::Result<Opinion, String>> {
        if self.kind != Kind::Auditor {
            return Err(Error::Host(format!("plugin `{}` was asked as an auditor", self.name)));
        }
        let ask = || -> std::result::Result<Opinion, Failure> {
            let (mut instance, _) = Instance::start(&self.template)?;
            instance.audit(summary, &self.template.limits)
        };
        let work = || ask().or_else(|_| ask());
        let answer = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("auditor".into()).stack_size(THREAD_STACK);
            match thread.spawn_scoped(scope, work) {
                Ok(thread) => Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))),
                Err(error) => Err(Error::environment("cannot start a thread", error)),
            }
        })?;
        let most = self.template.limits.detail;
        Ok(match answer {
            Ok(Opinion::Publish) => Ok(Opinion::Publish),
            Ok(Opinion::Hold(why)) => Ok(Opinion::Hold(clean(&why, most))),
            Ok(Opinion::Reject(why)) => Ok(Opinion::Reject(clean(&why, most))),
            Err(failure) => Err(format!("{}: {}", failure.reason.as_str(), failure.detail)),
        })
    }
}
