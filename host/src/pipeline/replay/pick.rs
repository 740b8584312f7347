//! What of a judgement is new: pure.

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;

use super::choose::Stored;
use crate::chain::{Judged, count, dead_key};
use crate::error::Result;
use crate::ledger::Counts;
use crate::outcome::{Finding, Outcome};

/// What is sent, and what is not.
pub(super) struct Picked {
    /// the rows that are sent
    pub judged: Judged,
    /// stored rows of which the same is said
    pub unchanged: u64,
    /// stored rows that are not made any more
    pub gone: u64,
}

/// What becomes of one record of the batch.
#[derive(Clone, Default)]
struct Made {
    alive: Vec<usize>,
    dead: Vec<usize>,
}

/// Picks the rows that take the place of `stored` rows of `of`; record `n` of the batch is made from `stored[n]`.
///
/// All rows of a record belong to a stored row that was alone; to one that had others beside it, the row of the same
/// ordinal. Where no row has its ordinal it has no successor, and stays what it is.
pub(super) fn pick(judged: Judged, stored: &[Stored], of: Outcome) -> Result<Picked> {
    let mut made = vec![Made::default(); stored.len()];
    for (row, record) in judged.batch.origin.iter().enumerate() {
        made[*record as usize].alive.push(row);
    }
    for (at, dead) in judged.dead.iter().enumerate() {
        made[dead.record as usize].dead.push(at);
    }
    // a batch that was cut has all records behind it and the rows of some: those of the others are in other pieces
    let of_others = judged.counts.records < stored.len() as u64;
    let said = said_of(&judged);
    let (mut alive, mut dead) = (vec![false; judged.batch.len()], vec![false; judged.dead.len()]);
    let (mut unchanged, mut gone) = (0, 0);
    for (stored, made) in stored.iter().zip(made) {
        let belongs = |ordinal: u32| stored.alone || ordinal == stored.ordinal;
        let rows: Vec<usize> = made.alive.iter().copied().filter(|row| belongs(judged.batch.ordinal[*row])).collect();
        let letters: Vec<usize> = made.dead.iter().copied().filter(|at| belongs(judged.dead[*at].ordinal)).collect();
        let ordinals = rows.iter().map(|row| judged.batch.ordinal[*row]);
        let mut ordinals = ordinals.chain(letters.iter().map(|at| judged.dead[*at].ordinal));
        if !ordinals.any(|ordinal| ordinal == stored.ordinal) {
            let is_elsewhere = of_others && made.alive.is_empty() && made.dead.is_empty();
            gone += u64::from(!is_elsewhere);
            continue;
        }
        let is_same = match (of, &rows[..], &letters[..]) {
            (Outcome::Error, [row], []) => judged.outcomes[*row] == Outcome::Error && said[*row] == stored.said,
            (Outcome::Dlq, [], [at]) => stored.said == [dead_key(&judged.dead[*at])],
            (Outcome::Valid | Outcome::Error | Outcome::Dlq | Outcome::Staging | Outcome::Derived(_), _, _) => false,
        };
        if is_same {
            unchanged += 1;
            continue;
        }
        rows.into_iter().for_each(|row| alive[row] = true);
        letters.into_iter().for_each(|at| dead[at] = true);
    }
    Ok(Picked { judged: keep(judged, &alive, &dead)?, unchanged, gone })
}

/// `rule/code` of each row's findings, errors with a `!`, as tables tell it: see [`said`](crate::stored::said).
fn said_of(judged: &Judged) -> Vec<Vec<String>> {
    let mut said = vec![Vec::new(); judged.batch.len()];
    for finding in &judged.findings {
        let mark = if finding.is_error() { "!" } else { "" };
        said[finding.row as usize].push(format!("{}{mark}", finding.key()));
    }
    said.iter_mut().for_each(|said| said.sort_unstable());
    said
}

/// The judgement of some of its rows.
fn keep(mut judged: Judged, alive: &[bool], dead: &[bool]) -> Result<Judged> {
    let mut moved = Vec::with_capacity(alive.len());
    let mut next = 0;
    for &lives in alive {
        moved.push(next);
        next += u32::from(lives);
    }
    let kept = |finding: Finding| {
        let row = finding.row as usize;
        alive[row].then(|| Finding { row: moved[row], ..finding })
    };
    judged.findings = judged.findings.into_iter().filter_map(kept).collect();
    let batch = &mut judged.batch;
    batch.columns = filter_record_batch(&batch.columns, &BooleanArray::from(alive.to_vec())).map_err(super::bug)?;
    retain(&mut batch.origin, alive);
    retain(&mut batch.ordinal, alive);
    retain(&mut judged.outcomes, alive);
    retain(&mut judged.dead, dead);
    judged.counts = Counts::default();
    count(&mut judged.counts, &judged.outcomes, &judged.findings, &judged.dead);
    Ok(judged)
}

fn retain<T>(values: &mut Vec<T>, keep: &[bool]) {
    let mut keep = keep.iter();
    values.retain(|_| *keep.next().expect("one for each"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::tests::Fate::{Dead, Row};
    use crate::compare::tests::{Fate, judged};
    use crate::outcome::Reason;

    fn row(ordinal: u32, alone: bool, said: &[&str]) -> Stored {
        let said = said.iter().map(|said| (*said).to_owned()).collect();
        Stored { ordinal, attempt: 0, alone, said }
    }

    /// What is sent, as (offset, ordinal, outcome); unchanged; gone. `stored` are the rows behind offset 10 and on.
    #[track_caller]
    fn check(
        of: Outcome,
        stored: &[Stored],
        made: &[(i64, u32, Fate)],
        sent: &[(i64, u32, Outcome)],
        rest: (u64, u64),
    ) {
        let mut judged = judged(made);
        judged.counts.records = stored.len() as u64;
        let picked = pick(judged, stored, of).unwrap();
        let judged = &picked.judged;
        let offset = |record: u32| judged.batch.raw.records[record as usize].offset;
        let alive = judged.batch.origin.iter().zip(&judged.batch.ordinal).zip(&judged.outcomes);
        let mut found: Vec<_> = alive.map(|((record, ordinal), o)| (offset(*record), *ordinal, *o)).collect();
        found.extend(judged.dead.iter().map(|dead| (offset(dead.record), dead.ordinal, Outcome::Dlq)));
        assert_eq!(found, sent);
        assert_eq!((picked.unchanged, picked.gone), rest);
        assert_eq!(judged.counts.rows, sent.len() as u64);
    }

    #[test]
    fn what_is_said_again_is_not_sent() {
        use Outcome::{Error, Valid};
        let stored = [row(0, false, &["r/a!"]), row(0, false, &["r/a!", "r/b"]), row(0, false, &["r/a!"])];
        let made = [(10, 0, Row(1, &["a!"])), (11, 0, Row(1, &["a!"])), (12, 0, Row(1, &["a"]))];
        check(Error, &stored, &made, &[(11, 0, Error), (12, 0, Valid)], (1, 0));
    }

    #[test]
    fn findings_stay_with_their_rows() {
        let stored = [row(0, false, &["r/a!"]), row(0, false, &["r/a!"])];
        let made = [(10, 0, Row(1, &["a!"])), (11, 0, Row(1, &["b!"]))];
        let picked = pick(judged(&made), &stored, Outcome::Error).unwrap().judged;
        assert_eq!(picked.findings.iter().map(|f| (f.row, &*f.code)).collect::<Vec<_>>(), [(0, "b")]);
    }

    #[test]
    fn a_letter_that_was_alone_becomes_all_rows_of_its_record_and_another_one_its_own() {
        use Outcome::{Dlq, Valid};
        let made = || [(10, 0, Row(1, &[])), (10, 1, Row(1, &[])), (10, 2, Dead(Reason::PluginTrap))];
        let (all, own) = (row(0, true, &["decode/not-json"]), row(1, false, &["decode/plugin-trap"]));
        check(Dlq, &[all], &made(), &[(10, 0, Valid), (10, 1, Valid), (10, 2, Dlq)], (0, 0));
        check(Dlq, &[own], &made(), &[(10, 1, Valid)], (0, 0));
        check(Dlq, &[row(2, false, &["decode/plugin-trap"])], &made(), &[], (1, 0));
        check(Dlq, &[row(7, false, &[])], &made(), &[], (0, 1));
        check(Dlq, &[row(0, true, &[])], &[], &[], (0, 1));
    }
}
