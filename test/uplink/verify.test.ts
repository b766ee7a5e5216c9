/** The proof of completeness, against a cluster that is asked for one partition. */
import { expect, test } from "vitest";
import { listOffsets } from "../../src/kafka/apis/02-list-offsets.ts";
import type { Cluster, Versions } from "../../src/uplink/cluster.ts";
import { ORIGIN_HEADERS } from "../../src/uplink/remote-batch.ts";
import type { Source } from "../../src/uplink/source.ts";
import { verify } from "../../src/uplink/verify.ts";
import { bodyOfSync, keepRecords } from "../../src/wire/raw-records.ts";
import { batchOf, encodeHeaders, NO_HEADERS } from "../../src/wire/record-batch.ts";

const record = (value: string, headers = NO_HEADERS) => ({
  key: Buffer.from("k"),
  value: Buffer.from(value),
  headers,
  timestamp: 1_000,
});

const originOf = (offset: number) =>
  encodeHeaders(
    Object.entries({ gateway: "g", stream: "s", partition: "0", offset: String(offset) }).map(
      ([name, value]) => ({
        key: ORIGIN_HEADERS[name as keyof typeof ORIGIN_HEADERS],
        value: Buffer.from(value),
      }),
    ),
  );

/** What the cluster has, one partition of it; -2 asks for its begin, -1 for its end. */
const clusterWith = (values: readonly string[]) =>
  ({
    topic: () => ({ leaders: [0] }),
    leaderOf: () => 0,
    ask: async (_nodeId: number, exchange: object, _versions: Versions, body: ListOffsetsBody) => {
      if (exchange === listOffsets) {
        const offset = body.topics[0]?.partitions[0]?.timestamp === -2 ? 0 : values.length;
        return { topics: [{ partitions: [{ errorCode: 0, offset }] }] };
      }
      const records = [batchOf(values.map((value, offset) => record(value, originOf(offset))))];
      return { responses: [{ partitions: [{ errorCode: 0, records }] }] };
    },
  }) as unknown as Cluster;

interface ListOffsetsBody {
  readonly topics: readonly { readonly partitions: readonly { readonly timestamp: number }[] }[];
}

async function verified(cleanup: "delete" | "compact", there: readonly string[], here: Buffer) {
  const end = there.length;
  const partition = {
    stream: { settings: { cleanup } },
    logStartOffset: 0,
    highWatermark: end,
    read: () => [here],
  };
  const source = { name: "s/0", stream: "s", index: 0, topic: "t", next: end, partition };
  return verify(source as unknown as Source, clusterWith(there), {
    gateway: "g",
    sinceMs: undefined,
    anyPartition: false,
    partitionOf: () => 0,
  });
}

const all = ["a", "b", "c"];
const whole = batchOf(all.map((value) => record(value)));
const withoutFirst = await keepRecords(
  whole,
  bodyOfSync(whole, 1 << 20) as Buffer,
  Uint8Array.of(0, 1, 1),
  undefined,
);

test("what is the same on both sides is said to be", async () => {
  expect(await verified("delete", all, whole)).toMatchObject({ records: 3, missing: 0, different: 0 });
});

test("a record that compaction took here is no difference; on another stream it is one", async () => {
  expect(await verified("compact", all, withoutFirst)).toMatchObject({
    records: 2,
    missing: 0,
    different: 0,
    examples: [],
  });
  expect(await verified("delete", all, withoutFirst)).toMatchObject({ different: 1, examples: [0] });
});
