//! Without provenance columns: the files that the ledger names against those that the table has, with their counts.

use std::collections::BTreeMap;

use crate::error::{Doing, Result};

use super::account::Account;
use super::{Report, Table};

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
