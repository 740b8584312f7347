//! A left join of rows with a snapshot: an enricher without code.
//!
//! It keeps every row. A row that matches nothing, or whose key has a null, gets nulls; one that matches several becomes as
//! many where the table fans out. What it answers is put together by the [chain](crate::chain), like any enricher's answer.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{Field, Schema};

use super::bound::shown;
use super::{Pinned, References};
use crate::columns;
use crate::config::suggest::did_you_mean;
use crate::config::{JoinConfig, Mistakes};
use crate::error::{Error, Result};
use crate::plugin::Added;
use crate::record::Batch;

/// Bytes that one answer takes beside its values: where it came from, twice, and its place in the table.
const ANSWER: usize = 128;

/// A planned join.
pub struct Join {
    name: Arc<str>,
    reference: Arc<str>,
    /// paths of the row, in the order of the table's key
    keys: Vec<Arc<str>>,
    /// columns of the table
    columns: Vec<String>,
    adds: Vec<Field>,
}

impl Join {
    /// Plans a join for rows of `schema`; what is wrong goes to `mistakes`.
    pub fn plan(
        config: &JoinConfig,
        references: &References,
        schema: &Schema,
        mistakes: &mut Mistakes,
    ) -> Option<Join> {
        // a table that cannot be read was reported
        let table = references.get(&config.reference)?;
        let mut right = true;
        let mut keys = Vec::new();
        for key in table.key() {
            let (_, path) = config.on.iter().find(|(column, _)| column == key)?;
            let theirs = table.columns().get(key)?;
            let Some(ours) = columns::data_type(schema, &path.name) else {
                let known = schema.fields().iter().map(|field| field.name().as_str());
                let title = format!("there is no column `{}` to look up in reference `{}`", path.name, table.name());
                mistakes.push(path.place.clone(), title, did_you_mean(&path.name, known), "");
                right = false;
                continue;
            };
            if ours != *theirs {
                let title = format!(
                    "`{}` is {}, but `{key}` of reference `{}` is {}",
                    path.name,
                    shown(&ours),
                    table.name(),
                    shown(theirs)
                );
                mistakes.push(path.place.clone(), title, "", "convert it by an SQL enricher before this one");
                right = false;
            }
            keys.push(path.name.as_str().into());
        }
        let mut adds = Vec::new();
        let mut taken = Vec::new();
        for column in &config.columns {
            match table.columns().get(&column.path) {
                Some(ty) => {
                    adds.push(Field::new(&column.name, ty.clone(), true));
                    taken.push(column.path.clone());
                }
                None => {
                    let known: Vec<&str> = table.columns().keys().map(String::as_str).collect();
                    let title = format!("reference `{}` has no column `{}`", table.name(), column.path);
                    mistakes.push(column.place.clone(), title, did_you_mean(&column.path, known), "");
                    right = false;
                }
            }
        }
        right.then(|| Join {
            name: config.name.clone(),
            reference: config.reference.clone(),
            keys,
            columns: taken,
            adds,
        })
    }

    /// Its name in the pipeline file.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The table's name.
    pub fn reference(&self) -> &Arc<str> {
        &self.reference
    }

    /// The paths of a row that it looks up.
    pub fn reads(&self) -> &[Arc<str>] {
        &self.keys
    }

    /// The columns that rows get.
    pub fn adds(&self) -> &[Field] {
        &self.adds
    }

    /// Looks up every row; `None` where the answer takes more than `most` bytes.
    pub fn look_up(&self, batch: &Batch, pinned: &Pinned, most: usize) -> Result<Option<Added>> {
        let snapshot = pinned.get(&self.reference).ok_or_else(|| {
            Error::Host(format!("reference `{}` is not pinned where rows are joined with it", self.reference))
        })?;
        let missing = |path: &str| Error::Host(format!("column `{path}` was there when the join was planned"));
        let keys: Vec<ArrayRef> = self
            .keys
            .iter()
            .map(|path| columns::column(batch, path).ok_or_else(|| missing(path)))
            .collect::<Result<_>>()?;
        let Some(matches) = snapshot.lookup_within(&keys, most / ANSWER)? else { return Ok(None) };
        if snapshot.weight(&self.columns, &matches).saturating_add(matches.found.len() * ANSWER) > most {
            return Ok(None);
        }
        let columns = self.columns.iter().map(|column| {
            let values = snapshot.values(column, &matches);
            values.ok_or_else(|| Error::Host(format!("column `{column}` of `{}` is not kept", self.reference)))
        });
        let columns = columns.collect::<Result<_>>()?;
        let rows = matches.asked.unwrap_or_else(|| (0..batch.len() as u32).collect());
        Ok(Some(Added { rows, columns, dead: Vec::new() }))
    }
}
