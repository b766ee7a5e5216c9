/** One connection of a client to a broker, in memory; what comes in goes into the client's book. */
import { type Duplex, duplexPair } from "node:stream";
import { generate, type Packet, parser } from "mqtt-packet";
import type { MqttBroker } from "../../src/mqtt/broker.ts";
import { type Incoming, type Message, payloadOf } from "./books.ts";

export interface LinkOptions {
  readonly broker: MqttBroker;
  readonly clientId: string;
  readonly clean?: boolean;
  readonly will?: Message;
  /** Called for each packet, in order. */
  readonly onPacket: (packet: Incoming, mqttTopic: string) => void;
}

export class Link {
  private readonly mine: Duplex;
  private readonly theirs: Duplex;
  isOpen = true;
  /** CONNACK has come. */
  isReady = false;

  constructor({ broker, clientId, clean = false, will, onPacket }: LinkOptions) {
    [this.mine, this.theirs] = duplexPair();
    const packets = parser();
    packets.on("packet", (packet) => {
      if (!this.isOpen) return;
      if (packet.cmd === "connack") this.isReady = true;
      const { payload = "", topic = "", ...rest } = packet as Packet & { payload?: Buffer; topic?: string };
      onPacket({ ...rest, payload: String(payload) } as unknown as Incoming, topic);
    });
    this.mine.on("data", (chunk: Buffer) => packets.parse(chunk));
    for (const end of [this.mine, this.theirs]) end.on("error", () => {});
    this.theirs.on("close", () => this.close());
    broker.accept(this.theirs);
    this.send({
      cmd: "connect",
      protocolId: "MQTT",
      protocolVersion: 4,
      clientId,
      clean,
      keepalive: 0,
      ...(will && { will: { topic: will.mqttTopic, payload: payloadOf(will), qos: 1, retain: false } }),
    });
  }

  send(packet: object): void {
    if (this.isOpen) this.mine.write(generate(packet as Packet));
  }

  publish(message: Message, messageId: number, dup: boolean): void {
    const { mqttTopic: topic, qos, retain } = message;
    this.send({ cmd: "publish", topic, payload: payloadOf(message), qos, retain, dup, messageId });
  }

  /** As a network does that breaks down: without a word, and what is under way is lost. */
  close(): void {
    this.isOpen = false;
    this.mine.destroy();
    this.theirs.destroy();
  }
}
