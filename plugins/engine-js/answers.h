/* Objects → the contract's answers. What is wrong with them is an exception, and the function answers false or NULL. */

/* The columns that the plugin has asked for. */
static sl_column *reads;
static uint32_t reads_count;

static JSValue field(JSValueConst of, const char *name) { return JS_GetPropertyStr(ctx, of, name); }

/* As UTF-8, with U+FFFD for halves of characters: a text of the contract has none. It is of this call. */
static bool lower_text(JSValueConst value, sl_text *to) {
    size_t size;
    const char *text = JS_ToCStringLen(ctx, &size, value);
    if (!text) return false;
    uint8_t *copy = sl_take((uint32_t)size, 8);
    memcpy(copy, text, size);
    JS_FreeCString(ctx, text);
    for (size_t i = 0; i + 2 < size; i++)
        if (copy[i] == 0xed && copy[i + 1] >= 0xa0) copy[i] = 0xef, copy[i + 1] = 0xbf, copy[i + 2] = 0xbd;
    *to = (sl_text){(const char *)copy, (uint32_t)size};
    return true;
}

static bool text_field(JSValueConst of, const char *name, sl_text *to) {
    JSValue value = field(of, name);
    bool is_well = JS_IsString(value) && lower_text(value, to);
    if (!JS_IsException(value) && !JS_IsString(value)) JS_ThrowTypeError(ctx, "`%s` must be a text", name);
    JS_FreeValue(ctx, value);
    return is_well;
}

static int32_t number_field(JSValueConst of, const char *name) {
    JSValue value = field(of, name);
    int32_t number = 0;
    JS_ToInt32(ctx, &number, value);
    JS_FreeValue(ctx, value);
    return number;
}

static bool flag_field(JSValueConst of, const char *name) {
    JSValue value = field(of, name);
    bool is_set = JS_ToBool(ctx, value) > 0;
    JS_FreeValue(ctx, value);
    return is_set;
}

/* How many elements a list has; −1 where it is none. */
static int64_t length_of(JSValueConst list, const char *name) {
    int64_t length = -1;
    if (!JS_IsArray(list))
        JS_ThrowTypeError(ctx, "`%s` must be a list", name);
    else if (JS_GetLength(ctx, list, &length) < 0)
        length = -1;
    return length;
}

static int type_of(const char *name) {
    static const char *const types[] = {"boolean", "int32",        "int64",   "float64", "date32",
                                        "timestamp-us", "decimal", "utf8",    "binary",  "json"};
    for (int i = 0; i < (int)SL_COUNT(types); i++)
        if (!strcmp(types[i], name)) return i;
    JS_ThrowTypeError(ctx, "`%s` is no type of a column", name);
    return -1;
}

static int type_field(JSValueConst of, const char *name) {
    JSValue value = field(of, name);
    const char *text = JS_ToCString(ctx, value);
    int type = text ? type_of(text) : -1;
    JS_FreeCString(ctx, text);
    JS_FreeValue(ctx, value);
    return type;
}

/* Calls one(element, to) with each element of the list of that name, and where its lowered form belongs. */
static bool lower_list(JSValueConst of, const char *name, uint32_t size, bool (*one)(JSValueConst, void *), const void **to, uint32_t *count) {
    JSValue list = field(of, name);
    int64_t length = length_of(list, name);
    uint8_t *all = length < 0 ? NULL : sl_take((uint32_t)length * size, 8);
    for (int64_t i = 0; i < length; i++) {
        JSValue element = JS_GetPropertyInt64(ctx, list, i);
        bool is_well = !JS_IsException(element) && one(element, all + i * size);
        JS_FreeValue(ctx, element);
        if (!is_well) length = -1;
    }
    JS_FreeValue(ctx, list);
    *to = all, *count = length < 0 ? 0 : (uint32_t)length;
    return length >= 0;
}

static bool lower_request(JSValueConst of, void *to) {
    sl_request request = {.required = flag_field(of, "required")};
    int type = type_field(of, "ty");
    if (type < 0 || !text_field(of, "path", &request.path)) return false;
    request.type = (uint8_t)type;
    *(sl_request *)to = request;
    return true;
}

static bool lower_index(JSValueConst of, void *to) {
    int32_t number;
    if (JS_ToInt32(ctx, &number, of)) return false;
    *(uint16_t *)to = (uint16_t)number;
    return true;
}

static bool lower_row(JSValueConst of, void *to) { return JS_ToUint32(ctx, to, of) == 0; }

static bool lower_code(JSValueConst of, void *to) {
    sl_code_info info = {0};
    sl_text severity;
    const void *all;
    if (!text_field(of, "code", &info.code) || !text_field(of, "help", &info.help) || !text_field(of, "severity", &severity))
        return false;
    info.severity = sl_equals(severity, "warn") ? SL_WARN : SL_ERROR;
    if (!lower_list(of, "reads", sizeof(uint16_t), lower_index, &all, &info.reads_count)) return false;
    info.reads = all;
    *(sl_code_info *)to = info;
    return true;
}

static bool lower_info(JSValueConst of, void *to) {
    sl_column_info info = {.precision = (uint8_t)number_field(of, "precision"), .scale = (int8_t)number_field(of, "scale")};
    int type = type_field(of, "ty");
    if (type < 0 || !text_field(of, "name", &info.name)) return false;
    info.type = (uint8_t)type;
    *(sl_column_info *)to = info;
    return true;
}

/* What a plugin says that it is; what it reads is kept here, too. */
static sl_answer *lower_description(JSValueConst said, bool is_rule) {
    sl_answer *answer = sl_take(sizeof *answer, 8);
    *answer = (sl_answer){.said = {.flags = {is_rule ? 1 : flag_field(said, "oneToMany"), 1}}};
    const void *requests;
    if (!text_field(said, "name", &answer->said.name) || !text_field(said, "version", &answer->said.version) ||
        !lower_list(said, "columns", sizeof(sl_request), lower_request, &requests, &answer->said.columns_count))
        return NULL;
    answer->said.columns = requests;
    bool is_well = is_rule ? lower_list(said, "codes", sizeof(sl_code_info), lower_code, &answer->said.second, &answer->said.second_count)
                           : lower_list(said, "produces", sizeof(sl_column_info), lower_info, &answer->said.second, &answer->said.second_count);
    if (!is_well) return NULL;
    reads_count = answer->said.columns_count;
    reads = realloc(reads, reads_count * sizeof *reads + 1);
    if (!reads) sl_die();
    for (uint32_t i = 0; i < reads_count; i++) reads[i] = (sl_column){.type = (sl_type)answer->said.columns[i].type};
    return answer;
}

static sl_answer *lower_found(void) {
    sl_answer *answer = sl_take(sizeof *answer, 8);
    *answer = (sl_answer){.found = {found.findings, found.count}};
    return answer;
}

/* A copy of the Uint8Array of that name. */
static bool bytes_field(JSValueConst of, const char *name, const uint8_t **data, uint32_t *count) {
    JSValue value = field(of, name);
    size_t size = 0;
    const uint8_t *from = JS_GetUint8Array(ctx, &size, value);
    if (from || !JS_HasException(ctx)) {
        uint8_t *copy = sl_take((uint32_t)size, 8);
        if (size) memcpy(copy, from, size);
        *data = copy, *count = (uint32_t)size;
    }
    JS_FreeValue(ctx, value);
    return !JS_HasException(ctx);
}

static bool lower_column(JSValueConst of, void *to) {
    sl_buffers column = {0};
    int type = type_field(of, "tag");
    if (type < 0) return false;
    column.type = (uint8_t)(type + 1);
    JSValue parts = field(of, "val");
    bool is_well;
    if (type > SL_DECIMAL) {
        is_well = bytes_field(parts, "offsets", &column.varlen.offsets, &column.varlen.offsets_size) &&
                  bytes_field(parts, "data", &column.varlen.data, &column.varlen.size) &&
                  bytes_field(parts, "validity", &column.varlen.validity, &column.varlen.validity_size);
    } else if (type == SL_DECIMAL) {
        column.decimal.precision = (uint8_t)number_field(parts, "precision");
        column.decimal.scale = (int8_t)number_field(parts, "scale");
        JSValue values = field(parts, "values");
        is_well = bytes_field(values, "data", &column.decimal.data, &column.decimal.size) &&
                  bytes_field(values, "validity", &column.decimal.validity, &column.decimal.validity_size);
        JS_FreeValue(ctx, values);
    } else {
        is_well = bytes_field(parts, "data", &column.fixed.data, &column.fixed.size) &&
                  bytes_field(parts, "validity", &column.fixed.validity, &column.fixed.validity_size);
    }
    JS_FreeValue(ctx, parts);
    *(sl_buffers *)to = column;
    return is_well;
}

static sl_answer *lower_added(JSValueConst said) {
    sl_answer *answer = sl_take(sizeof *answer, 8);
    *answer = (sl_answer){0};
    const void *all;
    if (flag_field(said, "rows")) {
        answer->added.has_rows = 1;
        if (!lower_list(said, "rows", sizeof(uint32_t), lower_row, &all, &answer->added.rows_count)) return NULL;
        answer->added.rows = all;
    }
    if (!lower_list(said, "columns", sizeof(sl_buffers), lower_column, &all, &answer->added.columns_count)) return NULL;
    answer->added.columns = all;
    return answer;
}

/* texts(values) → { offsets, data }: texts end to end, nothing of a null */
static JSValue js_texts(JSContext *c, SL_UNUSED JSValueConst self, SL_UNUSED int argc, JSValueConst *argv) {
    int64_t length = length_of(argv[0], "texts");
    if (length < 0) return JS_EXCEPTION;
    sl_text *texts = sl_take((uint32_t)length * sizeof *texts, 8);
    uint32_t *offsets = sl_take(4 * (uint32_t)(length + 1), 8);
    offsets[0] = 0;
    for (int64_t i = 0; i < length; i++) {
        JSValue value = JS_GetPropertyInt64(c, argv[0], i);
        texts[i] = (sl_text){0, 0};
        bool is_well = JS_IsNull(value) || lower_text(value, &texts[i]);
        JS_FreeValue(c, value);
        if (!is_well) return JS_EXCEPTION;
        offsets[i + 1] = offsets[i] + texts[i].size;
    }
    uint8_t *data = sl_take(offsets[length], 8);
    for (int64_t i = 0; i < length; i++)
        if (texts[i].size) memcpy(data + offsets[i], texts[i].data, texts[i].size);
    JSValue made = JS_NewObject(c);
    JS_DefinePropertyValueStr(c, made, "offsets", JS_NewUint8ArrayCopy(c, (uint8_t *)offsets, 4 * (size_t)(length + 1)), JS_PROP_C_W_E);
    JS_DefinePropertyValueStr(c, made, "data", JS_NewUint8ArrayCopy(c, data, offsets[length]), JS_PROP_C_W_E);
    return made;
}

/* The exception at hand as a plugin-error: { tag, val }, or whatever was thrown. */
static sl_answer *failed(void) {
    JSValue problem = JS_GetException(ctx);
    sl_answer *answer = sl_take(sizeof *answer, 8);
    *answer = (sl_answer){.failed = 1, .error = {1, {0, 0}}};
    sl_text tag;
    if (JS_IsObject(problem) && text_field(problem, "tag", &tag) && text_field(problem, "val", &answer->error.text)) {
        answer->error.kind = !sl_equals(tag, "config");
    } else {
        JS_FreeValue(ctx, JS_GetException(ctx));
        if (!lower_text(problem, &answer->error.text)) {
            JS_FreeValue(ctx, JS_GetException(ctx));
            answer->error.text = sl_text_of("it failed, and cannot say why");
        }
    }
    JS_FreeValue(ctx, problem);
    return answer;
}
