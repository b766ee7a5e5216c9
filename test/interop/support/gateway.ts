/** The built program as its users run it: a configuration file, a data folder, real ports, real signals. */
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stringify } from "yaml";
import { eventually, Running } from "./process.ts";
import { repository } from "./tools.ts";

export const program = join(repository, "dist/main.js");

/** What `npm start` gives node. */
function startArgs(): string[] {
  const { scripts } = JSON.parse(readFileSync(join(repository, "package.json"), "utf8"));
  const given = / node (.*)dist\/main\.js up$/.exec(scripts.start)?.[1];
  if (given === undefined) throw new Error(`not the start script that is known: ${scripts.start}`);
  return given.split(" ").filter((arg) => arg !== "");
}

export interface GatewayOptions {
  readonly streams?: Readonly<Record<string, object>>;
  readonly mappings?: readonly object[];
  /** Further keys of the configuration's `mqtt` and `kafka` sections. */
  readonly mqtt?: object;
  readonly kafka?: object;
  readonly uplinks?: readonly object[];
  readonly downlinks?: readonly object[];
  readonly commit?: object;
  readonly storage?: object;
  /** A data folder of the caller's own, which stays. */
  readonly dataDir?: string;
  readonly nodeArgs?: readonly string[];
}

/** Sensors with a key and a header, and whatever else comes. */
export const STANDARD: GatewayOptions = {
  streams: { telemetry: { partitions: 4 }, unmapped: { partitions: 1 } },
  mappings: [
    {
      name: "readings",
      from: "sensors/+site/+device/temperature",
      to: "telemetry",
      key: "$" + "{device}",
      headers: { site: "$" + "{site}" },
    },
    { name: "everything-else", from: "#rest", to: "unmapped" },
  ],
};

const tried = new Set<number>();

/**
 * A port of 127.0.0.1 that nobody has. Taken below the range the system gives to outgoing connections: there a
 * client that reconnects while the gateway is down could meet itself.
 */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < 200; attempt++) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    if (tried.has(port)) continue;
    tried.add(port);
    const free = await new Promise<boolean>((resolve) => {
      const server = createServer();
      server.once("error", () => resolve(false));
      server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
    });
    if (free) return port;
  }
  throw new Error("no free port between 20000 and 32000");
}

/** Whether somebody accepts connections there. */
export const accepts = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });

export class Gateway {
  readonly folder: string;
  readonly dataDir: string;
  readonly configFile: string;
  readonly mqttPort: number;
  readonly kafkaPort: number;
  process: Running;
  private readonly nodeArgs: readonly string[];

  private constructor(folder: string, mqttPort: number, kafkaPort: number, options: GatewayOptions) {
    this.folder = folder;
    this.dataDir = options.dataDir ?? join(folder, "data");
    this.configFile = join(folder, "gateway.yaml");
    this.mqttPort = mqttPort;
    this.kafkaPort = kafkaPort;
    this.nodeArgs = options.nodeArgs ?? [];
    this.process = this.spawn();
  }

  /** Writes a configuration into a folder of its own, starts the gateway, waits until it serves both sides. */
  static async start(options: GatewayOptions = STANDARD): Promise<Gateway> {
    if (!existsSync(program)) throw new Error(`${program} is not there: npm run build`);
    const folder = await mkdtemp(join(tmpdir(), "sluice-interop-"));
    const mqttPort = await freePort();
    const kafkaPort = await freePort();
    const config = {
      version: 1,
      name: "interop",
      mqtt: { ...options.mqtt, listeners: [{ type: "tcp", bind: `127.0.0.1:${mqttPort}` }] },
      kafka: { ...options.kafka, bind: `127.0.0.1:${kafkaPort}` },
      commit: options.commit ?? {},
      storage: options.storage ?? {},
      streams: options.streams ?? STANDARD.streams,
      mappings: options.mappings ?? STANDARD.mappings,
      uplinks: options.uplinks ?? [],
      downlinks: options.downlinks ?? [],
    };
    await writeFile(join(folder, "gateway.yaml"), stringify(config, { aliasDuplicateObjects: false }));
    const gateway = new Gateway(folder, mqttPort, kafkaPort, options);
    try {
      await gateway.ready();
      return gateway;
    } catch (error) {
      await gateway.dispose();
      throw error;
    }
  }

  private spawn(): Running {
    const args = [
      ...startArgs(),
      ...this.nodeArgs,
      program,
      "up",
      "--config",
      this.configFile,
      "--data",
      this.dataDir,
    ];
    return new Running(process.execPath, args, { cwd: this.folder, env: { NO_COLOR: "1" } });
  }

  get brokers(): string {
    return `127.0.0.1:${this.kafkaPort}`;
  }

  get mqttUrl(): string {
    return `mqtt://127.0.0.1:${this.mqttPort}`;
  }

  /** It has said where it listens, and listens there. */
  async ready(): Promise<void> {
    const ports = [this.mqttPort, this.kafkaPort];
    await this.process.until(
      ({ output }) => ports.every((port) => output.includes(String(port))),
      `naming the ports ${ports.join(" and ")}`,
    );
    for (const port of ports) await eventually(() => accepts(port), `a connection to port ${port}`);
  }

  /** The power cut, as far as a process can have one. */
  async kill(): Promise<void> {
    await this.process.end("SIGKILL");
  }

  /** The orderly end: SIGTERM. Resolves with the exit code and how long it took. */
  async stop(): Promise<{ code: number | null; elapsedMs: number }> {
    const startedAt = performance.now();
    const code = await this.process.end("SIGTERM", 15_000);
    return { code, elapsedMs: performance.now() - startedAt };
  }

  /** Starts again after `kill` or `stop`, on the same ports and data. */
  async again(): Promise<void> {
    this.process = this.spawn();
    await this.ready();
  }

  /** Ends whatever runs, and removes the folder. */
  async dispose(): Promise<void> {
    await this.process.end("SIGKILL");
    await rm(this.folder, { recursive: true, force: true });
  }
}
