//! Upkeep beside a running pipeline, every now and then: what `sluice maintain` does, on a thread of its own.
//!
//! Whatever fails is logged and tried again the next time: no row depends on it. Processes of a group need not agree on
//! anything, since maintainers may run beside each other.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{Expired, Options, Report};
use crate::config::{Config, UpkeepConfig};
use crate::error::{Error, Result};
use crate::memory;
use crate::pipeline::{Follow, Stop};

/// How often the thread looks whether the run is over.
const TURN: Duration = Duration::from_millis(100);

/// Upkeep that goes on until the run ends.
pub struct Upkeep {
    thread: JoinHandle<()>,
}

impl Upkeep {
    /// Begins it. The first time comes after a part of the interval, a different one in each process.
    pub fn begin(config: Arc<Config>, every: UpkeepConfig, follow: Follow, stop: Stop) -> Result<Upkeep> {
        let work = move || {
            let mut pause = every.every.mul_f64(rand::random_range(0.5..1.0));
            while wait(pause, &stop) {
                let begun = Instant::now();
                let options = Options { dry_run: false, compact: true, older_than: every.older_than };
                match follow.runtime.block_on(super::pipeline(&config, &follow, &options)) {
                    Ok(report) => tell(&report, begun.elapsed()),
                    Err(error) => tracing::warn!(error = %error.sentence(), "upkeep failed; it is tried again"),
                }
                memory::give_back();
                pause = every.every;
            }
        };
        let thread = thread::Builder::new().name("upkeep".into()).spawn(work);
        let thread = thread.map_err(|e| Error::environment("cannot start the thread of the upkeep", e))?;
        Ok(Upkeep { thread })
    }

    /// Waits for its end, once the run was told to stop.
    pub fn join(self) {
        if let Err(panic) = self.thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

/// `false` where the run ends meanwhile.
fn wait(pause: Duration, stop: &Stop) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < pause {
        if stop.is_asked() {
            return false;
        }
        thread::sleep(TURN.min(pause));
    }
    !stop.is_asked()
}

fn tell(report: &Report, took: Duration) {
    for sink in report.sinks.iter().filter(|sink| sink.compacted.into.files > 0) {
        let (from, into) = (sink.compacted.from, sink.compacted.into);
        tracing::info!(table = %sink.location, files = from.files, into = into.files, bytes = into.bytes, "compacted");
    }
    for sink in report.sinks.iter().filter(|sink| sink.expired != Expired::default()) {
        let Expired { rows, before, .. } = sink.expired;
        let before = before.map(tracing::field::display);
        tracing::info!(table = %sink.location, rows, before, entry = report.expire, "expired");
    }
    let removed = report.removed();
    tracing::info!(removed = removed.files, bytes = removed.bytes, ?took, "upkeep");
}
