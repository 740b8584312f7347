// What the engine does in JavaScript: it finds the rule or enricher, whose text was built in or comes with the configuration as
// { "script": text, "file": name, "config": settings }; takes clock and randomness away; and says where a script is wrong.
//
// A script is a module as `sluice new --lang javascript` writes it, but it imports from "sluice" alone and exports one thing.
// Every character keeps its line and column, so that what is wrong is said with its place in the file.

import { built, log } from "sluice:engine";
import * as sluice from "sluice";

/** The line on which the text begins, as the engine numbers it: a function's head and "use strict" come first. */
const FIRST = 4;

/** What a plugin may do in vain, and how it is told. */
const none = (what) => () => {
  throw new Error(`a verdict depends on its row alone: there is no ${what}`);
};
const clock = none("clock");
Math.random = none("randomness");
delete globalThis.performance;
const ClocklessDate = new Proxy(Object.assign(Date, { now: clock }), {
  apply: clock,
  construct: (target, args, self) => (args.length === 0 ? clock() : Reflect.construct(target, args, self)),
});
Date.prototype.constructor = ClocklessDate;
globalThis.Date = ClocklessDate;

const shown = (value) => {
  if (typeof value === "string" || value instanceof Error) return String(value);
  return JSON.stringify(value, (_, inner) => (typeof inner === "bigint" ? String(inner) : inner)) ?? String(value);
};
const logger = (level) => (...values) => log(level, values.map(shown).join(" "));
globalThis.console = {
  debug: logger("debug"),
  info: logger("info"),
  log: logger("info"),
  warn: logger("warn"),
  error: logger("error"),
};

/** A mistake in the text, at a character of it. */
class Mistake extends Error {
  constructor(text, at, message) {
    super(message);
    const before = text.slice(0, at).split("\n");
    this.place = `${before.length}:${before.at(-1).length + 1}`;
  }
}

/** The plugin that the text defines, `rule` or `enricher`. */
function load(text, kind) {
  const imported = new Map();
  const body = withoutExport(withoutImports(text, imported), kind);
  const make = new Function(...imported.keys(), `"use strict";\n${body.text}\nreturn ${body.name};`);
  const plugin = make(...imported.values());
  if (typeof plugin?.configure !== "function") {
    throw new Mistake(text, body.at, `what a script exports is made by define${upper(kind)}({ … })`);
  }
  return plugin;
}

const upper = (kind) => kind[0].toUpperCase() + kind.slice(1);

/** Blanks what must not be there, and keeps every line and column. */
const blank = (text) => text.replace(/[^\n]/g, " ");

/** Takes away the imports, which come first, and adds what they import. */
function withoutImports(text, imported) {
  const gap = /(?:\s|\/\/[^\n]*|\/\*[^]*?\*\/)*/y;
  const statement = /import\s*(?:\{([^{}]*)\}|\*\s*as\s+([\w$]+))\s*from\s*(["'])([^"'\n]*)\3[ \t]*;?/y;
  let at = 0;
  let out = "";
  for (;;) {
    gap.lastIndex = at;
    const start = at + gap.exec(text)[0].length;
    if (!/^import\b/.test(text.slice(start, start + 7))) return out + text.slice(at);
    statement.lastIndex = start;
    const [whole, names, all, , from] = statement.exec(text) ?? [];
    if (whole === undefined || !/^(.*\/)?sluice(\.js)?$/.test(from)) {
      throw new Mistake(text, start, 'a script imports { names } from "sluice", and nothing else');
    }
    if (all) imported.set(all, sluice);
    for (const one of (names ?? "").split(",").map((one) => one.trim()).filter(Boolean)) {
      const [, name, alias = name] = /^([\w$]+)(?:\s+as\s+([\w$]+))?$/.exec(one) ?? [null, one];
      if (!(name in sluice)) {
        throw new Mistake(text, text.indexOf(one, start), `"sluice" has no \`${name}\`, but ${Object.keys(sluice).join(", ")}`);
      }
      imported.set(alias, sluice[name]);
    }
    out += text.slice(at, start) + blank(whole);
    at = start + whole.length;
  }
}

/** Makes of the one thing that is exported a constant with a name. */
function withoutExport(text, kind) {
  const [first, second] = text.matchAll(/^[ \t]*export\b[^\n]*/gm);
  if (!first) throw new Mistake(text, 0, `a script exports its plugin: \`export const ${kind} = define${upper(kind)}({ … })\``);
  if (second) throw new Mistake(text, second.index, "a script exports one rule or enricher, and nothing else");
  const [, space, how, named] = /^([ \t]*)(export(?:\s+default\b|(?=\s+const\s+([\w$]+)\s*=)))/.exec(first[0]) ?? [];
  if (how === undefined || (named ?? kind) !== kind) {
    throw new Mistake(text, first.index, `a script for ${kind === "rule" ? "a rule" : "an enricher"} says \`export const ${kind} = …\``);
  }
  // as long as `export default`
  const replaced = named ? blank(how) : "const $plugin=".padEnd(how.length);
  const at = first.index + space.length;
  return { text: text.slice(0, at) + replaced + text.slice(at + how.length), name: named ?? "$plugin", at };
}

/** The place in the script where it was thrown, `line:column`. */
function place(problem) {
  const frames = [...String(problem?.stack ?? "").matchAll(/<input>:(\d+):(\d+)/g)];
  const own = frames.find(([, line]) => line >= FIRST);
  return own && `${own[1] - FIRST + 1}:${own[2]}`;
}

const said = (problem) => (problem?.name ? `${problem.name}: ${problem.message}` : String(problem?.message ?? problem));

/** What went wrong while the text was read. */
function misread(problem, file) {
  if (problem?.tag) return problem;
  const [where, what] = problem instanceof Mistake ? [problem.place, problem.message] : [place(problem) ?? "1:1", said(problem)];
  return { tag: "config", val: `${file}:${where}: ${what}` };
}

/** The plugin at hand, and the file of its script, where it has one. */
let plugin;
let file;

/** What the plugin says that it is: of that kind, by that configuration. */
export function configure(kind, json) {
  const module = built();
  if (module) {
    plugin = module[kind];
    if (typeof plugin?.configure !== "function") {
      throw { tag: "internal", val: `it exports no ${kind}: \`export const ${kind} = define${upper(kind)}({ … })\`` };
    }
    return plugin.configure(json);
  }
  const { script, config = {}, file: name = `${kind}.js` } = JSON.parse(json);
  if (typeof script !== "string") throw { tag: "config", val: "`script` is the text of a module" };
  file = name;
  try {
    plugin = load(script, kind);
    return plugin.configure(JSON.stringify(config));
  } catch (problem) {
    throw misread(problem, file);
  }
}

/** Judges or enriches the rows at hand. */
export function call() {
  try {
    return (plugin.check ?? plugin.enrich)();
  } catch (problem) {
    const where = file && place(problem?.problem);
    if (where) problem.val = `${file}:${where}: ${said(problem.problem)} (row ${problem.row} of the call)`;
    throw problem;
  }
}
