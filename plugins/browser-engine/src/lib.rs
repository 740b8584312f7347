//! Adds the engine of the visitor's browser. A browser that is not known has none.

use sluice::prelude::*;

#[derive(Row)]
struct Visit<'a> {
    #[row("context.technical.browser")]
    browser: Option<&'a str>,
}

#[derive(Columns)]
struct Added {
    engine: Option<&'static str>,
}

#[enricher]
fn browser_engine(visit: Visit) -> Added {
    let engine = visit.browser.and_then(|browser| match browser.to_ascii_lowercase().as_str() {
        "chrome" | "chromium" | "google chrome" | "edge" | "microsoft edge" | "opera" | "brave" => Some("Blink"),
        "firefox" | "mozilla firefox" | "tor browser" => Some("Gecko"),
        "safari" | "mobile safari" => Some("WebKit"),
        "internet explorer" => Some("Trident"),
        _ => None,
    });
    Added { engine }
}
