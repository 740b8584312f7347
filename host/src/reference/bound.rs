//! The tables that a generation is bound to: what is known of them before a row is read, and the snapshot that is current.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::datatypes::{DataType, Schema};

use super::{OnDuplicate, Place, Snapshot};
use crate::config::suggest::did_you_mean;
use crate::config::{EnrichConfig, JoinConfig, Mistakes, ReferenceConfig};
use crate::error::{Doing, Error, Result};
use crate::expect::{described, storable};

/// The tables of a generation, by name.
#[derive(Clone, Default)]
pub struct References {
    tables: BTreeMap<Arc<str>, Bound>,
}

#[derive(Clone)]
struct Bound {
    table: Arc<Table>,
    refresh: Duration,
}

/// One table: how it is read, and what was read last. Generations that are bound to it alike share it.
pub struct Table {
    spec: Spec,
    current: Mutex<Option<Arc<Snapshot>>>,
    /// held while it is read: two at once would only cost twice the memory
    reading: Mutex<()>,
}

/// All that says what a snapshot holds.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Spec {
    name: Arc<str>,
    place: Place,
    key: Vec<String>,
    on_duplicate: OnDuplicate,
    /// the columns that are kept, and the type of each
    columns: BTreeMap<String, DataType>,
}

/// The snapshots that an entry is judged with. Cheap to clone.
#[derive(Clone, Default)]
pub struct Pinned(Arc<BTreeMap<Arc<str>, Arc<Snapshot>>>);

impl Pinned {
    /// The snapshot of a table.
    pub fn get(&self, name: &str) -> Option<&Arc<Snapshot>> {
        self.0.get(name)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Name → version, for the ledger.
    pub fn versions(&self) -> BTreeMap<String, String> {
        self.0.iter().map(|(name, snapshot)| (name.to_string(), snapshot.version().to_owned())).collect()
    }

    /// Whether both are the very same snapshots.
    pub fn is(&self, other: &Pinned) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().all(|(name, snapshot)| other.get(name).is_some_and(|other| Arc::ptr_eq(other, snapshot)))
    }
}

impl References {
    /// Looks at the tables' columns, as far as they can be read; what is wrong goes to `mistakes`. No row is read. `schema`
    /// is what rows have before they are enriched.
    ///
    /// A table keeps the columns that it is told to keep, else those that an enricher names; where none does, components
    /// ask for them, and all are kept.
    pub fn bind(
        configs: &[ReferenceConfig],
        enrich: &[EnrichConfig],
        schema: &Schema,
        mistakes: &mut Mistakes,
    ) -> References {
        let mut references = References::default();
        for config in configs {
            let found = match blocking(|| config.place.schema()) {
                Ok(found) => found,
                Err(error) => {
                    let title = format!("reference `{}` cannot be read: {}", config.name, causes(&error));
                    mistakes.push(config.at.clone(), title, "", "");
                    continue;
                }
            };
            if let Some(spec) = spec(config, &found, enrich, schema, mistakes) {
                let table = Table { spec, current: Mutex::default(), reading: Mutex::default() };
                let bound = Bound { table: Arc::new(table), refresh: config.refresh };
                references.tables.insert(config.name.clone(), bound);
            }
        }
        references
    }

    /// Shares the tables of `other` that are bound alike, and so what was read of them.
    pub fn share(&mut self, other: &References) {
        for (name, bound) in &mut self.tables {
            if let Some(theirs) = other.tables.get(name).filter(|theirs| theirs.table.spec == bound.table.spec) {
                bound.table = theirs.table.clone();
            }
        }
    }

    /// The table of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Table>> {
        self.tables.get(name).map(|bound| &bound.table)
    }

    /// Each table, and how often a run looks for a new version.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<Table>, Duration)> {
        self.tables.values().map(|bound| (&bound.table, bound.refresh))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// What judges beside `others` takes: the very snapshots that they `pinned` of the tables that both share, so that a new
    /// version makes no difference between the two; of others what is current now.
    pub fn pinned_beside(&self, others: &References, pinned: &Pinned) -> Result<Pinned> {
        let each = self.tables.iter().map(|(name, bound)| {
            let is_shared = others.get(name).is_some_and(|table| Arc::ptr_eq(table, &bound.table));
            let snapshot = match pinned.get(name).filter(|_| is_shared) {
                Some(snapshot) => snapshot.clone(),
                None => bound.table.current()?,
            };
            Ok((name.clone(), snapshot))
        });
        Ok(Pinned(Arc::new(each.collect::<Result<_>>()?)))
    }

    /// What is current now. What was never read is read first.
    pub fn pinned(&self) -> Result<Pinned> {
        let each = self.tables.iter().map(|(name, bound)| Ok((name.clone(), bound.table.current()?)));
        Ok(Pinned(Arc::new(each.collect::<Result<_>>()?)))
    }
}

impl Table {
    /// Its name in the pipeline file.
    pub fn name(&self) -> &Arc<str> {
        &self.spec.name
    }

    /// Its location as the user wrote it.
    pub fn written(&self) -> &str {
        self.spec.place.written()
    }

    /// The columns that are kept, and the type of each.
    pub fn columns(&self) -> &BTreeMap<String, DataType> {
        &self.spec.columns
    }

    /// The columns of its key, in the order of the pipeline file.
    pub fn key(&self) -> &[String] {
        &self.spec.key
    }

    /// Whether one row may match several of its own.
    pub fn fans_out(&self) -> bool {
        self.spec.on_duplicate == OnDuplicate::FanOut
    }

    /// What was read last; read now where nothing was.
    pub fn current(&self) -> Result<Arc<Snapshot>> {
        if let Some(current) = self.lock().clone() {
            return Ok(current);
        }
        let _reading = self.reading();
        if let Some(current) = self.lock().clone() {
            return Ok(current);
        }
        let snapshot = self.read()?;
        *self.lock() = Some(snapshot.clone());
        Ok(snapshot)
    }

    /// Reads it again where it has another version by now; answers that one. What is current stays where that fails.
    pub fn refresh(&self) -> Result<Option<Arc<Snapshot>>> {
        let _reading = self.reading();
        let known = self.lock().as_ref().map(|snapshot| snapshot.version().to_owned());
        let doing = |error| self.unreadable(error);
        if known.is_some() && known == Some(blocking(|| self.spec.place.version()).map_err(doing)?) {
            return Ok(None);
        }
        let snapshot = self.read()?;
        *self.lock() = Some(snapshot.clone());
        Ok(Some(snapshot))
    }

    fn read(&self) -> Result<Arc<Snapshot>> {
        let spec = &self.spec;
        let wanted = spec.columns.iter().map(|(column, ty)| (column.clone(), Some(ty.clone()))).collect();
        let (version, rows) = blocking(|| spec.place.read(&wanted)).map_err(|error| self.unreadable(error))?;
        Snapshot::new(spec.name.clone(), version, rows, &spec.key, spec.on_duplicate).map(Arc::new)
    }

    /// The same with the table's name.
    fn unreadable(&self, error: Error) -> Error {
        match error {
            Error::Config(why) => Error::Config(format!("reference `{}`: {why}", self.spec.name)),
            other => other,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Snapshot>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reading(&self) -> MutexGuard<'_, ()> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which columns of `found` a snapshot keeps, and as what.
fn spec(
    config: &ReferenceConfig,
    found: &Schema,
    enrich: &[EnrichConfig],
    rows: &Schema,
    mistakes: &mut Mistakes,
) -> Option<Spec> {
    let name = &config.name;
    let known: Vec<&str> = found.fields().iter().map(|field| field.name().as_str()).collect();
    let mut right = true;
    let mut columns = BTreeMap::new();
    for named in config.key.iter().chain(config.columns.iter().flatten()) {
        let Ok(field) = found.field_with_name(&named.name) else {
            let title = format!("reference `{name}` has no column `{}`", named.name);
            mistakes.push(
                named.place.clone(),
                title,
                did_you_mean(&named.name, known.iter().copied()),
                format!("it has {}", known.join(", ")),
            );
            right = false;
            continue;
        };
        match storable(field.data_type()) {
            Some(ty) => drop(columns.insert(named.name.clone(), ty)),
            None => {
                let title = format!("column `{}` of reference `{name}` is {}", named.name, field.data_type());
                mistakes.push(named.place.clone(), title, "", "no row can have such a column");
                right = false;
            }
        }
    }
    for key in &config.key {
        if columns.get(&key.name).is_some_and(DataType::is_nested) {
            let title = format!("`{}` cannot be in the key of reference `{name}`", key.name);
            mistakes.push(key.place.clone(), title, "it is no single value", "");
            right = false;
        }
    }
    let joins: Vec<&JoinConfig> = enrich
        .iter()
        .filter_map(|step| match step {
            EnrichConfig::Reference(join) if join.reference == *name => Some(join),
            EnrichConfig::Reference(_) | EnrichConfig::Sql { .. } | EnrichConfig::Plugin(_) => None,
        })
        .collect();
    // text of a CSV file is of no type yet: it is what it is compared with
    if let Place::Csv(..) = config.place {
        for (key, path) in joins.iter().flat_map(|join| &join.on) {
            if let (Some(ty), Some(asked)) = (columns.get_mut(key), crate::columns::data_type(rows, &path.name)) {
                *ty = asked;
            }
        }
    }
    let takes_all = config.columns.is_none() && joins.is_empty();
    let of_joins = joins.iter().flat_map(|join| &join.columns).map(|column| column.path.as_str());
    let asked: BTreeSet<&str> = if takes_all { known.iter().copied().collect() } else { of_joins.collect() };
    for column in asked {
        // one that is not there is reported where it is asked for
        let ty = found.field_with_name(column).ok().and_then(|field| storable(field.data_type()));
        if let Some(ty) = ty {
            columns.entry(column.to_owned()).or_insert(ty);
        }
    }
    right.then(|| Spec {
        name: name.clone(),
        place: config.place.clone(),
        key: config.key.iter().map(|key| key.name.clone()).collect(),
        on_duplicate: config.on_duplicate,
        columns,
    })
}

/// A type as a person writes it.
pub fn shown(ty: &DataType) -> String {
    described(ty)
}

/// The error with its causes.
fn causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

/// Runs what is asynchronous on a thread of its own: who loads a pipeline may stand inside a runtime or not.
pub(crate) fn blocking<T: Send, F: Future<Output = Result<T>>>(work: impl FnOnce() -> F + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.doing(|| "cannot start the runtime".into())?.block_on(work())
        });
        worker.join().unwrap_or_else(|_| Err(Error::Host("the thread that reads a reference table panicked".into())))
    })
}
