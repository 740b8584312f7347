//! Write a Sluice rule or enricher as a plain function over one row, or an auditor over whole windows.
//!
//! ```
//! use sluice::prelude::*;
//!
//! #[derive(Row)] // the columns this rule reads; the host passes no others
//! struct Visit<'a> {
//!     keep_private: Option<bool>,
//!     #[row("context.user.login")]
//!     login: Option<&'a str>,
//! }
//!
//! #[derive(Codes)]
//! enum Consent {
//!     /// a private visit carries a login
//!     #[code(error, reads(keep_private, login))]
//!     LoginExposed,
//! }
//!
//! #[rule] // name and version come from Cargo.toml
//! fn consent(visit: Visit, found: &mut Found<Consent>) {
//!     if visit.keep_private == Some(true) && visit.login.is_some() {
//!         found.push(Consent::LoginExposed)
//!     }
//! }
//!
//! let mut found = Found::default(); // the same function, in a test
//! consent(Visit { keep_private: Some(true), login: Some("mlind") }, &mut found);
//! assert_eq!(found.codes(), ["login-exposed"]);
//! ```
//!
//! Modules in reading order: [`row`] (what a function reads), [`codes`] (what a rule finds), [`columns`] (what an
//! enricher adds), [`values`] (dates, times, decimals, JSON), [`settings`], [`plugin`] (what the macros make of a
//! function), [`audit`] (what decides over windows), [`mod@reference`] (tables of the pipeline), [`batch`] (the shapes that cross
//! the boundary), [`cases`] (the cases of a plugin, run natively), `guest` (the component's exports, only for wasm).
//!
//! A function depends on its row and its settings alone: there is no clock, no randomness, no file, no network here,
//! and nothing is carried from row to row.

extern crate self as sluice;

pub mod audit;
pub mod batch;
#[cfg(not(target_family = "wasm"))]
pub mod cases;
pub mod codes;
pub mod columns;
#[cfg(target_family = "wasm")]
pub mod guest;
pub mod log;
pub mod plugin;
pub mod reference;
pub mod row;
pub mod settings;
pub mod values;

pub use serde;
pub use serde_json;
pub use sluice_macros::{enricher, rule};

/// All that a plugin needs: `use sluice::prelude::*;`.
pub mod prelude {
    pub use crate::codes::{Codes, Found};
    pub use crate::columns::Columns;
    pub use crate::row::Row;
    pub use crate::values::{Date32, Decimal, Json, Span, Timestamp};
    pub use serde::de::Deserialize;
    pub use sluice_macros::{Deserialize, enricher, rule};
}
