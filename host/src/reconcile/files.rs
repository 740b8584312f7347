//! Files instead of rows: those that the table names against those that are there; and, without provenance columns, those
//! that the ledger names against those that the table names, with their counts. Where files of a derived table were put
//! together, their rows are counted in sum.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt;
use object_store::path::Path;

use crate::error::{Doing, Result};
use crate::outcome::Outcome;
use crate::sink::files::WrittenFor;

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
    let mut gone: Vec<(u64, &str, u64)> = Vec::new();
    for claim in &account.claims {
        for (path, rows) in claim.files.get(&table.outcome).into_iter().flatten() {
            let found = present.remove(path);
            if !account.is_provable(claim, table) {
                continue;
            }
            let is_gone = account.expired(claim, table) > 0;
            let what = match (found, account.is_applied(claim, table)) {
                (None, true) if is_gone => continue,
                (Some(_), true) if is_gone => "is in the table, although its rows are gone by `keep`".to_owned(),
                (None, false) => continue,
                (None, true) => {
                    gone.push((claim.number, path, *rows));
                    continue;
                }
                (Some(Some(found)), true) if found as u64 == *rows => continue,
                (Some(None), true) => "has no count in the table".to_owned(),
                (Some(Some(found)), true) => format!("has {found} rows in the table"),
                (Some(_), false) => "is in the table, although its mark says that the entry is not applied".to_owned(),
            };
            let (n, name) = (claim.number, table.name());
            report.wrong(format!("entry {n}, {name}: {path}, which the entry counts as {rows} rows, {what}"));
        }
    }
    if is_compacted(account, table, &gone, &present) {
        let (name, files) = (table.name(), thousands(gone.len() as u64));
        report.notes.push(format!("{name}: {files} files were put together, and their rows are counted in sum"));
        return Ok(());
    }
    for (n, path, rows) in gone {
        let name = table.name();
        report.wrong(format!("entry {n}, {name}: {path}, which the entry counts as {rows} rows, is not in the table"));
    }
    for path in present.keys() {
        report.wrong(format!("{} has file {path}, which no entry names", table.name()));
    }
    Ok(())
}

/// Whether files that no entry names have as many rows as those that entries name and the table does not.
fn is_compacted(
    account: &Account,
    table: &Table,
    gone: &[(u64, &str, u64)],
    made: &BTreeMap<String, Option<usize>>,
) -> bool {
    let is_ours = |path: &String| WrittenFor::of(path.rsplit('/').next().unwrap_or(path)) == Some(WrittenFor::Table);
    let may_be = matches!(table.outcome, Outcome::Derived(_)) && account.unproven(table).is_none();
    let before: u64 = gone.iter().map(|(.., rows)| rows).sum();
    let after: Option<u64> = made.values().map(|rows| rows.map(|rows| rows as u64)).sum();
    may_be && before > 0 && Some(before) == after && made.keys().all(is_ours)
}
