//! The answer of a store is unclear: "the create landed but an error came back", its reverse, and both again and again.

use std::io::ErrorKind::TimedOut;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::unsure::Fate::{Fails, Lands, LandsUnsaid};
use super::unsure::{Fate, Unsure, is_commit_point};
use super::{all_is_well, of, run_on, sentence, small};

const FILES: usize = 6;

/// Each write that `matters` meets the next of `fates`, round and round; a whole run sees nothing of it.
fn goes_unnoticed(fates: &'static [Fate], matters: fn(&object_store::path::Path) -> bool) {
    let project = small(FILES);
    let met = Arc::new(AtomicUsize::new(0));
    let count = met.clone();
    let store = Unsure::new(move |path| match matters(path) {
        true => fates[count.fetch_add(1, Ordering::SeqCst) % fates.len()],
        false => Lands,
    });
    let head = run_on(&project, store, drop).unwrap_or_else(|e| panic!("{fates:?}: {}", sentence(&e)));
    // one entry binds the tables, one starts the files, and a retry must not make two of one
    assert_eq!(head, 2 + FILES as u64, "{fates:?}");
    assert!(met.load(Ordering::SeqCst) >= 2 * FILES, "{fates:?} were hardly met");
    project.sluice(&["reconcile"]).expect(0);
    all_is_well(&project, &of(FILES));
}

#[test]
fn a_write_that_landed_without_an_answer_counts_once() {
    goes_unnoticed(&[LandsUnsaid], is_commit_point);
    goes_unnoticed(&[LandsUnsaid, Lands], |path| !path.as_ref().ends_with(".parquet"));
}

#[test]
fn a_write_that_failed_for_a_moment_is_tried_again() {
    goes_unnoticed(&[Fails(TimedOut), Lands], is_commit_point);
    goes_unnoticed(&[Fails(TimedOut), Fails(TimedOut), LandsUnsaid], is_commit_point);
}

/// From the n-th commit point on every answer gets lost or nothing lands: the run stops with a sentence, what stands is
/// whole, and the next run finishes.
#[test]
fn answers_that_stay_away_end_the_run_with_a_sentence() {
    for (from, fate) in [(0, Fails(TimedOut)), (7, Fails(TimedOut)), (9, LandsUnsaid), (11, Fails(TimedOut))] {
        let project = small(FILES);
        let mut met = 0;
        let store = Unsure::new(move |path| {
            met += usize::from(is_commit_point(path));
            if met > from { fate } else { Lands }
        });
        match (run_on(&project, store, drop), fate) {
            (Err(error), Fails(_)) => {
                let text = sentence(&error);
                let place = ["ledger entry", "lake/visits", "lake/_sluice"];
                assert!(text.starts_with("cannot ") && text.contains("timed out"), "{text}");
                assert!(place.iter().any(|place| text.contains(place)), "{text}");
            }
            // the Parquet file lands unsaid, too, and it has a name of its own: nothing can be found out about it
            (Err(error), _) => assert!(sentence(&error).contains(".parquet"), "{}", sentence(&error)),
            (Ok(head), _) => panic!("{fate:?} from the commit point {from} on: head {head}"),
        }
        project.sluice(&["reconcile"]).expect(0);
        all_is_well(&project, &of(FILES));
    }
}
