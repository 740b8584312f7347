//! A visit says when, who, where and in what context. Empty text is there; only null is missing.

use sluice::prelude::*;

#[derive(Row)]
struct Visit<'a> {
    event_time: Option<Timestamp>,
    user_id: Option<&'a str>,
    page: Option<&'a str>,
    context: Option<Json<'a>>,
}

#[derive(Codes)]
enum Visits {
    /// a visit says when, who, where and in what context
    #[code(error, reads(event_time, user_id, page, context))]
    Incomplete,
}

#[rule]
fn visit_complete(visit: Visit, found: &mut Found<Visits>) {
    let Visit { event_time, user_id, page, context } = visit;
    if event_time.is_none() || user_id.is_none() || page.is_none() || context.is_none() {
        found.push(Visits::Incomplete)
    }
}
