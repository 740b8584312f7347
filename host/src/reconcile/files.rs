//! Files instead of rows: those that the table names against those that are there; and, without provenance columns, those
//! that the ledger names against those that the table names, with their counts.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt;
use object_store::path::Path;

use crate::error::{Doing, Result};

use super::account::{Account, Claim};
use super::{Report, Table, thousands};

/// Whether every file that a table names is there; those that are not are reported. No query can read such a table.
pub(super) async fn are_there(account: &Account, table: &Table, report: &mut Report) -> Result<bool> {
    let doing = || format!("cannot list the files of {}", table.name());
    let there: BTreeSet<Path> =
        table.table.object_store().list(None).map_ok(|object| object.location).try_collect().await.doing(doing)?;
    let snapshot = table.table.snapshot().doing(|| format!("cannot read {}", table.name()))?;
    let mut whole = true;
    for file in snapshot.log_data().iter().filter(|file| !there.contains(&file.object_store_path())) {
        let path = file.path();
        let named = |claim: &&Claim| claim.files.get(&table.outcome).is_some_and(|f| f.iter().any(|(p, _)| *p == path));
        let entry = match account.claims.iter().find(named) {
            Some(claim) => format!("of entry {}, ", claim.number),
            None => String::new(),
        };
        let rows = file.num_records().map_or("an unknown number of".into(), |rows| thousands(rows as u64));
        let name = table.name();
        report.wrong(format!(
            "{name} lacks the file {path} with {rows} rows {entry}which it names: put it back from a copy"
        ));
        whole = false;
    }
    Ok(whole)
}

/// Compares an account with the files of a table.
pub(super) fn compare(account: &Account, table: &Table, report: &mut Report) -> Result<()> {
    let snapshot = table.table.snapshot().doing(|| format!("cannot read {}", table.name()))?;
    let mut present: BTreeMap<String, Option<usize>> =
        snapshot.log_data().iter().map(|file| (file.path().into_owned(), file.num_records())).collect();
    for claim in &account.claims {
        for (path, rows) in claim.files.get(&table.outcome).into_iter().flatten() {
            let found = present.remove(path);
            if !account.is_provable(claim, table) {
                continue;
            }
            let what = match (found, account.is_applied(claim, table)) {
                (None, false) => continue,
                (Some(Some(found)), true) if found as u64 == *rows => continue,
                (Some(None), true) => "has no count in the table".to_owned(),
                (Some(Some(found)), true) => format!("has {found} rows in the table"),
                (None, true) => "is not in the table".to_owned(),
                (Some(_), false) => "is in the table, although its mark says that the entry is not applied".to_owned(),
            };
            let (n, name) = (claim.number, table.name());
            report.wrong(format!("entry {n}, {name}: {path}, which the entry counts as {rows} rows, {what}"));
        }
    }
    for path in present.keys() {
        report.wrong(format!("{} has file {path}, which no entry names", table.name()));
    }
    Ok(())
}
