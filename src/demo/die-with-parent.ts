/**
 * Loaded before `sluice up` when the demonstration runs it: the gateway stops, in order, when the parent's IPC
 * channel closes (it may have been killed), and removes the temporary folder it was given.
 */
import { rmSync } from "node:fs";

process.channel?.unref();
process.on("disconnect", () => {
  // Before the gateway listens for the signal, the default action would end it without its exit handlers.
  if (process.listenerCount("SIGTERM") === 0) process.exit(143);
  process.kill(process.pid, "SIGTERM");
});
const folder = process.env.DEMO_FOLDER;
if (folder !== undefined) process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
