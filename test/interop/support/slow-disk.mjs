/**
 * Loaded before the program: while a file `slow-disk` lies in its working folder, every sync takes as many
 * milliseconds as it says.
 */
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { nodeFileSystem } from "../../../dist/log/file-system.js";

function delayMs() {
  try {
    return Number(readFileSync("slow-disk", "utf8"));
  } catch {
    return 0;
  }
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
