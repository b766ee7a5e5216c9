/** Connections to a cluster's brokers. */
import { expect, onTestFinished, test, vi } from "vitest";
import { KafkaClient } from "../../src/kafka/client.ts";
import { Cluster } from "../../src/uplink/cluster.ts";
import { FakeCluster, KEY } from "./fake-cluster.ts";

test("those that find a broker's connection broken at the same time share the next one", async () => {
  const fake = await FakeCluster.start("remote", [0], 2);
  const brokers = [fake.address(0)];
  const cluster = new Cluster({
    clientId: "test",
    brokers,
    connectTimeoutMs: 5_000,
    requestTimeoutMs: 5_000,
  });
  onTestFinished(() => cluster.close());
  await cluster.refresh([]);
  await cluster.reach(1);
  const closed = vi.spyOn(KafkaClient.prototype, "close");
  onTestFinished(() => closed.mockRestore());
  await fake.stop(1);
  await fake.again(1);
  await vi.waitFor(() => expect(closed).toHaveBeenCalled());
  let opened = 0;
  fake.onRequest = (nodeId, apiKey) => {
    if (nodeId === 1 && apiKey === KEY.apiVersions) opened++;
  };
  await Promise.all([cluster.reach(1), cluster.reach(1), cluster.reach(1)]);
  expect(opened).toBe(1);
});
