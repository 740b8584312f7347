//! Tables that the pipeline binds as `[reference.NAME]`, looked up by key: one call for all rows of a batch.
//!
//! ```
//! use sluice::prelude::*;
//! use sluice::reference::{self, Keys};
//!
//! #[derive(Row)]
//! struct Visit<'a> {
//!     #[row("device.type")]
//!     device: Option<&'a str>,
//! }
//!
//! #[derive(Row)] // the columns of the table; the host passes no others
//! struct Device<'a> {
//!     banned: Option<bool>,
//!     full_name: Option<&'a str>,
//! }
//!
//! #[derive(Codes)]
//! enum Devices {
//!     /// the device is banned
//!     Banned,
//! }
//!
//! #[rule(columns)] // all rows at once
//! fn allowed(visits: &VisitColumns, found: &mut Found<Devices>) {
//!     let keys = Keys::new().and(visits.rows().map(|row| visits.device.get(row)));
//!     let joined = reference::lookup::<DeviceColumns>("devices", keys).unwrap_or_else(|why| panic!("{why}"));
//!     let devices: DeviceColumns = joined.open().unwrap_or_else(|why| panic!("{why}"));
//!     for row in visits.rows() {
//!         if joined.answers(row).any(|answer| devices.banned.get(answer) == Some(true)) {
//!             found.push_at(row, Devices::Banned)
//!         }
//!     }
//! }
//! ```
//!
//! It is there where the host is: native tests have no tables, and neither has `configure`. A finding depends then on its
//! row and on the version of the table, which the ledger records; nothing may be kept from one call to the next.

use std::ops::Range;

use crate::batch::{Batch, Column, PluginError};
use crate::columns::{Builder, Produced, Put};
use crate::row::View;

/// Keys to look up: a column for each column of the table's key, in the order of the pipeline file.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    rows: usize,
    columns: Vec<Column>,
}

impl Keys {
    /// None yet.
    pub fn new() -> Keys {
        Keys::default()
    }

    /// One more column, a value per row; a key with a null in it has no row.
    pub fn and<P: Put>(mut self, values: impl IntoIterator<Item = P>) -> Keys {
        let mut builder = P::Builder::default();
        let mut rows = 0;
        for value in values {
            value.put(&mut builder);
            rows += 1;
        }
        let produced = Produced { name: "key", ty: P::TYPE, precision: 38, scale: 0 };
        // a column that does not fit is none, and the host says so
        self.columns.push(builder.finish(&produced).unwrap_or(Column::Absent));
        self.rows = self.rows.max(rows);
        self
    }
}

/// What a table has for the keys.
#[derive(Clone, Debug)]
pub struct Joined {
    /// for each answer the key that it belongs to; none = one each, in order
    of: Option<Vec<u32>>,
    batch: Batch,
}

impl Joined {
    /// The answers, one beside the other; null where a key has no row.
    pub fn open<'a, V: View<'a>>(&'a self) -> Result<V, PluginError> {
        V::open(&self.batch)
    }

    /// The answers that belong to a key: one, or several where the pipeline says `on_duplicate = "fan-out"`.
    pub fn answers(&self, key: usize) -> Range<usize> {
        match &self.of {
            None => key..key + 1,
            Some(of) => {
                let at = |key: usize| of.partition_point(|asked| (*asked as usize) < key);
                at(key)..at(key + 1)
            }
        }
    }
}

/// Looks up all `keys` in a table of the pipeline, and reads the columns of `V`.
pub fn lookup<'v, V: View<'v>>(table: &str, keys: Keys) -> Result<Joined, PluginError> {
    let rows = u32::try_from(keys.rows).map_err(|_| PluginError::Internal("too many keys for one call".into()))?;
    let (of, columns) = ask(table, rows, keys.columns, V::COLUMNS)?;
    let answers = of.as_ref().map_or(keys.rows, Vec::len);
    Ok(Joined { of, batch: Batch { rows: answers, columns } })
}

type Answer = (Option<Vec<u32>>, Vec<Column>);

#[cfg(target_family = "wasm")]
fn ask(table: &str, rows: u32, keys: Vec<Column>, wanted: &[crate::batch::Request]) -> Result<Answer, PluginError> {
    crate::guest::lookup(table, rows, keys, wanted)
}

#[cfg(not(target_family = "wasm"))]
fn ask(table: &str, _: u32, _: Vec<Column>, _: &[crate::batch::Request]) -> Result<Answer, PluginError> {
    Err(PluginError::Internal(format!("reference table `{table}` is there in the host only")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_belong_to_their_keys() {
        let joined = |of| Joined { of, batch: Batch { rows: 0, columns: Vec::new() } };
        assert_eq!(joined(None).answers(3), 3..4);
        let several = joined(Some(vec![0, 1, 1, 1, 2]));
        assert_eq!([0, 1, 2].map(|key| several.answers(key)), [0..1, 1..4, 4..5]);
    }

    #[test]
    fn keys_have_a_column_each() {
        let keys = Keys::new().and([Some("a"), None]).and([1i64, 2]);
        assert_eq!((keys.rows, keys.columns.len()), (2, 2));
        assert!(matches!(&keys.columns[0], Column::Utf8(text) if text.validity == [0b01] && text.data == b"a"));
    }
}
