/**
 * A gateway's MQTT half that can be killed: a broker on a log on a disk in memory that can stop answering, so
 * that clients see all that is allowed to be seen up to there and nothing later. And clients that keep their
 * half of the protocol's state over connections (MQTT 3.1.1, sections 4.3 and 4.4), independent of any library.
 */
import type { Packet } from "mqtt-packet";
import { onTestFinished } from "vitest";
import type { File } from "../../src/log/file-system.ts";
import { StreamStore } from "../../src/log/stream-store.ts";
import type { MqttLimits } from "../../src/mqtt/limits.ts";
import { silentLogger } from "../support/log.ts";
import { MemoryFileSystem } from "../support/memory-file-system.ts";
import { RawClient, type Running, startBroker } from "./support.ts";

/** Lets `writesLeft` synced writes through; those after it are never done and never answered. */
export class Disk {
  readonly fileSystem: MemoryFileSystem;
  writesLeft = Number.POSITIVE_INFINITY;
  writes = 0;

  constructor(fileSystem = new MemoryFileSystem()) {
    this.fileSystem = fileSystem;
    const open = fileSystem.open.bind(fileSystem);
    fileSystem.open = async (path, mode) => {
      const file = await open(path, mode);
      return mode === "durable" ? this.stopping(file) : file;
    };
  }

  private stopping(file: File): File {
    const writeDurably: File["writeDurably"] = (buffers, position) => {
      if (this.writesLeft <= 0) return new Promise(() => {});
      this.writesLeft--;
      this.writes++;
      return file.writeDurably(buffers, position);
    };
    return Object.assign(Object.create(file), { writeDurably });
  }

  /** What is on it now, for the next gateway. */
  afterKill(): Disk {
    return new Disk(this.fileSystem.snapshot());
  }
}

export interface Gateway extends Running {
  readonly disk: Disk;
  readonly store: StreamStore;
}

export async function startGateway(disk: Disk, limits: Partial<MqttLimits> = {}): Promise<Gateway> {
  const { fileSystem } = disk;
  const store = new StreamStore({
    dataDir: "/data",
    logger: silentLogger,
    journalFileBytes: 1 << 20,
    fileSystem,
  });
  await store.start();
  if (store.stream("all") === undefined) await store.createStream("all", 1, {}, "config");
  const running = await startBroker(store, { limits: { stopTimeoutMs: 20, ...limits } });
  return { ...running, disk, store };
}

/** Another gateway on what a killed one leaves; the killed one's clients are cut off. */
export async function killAndRestart(gateway: Gateway, limits?: Partial<MqttLimits>): Promise<Gateway> {
  const disk = gateway.disk.afterKill();
  // Nothing of the killed one's end reaches its successor's disk.
  gateway.disk.writesLeft = 0;
  await gateway.broker.close();
  return startGateway(disk, limits);
}

type Received = Packet & { messageId: number; payload: Buffer; topic: string; qos: number; dup: boolean };

/** One client with a session, over any number of connections. */
export class StatefulClient {
  readonly id: string;
  /** Payloads, in the order in which the application saw them. */
  readonly delivered: string[] = [];
  /** Of publishes, until PUBCOMP. */
  readonly outgoing = new Map<number, { payload: string; state: "publish" | "pubrel" }>();
  /** QoS 2 ids received and not released. */
  private readonly held = new Set<number>();
  private raw: RawClient | undefined;
  /** How many more packets reach it; the ones behind are lost with the connection. */
  hears = Number.POSITIVE_INFINITY;
  private readonly mqttTopic: string;

  constructor(id: string, mqttTopic: string) {
    this.id = id;
    this.mqttTopic = mqttTopic;
    onTestFinished(() => void this.raw?.socket.destroy());
  }

  get isIdle(): boolean {
    return this.outgoing.size === 0 && this.held.size === 0;
  }

  async connect(port: number, subscribe?: { qos: 0 | 1 | 2 }): Promise<void> {
    this.raw?.socket.destroy();
    const raw = await RawClient.open(port);
    this.raw = raw;
    this.hears = Number.POSITIVE_INFINITY;
    raw.onPacket = (packet) => {
      if (raw === this.raw) this.take(packet as Received);
    };
    const connect = { clientId: this.id, clean: false, keepalive: 0, protocolId: "MQTT", protocolVersion: 4 };
    raw.send({ cmd: "connect", ...connect });
    await raw.until("connack");
    // [MQTT-4.4.0-1], in the order in which they were sent first
    for (const [messageId, { payload, state }] of this.outgoing) {
      if (state === "publish") raw.publish(this.mqttTopic, payload, 2, messageId, { dup: true });
      else raw.send({ cmd: "pubrel", messageId });
    }
    if (subscribe === undefined) return;
    raw.send({
      cmd: "subscribe",
      messageId: 60_000,
      subscriptions: [{ topic: this.mqttTopic, ...subscribe }],
    });
  }

  untilSubscribed(): Promise<unknown> {
    return (this.raw as RawClient).until("suback");
  }

  publish(payload: string): void {
    // The lowest free one: an id is used again as soon as the specification allows it.
    let messageId = 1;
    while (this.outgoing.has(messageId)) messageId++;
    this.outgoing.set(messageId, { payload, state: "publish" });
    this.raw?.publish(this.mqttTopic, payload, 2, messageId);
  }

  private take(packet: Received): void {
    const { cmd, messageId } = packet;
    if (this.hears-- <= 0) return;
    const answer = (answerCmd: string) => this.raw?.send({ cmd: answerCmd, messageId });
    if (cmd === "publish") {
      if (packet.qos < 2 || !this.held.has(messageId)) this.delivered.push(packet.payload.toString());
      if (packet.qos === 2) this.held.add(messageId);
      if (packet.qos > 0) answer(packet.qos === 1 ? "puback" : "pubrec");
    } else if (cmd === "pubrel") {
      this.held.delete(messageId);
      answer("pubcomp");
    } else if (cmd === "pubrec") {
      const sent = this.outgoing.get(messageId);
      if (sent !== undefined) sent.state = "pubrel";
      answer("pubrel");
    } else if (cmd === "pubcomp") this.outgoing.delete(messageId);
  }
}
