/**
 * Sensors, as light as they come: an MQTT 3.1.1 client is one socket, a parser and a packet identifier.
 *
 * The same sensors serve both phases. In the mesh each is connected to every subscriber, with the gateway to
 * the gateway alone; a reading goes out with QoS 1 over all of a sensor's connections. The sensors of a round
 * are spread evenly over its interval. Unacknowledged messages are bounded: the sensors wait, nothing is skipped.
 */
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import mqtt from "mqtt-packet";
import { addChecksum, clockUs, encodeReading, mqttTopicOf, sensorName } from "./audit.ts";
import { each, type Share, shareOf } from "./crew.ts";

const MAX_UNACKED_PER_LINK = 16;
const CONNECTING_AT_ONCE = 64;
const CONNECT_TIMEOUT_MS = 30_000;
const ACK_TIMEOUT_MS = 15_000;

export interface Schedule {
  /** On the machine's monotonic clock; see `clockUs`. */
  readonly startUs: number;
  /** As many whole rounds as end until then, at least one; Infinity goes on until `stop`. */
  readonly untilUs: number;
  readonly intervalMs: number;
}

export interface SensorsSnapshot {
  readonly connections: number;
  readonly published: number;
  readonly acknowledged: number;
  readonly rssBytes: number;
}

interface Link {
  readonly socket: Socket;
  messageId: number;
}

export class Sensors {
  private readonly share: Share;
  /** By sensor, its connections in the order of the targets. */
  private readonly links = new Map<number, Link[]>();
  private readonly seqs = new Map<number, number>();
  private count = 0;
  private connections = 0;
  private published = 0;
  private acknowledged = 0;
  private checksum = 0;
  private stopping = new AbortController();
  private onAck: (() => void) | undefined;

  constructor(share: Share) {
    this.share = share;
  }

  /** Has the first `count` sensors connected to all of the ports on 127.0.0.1; opens only what is not yet. */
  async open(count: number, ports: readonly number[]): Promise<void> {
    this.count = count;
    const missing = shareOf(this.share, count).flatMap((sensor) => {
      const links = this.links.get(sensor) ?? [];
      this.links.set(sensor, links);
      return ports
        .slice(links.length)
        .map((port, index) => ({ sensor, port, links, at: links.length + index }));
    });
    await each(missing, CONNECTING_AT_ONCE, async ({ sensor, port, links, at }) => {
      links[at] = await this.dial(sensor, port);
    });
  }

  private dial(sensor: number, port: number): Promise<Link> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host: "127.0.0.1", port, noDelay: true });
      const link: Link = { socket, messageId: 0 };
      const parser = mqtt.parser();
      const timer = setTimeout(() => socket.destroy(new Error("no CONNACK in time")), CONNECT_TIMEOUT_MS);
      let open = false;
      parser.on("packet", (packet) => {
        if (packet.cmd === "puback") {
          this.acknowledged++;
          this.onAck?.();
        } else if (packet.cmd === "connack" && packet.returnCode === 0) {
          clearTimeout(timer);
          open = true;
          this.connections++;
          resolve(link);
        } else socket.destroy(new Error(`${packet.cmd} instead of an acknowledgement`));
      });
      parser.on("error", (error) => socket.destroy(error));
      socket.on("data", (chunk: Buffer) => parser.parse(chunk));
      socket.on("error", (error) => reject(new Error(`sensor ${sensor} to port ${port}: ${error.message}`)));
      socket.on("close", () => {
        clearTimeout(timer);
        if (open) this.connections--;
        else reject(new Error(`sensor ${sensor}: port ${port} closed the connection`));
      });
      // keepalive 0 turns it off (MQTT 3.1.1, 3.1.2.10): the sensors speak anyway.
      socket.write(
        mqtt.generate({ cmd: "connect", clientId: sensorName(sensor), clean: true, keepalive: 0 }),
      );
    });
  }

  /** Sends rounds of readings; resolves when all are acknowledged, or after 15 s without an acknowledgement. */
  async publish(schedule: Schedule): Promise<{ published: [number, number][]; checksum: number }> {
    const { startUs, untilUs, intervalMs } = schedule;
    this.stopping = new AbortController();
    const mine = shareOf(this.share, this.count);
    const endsInTime = (round: number): boolean =>
      clockUs() < untilUs && startUs + (round + 1) * intervalMs * 1000 <= untilUs + 1000;
    rounds: for (let round = 0; round === 0 || endsInTime(round); round++) {
      for (const sensor of mine) {
        const dueUs = startUs + (round + sensor / this.count) * intervalMs * 1000;
        await this.until(dueUs);
        if (this.stopping.signal.aborted) break rounds;
        await this.acknowledgedUpTo(MAX_UNACKED_PER_LINK * this.connections);
        this.send(sensor);
      }
    }
    await this.acknowledgedUpTo(0);
    return { published: [...this.seqs], checksum: this.checksum };
  }

  /** Ends `publish`, wherever in a round it stands. */
  stop(): void {
    this.stopping.abort();
  }

  private async until(dueUs: number): Promise<void> {
    const waitMs = (dueUs - clockUs()) / 1000;
    if (waitMs > 1) await sleep(waitMs, undefined, { signal: this.stopping.signal }).catch(() => {});
  }

  private async acknowledgedUpTo(open: number): Promise<void> {
    while (this.published - this.acknowledged > open) {
      const before = this.acknowledged;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, ACK_TIMEOUT_MS);
        this.onAck = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.onAck = undefined;
      if (this.acknowledged === before) return;
    }
  }

  private send(sensor: number): void {
    const seq = this.seqs.get(sensor) ?? 0;
    this.seqs.set(sensor, seq + 1);
    const payload = encodeReading(sensor, seq);
    const topic = mqttTopicOf(sensor);
    this.checksum = addChecksum(this.checksum, payload);
    for (const link of this.links.get(sensor) ?? []) {
      link.messageId = (link.messageId % 0xffff) + 1;
      const { messageId } = link;
      link.socket.write(
        mqtt.generate({ cmd: "publish", topic, payload, qos: 1, dup: false, retain: false, messageId }),
      );
      this.published++;
    }
  }

  snapshot(): SensorsSnapshot {
    const { connections, published, acknowledged } = this;
    return { connections, published, acknowledged, rssBytes: process.memoryUsage.rss() };
  }
}
