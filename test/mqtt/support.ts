/** A broker in front of a log for a test, and a client that speaks single packets. */
import { once } from "node:events";
import { connect as connectTcp, type Socket } from "node:net";
import { generate, type Packet, parser } from "mqtt-packet";
import { onTestFinished, vi } from "vitest";
import type { Log } from "../../src/log/log.ts";
import type { ReceivingClock } from "../../src/log/timekeeper.ts";
import { Mapper } from "../../src/mapping/mapper.ts";
import type { RuleDefinition } from "../../src/mapping/rule.ts";
import type { Access } from "../../src/mqtt/access.ts";
import { MqttBroker } from "../../src/mqtt/broker.ts";
import { Ingest, type IngestOptions } from "../../src/mqtt/ingest.ts";
import type { MqttLimits } from "../../src/mqtt/limits.ts";
import { silentLogger } from "../support/log.ts";

export const ALL: RuleDefinition[] = [{ name: "all", from: "#rest", to: "all", key: "${topic}" }];

export interface Running {
  readonly broker: MqttBroker;
  readonly ingest: Ingest;
  readonly port: number;
  readonly url: string;
}

export async function startBroker(
  log: Log,
  options: {
    rules?: RuleDefinition[];
    limits?: Partial<MqttLimits>;
    access?: Access;
    ingest?: IngestOptions;
    clock?: ReceivingClock;
  } = {},
): Promise<Running> {
  const mapper = new Mapper(options.rules ?? ALL, (stream) => log.stream(stream)?.partitions.length ?? 0);
  const ingest = new Ingest(mapper, log, silentLogger, options.ingest, options.clock);
  const broker = new MqttBroker(
    {
      listeners: [{ host: "127.0.0.1", port: 0 }],
      limits: { stopTimeoutMs: 1_000, ...options.limits },
      ...(options.access === undefined ? {} : { access: options.access }),
    },
    log,
    ingest,
    silentLogger,
  );
  await broker.start();
  onTestFinished(() => broker.close());
  const port = broker.addresses[0]?.port as number;
  return { broker, ingest, port, url: `mqtt://127.0.0.1:${port}` };
}

export class RawClient {
  readonly socket: Socket;
  readonly received: Packet[] = [];
  closed = false;
  onPacket = (_packet: Packet): void => {};

  private constructor(socket: Socket) {
    this.socket = socket;
    const packets = parser();
    packets.on("packet", (packet) => {
      this.received.push(packet);
      this.onPacket(packet);
    });
    socket.on("data", (chunk) => packets.parse(chunk));
    socket.on("close", () => {
      this.closed = true;
    });
    socket.on("error", () => {});
  }

  static async open(port: number): Promise<RawClient> {
    const socket = connectTcp(port, "127.0.0.1");
    onTestFinished(() => void socket.destroy());
    await once(socket, "connect");
    return new RawClient(socket);
  }

  /** Connected with CONNACK 0. */
  static async connect(
    port: number,
    clientId: string,
    more: Record<string, unknown> = {},
  ): Promise<RawClient> {
    const client = await RawClient.open(port);
    client.send({
      cmd: "connect",
      clientId,
      clean: true,
      keepalive: 0,
      protocolId: "MQTT",
      protocolVersion: 4,
      ...more,
    });
    await client.until("connack");
    return client;
  }

  send(packet: Record<string, unknown>): void {
    this.socket.write(generate(packet as unknown as Packet));
  }

  publish(
    topic: string,
    payload: string,
    qos = 0,
    messageId?: number,
    more: Record<string, unknown> = {},
  ): void {
    this.send({ cmd: "publish", topic, payload, qos, messageId, retain: false, dup: false, ...more });
  }

  of(cmd: string): Packet[] {
    return this.received.filter((packet) => packet.cmd === cmd);
  }

  /** Waits for the nth packet of a kind. */
  until(cmd: string, count = 1): Promise<Packet> {
    return eventually(() => {
      const found = this.of(cmd)[count - 1];
      if (found === undefined)
        throw new Error(`${count} × ${cmd} did not come; got ${this.received.map((p) => p.cmd)}`);
      return found;
    });
  }

  async untilClosed(): Promise<void> {
    await eventually(() => {
      if (!this.closed) throw new Error("the connection is still open");
    });
  }

  /** After this, everything sent before was taken in and whatever it caused at once was received. */
  async roundTrip(): Promise<void> {
    const pongs = this.of("pingresp").length;
    this.send({ cmd: "pingreq" });
    await this.until("pingresp", pongs + 1);
  }
}

export function eventually<T>(check: () => T): Promise<T> {
  return vi.waitFor(check, { timeout: 10_000, interval: 5 });
}
