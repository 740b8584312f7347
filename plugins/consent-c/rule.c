/* A private visit carries no login, unless allowed. */
#include "../sdk-c/sluice.h"

enum { PRIVATE, LOGIN }; // index into reads
enum { LOGIN_EXPOSED };  // index into codes

// the columns this rule reads; the host passes no others
static const sl_column reads[] = {{"keep_private", SL_BOOL}, {"context.user.login", SL_TEXT}};
static const sl_code codes[] = {{"login-exposed", SL_ERROR, "a private visit carries a login"}};

static void consent(sl_row row, const sl_settings *s, sl_found *found) {
    if (!sl_is_true(row, PRIVATE) || sl_is_null(row, LOGIN)) return;
    if (!sl_list_has(s, "allow", sl_text_at(row, LOGIN))) sl_push(found, LOGIN_EXPOSED);
}

SL_RULE("consent", "1.2.0", reads, codes, consent)
