/** `npm run bench:fetch`: Node-RED, as one of the bench's rivals: 100 MB, half a minute, unless it is there. */
import { mkdir, rename, rm } from "node:fs/promises";
import { run } from "../interop/support/process.ts";
import { has, nodeRedFolder } from "../interop/support/tools.ts";

if (!has("node-red")) {
  // Beside, then renamed: an interrupted download must not look like a finished one.
  const partial = `${nodeRedFolder}.partial`;
  await rm(partial, { recursive: true, force: true });
  await mkdir(partial, { recursive: true });
  // The last line of versions that goes with Node 20.
  const args = ["install", "--prefix", partial, "--no-audit", "--no-fund", "node-red@4.1.8"];
  await run("npm", args, { timeoutMs: 300_000 });
  await rename(partial, nodeRedFolder);
}
console.log(`Node-RED is in ${nodeRedFolder}`);
