/**
 * Produce: a producer's record batches into the log, stored as they come.
 *
 * Served are 3–11 (record batches v2). 0–2 are advertised all the same and answered with
 * UNSUPPORTED_VERSION: librdkafka takes a minimum above 0 for a broker that cannot compress (Kafka itself
 * advertises 0 for this reason, KAFKA-18659).
 *
 * acks=1 and acks=-1 are answered after the commit that holds the batches; the gateway has no replica, so
 * they are the same. acks=0 gets no answer, and an error closes the connection, as in Kafka: it is the only
 * sign such a producer can be given. Not here: transactions, LogAppendTime, topic ids (13).
 */
import { ProtocolError } from "../../errors.ts";
import type { BatchAppend } from "../../log/log.ts";
import {
  BATCH_HEADER_BYTES,
  batchBytes,
  codecOf,
  isControl,
  isTransactional,
  magicOf,
} from "../../wire/record-batch.ts";
import { array, int16, int32, int64, records, string, struct } from "../../wire/schema.ts";
import { api, type RequestContext } from "../api.ts";
import { ErrorCode } from "../error-code.ts";
import { errorCodeOf, type Refusal, refusal } from "./common.ts";

interface PartitionResponse {
  readonly index: number;
  readonly errorCode: number;
  readonly errorMessage: string | null;
  readonly baseOffset: number;
  readonly logStartOffset: number;
}

function refused(index: number, { errorCode, errorMessage }: Refusal): PartitionResponse {
  return { index, errorCode, errorMessage, baseOffset: -1, logStartOffset: -1 };
}

/** Why a batch may not go to the log; its checksum and sequence are the log's to judge. */
function batchRefusal(batch: Buffer, version: number): Refusal | undefined {
  if (batch.length < BATCH_HEADER_BYTES || magicOf(batch) !== 2) {
    return refusal(ErrorCode.INVALID_RECORD, "only record batches of version 2 are taken");
  }
  // Kafka's rule for Produce 3 and later: it makes sequences and the answered offset unambiguous.
  if (batchBytes(batch) < batch.length) {
    return refusal(ErrorCode.INVALID_RECORD, "exactly one record batch per partition is taken");
  }
  if (isTransactional(batch)) {
    return refusal(ErrorCode.INVALID_TXN_STATE, "transactions are not supported here");
  }
  if (isControl(batch)) {
    return refusal(ErrorCode.INVALID_RECORD, "clients may not write control records");
  }
  // KIP-110: zstd (codec 4) only for those who know it.
  if (codecOf(batch) > 4 || (codecOf(batch) === 4 && version < 7)) {
    return refusal(
      ErrorCode.UNSUPPORTED_COMPRESSION_TYPE,
      "this compression is not for this version of Produce",
    );
  }
  return undefined;
}

/** Appends at once, so that batches reach the log in the order of requests; resolves after the commit. */
function append(
  streamName: string,
  index: number,
  given: readonly Buffer[] | null,
  context: RequestContext,
): Promise<PartitionResponse> | PartitionResponse {
  const stream = context.log.stream(streamName);
  const partition = stream?.partitions[index];
  if (stream === undefined || partition === undefined) {
    return refused(
      index,
      refusal(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, `there is no partition ${index} of "${streamName}"`),
    );
  }
  if (stream.internal) {
    return refused(
      index,
      refusal(ErrorCode.INVALID_TOPIC_EXCEPTION, `"${streamName}" is written by the gateway itself only`),
    );
  }
  const batch = given?.[0] ?? Buffer.alloc(0);
  const problem = batchRefusal(batch, context.version);
  if (problem !== undefined) return refused(index, problem);
  return new Promise((resolve, reject) => {
    const entry: BatchAppend = { partition, batch };
    // An append of its own for each partition: they meet in the same commit, but one's error is its own.
    context.log.append([entry], (error) => {
      try {
        resolve(
          error === null
            ? {
                index,
                errorCode: ErrorCode.NONE,
                errorMessage: null,
                baseOffset: entry.offset ?? -1,
                logStartOffset: partition.logStartOffset,
              }
            : refused(index, refusal(errorCodeOf(error), error.message)),
        );
      } catch (fault) {
        reject(fault);
      }
    });
  });
}

function requestRefusal(version: number, acks: number, transactionalId: string | null): Refusal | undefined {
  if (version < 3) return refusal(ErrorCode.UNSUPPORTED_VERSION, "Produce is served from version 3 on");
  if (acks < -1 || acks > 1) return refusal(ErrorCode.INVALID_REQUIRED_ACKS, `acks=${acks}`);
  if (transactionalId !== null) {
    return refusal(
      ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
      "transactions are not supported here: leave out the transactional id",
    );
  }
  return undefined;
}

export const produce = api({
  key: 0,
  name: "Produce",
  versions: { min: 3, max: 11, flexible: 9 },
  advertised: { min: 0, max: 11 },
  request: {
    transactionalId: string({ versions: "3+", nullable: "3+", default: null }),
    acks: int16(),
    timeoutMs: int32(),
    topicData: array({
      name: string(),
      partitionData: array({ index: int32(), records: records({ nullable: "0+" }) }),
    }),
  },
  response: {
    responses: array({
      name: string(),
      partitionResponses: array({
        index: int32(),
        errorCode: int16(),
        baseOffset: int64(),
        logAppendTimeMs: int64({ versions: "2+", default: -1 }),
        logStartOffset: int64({ versions: "5+", default: -1 }),
        recordErrors: array(
          { batchIndex: int32(), batchIndexErrorMessage: string({ nullable: "8+", default: null }) },
          { versions: "8+" },
        ),
        errorMessage: string({ versions: "8+", nullable: "8+", default: null }),
        currentLeader: struct(
          { leaderId: int32({ default: -1 }), leaderEpoch: int32({ default: -1 }) },
          { versions: "10+", tag: 0 },
        ),
      }),
    }),
    throttleTimeMs: int32({ versions: "1+" }),
    nodeEndpoints: array(
      { nodeId: int32(), host: string(), port: int32(), rack: string({ nullable: "10+", default: null }) },
      { versions: "10+", tag: 0 },
    ),
  },
  async handle({ acks, transactionalId, topicData }, context) {
    const problem = requestRefusal(context.version, acks, transactionalId);
    const responses = await Promise.all(
      topicData.map(async ({ name, partitionData }) => ({
        name,
        partitionResponses: await Promise.all(
          partitionData.map(({ index, records: given }) =>
            problem === undefined ? append(name, index, given, context) : refused(index, problem),
          ),
        ),
      })),
    );
    if (acks !== 0) return { responses };
    const error = responses
      .flatMap((stream) => stream.partitionResponses)
      .find(({ errorCode }) => errorCode !== ErrorCode.NONE);
    if (error !== undefined) {
      throw new ProtocolError(`a Produce without acknowledgement failed: ${error.errorMessage}`);
    }
    return null;
  },
});
