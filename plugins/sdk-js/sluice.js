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
// The engine is QuickJS: the language is all there, but no console, TextDecoder, Intl or timers.

import host from "sluice:plugin/host@0.1.0";

/** Writes a line to the host's log; level is "debug", "info", "warn" or "error". */
export function log(message, level = "info") {
  host.log(level, String(message));
}

// Columns. Each of these makes the request for a column that a plugin reads, and names the type of one that it adds.

const column = (type, read) => {
  const make = (path, { optional = false } = {}) => ({ path, type, read, required: !optional });
  return Object.assign(make, { type });
};

/** true or false */
export const bool = column("boolean", (c) => {
  const bits = c.val.data;
  return (row) => ((bits[row >> 3] >> (row & 7)) & 1) === 1;
});
/** a whole number; beyond 2^53 its last digits are lost */
export const int = column("int64", (c, rows) => {
  const words = new DataView(aligned(c.val.data, rows * 8));
  return (row) => words.getInt32(row * 8 + 4, true) * 4294967296 + words.getUint32(row * 8, true);
});
/** a number */
export const float = column("float64", (c, rows) => {
  const words = new DataView(aligned(c.val.data, rows * 8));
  return (row) => words.getFloat64(row * 8, true);
});
/** text */
export const text = column("utf8", texts);
/** bytes, as a Uint8Array */
export const bytes = column("binary", (c, rows) => {
  const offsets = new Int32Array(aligned(c.val.offsets, rows * 4 + 4));
  return (row) => c.val.data.slice(offsets[row], offsets[row + 1]);
});
/** a day, as a Date at midnight UTC */
export const date = column("date32", (c, rows) => {
  const days = new Int32Array(aligned(c.val.data, rows * 4));
  return (row) => new Date(days[row] * 86400000);
});
/** an instant, as a Date: milliseconds, what is finer is lost */
export const time = column("timestamp-us", (c, rows) => {
  const micros = int("").read(c, rows);
  return (row) => new Date(Math.floor(micros(row) / 1000));
});
/** a struct, list or map, as parsed JSON */
export const json = column("json", (c, rows) => {
  const text = texts(c, rows);
  return (row) => JSON.parse(text(row));
});
/** decimal(path): a decimal number, as text. decimal(precision, scale): the type of an added one */
export function decimal(path, scale) {
  if (typeof path === "number") return { type: "decimal", precision: path, scale };
  return column("decimal", decimals)(path, scale);
}

/** A code whose rows go on, and carry the finding. */
export const warn = (help, reads) => ({ help, reads, severity: "warn" });
/** A code whose rows go to the error table; `reads` names the columns that are shown beside it, by default all. */
export const error = (help, reads) => ({ help, reads, severity: "error" });

/** A rule: `check(row, settings, found)` judges one row, and calls `found(code)` or `found(code, detail)`. */
export function defineRule({ name, version, reads, codes, settings: make, check }) {
  const plugin = prepare(reads, make);
  const names = Object.keys(reads);
  const index = new Map(Object.keys(codes).map((code, at) => [code, at]));
  let findings;
  const found = (code, detail) => {
    const at = index.get(code);
    if (at === undefined) throw new Error(`\`${code}\` is not among the rule's codes`);
    findings.push({ row: plugin.at, code: at, column: null, detail: detail === undefined ? null : String(detail) });
  };
  return {
    configure(config) {
      plugin.configure(config);
      const infos = Object.entries(codes).map(([code, says]) => {
        const { help, severity = "error", reads: shown = names } = typeof says === "string" ? { help: says } : says;
        return { code, severity, help, reads: shown.map((one) => names.indexOf(one)) };
      });
      return { name, version, columns: plugin.requests, codes: infos, instances: "reused" };
    },
    check(batch) {
      findings = [];
      plugin.each(batch, check, found);
      return findings;
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
      return { name, version, columns: plugin.requests, produces, oneToMany: many, instances: "reused" };
    },
    enrich(batch) {
      const answers = [];
      const rows = many ? [] : null;
      plugin.each(batch, (row, settings) => {
        const answer = add(row, settings);
        for (const one of many ? answer : [answer]) {
          const unknown = one && Object.keys(one).find((column) => !(column in adds));
          if (unknown) throw new Error(`the answer has \`${unknown}\`, which \`adds\` does not name`);
          answers.push(one ?? {});
          rows?.push(plugin.at);
        }
      });
      const columns = guarded(plugin, () =>
        Object.entries(adds).map(([column, ty]) => write(answers.map((one) => one[column] ?? null), ty)));
      return { rows, columns };
    },
  };
}

// What happens in a call.

function prepare(reads, make = (config) => config) {
  const entries = Object.entries(reads);
  const plugin = {
    at: 0,
    settings: undefined,
    requests: entries.map(([, { path, type, required }]) => ({ path, ty: type, required })),
    configure(config) {
      try {
        plugin.settings = make(JSON.parse(config));
      } catch (problem) {
        throw { tag: "config", val: String(problem?.message ?? problem) };
      }
    },
    each(batch, judge, found) {
      guarded(plugin, () => {
        const columns = entries.map(([, { read }], at) => open(batch.columns[at], batch.rows, read));
        const shape = columns.map(([kind]) => kind).join();
        if (!loops.has(shape)) loops.set(shape, loop(names, columns));
        loops.get(shape)(batch.rows, columns.map(([, , ...used]) => used), row, plugin, judge, plugin.settings, found);
      });
    },
  };
  const names = entries.map(([name]) => name);
  const row = Object.fromEntries(names.map((name) => [name, null]));
  const loops = new Map();
  return plugin;
}

/** The loop over rows, written out for columns of these kinds: a loop over their names would cost ten times that. */
function loop(names, columns) {
  const used = columns.map((_, n) => `[a${n}, b${n}, n${n}]`).join(", ");
  const begins = columns.map((_, n) => `let s${n} = 0;`).join(" ");
  const fields = columns.map(([, code], n) => `row[${JSON.stringify(names[n])}] = ${code(n)};`).join(" ");
  return new Function("rows", "used", "row", "plugin", "judge", "settings", "found",
    `const [${used}] = used; ${begins} for (let i = 0; i < rows; i++) { plugin.at = i; ${fields} judge(row, settings, found); }`);
}

function guarded(plugin, work) {
  try {
    return work();
  } catch (problem) {
    if (problem?.tag) throw problem;
    const text = `${problem?.name ?? "Error"}: ${problem?.message ?? problem}`;
    throw { tag: "internal", val: `${text}${place(problem?.stack)} (row ${plugin.at} of the call)`, problem, row: plugin.at };
  }
}

/** The function in which it happened. */
function place(stack = "") {
  const frame = stack.split("\n").find((line) => line.trim() && !line.includes("(native)")) ?? "";
  const name = /at ([\w.$]+)/.exec(frame)?.[1];
  return name ? ` in ${name}` : "";
}

// Columns, in Arrow's layout.

/** What the loop over rows does for a column: how its code names it, that code, and the two things that the code uses. */
function open(column, rows, read) {
  if (column.tag === "absent") return ["absent", () => "null", null, null, null];
  const bits = (column.val.values ?? column.val).validity;
  const value = read(column, rows);
  const kind = value.slices ? "text" : "any";
  // a text begins where the last one ended
  const code = value.slices ? (n) => `a${n}.slice(s${n}, s${n} = b${n}[i + 1])` : (n) => `a${n}(i)`;
  const skip = value.slices ? (n) => `(s${n} = b${n}[i + 1], null)` : () => "null";
  const [a, b] = value.slices ?? [value, null];
  if (bits.length === 0) return [kind, code, a, b, null];
  // what stands in a null's place is unspecified, and need not be a value at all
  return [`${kind}?`, (n) => `(n${n}[i >> 3] >> (i & 7)) & 1 ? ${code(n)} : ${skip(n)}`, a, b, bits];
}

/** The buffer of a Uint8Array that begins at its start, so that wider arrays can be laid over it. */
function aligned(data, bytes) {
  if (data.length < bytes) throw new Error(`the host passed ${data.length} bytes where ${bytes} were due`);
  return data.byteOffset === 0 ? data.buffer : data.slice().buffer;
}

/** Bytes as text of one character each, a whole column at once: the engine has no decoder, and a loop here is slow. */
const latin1 = (data) => atob(data.toBase64());

/** Whether all bytes are ASCII: words of four, from eight places at once, since each operation of an interpreter counts. */
function isAscii(data) {
  const words = data.length >> 5;
  const buffer = aligned(data, 0);
  const [a, b, c, d, e, f, g, h] = Array.from({ length: 8 }, (_, n) => new Int32Array(buffer, n * words * 4, words));
  let bits = 0;
  for (let i = 0; i < words; i++) bits |= a[i] | b[i] | c[i] | d[i] | e[i] | f[i] | g[i] | h[i];
  for (let i = words * 32; i < data.length; i++) bits |= data[i];
  return (bits & 0x80808080) === 0;
}

/** How a text is read. Where all of them are ASCII, it says so: `slices` has them end to end, and where each begins. */
function texts(column, rows) {
  const offsets = new Int32Array(aligned(column.val.offsets, rows * 4 + 4));
  const text = latin1(column.val.data);
  const slice = (row) => text.slice(offsets[row], offsets[row + 1]);
  if (isAscii(column.val.data)) return Object.assign(slice, { slices: [text, offsets] });
  return (row) => decodeURIComponent(escape(slice(row)));
}

function decimals(column) {
  const { scale, values } = column.val;
  return (row) => {
    let number = 0n;
    for (let at = 15; at >= 0; at--) number = (number << 8n) | BigInt(values.data[row * 16 + at]);
    number = BigInt.asIntN(128, number);
    const digits = String(number < 0n ? -number : number);
    const sign = number < 0n ? "-" : "";
    if (scale <= 0) return number === 0n ? "0" : sign + digits + "0".repeat(-scale);
    const padded = digits.padStart(scale + 1, "0");
    return `${sign}${padded.slice(0, -scale)}.${padded.slice(-scale)}`;
  };
}

function bitmap(flags) {
  const out = new Uint8Array((flags.length + 7) >> 3);
  flags.forEach((flag, at) => {
    if (flag) out[at >> 3] |= 1 << (at & 7);
  });
  return out;
}

function write(values, { type, precision, scale }) {
  const validity = values.includes(null) ? bitmap(values.map((value) => value !== null)) : new Uint8Array(0);
  const fixed = (width, put) => {
    const data = new Uint8Array(values.length * width);
    const view = new DataView(data.buffer);
    values.forEach((value, at) => value !== null && put(view, at * width, value));
    return { data, validity };
  };
  const varlen = (bytesOf) => {
    const pieces = values.map((value) => (value === null ? "" : bytesOf(value)));
    const offsets = new Int32Array(values.length + 1);
    pieces.forEach((piece, at) => (offsets[at + 1] = offsets[at] + piece.length));
    const data = new Uint8Array(offsets[values.length]);
    pieces.forEach((piece, at) => {
      for (let i = 0; i < piece.length; i++) data[offsets[at] + i] = typeof piece === "string" ? piece.charCodeAt(i) : piece[i];
    });
    return { offsets: new Uint8Array(offsets.buffer), data, validity };
  };
  const utf8 = (value) => unescape(encodeURIComponent(value));
  const writers = {
    boolean: () => ({ data: bitmap(values), validity }),
    int64: () => fixed(8, (view, at, value) => view.setBigInt64(at, BigInt(value), true)),
    float64: () => fixed(8, (view, at, value) => view.setFloat64(at, expect(value, "number"), true)),
    utf8: () => varlen((value) => utf8(expect(value, "string"))),
    binary: () => varlen((value) => value),
    json: () => varlen((value) => utf8(JSON.stringify(value))),
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
