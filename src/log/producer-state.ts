/**
 * What a partition remembers of idempotent producers (KIP-98): the last five batches of each, so that a
 * batch sent again is answered with its original offset instead of being written twice. One that is older than
 * these is out of order, as in Kafka: that it was written cannot be told any more.
 *
 * It is checked and changed when a batch is queued, in the order in which batches will be written. At each
 * checkpoint it is kept in Kafka's own `.snapshot` format: a row for each remembered batch, where Kafka has one for the
 * last; who reads it row by row, as Kafka does, ends with that one. Recovery reads the newest file and adds the
 * batches behind it.
 */
import { LogError } from "../errors.ts";
import { Reader, Writer } from "../wire/buffer.ts";
import { crc32c } from "../wire/crc32c.ts";
import {
  baseOffsetOf,
  baseSequenceOf,
  lastOffsetOf,
  maxTimestampOf,
  NO_PRODUCER,
  producerEpochOf,
  producerIdOf,
  recordCountOf,
} from "../wire/record-batch.ts";
import { array, decode, encode, int16, int32, int64, message, struct } from "../wire/schema.ts";
import type { ActiveProducer } from "./log.ts";

/** Where a batch lies; unknown until its commit. */
export interface BatchPlace {
  offset: number | undefined;
}

const REMEMBERED_BATCHES = 5;
/** Producers remembered in a partition; the one that has been silent longest goes first. */
const MAX_PRODUCERS = 10_000;
const SEQUENCES = 2 ** 31;
const SNAPSHOT_VERSION = 1;

interface Remembered {
  readonly firstSequence: number;
  readonly lastSequence: number;
  readonly place: BatchPlace;
  readonly count: number;
  readonly timestamp: number;
}

interface Producer {
  epoch: number;
  readonly batches: Remembered[];
}

const Snapshot = message(
  {},
  {
    producers: array(
      struct({
        producerId: int64(),
        epoch: int16(),
        lastSequence: int32(),
        lastOffset: int64(),
        offsetDelta: int32(),
        timestamp: int64(),
        coordinatorEpoch: int32(),
        currentTransactionFirstOffset: int64({ default: -1 }),
      }),
    ),
  },
);

export class ProducerState {
  private readonly producers = new Map<number, Producer>();

  get isEmpty(): boolean {
    return this.producers.size === 0;
  }

  /**
   * The place of a batch that is about to be queued: a fresh one, or that of the same batch queued before,
   * in which case it must not be written again. Throws LogError INVALID_PRODUCER_EPOCH or
   * OUT_OF_ORDER_SEQUENCE.
   */
  check(batch: Buffer): { place: BatchPlace; isDuplicate: boolean } {
    const place: BatchPlace = { offset: undefined };
    const producerId = producerIdOf(batch);
    if (producerId === NO_PRODUCER) return { place, isDuplicate: false };
    const epoch = producerEpochOf(batch);
    const firstSequence = baseSequenceOf(batch);
    const count = recordCountOf(batch);
    const lastSequence = (firstSequence + count - 1) % SEQUENCES;
    const producer = this.producers.get(producerId);
    if (producer !== undefined && epoch < producer.epoch) {
      throw new LogError(
        "INVALID_PRODUCER_EPOCH",
        `producer ${producerId} has moved on to epoch ${producer.epoch}`,
      );
    }
    if (producer !== undefined && epoch === producer.epoch) {
      const same = producer.batches.find(
        (known) => known.firstSequence === firstSequence && known.lastSequence === lastSequence,
      );
      if (same !== undefined) return { place: same.place, isDuplicate: true };
      checkOrder(producerId, producer, firstSequence);
    } else if (producer !== undefined && firstSequence !== 0) {
      throw new LogError(
        "OUT_OF_ORDER_SEQUENCE",
        `producer ${producerId} begins epoch ${epoch} with sequence ${firstSequence}`,
      );
    }
    this.remember(producerId, epoch, {
      firstSequence,
      lastSequence,
      place,
      count,
      timestamp: maxTimestampOf(batch),
    });
    return { place, isDuplicate: false };
  }

  /** Those of which a batch is in the log. */
  get active(): ActiveProducer[] {
    return [...this.producers].flatMap(([producerId, { epoch, batches }]) => {
      const last = batches.findLast(({ place }) => place.offset !== undefined);
      if (last === undefined) return [];
      return { producerId, epoch, lastSequence: last.lastSequence, timestamp: last.timestamp };
    });
  }

  /** Forgets what was queued and then not written, so that it can be sent again. */
  forgetUncommitted(): void {
    for (const [producerId, { batches }] of this.producers) {
      while (batches.length > 0 && batches.at(-1)?.place.offset === undefined) batches.pop();
      if (batches.length === 0) this.producers.delete(producerId);
    }
  }

  private remember(producerId: number, epoch: number, batch: Remembered): void {
    let producer = this.producers.get(producerId);
    // Anew at the end of the map: its order is the order of last use.
    this.producers.delete(producerId);
    if (producer === undefined || producer.epoch !== epoch) producer = { epoch, batches: [] };
    this.producers.set(producerId, producer);
    producer.batches.push(batch);
    if (producer.batches.length > REMEMBERED_BATCHES) producer.batches.shift();
    if (this.producers.size > MAX_PRODUCERS) {
      const oldest = this.producers.keys().next().value;
      if (oldest !== undefined) this.producers.delete(oldest);
    }
  }

  /** Takes a batch that lies in the log already (recovery). */
  replay(batch: Buffer): void {
    const producerId = producerIdOf(batch);
    if (producerId === NO_PRODUCER) return;
    const firstSequence = baseSequenceOf(batch);
    const count = recordCountOf(batch);
    this.remember(producerId, producerEpochOf(batch), {
      firstSequence,
      lastSequence: (firstSequence + count - 1) % SEQUENCES,
      place: { offset: baseOffsetOf(batch) },
      count: lastOffsetOf(batch) - baseOffsetOf(batch) + 1,
      timestamp: maxTimestampOf(batch),
    });
  }

  /** The `.snapshot` file of all batches below `offset`: i16 version | u32 crc of what follows | producers. */
  encodeSnapshot(offset: number): Buffer {
    const producers = [...this.producers].flatMap(([producerId, { epoch, batches }]) =>
      batches.flatMap(({ lastSequence, place, count, timestamp }) => {
        if (place.offset === undefined || place.offset >= offset) return [];
        return {
          producerId,
          epoch,
          lastSequence,
          lastOffset: place.offset + count - 1,
          offsetDelta: count - 1,
          timestamp,
          coordinatorEpoch: -1,
        };
      }),
    );
    const body = new Writer();
    encode(Snapshot, 0, { producers }, body);
    const content = body.toBuffer();
    const head = Buffer.alloc(6);
    head.writeInt16BE(SNAPSHOT_VERSION, 0);
    head.writeUInt32BE(crc32c(content), 2);
    return Buffer.concat([head, content]);
  }

  /** Reads a `.snapshot` file; one that is damaged is as good as none (false). */
  decodeSnapshot(content: Buffer): boolean {
    if (content.length < 10 || content.readInt16BE(0) !== SNAPSHOT_VERSION) return false;
    if (content.readUInt32BE(2) !== crc32c(content.subarray(6))) return false;
    for (const entry of decode(Snapshot, 0, new Reader(content, 6)).producers) {
      const count = entry.offsetDelta + 1;
      this.remember(entry.producerId, entry.epoch, {
        firstSequence: (entry.lastSequence - entry.offsetDelta + SEQUENCES) % SEQUENCES,
        lastSequence: entry.lastSequence,
        place: { offset: entry.lastOffset - entry.offsetDelta },
        count,
        timestamp: entry.timestamp,
      });
    }
    return true;
  }
}

function checkOrder(producerId: number, { batches }: Producer, firstSequence: number): void {
  const newest = batches.at(-1);
  if (newest === undefined || firstSequence === (newest.lastSequence + 1) % SEQUENCES) return;
  throw new LogError(
    "OUT_OF_ORDER_SEQUENCE",
    `producer ${producerId} sent sequence ${firstSequence} after ${newest.lastSequence}`,
  );
}
