/** What the scripts about mapping share: messages as a sensor sends them, and rates by the CPU that they take. */
import type { PublishPacket } from "../../src/record.ts";
import { median } from "./measure.ts";

const SENSORS = 1_000;
const WARM_UP = 4;
const ROUNDS = 15;

export const payload = Buffer.from(
  JSON.stringify({
    battery: 87,
    humidity: 45.32,
    linkquality: 120,
    temperature: 21.53,
    voltage: 2985,
    pressure: 1013.2,
    update: { state: "idle", installed_version: 16777241 },
    last_seen: "2026-01-01T00:00:00Z",
    contact: true,
  }),
);

function packets(count: number): PublishPacket[] {
  return Array.from({ length: count }, (_, index) => ({
    // A fresh string per message, as it comes out of the parser: its hash is not known yet.
    mqttTopic: Buffer.from(`sensors/north/t${index % SENSORS}/temperature`).toString(),
    payload,
    qos: 1 as const,
    retain: false,
    clientId: `t${index % SENSORS}`,
    username: undefined,
    receivedAt: 1_767_225_600_000,
  }));
}

/** Of this process, in seconds: what others take of the machine does not count. */
function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

/** Messages a second of CPU: the median of some rounds, each on messages that are new, after some that do not count. */
export async function cpuRate(
  count: number,
  take: (batch: readonly PublishPacket[]) => void | Promise<void>,
): Promise<number> {
  const rates: number[] = [];
  for (let round = 0; round < WARM_UP + ROUNDS; round++) {
    const batch = packets(count);
    const started = cpuSeconds();
    await take(batch);
    rates.push(count / (cpuSeconds() - started));
  }
  return median(rates.slice(WARM_UP));
}
