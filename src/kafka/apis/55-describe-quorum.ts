/** DescribeQuorum: there is no metadata quorum, and no log of one to describe: UNSUPPORTED_VERSION, in words from 2 on. */
import { array, int16, int32, int64, string, uint16, uuid } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ErrorCode } from "../error-code.ts";

const replicas = array({
  replicaId: int32(),
  replicaDirectoryId: uuid({ versions: "2+" }),
  logEndOffset: int64(),
  lastFetchTimestamp: int64({ versions: "1+", default: -1 }),
  lastCaughtUpTimestamp: int64({ versions: "1+", default: -1 }),
});

export const describeQuorum = api({
  key: 55,
  name: "DescribeQuorum",
  limits: "no KRaft quorum: UNSUPPORTED_VERSION",
  versions: { min: 0, max: 2, flexible: 0 },
  request: { topics: array({ topicName: string(), partitions: array({ partitionIndex: int32() }) }) },
  response: {
    errorCode: int16(),
    errorMessage: string({ versions: "2+", nullable: "2+" }),
    topics: array({
      topicName: string(),
      partitions: array({
        partitionIndex: int32(),
        errorCode: int16(),
        errorMessage: string({ versions: "2+", nullable: "2+" }),
        leaderId: int32(),
        leaderEpoch: int32(),
        highWatermark: int64(),
        currentVoters: replicas,
        observers: replicas,
      }),
    }),
    nodes: array(
      { nodeId: int32(), listeners: array({ name: string(), host: string(), port: uint16() }) },
      { versions: "2+" },
    ),
  },
  handle: () => ({
    errorCode: ErrorCode.UNSUPPORTED_VERSION,
    errorMessage: "there is no metadata quorum here: Sluice is one node",
  }),
});
