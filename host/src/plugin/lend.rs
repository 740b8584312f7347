//! `reference.lookup`: the tables of the entry, lent to a guest that asks by key.
//!
//! What a guest hands in is hostile until checked, and what it gets is bounded by the memory that it may have. A refusal is
//! the guest's to handle: it is no verdict on a row.

use arrow::array::ArrayRef;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::DataType;

use super::answer::{self, RawColumn};
use super::describe::Request;
use super::pass::{Passed, Prepared};
use crate::reference::Pinned;

/// Bytes that an answer takes beside its values.
const ANSWER: usize = 16;

/// What belongs to the keys.
pub(super) struct Lent {
    /// for each answer the key that it belongs to; `None` = one each, in order
    pub rows: Option<Vec<u32>>,
    pub columns: Vec<Passed>,
}

/// Looks up `rows` keys in `table`; the answer takes no more than `most` bytes.
pub(super) fn lookup(
    pinned: &Pinned,
    table: &str,
    rows: usize,
    keys: Vec<RawColumn>,
    wanted: &[Request],
    most: usize,
) -> Result<Lent, String> {
    let Some(snapshot) = pinned.get(table) else {
        return Err(match pinned.is_empty() {
            true => "there are no reference tables here: they are lent while rows are judged".to_owned(),
            false => format!("there is no reference `{table}`"),
        });
    };
    let types = snapshot.key_types();
    if keys.len() != types.len() {
        return Err(format!("the key of `{table}` has {} columns, not {}", types.len(), keys.len()));
    }
    let keys = keys
        .into_iter()
        .zip(types)
        .enumerate()
        .map(|(i, (raw, ty))| {
            let asked = answer::key(raw, rows).map_err(|why| format!("key column {i}: {why}"))?;
            as_key(&asked, ty).ok_or_else(|| format!("key column {i} of `{table}` is {ty}, not {}", asked.data_type()))
        })
        .collect::<Result<Vec<ArrayRef>, String>>()?;
    let too_much = || format!("what `{table}` has for these keys takes more than {most} bytes: ask for fewer at once");
    let matches = snapshot.lookup_within(&keys, most / ANSWER).map_err(|e| e.to_string())?.ok_or_else(too_much)?;
    let names: Vec<String> = wanted.iter().map(|request| request.path.clone()).collect();
    if snapshot.weight(&names, &matches) > most {
        return Err(too_much());
    }
    let columns = wanted.iter().map(|request| match snapshot.values(&request.path, &matches) {
        Some(values) if request.ty.accepts(values.data_type()) => Ok(Some((request.ty, values))),
        Some(values) => {
            let (path, ty) = (&request.path, request.ty.as_str());
            Err(format!("column `{path}` of `{table}` is {}, and cannot be passed as {ty}", values.data_type()))
        }
        None if request.required => Err(format!("`{table}` has no column `{}`", request.path)),
        None => Ok(None),
    });
    let answers = matches.found.len();
    let prepared = Prepared::of(answers, columns.collect::<Result<_, String>>()?)?;
    Ok(Lent { rows: matches.asked, columns: prepared.slice(0..answers) })
}

/// Values as the key has them; one that does not fit matches nothing. `None` where the types have nothing in common.
fn as_key(asked: &ArrayRef, ty: &DataType) -> Option<ArrayRef> {
    if asked.data_type() == ty {
        return Some(asked.clone());
    }
    let is_alike = asked.data_type().is_integer() && ty.is_integer()
        || matches!((asked.data_type(), ty), (DataType::Timestamp(..), DataType::Timestamp(..)));
    is_alike.then(|| cast_with_options(asked, ty, &CastOptions { safe: true, ..CastOptions::default() }).ok())?
}
