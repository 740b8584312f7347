/* Judges by JavaScript: QuickJS, and what lies between it and the contract.
 *
 * One core module for two uses. Of scripts it exports a rule and an enricher, and the text comes with the configuration; a plugin
 * that was built is the same module with one of the two, and the text in its data (`sluice_script`). What a plugin is made of in
 * JavaScript stands in engine.js and in the SDK, which are compiled in here; this file starts them, columns.h makes rows of
 * columns, answers.h makes the contract's answers of objects. It has no clock, no files and no event loop.
 *
 * QuickJS is included as a source: rows are set through its own structures, since its interface costs ten times that.
 */
#include "quickjs.c"

#define SL_LIBRARY
#include "sluice.h"

/* Stack that JavaScript may use of the module's own. It is less than the host's grants for the frames that go with it, so that
 * endless recursion is an error which JavaScript can catch, and not the end of the instance. */
#define STACK (160 << 10)

static JSContext *ctx;
static sl_found found;
static struct {
    uint32_t rows, count;
    const sl_buffers *columns;
} batch;
static JSValue configure_function, call_function;

/* Where `sluice build` says that it has put a plugin's text, which ends with a zero. */
__attribute__((used, visibility("default"))) struct {
    const char *text;
    uint32_t size;
} sluice_script;

#include "memory.h"

#include "answers.h"
#include "columns.h"

static const char engine_text[] = {
#embed "engine.js"
    , 0};
static const char sdk_text[] = {
#embed "sluice.js"
    , 0};

/* ---- what the JavaScript here may call, as the module "sluice:engine" */

static JSValue js_log(JSContext *c, SL_UNUSED JSValueConst self, SL_UNUSED int argc, JSValueConst *argv) {
    static const char *const levels[] = {"trace", "debug", "info", "warn", "error"};
    uint32_t level = 2;
    const char *name = JS_ToCString(c, argv[0]);
    if (!name) return JS_EXCEPTION;
    for (uint32_t i = 0; i < SL_COUNT(levels); i++)
        if (!strcmp(levels[i], name)) level = i;
    JS_FreeCString(c, name);
    sl_text text;
    if (!lower_text(argv[1], &text)) return JS_EXCEPTION;
    sl_host_log(level, text.data, text.size);
    return JS_UNDEFINED;
}

static void run_jobs(void) {
    JSContext *of;
    while (JS_ExecutePendingJob(JS_GetRuntime(ctx), &of) != 0) {}
}

/* runs a module, and answers its namespace */
static JSValue run_module(const char *text, size_t size, const char *name) {
    JSValue compiled = JS_Eval(ctx, text, size, name, JS_EVAL_TYPE_MODULE | JS_EVAL_FLAG_COMPILE_ONLY);
    if (JS_IsException(compiled)) return compiled;
    JSModuleDef *module = JS_VALUE_GET_PTR(compiled);
    JSValue promise = JS_EvalFunction(ctx, compiled);
    if (JS_IsException(promise)) return promise;
    run_jobs();
    JSPromiseStateEnum state = JS_PromiseState(ctx, promise);
    JSValue result = JS_PromiseResult(ctx, promise);
    JS_FreeValue(ctx, promise);
    if (state == JS_PROMISE_REJECTED) return JS_Throw(ctx, result);
    JS_FreeValue(ctx, result);
    if (state == JS_PROMISE_PENDING) return JS_ThrowPlainError(ctx, "the module waits for something that never comes");
    return JS_GetModuleNamespace(ctx, module);
}

/* the module that was built in; undefined where the text comes with the configuration */
static JSValue js_built(SL_UNUSED JSContext *c, SL_UNUSED JSValueConst self, SL_UNUSED int argc, SL_UNUSED JSValueConst *argv) {
    return sluice_script.size ? run_module(sluice_script.text, sluice_script.size, "<plugin>") : JS_UNDEFINED;
}

static JSValue js_position(SL_UNUSED JSContext *c, SL_UNUSED JSValueConst self, SL_UNUSED int argc, SL_UNUSED JSValueConst *argv) {
    return js_int32((int32_t)found.row);
}

static const JSCFunctionListEntry functions[] = {
    JS_CFUNC_DEF("log", 2, js_log),     JS_CFUNC_DEF("built", 0, js_built), JS_CFUNC_DEF("position", 0, js_position),
    JS_CFUNC_DEF("judge", 4, js_judge), JS_CFUNC_DEF("texts", 1, js_texts),
};

static int add_functions(JSContext *c, JSModuleDef *module) {
    return JS_SetModuleExportList(c, module, functions, SL_COUNT(functions));
}

/* ---- modules: the SDK, by whatever path; the functions above, for the SDK and for engine.js */

static bool is_sdk(const char *name) {
    const char *last = strrchr(name, '/');
    last = last ? last + 1 : name;
    return !strcmp(last, "sluice") || !strcmp(last, "sluice.js");
}

static char *normalize(JSContext *c, const char *base, const char *name, SL_UNUSED void *opaque) {
    if (is_sdk(name)) return js_strdup(c, "sluice");
    if (!strcmp(name, "sluice:engine") && (!strcmp(base, "sluice") || !strcmp(base, "engine"))) return js_strdup(c, name);
    JS_ThrowReferenceError(c, "there is no module \"%s\": a plugin imports \"sluice\", and esbuild puts all else into one file", name);
    return NULL;
}

static JSModuleDef *load(JSContext *c, const char *name, SL_UNUSED void *opaque) {
    if (strcmp(name, "sluice")) {
        JSModuleDef *module = JS_NewCModule(c, name, add_functions);
        if (module) JS_AddModuleExportList(c, module, functions, SL_COUNT(functions));
        return module;
    }
    JSValue compiled = JS_Eval(c, sdk_text, sizeof sdk_text - 1, name, JS_EVAL_TYPE_MODULE | JS_EVAL_FLAG_COMPILE_ONLY);
    if (JS_IsException(compiled)) return NULL;
    JSModuleDef *module = JS_VALUE_GET_PTR(compiled);
    JS_FreeValue(c, compiled);
    return module;
}

/* Starts QuickJS, once an instance. */
static bool start(void) {
    if (ctx) return !JS_IsUndefined(call_function);
    JSRuntime *runtime = JS_NewRuntime();
    if (!runtime || !(ctx = JS_NewContext(runtime))) sl_die();
    JS_SetMaxStackSize(runtime, STACK);
    JS_SetModuleLoaderFunc(runtime, normalize, load, NULL);
    configure_function = call_function = JS_UNDEFINED;
    JSValue engine = run_module(engine_text, sizeof engine_text - 1, "engine");
    if (JS_IsException(engine)) return false;
    configure_function = JS_GetPropertyStr(ctx, engine, "configure");
    call_function = JS_GetPropertyStr(ctx, engine, "call");
    JS_FreeValue(ctx, engine);
    return true;
}

/* ---- calls */

static sl_answer *configure(bool is_rule, const char *json, uint32_t size) {
    if (!start()) return failed();
    JS_UpdateStackTop(JS_GetRuntime(ctx));
    JSValue arguments[] = {JS_NewString(ctx, is_rule ? "rule" : "enricher"), JS_NewStringLen(ctx, json, size)};
    JSValue said = JS_Call(ctx, configure_function, JS_UNDEFINED, 2, vc(arguments));
    JS_FreeValue(ctx, arguments[0]);
    JS_FreeValue(ctx, arguments[1]);
    sl_answer *answer = JS_IsException(said) ? NULL : lower_description(said, is_rule);
    JS_FreeValue(ctx, said);
    run_jobs();
    return answer ? answer : failed();
}

static sl_answer *call(bool is_rule, uint32_t rows, const sl_buffers *columns, uint32_t count) {
    if (!start()) return failed();
    JS_UpdateStackTop(JS_GetRuntime(ctx));
    if (!sl_check(reads, reads_count, columns, count, rows))
        return sl_internal("the host passed columns in another shape than they were asked for");
    batch.rows = rows, batch.columns = columns, batch.count = count;
    found = (sl_found){0};
    JSValue said = JS_Call(ctx, call_function, JS_UNDEFINED, 0, NULL);
    sl_answer *answer = NULL;
    if (!JS_IsException(said)) answer = is_rule ? lower_found() : lower_added(said);
    JS_FreeValue(ctx, said);
    run_jobs();
    return answer ? answer : failed();
}

#define EXPORTS(kind, function, is_rule)                                                                                \
    SL_EXPORT("sluice:plugin/" kind "@" SL_CONTRACT "#configure")                                                      \
    sl_answer *configure_##function(const char *json, uint32_t size) { return configure(is_rule, json, size); }        \
    SL_EXPORT("cabi_post_sluice:plugin/" kind "@" SL_CONTRACT "#configure")                                            \
    void configured_##function(SL_UNUSED sl_answer *answer) { sl_release(); }                                          \
    SL_EXPORT("sluice:plugin/" kind "@" SL_CONTRACT "#" #function)                                                     \
    sl_answer *call_##function(uint32_t rows, const sl_buffers *columns, uint32_t count) {                             \
        return call(is_rule, rows, columns, count);                                                                    \
    }                                                                                                                  \
    SL_EXPORT("cabi_post_sluice:plugin/" kind "@" SL_CONTRACT "#" #function)                                           \
    void called_##function(SL_UNUSED sl_answer *answer) { sl_release(); }

EXPORTS("rule", check, true)
EXPORTS("enricher", enrich, false)
