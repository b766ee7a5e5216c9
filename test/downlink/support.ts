/** Downlinks in front of a broker on a log whose disk can stop; see test/mqtt/killed.ts. */
import { onTestFinished } from "vitest";
import { Downlinks, type FailedRecord } from "../../src/downlink/downlink.ts";
import { GroupCoordinator } from "../../src/groups/coordinator.ts";
import type { DownlinkDefinition } from "../../src/mapping/downlink-rule.ts";
import { publishProblem } from "../../src/mqtt/topic-rules.ts";
import { Disk, type Gateway, startGateway } from "../mqtt/killed.ts";
import { append, partitionOf, record, silentLogger } from "../support/log.ts";

export const STREAM = "commands";

export const rule = (more: Partial<DownlinkDefinition> = {}): DownlinkDefinition => ({
  name: "commands",
  from: STREAM,
  to: "devices/${key}/set",
  qos: 1,
  retain: false,
  ...more,
});

export interface WithDownlinks {
  readonly gateway: Gateway;
  readonly groups: GroupCoordinator;
  readonly downlinks: Downlinks;
  readonly failed: FailedRecord[];
  /** A record on the stream's partition 0; resolves when it is on disk. */
  write(key: string | null, value: string, timestamp?: number): Promise<void>;
}

export async function withDownlinks(
  definitions: readonly DownlinkDefinition[],
  gateway?: Gateway,
): Promise<WithDownlinks> {
  const running = gateway ?? (await startGateway(new Disk()));
  const { store, broker } = running;
  if (store.stream(STREAM) === undefined) await store.createStream(STREAM, 1, {}, "config");
  const groups = new GroupCoordinator(store, {}, silentLogger);
  await groups.start();
  const failed: FailedRecord[] = [];
  const downlinks = new Downlinks(
    { rules: definitions },
    {
      log: store,
      groups,
      publish: (messages, more) => broker.publish(messages, more),
      topicProblem: publishProblem,
      deadLetter: (one) => void failed.push(one),
    },
    silentLogger,
  );
  await downlinks.start();
  // One whose disk has stopped never ends; what it waits for ends with the test.
  onTestFinished(() => void downlinks.close());
  return {
    gateway: running,
    groups,
    downlinks,
    failed,
    write: (key, value, timestamp = Date.now()) =>
      append(store, [record(partitionOf(store.stream(STREAM)), key, value, timestamp)]),
  };
}
