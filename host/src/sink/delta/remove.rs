//! What leaves a table, by the ledger's word: windows that were decided long ago, rows that were kept for long enough.
//!
//! Files are only named no more. Where a file has rows that stay beside some that go, those that stay are written anew
//! first: compaction leaves few such files, and another writer's may leave any.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use deltalake::DeltaTable;
use deltalake::DeltaTableError;
use deltalake::kernel::{Action, Add, Remove};

use super::age::{Age, age, has_coordinates, is_older, live};
use super::rewrite::rewrite;
use super::{DeltaSink, Failure, add, load};
use crate::crash;
use crate::schema::WINDOW;
use crate::sink::Sink;

impl DeltaSink {
    /// The removal of every file of some windows, as the table names them at this version.
    pub(super) async fn windows(&self, version: u64, windows: &BTreeSet<String>) -> Result<Vec<Action>, Failure> {
        let table = self.at(version).await?;
        let of = |values: HashMap<String, Option<String>>| values.get(WINDOW).cloned().flatten();
        let files = table.snapshot()?.log_data();
        let gone =
            files.iter().filter(|file| of(file.partition_values_map()).is_some_and(|window| windows.contains(&window)));
        Ok(gone.map(|file| Action::Remove(file.remove_action(true))).collect())
    }

    /// The removal of every row that an entry put into the table which was opened before `kept_from`.
    pub(super) async fn older_than(&self, version: u64, kept_from: DateTime<Utc>) -> Result<Vec<Action>, Failure> {
        let table = self.at(version).await?;
        let state = table.snapshot()?;
        let has_coordinates = has_coordinates(&state.schema());
        let mut actions = Vec::new();
        let mut mixed: Vec<(Add, Remove, Option<usize>)> = Vec::new();
        for file in state.log_data().iter() {
            match age(&file, has_coordinates, kept_from) {
                Age::Past => actions.push(Action::Remove(file.remove_action(true))),
                Age::Mixed => mixed.push((live(&file), file.remove_action(true), file.num_records())),
                Age::Young => {}
            }
        }
        for (file, remove, rows) in mixed {
            // what is of no entry at all is not ours to remove
            let stays = is_older(kept_from).is_not_true();
            let made = rewrite(&table, &self.name(), vec![file], Some(stays), self.files()).await?;
            crash::point("expire/rewritten");
            // with as many rows as before nothing has left it: it stays, and the other one is an orphan
            if rows != Some(made.iter().map(|file| file.rows as usize).sum()) {
                actions.push(Action::Remove(remove));
                actions.extend(made.iter().map(|file| add(file, true)));
            }
        }
        Ok(actions)
    }

    /// The table with all its files, at this very version.
    async fn at(&self, version: u64) -> Result<DeltaTable, Failure> {
        let Some(table) = load(&self.location, self.store.clone()).await? else { return Err(self.missing().into()) };
        if table.version() != Some(version) {
            return Err(DeltaTableError::generic("the table went on while it was read").into());
        }
        Ok(table)
    }
}
