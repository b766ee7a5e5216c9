/**
 * The gateway of the demonstration, in a process of its own: the `Gateway` that `sluice up` runs, on a real
 * data folder, with one stream and one mapping. The folder goes with the process, however the parent ends.
 */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { parseConfig } from "../config/load.ts";
import { SluiceError } from "../errors.ts";
import { Gateway } from "../gateway.ts";
import { createLogger } from "../logger.ts";
import { READINGS_STREAM } from "./audit.ts";

/** What a taken port ends a gateway with (`EX_UNAVAILABLE` of sysexits.h). */
const UNAVAILABLE_EXIT_CODE = 69;

export interface GatewayHostOptions {
  /** Does not exist yet. */
  readonly folder: string;
  readonly maxConnections: number;
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
    return { mqttPort: mqtt[0]?.port ?? 0, kafkaPort: kafka.port };
  }

  private configuration(mqttPort: number, kafkaPort: number) {
    const { folder, maxConnections } = this.options;
    const yaml = `version: 1
dataDir: ${JSON.stringify(join(folder, "data"))}
mqtt:
  maxConnections: ${maxConnections}
  listeners: [{ type: tcp, bind: "127.0.0.1:${mqttPort}" }]
streams: { ${READINGS_STREAM}: { partitions: 4 } }
mappings: [{ from: sensors/+device/reading, to: ${READINGS_STREAM}, key: "\${device}" }]
kafka: { bind: "127.0.0.1:${kafkaPort}", maxConnections: ${maxConnections} }
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
