/**
 * The files that a configuration names beside itself: tables for `lookup`, JSON Schemas for `schema:`. Paths are
 * relative to the configuration.
 */
import { createHash } from "node:crypto";
import { dirname, extname, join, resolve } from "node:path";
import { parse } from "yaml";
import { messageOf } from "../errors.ts";
import type { SchemaFile } from "../mapping/json-schema.ts";
import { readTextFile } from "./text-file.ts";

const MAX_ROWS = 100_000;

/** Reads each file once. */
export class Attachments {
  /** All that was read, absolute. */
  readonly files = new Set<string>();
  private readonly folder: string;
  private readonly texts = new Map<string, string>();

  constructor(configFile: string) {
    this.folder = dirname(configFile);
  }

  /** Of what was read: part of the configuration's version. */
  get hash(): string {
    const hash = createHash("sha256");
    for (const text of this.texts.values()) hash.update(`${text.length}\n`).update(text);
    return this.texts.size === 0 ? "" : hash.digest("hex");
  }

  /** Of one file that was read. */
  versionOf(file: string): string {
    return createHash("sha256").update(this.read(file)).digest("hex").slice(0, 12);
  }

  /** Rows by their first column: the second as text, or all further ones as a map. Throws an Error in words. */
  table(file: string): ReadonlyMap<string, unknown> {
    const text = this.read(file);
    const rows = extname(file) === ".csv" ? tableOfCsv(text) : tableOfYaml(text);
    if (rows.size > MAX_ROWS) throw new Error(`has ${rows.size} rows, and ${MAX_ROWS} are the most`);
    return rows;
  }

  /** Throws an Error in words. */
  schema(file: string): SchemaFile {
    const text = this.read(file);
    try {
      return { file, document: extname(file) === ".json" ? JSON.parse(text) : parse(text) };
    } catch (error) {
      throw new Error(`cannot be read: ${messageOf(error).split("\n")[0]}`);
    }
  }

  private read(file: string): string {
    const path = resolve(this.folder, file);
    let text = this.texts.get(path);
    if (text === undefined) {
      try {
        text = readTextFile(path);
      } catch (error) {
        const isMissing = (error as NodeJS.ErrnoException).code === "ENOENT";
        throw new Error(isMissing ? `is not there: ${join(this.folder, file)}` : messageOf(error));
      }
      this.texts.set(path, text);
      this.files.add(path);
    }
    return text;
  }
}

function tableOfYaml(text: string): ReadonlyMap<string, unknown> {
  let value: unknown;
  try {
    value = parse(text, { maxAliasCount: 1_000 });
  } catch (error) {
    throw new Error(`cannot be read: ${messageOf(error).split("\n")[0]}`);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new Error("must be a map: one line for each key");
  }
  return new Map(Object.entries(value));
}

/** The first line names the columns, the first column is the key. */
function tableOfCsv(text: string): ReadonlyMap<string, unknown> {
  const [header, ...rows] = rowsOfCsv(text.replace(/^\uFEFF/, ""));
  if (header === undefined || header.length < 2) {
    throw new Error("needs a first line that names a key column and at least one more");
  }
  const table = new Map<string, unknown>();
  for (const [index, row] of rows.entries()) {
    if (row.length !== header.length) {
      throw new Error(`has ${row.length} columns in row ${index + 2}, and ${header.length} in its first`);
    }
    const [key = "", second = ""] = row;
    if (table.has(key)) throw new Error(`has the key "${key}" twice (row ${index + 2})`);
    const columns = header.slice(1).map((name, column) => [name, row[column + 1]] as const);
    table.set(key, header.length === 2 ? second : Object.fromEntries(columns));
  }
  return table;
}

/** RFC 4180, with commas or semicolons, whichever the first line has. */
function rowsOfCsv(text: string): string[][] {
  const firstLine = text.slice(0, text.search(/\r?\n|$/));
  const separator = firstLine.includes(";") && !firstLine.includes(",") ? ";" : ",";
  const rows: string[][] = [];
  let row: string[] = [];
  const field = new RegExp(
    `(?:"((?:[^"]|"")*)"|((?!")[^${separator}\\r\\n]*))(${separator}|\\r?\\n|$)`,
    "gy",
  );
  for (let at = 0; at < text.length; at = field.lastIndex) {
    field.lastIndex = at;
    const match = field.exec(text);
    if (match === null) throw new Error(`has a quote out of place in row ${rows.length + 1}`);
    const [, quoted, bare = "", end] = match;
    row.push(quoted === undefined ? bare.trim() : quoted.replaceAll('""', '"'));
    if (end === separator && field.lastIndex < text.length) continue;
    if (end === separator) row.push("");
    if (row.length > 1 || row[0] !== "") rows.push(row);
    row = [];
  }
  return rows;
}
