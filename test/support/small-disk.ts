/** Small real file systems, of which only root can make one. */
import { execFileSync } from "node:child_process";
import { onTestFinished } from "vitest";
import { temporaryFolder } from "./temporary-folder.ts";

/** Without root there is no small disk to be had: tests of it are skipped there, and never in CI. */
export const MAY_MOUNT = process.platform === "linux" && process.getuid?.() === 0 && canMount();
if (!MAY_MOUNT && process.env.CI === "true")
  throw new Error("in CI this must be root, and able to mount a tmpfs");

function canMount(): boolean {
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k", "sluice-probe", "/mnt"], { stdio: "ignore" });
    execFileSync("umount", ["/mnt"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** A folder on a file system of that size ("4m"), which goes with the test. */
export async function smallDisk(size: string): Promise<string> {
  const folder = await temporaryFolder();
  execFileSync("mount", ["-t", "tmpfs", "-o", `size=${size}`, "sluice-test", folder]);
  onTestFinished(() => {
    execFileSync("umount", ["-l", folder]);
  });
  return folder;
}

/** "size=8m", "ro", "rw" … */
export function remount(folder: string, option: string): void {
  execFileSync("mount", ["-o", `remount,${option}`, folder], { stdio: "pipe" });
}
