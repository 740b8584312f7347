//! Which rows of a table are the latest of their coordinates: two passes over coordinates, none over payloads.
//!
//! It keeps some eighty bytes for each row that the condition chooses, whatever the tables hold beside them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use datafusion::prelude::{col, lit};
use futures::TryStreamExt;

use super::Request;
use crate::error::{Doing, Result};
use crate::outcome::Outcome;
use crate::stored::Provenance;
use crate::stored::tables::Tables;

/// A row that is judged once more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stored {
    /// its ordinal within the record
    pub ordinal: u32,
    /// its attempt so far
    pub attempt: i32,
    /// whether no other row of its record is anywhere, so that all that becomes of the record is its business
    pub alone: bool,
    /// what was said of it
    pub said: Vec<String>,
}

/// Partition (by its place), offset and ordinal.
type Key = (u32, i64, i32);

/// Rows that may be sent.
pub(super) struct Chosen {
    /// topic → partition → its place
    partitions: HashMap<String, BTreeMap<i32, u32>>,
    /// `_batch` of rows, each text once
    batches: Vec<String>,
    /// → attempt, and place in `batches`
    rows: HashMap<Key, (i32, u32)>,
    /// of dead letters: record → a row of it, and whether there is no other
    records: HashMap<(u32, i64), (i32, bool)>,
    /// lowest and highest offset
    offsets: (i64, i64),
}

impl Chosen {
    /// The rows for which the request's condition holds, and of which no table has a later attempt.
    pub async fn find(tables: &Tables, request: &Request) -> Result<Chosen> {
        let mut chosen = Chosen {
            partitions: HashMap::new(),
            batches: Vec::new(),
            rows: HashMap::new(),
            records: HashMap::new(),
            offsets: (i64::MAX, i64::MIN),
        };
        let mut known: HashMap<String, u32> = HashMap::new();
        let rows = tables.rows(request.of, request.condition.as_deref()).await?;
        each(rows, |of, row| {
            let batch = of.batch.value(row);
            let place = known.get(batch).copied().unwrap_or_else(|| {
                let place = chosen.batches.len() as u32;
                chosen.batches.push(batch.to_owned());
                known.insert(batch.to_owned(), place);
                place
            });
            chosen.choose(of, row, place, request.of);
        })
        .await?;
        if chosen.rows.is_empty() {
            return Ok(chosen);
        }
        let (from, to) = chosen.offsets;
        for outcome in tables.outcomes() {
            let rows = tables.rows(outcome, None).await?;
            let offset = || col("\"_offset\"");
            let near = offset().gt_eq(lit(from)).and(offset().lt_eq(lit(to)));
            let rows = rows.filter(near).doing(|| format!("cannot read the coordinates in {outcome}"))?;
            each(rows, |of, row| chosen.look(of, row)).await?;
        }
        Ok(chosen)
    }

    fn key(&self, of: &Provenance, row: usize) -> Option<Key> {
        let partition = *self.partitions.get(of.topic.value(row))?.get(&of.partition.value(row))?;
        Some((partition, of.offset.value(row), of.row.value(row)))
    }

    fn choose(&mut self, of: &Provenance, row: usize, batch: u32, outcome: Outcome) {
        let Some(key) = self.key(of, row) else {
            let next = self.partitions.values().map(BTreeMap::len).sum::<usize>() as u32;
            let known = self.partitions.entry(of.topic.value(row).to_owned()).or_default();
            known.insert(of.partition.value(row), next);
            return self.choose(of, row, batch, outcome);
        };
        self.offsets = (self.offsets.0.min(key.1), self.offsets.1.max(key.1));
        let attempt = of.attempt.value(row);
        // read twice by an operator's word: the last time counts
        let batches = &self.batches;
        let later = |known: &(i32, u32)| (known.0, &batches[known.1 as usize]) < (attempt, &batches[batch as usize]);
        if self.rows.get(&key).is_none_or(later) {
            self.rows.insert(key, (attempt, batch));
        }
        if outcome == Outcome::Dlq {
            self.records.entry((key.0, key.1)).or_insert((key.2, true));
        }
    }

    /// A row that is in some table: a later one of the same coordinates, or another one of the same record.
    fn look(&mut self, of: &Provenance, row: usize) {
        let Some(key) = self.key(of, row) else { return };
        if let Some((known, alone)) = self.records.get_mut(&(key.0, key.1)) {
            *alone &= *known == key.2;
        }
        let (attempt, batch) = (of.attempt.value(row), of.batch.value(row));
        let is_later = |known: &(i32, u32)| (attempt, batch) > (known.0, self.batches[known.1 as usize].as_str());
        if self.rows.get(&key).is_some_and(is_later) {
            self.rows.remove(&key);
        }
    }

    /// How many.
    pub fn len(&self) -> u64 {
        self.rows.len() as u64
    }

    /// The entries that wrote them.
    pub fn batches(&self) -> BTreeSet<String> {
        self.rows.values().map(|(_, batch)| self.batches[*batch as usize].clone()).collect()
    }

    /// Whether this very row was chosen; it is not any more then.
    pub fn take(&mut self, of: &Provenance, row: usize) -> Option<Stored> {
        let key = self.key(of, row)?;
        let (attempt, batch) = *self.rows.get(&key)?;
        if attempt != of.attempt.value(row) || self.batches[batch as usize] != of.batch.value(row) {
            return None;
        }
        self.rows.remove(&key);
        let alone = self.records.get(&(key.0, key.1)).is_some_and(|(_, alone)| *alone);
        Some(Stored { ordinal: key.2 as u32, attempt, alone, said: Vec::new() })
    }
}

/// Hands over the coordinates of each row.
async fn each(rows: datafusion::prelude::DataFrame, mut see: impl FnMut(&Provenance, usize)) -> Result<()> {
    let doing = || "cannot read the coordinates of rows".to_owned();
    let columns = Provenance::COLUMNS.map(|name| col(format!("\"{name}\"")));
    let mut rows = rows.select(columns.to_vec()).doing(doing)?.execute_stream().await.doing(doing)?;
    while let Some(batch) = rows.try_next().await.doing(doing)? {
        let of = Provenance::of(&batch)?;
        (0..of.len()).for_each(|row| see(&of, row));
    }
    Ok(())
}
