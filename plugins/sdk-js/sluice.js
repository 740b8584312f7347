// Write a Sluice rule or enricher as a plain function over one row.
//
//   import { defineRule, bool, text } from "./sluice/sluice.js";
//
//   export const rule = defineRule({
//     name: "consent", version: "1.2.0",
//     reads: { private: bool("keep_private"), login: text("context.user.login") },
//     codes: { "login-exposed": "a private visit carries a login" },
//     check(row, settings, found) {
//       if (row.private && row.login !== null && !settings.allow?.includes(row.login)) found("login-exposed");
//     },
//   });
//
// A null is null, and never "". `row` is one object whose fields change from row to row: keep its values, not the row. A verdict
// depends on the row and the settings alone; there is no clock, no randomness, no file and no network. What a function throws
// costs the row it was given: a dead letter that says why.
//
// The engine is QuickJS: the language is all there, but no TextDecoder, Intl or timers. It brings this module with it: what lies in
// a plugin's folder is to be read, and for editors.

import { judge, log as write, position, texts } from "sluice:engine";

/** Writes a line to the host's log; level is "debug", "info", "warn" or "error". */
export function log(message, level = "info") {
  write(level, String(message));
}

// Columns. Each of these makes the request for a column that a plugin reads, and names the type of one that it adds.

const column = (type) => {
  const make = (path, { optional = false } = {}) => ({ path, type, required: !optional });
  return Object.assign(make, { type });
};

/** true or false */
export const bool = column("boolean");
/** a whole number; beyond 2^53 its last digits are lost */
export const int = column("int64");
/** a number */
export const float = column("float64");
/** text */
export const text = column("utf8");
/** bytes, as a Uint8Array */
export const bytes = column("binary");
/** a day, as a Date at midnight UTC */
export const date = column("date32");
/** an instant, as a Date: milliseconds, what is finer is lost */
export const time = column("timestamp-us");
/** a struct, list or map, as parsed JSON */
export const json = column("json");
/** decimal(path): a decimal number, as text. decimal(precision, scale): the type of an added one */
export function decimal(path, scale) {
  if (typeof path === "number") return { type: "decimal", precision: path, scale };
  return column("decimal")(path, scale);
}

/** A code whose rows go on, and carry the finding. */
export const warn = (help, reads) => ({ help, reads, severity: "warn" });
/** A code whose rows go to the error table; `reads` names the columns that are shown beside it, by default all. */
export const error = (help, reads) => ({ help, reads, severity: "error" });

/** A rule: `check(row, settings, found)` judges one row, and calls `found(code)` or `found(code, detail)`. */
export function defineRule({ name, version, reads, codes, settings: make, check }) {
  const plugin = prepare(reads, make);
  const all = Object.keys(codes);
  return {
    configure(config) {
      plugin.configure(config);
      const infos = Object.entries(codes).map(([code, says]) => {
        const { help, severity = "error", reads: shown = plugin.names } = typeof says === "string" ? { help: says } : says;
        return { code, severity, help, reads: shown.map((one) => plugin.names.indexOf(one)) };
      });
      return { name, version, columns: plugin.requests, codes: infos };
    },
    check() {
      guarded(() => judge(plugin.names, check, plugin.settings, all));
    },
  };
}

/** An enricher: `add(row, settings)` answers an object with the added columns of one row (a missing one is null), or with
 *  `many: true` an array of such objects, at least one. */
export function defineEnricher({ name, version, reads, adds, many = false, settings: make, add }) {
  const plugin = prepare(reads, make);
  return {
    configure(config) {
      plugin.configure(config);
      const produces = Object.entries(adds).map(([column, ty]) => {
        return { name: column, ty: ty.type, precision: ty.precision ?? 0, scale: ty.scale ?? 0 };
      });
      return { name, version, columns: plugin.requests, produces, oneToMany: many };
    },
    enrich() {
      const answers = [];
      const rows = many ? [] : null;
      const collect = (row, settings) => {
        const answer = add(row, settings);
        for (const one of many ? answer : [answer]) {
          const unknown = one && Object.keys(one).find((column) => !(column in adds));
          if (unknown) throw new Error(`the answer has \`${unknown}\`, which \`adds\` does not name`);
          answers.push(one ?? {});
          rows?.push(position());
        }
      };
      return guarded(() => {
        judge(plugin.names, collect, plugin.settings);
        return { rows, columns: Object.entries(adds).map(([column, ty]) => added(answers.map((one) => one[column] ?? null), ty)) };
      });
    },
  };
}

// What happens in a call. The loop over rows, which makes them of columns, is the engine's.

function prepare(reads, make = (config) => config) {
  const plugin = {
    names: Object.keys(reads),
    settings: undefined,
    requests: Object.values(reads).map(({ path, type, required }) => ({ path, ty: type, required })),
    configure(config) {
      try {
        plugin.settings = make(JSON.parse(config));
      } catch (problem) {
        throw { tag: "config", val: String(problem?.message ?? problem) };
      }
    },
  };
  return plugin;
}

function guarded(work) {
  try {
    return work();
  } catch (problem) {
    if (problem?.tag) throw problem;
    const text = `${problem?.name ?? "Error"}: ${problem?.message ?? problem}`;
    const row = position();
    throw { tag: "internal", val: `${text}${place(problem?.stack)} (row ${row} of the call)`, problem, row };
  }
}

/** The function in which it happened. */
function place(stack = "") {
  const frame = stack.split("\n").find((line) => line.trim() && !line.includes("(native)")) ?? "";
  const name = /at ([\w.$]+)/.exec(frame)?.[1];
  return name ? ` in ${name}` : "";
}

// Added columns, in Arrow's layout.

function bitmap(flags) {
  const out = new Uint8Array((flags.length + 7) >> 3);
  flags.forEach((flag, at) => {
    if (flag) out[at >> 3] |= 1 << (at & 7);
  });
  return out;
}

function added(values, { type, precision, scale }) {
  const validity = values.includes(null) ? bitmap(values.map((value) => value !== null)) : new Uint8Array(0);
  const fixed = (width, put) => {
    const data = new Uint8Array(values.length * width);
    const view = new DataView(data.buffer);
    values.forEach((value, at) => value !== null && put(view, at * width, value));
    return { data, validity };
  };
  const utf8 = (values) => ({ ...texts(values), validity });
  const binary = () => {
    const offsets = new Int32Array(values.length + 1);
    values.forEach((value, at) => (offsets[at + 1] = offsets[at] + (value?.length ?? 0)));
    const data = new Uint8Array(offsets[values.length]);
    values.forEach((value, at) => value && data.set(value, offsets[at]));
    return { offsets: new Uint8Array(offsets.buffer), data, validity };
  };
  const writers = {
    boolean: () => ({ data: bitmap(values), validity }),
    int64: () => fixed(8, (view, at, value) => view.setBigInt64(at, BigInt(value), true)),
    float64: () => fixed(8, (view, at, value) => view.setFloat64(at, expect(value, "number"), true)),
    utf8: () => utf8(values.map((value) => (value === null ? null : expect(value, "string")))),
    binary,
    json: () => utf8(values.map((value) => (value === null ? null : JSON.stringify(value)))),
    date32: () => fixed(4, (view, at, value) => view.setInt32(at, Math.floor(value.getTime() / 86400000), true)),
    "timestamp-us": () => fixed(8, (view, at, value) => view.setBigInt64(at, BigInt(value.getTime()) * 1000n, true)),
    decimal: () => ({
      precision,
      scale,
      values: fixed(16, (view, at, value) => {
        const number = unscaled(String(value), scale);
        view.setBigUint64(at, BigInt.asUintN(64, number), true);
        view.setBigInt64(at + 8, number >> 64n, true);
      }),
    }),
  };
  return { tag: type, val: writers[type]() };
}

function expect(value, type) {
  if (typeof value !== type) throw new TypeError(`an added ${type} is ${JSON.stringify(value)}`);
  return value;
}

function unscaled(value, scale) {
  const parts = /^(-?\d+)(?:\.(\d*))?$/.exec(value);
  if (!parts || (parts[2] ?? "").length > scale) throw new TypeError(`${value} is no decimal with ${scale} digits behind the point`);
  return BigInt(parts[1] + (parts[2] ?? "").padEnd(scale, "0"));
}
