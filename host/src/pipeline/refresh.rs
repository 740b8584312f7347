//! New versions of reference tables while a pipeline runs: looked for at an interval, and when somebody asks.
//!
//! Reading happens on a thread of its own, beside the judging: the next entry takes the new snapshot, the open one keeps its
//! own. A version that cannot be read, or that breaks the binding, changes nothing, and is said once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::Follow;
use super::intake::{Shared, Word, lock};
use crate::error::Error;
use crate::reference::{self, Table};

/// How often it looks whether anything is due, and whether somebody asked.
const TURN: Duration = Duration::from_millis(500);

/// What became of a look at a reference table.
#[derive(Debug)]
pub struct Refreshed {
    /// its name in the pipeline file
    pub name: Arc<str>,
    /// the version before
    pub from: String,
    /// the version that the next entry takes and its rows, or why it stays at the one before
    pub result: Result<(String, usize), Error>,
    /// how long reading took
    pub took: Duration,
}

pub(super) struct Refresher {
    pub shared: Arc<Shared>,
    pub follow: Follow,
    pub words: Sender<Word>,
}

impl Refresher {
    /// Until `over` is closed.
    pub fn run(&self, over: &Receiver<()>) {
        let mut heard = self.asked().map(|asked| asked.id);
        let mut looked: BTreeMap<Arc<str>, Instant> = BTreeMap::new();
        let mut complained: BTreeMap<Arc<str>, String> = BTreeMap::new();
        let began = Instant::now();
        while over.recv_timeout(TURN) == Err(RecvTimeoutError::Timeout) {
            let references = lock(&self.shared.references).clone();
            if references.is_empty() {
                continue;
            }
            let asked = self.asked().filter(|asked| Some(asked.id) != heard);
            heard = asked.as_ref().map_or(heard, |asked| Some(asked.id));
            for (table, interval) in references.iter() {
                let name = table.name();
                let is_asked =
                    asked.as_ref().is_some_and(|a| a.tables.is_empty() || a.tables.iter().any(|t| **t == **name));
                let last = looked.get(name).copied().unwrap_or(began);
                if !is_asked && last.elapsed() < interval {
                    continue;
                }
                if is_asked {
                    complained.remove(name); // who asks is told again
                }
                self.look(table, &mut complained);
                looked.insert(name.clone(), Instant::now());
            }
        }
    }

    fn look(&self, table: &Table, complained: &mut BTreeMap<Arc<str>, String>) {
        let name = table.name().clone();
        let begun = Instant::now();
        let from = table.current().map(|snapshot| snapshot.version().to_owned()).unwrap_or_default();
        let result = match table.refresh() {
            Ok(None) => {
                complained.remove(&name);
                return;
            }
            Ok(Some(snapshot)) => {
                complained.remove(&name);
                Ok((snapshot.version().to_owned(), snapshot.len()))
            }
            Err(error) => {
                let said = error.to_string();
                if complained.insert(name.clone(), said.clone()).as_ref() == Some(&said) {
                    return;
                }
                Err(error)
            }
        };
        let refreshed = Refreshed { name, from, result, took: begun.elapsed() };
        // a run that is over needs no word
        let _ = self.words.send(Word::Refreshed(Box::new(refreshed)));
    }

    fn asked(&self) -> Option<reference::Asked> {
        let (store, state) = self.follow.ledger.place();
        match self.follow.runtime.block_on(reference::asked(store, state)) {
            Ok(asked) => asked,
            // a store that does not answer now is asked again; commits report what is wrong with it
            Err(error) => {
                tracing::debug!(%error, "nobody knows whether a refresh was asked for");
                None
            }
        }
    }
}
