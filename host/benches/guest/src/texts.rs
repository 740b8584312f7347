//! Three columns of text: a visit says who, where and by what. In other languages: ../../languages.

use sluice::prelude::*;

#[derive(Row)]
struct Visit<'a> {
    user_id: Option<&'a str>,
    page: Option<&'a str>,
    #[row("context.technical.browser")]
    browser: Option<&'a str>,
}

#[derive(Codes)]
enum Visits {
    /// a visit says who, where and by what
    #[code(error)]
    Incomplete,
}

fn is_missing(text: Option<&str>) -> bool {
    text.is_none_or(str::is_empty)
}

#[cfg_attr(feature = "reused", rule(reused))]
#[cfg_attr(not(feature = "reused"), rule)]
fn texts(visit: Visit, found: &mut Found<Visits>) {
    if is_missing(visit.user_id) || is_missing(visit.page) || is_missing(visit.browser) {
        found.push(Visits::Incomplete)
    }
}

/// The rule as a native function.
#[cfg(not(target_family = "wasm"))]
pub const TWIN: sluice::plugin::Rule = __SLUICE_ONE_PLUGIN_PER_CRATE;
