/**
 * The judge of @platformatic/kafka: run with the folder it is installed in and the bootstrap servers; prints what
 * it saw, a section a step. What depends on time or chance is left out here, not by the comparison.
 */
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [folder = "", brokers = ""] = process.argv.slice(2);
const entry = createRequire(join(folder, "package.json")).resolve("@platformatic/kafka");
const { Admin, Consumer, Producer, stringDeserializers, stringSerializers } = await import(
  pathToFileURL(entry).href
);

const START = 1_700_000_000_000n;
const options = { clientId: "platformatic", bootstrapBrokers: [brokers], retries: 5, timeout: 10_000 };
const plain = (_, value) =>
  typeof value === "bigint" ? Number(value) : value instanceof Map ? Object.fromEntries(value) : value;
const say = (...values) => console.log(...values.map((value) => JSON.stringify(value, plain)));
const section = (name) => console.log(`## platformatic: ${name}`);
/** The protocol's errors in whatever the client wraps them. */
const apiErrors = (error) =>
  error?.apiId ? [error.apiId] : (error?.errors ?? (error?.cause ? [error.cause] : [])).flatMap(apiErrors);
const attempt = async (what, action) => {
  try {
    say(what, (await action()) ?? "ok");
  } catch (error) {
    const known = apiErrors(error);
    say(what, known.length > 0 ? known : (error.code ?? error.message));
  }
};

const admin = new Admin(options);
section("topics");
const without = ({ name, partitions, replicas }) => [name, partitions, replicas];
await attempt("create", async () =>
  (await admin.createTopics({ topics: ["pl-one"], partitions: 1, replicas: 1 })).map(without),
);
await attempt("create", async () =>
  (await admin.createTopics({ topics: ["pl-three"], partitions: 3, replicas: 1 })).map(without),
);
await attempt("create again", () => admin.createTopics({ topics: ["pl-one"], partitions: 1, replicas: 1 }));
await attempt("create badly", () => admin.createTopics({ topics: ["pl bad"], partitions: 1, replicas: 1 }));
await attempt("list", async () => (await admin.listTopics()).filter((name) => name.startsWith("pl-")).sort());

section("configs");
const RESOURCE = { resourceType: 2, resourceName: "pl-one" };
const described = async () =>
  (await admin.describeConfigs({ resources: [{ ...RESOURCE, configurationKeys: ["retention.ms"] }] })).map(
    ({ configs }) => configs.map(({ name, value }) => [name, value]),
  );
const set = (configs) =>
  admin.incrementalAlterConfigs({ resources: [{ ...RESOURCE, configs }], validateOnly: false });
await attempt("describe", described);
await attempt("set", () => set([{ name: "retention.ms", configOperation: 0, value: "3600000" }]));
await new Promise((resolve) => setTimeout(resolve, 500)); // Kafka answers before its brokers have heard of it
await attempt("describe", described);
await attempt("set badly", () => set([{ name: "no.such", configOperation: 0, value: "1" }]));

section("records");
// zstd needs a newer Node.
const produce = async (settings, messages) => {
  const producer = new Producer({ ...options, serializers: stringSerializers, ...settings });
  try {
    const { offsets } = await producer.send({ messages });
    return offsets?.map(({ partition, offset }) => [partition, offset]).sort();
  } finally {
    await producer.close();
  }
};
const message = (value, index, more = {}) => ({
  topic: "pl-one",
  partition: 0,
  key: `k${index}`,
  value,
  timestamp: START + BigInt(index),
  headers: { n: String(index) },
  ...more,
});
await attempt("plain", () => produce({}, [message("a", 0), message("b", 1)]));
for (const compression of ["gzip", "snappy", "lz4"]) {
  const some = Array.from({ length: 20 }, (_, index) => message(`${compression} ${index}`, 10 + index));
  await attempt(compression, () => produce({ compression }, some));
}
await attempt("idempotent", () =>
  produce({ idempotent: true }, [message("once", 100), message("once", 101)]),
);
await attempt("acks 1", () => produce({ acks: 1 }, [message("one", 200)]));
await attempt("acks 0", () => produce({ acks: 0 }, [message("none", 201)]));
await attempt("spread", () =>
  produce(
    {},
    Array.from({ length: 40 }, (_, index) =>
      message("s", index, { topic: "pl-three", partition: index % 3 }),
    ),
  ),
);

section("a group");
const consumer = (groupId, settings = {}) =>
  new Consumer({ ...options, groupId, deserializers: stringDeserializers, maxWaitTime: 200, ...settings });
const read = async (groupId, topic, count) => {
  const reader = consumer(groupId);
  const lines = [];
  const stream = await reader.consume({
    topics: [topic],
    mode: "committed",
    fallbackMode: "earliest",
    autocommit: false,
  });
  let last;
  for await (const { partition, offset, key, value, timestamp, headers, commit } of stream) {
    lines.push([partition, offset, timestamp - START, key, value, [...headers]]);
    last = commit;
    if (lines.length === count) break;
  }
  await last?.();
  await stream.close().catch(() => {});
  await reader.close(true);
  return lines.sort((a, b) => a[0] - b[0] || Number(a[1] - b[1]));
};
for (const line of await read("pl-first", "pl-one", 66)) say(line);
await attempt("read and committed", async () => (await read("pl-second", "pl-three", 40)).length);
const asking = consumer("pl-first");
await attempt("committed", () =>
  asking.listCommittedOffsets({ topics: [{ topic: "pl-one", partitions: [0] }] }),
);
await attempt("latest", () => asking.listOffsets({ topics: ["pl-one"] }));
await attempt("earliest", () => asking.listOffsets({ topics: ["pl-one"], timestamp: -2n }));
await attempt("by time", () => asking.listOffsets({ topics: ["pl-one"], timestamp: START + 100n }));
await asking.close();

section("groups, administration");
const mine = (groups) => [...groups.values()].filter(({ id }) => id.startsWith("pl-"));
await attempt("list", async () =>
  mine(await admin.listGroups())
    .map(({ id, state, protocolType }) => [id, state, protocolType])
    .sort(),
);
await attempt("describe", async () =>
  mine(await admin.describeGroups({ groups: ["pl-first"] })).map(({ id, state, protocolType }) => [
    id,
    state,
    protocolType,
  ]),
);
const offsets = (offset) => ({
  groupId: "pl-first",
  topics: [{ name: "pl-one", partitionOffsets: [{ partition: 0, offset }] }],
});
await attempt("alter offsets", () => admin.alterConsumerGroupOffsets(offsets(3n)));
await attempt("offsets", async () =>
  (await admin.listConsumerGroupOffsets({ groups: ["pl-first"] })).map(({ topics }) =>
    topics.map(({ name, partitions }) => [
      name,
      partitions.map(({ partitionIndex, committedOffset }) => [partitionIndex, committedOffset]),
    ]),
  ),
);
await attempt("delete offsets", () =>
  admin.deleteConsumerGroupOffsets({
    groupId: "pl-first",
    topics: [{ name: "pl-one", partitionIndexes: [0] }],
  }),
);
await attempt("delete", () => admin.deleteGroups({ groups: ["pl-first"] }));
await attempt("delete what is not there", () => admin.deleteGroups({ groups: ["pl-nobody"] }));

section("the rest");
await attempt("list offsets", async () =>
  (
    await admin.listOffsets({
      topics: [{ name: "pl-one", partitions: [{ partitionIndex: 0, timestamp: -1n }] }],
    })
  ).map(({ name, partitions }) => [
    name,
    partitions.map(({ partitionIndex, offset }) => [partitionIndex, offset]),
  ]),
);
await attempt("delete records", () =>
  admin.deleteRecords({ topics: [{ name: "pl-one", partitions: [{ partition: 0, offset: 10n }] }] }),
);
await attempt("acls", () =>
  admin.describeAcls({
    filter: {
      resourceType: 1,
      resourceName: null,
      resourcePatternType: 1,
      principal: null,
      host: null,
      operation: 1,
      permissionType: 1,
    },
  }),
);
await attempt("quotas", () =>
  admin.describeClientQuotas({ components: [{ entityType: "client-id", matchType: 1 }], strict: false }),
);
await attempt("a transaction", async () => {
  const producer = new Producer({
    ...options,
    retries: 0,
    serializers: stringSerializers,
    idempotent: true,
    transactionalId: "pl",
  });
  try {
    const transaction = await producer.beginTransaction();
    await transaction.commit();
  } finally {
    await producer.close(true).catch(() => {});
  }
});
await attempt("delete topics", () => admin.deleteTopics({ topics: ["pl-one", "pl-three"] }));
await admin.close();
process.exit(0);
