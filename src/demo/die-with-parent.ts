/**
 * Loaded before `sluice up` when the demonstration runs it. The folder is made here and removed here, as the
 * last thing that this process does; and the gateway stops, in order, when the parent's IPC channel closes.
 * So nothing is left behind whenever the parent may be killed.
 */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const { DEMO_FOLDER: folder, DEMO_CONFIGURATION: configuration } = process.env;

function stop(): void {
  // Before the gateway listens for the signal, the default action would end it without its exit handlers.
  if (process.listenerCount("SIGTERM") === 0) process.exit(143);
  process.kill(process.pid, "SIGTERM");
}

process.on("disconnect", stop);
process.channel?.unref();
// The parent may have gone before anyone listened for that.
if (!process.connected) stop();

if (folder !== undefined && configuration !== undefined) {
  mkdirSync(folder, { mode: 0o700 });
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, "gateway.yaml"), configuration);
}
