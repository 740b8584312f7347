//! Which windows are over, from the ledger alone: pure.
//!
//! The watermark is the time up to which every partition that speaks has told its rows. It reads no clock itself.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::config::{AuditConfig, Window};
use crate::ledger::{Extent, Fold, Position, Waiting};
use crate::record::TopicPartition;

/// What is known beside the ledger.
#[derive(Clone, Copy)]
pub struct Now<'a> {
    /// the clock
    pub at: DateTime<Utc>,
    /// since when somebody watches: nobody is silent before
    pub since: DateTime<Utc>,
    /// whether a partition has records that nobody has read yet: it is slow, not silent
    pub has_more: &'a dyn Fn(&TopicPartition) -> bool,
    /// whether a partition ends at this offset for good
    pub is_end: &'a dyn Fn(&TopicPartition, i64) -> bool,
    /// whether no source will ever tell more: everything that is open is over
    pub ended: bool,
}

/// A window that can be decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// which; of several empty intervals in a row the time from the first to the last
    pub window: Extent,
    /// intervals
    pub intervals: u64,
    /// rows in staging, and those among them with an error finding, as the ledger counts them
    pub counted: (u64, u64),
}

/// The time up to which rows are there, microseconds since the epoch; `None` while a partition has not spoken yet, or there
/// is none.
pub fn watermark(fold: &Fold, audit: &AuditConfig, now: Now<'_>) -> Option<i64> {
    let latest = fold.positions.values().filter_map(|position| position.latest_event_time).max();
    // a file that was read to its end has said all it has to say
    let lasting = || {
        let goes_on = |partition: &TopicPartition, position: &Position| {
            !position.ended && !(now.is_end)(partition, position.offset)
        };
        fold.positions.iter().filter(move |(partition, position)| goes_on(partition, position))
    };
    let mut speaking = lasting()
        .filter(|(partition, position)| !is_silent(position, audit.idle, now, (now.has_more)(partition)))
        .map(|(_, position)| position.latest_event_time);
    match (speaking.next(), audit.window) {
        (Some(first), _) => speaking.fold(first, Option::min),
        // nobody will push the last window over its end
        (None, Window::Time(length)) if lasting().next().is_some() => {
            Some(latest?.saturating_add(micros(audit.lateness)).saturating_add(micros(length)))
        }
        // nor will anybody where all files have ended; but the next one may
        (None, Window::Time(_) | Window::Rows(_) | Window::File) => latest,
    }
}

fn is_silent(position: &Position, idle: Duration, now: Now<'_>, has_more: bool) -> bool {
    let spoke = position.spoke_at.map_or(now.since, |spoke| spoke.max(now.since));
    let idle = TimeDelta::from_std(idle).unwrap_or(TimeDelta::MAX);
    !has_more && now.at.signed_duration_since(spoke) >= idle
}

/// Windows of time that end up to here are over.
pub fn over_until(fold: &Fold, audit: &AuditConfig, now: Now<'_>) -> Option<i64> {
    if now.ended {
        return Some(i64::MAX);
    }
    Some(watermark(fold, audit, now)?.saturating_sub(micros(audit.lateness)))
}

/// The windows that can be decided, in the order in which they must be.
pub fn due(fold: &Fold, audit: &AuditConfig, now: Now<'_>) -> Vec<Due> {
    let mut due = Vec::new();
    let over = over_until(fold, audit, now);
    let mut last = fold.closed_until;
    let mut open: Vec<&Waiting> = fold.windows.values().filter(|waiting| waiting.held.is_none()).collect();
    open.sort_by(|one, other| one.staged.window.cmp(&other.staged.window));
    for waiting in open {
        let staged = &waiting.staged;
        let is_over = match &staged.window {
            Extent::Time { to, .. } => over.is_some_and(|over| *to <= over),
            Extent::Rows { partition, to, .. } => {
                now.ended || fold.positions.get(partition).is_some_and(|position| position.offset >= *to)
            }
            Extent::File { partition, .. } => {
                let at = fold.positions.get(partition);
                now.ended || at.is_some_and(|at| at.ended || (now.is_end)(partition, at.offset))
            }
        };
        if !is_over {
            continue;
        }
        if let Extent::Time { from, to } = staged.window {
            due.extend(last.and_then(|last| empty(last, from, to - from)));
            last = Some(to);
        }
        due.push(Due { window: staged.window.clone(), intervals: 1, counted: (staged.rows, staged.rejected) });
    }
    due
}

/// The intervals between two windows.
fn empty(last: i64, next: i64, length: i64) -> Option<Due> {
    let intervals = next.checked_sub(last)?.div_euclid(length.max(1));
    // a length that was changed leaves a piece, which is no interval
    let from = next.checked_sub(intervals.checked_mul(length)?)?;
    let window = Extent::Time { from, to: next };
    (intervals > 0).then(|| Due { window, intervals: intervals.unsigned_abs(), counted: (0, 0) })
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::OnFail;
    use crate::ledger::Staged;

    const MINUTE: i64 = 60_000_000;

    fn audit() -> AuditConfig {
        AuditConfig {
            window: Window::Time(Duration::from_secs(600)),
            lateness: Duration::from_secs(120),
            idle: Duration::from_secs(60),
            max_ahead: Duration::from_secs(3600),
            unique: vec![],
            on_fail: OnFail::Reject,
            keep: Duration::from_secs(1),
            expect: vec![],
            auditors: vec![],
        }
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_000_000 + seconds, 0).expect("a time")
    }

    /// Partitions: minute of the latest event time, and the second at which it spoke.
    fn fold(partitions: &[(Option<i64>, Option<i64>)]) -> Fold {
        let mut fold = Fold::default();
        for (n, (latest, spoke)) in partitions.iter().enumerate() {
            let position = Position {
                offset: 5,
                topic_id: None,
                latest_event_time: latest.map(|minute| minute * MINUTE),
                spoke_at: spoke.map(at),
                ended: false,
                closed: None,
                closed_file: None,
            };
            fold.positions.insert(TopicPartition::new("t", n as i32), position);
        }
        fold
    }

    fn open(fold: &mut Fold, window: Extent) {
        let staged = Staged { window, rows: 3, rejected: 1 };
        fold.windows.insert(staged.window.key(), Waiting { staged, since: 2, held: None });
    }

    fn interval(from: i64, to: i64) -> Extent {
        Extent::Time { from: from * MINUTE, to: to * MINUTE }
    }

    fn now(seconds: i64) -> Now<'static> {
        Now { at: at(seconds), since: at(0), has_more: &|_| false, is_end: &|_, _| false, ended: false }
    }

    #[test]
    fn the_slowest_partition_that_speaks_sets_the_watermark() {
        let check = |partitions: &[(Option<i64>, Option<i64>)], seconds, expected: Option<i64>| {
            let minutes = watermark(&fold(partitions), &audit(), now(seconds)).map(|micros| micros / MINUTE);
            assert_eq!(minutes, expected, "{partitions:?} at {seconds}");
        };
        check(&[], 30, None);
        check(&[(Some(50), Some(10)), (Some(40), Some(12))], 30, Some(40));
        check(&[(Some(50), Some(10)), (None, None)], 30, None);
        // silent since the watch began
        check(&[(Some(50), Some(50)), (None, None)], 61, Some(50));
        check(&[(Some(50), Some(50)), (Some(40), Some(-500))], 59, Some(40));
        check(&[(Some(50), Some(50)), (Some(40), Some(-500))], 61, Some(50));
        // all of them: the last window is over, too
        check(&[(Some(50), Some(10)), (Some(40), Some(12))], 90, Some(62));
        check(&[(None, None)], 90, None);
    }

    #[test]
    fn files_that_ended_hold_nothing_back_and_push_nothing_over_its_end() {
        let mut fold = fold(&[(Some(50), Some(1)), (Some(40), Some(1))]);
        fold.positions.values_mut().next().expect("there is one").ended = true;
        assert_eq!(watermark(&fold, &audit(), now(30)), Some(40 * MINUTE));
        fold.positions.values_mut().for_each(|position| position.ended = true);
        assert_eq!(watermark(&fold, &audit(), now(90)), Some(50 * MINUTE));
    }

    #[test]
    fn a_partition_with_records_that_nobody_read_is_slow_and_not_silent() {
        let fold = fold(&[(Some(50), Some(80)), (Some(40), Some(1))]);
        let slow = |partition: &TopicPartition| partition.partition == 1;
        let now = Now { has_more: &slow, ..now(100) };
        assert_eq!(watermark(&fold, &audit(), now), Some(40 * MINUTE));
    }

    #[test]
    fn a_window_is_over_when_the_watermark_passes_its_end_and_lateness() {
        let mut fold = fold(&[(Some(31), Some(10))]);
        for window in [interval(30, 40), interval(0, 10), interval(20, 30)] {
            open(&mut fold, window);
        }
        let over = |fold: &Fold| due(fold, &audit(), now(30)).iter().map(|d| d.window.clone()).collect::<Vec<_>>();
        assert_eq!(over(&fold), [interval(0, 10)]);
        let position = fold.positions.values_mut().next().expect("there is one");
        position.latest_event_time = Some(32 * MINUTE);
        // nobody has been decided: what lies before the first window is no interval between two; what lies between is
        let found = due(&fold, &audit(), now(30));
        let expected = [(interval(0, 10), 1, (3, 1)), (interval(10, 20), 1, (0, 0)), (interval(20, 30), 1, (3, 1))];
        assert_eq!(found.iter().map(|d| (d.window.clone(), d.intervals, d.counted)).collect::<Vec<_>>(), expected);
        let all = due(&fold, &audit(), Now { ended: true, ..now(30) });
        assert_eq!(all.last().map(|d| d.window.clone()), Some(interval(30, 40)));
    }

    #[test]
    fn several_empty_intervals_in_a_row_are_one_decision() {
        let mut fold = fold(&[(Some(500), Some(10))]);
        fold.closed_until = Some(30 * MINUTE);
        open(&mut fold, interval(90, 100));
        let found = due(&fold, &audit(), now(30));
        assert_eq!(found[0], Due { window: interval(30, 90), intervals: 6, counted: (0, 0) });
        assert_eq!((found.len(), &found[1].window), (2, &interval(90, 100)));
    }

    #[test]
    fn windows_of_offsets_and_files_are_over_with_their_last_one() {
        let partition = TopicPartition::new("t", 0);
        let mut fold = fold(&[(None, None)]);
        let rows = |from| Extent::Rows { partition: partition.clone(), from, to: from + 5 };
        open(&mut fold, rows(0));
        open(&mut fold, rows(5));
        let file = Extent::File { partition: partition.clone(), id: "sha256:ab:1".into() };
        open(&mut fold, file.clone());
        let windows = |now| due(&fold, &audit(), now).into_iter().map(|d| d.window).collect::<Vec<_>>();
        assert_eq!(windows(now(1)), [rows(0)]);
        let end = |_: &TopicPartition, offset| offset == 5;
        assert_eq!(windows(Now { is_end: &end, ..now(1) }), [rows(0), file.clone()]);
        assert_eq!(windows(Now { ended: true, ..now(1) }), [rows(0), rows(5), file]);
    }
}
