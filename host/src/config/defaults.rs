//! Every default of the pipeline file, once, each with its reason. Nothing here loses data.
//!
//! `error` and `dlq` sinks have no default: a missing one is a mistake, never a silent no-op.

use std::time::Duration;

use super::{CommitConfig, Limits, MaxFailures, OnFail, OnFailure, StartPoint, UnknownFields};
use crate::reference::OnDuplicate;

/// Five seconds keep tables fresh; below that, small commits dominate everything else. 500,000 records make files of a
/// size that readers like and are a second or two of work. 256 MiB bound what a crash has to read again, and the memory
/// of the open writers with it.
pub const COMMIT: CommitConfig =
    CommitConfig { every: Duration::from_secs(5), rows: 500_000, bytes: 256 * 1024 * 1024 };

/// 1 MiB is what brokers accept by default (`message.max.bytes`): a longer payload is a mistake of the producer.
pub const MAX_RECORD: usize = 1024 * 1024;

/// Producers add fields before consumers know them; that must not stop a pipeline.
pub const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignore;

/// A new pipeline sees what is there already; the other end would silently leave records out.
pub const START: StartPoint = StartPoint::Earliest;

/// What a broker on the same machine offers; anything else is said, never guessed.
pub const SECURITY: &str = "plaintext";

/// What hosted clusters ask for; used only where TLS hides the password. Without TLS the mechanism must be said.
pub const MECHANISM: &str = "PLAIN";

/// Rows of a table can be led back to their records unless the user gives that up.
pub const PROVENANCE: bool = true;

/// A key that comes twice would silently double rows, or pick one; a person decides which is right.
pub const ON_DUPLICATE: OnDuplicate = OnDuplicate::Error;

/// Reference tables change rarely, and looking for a new version costs a listing; who changed one need not wait, since
/// `sluice reference refresh` says so at once.
pub const REFRESH: Duration = Duration::from_secs(60);

/// Where metrics are served, on loopback, so that nobody else reads them unasked; where another process has the port, the
/// next free one. No well-known exporter of this number runs beside a stream processor by default.
pub const METRICS_PORT: u16 = 9187;

/// Often enough that no reader opens more than some hundred files of a table that gets some every five seconds.
pub const UPKEEP: Duration = Duration::from_secs(10 * 60);

/// Longer than any entry takes to be written; being wrong costs that process its entry, and no record.
pub const ORPHANS: Duration = Duration::from_secs(60 * 60);

/// Limits of one plugin.
pub const LIMITS: Limits = Limits {
    // a call of 4,096 rows takes about 1 ms in the slowest measured language; 250 ms is only for a guest that hangs, and
    // leaves room for a loaded machine, since a verdict must not depend on the load
    time: Duration::from_millis(250),
    // the largest measured guest, a Python interpreter, works in half of this
    memory: 64 * 1024 * 1024,
    // a constant for instantiation and configuration; with the rate below a full call of 4,096 rows may burn about 200
    // million, a tenth of a second: fuel, which is deterministic, ends a call before the clock does
    fuel: 100_000_000,
    // some 10 µs of work for each row: forty times what the slowest measured language needs
    fuel_per_row: 25_000,
    // more objections to one row help nobody, and what a guest returns must be bounded
    findings_per_row: 16,
    // a sentence, not a payload: details are stored with every finding
    detail: 512,
    // enough to debug with, too few to fill a disk
    log_lines: 10,
    // the largest measured component has 19 MB; beyond this, compiling takes minutes
    component: 32 * 1024 * 1024,
    // the largest measured component takes 8 seconds on two cores and 15 on one; a candidate that is not compiled by then
    // holds up those behind it
    compile: Duration::from_secs(60),
    // from here on a larger call is not cheaper per row
    call_rows: 4096,
    // stays within the second-level cache, together with what the guest makes of it
    call_bytes: 1024 * 1024,
};

/// A plugin that fails ten times in a minute is broken; single poison rows fail once each and are isolated.
pub const MAX_FAILURES: MaxFailures = MaxFailures { count: 10, within: Duration::from_secs(60) };

/// A broken plugin judges nobody: better no rows than unjudged ones. Nothing is lost, the records stay where they are.
pub const ON_FAILURE: OnFailure = OnFailure::Stop;

/// Producers and brokers reorder records by seconds; a minute covers that and keeps decisions prompt.
pub const LATENESS: Duration = Duration::from_secs(60);

/// A partition that is silent for a minute has nothing more to say for now; others should not wait for it longer.
pub const IDLE: Duration = Duration::from_secs(60);

/// Clocks differ by minutes at worst, time zones that were forgotten by hours: an hour ahead is a mistake, not an event.
pub const MAX_AHEAD: Duration = Duration::from_secs(3_600);

/// A window that fails is an error as a row that fails is; nobody has to wait for a person.
pub const ON_FAIL: OnFail = OnFail::Reject;

/// A week, to look again at what was decided over a long weekend; each row is stored twice for as long.
pub const KEEP_STAGED: Duration = Duration::from_secs(7 * 86_400);
