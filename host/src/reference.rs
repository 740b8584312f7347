//! Reference tables: what rows are joined with.
//!
//! A [`Snapshot`] is one version of a table, in memory. It is read as a whole and never changes; an entry keeps the one that
//! it began with ([`Pinned`]), and its version stands in the ledger. [`References`] are the tables that a generation is bound
//! to. A generation covers the binding (names, key, columns, what duplicates mean), never the place and never the content:
//! those are data.
//!
//! Nothing here watches a table: who runs a pipeline asks [`Table::refresh`], on a thread that judges nothing.

mod ask;
mod bound;
mod index;
mod join;
mod load;
mod snapshot;

pub use ask::{Asked, ask, asked};
pub(crate) use bound::blocking;
pub use bound::{Pinned, References, Table, shown as sql};
pub use join::Join;
pub use load::Place;
pub use snapshot::{Matches, OnDuplicate, Snapshot};
