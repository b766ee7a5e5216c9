/**
 * Loaded before the program: its disk is as large as the file `small-disk` in its working folder says, in bytes, and
 * holds the data folder `data` beside it and nothing else, whatever others do with the real one.
 */
import { readFileSync } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { nodeFileSystem } from "../../../dist/log/file-system.js";

async function usedBytes(folder) {
  let used = 0;
  for (const entry of await readdir(folder, { withFileTypes: true, recursive: true })) {
    if (!entry.isFile()) continue;
    // It may be gone by now.
    const found = await stat(join(entry.parentPath ?? entry.path, entry.name)).catch(() => undefined);
    used += (found?.blocks ?? 0) * 512;
  }
  return used;
}

const { freeBytes } = nodeFileSystem;
nodeFileSystem.freeBytes = async (path) => {
  let size;
  try {
    size = Number(readFileSync("small-disk", "utf8"));
  } catch {
    return freeBytes.call(nodeFileSystem, path);
  }
  return Math.max(0, size - (await usedBytes("data")));
};
