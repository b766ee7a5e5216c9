/**
 * The load: MQTT publishers on bare sockets, in a process of their own, so that the broker under test and not
 * the generator sets the pace. PUBLISH packets are encoded beforehand and PUBACKs are only counted (a server
 * acknowledges in the order of the publishes, MQTT 3.1.1 §4.6, so the oldest packet ids are free again).
 *
 * Run as `load.ts <LoadOptions as JSON>`; prints `begin` when everything is connected and warm, and one line
 * of JSON, a LoadResult, at the end. The window, not a timer, paces a flood; `ratePerSecond` paces the rest.
 */
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { fileURLToPath } from "node:url";

export interface LoadOptions {
  readonly port: number;
  readonly connections: number;
  /** QoS 1 messages in flight on each connection, at most. */
  readonly window: number;
  readonly payloadBytes: number;
  /** All connections together; a flood when left out. */
  readonly ratePerSecond?: number;
  readonly warmUpMs: number;
  readonly durationMs: number;
  /** Puts the time of sending into each payload, for latency.ts; paced load only. */
  readonly stamp?: boolean;
  /** A process whose CPU time between begin and end is wanted. */
  readonly watchPid?: number;
}

export interface LoadResult {
  /** Between begin and end. */
  readonly acknowledged: number;
  /** From the first message to the last, warm-up included; all sent ones are acknowledged. */
  readonly acknowledgedInAll: number;
  readonly seconds: number;
  readonly packetBytes: number;
  /** CPU of this generator as a share of one core: near 1, the generator was the bottleneck. */
  readonly generatorLoad: number;
  /** Of the watched process, between begin and end. */
  readonly cpuMs: number | null;
}

/** MQTT topic of sensor `index`, as the bench's mapping expects it. */
export const mqttTopicOf = (index: number): string => `sensors/site${index % 10}/d${index}/temperature`;

function remainingLength(length: number): number[] {
  const bytes: number[] = [];
  for (let left = length; ; left >>>= 7) {
    bytes.push(left > 127 ? (left & 127) | 128 : left);
    if (left <= 127) return bytes;
  }
}

const field = (text: string): Buffer => {
  const bytes = Buffer.from(text);
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 255]), bytes]);
};

export function connectPacket(clientId: string): Buffer {
  const body = Buffer.concat([field("MQTT"), Buffer.from([4, 2, 0, 0]), field(clientId)]);
  return Buffer.concat([Buffer.from([0x10, ...remainingLength(body.length)]), body]);
}

/** A QoS 1 PUBLISH, and where its packet id lies. */
export function publishPacket(mqttTopic: string, payload: Buffer): { packet: Buffer; idAt: number } {
  const name = field(mqttTopic);
  const head = [0x32, ...remainingLength(name.length + 2 + payload.length)];
  return {
    packet: Buffer.concat([Buffer.from(head), name, Buffer.alloc(2), payload]),
    idAt: head.length + name.length,
  };
}

const PUBACK_BYTES = 4;

/** One sensor: a connection that counts what is acknowledged on it. */
export class Sensor {
  acknowledged = 0;
  sent = 0;
  /** Told how many acknowledgements one read brought. */
  onAcknowledged = (_count: number): void => {};
  readonly packet: Buffer;
  private readonly idAt: number;
  private readonly socket: Socket;
  private partial = 0;
  private ending = false;

  private constructor(socket: Socket, index: number, payloadBytes: number) {
    this.socket = socket;
    const { packet, idAt } = publishPacket(mqttTopicOf(index), Buffer.alloc(payloadBytes, "x"));
    this.packet = packet;
    this.idAt = idAt;
  }

  static open(port: number, index: number, payloadBytes: number): Promise<Sensor> {
    return new Promise((resolve, reject) => {
      const socket = connect({ port, host: "127.0.0.1", noDelay: true });
      socket.once("error", reject);
      socket.once("close", () => reject(new Error(`the broker closed connection ${index}`)));
      socket.write(connectPacket(`bench-${process.pid}-${index}`));
      socket.once("data", (data) => {
        if (data[0] !== 0x20 || data[3] !== 0) return reject(new Error(`CONNACK ${data.toString("hex")}`));
        const sensor = new Sensor(socket, index, payloadBytes);
        socket.on("data", (chunk) => sensor.took(chunk));
        socket.on("close", () => sensor.closed());
        resolve(sensor);
      });
    });
  }

  private closed(): void {
    if (this.ending) return;
    process.stderr.write("the broker closed a connection under load\n");
    process.exit(1);
  }

  private took(data: Buffer): void {
    const bytes = this.partial + data.length;
    if (this.partial === 0 && data[0] !== 0x40)
      throw new Error(`not a PUBACK: ${data.subarray(0, 8).toString("hex")}`);
    const count = Math.floor(bytes / PUBACK_BYTES);
    this.partial = bytes % PUBACK_BYTES;
    this.acknowledged += count;
    this.onAcknowledged(count);
  }

  /** Sends one message with its own payload. */
  send(fill?: (payload: Buffer) => void): void {
    const packet = Buffer.from(this.packet);
    packet.writeUInt16BE((this.sent++ % 65_535) + 1, this.idAt);
    fill?.(packet.subarray(this.idAt + 2));
    this.socket.write(packet);
  }

  /** Keeps `window` messages in flight until `stop` says so. */
  flood(window: number, stopped: () => boolean): void {
    // All ids of the window, twice over, so that any run of them is one slice.
    const size = this.packet.length;
    const ring = Buffer.alloc(size * window * 2);
    for (let index = 0; index < window * 2; index++) {
      this.packet.copy(ring, index * size);
      ring.writeUInt16BE((index % window) + 1, index * size + this.idAt);
    }
    // Refilled by halves: a write for every read would make the generator, not the broker, the slower one.
    let free = window;
    const more = (count: number) => {
      free += count;
      if (stopped() || free * 2 < window) return;
      const from = this.sent % window;
      this.socket.write(ring.subarray(from * size, (from + free) * size));
      this.sent += free;
      free = 0;
    };
    this.onAcknowledged = more;
    more(0);
  }

  close(): void {
    this.ending = true;
    this.socket.destroy();
  }
}

/** Milliseconds of a clock that all processes of the machine share. */
export const clockMs = (): number => Number(process.hrtime.bigint()) / 1e6;

const stamp = (payload: Buffer): void => {
  payload.write(clockMs().toFixed(3).padEnd(payload.length), "latin1");
};

/** Sends `ratePerSecond` messages in all, evenly, one sensor after the other, until `stopped`. */
export function pace(
  sensors: readonly Sensor[],
  ratePerSecond: number,
  stopped: () => boolean,
  fill?: (payload: Buffer) => void,
): void {
  const startedAt = performance.now();
  let sent = 0;
  const timer = setInterval(() => {
    if (stopped()) return clearInterval(timer);
    for (const due = ((performance.now() - startedAt) * ratePerSecond) / 1_000; sent < due; sent++) {
      (sensors[sent % sensors.length] as Sensor).send(fill);
    }
  }, 1);
}

export async function openSensors(port: number, count: number, payloadBytes: number): Promise<Sensor[]> {
  const sensors: Sensor[] = [];
  for (let from = 0; from < count; from += 100) {
    const some = Array.from({ length: Math.min(100, count - from) }, (_, index) => from + index);
    sensors.push(...(await Promise.all(some.map((index) => Sensor.open(port, index, payloadBytes)))));
  }
  return sensors;
}

/**
 * CPU time of a process, and the bytes it gave to write calls (sockets included), from Linux' /proc. Not
 * `write_bytes`: where the page cache works in large folios, a small write counts as megabytes there.
 */
export function usageOf(pid: number): { cpuMs: number; writeCallBytes: number } {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  // The name in parentheses may hold anything; the fields are counted behind it. Ticks are 10 ms.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const io = readFileSync(`/proc/${pid}/io`, "latin1");
  return {
    cpuMs: (Number(fields[11]) + Number(fields[12])) * 10,
    writeCallBytes: Number(/^wchar: (\d+)/m.exec(io)?.[1]),
  };
}

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

async function runLoad(options: LoadOptions): Promise<LoadResult> {
  const { port, connections, window, payloadBytes, ratePerSecond, watchPid } = options;
  const sensors = await openSensors(port, connections, payloadBytes);
  const acknowledged = () => sensors.reduce((sum, sensor) => sum + sensor.acknowledged, 0);
  let over = false;
  if (ratePerSecond !== undefined)
    pace(sensors, ratePerSecond, () => over, options.stamp ? stamp : undefined);
  else for (const sensor of sensors) sensor.flood(window, () => over);
  await sleep(options.warmUpMs);
  const before = { at: performance.now(), count: acknowledged(), cpu: process.cpuUsage() };
  const watchedBefore = watchPid === undefined ? undefined : usageOf(watchPid);
  process.stdout.write("begin\n");
  await sleep(options.durationMs);
  const seconds = (performance.now() - before.at) / 1_000;
  const count = acknowledged() - before.count;
  const cpu = process.cpuUsage(before.cpu);
  const after = watchPid === undefined ? undefined : usageOf(watchPid);
  over = true;
  const deadline = performance.now() + 20_000;
  const sent = () => sensors.reduce((sum, sensor) => sum + sensor.sent, 0);
  while (acknowledged() < sent()) {
    if (performance.now() > deadline)
      throw new Error(`${sent() - acknowledged()} messages never acknowledged`);
    await sleep(5);
  }
  for (const sensor of sensors) sensor.close();
  return {
    acknowledged: count,
    acknowledgedInAll: acknowledged(),
    seconds,
    packetBytes: (sensors[0] as Sensor).packet.length,
    generatorLoad: (cpu.user + cpu.system) / 1e6 / seconds,
    cpuMs: after === undefined || watchedBefore === undefined ? null : after.cpuMs - watchedBefore.cpuMs,
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const result = await runLoad(JSON.parse(process.argv[2] ?? "{}") as LoadOptions);
  process.stdout.write(`${JSON.stringify(result)}\n`);
}
