/** The entry of a worker process: `worker.js <role> <options as JSON>`, driven over IPC by a `Crew`. */
import { messageOf } from "../errors.ts";
import type { Call, Reply } from "./crew.ts";

const [role = "", json = "{}"] = process.argv.slice(2);
const options = JSON.parse(json);

/** Only what a role needs is loaded: what its process weighs is on the screen. */
async function create(): Promise<object> {
  switch (role) {
    case "sensors":
      return new (await import("./sensors.ts")).Sensors(options);
    case "gateway":
      return new (await import("./gateway-host.ts")).GatewayHost(options);
    case "mesh-subscribers":
    case "gateway-readers": {
      const { Subscribers } = await import("./subscribers.ts");
      const attach =
        role === "mesh-subscribers"
          ? (await import("./mesh-subscriber.ts")).listenMqtt
          : (await import("./gateway-reader.ts")).readGateway(options);
      return new Subscribers(options, attach);
    }
    default:
      throw new Error(`no such role: ${role}`);
  }
}

const worker = (await create()) as Record<string, (...args: readonly unknown[]) => unknown>;

// Node keeps what came until now.
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
