/**
 * A real gateway for the demonstration: `sluice up` as a process of its own, on a data folder of its own, with
 * one stream and one mapping. Folder and process are gone when it is closed, or when the parent is
 * (`die-with-parent.ts`).
 */
import { type ChildProcess, fork } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { rm } from "node:fs/promises";
import { type AddressInfo, connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { SluiceError } from "../errors.ts";
import { READINGS_STREAM } from "./audit.ts";
import { builtFile } from "./crew.ts";

const HOST = "127.0.0.1";
const READY_TIMEOUT_MS = 20_000;
const STOP_TIMEOUT_MS = 10_000;
const MAX_STDERR_CHARACTERS = 4_000;

/** The preferred port when it is free, any other otherwise. */
async function freePort(preferred: number): Promise<number> {
  for (const port of [preferred, 0]) {
    const server = createServer().listen(port, HOST);
    try {
      await once(server, "listening");
    } catch {
      continue;
    }
    const { port: free } = server.address() as AddressInfo;
    server.close();
    await once(server, "close");
    return free;
  }
  throw new SluiceError("NO_PORT", `no port is free on ${HOST}`, { exitCode: 69 });
}

const answers = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, HOST);
    socket.on("connect", () => resolve(true)).on("error", () => resolve(false));
    socket.on("connect", () => socket.destroy());
  });

const configuration = (
  folder: string,
  mqttPort: number,
  kafkaPort: number,
  maxConnections: number,
): string => `
version: 1
name: demo
dataDir: ${JSON.stringify(join(folder, "data"))}
logLevel: warn
mqtt:
  maxConnections: ${maxConnections}
  listeners:
    - { type: tcp, bind: "${HOST}:${mqttPort}" }
streams:
  ${READINGS_STREAM}: { partitions: 4 }
mappings:
  - name: readings
    from: sensors/+device/reading
    to: ${READINGS_STREAM}
    key: \${device}
kafka: { bind: "${HOST}:${kafkaPort}", maxConnections: ${maxConnections} }
`;

export class GatewayProcess {
  private readonly child: ChildProcess;
  private readonly folder: string;
  readonly mqttPort: number;
  readonly kafkaPort: number;
  private stderr = "";

  private constructor(child: ChildProcess, folder: string, mqttPort: number, kafkaPort: number) {
    this.child = child;
    this.folder = folder;
    this.mqttPort = mqttPort;
    this.kafkaPort = kafkaPort;
    child.stderr?.on("data", (chunk) => {
      this.stderr = (this.stderr + chunk).slice(-MAX_STDERR_CHARACTERS);
    });
  }

  /** Resolves when both ports take connections; 1883 and 9092 where they are free. */
  static async start(maxConnections: number): Promise<GatewayProcess> {
    const mqttPort = await freePort(1883);
    const kafkaPort = await freePort(9092);
    const folder = join(tmpdir(), `sluice-demo-${randomUUID()}`);
    const child = fork(builtFile("main.js"), ["up", "--config", join(folder, "gateway.yaml")], {
      detached: true,
      execArgv: ["--import", pathToFileURL(builtFile("demo/die-with-parent.js")).href],
      env: {
        ...ownEnvironment(),
        DEMO_FOLDER: folder,
        DEMO_CONFIGURATION: configuration(folder, mqttPort, kafkaPort, maxConnections),
      },
      stdio: ["ignore", "ignore", "pipe", "ipc"],
    });
    const gateway = new GatewayProcess(child, folder, mqttPort, kafkaPort);
    try {
      await gateway.ready();
    } catch (error) {
      await gateway.close();
      throw error;
    }
    return gateway;
  }

  private get gone(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }

  private async ready(): Promise<void> {
    const deadline = performance.now() + READY_TIMEOUT_MS;
    while (!((await answers(this.mqttPort)) && (await answers(this.kafkaPort)))) {
      if (this.gone || performance.now() > deadline) {
        throw new SluiceError(
          "DEMO_GATEWAY",
          `the gateway did not start: ${this.stderr.trim() || "no word from it"}`,
          {
            exitCode: 69,
          },
        );
      }
      await sleep(50);
    }
  }

  /** Resident memory; 0 where the system does not tell. */
  memoryBytes(): number {
    try {
      const status = readFileSync(`/proc/${this.child.pid}/status`, "utf8");
      return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0) * 1024;
    } catch {
      return 0;
    }
  }

  /**
   * Connections that the gateway's process holds at this moment, by listening port: the sockets among its
   * descriptors that the kernel lists as established. Null where there is no /proc.
   */
  connections(): { mqtt: number; kafka: number } | null {
    try {
      const inodes = new Set<string>();
      for (const descriptor of readdirSync(`/proc/${this.child.pid}/fd`)) {
        const inode = /^socket:\[(\d+)\]$/.exec(linkOf(`/proc/${this.child.pid}/fd/${descriptor}`))?.[1];
        if (inode !== undefined) inodes.add(inode);
      }
      const counts = new Map<number, number>();
      for (const line of readFileSync(`/proc/${this.child.pid}/net/tcp`, "utf8").split("\n")) {
        // sl local:port remote:port state tx:rx tr:when retransmits uid timeout inode (proc(5)); 01 is established
        const [, local, , state, , , , , , inode] = line.trim().split(/\s+/);
        if (state !== "01" || inode === undefined || !inodes.has(inode)) continue;
        const port = Number.parseInt(local?.split(":")[1] ?? "", 16);
        counts.set(port, (counts.get(port) ?? 0) + 1);
      }
      return { mqtt: counts.get(this.mqttPort) ?? 0, kafka: counts.get(this.kafkaPort) ?? 0 };
    } catch {
      return null;
    }
  }

  /** Stops the gateway in order and removes its folder. */
  async close(): Promise<void> {
    if (!this.gone) {
      const exited = once(this.child, "exit");
      const timer = setTimeout(() => this.child.kill("SIGKILL"), STOP_TIMEOUT_MS);
      this.child.kill("SIGTERM");
      await exited;
      clearTimeout(timer);
    }
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** What the person set for a gateway of theirs (`SLUICE_…`) is not meant for this one. */
function ownEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("SLUICE_")));
}

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return ""; // closed meanwhile
  }
}
