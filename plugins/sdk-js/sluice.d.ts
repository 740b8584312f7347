// Types of sluice.js, for TypeScript and for editors.

/** A column that a plugin reads, whose values are of type T. */
export interface Read<T> {
  readonly path: string;
  readonly value?: T;
}
/** The type of a column that an enricher adds. */
export interface Add<T> {
  readonly type: string;
  readonly value?: T;
}
interface Column<T> extends Add<T> {
  (path: string, options?: { optional?: boolean }): Read<T>;
}

export const bool: Column<boolean>;
export const int: Column<number>;
export const float: Column<number>;
export const text: Column<string>;
export const bytes: Column<Uint8Array>;
export const date: Column<Date>;
export const time: Column<Date>;
// deno-lint-ignore no-explicit-any
export const json: Column<any>;
export function decimal(path: string, options?: { optional?: boolean }): Read<string>;
export function decimal(precision: number, scale: number): Add<string>;

export type Level = "debug" | "info" | "warn" | "error";
export function log(message: unknown, level?: Level): void;

export interface Code<Name> {
  help: string;
  reads?: Name[];
  severity?: "error" | "warn";
}
export function warn<Name>(help: string, reads?: Name[]): Code<Name>;
export function error<Name>(help: string, reads?: Name[]): Code<Name>;

/** One row: a null is null, and never "". */
export type Row<Reads> = { readonly [Name in keyof Reads]: Reads[Name] extends Read<infer T> ? T | null : never };
export type Added<Adds> = { [Name in keyof Adds]?: Adds[Name] extends Add<infer T> ? T | null : never };

export function defineRule<Reads, Codes extends Record<string, string | Code<keyof Reads>>, Settings = Record<string, unknown>>(
  rule: {
    name: string;
    version: string;
    reads: Reads;
    codes: Codes;
    /** makes settings of the configuration; what it throws is shown to whoever wrote that */
    settings?: (config: Record<string, unknown>) => Settings;
    check(row: Row<Reads>, settings: Settings, found: (code: keyof Codes, detail?: string) => void): void;
  },
): unknown;

export function defineEnricher<Reads, Adds extends Record<string, Add<unknown>>, Settings = Record<string, unknown>>(
  enricher: {
    name: string;
    version: string;
    reads: Reads;
    adds: Adds;
    settings?: (config: Record<string, unknown>) => Settings;
  } & (
    | { many?: false; add(row: Row<Reads>, settings: Settings): Added<Adds> | null }
    | { many: true; add(row: Row<Reads>, settings: Settings): Added<Adds>[] }
  ),
): unknown;
