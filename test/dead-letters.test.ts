/** Dead letters: looked at, and sent through the present rules, once each. */
import { describe, expect, test } from "vitest";
import { DeadLetters, type RetryProgress } from "../src/dead-letters.ts";
import { Downlinks } from "../src/downlink/downlink.ts";
import { GroupCoordinator } from "../src/groups/coordinator.ts";
import { StreamStore } from "../src/log/stream-store.ts";
import { Mapper } from "../src/mapping/mapper.ts";
import type { RuleDefinition } from "../src/mapping/rule.ts";
import type { OwnMessage } from "../src/mqtt/broker.ts";
import { type Companions, Ingest } from "../src/mqtt/ingest.ts";
import { Disk } from "./mqtt/killed.ts";
import { append, partitionOf, readAll, record, silentLogger, values } from "./support/log.ts";

const STRICT: RuleDefinition = { name: "strict", from: "s/+device", to: "telemetry", key: "${payload.id}" };
const LENIENT: RuleDefinition = { name: "lenient", from: "s/+device", to: "telemetry", key: "${device}" };
const ARRIVED = 1_767_225_600_000;

interface Bench {
  readonly disk: Disk;
  readonly store: StreamStore;
  readonly ingest: Ingest;
  readonly deadLetters: DeadLetters;
  readonly downlinks: Downlinks;
  readonly sent: OwnMessage[];
  use(rules: readonly RuleDefinition[], fallbackStream?: string): void;
  publish(mqttTopic: string, payload: string): Promise<void>;
  retry(): Promise<RetryProgress | undefined>;
}

async function start(rules: readonly RuleDefinition[], disk = new Disk()): Promise<Bench> {
  const { fileSystem } = disk;
  const store = new StreamStore({
    dataDir: "/data",
    logger: silentLogger,
    journalFileBytes: 1 << 20,
    fileSystem,
  });
  await store.start();
  for (const name of ["telemetry", "rest", "commands"]) {
    if (store.stream(name) === undefined) await store.createStream(name, 2, {}, "config");
  }
  const groups = new GroupCoordinator(store, {}, silentLogger);
  await groups.start();
  const mapper = (some: readonly RuleDefinition[]) =>
    new Mapper(some, (name) => store.stream(name)?.partitions.length ?? 0);
  const options = (fallbackStream?: string) => ({ deadLetterStream: "dead-letters", fallbackStream });
  const ingest = new Ingest(mapper(rules), store, silentLogger, options());
  const sent: OwnMessage[] = [];
  const publish = async (messages: readonly OwnMessage[], more: readonly Companions[]): Promise<void> => {
    await append(
      store,
      more.flatMap((one) => one.entries()),
    );
    for (const one of more) one.settle(null);
    sent.push(...messages);
  };
  const deadLetter = (failed: Parameters<DeadLetters["ofDownlink"]>[0]) => deadLetters.ofDownlink(failed);
  const downlinks = new Downlinks(
    { rules: [] },
    { log: store, groups, publish, topicProblem: () => undefined, deadLetter },
    silentLogger,
  );
  const deadLetters: DeadLetters = new DeadLetters({
    log: store,
    groups,
    ingest,
    downlinks,
    stream: () => "dead-letters",
  });
  return {
    disk,
    store,
    ingest,
    deadLetters,
    downlinks,
    sent,
    use: (some, fallbackStream) => ingest.use(mapper(some), options(fallbackStream)),
    publish: (mqttTopic, payload) =>
      new Promise((resolve, reject) => {
        const rest = { qos: 1, retain: false, clientId: "c1", username: "u", receivedAt: ARRIVED } as const;
        const packet = { mqttTopic, payload: Buffer.from(payload), ...rest, companions: undefined };
        ingest.accept(packet, (error) => (error === null ? resolve() : reject(error)));
      }),
    retry: async () => {
      let last: RetryProgress | undefined;
      for await (const progress of deadLetters.retry(new AbortController().signal)) last = progress;
      return last;
    },
  };
}

const stored = async ({ store }: Bench, stream = "telemetry") =>
  (await Promise.all([0, 1].map((index) => values(partitionOf(store.stream(stream), index))))).flat().sort();

test("the list says what it was, where it failed and why", async () => {
  const bench = await start([STRICT]);
  expect(await bench.deadLetters.list(10)).toEqual({ stream: "dead-letters", waiting: 0, letters: [] });
  await bench.publish("s/a", '{"id":1}');
  await bench.publish("s/b", "broken");
  const { waiting, letters } = await bench.deadLetters.list(10);
  expect(waiting).toBe(1);
  expect(letters).toMatchObject([
    {
      partition: 0,
      offset: 0,
      at: ARRIVED,
      from: "s/b",
      rule: "strict",
      field: "key",
      value: "broken",
      bytes: 6,
    },
  ]);
});

test("a list is as long as one asks, the newest last, and says how many there are", async () => {
  const bench = await start([STRICT]);
  for (let n = 0; n < 5; n++) await bench.publish(`s/${n}`, "broken");
  const { waiting, letters } = await bench.deadLetters.list(2);
  expect([waiting, letters.map(({ from }) => from)]).toEqual([5, ["s/3", "s/4"]]);
});

describe("retrying", () => {
  test("makes records of what the present rules take, with the time of arrival, and none twice", async () => {
    const bench = await start([STRICT]);
    for (const device of ["a", "b", "c"]) await bench.publish(`s/${device}`, `broken ${device}`);
    bench.use([LENIENT]);
    expect(await bench.retry()).toEqual({ total: 3, done: 3, failed: 0, passedOver: 0 });
    expect(await stored(bench)).toEqual(["broken a", "broken b", "broken c"]);
    const [first] = (await readAll(partitionOf(bench.store.stream("telemetry"), 0))).concat(
      await readAll(partitionOf(bench.store.stream("telemetry"), 1)),
    );
    expect(first?.timestamp).toBe(ARRIVED);
    expect(await bench.retry()).toEqual({ total: 0, done: 0, failed: 0, passedOver: 0 });
    expect((await bench.deadLetters.list(10)).waiting).toBe(0);
  });

  test("what fails again is a dead letter again, and one round sends it once", async () => {
    const bench = await start([STRICT]);
    await bench.publish("s/a", "broken");
    expect(await bench.retry()).toEqual({ total: 1, done: 1, failed: 1, passedOver: 0 });
    expect(await bench.deadLetters.list(10)).toMatchObject({
      waiting: 1,
      letters: [{ offset: 1, from: "s/a" }],
    });
  });

  test("what no rule takes any more is not dropped, but goes to the fallback if there is one", async () => {
    const bench = await start([STRICT]);
    await bench.publish("s/a", "broken");
    bench.use([]);
    expect(await bench.retry()).toMatchObject({ failed: 1 });
    expect((await bench.deadLetters.list(1)).letters[0]?.error).toBe("no mapping takes it any more");
    bench.use([], "rest");
    expect(await bench.retry()).toMatchObject({ failed: 0 });
    expect(await stored(bench, "rest")).toEqual(["broken"]);
  });

  test("records that are no dead letters are passed over", async () => {
    const bench = await start([STRICT]);
    await bench.publish("s/a", "broken");
    await append(bench.store, [
      record(partitionOf(bench.store.stream("dead-letters")), "k", "somebody else's"),
    ]);
    bench.use([LENIENT]);
    expect(await bench.retry()).toEqual({ total: 2, done: 2, failed: 0, passedOver: 1 });
  });

  test("one at a time", async () => {
    const bench = await start([STRICT]);
    await bench.publish("s/a", "broken");
    const first = bench.deadLetters.retry(new AbortController().signal);
    await first.next();
    await expect(bench.retry()).rejects.toMatchObject({ code: "BUSY" });
    await first.return(undefined);
    expect(await bench.retry()).toMatchObject({ done: 1 });
  });

  test("a downlink's record is sent by its present rule", async () => {
    const bench = await start([STRICT]);
    await bench.publish("s/a", "so that there is a stream for it");
    const commands = { name: "c", from: "commands", to: "d/${key}/set", qos: 1, retain: false } as const;
    const failed = {
      ...record(partitionOf(bench.store.stream("commands")), "a/b", "on"),
      offset: 7,
      headers: [],
    };
    const letter = bench.deadLetters.ofDownlink({
      record: failed,
      stream: "commands",
      partition: 0,
      rule: "c",
      problem: "levels",
    });
    await append(bench.store, letter?.entries() ?? []);
    expect((await bench.deadLetters.list(1)).letters).toMatchObject([
      { from: "commands[0]@7", rule: "c", error: "levels" },
    ]);
    bench.use([LENIENT]);
    bench.downlinks.use({ rules: [commands] });
    expect(await bench.retry()).toEqual({ total: 2, done: 2, failed: 1, passedOver: 0 });
    bench.downlinks.use({ rules: [{ ...commands, to: "d/set" }] });
    expect(await bench.retry()).toEqual({ total: 1, done: 1, failed: 0, passedOver: 0 });
    expect(bench.sent).toMatchObject([{ topic: "d/set", payload: Buffer.from("on") }]);
  });

  test("through a kill at every write, each letter becomes one record", async () => {
    let cases = 0;
    for (let writes = 0; ; writes++, cases++) {
      const bench = await start([STRICT]);
      for (const device of ["a", "b", "c"]) await bench.publish(`s/${device}`, device);
      bench.use([LENIENT]);
      bench.disk.writesLeft = writes;
      const retrying = bench.retry();
      await expect
        .poll(async () => bench.disk.writesLeft === 0 || (await bench.deadLetters.list(1)).waiting === 0, {
          interval: 1,
        })
        .toBe(true);
      const wasOver = bench.disk.writesLeft > 0;
      if (wasOver) await retrying;
      const again = await start([LENIENT], bench.disk.afterKill());
      await again.retry();
      expect(await stored(again), `${writes} writes`).toEqual(["a", "b", "c"]);
      if (wasOver) break;
    }
    expect(cases).toBeGreaterThan(2);
  });
});
