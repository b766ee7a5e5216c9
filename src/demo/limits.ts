/**
 * How many connections this machine can really open, and which limit stands in the way of more.
 *
 * A connection has two ends and both are here, so the mesh costs two descriptors for each; it is spread over
 * processes because the descriptor limit counts per process.
 */
import { execFileSync } from "node:child_process";
import { cpus } from "node:os";
import { grouped } from "../config/units.ts";

export interface Machine {
  /** `ulimit -n`, hard: Node raises the soft limit to it when it starts. */
  readonly descriptorLimit: number;
  /** Memory that can be had without swapping. */
  readonly availableBytes: number;
  readonly cpus: number;
}

export function thisMachine(): Machine {
  let descriptorLimit = Number.POSITIVE_INFINITY;
  try {
    // A shell's hard limit, not its soft one: see above. "unlimited" stays infinite.
    const said = execFileSync("sh", ["-c", "ulimit -Hn"], { encoding: "utf8" }).trim();
    if (/^\d+$/.test(said)) descriptorLimit = Number(said);
  } catch {
    // No POSIX shell, no such limit (Windows).
  }
  return {
    descriptorLimit,
    availableBytes: process.availableMemory(),
    cpus: cpus().length,
  };
}

/** Descriptors that a process needs for itself: its files, its IPC channel, listening sockets. */
const OWN_DESCRIPTORS = 200;
const MAX_PROCESSES = 12;
/** Measured: both ends of a connection, socket and parser in JavaScript and the kernel's part. */
const CONNECTION_BYTES = 32 * 1024;
const PROCESS_BYTES = 60 * 1024 * 1024;
/** Of the memory that is free, this much may be used. */
const MEMORY_SHARE = 0.6;
export const DEFAULT_MESH_LIMIT = 50_000;

/** Why fewer connections are opened than were asked for. */
export interface Limit {
  readonly name: "descriptors" | "memory" | "mesh-limit";
  readonly message: string;
  readonly mend: string;
}

export interface Plan {
  readonly sensors: number;
  readonly subscribers: number;
  readonly sensorProcesses: number;
  readonly subscriberProcesses: number;
  /** Undefined when everything that was asked for is opened. */
  readonly limit: Limit | undefined;
}

/** Processes so that none holds more than `perProcess` descriptors, each member holding `each`; Infinity if none can. */
function processesFor(members: number, each: number, perProcess: number): number {
  const membersEach = Math.floor(perProcess / each);
  return membersEach < 1 ? Number.POSITIVE_INFINITY : Math.ceil(members / membersEach);
}

/** The largest part of `sensors` × `subscribers`, in about the same proportion, for which `fits` holds; at least 1 × 1. */
function shrink(
  sensors: number,
  subscribers: number,
  fits: (n: number, m: number) => boolean,
): [number, number] {
  if (fits(sensors, subscribers)) return [sensors, subscribers];
  const part = (share: number): [number, number] => [
    Math.max(1, Math.floor(sensors * share)),
    Math.max(1, Math.floor(subscribers * share)),
  ];
  let low = 0;
  let high = 1;
  for (let step = 0; step < 40; step++) {
    const middle = (low + high) / 2;
    if (fits(...part(middle))) low = middle;
    else high = middle;
  }
  return part(low);
}

type Check = Limit & { fits(sensors: number, subscribers: number): boolean };

/** The part that holds every check; the limit named is the last that made it smaller, and so the tightest. */
function hold(
  sensors: number,
  subscribers: number,
  checks: readonly Check[],
): Pick<Plan, "sensors" | "subscribers" | "limit"> {
  let part: [number, number] = [sensors, subscribers];
  let limit: Limit | undefined;
  for (const { fits, name, message, mend } of checks) {
    if (fits(...part)) continue;
    part = shrink(...part, fits);
    limit = { name, message, mend };
  }
  return { sensors: part[0], subscribers: part[1], limit };
}

const RAISE_DESCRIPTORS = "raise it: ulimit -Hn 65536 as root; for good: /etc/security/limits.conf";

function memoryCheck(machine: Machine, bytes: (n: number, m: number) => number): Check {
  return {
    name: "memory",
    message: `${grouped(Math.round(machine.availableBytes / 2 ** 20))} MiB of memory are free`,
    mend: "end other programs, or run it on a larger machine",
    fits: (n, m) => bytes(n, m) <= machine.availableBytes * MEMORY_SHARE,
  };
}

/** How the mesh is opened: `maxConnections` is what the person allows (`--mesh-limit`). */
export function planMesh(
  sensors: number,
  subscribers: number,
  machine: Machine,
  maxConnections: number,
): Plan {
  const perProcess = machine.descriptorLimit - OWN_DESCRIPTORS;
  const sides = (n: number, m: number): [number, number] => [
    processesFor(n, m, perProcess),
    processesFor(m, n + 1, perProcess), // and the one it listens on
  ];
  const part = hold(sensors, subscribers, [
    {
      name: "descriptors",
      message: `a process may hold ${grouped(machine.descriptorLimit)} descriptors (ulimit -n); a connection takes two`,
      mend: RAISE_DESCRIPTORS,
      fits: (n, m) => sides(n, m)[0] + sides(n, m)[1] <= MAX_PROCESSES,
    },
    memoryCheck(machine, (n, m) => n * m * CONNECTION_BYTES + 2 * PROCESS_BYTES),
    {
      name: "mesh-limit",
      message: `the mesh is opened up to ${grouped(maxConnections)} connections`,
      mend: `--mesh-limit ${sensors * subscribers} lifts that`,
      fits: (n, m) => n * m <= maxConnections,
    },
  ]);
  const [sensorProcesses, subscriberProcesses] = sides(part.sensors, part.subscribers);
  return { ...part, sensorProcesses, subscriberProcesses };
}

/** How many clients go through the gateway; `kafkajs` of the subscribers take three connections at most, not one. */
export function planGateway(sensors: number, subscribers: number, machine: Machine, kafkajs: number): Plan {
  const part = hold(sensors, subscribers, [
    {
      name: "descriptors",
      message: `the gateway may hold ${grouped(machine.descriptorLimit)} descriptors (ulimit -n)`,
      mend: RAISE_DESCRIPTORS,
      fits: (n, m) => n + m + 2 * Math.min(m, kafkajs) + OWN_DESCRIPTORS <= machine.descriptorLimit,
    },
    memoryCheck(machine, (n, m) => (n + m) * 2 * CONNECTION_BYTES + 3 * PROCESS_BYTES),
  ]);
  const processes = (clients: number): number => Math.min(4, Math.ceil(clients / 500));
  return {
    ...part,
    sensorProcesses: processes(part.sensors),
    subscriberProcesses: processes(part.subscribers),
  };
}
