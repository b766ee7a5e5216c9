/**
 * The gateway of the demonstration, in a process of its own: the `Gateway` that `sluice up` runs, on a real
 * data folder, with one stream and one mapping, and an uplink where there is a cluster behind it. The folder goes
 * with the process, however the parent ends.
 */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseConfig } from "../config/load.ts";
import { formatAddress } from "../config/units.ts";
import { SluiceError } from "../errors.ts";
import { Gateway } from "../gateway.ts";
import { createLogger } from "../logger.ts";
import { READINGS_STREAM } from "./audit.ts";
import type { ClusterPlace } from "./cluster-end.ts";

/** What a taken port ends a gateway with (`EX_UNAVAILABLE` of sysexits.h). */
const UNAVAILABLE_EXIT_CODE = 69;
/** From the uplink's start until the cluster is ready to take records. */
const UPLINK_READY_MS = 20_000;
const UPLINK_POLL_MS = 50;

export interface GatewayHostOptions {
  /** Does not exist yet. */
  readonly folder: string;
  readonly maxConnections: number;
  /** Where the uplink brings everything. */
  readonly cluster?: ClusterPlace | undefined;
}

export interface GatewayPorts {
  readonly mqttPort: number;
  readonly kafkaPort: number;
}

export interface GatewaySnapshot {
  /** Sockets that the gateway holds, by listener. */
  readonly sockets: { readonly mqtt: number; readonly kafka: number };
  readonly memoryBytes: number;
}

export class GatewayHost {
  private readonly options: GatewayHostOptions;
  private gateway: Gateway | undefined;

  constructor(options: GatewayHostOptions) {
    this.options = options;
  }

  /** Resolves when both ports take connections: 1883 and 9092 where they are free, any others otherwise. */
  async start(): Promise<GatewayPorts> {
    const { folder } = this.options;
    process.on("exit", () =>
      rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 10 }),
    );
    mkdirSync(folder, { mode: 0o700 });
    try {
      return await this.listen(1883, 9092);
    } catch (error) {
      if (!(error instanceof SluiceError && error.exitCode === UNAVAILABLE_EXIT_CODE)) throw error;
      return this.listen(0, 0);
    }
  }

  private async listen(mqttPort: number, kafkaPort: number): Promise<GatewayPorts> {
    this.gateway = new Gateway(this.configuration(mqttPort, kafkaPort), createLogger("error"));
    const { mqtt, kafka } = await this.gateway.start();
    if (this.options.cluster !== undefined) await this.forwarding(this.gateway);
    return { mqttPort: mqtt[0]?.port ?? 0, kafkaPort: kafka.port };
  }

  /** Waits until the topic is there; rejects with the uplink's own words, or those of a partition. */
  private async forwarding(gateway: Gateway): Promise<void> {
    const deadline = performance.now() + UPLINK_READY_MS;
    for (;;) {
      const [uplink] = gateway.status.uplinks ?? [];
      const partitions = uplink?.streams.flatMap((stream) => stream.partitions) ?? [];
      if (partitions.some(({ state }) => state === "ready")) return;
      if (performance.now() > deadline) {
        const problem = uplink?.problem ?? partitions.find((one) => one.problem !== undefined)?.problem;
        const words = problem?.message ?? "the uplink is not ready in time";
        throw new SluiceError("DEMO_UPLINK", words, { mend: problem?.mend });
      }
      await sleep(UPLINK_POLL_MS);
    }
  }

  private configuration(mqttPort: number, kafkaPort: number) {
    const { folder, maxConnections, cluster } = this.options;
    // The topic is this demonstration's alone, and so is the gateway's name, by which its place is kept.
    const uplinks = cluster === undefined ? [] : [uplinkTo(cluster)];
    const yaml = `version: 1
name: ${cluster?.topic ?? "demo"}
dataDir: ${JSON.stringify(join(folder, "data"))}
mqtt:
  maxConnections: ${maxConnections}
  listeners: [{ type: tcp, bind: "127.0.0.1:${mqttPort}" }]
streams: { ${READINGS_STREAM}: { partitions: ${cluster === undefined ? 4 : 1} } }
mappings: [{ from: sensors/+device/reading, to: ${READINGS_STREAM}, key: "\${device}" }]
kafka: { bind: "127.0.0.1:${kafkaPort}", maxConnections: ${maxConnections} }
uplinks: ${JSON.stringify(uplinks)}
`;
    return parseConfig(yaml, "the demonstration's configuration").config;
  }

  snapshot(): GatewaySnapshot {
    const stats = this.gateway?.stats;
    return {
      sockets: { mqtt: stats?.mqtt.connections ?? 0, kafka: stats?.kafka?.connections ?? 0 },
      memoryBytes: process.memoryUsage.rss(),
    };
  }

  async close(): Promise<void> {
    await this.gateway?.close();
  }
}

const uplinkTo = ({ brokers, topic }: ClusterPlace) => ({
  name: "demo",
  brokers: brokers.map(formatAddress),
  streams: [READINGS_STREAM],
  to: topic,
});
