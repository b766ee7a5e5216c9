/**
 * A subscriber of the mesh: it has no gateway to ask, so it listens itself, and every sensor connects to it.
 * It speaks as much MQTT 3.1.1 as that takes: CONNECT → CONNACK, PUBLISH with QoS 1 → PUBACK.
 */
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import mqtt from "mqtt-packet";
import type { Audit } from "./audit.ts";
import type { Attached } from "./subscribers.ts";

const CONNACK = mqtt.generate({ cmd: "connack", returnCode: 0, sessionPresent: false });
const BACKLOG = 4096;

export async function listenMqtt(_subscriber: number, audit: Audit): Promise<Attached> {
  let connections = 0;
  const serve = (socket: Socket): void => {
    let open = false;
    const parser = mqtt.parser();
    parser.on("packet", (packet) => {
      if (packet.cmd === "publish") {
        audit.take(packet.payload as Buffer);
        socket.write(mqtt.generate({ cmd: "puback", messageId: packet.messageId ?? 0 }));
      } else if (packet.cmd === "connect" && !open) {
        open = true;
        connections++;
        socket.write(CONNACK);
      } else socket.destroy();
    });
    parser.on("error", () => socket.destroy());
    socket.on("data", (chunk: Buffer) => parser.parse(chunk));
    socket.on("error", () => socket.destroy());
    socket.on("close", () => {
      if (open) connections--;
    });
  };
  const server = createServer({ noDelay: true }, serve).listen({
    host: "127.0.0.1",
    port: 0,
    backlog: BACKLOG,
  });
  await once(server, "listening");
  return { kind: "MQTT", port: (server.address() as AddressInfo).port, connections: () => connections };
}
