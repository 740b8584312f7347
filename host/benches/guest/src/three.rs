//! Three columns: a visit says when, who and where.

use sluice::prelude::*;

#[derive(Row)]
struct Visit<'a> {
    event_time: Option<Timestamp>,
    user_id: Option<&'a str>,
    page: Option<&'a str>,
}

#[derive(Codes)]
enum Visits {
    /// a visit says when, who and where
    #[code(error, reads(event_time, user_id, page))]
    Incomplete,
}

#[cfg_attr(feature = "reused", rule(reused))]
#[cfg_attr(not(feature = "reused"), rule)]
fn three(visit: Visit, found: &mut Found<Visits>) {
    let Visit { event_time, user_id, page } = visit;
    if event_time.is_none() || user_id.is_none_or(str::is_empty) || page.is_none_or(str::is_empty) {
        found.push(Visits::Incomplete)
    }
}

/// The rule as a native function.
#[cfg(not(target_family = "wasm"))]
pub const TWIN: sluice::plugin::Rule = __SLUICE_ONE_PLUGIN_PER_CRATE;
