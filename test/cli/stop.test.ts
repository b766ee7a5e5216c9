import { spawn } from "node:child_process";
import { once } from "node:events";
import { expect, test } from "vitest";

/** A process that never comes to its end; resolves to its exit code, having sent SIGINT as often as said. */
async function interrupted(times: number, graceMs: number): Promise<{ code: number; stderr: string }> {
  const program = `
    import { aborted, stopSignal } from "./dist/cli/stop.js";
    setInterval(() => {}, 1000);
    const signal = stopSignal(${graceMs});
    console.log("ready");
    await aborted(signal);
    console.log(signal.reason);`;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", program]);
  let stderr = "";
  child.stderr.on("data", (chunk) => {
    stderr += chunk;
  });
  const closed = once(child, "close");
  let sent = 0;
  // Each line says that the process is ready for the next signal.
  child.stdout.on("data", () => {
    if (sent++ < times) child.kill("SIGINT");
  });
  const [code] = await closed;
  return { code, stderr };
}

test("a second Ctrl-C ends at once what does not get done with stopping", async () => {
  expect(await interrupted(2, 60_000)).toEqual({ code: 130, stderr: "" });
});

test("what is not stopped within the grace period is ended, and says so", async () => {
  const { code, stderr } = await interrupted(1, 50);
  expect(code).toBe(1);
  expect(stderr).toContain("not stopped within 0.05 s");
});
