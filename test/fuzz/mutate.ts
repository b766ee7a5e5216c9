/**
 * Frames that no client sends: one that a real client did send (sessions.json), or a plain one of an API that
 * none of them asked for, changed where it hurts. Structure-aware: a request is taken apart by the server's own
 * declarations, some of its fields get values that nobody expects, and it is put together again; or its bytes,
 * its lengths, its header, its frame are changed. The seed and a number give the frame, always the same.
 */
import { readFileSync } from "node:fs";
import type { Api } from "../../src/kafka/api.ts";
import { apis } from "../../src/kafka/apis/index.ts";
import { Reader, Writer } from "../../src/wire/buffer.ts";
import { crc32c } from "../../src/wire/crc32c.ts";
import { decode, encode, type Field, type Fields, inVersions } from "../../src/wire/schema.ts";
import { Random } from "../crash/random.ts";

export const SESSIONS = new URL("./sessions.json", import.meta.url);

const served = new Map(apis.map((api) => [api.key, api]));
const recorded = (JSON.parse(readFileSync(SESSIONS, "utf8")) as [string, string][]).map(([, frame]) =>
  Buffer.from(frame, "base64"),
);
const plain = apis.flatMap((api) => {
  const { min, max } = api.versions;
  return Array.from({ length: max - min + 1 }, (_, at) => requestFrame(api, min + at, {}));
});
/** Real ones twice as often as plain ones. */
const corpus = (random: Random): Buffer => random.pick(random.int(3) < 2 ? recorded : plain);

function requestFrame(api: Api, version: number, body: object): Buffer {
  const writer = new Writer();
  writer.int16(api.key);
  writer.int16(version);
  writer.int32(1);
  writer.string(false, "fuzz");
  if (version >= api.request.flexibleFrom) writer.uvarint(0);
  encode(api.request, version, body, writer);
  return writer.toBuffer();
}

/** What goes to the socket: the frame with its length in front, or what stands in its place. */
export function mutant(seed: number, number: number): Buffer {
  const random = new Random(seed, number);
  const frame = Buffer.from(corpus(random));
  const draw = random.int(100);
  if (draw < 50) return framed(changeFields(frame, random));
  if (draw < 72) return framed(changeBytes(frame, random));
  if (draw < 82) return framed(changeLength(frame, random));
  if (draw < 88) return lie(frame, random);
  if (draw < 93) return framed(changeHeader(frame, random));
  if (draw < 98) return framed(frame.subarray(0, random.int(frame.length)));
  return Buffer.concat(Array.from({ length: 50 }, () => framed(frame)));
}

function framed(body: Buffer, length = body.length): Buffer {
  const head = Buffer.alloc(4);
  head.writeInt32BE(length);
  return Buffer.concat([head, body]);
}

// ── the frame, the header, the bytes ───────────────────────────────────────────────────────────────────────

const INT32S = [0, -1, -2, 1, 2, 0x7fffffff, -0x80000000, 0x7ffffffe, 1 << 24, 1 << 16, 255, -100];

function lie(frame: Buffer, random: Random): Buffer {
  const near = frame.length + random.int(40) - 20;
  return framed(frame, random.chance(0.5) ? near : random.pick([...INT32S, 9, (16 << 20) + 1, 16 << 20]));
}

function changeHeader(frame: Buffer, random: Random): Buffer {
  if (random.chance(0.5)) frame.writeInt16BE(random.pick([-1, 4, 24, 68, 99, 32767, random.int(93)]), 0);
  if (random.chance(0.7)) frame.writeInt16BE(random.pick([-1, 0, 1, 17, 32767, random.int(15)]), 2);
  if (random.chance(0.3)) frame.writeInt16BE(random.pick([-2, -1, 0, 3, 32767]), 8);
  return frame;
}

function changeBytes(frame: Buffer, random: Random): Buffer {
  let changed = frame;
  for (let left = 1 + random.int(6); left > 0; left--) {
    // Behind API key and version: those have their turn in the header.
    const at = 4 + random.int(Math.max(1, changed.length - 4));
    const way = random.int(4);
    if (way === 0) changed = Buffer.concat([changed.subarray(0, at), noise(random, 8), changed.subarray(at)]);
    else if (way === 1)
      changed = Buffer.concat([changed.subarray(0, at), changed.subarray(at + random.int(9))]);
    else if (at < changed.length)
      changed[at] = way === 2 ? random.int(256) : (changed[at] ?? 0) ^ (1 << random.int(8));
  }
  return changed;
}

/** A claim in the place of whatever is there: as a length of any encoding it promises more than there is. */
function changeLength(frame: Buffer, random: Random): Buffer {
  const at = 8 + random.int(Math.max(1, frame.length - 12));
  if (at + 5 > frame.length) return frame;
  const way = random.int(3);
  if (way === 0) frame.writeInt32BE(random.pick(INT32S), at);
  else if (way === 1) frame.writeInt16BE(random.pick([-1, -2, 0, 32767, -32768, 255]), at);
  else
    random
      .pick([Buffer.alloc(5, 0xff), Buffer.from([0xff, 0xff, 0xff, 0xff, 0x0f]), Buffer.alloc(1)])
      .copy(frame, at);
  return frame;
}

function noise(random: Random, most: number): Buffer {
  return Buffer.from(Array.from({ length: 1 + random.int(most) }, () => random.int(256)));
}

// ── the fields ─────────────────────────────────────────────────────────────────────────────────────────────

/** One value in a request, with what may be put in its place. */
interface Slot {
  readonly field: Field;
  readonly value: unknown;
  readonly nullable: boolean;
  set(value: unknown): void;
}

function changeFields(frame: Buffer, random: Random): Buffer {
  const reader = new Reader(frame);
  const api = served.get(reader.int16());
  const version = reader.int16();
  if (api === undefined) return changeBytes(frame, random);
  reader.int32();
  reader.string(false);
  if (version >= api.request.flexibleFrom) reader.taggedFields();
  let body: object;
  try {
    body = decode(api.request, version, reader);
  } catch {
    return changeBytes(frame, random); // Produce 0–2, say
  }
  for (let left = 1 + random.int(3); left > 0; left--) {
    const slots = [...slotsOf(api.request.fields, body as Record<string, unknown>, version)];
    if (slots.length === 0) break;
    const slot = random.pick(slots);
    slot.set(slot.nullable && random.chance(0.1) ? null : anotherFor(slot, random));
  }
  return requestFrame(api, version, body);
}

function* slotsOf(fields: Fields, into: Record<string, unknown>, version: number): Generator<Slot> {
  for (const [name, field] of Object.entries(fields)) {
    if (inVersions(field.options.versions, version)) {
      yield* slotsAt(field, into[name], version, (value) => {
        into[name] = value;
      });
    }
  }
}

function* slotsAt(
  field: Field,
  value: unknown,
  version: number,
  set: (value: unknown) => void,
): Generator<Slot> {
  const { nullable } = field.options;
  yield { field, value, nullable: nullable !== undefined && inVersions(nullable, version), set };
  if (field.kind === "struct" && value !== null) {
    yield* slotsOf(field.fields as Fields, value as Record<string, unknown>, version);
  }
  if (field.kind !== "array" || value === null) return;
  const items = value as unknown[];
  for (const [at, item] of items.entries()) {
    yield* slotsAt(field.of as Field, item, version, (changed) => {
      items[at] = changed;
    });
  }
}

/** Few of the good ones, so that what is made of them stays within bounds. */
const TEXTS = [
  ...["", "a", "b", "g", "g2", "__consumer_offsets", "__catalog", "fuzz", "consumer", "range", "delete"],
  ...["../../etc/passwd", "..", ".", "a/b", "a\\b", "a\0b", "-1", "%s%n", "ünïcode ☃", "constructor", "\r\n"],
  ...["x".repeat(249), "x".repeat(250), "y".repeat(30_000), "compact", "LogAppendTime", "retention.ms", "0"],
];
const INT64S = [0, -1, -2, -3, -4, -5, -6, 1, 2, Number.MAX_SAFE_INTEGER, -Number.MAX_SAFE_INTEGER, 2 ** 40];

function anotherFor({ field, value }: Slot, random: Random): unknown {
  switch (field.kind) {
    case "int8":
      return random.pick([0, 1, 2, 3, 4, -1, 127, -128, random.int(64)]);
    case "int16":
      return random.pick([0, 1, -1, 2, 32767, -32768]);
    case "uint16":
      return random.int(65_536);
    case "int32":
      // A stream of many partitions is fair to ask for, and slow to make a thousand times.
      return random.pick([...INT32S.filter((one) => one < 255 || one > 1 << 20), random.int(10)]);
    case "int64":
      return random.pick([...INT64S, random.int(100)]);
    case "bool":
      return random.chance(0.5);
    case "uuid":
      return noise(random, 1).toString("hex").padEnd(22, "A");
    case "string":
      return random.pick(TEXTS);
    case "bytes":
      return random.pick([Buffer.alloc(0), noise(random, 40), Buffer.alloc(300 << 10)]);
    case "records":
      return batchesFrom(value as Buffer[] | null, random);
    case "array":
      return arrayFrom(value as unknown[] | null, random);
    case "struct":
      return value;
  }
}

function arrayFrom(items: unknown[] | null, random: Random): unknown[] {
  if (items === null || items.length === 0) return [];
  const way = random.int(4);
  if (way === 0) return [];
  if (way === 1) return [...items, ...structuredCloneOf(items)];
  if (way === 2) return [...items].reverse();
  return Array.from({ length: 200 }, (_, at) => items[at % items.length]);
}

const structuredCloneOf = (items: unknown[]): unknown[] =>
  items.map((item) =>
    typeof item === "object" && item !== null && !Buffer.isBuffer(item) ? { ...item } : item,
  );

/** A batch with some of its bytes changed; half of the time length and checksum are made right again. */
function batchesFrom(batches: Buffer[] | null, random: Random): Buffer[] {
  const batch = Buffer.from(batches?.[0] ?? Buffer.alloc(0));
  if (batch.length < 61) return [noise(random, 100)];
  const changed = random.chance(0.5) ? changeBytes(batch, random) : changeLength(batch, random);
  if (random.chance(0.5) && changed.length >= 61) {
    changed.writeInt32BE(changed.length - 12, 8);
    changed[16] = 2;
    changed.writeUInt32BE(crc32c(changed.subarray(21)), 17);
  }
  return random.chance(0.1) ? [changed, batch] : [changed];
}
