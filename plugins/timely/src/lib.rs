//! An event is neither too old nor in the future when it arrives.

use sluice::prelude::*;

#[derive(Row)]
struct Event {
    #[row("event_time", setting = "event_time")]
    event_time: Option<Timestamp>,
    /// the record's own time, not a clock: judged again tomorrow, the verdict is the same
    #[row("_timestamp")]
    arrived: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Settings {
    max_late: Option<Span>,
    max_ahead: Option<Span>,
}

#[derive(Codes)]
enum Timely {
    /// the event happened longer before its record was written than `max_late` allows
    #[code(error, reads(event_time, arrived))]
    Late,
    /// the event happens later than its record was written, by more than `max_ahead`
    #[code(error, reads(event_time, arrived))]
    Ahead,
}

#[rule]
fn timely(event: Event, settings: &Settings, found: &mut Found<Timely>) {
    let (Some(event_time), Some(arrived)) = (event.event_time, event.arrived) else { return };
    if settings.max_late.is_some_and(|max| arrived - event_time > max) {
        found.push(Timely::Late)
    }
    if settings.max_ahead.is_some_and(|max| event_time - arrived > max) {
        found.push(Timely::Ahead)
    }
}
