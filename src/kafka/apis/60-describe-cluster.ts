/** DescribeCluster: this one broker, which is the controller too. There are no controllers apart from it. */
import { array, bool, int8, int16, int32, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ErrorCode } from "../error-code.ts";
import { broker, CLUSTER_OPERATIONS, NODE_ID, OPERATIONS_NOT_ASKED } from "./common.ts";

const BROKERS = 1;

export const describeCluster = api({
  key: 60,
  name: "DescribeCluster",
  limits: "the broker only, no controllers apart from it",
  versions: { min: 0, max: 2, flexible: 0 },
  request: {
    includeClusterAuthorizedOperations: bool(),
    endpointType: int8({ versions: "1+", default: BROKERS }),
    includeFencedBrokers: bool({ versions: "2+" }),
  },
  response: {
    throttleTimeMs: int32(),
    errorCode: int16(),
    errorMessage: string({ nullable: "0+", default: null }),
    endpointType: int8({ versions: "1+", default: BROKERS }),
    clusterId: string(),
    controllerId: int32({ default: -1 }),
    brokers: array({
      brokerId: int32(),
      host: string(),
      port: int32(),
      rack: string({ nullable: "0+", default: null }),
      isFenced: bool({ versions: "2+" }),
    }),
    clusterAuthorizedOperations: int32({ default: OPERATIONS_NOT_ASKED }),
  },
  handle({ endpointType, includeClusterAuthorizedOperations }, { clusterId, advertised }) {
    if (endpointType !== BROKERS) {
      return {
        errorCode: ErrorCode.MISMATCHED_ENDPOINT_TYPE,
        errorMessage: "this is a broker",
        endpointType,
      };
    }
    const { nodeId: brokerId, host, port } = broker(advertised);
    return {
      clusterId,
      controllerId: NODE_ID,
      brokers: [{ brokerId, host, port }],
      clusterAuthorizedOperations: includeClusterAuthorizedOperations
        ? CLUSTER_OPERATIONS
        : OPERATIONS_NOT_ASKED,
    };
  },
});
