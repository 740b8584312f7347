//! Finding the rows at which a plugin fails, by halving: pure, over any function that judges a range of rows.
//!
//! Since a verdict depends on its row alone, halves may be judged on their own, and their answers count.

use std::ops::Range;

/// What isolating came to. Every row of the range is in exactly one of the three.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Isolated<T, F> {
    /// ranges that were judged
    pub answers: Vec<(Range<usize>, T)>,
    /// single rows that failed alone
    pub culprits: Vec<(usize, F)>,
    /// ranges that fail, or were not reached, when the probes ran out
    pub left: Vec<(Range<usize>, F)>,
}

/// The probes that a batch has left.
#[derive(Debug)]
pub(super) struct Budget(pub u32);

/// A failed call's weight, in probes.
pub(super) trait Cost {
    fn cost(&self) -> u32;
}

/// Halves `rows`, a call for which failed with `first`, until each row that fails stands alone or the budget is used up.
pub(super) fn isolate<T, F: Cost + Clone>(
    rows: Range<usize>,
    first: F,
    budget: &mut Budget,
    judge: &mut impl FnMut(Range<usize>) -> Result<T, F>,
) -> Isolated<T, F> {
    let mut found = Isolated { answers: Vec::new(), culprits: Vec::new(), left: Vec::new() };
    halve(rows, first, budget, judge, &mut found);
    found
}

fn halve<T, F: Cost + Clone>(
    rows: Range<usize>,
    failure: F,
    budget: &mut Budget,
    judge: &mut impl FnMut(Range<usize>) -> Result<T, F>,
    found: &mut Isolated<T, F>,
) {
    let middle = rows.start + rows.len() / 2;
    let (left, right) = (rows.start..middle, middle..rows.end);
    let left_failed = probe(left, &failure, budget, judge, found);
    if !left_failed && right.len() > 1 {
        // then it must be the right half: no probe is needed to know
        halve(right, failure, budget, judge, found);
    } else {
        probe(right, &failure, budget, judge, found);
    }
}

/// Judges `rows`, and isolates within them if that fails. Answers whether it did.
fn probe<T, F: Cost + Clone>(
    rows: Range<usize>,
    above: &F,
    budget: &mut Budget,
    judge: &mut impl FnMut(Range<usize>) -> Result<T, F>,
    found: &mut Isolated<T, F>,
) -> bool {
    if rows.is_empty() {
        return false;
    }
    if budget.0 == 0 {
        found.left.push((rows, above.clone()));
        return true;
    }
    match judge(rows.clone()) {
        Ok(answer) => {
            budget.0 -= 1;
            found.answers.push((rows, answer));
            false
        }
        Err(failure) => {
            budget.0 = budget.0.saturating_sub(failure.cost());
            if rows.len() == 1 {
                found.culprits.push((rows.start, failure));
            } else {
                halve(rows, failure, budget, judge, found);
            }
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Bad(u32);
    impl Cost for Bad {
        fn cost(&self) -> u32 {
            self.0
        }
    }

    fn run(rows: Range<usize>, bad: &BTreeSet<usize>, probes: u32, cost: u32) -> (Isolated<(), Bad>, u32) {
        let mut calls = 0;
        let mut judge = |range: Range<usize>| {
            calls += 1;
            if bad.range(range).next().is_some() { Err(Bad(cost)) } else { Ok(()) }
        };
        let found = isolate(rows, Bad(cost), &mut Budget(probes), &mut judge);
        (found, calls)
    }

    #[test]
    fn one_slow_poison_row_is_found_wherever_it_stands() {
        for row in [0, 1, 2047, 2048, 4095] {
            let (found, _) = run(0..4096, &[row].into(), super::super::call::PROBES, super::super::call::TIMEOUT_COST);
            assert_eq!(found.culprits, [(row, Bad(4))], "row {row}");
            assert_eq!(found.left, []);
        }
    }

    proptest! {
        #[test]
        fn every_row_is_judged_guilty_or_left(
            len in 1usize..300, bad in prop::collection::btree_set(0usize..300, 1..12), probes in 0u32..80,
        ) {
            let start = 7;
            let bad: BTreeSet<usize> = bad.into_iter().map(|i| start + i % len).collect();
            let (found, calls) = run(start..start + len, &bad, probes, 1);
            prop_assert!(calls <= probes);
            let mut rows: Vec<usize> = found.answers.iter().map(|(r, ())| r.clone())
                .chain(found.left.iter().map(|(r, _)| r.clone()))
                .flatten()
                .chain(found.culprits.iter().map(|(row, _)| *row))
                .collect();
            rows.sort_unstable();
            prop_assert_eq!(rows, (start..start + len).collect::<Vec<_>>());
            prop_assert!(found.culprits.iter().all(|(row, _)| bad.contains(row)));
            prop_assert!(found.answers.iter().all(|(range, ())| bad.range(range.clone()).next().is_none()));
        }
    }
}
