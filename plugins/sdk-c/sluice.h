/* Write a Sluice rule or enricher as a plain function over one row, in C, with no library at all.
 *
 *     enum { PRIVATE, LOGIN }; // index into reads
 *     enum { LOGIN_EXPOSED };  // index into codes
 *     static const sl_column reads[] = {{"keep_private", SL_BOOL}, {"context.user.login", SL_TEXT}};
 *     static const sl_code codes[] = {{"login-exposed", SL_ERROR, "a private visit carries a login"}};
 *
 *     static void consent(sl_row row, const sl_settings *s, sl_found *found) {
 *         if (!sl_is_true(row, PRIVATE) || sl_is_null(row, LOGIN)) return;
 *         if (!sl_list_has(s, "allow", sl_text_at(row, LOGIN))) sl_push(found, LOGIN_EXPOSED);
 *     }
 *     SL_RULE("consent", "1.2.0", reads, codes, consent)
 *
 * A null is sl_is_null, and never "". Texts are bytes and a length, without a zero at the end, and belong to the call. A
 * verdict depends on the row and the settings alone; there is no clock, no randomness, no file and no network. sl_fail ends
 * the call and says why: the row becomes a dead letter. The one file that includes this header is the plugin.
 */
#ifndef SLUICE_H
#define SLUICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SL_CONTRACT "0.1.0"
#define SL_EXPORT(name) __attribute__((export_name(name)))
#define SL_UNUSED __attribute__((unused))

/* Defined as 1 before this file is included: one instance serves many calls, which is right where configuring is dear. Else
 * every call has an instance of its own. */
#ifndef SL_REUSED
#define SL_REUSED 0
#endif

/* ---- what a plugin says about itself */

typedef enum {
    SL_BOOL,
    SL_INT32,
    SL_INT64,
    SL_FLOAT64,
    SL_DATE,      /* sl_int_at: days since 1970-01-01 */
    SL_TIMESTAMP, /* sl_int_at: microseconds since 1970-01-01T00:00:00Z */
    SL_DECIMAL,   /* sl_decimal_at */
    SL_TEXT,
    SL_BYTES, /* sl_text_at, any bytes */
    SL_JSON,  /* sl_text_at, one JSON value */
} sl_type;

/* A column that a plugin reads. With optional a schema may lack it: then it is null in every row. */
typedef struct {
    const char *path;
    sl_type type;
    bool optional;
} sl_column;

typedef enum { SL_ERROR, SL_WARN } sl_severity;

/* A reason why a rule objects. All that the rule reads is shown beside it. */
typedef struct {
    const char *code;
    sl_severity severity;
    const char *help;
} sl_code;

/* A column that an enricher adds; a decimal says its digits: in all, and behind the point. */
typedef struct {
    const char *name;
    sl_type type;
    uint8_t precision;
    int8_t scale;
} sl_adds;

/* ---- the contract's types in memory */

typedef struct {
    const char *data;
    uint32_t size;
} sl_text;

typedef struct {
    uint8_t type; /* 0 absent, else one more than sl_type */
    union {
        struct {
            const uint8_t *data;
            uint32_t size;
            const uint8_t *validity;
            uint32_t validity_size;
        } fixed;
        struct {
            const uint8_t *offsets;
            uint32_t offsets_size;
            const uint8_t *data;
            uint32_t size;
            const uint8_t *validity;
            uint32_t validity_size;
        } varlen;
        struct {
            uint8_t precision;
            int8_t scale;
            const uint8_t *data;
            uint32_t size;
            const uint8_t *validity;
            uint32_t validity_size;
        } decimal;
    };
} sl_buffers;
_Static_assert(sizeof(sl_buffers) == 28, "a column of the contract has 28 bytes");

typedef struct {
    uint32_t row;
    uint16_t code;
    uint8_t has_column;
    uint16_t column;
    uint32_t has_detail;
    sl_text detail;
} sl_finding;
_Static_assert(sizeof(sl_finding) == 24, "a finding of the contract has 24 bytes");

typedef struct {
    sl_text path;
    uint8_t type, required;
} sl_request;

typedef struct {
    sl_text code;
    uint8_t severity;
    sl_text help;
    const uint16_t *reads;
    uint32_t reads_count;
} sl_code_info;
_Static_assert(sizeof(sl_code_info) == 28, "a code of the contract has 28 bytes");

typedef struct {
    sl_text name;
    uint8_t type, precision;
    int8_t scale;
} sl_column_info;

/* result<description, plugin-error>, for either kind */
typedef struct {
    uint8_t failed;
    union {
        struct {
            sl_text name, version;
            const sl_request *columns;
            uint32_t columns_count;
            const void *second; /* codes or produces */
            uint32_t second_count;
            uint8_t flags[2]; /* a rule: instances; an enricher: one-to-many, instances */
        } said;
        struct {
            uint8_t kind;
            sl_text text;
        } error;
        struct {
            const sl_finding *findings;
            uint32_t count;
        } found;
        struct {
            uint8_t has_rows;
            const uint32_t *rows;
            uint32_t rows_count;
            const sl_buffers *columns;
            uint32_t columns_count;
        } added;
    };
} sl_answer;

static SL_UNUSED void sl_die(void) { __builtin_trap(); }

/* SL_LIBRARY: whoever includes this has a C library, and sl_take, sl_release and cabi_realloc of its own. */
#ifdef SL_LIBRARY
static void *sl_take(uint32_t size, uint32_t align);
#else
/* ---- memory: what a call takes is free when the host has read its answer */

extern uint8_t __heap_base;
static uint8_t *sl_top, *sl_keep;

static SL_UNUSED void *sl_take(uint32_t size, uint32_t align) {
    if (!sl_top) sl_top = &__heap_base;
    uint32_t at = ((uint32_t)sl_top + align - 1) & ~(align - 1);
    uint32_t have = (uint32_t)__builtin_wasm_memory_size(0) << 16;
    if (at + size < at) sl_die();
    if (at + size > have) {
        uint32_t pages = (at + size - have + 0xffff) >> 16;
        if (__builtin_wasm_memory_grow(0, pages) == (size_t)-1) sl_die();
    }
    sl_top = (uint8_t *)at + size;
    return (void *)at;
}

/* without a library these are the compiler's to call */
__attribute__((weak)) void *memcpy(void *to, const void *from, size_t size) {
    for (size_t i = 0; i < size; i++) ((volatile uint8_t *)to)[i] = ((const uint8_t *)from)[i];
    return to;
}
__attribute__((weak)) void *memset(void *to, int value, size_t size) {
    for (size_t i = 0; i < size; i++) ((volatile uint8_t *)to)[i] = (uint8_t)value;
    return to;
}

SL_EXPORT("cabi_realloc") void *sl_realloc(void *old, uint32_t had, uint32_t align, uint32_t size) {
    void *block = sl_take(size, align < 8 ? 8 : align);
    for (uint32_t i = 0; i < had && i < size; i++) ((uint8_t *)block)[i] = ((uint8_t *)old)[i];
    return block;
}

static SL_UNUSED void sl_release(void) { sl_top = sl_keep; }
#endif

/* ---- texts */

static SL_UNUSED sl_text sl_text_of(const char *zero_ended) {
    sl_text text = {zero_ended, 0};
    while (zero_ended[text.size]) text.size++;
    return text;
}

static SL_UNUSED bool sl_same(sl_text a, sl_text b) {
    if (a.size != b.size) return false;
    for (uint32_t i = 0; i < a.size; i++)
        if (a.data[i] != b.data[i]) return false;
    return true;
}

static SL_UNUSED bool sl_equals(sl_text text, const char *zero_ended) { return sl_same(text, sl_text_of(zero_ended)); }

static SL_UNUSED bool sl_starts_with(sl_text text, const char *zero_ended) {
    sl_text start = sl_text_of(zero_ended);
    return text.size >= start.size && sl_same((sl_text){text.data, start.size}, start);
}

/* upper and lower case of A to Z alike */
static SL_UNUSED bool sl_equals_ignoring_case(sl_text text, const char *lower) {
    for (uint32_t i = 0; i < text.size; i++) {
        char c = text.data[i];
        if (c >= 'A' && c <= 'Z') c += 'a' - 'A';
        if (!lower[i] || c != lower[i]) return false;
    }
    return !lower[text.size];
}

/* ---- the log, and failing */

typedef enum { SL_LOG_DEBUG = 1, SL_LOG_INFO, SL_LOG_WARN, SL_LOG_ERROR } sl_level;

__attribute__((import_module("sluice:plugin/host@" SL_CONTRACT), import_name("log"))) void sl_host_log(
    uint32_t level, const char *text, uint32_t size);

static SL_UNUSED void sl_log(sl_level level, sl_text text) { sl_host_log(level, text.data, text.size); }

/* Ends the call: the plugin cannot judge this row, and text says why. */
static SL_UNUSED _Noreturn void sl_fail(const char *text) {
    sl_log(SL_LOG_ERROR, sl_text_of(text));
    __builtin_trap();
}

/* ---- settings: the configuration as JSON, which the host has checked and written without white space */

typedef struct {
    sl_text json;
} sl_settings;

/* the end of the JSON value at p */
static SL_UNUSED const char *sl_json_skip(const char *p, const char *end) {
    int depth = 0;
    do {
        if (p >= end) return end;
        if (*p == '"') {
            for (p++; p < end && *p != '"'; p++)
                if (*p == '\\') p++;
            p++;
        } else if (*p == '{' || *p == '[') {
            depth++, p++;
        } else if (*p == '}' || *p == ']') {
            depth--, p++;
        } else {
            p++;
            while (depth == 0 && p < end && *p != ',' && *p != '}' && *p != ']') p++;
        }
    } while (depth > 0);
    return p < end ? p : end;
}

static SL_UNUSED uint32_t sl_json_hex(const char *p) {
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        value = value << 4 | (uint32_t)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
    }
    return value;
}

/* Whether the JSON string at p (its quote) is that text. Escapes are read as the bytes they stand for. */
static SL_UNUSED bool sl_json_is(const char *p, const char *end, sl_text text) {
    uint32_t at = 0;
    for (p++; p < end && *p != '"'; p++) {
        char bytes[4] = {*p};
        uint32_t count = 1;
        if (*p == '\\' && end - p > 1) {
            p++;
            switch (*p) {
            case 'n': bytes[0] = '\n'; break;
            case 't': bytes[0] = '\t'; break;
            case 'r': bytes[0] = '\r'; break;
            case 'b': bytes[0] = '\b'; break;
            case 'f': bytes[0] = '\f'; break;
            case 'u': {
                if (end - p < 5) return false;
                uint32_t c = sl_json_hex(p + 1);
                p += 4;
                if (c >= 0xd800 && c < 0xdc00 && end - p > 6) {
                    c = 0x10000 + ((c - 0xd800) << 10) + (sl_json_hex(p + 3) - 0xdc00);
                    p += 6;
                }
                if (c < 0x80) {
                    bytes[0] = (char)c;
                } else if (c < 0x800) {
                    count = 2, bytes[0] = (char)(0xc0 | c >> 6), bytes[1] = (char)(0x80 | (c & 63));
                } else if (c < 0x10000) {
                    count = 3, bytes[0] = (char)(0xe0 | c >> 12), bytes[1] = (char)(0x80 | (c >> 6 & 63)),
                    bytes[2] = (char)(0x80 | (c & 63));
                } else {
                    count = 4, bytes[0] = (char)(0xf0 | c >> 18), bytes[1] = (char)(0x80 | (c >> 12 & 63)),
                    bytes[2] = (char)(0x80 | (c >> 6 & 63)), bytes[3] = (char)(0x80 | (c & 63));
                }
                break;
            }
            default: bytes[0] = *p;
            }
        }
        for (uint32_t i = 0; i < count; i++)
            if (at >= text.size || text.data[at++] != bytes[i]) return false;
    }
    return at == text.size;
}

/* the value of a key; data is null where there is none */
static SL_UNUSED sl_text sl_setting(const sl_settings *settings, const char *key) {
    const char *p = settings->json.data, *end = p + settings->json.size;
    sl_text wanted = sl_text_of(key);
    for (p++; p < end && *p == '"';) {
        bool is_it = sl_json_is(p, end, wanted);
        const char *value = sl_json_skip(p, end) + 1;
        p = sl_json_skip(value, end);
        if (is_it) return (sl_text){value, (uint32_t)(p - value)};
        if (p < end && *p == ',') p++;
    }
    return (sl_text){0, 0};
}

/* whether the setting is a list that has this text */
static SL_UNUSED bool sl_list_has(const sl_settings *settings, const char *key, sl_text text) {
    sl_text list = sl_setting(settings, key);
    if (!list.data || *list.data != '[') return false;
    const char *p = list.data + 1, *end = list.data + list.size;
    while (p < end && *p != ']') {
        if (*p == '"' && sl_json_is(p, end, text)) return true;
        p = sl_json_skip(p, end);
        if (p < end && *p == ',') p++;
    }
    return false;
}

/* whether the setting is this text */
static SL_UNUSED bool sl_setting_is(const sl_settings *settings, const char *key, const char *text) {
    sl_text value = sl_setting(settings, key);
    return value.data && *value.data == '"' && sl_json_is(value.data, value.data + value.size, sl_text_of(text));
}

/* whether the setting is true */
static SL_UNUSED bool sl_setting_true(const sl_settings *settings, const char *key) {
    return sl_same(sl_setting(settings, key), sl_text_of("true"));
}

/* the setting as a whole number; other, where it is none */
static SL_UNUSED int64_t sl_setting_int(const sl_settings *settings, const char *key, int64_t other) {
    sl_text value = sl_setting(settings, key);
    uint32_t i = value.size && value.data[0] == '-';
    if (i == value.size) return other;
    int64_t number = 0;
    for (uint32_t at = i; at < value.size; at++) {
        if (value.data[at] < '0' || value.data[at] > '9') return other;
        number = number * 10 + (value.data[at] - '0');
    }
    return i ? -number : number;
}

/* ---- a row */

typedef struct {
    const sl_buffers *columns;
    uint32_t row;
} sl_row;

typedef struct {
    uint64_t low;
    int64_t high;
    int8_t scale;
} sl_decimal;

static inline bool sl_has_bit(const uint8_t *bits, uint32_t i) { return bits[i >> 3] >> (i & 7) & 1; }

static inline bool sl_is_null(sl_row row, uint32_t column) {
    const sl_buffers *c = &row.columns[column];
    const uint8_t *bits;
    uint32_t size;
    if (c->type == 0) return true;
    if (c->type > SL_DECIMAL + 1) {
        bits = c->varlen.validity, size = c->varlen.validity_size;
    } else if (c->type == SL_DECIMAL + 1) {
        bits = c->decimal.validity, size = c->decimal.validity_size;
    } else {
        bits = c->fixed.validity, size = c->fixed.validity_size;
    }
    return size && !sl_has_bit(bits, row.row);
}

/* a text, bytes or JSON; of a null an empty one */
static inline sl_text sl_text_at(sl_row row, uint32_t column) {
    if (sl_is_null(row, column)) return (sl_text){"", 0};
    const sl_buffers *c = &row.columns[column];
    const uint32_t *offsets = (const uint32_t *)c->varlen.offsets;
    return (sl_text){(const char *)c->varlen.data + offsets[row.row], offsets[row.row + 1] - offsets[row.row]};
}

/* a value that is there and true */
static inline bool sl_is_true(sl_row row, uint32_t column) {
    return !sl_is_null(row, column) && sl_has_bit(row.columns[column].fixed.data, row.row);
}

/* a whole number, date or timestamp; of a null 0 */
static inline int64_t sl_int_at(sl_row row, uint32_t column) {
    if (sl_is_null(row, column)) return 0;
    const sl_buffers *c = &row.columns[column];
    bool is_narrow = c->type == SL_INT32 + 1 || c->type == SL_DATE + 1;
    return is_narrow ? ((const int32_t *)c->fixed.data)[row.row] : ((const int64_t *)c->fixed.data)[row.row];
}

/* of a null 0 */
static inline double sl_float_at(sl_row row, uint32_t column) {
    return sl_is_null(row, column) ? 0 : ((const double *)row.columns[column].fixed.data)[row.row];
}

/* of a null 0 */
static inline sl_decimal sl_decimal_at(sl_row row, uint32_t column) {
    if (sl_is_null(row, column)) return (sl_decimal){0, 0, 0};
    const sl_buffers *c = &row.columns[column];
    const uint64_t *words = (const uint64_t *)c->decimal.data + 2 * row.row;
    return (sl_decimal){words[0], (int64_t)words[1], c->decimal.scale};
}

/* ---- what is found */

typedef struct {
    uint32_t row;
    sl_finding *findings;
    uint32_t count, room;
} sl_found;

/* Findings lie end to end; when there is no room, they move to twice as much. */
static SL_UNUSED void sl_push_detail(sl_found *found, uint32_t code, sl_text detail) {
    if (found->count == found->room) {
        sl_finding *old = found->findings;
        found->room = found->room ? 2 * found->room : 256;
        found->findings = sl_take(found->room * sizeof(sl_finding), 8);
        for (uint32_t i = 0; i < found->count; i++) found->findings[i] = old[i];
    }
    sl_finding *one = &found->findings[found->count++];
    *one = (sl_finding){found->row, (uint16_t)code, 0, 0, detail.data != 0, detail};
}

static SL_UNUSED void sl_push(sl_found *found, uint32_t code) { sl_push_detail(found, code, (sl_text){0, 0}); }

/* ---- what is added */

typedef struct {
    uint8_t *data;
    uint32_t size, room;
    uint32_t *offsets;
    uint8_t *validity;
    uint32_t rows, nulls;
} sl_collected;

typedef struct {
    const sl_adds *adds;
    sl_collected *columns;
    uint32_t row;
} sl_added;

static SL_UNUSED uint32_t sl_width(sl_type type) {
    return type == SL_DECIMAL ? 16 : type == SL_INT32 || type == SL_DATE ? 4 : 8;
}

static SL_UNUSED sl_collected *sl_put(sl_added *added, uint32_t column) {
    sl_collected *c = &added->columns[column];
    if (!sl_has_bit(c->validity, added->row)) c->nulls--;
    c->validity[added->row >> 3] |= (uint8_t)(1 << (added->row & 7));
    return c;
}

/* adds a text, bytes or JSON to this row; a column that is not put is null */
static SL_UNUSED void sl_put_text(sl_added *added, uint32_t column, sl_text text) {
    sl_collected *c = sl_put(added, column);
    if (c->size + text.size > c->room) {
        uint8_t *old = c->data;
        c->room = 2 * (c->size + text.size);
        c->data = sl_take(c->room, 8);
        for (uint32_t i = 0; i < c->size; i++) c->data[i] = old[i];
    }
    for (uint32_t i = 0; i < text.size; i++) c->data[c->size + i] = (uint8_t)text.data[i];
    c->size += text.size;
}

static SL_UNUSED void sl_put_bool(sl_added *added, uint32_t column, bool value) {
    sl_collected *c = sl_put(added, column);
    if (value) c->data[added->row >> 3] |= (uint8_t)(1 << (added->row & 7));
}

/* a whole number, date or timestamp */
static SL_UNUSED void sl_put_int(sl_added *added, uint32_t column, int64_t value) {
    sl_collected *c = sl_put(added, column);
    if (sl_width(added->adds[column].type) == 4)
        ((int32_t *)c->data)[added->row] = (int32_t)value;
    else
        ((int64_t *)c->data)[added->row] = value;
}

static SL_UNUSED void sl_put_float(sl_added *added, uint32_t column, double value) {
    ((double *)sl_put(added, column)->data)[added->row] = value;
}

/* its scale is that of the column */
static SL_UNUSED void sl_put_decimal(sl_added *added, uint32_t column, sl_decimal value) {
    uint64_t *words = (uint64_t *)sl_put(added, column)->data + 2 * added->row;
    words[0] = value.low, words[1] = (uint64_t)value.high;
}

/* ---- a call */

static SL_UNUSED sl_answer *sl_internal(const char *text) {
    sl_answer *answer = sl_take(sizeof *answer, 8);
    *answer = (sl_answer){.failed = 1, .error = {1, sl_text_of(text)}};
    return answer;
}

/* whether every column is what was asked for, and long enough */
static SL_UNUSED bool sl_check(const sl_column *reads, uint32_t count, const sl_buffers *columns, uint32_t passed, uint32_t rows) {
    if (passed != count) return false;
    for (uint32_t i = 0; i < count; i++) {
        const sl_buffers *c = &columns[i];
        uint32_t bits = (rows + 7) / 8;
        if (c->type == 0) continue;
        if (c->type != reads[i].type + 1) return false;
        if (reads[i].type > SL_DECIMAL) {
            if (c->varlen.offsets_size < 4 * (rows + 1)) return false;
            if (c->varlen.validity_size && c->varlen.validity_size < bits) return false;
        } else if (reads[i].type == SL_DECIMAL) {
            if (c->decimal.size < 16 * rows || (c->decimal.validity_size && c->decimal.validity_size < bits)) return false;
        } else {
            uint32_t need = reads[i].type == SL_BOOL ? bits : rows * sl_width(reads[i].type);
            if (c->fixed.size < need || (c->fixed.validity_size && c->fixed.validity_size < bits)) return false;
        }
    }
    return true;
}

static SL_UNUSED sl_request *sl_requests(const sl_column *reads, uint32_t count) {
    sl_request *requests = sl_take(count * sizeof *requests, 8);
    for (uint32_t i = 0; i < count; i++)
        requests[i] = (sl_request){sl_text_of(reads[i].path), (uint8_t)reads[i].type, !reads[i].optional};
    return requests;
}

#define SL_COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Exports a rule: name, version, what it reads, what it may find, and void judge(sl_row, const sl_settings *, sl_found *). */
#define SL_RULE(rule_name, rule_version, reads, codes, judge)                                                          \
    static sl_settings sl_own;                                                                                         \
    SL_EXPORT("sluice:plugin/rule@" SL_CONTRACT "#configure")                                                          \
    sl_answer *sl_configure(const char *json, uint32_t size) {                                                         \
        sl_own.json = (sl_text){json, size};                                                                           \
        uint32_t n = SL_COUNT(reads);                                                                                  \
        uint16_t *all = sl_take(n * sizeof *all, 8);                                                                   \
        for (uint32_t i = 0; i < n; i++) all[i] = (uint16_t)i;                                                         \
        sl_code_info *infos = sl_take(sizeof(sl_code_info) * SL_COUNT(codes), 8);                                      \
        for (uint32_t i = 0; i < SL_COUNT(codes); i++)                                                                 \
            infos[i] = (sl_code_info){sl_text_of(codes[i].code), (uint8_t)codes[i].severity,                           \
                                      sl_text_of(codes[i].help), all, n};                                              \
        sl_answer *answer = sl_take(sizeof *answer, 8);                                                                \
        *answer = (sl_answer){.said = {sl_text_of(rule_name), sl_text_of(rule_version), sl_requests(reads, n), n,      \
                                       infos, SL_COUNT(codes), {SL_REUSED}}};                                          \
        sl_keep = sl_top;                                                                                              \
        return answer;                                                                                                 \
    }                                                                                                                  \
    SL_EXPORT("sluice:plugin/rule@" SL_CONTRACT "#check")                                                              \
    sl_answer *sl_call(uint32_t rows, const sl_buffers *columns, uint32_t count) {                                     \
        if (!sl_check(reads, SL_COUNT(reads), columns, count, rows))                                                   \
            return sl_internal("the host passed columns in another shape than they were asked for");                   \
        sl_found found = {0, 0, 0, 0};                                                                                 \
        for (; found.row < rows; found.row++) judge((sl_row){columns, found.row}, &sl_own, &found);                    \
        sl_answer *answer = sl_take(sizeof *answer, 8);                                                                \
        *answer = (sl_answer){.found = {found.findings, found.count}};                                                 \
        return answer;                                                                                                 \
    }                                                                                                                  \
    SL_EXPORT("cabi_post_sluice:plugin/rule@" SL_CONTRACT "#check")                                                    \
    void sl_after(SL_UNUSED sl_answer *answer) { sl_release(); }

static SL_UNUSED sl_answer *sl_finish(sl_added *added, uint32_t count, uint32_t rows) {
    sl_buffers *columns = sl_take(count * sizeof *columns, 8);
    for (uint32_t i = 0; i < count; i++) {
        sl_collected *c = &added->columns[i];
        const sl_adds *says = &added->adds[i];
        uint32_t bits = (rows + 7) / 8, validity = c->nulls ? bits : 0;
        columns[i] = (sl_buffers){.type = (uint8_t)(says->type + 1)};
        if (says->type > SL_DECIMAL) {
            columns[i].varlen.offsets = (const uint8_t *)c->offsets, columns[i].varlen.offsets_size = 4 * (rows + 1);
            columns[i].varlen.data = c->data, columns[i].varlen.size = c->size;
            columns[i].varlen.validity = c->validity, columns[i].varlen.validity_size = validity;
        } else if (says->type == SL_DECIMAL) {
            columns[i].decimal.precision = says->precision, columns[i].decimal.scale = says->scale;
            columns[i].decimal.data = c->data, columns[i].decimal.size = 16 * rows;
            columns[i].decimal.validity = c->validity, columns[i].decimal.validity_size = validity;
        } else {
            columns[i].fixed.data = c->data;
            columns[i].fixed.size = says->type == SL_BOOL ? bits : rows * sl_width(says->type);
            columns[i].fixed.validity = c->validity, columns[i].fixed.validity_size = validity;
        }
    }
    sl_answer *answer = sl_take(sizeof *answer, 8);
    *answer = (sl_answer){.added = {0, 0, 0, columns, count}};
    return answer;
}

static SL_UNUSED void *sl_zeros(uint32_t size) {
    uint8_t *block = sl_take(size + 8, 8);
    for (uint32_t i = 0; i < size + 8; i++) block[i] = 0;
    return block;
}

static SL_UNUSED sl_added sl_begin(const sl_adds *adds, uint32_t count, uint32_t rows) {
    sl_added added = {adds, sl_zeros(count * sizeof(sl_collected)), 0};
    for (uint32_t i = 0; i < count; i++) {
        sl_collected *c = &added.columns[i];
        c->validity = sl_zeros((rows + 7) / 8), c->nulls = rows;
        if (adds[i].type > SL_DECIMAL)
            c->offsets = sl_zeros(4 * (rows + 1));
        else
            c->data = sl_zeros(rows * sl_width(adds[i].type));
    }
    return added;
}

/* Exports an enricher: name, version, what it reads, what it adds, and void add(sl_row, const sl_settings *, sl_added *). */
#define SL_ENRICHER(enricher_name, enricher_version, reads, adds, add)                                                 \
    static sl_settings sl_own;                                                                                         \
    SL_EXPORT("sluice:plugin/enricher@" SL_CONTRACT "#configure")                                                      \
    sl_answer *sl_configure(const char *json, uint32_t size) {                                                         \
        sl_own.json = (sl_text){json, size};                                                                           \
        sl_column_info *infos = sl_take(sizeof(sl_column_info) * SL_COUNT(adds), 8);                                   \
        for (uint32_t i = 0; i < SL_COUNT(adds); i++)                                                                  \
            infos[i] = (sl_column_info){sl_text_of(adds[i].name), (uint8_t)adds[i].type, adds[i].precision,            \
                                        adds[i].scale};                                                                \
        sl_answer *answer = sl_take(sizeof *answer, 8);                                                                \
        *answer = (sl_answer){.said = {sl_text_of(enricher_name), sl_text_of(enricher_version),                        \
                                       sl_requests(reads, SL_COUNT(reads)), SL_COUNT(reads), infos, SL_COUNT(adds),    \
                                       {0, SL_REUSED}}};                                                               \
        sl_keep = sl_top;                                                                                              \
        return answer;                                                                                                 \
    }                                                                                                                  \
    SL_EXPORT("sluice:plugin/enricher@" SL_CONTRACT "#enrich")                                                         \
    sl_answer *sl_call(uint32_t rows, const sl_buffers *columns, uint32_t count) {                                     \
        if (!sl_check(reads, SL_COUNT(reads), columns, count, rows))                                                   \
            return sl_internal("the host passed columns in another shape than they were asked for");                   \
        sl_added added = sl_begin(adds, SL_COUNT(adds), rows);                                                         \
        for (; added.row < rows; added.row++) {                                                                        \
            add((sl_row){columns, added.row}, &sl_own, &added);                                                        \
            for (uint32_t i = 0; i < SL_COUNT(adds); i++)                                                              \
                if (added.columns[i].offsets) added.columns[i].offsets[added.row + 1] = added.columns[i].size;         \
        }                                                                                                              \
        return sl_finish(&added, SL_COUNT(adds), rows);                                                                \
    }                                                                                                                  \
    SL_EXPORT("cabi_post_sluice:plugin/enricher@" SL_CONTRACT "#enrich")                                               \
    void sl_after(SL_UNUSED sl_answer *answer) { sl_release(); }

#endif
