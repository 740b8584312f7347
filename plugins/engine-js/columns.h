/* Columns → rows: one object whose fields are set row by row, and the function of the plugin called with it. */

/* Texts up to this long are written over the last row's, where nobody has kept that. */
#define SLOT 1024u

typedef struct {
    sl_type type;
    bool is_absent, is_ascii;
    int8_t scale;
    const uint8_t *data, *validity; /* validity: NULL where none is null */
    const uint32_t *offsets;
    JSString *slot;
    uint32_t room;
} cell;

static bool is_ascii(const uint8_t *data, uint32_t size) {
    uint64_t bits = 0;
    uint32_t i = 0;
    for (; i + 8 <= size; i += 8) {
        uint64_t word;
        memcpy(&word, data + i, 8);
        bits |= word;
    }
    for (; i < size; i++) bits |= data[i];
    return !(bits & 0x8080808080808080u);
}

static cell open_column(const sl_buffers *c) {
    if (!c->type) return (cell){.is_absent = true};
    cell opened = {.type = (sl_type)(c->type - 1)};
    if (opened.type > SL_DECIMAL) {
        opened.offsets = (const uint32_t *)c->varlen.offsets, opened.data = c->varlen.data;
        opened.is_ascii = is_ascii(c->varlen.data, c->varlen.size);
        if (c->varlen.validity_size) opened.validity = c->varlen.validity;
    } else if (opened.type == SL_DECIMAL) {
        opened.data = c->decimal.data, opened.scale = c->decimal.scale;
        if (c->decimal.validity_size) opened.validity = c->decimal.validity;
    } else {
        opened.data = c->fixed.data;
        if (c->fixed.validity_size) opened.validity = c->fixed.validity;
    }
    return opened;
}

/* ASCII → a string. Most are dropped before the next row: then its memory serves again. */
static JSValue short_text(cell *c, const uint8_t *from, uint32_t size) {
    JSString *string = c->slot;
    if (!string || JS_REF_COUNT(string) != 1 || string->atom_type || string->first_weak_ref || c->room < size) {
        if (string) js_free_string(JS_GetRuntime(ctx), string);
        c->room = size < 24 ? 24 : 2 * size;
        c->slot = string = js_alloc_string(ctx, (int)c->room, 0);
        if (!string) return JS_EXCEPTION;
    }
    string->len = size, string->hash = 0;
    uint8_t *to = str8(string);
    memcpy(to, from, size);
    to[size] = 0;
    JS_REF_COUNT(string)++;
    return JS_MKPTR(JS_TAG_STRING, string);
}

static JSValue decimal_text(const uint8_t *data, int scale) {
    __int128 value;
    memcpy(&value, data, 16);
    bool is_negative = value < 0;
    unsigned __int128 rest = is_negative ? -(unsigned __int128)value : (unsigned __int128)value;
    char text[320], *at = text + sizeof text;
    for (int i = scale; rest && i < 0; i++) *--at = '0';
    for (int digits = 0; rest || digits <= (scale > 0 ? scale : 0); digits++, rest /= 10) {
        if (scale > 0 && digits == scale) *--at = '.';
        *--at = (char)('0' + (int)(rest % 10));
    }
    if (is_negative) *--at = '-';
    return js_new_string8_len(ctx, at, (int)(text + sizeof text - at));
}

static JSValue json_value(const uint8_t *data, uint32_t size) {
    // the parser wants a zero behind it
    char *text = js_malloc(ctx, size + 1);
    if (!text) return JS_EXCEPTION;
    memcpy(text, data, size);
    text[size] = 0;
    JSValue value = JS_ParseJSON(ctx, text, size, "<json>");
    js_free(ctx, text);
    return value;
}

static JSValue value_at(cell *c, uint32_t row) {
    // what stands in a null's place is unspecified, and need not be a value at all
    if (c->is_absent || (c->validity && !(c->validity[row >> 3] >> (row & 7) & 1))) return JS_NULL;
    switch (c->type) {
    case SL_BOOL: return js_bool(c->data[row >> 3] >> (row & 7) & 1);
    case SL_INT32: return js_int32(((const int32_t *)c->data)[row]);
    case SL_INT64: return js_int64(((const int64_t *)c->data)[row]);
    case SL_FLOAT64: return js_number(((const double *)c->data)[row]);
    case SL_DATE: return JS_NewDate(ctx, ((const int32_t *)c->data)[row] * 86400000.0);
    case SL_TIMESTAMP: {
        int64_t micros = ((const int64_t *)c->data)[row];
        return JS_NewDate(ctx, (double)(micros / 1000 - (micros % 1000 < 0)));
    }
    case SL_DECIMAL: return decimal_text(c->data + 16 * (size_t)row, c->scale);
    case SL_TEXT:
    case SL_BYTES:
    case SL_JSON: break;
    }
    const uint8_t *from = c->data + c->offsets[row];
    uint32_t size = c->offsets[row + 1] - c->offsets[row];
    if (c->type == SL_BYTES) return JS_NewUint8ArrayCopy(ctx, from, size);
    if (c->type == SL_JSON) return json_value(from, size);
    if (!c->is_ascii) return JS_NewStringLen(ctx, (const char *)from, size);
    return size <= SLOT ? short_text(c, from, size) : js_new_string8_len(ctx, (const char *)from, (int)size);
}

/* The object that is a row: its fields lie in the order of the names. */
static JSValue new_row(JSValueConst names) {
    JSValue row = JS_NewObject(ctx);
    for (uint32_t i = 0; i < batch.count && !JS_IsException(row); i++) {
        JSValue name = JS_GetPropertyUint32(ctx, names, i);
        JSAtom atom = JS_ValueToAtom(ctx, name);
        JS_FreeValue(ctx, name);
        int defined = atom == JS_ATOM_NULL ? -1 : JS_DefinePropertyValue(ctx, row, atom, JS_NULL, JS_PROP_C_W_E);
        JS_FreeAtom(ctx, atom);
        if (defined >= 0) continue;
        JS_FreeValue(ctx, row);
        row = JS_EXCEPTION;
    }
    return row;
}

/* The codes of the rule at hand. */
static JSAtom *codes;
static uint32_t codes_count;

/* found(code, detail) */
static JSValue js_found(JSContext *c, SL_UNUSED JSValueConst self, int argc, JSValueConst *argv) {
    JSAtom code = JS_ValueToAtom(c, argv[0]);
    if (code == JS_ATOM_NULL) return JS_EXCEPTION;
    uint32_t index = 0;
    while (index < codes_count && codes[index] != code) index++;
    JS_FreeAtom(c, code);
    if (index == codes_count) {
        const char *name = JS_ToCString(c, argv[0]);
        if (name) JS_ThrowPlainError(c, "`%s` is not among the rule's codes", name);
        JS_FreeCString(c, name);
        return JS_EXCEPTION;
    }
    sl_text detail = {0, 0};
    if (argc > 1 && !JS_IsUndefined(argv[1]) && !lower_text(argv[1], &detail)) return JS_EXCEPTION;
    sl_push_detail(&found, index, detail);
    return JS_UNDEFINED;
}

static bool open_codes(JSValueConst list) {
    int64_t length = 0;
    if (JS_IsArray(list) && JS_GetLength(ctx, list, &length) < 0) return false;
    codes = sl_take((uint32_t)length * sizeof *codes, 8);
    for (codes_count = 0; codes_count < length; codes_count++) {
        JSValue code = JS_GetPropertyUint32(ctx, list, codes_count);
        codes[codes_count] = JS_ValueToAtom(ctx, code);
        JS_FreeValue(ctx, code);
        if (codes[codes_count] == JS_ATOM_NULL) return false;
    }
    return true;
}

/* Calls function(row, settings, found) for every row; ends at the first that throws. */
static bool judge_rows(cell *cells, JSValueConst names, JSValueConst function, JSValueConst settings, JSValueConst found_function) {
    JSValue row = JS_UNDEFINED;
    JSObject *object = NULL;
    JSShape *shape = NULL;
    bool is_well = true;
    for (; is_well && found.row < batch.rows; found.row++) {
        // a row whose fields the plugin has deleted, or made others of, is given up
        if (!shape || object->shape != shape) {
            JS_FreeValue(ctx, row);
            js_free_shape_null(JS_GetRuntime(ctx), shape);
            row = new_row(names);
            if (JS_IsException(row)) return false;
            object = JS_VALUE_GET_OBJ(row);
            // while it is held here, too, no change is made to the shape itself
            shape = js_dup_shape(object->shape);
        }
        for (uint32_t i = 0; i < batch.count && is_well; i++) {
            JSValue value = value_at(&cells[i], found.row);
            is_well = !JS_IsException(value);
            set_value(ctx, &object->prop[i].u.value, is_well ? value : JS_NULL);
        }
        if (!is_well) break;
        JSValue answer = JS_Call(ctx, function, JS_UNDEFINED, 3, (JSValueConst[]){row, settings, found_function});
        if (JS_IsException(answer)) break;
        JS_FreeValue(ctx, answer);
    }
    is_well = is_well && found.row == batch.rows;
    JS_FreeValue(ctx, row);
    js_free_shape_null(JS_GetRuntime(ctx), shape);
    return is_well;
}

/* judge(names, function, settings, codes) */
static JSValue js_judge(JSContext *c, SL_UNUSED JSValueConst self, SL_UNUSED int argc, JSValueConst *argv) {
    cell *cells = sl_take(batch.count * sizeof *cells, 8);
    for (uint32_t i = 0; i < batch.count; i++) cells[i] = open_column(&batch.columns[i]);
    bool is_well = open_codes(argv[3]);
    JSValue found_function = JS_NewCFunction(c, js_found, "found", 2);
    is_well = is_well && judge_rows(cells, argv[0], argv[1], argv[2], found_function);
    JS_FreeValue(c, found_function);
    for (uint32_t i = 0; i < codes_count; i++) JS_FreeAtom(c, codes[i]);
    codes_count = 0;
    for (uint32_t i = 0; i < batch.count; i++)
        if (cells[i].slot) js_free_string(JS_GetRuntime(c), cells[i].slot);
    return is_well ? JS_UNDEFINED : JS_EXCEPTION;
}
