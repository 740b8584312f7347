/* A visit says who, where and by what: the twin of ../../guest/src/texts.rs. */
#define SL_REUSED 1
#include "../../../../plugins/sdk-c/sluice.h"

enum { USER, PAGE, BROWSER };
enum { INCOMPLETE };

static const sl_column reads[] = {{"user_id", SL_TEXT}, {"page", SL_TEXT}, {"context.technical.browser", SL_TEXT}};
static const sl_code codes[] = {{"incomplete", SL_ERROR, "a visit says who, where and by what"}};

static bool is_missing(sl_row row, uint32_t column) {
    return sl_is_null(row, column) || sl_text_at(row, column).size == 0;
}

static void texts(sl_row row, SL_UNUSED const sl_settings *settings, sl_found *found) {
    if (is_missing(row, USER) || is_missing(row, PAGE) || is_missing(row, BROWSER)) sl_push(found, INCOMPLETE);
}

SL_RULE("texts", "0.1.0", reads, codes, texts)
