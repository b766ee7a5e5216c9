/** What the rows share: the load's process, the rival, the gateway under test, medians. */
import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { accepts, freePort, Gateway, type GatewayOptions } from "../interop/support/gateway.ts";
import { eventually, Running } from "../interop/support/process.ts";
import { tool } from "../interop/support/tools.ts";
import type { LoadOptions, LoadResult } from "./load.ts";

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export const median = (values: readonly number[]): number => {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? (sorted[middle] as number)
    : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
};

/** The mapping of every row: a key and a header from the MQTT topic. */
export const MAPPING = {
  from: "sensors/+site/+device/temperature",
  to: "telemetry",
  key: "$" + "{device}",
  headers: { site: "$" + "{site}" },
};
export const BENCH: GatewayOptions = { streams: { telemetry: { partitions: 4 } }, mappings: [MAPPING] };

/** Starts one of this folder's scripts as a process of its own. */
export function script(name: string, options: object): Running {
  const file = fileURLToPath(new URL(`./${name}`, import.meta.url));
  return new Running(process.execPath, ["--import", "tsx", file, JSON.stringify(options)]);
}

/** The JSON line that a script of this folder ends with. */
export async function resultOf<T>(running: Running): Promise<T> {
  const code = await running.exited;
  if (code !== 0) throw new Error(`the load ended with ${code}:\n${running.output.slice(-2_000)}`);
  return JSON.parse(running.stdout.trim().split("\n").at(-1) ?? "") as T;
}

export const load = (options: LoadOptions): Promise<LoadResult> =>
  resultOf<LoadResult>(script("load.ts", options));

export const rateOf = ({ acknowledged, seconds }: LoadResult): number => acknowledged / seconds;

export async function withGateway<T>(
  options: GatewayOptions,
  body: (gateway: Gateway) => Promise<T>,
): Promise<T> {
  const gateway = await Gateway.start(options);
  try {
    return await body(gateway);
  } finally {
    await gateway.dispose();
  }
}

/** Mosquitto in memory, tuned: acknowledgements at once, no limits on what waits. */
export async function withMosquitto<T>(body: (port: number) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), "sluice-bench-mosquitto-"));
  const port = await freePort();
  const settings = [
    `listener ${port} 127.0.0.1`,
    "allow_anonymous true",
    "persistence false",
    "set_tcp_nodelay true",
    "max_queued_messages 0",
    "max_inflight_messages 0",
    "log_dest none",
  ];
  await writeFile(join(folder, "mosquitto.conf"), `${settings.join("\n")}\n`);
  const mosquitto = new Running(tool("mosquitto"), ["-c", join(folder, "mosquitto.conf")]);
  try {
    await eventually(() => accepts(port), "mosquitto");
    return await body(port);
  } finally {
    await mosquitto.end("SIGKILL");
    await rm(folder, { recursive: true, force: true });
  }
}

/** Resident memory of a process, in bytes. */
export function residentBytes(pid: number): number {
  const kib = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1];
  return Number(kib) * 1024;
}
