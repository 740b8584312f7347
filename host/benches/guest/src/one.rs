//! One column: a visit has a page.

use sluice::prelude::*;

#[derive(Row)]
struct Visit<'a> {
    page: Option<&'a str>,
}

#[derive(Codes)]
enum Visits {
    /// a visit has a page
    #[code(error, reads(page))]
    NoPage,
}

#[cfg_attr(feature = "reused", rule(reused))]
#[cfg_attr(not(feature = "reused"), rule)]
fn one(visit: Visit, found: &mut Found<Visits>) {
    if visit.page.is_none_or(str::is_empty) {
        found.push(Visits::NoPage)
    }
}

/// The rule as a native function.
#[cfg(not(target_family = "wasm"))]
pub const TWIN: sluice::plugin::Rule = __SLUICE_ONE_PLUGIN_PER_CRATE;
