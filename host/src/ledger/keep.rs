//! Retention: from when on the rows of a sink are kept.
//!
//! A row is as old as the entry that put it into its table, and every row says in `_batch` which one that is: an id that
//! begins with the time at which the entry was opened. So one time for each sink says of every row, file and entry whether
//! it is gone, and nothing has to be listed. An entry that was opened before that time and was never appended comes too late:
//! its process judges its records again.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Fold;
use super::entry::Entry;
use crate::outcome::Outcome;

/// When an entry with this id was opened, milliseconds since the epoch.
pub fn opened(id: Uuid) -> i64 {
    // 48 bits of a UUIDv7
    (id.as_u128() >> 80) as i64
}

/// Whether an entry was opened before `kept_from`.
pub fn is_before(id: Uuid, kept_from: DateTime<Utc>) -> bool {
    opened(id) < kept_from.timestamp_millis()
}

/// The lowest id of an entry that was opened at this time: a row whose `_batch` is below is older.
pub fn first_id(kept_from: DateTime<Utc>) -> Uuid {
    Uuid::from_u128((kept_from.timestamp_millis().max(0) as u128) << 80)
}

impl Fold {
    /// The sink that has let go what an entry as old as this one would put into it, and from when on it keeps rows.
    pub fn lets_go(&self, entry: &Entry) -> Option<(Outcome, DateTime<Utc>)> {
        entry.sinks.keys().find_map(|outcome| {
            let kept_from = *self.kept_from.get(outcome)?;
            is_before(entry.id, kept_from).then_some((*outcome, kept_from))
        })
    }

    /// The sink of which an `expire` entry says no more than one before it did.
    pub(super) fn repeats(&self, entry: &Entry) -> Option<(Outcome, DateTime<Utc>)> {
        let known = |outcome: &Outcome| self.kept_from.get(outcome).copied();
        let repeated =
            |(outcome, from): &(&Outcome, &DateTime<Utc>)| known(outcome).is_some_and(|known| known >= **from);
        entry.kept_from.iter().find(repeated).map(|(outcome, from)| (*outcome, *from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::entry::{Kind, SinkActions};
    use crate::ledger::tests::{entry, range};
    use chrono::TimeDelta;

    #[test]
    fn an_id_tells_when_its_entry_was_opened() {
        let before = Utc::now();
        let id = Uuid::now_v7();
        let hour = TimeDelta::hours(1);
        assert!(!is_before(id, before) && is_before(id, before + hour) && !is_before(id, before - hour));
        assert!(first_id(before) <= id && id < first_id(before + hour));
        assert_eq!(opened(first_id(before)), before.timestamp_millis());
    }

    #[test]
    fn an_entry_that_is_older_than_what_a_sink_keeps_can_come_no_more() {
        let rows = |outcome| {
            let actions = SinkActions { schema: serde_json::Value::Null, files: Vec::new() };
            Entry { sinks: [(outcome, actions)].into(), ..entry(Kind::Rows, vec![range("t", 0, 1)]) }
        };
        let (error, valid) = (rows(Outcome::Error), rows(Outcome::Valid));
        let expire = |from| Entry { kept_from: [(Outcome::Error, from)].into(), ..entry(Kind::Expire, vec![]) };
        let soon = Utc::now() + TimeDelta::seconds(1);
        let mut fold = Fold::default();
        fold.apply(1, &entry(Kind::Start, vec![range("t", 0, 0)])).unwrap();
        fold.apply(2, &expire(soon)).unwrap();
        assert_eq!(fold.moved(&error).len(), 1);
        assert!(fold.moved(&valid).is_empty(), "another sink keeps everything");
        let why = fold.apply(3, &error).unwrap_err().to_string();
        assert!(why.contains("has rows for error, which keeps none from before"), "{why}");
        fold.apply(3, &valid).unwrap();
        // what was let go stays gone
        for from in [soon, soon - TimeDelta::hours(1)] {
            let why = fold.apply(4, &expire(from)).unwrap_err().to_string();
            assert!(why.contains("lets go of error before"), "{why}");
        }
        fold.apply(4, &expire(soon + TimeDelta::hours(1))).unwrap();
        assert_eq!(fold.kept_from[&Outcome::Error], soon + TimeDelta::hours(1));
    }
}
