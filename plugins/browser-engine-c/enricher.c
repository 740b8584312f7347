/* Adds the engine of the visitor's browser. A browser that is not known has none. */
#include "../sdk-c/sluice.h"

enum { BROWSER }; // index into reads
enum { ENGINE };  // index into adds

// the columns it reads; the host passes no others
static const sl_column reads[] = {{"context.technical.browser", SL_TEXT}};
static const sl_adds adds[] = {{"engine", SL_TEXT}};

static const char *const known[][2] = {
    {"chrome", "Blink"},        {"chromium", "Blink"},      {"google chrome", "Blink"}, {"edge", "Blink"},
    {"microsoft edge", "Blink"}, {"opera", "Blink"},         {"brave", "Blink"},         {"firefox", "Gecko"},
    {"mozilla firefox", "Gecko"}, {"tor browser", "Gecko"},   {"safari", "WebKit"},       {"mobile safari", "WebKit"},
    {"internet explorer", "Trident"},
};

static void browser_engine(sl_row row, const sl_settings *s, sl_added *added) {
    (void)s;
    if (sl_is_null(row, BROWSER)) return;
    sl_text browser = sl_text_at(row, BROWSER);
    for (unsigned i = 0; i < SL_COUNT(known); i++)
        if (sl_equals_ignoring_case(browser, known[i][0])) sl_put_text(added, ENGINE, sl_text_of(known[i][1]));
}

SL_ENRICHER("browser-engine", "1.0.0", reads, adds, browser_engine)
