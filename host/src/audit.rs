//! Whole windows instead of single rows: write, audit, publish.
//!
//! ```text
//! workers ── rows, findings, _window, _rejected ──► staging          an entry counts what it staged, per window
//!                                                      │
//!            watermark (from the ledger) passes ───────┤             [`watermark`]
//!                                                      ▼
//!            compare with the count · expectations · auditors        [`measure`], [`consult`]
//!                                                      ▼
//!            publish | hold | reject ── a `decision` entry ──► valid, error     [`decide`], [`publish`]
//! ```
//!
//! A decision is an entry like any other: its files are durable before it is appended, sinks follow it, and nothing is ever
//! decided twice, since an entry that does not find its window as it was is not appended. Two auditors need no lock.
//!
//! What this means where the specification leaves room:
//! - `"50000 rows"` are 50,000 consecutive *offsets* of a partition: so a row's window depends on the row alone, however
//!   records are batched, split and judged by many threads. Where records were skipped or died, a window has fewer rows.
//! - A file without timestamps is read by several threads: a row without usable event time takes the time of the row before
//!   it *in its batch*, else of the row after it, else the file's modification time.
//! - A partition is silent when it has told no usable event time for [`idle`](crate::config::AuditConfig::idle): rows
//!   without one keep no watermark back. Time in which nobody ran does not count.
//! - Several empty intervals in a row are one decision, since what has no rows has one verdict.
//! - [`unique`](crate::config::AuditConfig::unique) looks at rows without an error finding: the copy of a refused row is no
//!   copy of anything that is published.
//! - Rows that are judged again after `sluice reset` come late, where their window is decided.
//!
//! It judges no single row, and keeps nothing that is not in the ledger.

pub mod assign;
pub mod auditor;
pub mod consult;
pub mod decide;
pub mod measure;
pub mod plan;
pub mod publish;
pub mod staged;
pub mod trail;
pub mod watermark;

/// Who objects to a row, where it is the audit.
pub const RULE: &str = "audit";

/// The code of rows that come for a window that is decided.
pub const LATE: &str = "late";

/// The code of later copies of a key.
pub const DUPLICATE: &str = "duplicate";

/// The code, a warning, of rows whose event time is too far ahead to be used.
pub const AHEAD: &str = "event-time-ahead";
