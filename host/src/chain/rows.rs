//! The rows that are still alive, and those that are not: what enrichers add to them, and what leaves them.
//!
//! It judges nothing and calls nobody. What an enricher answered was checked row by row; here it meets the batch, so here
//! is where the growth of a batch is bounded: several rows of one each carry the columns and the payload of that one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{filter, filter_record_batch, take_record_batch};
use arrow::datatypes::Field;

use crate::columns::size;
use crate::error::{Error, Result};
use crate::outcome::{Dead, Finding, Reason, Stage};
use crate::plugin::{Added, DeadRow};
use crate::record::Batch;

/// What a row costs beside its columns and its record: where it came from, as tables store it.
const ROW: usize = 128;

/// A plugin's name in the pipeline file, and its digest.
pub(super) type Author = (Arc<str>, Arc<str>);

/// The rows that are still alive, and those that are not.
pub(super) struct Rows {
    pub(super) batch: Batch,
    pub(super) dead: Vec<Dead>,
}

impl Rows {
    /// The dead letter of a row.
    pub(super) fn letter(&self, stage: Stage, plugin: Option<Author>, row: DeadRow) -> Dead {
        Dead {
            record: self.batch.origin[row.row as usize],
            ordinal: self.batch.ordinal[row.row as usize],
            stage,
            reason: row.reason,
            detail: row.detail,
            plugin,
        }
    }

    /// Whether the rows would take more than `most` bytes once an enricher has made several of one.
    pub(super) fn grow_beyond(&self, added: &Added, most: usize) -> bool {
        !grown(&self.batch, &added.rows, most).is_empty()
    }

    /// Replaces the rows by those that an enricher answered, with its columns. `plugin` is `None` for what the host does
    /// itself.
    ///
    /// Where that would take more than `most` bytes, the rows that grew the most are dead instead: one letter for each
    /// row that came in, none for its copies. What a single row grows to decides as long as it alone is beyond `most`.
    pub(super) fn add(&mut self, plugin: Option<&Author>, fields: &[Field], added: Added, most: usize) -> Result<()> {
        let Added { rows: mut from, mut columns, dead } = added;
        let bury = |rows: &mut Rows, row| rows.dead.push(rows.letter(Stage::Enrich, plugin.cloned(), row));
        dead.into_iter().for_each(|row| bury(self, row));
        let same = from.len() == self.batch.len() && from.iter().enumerate().all(|(row, &f)| row == f as usize);
        if !same {
            let grown = grown(&self.batch, &from, most);
            if !grown.is_empty() {
                let keep = BooleanArray::from_iter(from.iter().map(|row| Some(!grown.contains_key(row))));
                columns = columns.iter().map(|c| filter(c, &keep)).collect::<Result<_, _>>().map_err(bug)?;
                from.retain(|row| !grown.contains_key(row));
                for mut row in grown.into_values() {
                    if plugin.is_none() {
                        row.reason = Reason::TooLarge;
                    }
                    bury(self, row);
                }
            }
            let ordinal = self.ordinals(&from);
            let batch = &mut self.batch;
            batch.origin = from.iter().map(|&row| batch.origin[row as usize]).collect();
            batch.ordinal = ordinal;
            batch.columns = take_record_batch(&batch.columns, &UInt32Array::from(from)).map_err(bug)?;
        }
        let batch = &mut self.batch;
        let schema = super::parts::with_fields(batch.columns.schema_ref(), fields);
        let columns = batch.columns.columns().iter().cloned().chain(columns).collect();
        batch.columns = RecordBatch::try_new(schema, columns).map_err(bug)?;
        Ok(())
    }

    /// The ordinals of rows that came from the rows `from`.
    ///
    /// A row keeps its own, so that one that died leaves a gap. Only the rows of a record of which some row became several
    /// are counted anew, from above those of the record that are dead already: no coordinate is given twice, and none
    /// depends on another record.
    fn ordinals(&self, from: &[u32]) -> Vec<u32> {
        let (origin, ordinal) = (&self.batch.origin, &self.batch.ordinal);
        let several = from.windows(2).filter(|pair| pair[0] == pair[1]);
        let mut next: HashMap<u32, u32> = several.map(|pair| (origin[pair[0] as usize], 0)).collect();
        if next.is_empty() {
            return from.iter().map(|&row| ordinal[row as usize]).collect();
        }
        for dead in &self.dead {
            if let Some(next) = next.get_mut(&dead.record) {
                *next = (*next).max(dead.ordinal + 1);
            }
        }
        let own = |&row: &u32| match next.get_mut(&origin[row as usize]) {
            Some(next) => {
                *next += 1;
                *next - 1
            }
            None => ordinal[row as usize],
        };
        from.iter().map(own).collect()
    }

    /// The rows that are left, with their findings, and everything that is dead.
    pub(super) fn without(
        mut self,
        doomed: BTreeMap<u32, Dead>,
        mut findings: Vec<Finding>,
    ) -> Result<(Batch, Vec<Finding>, Vec<Dead>)> {
        if doomed.is_empty() {
            return Ok((self.batch, findings, self.dead));
        }
        let alive: Vec<bool> = (0..self.batch.len() as u32).map(|row| !doomed.contains_key(&row)).collect();
        let mut moved = Vec::with_capacity(alive.len());
        let mut next = 0;
        for &lives in &alive {
            moved.push(next);
            next += u32::from(lives);
        }
        findings.retain(|f| alive[f.row as usize]);
        for finding in &mut findings {
            finding.row = moved[finding.row as usize];
        }
        let batch = &mut self.batch;
        batch.columns = filter_record_batch(&batch.columns, &BooleanArray::from(alive.clone())).map_err(bug)?;
        let keep = |values: &[u32]| values.iter().zip(&alive).filter(|(_, lives)| **lives).map(|(v, _)| *v).collect();
        batch.origin = keep(&batch.origin);
        batch.ordinal = keep(&batch.ordinal);
        self.dead.extend(doomed.into_values());
        Ok((self.batch, findings, self.dead))
    }
}

/// The rows that must not become the several of `from`, so that all that remain take `most` bytes or less.
fn grown(batch: &Batch, from: &[u32], most: usize) -> BTreeMap<u32, DeadRow> {
    let runs = || from.chunk_by(|a, b| a == b);
    let longest = runs().map(<[u32]>::len).max().unwrap_or(0);
    let records: usize = (0..batch.len()).map(|row| record_bytes(batch, row)).sum();
    // no row is larger than all of them together: most batches need no closer look
    if longest < 2 || (batch.columns.get_array_memory_size() + records).saturating_mul(longest) <= most {
        return BTreeMap::new();
    }
    let weigh = |run: &[u32]| {
        let row = run[0] as usize;
        let columns: usize = batch.columns.columns().iter().map(|column| size(column, row, row + 1)).sum();
        (run.len().saturating_mul(columns + record_bytes(batch, row)), run.len(), run[0])
    };
    let mut weights: Vec<(usize, usize, u32)> = runs().map(weigh).collect();
    let mut all = weights.iter().fold(0usize, |sum, (bytes, ..)| sum.saturating_add(*bytes));
    weights.sort_unstable_by(|a, b| b.cmp(a));
    let mut grown = BTreeMap::new();
    for (bytes, copies, row) in weights.into_iter().filter(|(_, copies, _)| *copies > 1) {
        if all <= most {
            break;
        }
        all = all.saturating_sub(bytes);
        let detail = format!(
            "it makes {copies} rows of this one, {bytes} bytes with the columns and the payload of each; a batch may \
             grow to {most} bytes"
        );
        grown.insert(row, DeadRow { row, reason: Reason::PluginOutput, detail });
    }
    grown
}

/// What the row costs of which each copy has its own: key, payload and headers of its record, coordinates.
fn record_bytes(batch: &Batch, row: usize) -> usize {
    let record = batch.origin[row] as usize;
    let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
    let headers = batch.raw.headers(record).iter();
    let headers: usize = headers.map(|(name, value)| name.len() + length(value.as_deref()) + 8).sum();
    ROW + length(batch.raw.key(record)) + length(batch.raw.value(record)) + headers
}

fn bug(error: arrow::error::ArrowError) -> Error {
    Error::Host(format!("checked columns do not make a batch: {error}"))
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, Int64Array, ListArray, StringArray};
    use arrow::datatypes::{DataType, Int64Type, Schema};
    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;
    use crate::record::{Range, RawBatch, RawRecord, Span, TopicPartition};

    /// More than any of these rows take.
    const GROWN: usize = 1 << 30;

    /// One row per payload; `n` counts from 0.
    fn rows(payloads: &[&str]) -> Rows {
        let mut data = Vec::new();
        let mut records = Vec::new();
        for (i, payload) in payloads.iter().enumerate() {
            let value = Span { start: data.len() as u32, len: payload.len() as u32 };
            data.extend_from_slice(payload.as_bytes());
            let (offset, key) = (i as i64, Span::NULL);
            records.push(RawRecord {
                range: 0,
                offset,
                timestamp: None,
                key,
                value,
                headers: None,
                truncated_from: None,
            });
        }
        let ranges = vec![Range { partition: TopicPartition::new("t", 0), from: 0, to: payloads.len() as i64 }];
        let n: ArrayRef = Arc::new(Int64Array::from_iter_values(0..payloads.len() as i64));
        let schema = Schema::new(vec![Field::new("n", DataType::Int64, true)]);
        let batch = Batch {
            columns: RecordBatch::try_new(Arc::new(schema), vec![n]).unwrap(),
            origin: (0..payloads.len() as u32).collect(),
            ordinal: vec![0; payloads.len()],
            raw: Arc::new(RawBatch { ranges, records, data: Bytes::from(data), headers: vec![] }),
            pipeline: Uuid::nil(),
        };
        Rows { batch, dead: Vec::new() }
    }

    fn trapped(rows: &[u32]) -> Vec<DeadRow> {
        rows.iter().map(|&row| DeadRow { row, reason: Reason::PluginTrap, detail: String::new() }).collect()
    }

    /// An enricher that makes the rows `from` and adds their position as column `name`.
    fn add(rows: &mut Rows, name: &str, from: &[u32], dead: &[u32], most: usize) {
        let position: ArrayRef = Arc::new(Int64Array::from_iter_values(0..from.len() as i64));
        let added = Added { rows: from.to_vec(), columns: vec![position], dead: trapped(dead) };
        let fields = [Field::new(name, DataType::Int64, true)];
        rows.add(Some(&("fan".into(), "9c1e04".into())), &fields, added, most).unwrap();
    }

    fn places(rows: &Rows) -> Vec<(u32, u32)> {
        rows.batch.origin.iter().copied().zip(rows.batch.ordinal.iter().copied()).collect()
    }

    fn buried(rows: &Rows) -> Vec<(u32, u32, Reason)> {
        rows.dead.iter().map(|dead| (dead.record, dead.ordinal, dead.reason)).collect()
    }

    #[test]
    fn ordinals_count_within_a_record() {
        let mut rows = rows(&["", "", "", ""]);
        add(&mut rows, "a", &[0, 0, 1, 3, 3, 3], &[2], GROWN);
        assert_eq!(places(&rows), [(0, 0), (0, 1), (1, 0), (3, 0), (3, 1), (3, 2)]);
        assert_eq!(rows.batch.columns["n"].as_primitive::<Int64Type>().values(), &[0, 0, 1, 3, 3, 3]);
        assert_eq!(rows.batch.columns["a"].as_primitive::<Int64Type>().values(), &[0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_second_fan_out_gives_no_coordinate_twice() {
        // record 0 becomes rows 0, 1, 2; its row 1 traps in the second enricher, where it becomes more rows or not
        for (second, expected) in [
            (&[0, 2][..], &[(0, 0), (0, 2)][..]),
            (&[0, 0, 2], &[(0, 2), (0, 3), (0, 4)]),
            (&[0, 2, 2], &[(0, 2), (0, 3), (0, 4)]),
        ] {
            let mut rows = rows(&[""]);
            add(&mut rows, "a", &[0, 0, 0], &[], GROWN);
            add(&mut rows, "b", second, &[1], GROWN);
            assert_eq!(places(&rows), expected);
            assert_eq!(buried(&rows), [(0, 1, Reason::PluginTrap)]);
        }
    }

    #[test]
    fn ordinals_depend_on_the_record_alone() {
        // the same, and a record beside it that becomes several
        let mut rows = rows(&["", ""]);
        add(&mut rows, "a", &[0, 0, 0, 1], &[], GROWN);
        add(&mut rows, "b", &[0, 2, 3, 3], &[1], GROWN);
        assert_eq!(places(&rows), [(0, 0), (0, 2), (1, 0), (1, 1)]);
    }

    #[test]
    fn a_row_that_grows_beyond_the_bound_costs_that_row() {
        let long = "x".repeat(10_000);
        let mut rows = rows(&["a", &long, "b"]);
        // 50 copies each: some 7 kB of small rows, but 500 kB of the long one
        let from: Vec<u32> = (0..3).flat_map(|row| [row; 50]).collect();
        add(&mut rows, "a", &from, &[], 100_000);
        assert_eq!(buried(&rows), [(1, 0, Reason::PluginOutput)]);
        let dead = &rows.dead[0];
        assert_eq!((dead.stage, dead.plugin.as_ref().map(|(name, _)| &**name)), (Stage::Enrich, Some("fan")));
        let expected = "it makes 50 rows of this one, 506800 bytes with the columns and the payload of each; \
                        a batch may grow to 100000 bytes";
        assert_eq!(dead.detail, expected);
        assert_eq!(places(&rows).len(), 100);
        assert!(rows.batch.origin.iter().all(|record| *record != 1));
        let positions = rows.batch.columns["a"].as_primitive::<Int64Type>().values();
        assert_eq!((positions[0], positions[49], positions[50], positions[99]), (0, 49, 100, 149));
    }

    #[test]
    fn rows_that_stay_one_are_never_too_large() {
        let mut rows = rows(&["a", "b", "c"]);
        add(&mut rows, "a", &[0, 1, 1], &[2], 1);
        assert_eq!(places(&rows), [(0, 0)]);
        assert_eq!(buried(&rows), [(2, 0, Reason::PluginTrap), (1, 0, Reason::PluginOutput)]);
    }

    #[test]
    fn bytes_are_those_of_the_values() {
        let text: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("four")]));
        let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([
            Some(vec![Some(1), None]),
            None,
            Some(vec![Some(1)]),
        ]));
        let both: ArrayRef = Arc::new(arrow::array::StructArray::from(vec![
            (Arc::new(Field::new("text", DataType::Utf8, true)), text.clone()),
            (Arc::new(Field::new("list", list.data_type().clone(), true)), list.clone()),
        ]));
        for (array, expected) in [(&text, [5, 4, 8]), (&list, [20, 4, 12]), (&both, [25, 8, 20])] {
            assert_eq!([0, 1, 2].map(|row| size(array, row, row + 1)), expected);
            assert_eq!(size(&array.slice(1, 2), 1, 2), expected[2], "of a slice");
        }
    }
}
