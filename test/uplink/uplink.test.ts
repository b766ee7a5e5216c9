/** An uplink before a cluster of several brokers, of which some do not do what they should. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect, onTestFinished, test, vi } from "vitest";
import { GroupCoordinator } from "../../src/groups/coordinator.ts";
import type { StreamStore } from "../../src/log/stream-store.ts";
import type { UplinkOptions } from "../../src/uplink/options.ts";
import { Uplinks } from "../../src/uplink/uplinks.ts";
import { sentBatch } from "../support/batches.ts";
import { append, openStore, partitionOf, record, silentLogger } from "../support/log.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { FakeCluster, KEY } from "./fake-cluster.ts";

const TOPIC = "remote";

const OPTIONS: Omit<UplinkOptions, "brokers"> = {
  name: "cloud",
  gateway: "test",
  streams: [{ pattern: "telemetry", to: TOPIC }],
  delivery: "exactly-once",
  from: "beginning",
  partitioning: "same",
  headers: false,
  compression: "none",
  create: false,
  intervalMs: 1,
  maxTransactionBytes: 1 << 20,
  maxBatchBytes: 1 << 18,
  connectTimeoutMs: 2_000,
  requestTimeoutMs: 60_000,
  transactionTimeoutMs: 60_000,
  maxBackoffMs: 50,
  rate: { share: 1, schedule: [] },
  onPoison: "stop",
  onPlaceLost: "ask",
  waitFor: [],
  warnAtMs: [],
};

/** With `values` in its first partition before the uplink starts. */
async function forwarding(
  cluster: FakeCluster,
  options: Partial<UplinkOptions> = {},
  values: readonly string[] = [],
) {
  const log = await openStore(await temporaryFolder());
  await log.createStream("telemetry", cluster.leaders.length, {}, "config");
  for (const value of values) await send(log, 0, value);
  const groups = new GroupCoordinator(log, {}, silentLogger);
  await groups.start();
  const brokers = [cluster.address(0)];
  const services = {
    ...{ log, groups, logId: "log", logger: silentLogger },
    isCommitting: () => log.isCommitting,
    freeBytes: async () => undefined,
  };
  const uplinks = new Uplinks([{ ...OPTIONS, brokers, ...options }], services);
  await uplinks.start();
  const close = async (): Promise<void> => {
    await uplinks.close();
    await groups.close();
  };
  onTestFinished(close);
  return { log, uplinks, brokers, uplink: uplinks.named("cloud"), close };
}

const send = (log: StreamStore, partition: number, value: string): Promise<void> =>
  append(log, [record(partitionOf(log.stream("telemetry"), partition), null, value)]);

const wait = { timeout: 20_000, interval: 5 };
const arrives = (cluster: FakeCluster, partition: number, values: readonly string[]): Promise<void> =>
  vi.waitFor(() => expect(cluster.valuesOf(partition)).toEqual(values), wait);

/** A door that answers wait at, until it is opened. */
function door(): { readonly open: () => void; readonly passed: Promise<void> } {
  let open = (): void => {};
  const passed = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { open, passed };
}

test("a partition without a leader is set aside and said; the others go on, and it follows when it has one", async () => {
  const cluster = await FakeCluster.start(TOPIC, [0, -1, 0, 1], 2);
  const { log, uplink } = await forwarding(cluster);
  for (const partition of [0, 1, 2, 3]) await send(log, partition, "first");
  for (const partition of [0, 2, 3]) await arrives(cluster, partition, ["first"]);
  for (const partition of [0, 2, 3]) await send(log, partition, "second");
  for (const partition of [0, 2, 3]) await arrives(cluster, partition, ["first", "second"]);
  const reports = uplink.report.streams[0]?.partitions ?? [];
  expect(reports.map(({ state }) => state)).toEqual(["ready", "failing", "ready", "ready"]);
  expect(reports[1]?.problem?.message).toMatch(/has no leader/);
  cluster.leaders[1] = 1;
  await arrives(cluster, 1, ["first"]);
});

test("a broker that is gone holds up what it leads, and nothing else; the session goes on", async () => {
  const cluster = await FakeCluster.start(TOPIC, [0, 1, 0, 1], 2);
  const { log, uplink } = await forwarding(cluster);
  for (const partition of [0, 1, 2, 3]) await send(log, partition, "first");
  for (const partition of [0, 1, 2, 3]) await arrives(cluster, partition, ["first"]);
  await cluster.stop(1);
  for (const value of ["second", "third", "fourth"]) {
    // Alone, so that nothing but the broker that is gone is asked for it.
    await send(log, 1, value);
    await vi.waitFor(() => {
      expect(uplink.report.streams[0]?.partitions[1]?.problem?.message).toMatch(/nothing listens there/);
    }, wait);
    for (const partition of [0, 2]) await send(log, partition, value);
    for (const partition of [0, 2])
      await vi.waitFor(() => expect(cluster.valuesOf(partition).at(-1)).toBe(value), wait);
  }
  await cluster.again(1);
  await arrives(cluster, 1, ["first", "second", "third", "fourth"]);
  expect(uplink.report.sent.sessions).toBe(1);
  await vi.waitFor(() => expect(uplink.report.streams[0]?.partitions[1]?.state).toBe("ready"), wait);
});

test("a broker that is slow holds up what it leads, and nothing else", async () => {
  // 0 and 2 are of one lane.
  const cluster = await FakeCluster.start(TOPIC, [0, 0, 1, 0], 2);
  const { log, uplink } = await forwarding(cluster);
  const { open, passed } = door();
  let slow = 0;
  cluster.onRequest = async (nodeId, apiKey) => {
    if (nodeId === 1 && apiKey === KEY.produce) await (slow++ === 0 ? sleep(1_200) : passed);
  };
  const telemetry = (index: number) => partitionOf(log.stream("telemetry"), index);
  await append(log, [record(telemetry(0), null, "first"), record(telemetry(2), null, "first")]);
  await arrives(cluster, 2, ["first"]);
  await send(log, 2, "second");
  await vi.waitFor(() => expect(slow).toBe(2), wait);
  for (const value of ["second", "third", "fourth"]) await send(log, 0, value);
  await arrives(cluster, 0, ["first", "second", "third", "fourth"]);
  expect(cluster.valuesOf(2)).toEqual(["first"]);
  const [, , held] = uplink.report.streams[0]?.partitions ?? [];
  expect(held?.problem?.message).toMatch(/remote\/2: its broker took 1\.\d s, several times as long/);
  open();
  await arrives(cluster, 2, ["first", "second"]);
  await send(log, 2, "third");
  await arrives(cluster, 2, ["first", "second", "third"]);
  await vi.waitFor(() => expect(uplink.report.streams[0]?.partitions[2]?.state).toBe("ready"), wait);
});

test("a reset stands until the cluster has it, however many sessions end before", async () => {
  const cluster = await FakeCluster.start(TOPIC, [0], 1);
  const { log, uplink } = await forwarding(cluster);
  await send(log, 0, "first");
  await arrives(cluster, 0, ["first"]);
  let asked = 0;
  cluster.onRequest = async (_nodeId, apiKey) => {
    if (apiKey !== KEY.produce) return;
    asked++;
    await new Promise(() => {});
  };
  uplink.reset(new Map(uplink.sources.map((source) => [source, 0])), "reset");
  for (let session = 1; session <= 2; session++) {
    // It has been taken, and what is sent again is on its way.
    await vi.waitFor(() => expect(asked).toBe(session), wait);
    await cluster.stop(0);
    await cluster.again(0);
  }
  cluster.onRequest = () => {};
  await cluster.stop(0);
  await cluster.again(0);
  await arrives(cluster, 0, ["first", "first"]);
  // From here on it stands no longer.
  uplink.again();
  await send(log, 0, "second");
  await arrives(cluster, 0, ["first", "first", "second"]);
});

test("a restored data folder that has other records below its place is known by the last one that was delivered", async () => {
  const cluster = await FakeCluster.start(TOPIC, [0], 1);
  const before = await forwarding(cluster, {}, ["kept", "lost"]);
  await arrives(cluster, 0, ["kept", "lost"]);
  await before.close();
  const { uplink } = await forwarding(cluster, {}, ["kept", "new", "newer"]);
  const [source] = uplink.sources;
  await vi.waitFor(() => expect(source?.problem.report?.code).toBe("PLACE_DIVERGED"), wait);
  expect(source?.state).toBe("asking");
  expect(cluster.valuesOf(0)).toEqual(["kept", "lost"]);
  uplink.reset(new Map(uplink.sources.map((one) => [one, 1])), "reset");
  await arrives(cluster, 0, ["kept", "lost", "new", "newer"]);
});

test("what an uplink waits for is held while another one takes its place and through a stop, until it is gone for good", async () => {
  const cluster = await FakeCluster.start(TOPIC, [0, 0], 1);
  const wanted = { waitFor: ["telemetry"] };
  const { log, uplinks, brokers, close } = await forwarding(cluster, wanted, ["first"]);
  await arrives(cluster, 0, ["first"]);
  const partitions = log.stream("telemetry")?.partitions ?? [];
  const letGo = partitions.map((partition) => {
    const hold = vi.spyOn(partition, "hold");
    return () => hold.mock.calls.some(([, offset]) => offset === undefined);
  });
  await uplinks.use([{ ...OPTIONS, ...wanted, brokers, intervalMs: 2 }]);
  expect(letGo.map((one) => one())).toEqual([false, false]);
  await uplinks.use([]);
  expect(letGo.map((one) => one())).toEqual([true, true]);
  await uplinks.use([{ ...OPTIONS, ...wanted, brokers }]);
  vi.restoreAllMocks();
  const stopping = partitions.map((partition) => vi.spyOn(partition, "hold"));
  await close();
  for (const hold of stopping)
    expect(hold.mock.calls.filter(([, offset]) => offset === undefined)).toEqual([]);
  vi.restoreAllMocks();
});

test("the same data folder under another process goes on where it was", async () => {
  const cluster = await FakeCluster.start(TOPIC, [0], 1);
  const before = await forwarding(cluster, {}, ["first", "second"]);
  await arrives(cluster, 0, ["first", "second"]);
  await before.close();
  await forwarding(cluster, {}, ["first", "second", "third"]);
  await arrives(cluster, 0, ["first", "second", "third"]);
});

test("another broker is asked where the one that is configured goes away", async () => {
  const cluster = await FakeCluster.start(TOPIC, [1], 3);
  cluster.coordinator = 1;
  const { log, uplink } = await forwarding(cluster, { brokers: [cluster.address(2)] });
  await send(log, 0, "first");
  await arrives(cluster, 0, ["first"]);
  await cluster.stop(2);
  cluster.leaders[0] = 0;
  await send(log, 0, "second");
  await arrives(cluster, 0, ["first", "second"]);
  expect(uplink.report.sent.sessions).toBe(1);
});

test.each([
  ["cannot be unpacked", { codec: 3 }, 1 << 20, /in lz4, which cannot be unpacked here/, 3],
  ["is too large", {}, 100, /more than letters takes at once/, 1],
])(
  "what %s for a dead letter holds up its partition, and no other",
  async (_what, fields, maxMessageBytes, words, times) => {
    const cluster = await FakeCluster.start(TOPIC, [0, 0], 1);
    cluster.refused = "poison";
    const { log, uplink } = await forwarding(cluster, { onPoison: "dead-letter", deadLetters: "letters" });
    await log.createStream("letters", 1, { maxMessageBytes }, "config");
    const batch = sentBatch([{ key: null, value: "poison" }], fields);
    await append(log, [{ partition: partitionOf(log.stream("telemetry"), 0), batch }]);
    const held = () => uplink.report.streams[0]?.partitions[0];
    await vi.waitFor(() => {
      expect(held()?.problem?.message).toMatch(words);
      expect(held()?.problem?.count).toBeGreaterThanOrEqual(times);
    }, wait);
    await send(log, 1, "fine");
    await arrives(cluster, 1, ["fine"]);
    expect(held()).toMatchObject({ state: "failing", poison: 0 });
    expect(uplink.report.sent.sessions).toBe(1);
  },
);

test("a pause while it connects is no problem of the cluster's", async () => {
  const cluster = await FakeCluster.start(TOPIC, [0], 1);
  let asked = 0;
  cluster.onRequest = async (_nodeId, apiKey) => {
    if (apiKey !== KEY.metadata) return;
    asked++;
    await new Promise(() => {});
  };
  const { uplink } = await forwarding(cluster);
  await vi.waitFor(() => expect(asked).toBe(1), wait);
  await uplink.setResting("paused");
  await vi.waitFor(() => expect(uplink.state).toBe("paused"), wait);
  expect(uplink.report.problem).toBeUndefined();
});

test("a cluster that is too old is named, with what is needed", async () => {
  const cluster = await FakeCluster.start(TOPIC, [0], 1);
  cluster.versions.delete(KEY.initProducerId);
  const { uplink } = await forwarding(cluster);
  await vi.waitFor(() => {
    expect(uplink.report.problem).toMatchObject({
      message: expect.stringMatching(/serves InitProducerId not at all, but version 0 is needed/),
      mend: expect.stringMatching(/Kafka 2.5 or newer/),
    });
  }, wait);
});

test.each([2_000_000_000_000, -2_000_000_000_000])(
  "a wall clock that jumps by %i ms delays nothing, and since when it was away is still right",
  async (jumpMs) => {
    const cluster = await FakeCluster.start(TOPIC, [0], 1);
    const { log, uplink } = await forwarding(cluster);
    await send(log, 0, "first");
    await arrives(cluster, 0, ["first"]);
    await cluster.stop(0);
    await send(log, 0, "second");
    await vi.waitFor(() => expect(uplink.report.state).toBe("down"), wait);
    const real = Date.now;
    const clock = vi.spyOn(Date, "now").mockImplementation(() => real() + jumpMs);
    onTestFinished(() => clock.mockRestore());
    await vi.waitFor(() => expect(uplink.report.problem?.count).toBeGreaterThan(3), wait);
    for (const since of [uplink.report.since, uplink.report.problem?.since ?? 0]) {
      expect(Math.abs(Date.now() - since)).toBeLessThan(60_000);
    }
    await cluster.again(0);
    await arrives(cluster, 0, ["first", "second"]);
  },
);
