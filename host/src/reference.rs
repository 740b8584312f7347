//! Reference tables: what rows are joined with.
//!
//! A [`Snapshot`] is one version of a table, in memory. It is read as a whole and never changes; a batch keeps the one that
//! it began with.

mod index;
mod load;
mod snapshot;

pub use load::Place;
pub use snapshot::{Matches, OnDuplicate, Snapshot};
