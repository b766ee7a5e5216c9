/**
 * The audit of an uplink: sensors with QoS 2 → gateway → Apache Kafka, while gateway, Kafka and the connection
 * between them are broken at random. What Kafka then holds, read with read_committed by librdkafka, is compared
 * with what the sensors were acknowledged.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ApacheKafka } from "./apache-kafka.ts";
import { makeCertificates, tlsProperties } from "./certificates.ts";
import { freePort, Gateway, STANDARD } from "./gateway.ts";
import { NumberingSensor } from "./mqtt.ts";
import { eventually } from "./process.ts";
import { type Fate, FaultProxy } from "./proxy.ts";
import { kcat } from "./tools.ts";

const SENSORS = 20;
const PARTITIONS = 4;
const TOPIC = "edge.interop.telemetry";

export interface AuditOptions {
  readonly faults: number;
  readonly seed: number;
  readonly delivery: "exactly-once" | "at-least-once";
  /** Over TLS, where a damaged byte is noticed; in plain text the proxy sees the requests instead. */
  readonly tls: boolean;
  readonly say?: (words: string) => void;
}

export interface AuditResult {
  readonly sent: number;
  readonly inKafka: number;
  readonly lost: number;
  readonly duplicates: number;
  readonly outOfOrder: number;
  readonly faults: Readonly<Record<string, number>>;
  readonly seconds: number;
}

/** Requests of a transaction by API key. */
const PHASES: Readonly<Record<string, number>> = {
  Produce: 0,
  OffsetFetch: 9,
  InitProducerId: 22,
  AddPartitionsToTxn: 24,
  AddOffsetsToTxn: 25,
  EndTxn: 26,
  TxnOffsetCommit: 28,
};

export class Audit {
  private readonly options: AuditOptions;
  private readonly random: () => number;
  private readonly done = new Map<string, number>();
  private folder = "";
  private kafka!: ApacheKafka;
  private proxy!: FaultProxy;
  gateway!: Gateway;
  private sensors: NumberingSensor[] = [];

  constructor(options: AuditOptions) {
    this.options = options;
    this.random = generator(options.seed);
  }

  async start(): Promise<void> {
    const { tls, delivery } = this.options;
    this.folder = await mkdtemp(join(tmpdir(), "sluice-audit-"));
    const [behind, front] = [await freePort(), await freePort()];
    const certificates = tls ? await makeCertificates(this.folder) : undefined;
    this.kafka = await ApacheKafka.start({
      listeners: [{ name: "UPLINK", port: behind, advertised: front, protocol: tls ? "SSL" : "PLAINTEXT" }],
      properties: certificates === undefined ? {} : tlsProperties("UPLINK", certificates),
    });
    this.proxy = await FaultProxy.start(front, behind);
    if (!tls) this.proxy.onRequest = () => "pass";
    this.gateway = await Gateway.start({
      ...STANDARD,
      streams: { telemetry: { partitions: PARTITIONS }, unmapped: { partitions: 1 } },
      uplinks: [
        {
          name: "cloud",
          brokers: [`127.0.0.1:${front}`],
          streams: ["telemetry"],
          delivery,
          connectTimeout: "1s",
          requestTimeout: "3s",
          transactionTimeout: "8s",
          maxBackoff: "1s",
          ...(certificates === undefined ? {} : { tls: { ca: certificates.ca } }),
        },
      ],
    });
  }

  async run(): Promise<AuditResult> {
    const startedAt = performance.now();
    await this.start();
    const { mqttUrl } = this.gateway;
    this.sensors = Array.from({ length: SENSORS }, (_, index) => {
      const everyMs = 10 + Math.floor(this.random() * 20);
      // One reading at a time, so that they are in order whatever is sent again.
      return new NumberingSensor(mqttUrl, `s${index}`, 1, { qos: 2, everyMs });
    });
    await eventually(async () => (await this.endOffsets()) > 100, "the first records in Kafka", 60_000);
    for (const [fault, kind] of this.plan().entries()) {
      const name = await this.breakSomething(kind);
      this.done.set(name, (this.done.get(name) ?? 0) + 1);
      this.options.say?.(`${fault + 1}/${this.options.faults}: ${name}`);
      // Most of the time it recovers first; the next fault may just as well meet it while it does.
      if (this.random() < 0.7) await this.progress(name);
      else await new Promise((resolve) => setTimeout(resolve, this.random() * 300));
    }
    this.proxy.slow = false;
    this.proxy.thaw();
    for (const sensor of this.sensors) sensor.finish();
    await eventually(
      () => this.sensors.every(({ settled }) => settled),
      "every reading acknowledged",
      60_000,
    );
    const sent = this.sensors.reduce((sum, sensor) => sum + sensor.sent, 0);
    await eventually(async () => (await this.read()).length >= sent, `all ${sent} in Kafka`, 120_000).catch(
      () => {},
    );
    return {
      ...judge(this.sensors, await this.read()),
      faults: Object.fromEntries(this.done),
      seconds: Math.round((performance.now() - startedAt) / 1000),
    };
  }

  async close(): Promise<void> {
    await Promise.allSettled(this.sensors.map((sensor) => sensor.close()));
    await this.gateway?.dispose();
    await this.proxy?.close();
    await this.kafka?.close();
    await rm(this.folder, { recursive: true, force: true });
  }

  /** A third of the faults are Kafka's, a fifth the gateway's; the order is drawn. */
  private plan(): readonly ("Kafka" | "gateway" | "connection")[] {
    const { faults } = this.options;
    const kinds = Array.from({ length: faults }, (_, index) => {
      if (index < Math.ceil(faults / 3)) return "Kafka";
      return index < faults * 0.53 ? "gateway" : "connection";
    });
    return kinds
      .map((kind) => ({ kind, at: this.random() }))
      .sort((a, b) => a.at - b.at)
      .map(({ kind }) => kind as "Kafka" | "gateway" | "connection");
  }

  private async breakSomething(kind: "Kafka" | "gateway" | "connection"): Promise<string> {
    if (kind === "Kafka") return this.breakKafka();
    if (kind === "connection") return this.breakConnection();
    await this.gateway.kill();
    await this.gateway.again();
    return "gateway killed";
  }

  private async breakKafka(): Promise<string> {
    await this.kafka.kill();
    if (this.random() < 0.25) {
      // Both at once.
      await this.gateway.kill();
      await this.gateway.again();
      await this.kafka.again();
      return "Kafka and gateway killed";
    }
    await this.kafka.again();
    return "Kafka killed";
  }

  private async breakConnection(): Promise<string> {
    const die = this.random();
    if (!this.options.tls && die < 0.7) return this.breakPhase();
    if (die < 0.3) {
      this.proxy.cut();
      return "connection cut";
    }
    if (die < 0.55) {
      this.proxy.freeze();
      // Some of them longer than a request waits, and longer than a transaction lives.
      await new Promise((resolve) =>
        setTimeout(resolve, this.random() < 0.2 ? 9_000 : this.random() * 4_000),
      );
      this.proxy.thaw();
      return "connection frozen";
    }
    if (die < 0.7 || !this.options.tls) {
      this.proxy.slow = true;
      await new Promise((resolve) => setTimeout(resolve, 500 + this.random() * 1_000));
      this.proxy.slow = false;
      return "connection slowed";
    }
    this.proxy.corrupt(1 + Math.floor(this.random() * 3));
    return "connection corrupted";
  }

  /** Loses one request of a transaction, or its answer, together with its connection. */
  private async breakPhase(): Promise<string> {
    const names = Object.keys(PHASES);
    const name = names[Math.floor(this.random() * names.length)] as string;
    const fate: Fate = this.random() < 0.5 ? "cut before" : "cut after";
    let met = false;
    // What only a new session sends comes when an old one has broken.
    let isBroken = name !== "InitProducerId" && name !== "OffsetFetch";
    this.proxy.onRequest = (apiKey) => {
      if (apiKey === PHASES.Produce && !isBroken) {
        isBroken = true;
        return "cut before";
      }
      if (met || !isBroken || apiKey !== PHASES[name]) return "pass";
      met = true;
      return fate;
    };
    await eventually(() => met, `a ${name}`, 60_000);
    return `${name} ${fate}`;
  }

  /** More is in Kafka than was. */
  private async progress(after: string): Promise<void> {
    const before = await this.endOffsets();
    // Each transaction leaves a marker too; a few of them are not yet progress.
    await eventually(
      async () => (await this.endOffsets()) > before + 20,
      `progress after "${after}"`,
      60_000,
    );
  }

  private async endOffsets(): Promise<number> {
    const admin = this.kafka.client().admin();
    try {
      await admin.connect();
      const offsets = await admin.fetchTopicOffsets(TOPIC);
      return offsets.reduce((sum, { high }) => sum + Number(high), 0);
    } catch {
      return 0;
    } finally {
      await admin.disconnect();
    }
  }

  /** Every record that a careful reader is given: partition, key, value. */
  private async read(): Promise<string[][]> {
    const format = ["-f", "%p\\t%k\\t%s\\n"];
    const args = ["-b", this.kafka.brokers, "-C", "-t", TOPIC, "-o", "beginning", "-e", "-q"];
    const { stdout } = await kcat([...args, "-X", "isolation.level=read_committed", ...format], {
      timeoutMs: 120_000,
    });
    return stdout
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => line.split("\t"));
  }
}

function judge(sensors: readonly NumberingSensor[], lines: readonly (readonly string[])[]) {
  const seen = new Map<string, Set<number>>(sensors.map(({ name }) => [name, new Set()]));
  const highest = new Map<string, number>();
  let duplicates = 0;
  let outOfOrder = 0;
  for (const [, key = "", value = ""] of lines) {
    const { sensor, number } = JSON.parse(value) as { sensor: string; number: number };
    const numbers = seen.get(key);
    if (numbers === undefined || sensor !== key) throw new Error(`a stranger: ${key} ${value}`);
    if (numbers.has(number)) {
      duplicates++;
      continue;
    }
    numbers.add(number);
    if (number < (highest.get(key) ?? -1)) outOfOrder++;
    highest.set(key, Math.max(number, highest.get(key) ?? -1));
  }
  const sent = sensors.reduce((sum, sensor) => sum + sensor.sent, 0);
  const found = [...seen.values()].reduce((sum, numbers) => sum + numbers.size, 0);
  return { sent, inKafka: lines.length, lost: sent - found, duplicates, outOfOrder };
}

/** mulberry32: what is drawn from a seed can be drawn again. */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
