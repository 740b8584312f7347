//! A worker's share of a shadow: the same batch once more, by the candidate, and what differs.
//!
//! Whatever goes wrong here ends the shadow. It never fails a batch, and writes nothing that the pipeline's tables see.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use uuid::Uuid;

use crate::chain::{Judge, Judged, Spent, Waiting};
use crate::compare::compare;
use crate::error::Result;
use crate::record::RawBatch;
use crate::reference::{Pinned, References};
use crate::shadow::{Seen, Shadow, Side, differences};
use crate::sink::files::TableWriter;

/// Judges beside on one thread.
pub(super) struct Beside {
    shadow: Arc<Shadow>,
    judge: Judge,
    /// batches, and parts of one, that should have been judged and were not
    owed: f64,
    writer: Option<TableWriter>,
    seen: Seen,
    runtime: Handle,
}

impl Beside {
    /// `None` where the candidate cannot be asked.
    pub fn new(shadow: &Arc<Shadow>, runtime: Handle) -> Option<Beside> {
        let shadow = shadow.clone();
        match shadow.chain.judge() {
            // the first batch is always taken: who tries it on a few records sees something
            Ok(judge) => Some(Beside {
                judge,
                owed: 1.0 - shadow.order.share,
                writer: None,
                seen: Seen::default(),
                runtime,
                shadow,
            }),
            Err(error) => {
                shadow.fail(error.sentence());
                None
            }
        }
    }

    /// Whether it is this shadow's.
    pub fn is_of(&self, shadow: &Arc<Shadow>) -> bool {
        Arc::ptr_eq(&self.shadow, shadow)
    }

    /// Whether the next batch is judged beside, too.
    pub fn takes(&mut self) -> bool {
        if self.shadow.has_failed() {
            return false;
        }
        self.owed += self.shadow.order.share;
        let takes = self.owed >= 1.0;
        self.owed -= f64::from(u8::from(takes));
        takes
    }

    /// Joins from now on with what the rows of the entry are joined with, where the candidate is bound alike.
    pub fn pin(&mut self, judging: &References, pinned: &Pinned) {
        match self.shadow.chain.parts.references.pinned_beside(judging, pinned) {
            Ok(pinned) => self.judge.pin(&pinned),
            Err(error) => self.shadow.fail(error.sentence()),
        }
    }

    /// Judges `raw`, of which the generation in force made `before`, in `time` and for `spent`.
    pub fn judge(&mut self, entry: Uuid, raw: RawBatch, before: &[Judged], time: Duration, spent: &Spent) {
        if let Err(error) = self.compare(entry, raw, before, time, spent) {
            self.shadow.fail(error.sentence());
            self.discard();
        }
    }

    fn compare(&mut self, entry: Uuid, raw: RawBatch, before: &[Judged], time: Duration, spent: &Spent) -> Result<()> {
        let begun = Instant::now();
        let mut waiting = Waiting::from(raw);
        let mut after = Vec::new();
        while let Some(judged) = self.judge.next(&mut waiting)? {
            after.push(judged);
        }
        let took = begun.elapsed();
        let compared = compare(before, &after);
        if !compared.differences.is_empty() {
            let schema = self.shadow.schema();
            let rows = differences::rows(schema, &compared.differences, entry)?;
            let writer = match &mut self.writer {
                Some(writer) => writer,
                none => {
                    none.insert(TableWriter::new(self.shadow.files(), schema.clone(), entry, self.runtime.clone())?)
                }
            };
            writer.write(&rows)?;
        }
        self.seen.batches += 1;
        self.seen.summary.add(&compared);
        self.seen.active.add(Side::of(time, spent));
        self.seen.candidate.add(Side::of(took, &self.judge.take_spent()));
        Ok(())
    }

    /// The entry is closed: what was seen for it.
    pub fn close(&mut self) -> Option<Seen> {
        let mut seen = std::mem::take(&mut self.seen);
        match self.writer.take().map(TableWriter::finish).transpose() {
            Ok(files) => seen.files = files.unwrap_or_default(),
            Err(error) => {
                self.shadow.fail(error.sentence());
                return None;
            }
        }
        (seen.batches > 0).then_some(seen)
    }

    /// Forgets what was seen for the entry.
    pub fn discard(&mut self) {
        self.writer = None;
        self.seen = Seen::default();
    }
}
