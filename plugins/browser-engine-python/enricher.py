"""Adds the engine of the visitor's browser. A browser that is not known has none."""

from sluice import col, enricher

ENGINES = {
    "Blink": ["chrome", "chromium", "google chrome", "edge", "microsoft edge", "opera", "brave"],
    "Gecko": ["firefox", "mozilla firefox", "tor browser"],
    "WebKit": ["safari", "mobile safari"],
    "Trident": ["internet explorer"],
}
ENGINE_OF = {browser: engine for engine, browsers in ENGINES.items() for browser in browsers}


def browser_engine(row, settings):
    return {"engine": ENGINE_OF.get((row.browser or "").lower())}


Enricher = enricher(
    "browser-engine",
    "1.0.0",
    browser_engine,
    adds={"engine": str},
    browser=col("context.technical.browser", str),  # the columns it reads; the host passes no others
)
