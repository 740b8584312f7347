//! What all entries together mean: pure, one entry at a time.
//!
//! It reads nothing and writes nothing; what contradicts itself is refused, never repaired.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::outcome::Outcome;
use crate::record::{Positions, TopicPartition};

use super::entry::{Cause, Counts, Entry, EntryRange, Kind};
use super::window::{Decision, Extent, Past, Staged, Staying, Verdict, Waiting};

/// Decided windows that a fold remembers, for auditors that compare: a week of quarter hours and some more.
const REMEMBERED: usize = 1_000;

/// Where a partition stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// next offset to read
    pub offset: i64,
    /// the topic's id, or `sha256:<digest>:<length>` of the file
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_id: Option<String>,
    /// latest usable event time among its rows, microseconds since the epoch
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_event_time: Option<i64>,
    /// when the last entry that told an event time of it was closed, by the clock of whoever wrote it
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spoke_at: Option<DateTime<Utc>>,
    /// whether nothing comes after it: the end of a file
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
    /// windows of this partition's offsets that end up to here are decided
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<i64>,
    /// the file whose window is decided, by its content
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_file: Option<String>,
}

/// The state after the entries 1 to `head`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fold {
    /// number of the last entry, 0 = none
    pub head: u64,
    /// id of the last entry
    pub last: Option<Uuid>,
    /// where each partition stands
    #[serde(with = "as_list")]
    pub positions: BTreeMap<TopicPartition, Position>,
    /// hash of the generation that judged last
    pub generation: Option<String>,
    /// hash of the generation in force: that of the first `start` (or `adopt`), then of the last `activate`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<String>,
    /// hash of the generation that the pipeline file last proposed: a file that still says the same does not undo a later
    /// promotion
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposed: Option<String>,
    /// identity of the table behind each sink
    pub tables: BTreeMap<Outcome, String>,
    /// sums over all entries but replays
    pub totals: Counts,
    /// windows with rows in staging, by key: still open, or held
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub windows: BTreeMap<String, Waiting>,
    /// windows of time that end up to here are decided, microseconds since the epoch
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_until: Option<i64>,
    /// the last windows that were decided for good, oldest first
    #[serde(default, skip_serializing_if = "none_past")]
    pub past: Arc<VecDeque<Past>>,
    /// decided windows whose rows are still in staging, in the order of their decisions
    #[serde(default, skip_serializing_if = "none_stays")]
    pub staying: Arc<VecDeque<Staying>>,
    /// per sink: what entries that were opened before this put into it is gone
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kept_from: BTreeMap<Outcome, DateTime<Utc>>,
    /// what was judged once more
    #[serde(default, skip_serializing_if = "Replays::is_none")]
    pub replays: Replays,
    /// entries that can never be appended any more, since their files were removed: a few for each crash
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub swept: BTreeSet<Uuid>,
}

fn none_past(past: &Arc<VecDeque<Past>>) -> bool {
    past.is_empty()
}

fn none_stays(staying: &Arc<VecDeque<Staying>>) -> bool {
    staying.is_empty()
}

/// All replays together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Replays {
    /// number of the last replay entry, 0 = none
    pub last: u64,
    /// sums over all of them
    pub counts: Counts,
}

impl Replays {
    fn is_none(&self) -> bool {
        self.last == 0
    }
}

impl Fold {
    /// Rows that all entries together count for an outcome: what its table holds.
    pub fn rows(&self, outcome: Outcome) -> u64 {
        self.totals.of(outcome) + self.replays.counts.of(outcome)
    }

    /// Whether an entry comes too late although it may name no position: a replay whose rows may have been judged once more
    /// by another one, or anything whose files were swept meanwhile, or whose rows would be older than their sink keeps any.
    pub fn overtakes(&self, entry: &Entry) -> bool {
        self.swept.contains(&entry.id)
            || self.lets_go(entry).is_some()
            || entry.replay.as_ref().is_some_and(|replay| replay.after != self.replays.last)
    }

    /// The next offset of each partition.
    pub fn offsets(&self) -> Positions {
        self.positions.iter().map(|(partition, position)| (partition.clone(), position.offset)).collect()
    }

    /// Those partitions of an entry that do not stand where it begins: judged by a process that no longer owns them, or
    /// started by another one. Empty for kinds that an operator's word puts above this. All of them where the entry's files
    /// were swept, or would be older than any that their sink keeps: its process lay still for so long.
    pub fn moved(&self, entry: &Entry) -> Vec<TopicPartition> {
        if self.swept.contains(&entry.id) || self.lets_go(entry).is_some() {
            return entry.ranges.iter().map(|range| range.partition.clone()).collect();
        }
        let fits = |range: &EntryRange| {
            let position = self.positions.get(&range.partition).map(|p| p.offset);
            match entry.kind {
                Kind::Rows | Kind::Gap => position == Some(range.from),
                Kind::Start => position.is_none(),
                Kind::Adopt
                | Kind::Reset
                | Kind::Sweep
                | Kind::Activate
                | Kind::Replay
                | Kind::Decision
                | Kind::Expire => true,
            }
        };
        entry.ranges.iter().filter(|range| !fits(range)).map(|range| range.partition.clone()).collect()
    }

    /// Whether an `activate` entry was made while another generation was in force: its maker must look again.
    pub fn overtook(&self, entry: &Entry) -> bool {
        entry.activation.as_ref().is_some_and(|activation| activation.previous != self.active)
    }

    /// Whether a window is decided, or held: rows that come for it are late.
    pub fn is_closed(&self, window: &Extent) -> bool {
        let position = |partition: &TopicPartition| self.positions.get(partition);
        match window {
            Extent::Time { to, .. } => self.closed_until.is_some_and(|until| *to <= until),
            Extent::Rows { partition, to, .. } => {
                position(partition).and_then(|p| p.closed).is_some_and(|closed| *to <= closed)
            }
            Extent::File { partition, id } => position(partition).is_some_and(|p| p.closed_file.as_ref() == Some(id)),
        }
    }

    /// Why an entry no longer fits the windows, where they changed while it was made: it stages rows for a window that was
    /// closed, or decides over one that is not as it was. Reads on from "ledger entry 7".
    pub fn outdated(&self, entry: &Entry) -> Option<String> {
        if let Some(staged) = entry.windows.iter().find(|staged| self.is_closed(&staged.window)) {
            return Some(format!("stages rows for window {}, which is decided", staged.window));
        }
        let stays = |key: &String| self.staying.iter().any(|staying| staying.window == *key);
        if let Some(gone) = entry.expired.iter().find(|key| !stays(key)) {
            return Some(format!("removes window {gone} from staging, where it is not"));
        }
        if let Some((outcome, from)) = self.repeats(entry) {
            return Some(format!("lets go of {outcome} before {from}, which another entry did"));
        }
        let decision = entry.decision.as_ref()?;
        let key = decision.window.key();
        let waiting = self.windows.get(&key);
        let held = waiting.and_then(|waiting| waiting.held);
        if decision.by_hand {
            return held.is_none().then(|| format!("is a word on window {key}, which is not held"));
        }
        if held.is_some() || self.is_closed(&decision.window) {
            return Some(format!("decides over window {key}, which is decided"));
        }
        let (rows, rejected) = waiting.map_or((0, 0), |waiting| (waiting.staged.rows, waiting.staged.rejected));
        if (rows, rejected) != (decision.rows, decision.rejected) {
            return Some(format!("decides over {} rows of window {key}, which has {rows}", decision.rows));
        }
        let Extent::Time { from, to } = decision.window else { return None };
        // one after the other, so that a single number says which are closed
        let skips = |waiting: &&Waiting| match waiting.staged.window {
            Extent::Time { from: other, .. } => {
                waiting.held.is_none() && other < to && (other < from || decision.intervals > 1)
            }
            Extent::Rows { .. } | Extent::File { .. } => false,
        };
        self.windows
            .values()
            .find(skips)
            .map(|open| format!("decides over window {key}, although {} before its end is open", open.staged.window))
    }

    /// The table that an entry would bind although another one is bound, where the entry's kind may not do that.
    pub fn rebinds<'a>(&'a self, entry: &'a Entry) -> Option<(Outcome, &'a str, &'a str)> {
        if matches!(entry.kind, Kind::Adopt | Kind::Reset) {
            return None;
        }
        entry.tables.iter().find_map(|(outcome, new)| {
            let bound = self.tables.get(outcome).filter(|bound| *bound != new)?;
            Some((*outcome, bound.as_str(), new.as_str()))
        })
    }

    /// Goes on to entry `n`. On an error the fold is as it was.
    ///
    /// Numbers follow each other, except before an `adopt` entry: that one takes over after entries were lost.
    pub fn apply(&mut self, n: u64, entry: &Entry) -> Result<()> {
        self.refuse(n, entry).map_or(Ok(()), |why| Err(Error::Diverged(format!("ledger entry {n} {why}"))))?;
        for range in &entry.ranges {
            let position = self.positions.entry(range.partition.clone()).or_insert_with(|| Position {
                offset: range.to,
                topic_id: None,
                latest_event_time: None,
                spoke_at: None,
                ended: false,
                closed: None,
                closed_file: None,
            });
            if range.latest_event_time.is_some() {
                position.spoke_at = Some(entry.at);
            }
            position.offset = range.to;
            position.ended = range.ended;
            // another log: what was closed were offsets of the old one
            if position.topic_id.is_some() && range.topic_id.is_some() && position.topic_id != range.topic_id {
                position.closed = None;
            }
            // an operator may mean another topic or file of the same name: the source says which one it finds
            if range.topic_id.is_some() || entry.kind == Kind::Reset {
                position.topic_id.clone_from(&range.topic_id);
            }
            position.latest_event_time = position.latest_event_time.max(range.latest_event_time);
        }
        if !entry.generation.is_empty() {
            self.generation = Some(entry.generation.clone());
        }
        if let Some(activation) = &entry.activation {
            self.active = Some(entry.generation.clone());
            if activation.cause == Cause::File {
                self.proposed = Some(entry.generation.clone());
            }
        } else if self.active.is_none() && matches!(entry.kind, Kind::Start | Kind::Adopt) {
            self.active = Some(entry.generation.clone());
            self.proposed = Some(entry.generation.clone());
        }
        self.tables.extend(entry.tables.iter().map(|(outcome, table)| (*outcome, table.clone())));
        match entry.kind {
            Kind::Replay => {
                self.replays.last = n;
                self.replays.counts.add(&entry.counts);
            }
            Kind::Start
            | Kind::Rows
            | Kind::Gap
            | Kind::Adopt
            | Kind::Reset
            | Kind::Sweep
            | Kind::Activate
            | Kind::Decision
            | Kind::Expire => self.totals.add(&entry.counts),
        }
        self.stage(n, entry);
        self.swept.extend(&entry.swept);
        self.kept_from.extend(entry.kept_from.iter().map(|(outcome, from)| (*outcome, *from)));
        self.head = n;
        self.last = Some(entry.id);
        Ok(())
    }

    /// What an entry means for windows.
    fn stage(&mut self, n: u64, entry: &Entry) {
        for staged in &entry.windows {
            let waiting = self.windows.entry(staged.window.key()).or_insert_with(|| Waiting {
                staged: Staged { rows: 0, rejected: 0, ..staged.clone() },
                since: n,
                held: None,
            });
            waiting.staged.rows += staged.rows;
            waiting.staged.rejected += staged.rejected;
        }
        if !entry.expired.is_empty() {
            Arc::make_mut(&mut self.staying).retain(|staying| !entry.expired.contains(&staying.window));
        }
        let Some(decision) = &entry.decision else { return };
        self.close(&decision.window);
        match decision.verdict {
            Verdict::Hold => {
                let Decision { window, rows, rejected, .. } = decision.clone();
                let waiting = self.windows.entry(window.key()).or_insert_with(|| Waiting {
                    staged: Staged { window, rows, rejected },
                    since: n,
                    held: None,
                });
                waiting.held = Some(n);
            }
            Verdict::Publish | Verdict::Reject => {
                let waited = self.windows.remove(&decision.window.key()).map_or(0, |waiting| waiting.staged.rows);
                // they have another outcome now, and are no further rows
                let staging = self.totals.outcomes.entry(Outcome::Staging).or_default();
                *staging = staging.saturating_sub(waited);
                self.totals.rows = self.totals.rows.saturating_sub(waited);
                if decision.rows > 0 {
                    let staying = Staying { window: decision.window.key(), since: entry.at };
                    Arc::make_mut(&mut self.staying).push_back(staying);
                }
                let past = Arc::make_mut(&mut self.past);
                past.push_back(Past { entry: n, decision: decision.clone() });
                while past.len() > REMEMBERED {
                    past.pop_front();
                }
            }
        }
    }

    /// Rows that come for a window from here on are late.
    fn close(&mut self, window: &Extent) {
        match window {
            Extent::Time { to, .. } => self.closed_until = self.closed_until.max(Some(*to)),
            Extent::Rows { partition, to, .. } => {
                if let Some(position) = self.positions.get_mut(partition) {
                    position.closed = position.closed.max(Some(*to));
                }
            }
            Extent::File { partition, id } => {
                if let Some(position) = self.positions.get_mut(partition) {
                    position.closed_file = Some(id.clone());
                }
            }
        }
    }

    /// Why an entry cannot come next; reads on from "ledger entry 7".
    pub(super) fn refuse(&self, n: u64, entry: &Entry) -> Option<String> {
        let next = self.head + 1;
        if n != next && !(n > next && entry.kind == Kind::Adopt) {
            return Some(format!("follows entry {}: entry {next} is missing", self.head));
        }
        if self.swept.contains(&entry.id) {
            return Some("names files that a sweep before it removed".into());
        }
        if let Some((outcome, from)) = self.lets_go(entry) {
            return Some(format!("has rows for {outcome}, which keeps none from before {from}"));
        }
        if self.overtakes(entry) {
            return Some(format!("replays rows that were chosen before another replay, entry {}", self.replays.last));
        }
        if let Some(range) = entry.ranges.iter().find(|range| range.to < range.from) {
            return Some(format!("goes backwards on {}: from {} to {}", range.partition, range.from, range.to));
        }
        let distinct: BTreeSet<&TopicPartition> = entry.ranges.iter().map(|range| &range.partition).collect();
        if distinct.len() != entry.ranges.len() {
            return Some("names a partition twice".into());
        }
        if let Some(partition) = self.moved(entry).first() {
            let range = entry.ranges.iter().find(|range| &range.partition == partition)?;
            return Some(match self.positions.get(partition) {
                Some(position) => format!(
                    "goes on from {} on {partition}, where the entries before it end at {}",
                    range.from, position.offset
                ),
                None => format!("goes on from {} on {partition}, which no entry started", range.from),
            });
        }
        if let Some(why) = self.outdated(entry) {
            return Some(why);
        }
        self.rebinds(entry).map(|(outcome, bound, new)| {
            format!("binds table {new} to {outcome}, where {bound} is bound and nobody adopted another one")
        })
    }
}

/// JSON has no maps with such keys.
mod as_list {
    use super::*;
    use serde::{Deserializer, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Item<P> {
        #[serde(flatten)]
        partition: TopicPartition,
        #[serde(flatten)]
        position: P,
    }

    pub fn serialize<S: Serializer>(map: &BTreeMap<TopicPartition, Position>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(map.iter().map(|(partition, position)| Item { partition: partition.clone(), position }))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<TopicPartition, Position>, D::Error> {
        let items = Vec::<Item<Position>>::deserialize(from)?;
        Ok(items.into_iter().map(|item| (item.partition, item.position)).collect())
    }
}

#[cfg(test)]
mod tests;
