/**
 * Produce: a producer's record batches into the log, stored as they come.
 *
 * Served are 3–13 (record batches v2); from 13 on streams go by their ids (KIP-516). 0–2 are advertised all the same and answered with
 * UNSUPPORTED_VERSION: librdkafka takes a minimum above 0 for a broker that cannot compress (Kafka itself
 * advertises 0 for this reason, KAFKA-18659).
 *
 * acks=1 and acks=-1 are answered after the commit that holds the batches; the gateway has no replica, so
 * they are the same. acks=0 gets no answer, and an error closes the connection, as in Kafka: it is the only
 * sign such a producer can be given. Not here: transactions.
 */
import { type LogError, ProtocolError } from "../../errors.ts";
import type { BatchAppend, Log } from "../../log/log.ts";
import {
  BATCH_HEADER_BYTES,
  batchBytes,
  codecOf,
  hasAppendTime,
  isControl,
  isTransactional,
  magicOf,
  maxTimestampOf,
} from "../../wire/record-batch.ts";
import { array, int16, int32, int64, records, string, struct, uuid } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ErrorCode, failureOf, Refusal } from "../error-code.ts";
import { nameOfId, partitionOf } from "./common.ts";

/** Throws for what is wrong with the whole request; each of its partitions is answered so. */
function checkRequest(version: number, acks: number, transactionalId: string | null): void {
  if (version < 3) throw new Refusal(ErrorCode.UNSUPPORTED_VERSION, "Produce is served from version 3 on");
  if (acks < -1 || acks > 1) throw new Refusal(ErrorCode.INVALID_REQUIRED_ACKS, `acks=${acks}`);
  if (transactionalId !== null) {
    const words = "transactions are not supported here: leave out the transactional id";
    throw new Refusal(ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, words);
  }
}

/** Throws for a batch that may not go to the log; its checksum and sequence are the log's to judge. */
function checkBatch(batch: Buffer, version: number): void {
  if (batch.length < BATCH_HEADER_BYTES || magicOf(batch) !== 2) {
    throw new Refusal(ErrorCode.INVALID_RECORD, "only record batches of version 2 are taken");
  }
  // Kafka's rule for Produce 3 and later: it makes sequences and the answered offset unambiguous.
  if (batchBytes(batch) < batch.length) {
    throw new Refusal(ErrorCode.INVALID_RECORD, "exactly one record batch per partition is taken");
  }
  if (isTransactional(batch)) {
    throw new Refusal(ErrorCode.INVALID_TXN_STATE, "transactions are not supported here");
  }
  if (isControl(batch)) {
    throw new Refusal(ErrorCode.INVALID_RECORD, "clients may not write control records");
  }
  if (hasAppendTime(batch)) {
    throw new Refusal(
      ErrorCode.INVALID_TIMESTAMP,
      "only the gateway may give records the time of their append",
    );
  }
  // KIP-110: zstd (codec 4) only for those who know it.
  if (codecOf(batch) > 4 || (codecOf(batch) === 4 && version < 7)) {
    const words = "this compression is not for this version of Produce";
    throw new Refusal(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, words);
  }
}

/** What one partition is answered. */
interface Answer {
  readonly index: number;
  errorCode: ErrorCode;
  errorMessage: string | null;
  baseOffset: number;
  /** -1 where records keep their own time. */
  logAppendTimeMs: number;
  logStartOffset: number;
}

const emptyAnswer = (index: number): Answer => ({
  index,
  errorCode: ErrorCode.NONE,
  errorMessage: null,
  baseOffset: -1,
  logAppendTimeMs: -1,
  logStartOffset: -1,
});

/**
 * Appends at once, so that batches reach the log in the order of requests; completes the answer and calls `done` after
 * the commit. Throws for a batch that does not come to the log.
 */
function append(
  log: Log,
  name: string,
  answer: Answer,
  batch: Buffer,
  version: number,
  done: (error: LogError | null) => void,
): void {
  const partition = partitionOf(log, name, answer.index);
  if (partition.stream.internal) {
    throw new Refusal(ErrorCode.INVALID_TOPIC_EXCEPTION, `"${name}" is written by the gateway itself only`);
  }
  checkBatch(batch, version);
  const entry: BatchAppend = { partition, batch };
  // An append of its own for each partition: they meet in the same commit, but one's error is its own.
  log.append([entry], (error) => {
    if (error === null) {
      answer.baseOffset = entry.offset ?? -1;
      answer.logAppendTimeMs = hasAppendTime(batch) ? maxTimestampOf(batch) : -1;
      answer.logStartOffset = partition.logStartOffset;
    }
    done(error);
  });
}

export const produce = api({
  key: 0,
  name: "Produce",
  limits: "no transactions, no format before v2",
  versions: { min: 3, max: 13, flexible: 9 },
  advertised: { min: 0, max: 13 },
  request: {
    transactionalId: string({ versions: "3+", nullable: "3+", default: null }),
    acks: int16(),
    timeoutMs: int32(),
    topicData: array({
      name: string({ versions: "0-12" }),
      topicId: uuid({ versions: "13+" }),
      partitionData: array({ index: int32(), records: records({ nullable: "0+" }) }),
    }),
  },
  response: {
    responses: array({
      name: string({ versions: "0-12" }),
      topicId: uuid({ versions: "13+" }),
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
  handle({ acks, transactionalId, topicData }, { log }, { version }) {
    // One promise for all of it: with some for each partition a third of what a Produce leaves to the garbage collector.
    return new Promise((resolve, reject) => {
      let left = 1;
      const oneIsDone = (): void => {
        if (--left === 0) resolve(acks === 0 ? null : { responses });
      };
      const refuse = (answer: Answer, error: unknown): void => {
        try {
          Object.assign(answer, failureOf(error));
        } catch (fault) {
          reject(fault);
        }
        const { errorMessage } = answer;
        if (acks !== 0) oneIsDone();
        else reject(new ProtocolError(`a Produce without acknowledgement failed: ${errorMessage}`));
      };
      const begin = (
        name: string,
        topicId: string,
        index: number,
        given: readonly Buffer[] | null,
      ): Answer => {
        const answer = emptyAnswer(index);
        left++;
        try {
          checkRequest(version, acks, transactionalId);
          const known = version < 13 ? name : nameOfId(log, topicId);
          append(log, known, answer, given?.[0] ?? Buffer.alloc(0), version, (error) => {
            if (error === null) oneIsDone();
            else refuse(answer, error);
          });
        } catch (error) {
          refuse(answer, error);
        }
        return answer;
      };
      const responses = topicData.map(({ name, topicId, partitionData }) => ({
        name,
        topicId,
        partitionResponses: partitionData.map((one) => begin(name, topicId, one.index, one.records)),
      }));
      oneIsDone();
    });
  },
});
