/** The entry of a worker process: `worker.js <role> <options as JSON>`, driven over IPC by a `Crew`. */
import { messageOf } from "../errors.ts";
import type { Call, Reply } from "./crew.ts";
import { readGateway } from "./gateway-reader.ts";
import { listenMqtt } from "./mesh-subscriber.ts";
import { Sensors } from "./sensors.ts";
import { Subscribers } from "./subscribers.ts";

const [role, json] = process.argv.slice(2);
const options = JSON.parse(json ?? "{}");

function create(): object {
  switch (role) {
    case "sensors":
      return new Sensors(options);
    case "mesh-subscribers":
      return new Subscribers(options, listenMqtt);
    case "gateway-readers":
      return new Subscribers(options, readGateway(options));
    default:
      throw new Error(`no such role: ${role}`);
  }
}

const worker = create() as Record<string, (...args: readonly unknown[]) => unknown>;

process.on("message", async ({ id, method, args }: Call) => {
  let reply: Reply;
  try {
    reply = { id, result: await worker[method]?.(...args) };
  } catch (error) {
    reply = { id, error: messageOf(error) };
  }
  // A parent that died meanwhile is what `disconnect` below is about, not an error.
  if (process.connected) process.send?.(reply, undefined, undefined, () => {});
});
// The parent is done or dead; either way nobody is left to work for.
process.on("disconnect", () => process.exit(0));
if (!process.connected) process.exit(0);
