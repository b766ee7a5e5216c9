/**
 * Loaded before the program: while a file `slow-disk` lies in its working folder, every sync takes as many
 * milliseconds as it says.
 */
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { nodeFileSystem } from "../../../dist/log/file-system.js";

/** Looked for now and then: at each sync it would be two in a hundred of what the program does. */
const LOOK_MS = 50;
let lookedAt = Number.NEGATIVE_INFINITY;
let ms = 0;

function delayMs() {
  if (performance.now() - lookedAt < LOOK_MS) return ms;
  lookedAt = performance.now();
  try {
    ms = Number(readFileSync("slow-disk", "utf8"));
  } catch {
    ms = 0;
  }
  return ms;
}

const { open } = nodeFileSystem;
nodeFileSystem.open = async (path, mode) => {
  const file = await open.call(nodeFileSystem, path, mode);
  for (const name of ["writeDurably", "sync"]) {
    const act = file[name].bind(file);
    file[name] = async (...parameters) => {
      await act(...parameters);
      const ms = delayMs();
      if (ms > 0) await sleep(ms); // a timer of 0 takes a millisecond, too
    };
  }
  return file;
};
