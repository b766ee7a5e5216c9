/**
 * Bugs put into the log on purpose, each by changing one place of its sources, which the simulator must find
 * (lists of them: mutations/). The changed sources are a copy: nothing in `src` knows of this.
 */
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { PARTS, type Program } from "./program.ts";

interface Edit {
  /** Below src. */
  readonly file: string;
  /** Stands exactly once in the file. */
  readonly find: string;
  readonly replace: string;
}

/** More than one edit where one precaution would make up for the loss of the other. */
export interface Mutation {
  readonly name: string;
  readonly edits: readonly Edit[];
}

const SOURCES = fileURLToPath(new URL("../../src", import.meta.url));

/** The sources that a mutation changes, by their path below src. Throws when its place is not in them any more. */
export async function mutated({ name, edits }: Mutation): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  for (const { file, find, replace } of edits) {
    const parts = (files.get(file) ?? (await readFile(join(SOURCES, file), "utf8"))).split(find);
    if (parts.length !== 2) throw new Error(`"${name}": ${file} has its place ${parts.length - 1} times`);
    files.set(file, parts.join(replace));
  }
  return files;
}

/** Gives the program with a bug in it to `work`. */
export async function withMutation<T>(
  mutation: Mutation,
  work: (program: Program) => Promise<T>,
): Promise<T> {
  const files = await mutated(mutation);
  const folder = await mkdtemp(join(tmpdir(), "sluice-mutant-"));
  try {
    // Packages are looked for above a file, and modules are told by the package.json above it.
    await writeFile(join(folder, "package.json"), '{"type":"module"}');
    await symlink(join(SOURCES, "../node_modules"), join(folder, "node_modules"));
    await cp(SOURCES, folder, { recursive: true });
    for (const [file, content] of files) await writeFile(join(folder, file), content);
    const parts: Record<string, unknown> = {};
    for (const [name, file] of Object.entries(PARTS)) {
      const { href } = pathToFileURL(join(folder, file));
      parts[name] = ((await import(/* @vite-ignore */ href)) as Record<string, unknown>)[name];
    }
    return await work(parts as unknown as Program);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
