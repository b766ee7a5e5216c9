/**
 * One of the troubles, in a process of its own that gives way to all others: who floods a gateway does so from
 * another machine, and takes none of the processors that the gateway and its other clients have.
 *
 * Run as `trouble.ts <{ name, mqttPort, kafkaPort } as JSON>`; prints `begun`, and goes on until SIGTERM.
 */
import { setPriority } from "node:os";
import type { Gateway } from "../interop/support/gateway.ts";
import { TROUBLES } from "../interop/support/trouble.ts";

const { name, ...ports } = JSON.parse(process.argv[2] ?? "{}") as { name: string } & Gateway;
setPriority(19);
const end = await TROUBLES.find((trouble) => trouble.name === name)?.begin(ports as Gateway);
process.stdout.write("begun\n");
process.once("SIGTERM", async () => {
  await end?.();
  process.exit();
});
