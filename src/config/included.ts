/**
 * A configuration that lies in several files: `include: [streams.yaml, "mappings/*.yaml"]`.
 *
 * What is included comes first, in its order, then the file that includes: so a rule for everything else at
 * the end of the main file stays the last one. Maps are laid together key by key, lists one behind the other;
 * a value may stand in one file only. Included files include nothing themselves.
 */
import { readdir } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { messageOf } from "../errors.ts";
import { isMap, type Loose } from "./loose.ts";
import { ConfigError, didYouMean, type Place, type Problem } from "./problems.ts";
import { readTextFile } from "./text-file.ts";
import { type Path, type Within, YamlSource } from "./yaml-source.ts";

/** Where the paths of a value stand in what people wrote. */
export type Source = Pick<
  YamlSource,
  "placeOfValue" | "placeOfKey" | "textOf" | "swallowedComment" | "isFlowMap"
>;

const MAX_FILES = 1_000;

/** One file's share of the whole: its own values, and where a path of the whole stands in them. */
interface Part {
  readonly source: YamlSource;
  readonly value: unknown;
}

export class IncludedSources implements Source {
  /** The files' values laid together. */
  readonly value: unknown;
  readonly problems: readonly Problem[];
  private readonly parts: readonly Part[];

  constructor(main: YamlSource, included: readonly YamlSource[]) {
    const problems: Problem[] = [];
    for (const source of included) {
      if (!isMap(source.value) || source.value.include === undefined) continue;
      const place = source.placeOfKey(["include"]);
      problems.push({ place, message: "an included file cannot include others", mend: "move it up" });
    }
    // The version is the main file's; where others say it too, they say the same.
    const rest = included.map((source) => ({ source, value: without(source.value, "version", "include") }));
    this.parts = [...rest, { source: main, value: main.value }];
    this.value = this.parts.reduce<unknown>((whole, part) => lay(whole, part, [], problems), undefined);
    this.problems = problems;
  }

  placeOfValue(path: Path, within?: Within): Place {
    const [source, own] = this.locate(path);
    return source.placeOfValue(own, within);
  }

  placeOfKey(path: Path): Place {
    const [source, own] = this.locate(path);
    return source.placeOfKey(own);
  }

  textOf(path: Path): string {
    const [source, own] = this.locate(path);
    return source.textOf(own);
  }

  swallowedComment(path: Path): string | undefined {
    const [source, own] = this.locate(path);
    return source.swallowedComment(own);
  }

  isFlowMap(path: Path): boolean {
    const [source, own] = this.locate(path);
    return source.isFlowMap(own);
  }

  /** The file that has `path`, or most of it, and the path in that file. */
  private locate(path: Path): [YamlSource, Path] {
    // The main file first: what stands nowhere is missing there.
    let candidates = [...this.parts].reverse();
    const own: (string | number)[] = [];
    for (const [depth, key] of path.entries()) {
      if (typeof key === "number") {
        let index = key;
        const inOrder = [...candidates].reverse();
        const holder = inOrder.find(({ value }) => {
          const length = Array.isArray(value) ? value.length : 0;
          if (index < length) return true;
          index -= length;
          return false;
        });
        if (holder === undefined) return [(candidates[0] as Part).source, [...own, ...path.slice(depth)]];
        own.push(index);
        candidates = [{ source: holder.source, value: (holder.value as unknown[])[index] }];
        continue;
      }
      const having = candidates.filter(({ value }) => isMap(value) && Object.hasOwn(value, key));
      own.push(key);
      const next = having.length > 0 ? having : candidates.slice(0, 1);
      candidates = next.map(({ source, value }) => ({
        source,
        value: isMap(value) ? value[key] : undefined,
      }));
    }
    return [(candidates[0] as Part).source, own];
  }
}

/** The sources that `include` names, in order. Throws `ConfigError` for all that cannot be had. */
export async function readIncluded(main: YamlSource): Promise<YamlSource[]> {
  const named = isMap(main.value) ? main.value.include : undefined;
  if (named === undefined || named === null) return [];
  const problems: Problem[] = [];
  const sources: YamlSource[] = [];
  const report = (path: Path, message: string, mend?: string): void => {
    problems.push({ place: main.placeOfValue(path), message: `include: ${message}`, mend });
  };
  const names = Array.isArray(named) ? named : [named];
  for (const [index, name] of names.entries()) {
    const path = Array.isArray(named) ? ["include", index] : ["include"];
    if (typeof name !== "string") {
      report(path, "must be the names of files");
      continue;
    }
    try {
      for (const file of await filesOf(join(dirname(main.file), name))) {
        if (sources.length >= MAX_FILES) throw new Error(`stands for more than ${MAX_FILES} files`);
        sources.push(new YamlSource(file, readTextFile(file)));
      }
    } catch (error) {
      const isMissing = (error as NodeJS.ErrnoException).code === "ENOENT";
      const whole = join(dirname(main.file), name);
      report(path, isMissing ? await missing(whole) : `${whole} ${messageOf(error)}`);
    }
  }
  problems.push(...sources.flatMap((source) => source.problems));
  if (problems.length > 0) throw new ConfigError(problems);
  return sources;
}

/** A name, or those that a `*` in the last part of the path stands for, in alphabetical order; none is fine. */
async function filesOf(path: string): Promise<string[]> {
  const pattern = basename(path);
  if (!pattern.includes("*")) return [path];
  const text = pattern.replace(/[.+?^${}()|[\]\\]/g, "\\$&").replaceAll("*", "[^/]*");
  const shape = new RegExp(`^${text}$`);
  const found = await readdir(dirname(path));
  return found
    .filter((name) => shape.test(name) && !name.startsWith("."))
    .sort()
    .map((name) => join(dirname(path), name));
}

async function missing(path: string): Promise<string> {
  const siblings = await readdir(dirname(path)).catch(() => []);
  const meant = didYouMean(basename(path), siblings);
  return `there is no ${path.includes("*") ? `folder ${dirname(path)}` : `file ${path}`}${meant}`;
}

function lay(whole: unknown, part: Part, path: Path, problems: Problem[]): unknown {
  const { value, source } = part;
  if (whole === undefined || whole === null) return value;
  if (value === undefined || value === null) return whole;
  if (Array.isArray(whole) && Array.isArray(value)) return [...whole, ...value];
  if (!isMap(whole) || !isMap(value)) {
    const place = source.placeOfKey(path);
    problems.push({
      place,
      message: `${path.join(".")} stands in an included file, too`,
      mend: "keep one of them",
    });
    return value;
  }
  const together: Loose = { ...whole };
  for (const [key, own] of Object.entries(value)) {
    const there = Object.hasOwn(whole, key) ? whole[key] : undefined;
    together[key] = lay(there, { source, value: own }, [...path, key], problems);
  }
  return together;
}

function without(value: unknown, ...keys: string[]): unknown {
  if (!isMap(value)) return value;
  return Object.fromEntries(Object.entries(value).filter(([key]) => !keys.includes(key)));
}
