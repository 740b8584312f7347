//! A reference table as it was at one version: immutable, in memory, with a hash index over its key.
//!
//! It is pinned by the batches that use it and replaced as a whole. It reads no table and knows no configuration beyond
//! its key; nulls never match, neither in the table nor in what is looked up.

use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, AsArray, RecordBatch, StringArray, UInt32Array};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer};
use arrow::compute::take;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::row::{RowConverter, Rows, SortField};
use foldhash::fast::RandomState;

use super::index::{Index, Keys, NONE};
use crate::columns::size;
use crate::error::{Error, Result};
use crate::memory;

/// What to do where several rows of the table have the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDuplicate {
    /// the table is refused
    Error,
    /// the first row counts, in the order of the table
    First,
    /// a row that matches several becomes as many
    FanOut,
}

impl OnDuplicate {
    /// As it is written in the pipeline file.
    pub fn as_str(self) -> &'static str {
        match self {
            OnDuplicate::Error => "error",
            OnDuplicate::First => "first",
            OnDuplicate::FanOut => "fan-out",
        }
    }

    /// The one that is written so.
    pub fn parse(text: &str) -> Option<OnDuplicate> {
        [OnDuplicate::Error, OnDuplicate::First, OnDuplicate::FanOut].into_iter().find(|one| one.as_str() == text)
    }
}

/// One version of a reference table.
pub struct Snapshot {
    name: Arc<str>,
    version: String,
    rows: RecordBatch,
    keys: KeyColumn,
    key_types: Vec<DataType>,
    index: Index<RandomState>,
    /// row → the next row of the same key; only where a key fans out
    next: Option<Vec<u32>>,
}

/// Which rows of the table belong to rows that were looked up.
#[derive(Debug, PartialEq)]
pub struct Matches {
    /// answer → the row that asked; `None` where each row that asked has exactly one answer
    pub asked: Option<Vec<u32>>,
    /// answer → row of the table, null where nothing matched
    pub found: UInt32Array,
}

/// Keys as bytes, by row of the table.
enum KeyColumn {
    /// one text column: its own bytes
    Text(StringArray),
    /// anything else, in arrow's row format
    Rows { converter: RowConverter, rows: Rows },
}

impl Keys for KeyColumn {
    fn key(&self, row: u32) -> &[u8] {
        match self {
            KeyColumn::Text(text) => text.value(row as usize).as_bytes(),
            KeyColumn::Rows { rows, .. } => rows.row(row as usize).data(),
        }
    }
}

impl Snapshot {
    /// Indexes `rows` by the columns `key`, which they have.
    ///
    /// # Errors
    /// More than 2³² − 2 rows; or a key that comes twice under [`OnDuplicate::Error`], which is named.
    pub fn new(
        name: Arc<str>,
        version: String,
        rows: RecordBatch,
        key: &[String],
        on_duplicate: OnDuplicate,
    ) -> Result<Snapshot> {
        let count = u32::try_from(rows.num_rows()).ok().filter(|n| *n < NONE).ok_or_else(|| {
            Error::Config(format!("reference `{name}` has {} rows; at most {} fit", rows.num_rows(), NONE - 1))
        })?;
        let columns = key
            .iter()
            .map(|column| {
                let found = rows.column_by_name(column).cloned();
                found.ok_or_else(|| Error::Config(format!("reference `{name}` has no column `{column}` for its key")))
            })
            .collect::<Result<Vec<_>>>()?;
        rows.columns().iter().flat_map(|column| buffers(&column.to_data())).for_each(|one| memory::in_huge_pages(&one));
        let keys = KeyColumn::of(&columns)?;
        let mut index = Index::with_capacity(count as usize, RandomState::default());
        let mut next: Option<Vec<u32>> = None;
        // the last row of each key that fans out, by the key's first row
        let mut tails = std::collections::HashMap::new();
        for row in (0..count).filter(|row| columns.iter().all(|column| column.is_valid(*row as usize))) {
            let Some(first) = index.insert(&keys, row) else { continue };
            match on_duplicate {
                OnDuplicate::First => {}
                OnDuplicate::FanOut => {
                    let next = next.get_or_insert_with(|| vec![NONE; count as usize]);
                    let tail = tails.insert(first, row).unwrap_or(first);
                    next[tail as usize] = row;
                }
                OnDuplicate::Error => {
                    return Err(Error::Config(format!(
                        "reference `{name}` has the key {} twice, in rows {first} and {row}: make it unique, or choose \
                         `on_duplicate = \"first\"` or `\"fan-out\"`",
                        shown(key, &columns, row)
                    )));
                }
            }
        }
        let key_types = columns.iter().map(|column| column.data_type().clone()).collect();
        Ok(Snapshot { name, version, rows, keys, key_types, index, next })
    }

    /// Its name in the pipeline file.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The table's version that it holds: a Delta table's number, a file's digest.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The columns of the table.
    pub fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }

    /// The types of the columns of its key, in order.
    pub fn key_types(&self) -> &[DataType] {
        &self.key_types
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.num_rows()
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes in memory: columns, keys and index.
    pub fn bytes(&self) -> usize {
        let keys = match &self.keys {
            KeyColumn::Text(_) => 0, // shared with the columns
            KeyColumn::Rows { rows, .. } => rows.size(),
        };
        let next = self.next.as_ref().map_or(0, |next| next.capacity() * size_of::<u32>());
        self.rows.get_array_memory_size() + keys + self.index.bytes() + next
    }

    /// Looks up `keys`, one column per column of the key, of the same types and equally long.
    ///
    /// # Errors
    /// Another number of columns, or of other types: who plans the lookup has checked both.
    pub fn lookup(&self, keys: &[ArrayRef]) -> Result<Matches> {
        let all = self.lookup_within(keys, usize::MAX)?;
        all.ok_or_else(|| Error::Host("more answers than memory has bytes".into()))
    }

    /// As [`lookup`](Self::lookup); `None` where there are more than `most` answers.
    pub fn lookup_within(&self, keys: &[ArrayRef], most: usize) -> Result<Option<Matches>> {
        let first = match &self.keys {
            KeyColumn::Text(_) => match keys {
                [column] if *column.data_type() == DataType::Utf8 => self.lookup_text(column.as_string()),
                _ => return Err(self.mistyped(keys)),
            },
            KeyColumn::Rows { converter, .. } => {
                let asked = converter.convert_columns(keys).map_err(|_| self.mistyped(keys))?;
                let null = |row: usize| keys.iter().any(|column| column.is_null(row));
                let asked: Vec<_> = asked.iter().collect();
                self.find_all(asked.len(), null, |row| asked[row].data())
            }
        };
        Ok(self.fanned(first, most))
    }

    /// Bytes of the values of `columns` for [`Matches::found`].
    pub fn weight(&self, columns: &[String], matches: &Matches) -> usize {
        let of = |column: &String| match self.rows.column_by_name(column) {
            Some(column) => {
                // most columns have no value that is worth a closer look
                let found = matches.found.iter().flatten();
                match fixed(column.data_type()) {
                    Some(bytes) => matches.found.len() * bytes,
                    None => found.map(|row| size(column, row as usize, row as usize + 1)).sum(),
                }
            }
            None => 0,
        };
        columns.iter().map(of).sum()
    }

    /// The values of one of its columns for [`Matches::found`]; null where nothing was found. `None` for an unknown column.
    pub fn values(&self, column: &str, matches: &Matches) -> Option<ArrayRef> {
        let column = self.rows.column_by_name(column)?;
        Some(take(column, &matches.found, None).expect("every row that was found is in the table"))
    }

    fn lookup_text(&self, asked: &StringArray) -> Vec<u32> {
        self.find_all(asked.len(), |row| asked.is_null(row), |row| asked.value(row).as_bytes())
    }

    /// The first row of each key.
    fn find_all<'k>(&self, rows: usize, null: impl Fn(usize) -> bool, key: impl Fn(usize) -> &'k [u8]) -> Vec<u32> {
        self.index.find_all(&self.keys, rows, |row| (!null(row)).then(|| key(row)))
    }

    fn fanned(&self, first: Vec<u32>, most: usize) -> Option<Matches> {
        if first.len() > most {
            return None;
        }
        let several = |row: &u32| *row != NONE && self.next.as_ref().is_some_and(|next| next[*row as usize] != NONE);
        let option = |row: u32| (row != NONE).then_some(row);
        let Some(next) = self.next.as_ref().filter(|_| first.iter().any(several)) else {
            return Some(Matches { asked: None, found: places(first) });
        };
        let mut asked = Vec::with_capacity(first.len());
        let mut found = Vec::with_capacity(first.len());
        for (row, mut at) in (0..).zip(first) {
            loop {
                if asked.len() == most {
                    return None;
                }
                asked.push(row);
                found.push(option(at));
                if at == NONE || next[at as usize] == NONE {
                    break;
                }
                at = next[at as usize];
            }
        }
        Some(Matches { asked: Some(asked), found: found.into() })
    }

    fn mistyped(&self, keys: &[ArrayRef]) -> Error {
        let types: Vec<_> = keys.iter().map(|key| key.data_type().to_string()).collect();
        Error::Host(format!("reference `{}` was asked for a key of {}", self.name, types.join(", ")))
    }
}

impl KeyColumn {
    fn of(columns: &[ArrayRef]) -> Result<KeyColumn> {
        if let [column] = columns
            && let Some(text) = column.as_string_opt::<i32>()
        {
            return Ok(KeyColumn::Text(text.clone()));
        }
        let unfit = |e| Error::Config(format!("these columns cannot be the key of a reference: {e}"));
        let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
        let converter = RowConverter::new(fields).map_err(unfit)?;
        let rows = converter.convert_columns(columns).map_err(unfit)?;
        Ok(KeyColumn::Rows { converter, rows })
    }
}

/// What a column consists of, its children's included.
fn buffers(column: &ArrayData) -> Vec<Buffer> {
    column.buffers().iter().cloned().chain(column.child_data().iter().flat_map(buffers)).collect()
}

/// Rows as an array, null for [`NONE`].
fn places(mut rows: Vec<u32>) -> UInt32Array {
    let there = BooleanBuffer::collect_bool(rows.len(), |i| rows[i] != NONE);
    rows.iter_mut().filter(|row| **row == NONE).for_each(|row| *row = 0);
    UInt32Array::new(rows.into(), Some(NullBuffer::new(there)).filter(|nulls| nulls.null_count() > 0))
}

/// Bytes of each value, where all take as many.
fn fixed(ty: &DataType) -> Option<usize> {
    ty.primitive_width().or_else(|| (*ty == DataType::Boolean).then_some(1))
}

/// `type = "galaxy", version = "Android 11"`
fn shown(names: &[String], columns: &[ArrayRef], row: u32) -> String {
    let value = |column: &ArrayRef| {
        let text = arrow::util::display::array_value_to_string(column, row as usize).unwrap_or_default();
        if *column.data_type() == DataType::Utf8 { format!("{text:?}") } else { text }
    };
    let pairs: Vec<_> = names.iter().zip(columns).map(|(name, column)| format!("{name} = {}", value(column))).collect();
    pairs.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int32Array;
    use arrow::datatypes::{Field, Schema};

    fn text(values: &[Option<&str>]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    /// The devices of a table, a null key and a key that comes three times among them.
    fn devices() -> RecordBatch {
        let schema = Schema::new(vec![
            Field::new("type", DataType::Utf8, true),
            Field::new("version", DataType::Utf8, true),
            Field::new("n", DataType::Int32, true),
        ]);
        let columns = vec![
            text(&[Some("galaxy"), Some("htc"), None, Some("galaxy"), Some("galaxy"), Some("")]),
            text(&[Some("11"), Some("14"), Some("14"), Some("13"), Some("11"), Some("")]),
            Arc::new(Int32Array::from_iter_values(0..6)) as ArrayRef,
        ];
        RecordBatch::try_new(Arc::new(schema), columns).unwrap()
    }

    fn snapshot(key: &[&str], on_duplicate: OnDuplicate) -> Result<Snapshot> {
        let key: Vec<_> = key.iter().map(|k| (*k).to_owned()).collect();
        Snapshot::new("devices".into(), "7".into(), devices(), &key, on_duplicate)
    }

    /// `n` of each answer, and who asked.
    fn check(snapshot: &Snapshot, keys: &[ArrayRef], expected: &[(u32, Option<i32>)]) {
        let matches = snapshot.lookup(keys).unwrap();
        let values = snapshot.values("n", &matches).unwrap();
        let values = values.as_primitive::<arrow::datatypes::Int32Type>().iter();
        let asked = matches.asked.unwrap_or_else(|| (0..values.len() as u32).collect());
        assert_eq!(asked.into_iter().zip(values).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn one_text_key_finds_its_first_row_and_null_never_matches() {
        let devices = snapshot(&["type"], OnDuplicate::First).unwrap();
        let asked = text(&[Some("htc"), None, Some("galaxy"), Some("Galaxy"), Some("")]);
        check(&devices, &[asked], &[(0, Some(1)), (1, None), (2, Some(0)), (3, None), (4, Some(5))]);
    }

    #[test]
    fn several_columns_make_a_key() {
        let devices = snapshot(&["type", "version"], OnDuplicate::First).unwrap();
        let keys = [
            text(&[Some("galaxy"), Some("galaxy"), None, Some("htc")]),
            text(&[Some("13"), Some("14"), Some("14"), None]),
        ];
        check(&devices, &keys, &[(0, Some(3)), (1, None), (2, None), (3, None)]);
    }

    #[test]
    fn a_key_that_comes_several_times_fans_out_in_the_order_of_the_table() {
        let devices = snapshot(&["type"], OnDuplicate::FanOut).unwrap();
        let asked = text(&[Some("htc"), Some("galaxy"), Some("lg")]);
        check(&devices, &[asked], &[(0, Some(1)), (1, Some(0)), (1, Some(3)), (1, Some(4)), (2, None)]);
        assert_eq!(devices.lookup(&[text(&[Some("htc"), None])]).unwrap().asked, None, "nobody fans out here");
    }

    #[test]
    fn a_duplicate_is_refused_with_its_key_and_a_null_is_none() {
        let error = snapshot(&["type", "version"], OnDuplicate::Error).err().unwrap().to_string();
        assert!(error.contains(r#"type = "galaxy", version = "11" twice, in rows 0 and 4"#), "{error}");
        assert!(snapshot(&["n"], OnDuplicate::Error).is_ok());
        assert!(snapshot(&["gone"], OnDuplicate::Error).err().unwrap().to_string().contains("no column `gone`"));
    }

    #[test]
    fn more_answers_than_there_is_room_for_are_none() {
        let devices = snapshot(&["type"], OnDuplicate::FanOut).unwrap();
        let asked = [text(&[Some("galaxy"), Some("htc")])];
        assert_eq!(devices.lookup_within(&asked, 3).unwrap(), None);
        let matches = devices.lookup_within(&asked, 4).unwrap().unwrap();
        assert_eq!(devices.weight(&["n".into()], &matches), 16);
        assert_eq!(devices.weight(&["version".into(), "gone".into()], &matches), 4 * 6, "text and an offset each");
    }

    #[test]
    fn another_type_is_not_looked_up() {
        let devices = snapshot(&["n"], OnDuplicate::Error).unwrap();
        check(
            &devices,
            &[Arc::new(Int32Array::from(vec![Some(4), None, Some(9)]))],
            &[(0, Some(4)), (1, None), (2, None)],
        );
        assert!(devices.lookup(&[text(&[Some("4")])]).is_err());
    }
}
