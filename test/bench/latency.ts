/**
 * Publish → kafkajs: sensors and a subscriber in one process, so that both use one clock. Run as
 * `latency.ts <options as JSON>`; prints one line of JSON. The subscriber is kafkajs with its defaults, one
 * `eachMessage`; latency runs from the socket write of the PUBLISH to the call of `eachMessage`.
 */
import { kafkaClient } from "../interop/support/kafka.ts";
import { openSensors, pace } from "./load.ts";

export interface LatencyOptions {
  readonly port: number;
  readonly brokers: string;
  readonly stream: string;
  readonly sensors: number;
  readonly ratePerSecond: number;
  readonly warmUpMs: number;
  readonly durationMs: number;
}

export interface LatencyResult {
  readonly messages: number;
  readonly missing: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

const options = JSON.parse(process.argv[2] ?? "{}") as LatencyOptions;
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const latencies: number[] = [];
let received = 0;
let measuring = false;

const consumer = kafkaClient(options.brokers).consumer({ groupId: `latency-${process.pid}` });
const joined = new Promise((resolve) => consumer.on(consumer.events.GROUP_JOIN, resolve));
await consumer.connect();
await consumer.subscribe({ topic: options.stream, fromBeginning: false });
await consumer.run({
  eachMessage: async ({ message }) => {
    received++;
    if (measuring) latencies.push(performance.now() - Number(message.value?.toString("latin1")));
  },
});
await joined;

const sensors = await openSensors(options.port, options.sensors, 64);
const sent = () => sensors.reduce((sum, sensor) => sum + sensor.sent, 0);
// "Latest" is resolved by the first fetch: publish until something comes, then begin to count.
while (received === 0) {
  sensors[0]?.send((payload) => payload.write(String(performance.now()).padEnd(64), "latin1"));
  await sleep(50);
}
await sleep(500);
const [sentBefore, receivedBefore] = [sent(), received];
let over = false;
pace(
  sensors,
  options.ratePerSecond,
  () => over,
  (payload) => payload.write(String(performance.now()).padEnd(64), "latin1"),
);
await sleep(options.warmUpMs);
measuring = true;
await sleep(options.durationMs);
measuring = false;
over = true;
const deadline = performance.now() + 10_000;
while (received - receivedBefore < sent() - sentBefore && performance.now() < deadline) await sleep(10);
latencies.sort((a, b) => a - b);
const at = (share: number) =>
  latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))] ?? Number.NaN;
const result: LatencyResult = {
  messages: latencies.length,
  missing: sent() - sentBefore - (received - receivedBefore),
  p50: at(0.5),
  p99: at(0.99),
  max: latencies.at(-1) ?? Number.NaN,
};
process.stdout.write(`${JSON.stringify(result)}\n`);
for (const sensor of sensors) sensor.close();
await consumer.disconnect();
