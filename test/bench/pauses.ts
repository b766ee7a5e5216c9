/**
 * The publishers of the reload row, in a process of their own: a steady rate, each message with its sensor's
 * number, and when acknowledgements stopped coming for a moment.
 *
 * Run as `pauses.ts <PausesOptions as JSON>`; prints `begin`, and one line of JSON on SIGTERM when everything
 * that was sent has been acknowledged.
 */
import { clockMs, openSensors, pace } from "./load.ts";

export interface PausesOptions {
  readonly port: number;
  readonly connections: number;
  readonly ratePerSecond: number;
}

export interface PausesResult {
  /** Messages of each sensor; all of them acknowledged. */
  readonly sent: readonly number[];
  /** Stretches without an acknowledgement from anybody: when they ended, and how long they were. */
  readonly gaps: readonly { readonly endedAt: number; readonly ms: number }[];
}

const MIN_GAP_MS = 5;
const { port, connections, ratePerSecond } = JSON.parse(process.argv[2] ?? "{}") as PausesOptions;
const sensors = await openSensors(port, connections, 64);
const gaps: { endedAt: number; ms: number }[] = [];
let last = clockMs();
for (const sensor of sensors) {
  sensor.onAcknowledged = () => {
    const now = clockMs();
    if (now - last >= MIN_GAP_MS) gaps.push({ endedAt: now, ms: now - last });
    last = now;
  };
}
// `pace` takes one sensor after the other, so a message's number among its sensor's follows from its own.
let count = 0;
let over = false;
const number = (payload: Buffer): void => {
  payload.write(`${Math.floor(count++ / connections)}`.padEnd(payload.length), "latin1");
};
pace(sensors, ratePerSecond, () => over, number);
process.stdout.write("begin\n");

process.once("SIGTERM", async () => {
  over = true;
  while (sensors.some(({ sent, acknowledged }) => acknowledged < sent)) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  const result: PausesResult = { sent: sensors.map(({ sent }) => sent), gaps };
  process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
});
