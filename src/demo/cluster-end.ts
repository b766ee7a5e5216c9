/**
 * The Kafka cluster at the far end of a demonstration: a topic of its own, which the gateway's uplink makes, the
 * subscribers read, and the end of the demonstration takes away.
 *
 * The topic has one partition: then a subscriber needs a connection to one broker only, however many there are.
 */
import { randomUUID } from "node:crypto";
import type { Address } from "../config/schema.ts";
import { messageOf, SluiceError } from "../errors.ts";
import { deleteTopics } from "../kafka/apis/20-delete-topics.ts";
import { ErrorCode } from "../kafka/error-code.ts";
import { Cluster } from "../uplink/cluster.ts";

/** `EX_UNAVAILABLE` of sysexits.h. */
const UNAVAILABLE_EXIT_CODE = 69;
const PATIENCE_MS = 10_000;

/** What the gateway and the readers are told of it. */
export interface ClusterPlace {
  readonly brokers: readonly Address[];
  readonly topic: string;
}

export class ClusterEnd {
  readonly place: ClusterPlace;

  constructor(brokers: readonly Address[]) {
    this.place = { brokers, topic: `sluice-demo-${randomUUID().slice(0, 8)}` };
  }

  /** Rejects with the sentence that says why it cannot be reached. */
  async reach(): Promise<void> {
    try {
      await this.asking(async (cluster) => {
        for (const nodeId of cluster.brokerIds) await cluster.reach(nodeId);
      });
    } catch (error) {
      const { mend } = error as { mend?: string };
      const options = { exitCode: UNAVAILABLE_EXIT_CODE, cause: error, mend };
      throw new SluiceError("DEMO_CLUSTER", messageOf(error), options);
    }
  }

  /** With the topic the cluster forgets every place in it. Rejects where it may not be deleted. */
  async remove(): Promise<void> {
    const { topic } = this.place;
    await this.asking(async (cluster) => {
      const body = { topicNames: [topic], timeoutMs: PATIENCE_MS };
      const { responses } = await cluster.ask(cluster.controllerId, deleteTopics, [1, 5], body);
      const code = responses[0]?.errorCode ?? ErrorCode.NONE;
      if (code !== ErrorCode.NONE && code !== ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        throw new SluiceError("DEMO_TOPIC", `error ${code}`);
    });
  }

  private async asking(ask: (cluster: Cluster) => Promise<void>): Promise<void> {
    const cluster = new Cluster({
      clientId: "sluice-demo",
      brokers: this.place.brokers,
      connectTimeoutMs: PATIENCE_MS,
      requestTimeoutMs: PATIENCE_MS,
    });
    try {
      await cluster.refresh([]);
      await ask(cluster);
    } finally {
      cluster.close();
    }
  }
}
