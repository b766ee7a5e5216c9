import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ProtocolError } from "../../src/errors.ts";
import { FrameReader } from "../../src/kafka/frame-reader.ts";
import { readMemory } from "../../src/log/reused-memory.ts";
import { framed } from "./harness.ts";

function takeAll(reader: FrameReader): Buffer[] {
  const frames: Buffer[] = [];
  for (let frame = reader.take(); frame !== undefined; frame = reader.take()) frames.push(frame);
  return frames;
}

describe("the frame reader", () => {
  it("gives the same frames however the bytes were cut", () => {
    const frames = fc.array(fc.uint8Array({ minLength: 10, maxLength: 300 }), { maxLength: 8 });
    const cuts = fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(frames, cuts, (given, sizes) => {
        const bodies = given.map((bytes) => Buffer.from(bytes));
        const stream = Buffer.concat(bodies.map(framed));
        const reader = new FrameReader(300);
        const taken: Buffer[] = [];
        for (let at = 0, turn = 0; at < stream.length; turn++) {
          const size = sizes[turn % sizes.length] as number;
          const chunk = Buffer.from(stream.subarray(at, at + size));
          reader.push(chunk);
          at += size;
          if (turn % 3 !== 2) taken.push(...takeAll(reader));
          reader.keepRest();
          chunk.fill(0xff); // the next read of the socket
        }
        taken.push(...takeAll(reader));
        // Compared at the end: frames handed out must not be overwritten by what came later.
        expect(taken).toEqual(bodies);
        expect(reader.pendingBytes).toBe(0);
      }),
    );
  });

  it("gives a large frame a buffer of its own, which serves again when it is given back", () => {
    const reader = new FrameReader(1 << 20);
    const take = (fill: number) => {
      const whole = framed(Buffer.alloc(100_000, fill));
      for (let at = 0; at < whole.length; at += 65_536) reader.push(whole.subarray(at, at + 65_536));
      const [frame] = takeAll(reader);
      expect(frame?.equals(Buffer.alloc(100_000, fill))).toBe(true);
      return frame as Buffer;
    };
    const [first, second] = [take(1), take(2)];
    expect(second.buffer).not.toBe(first.buffer);
    readMemory.give(first);
    expect(take(3).buffer).toBe(first.buffer);
    expect(second.every((byte) => byte === 2)).toBe(true);
  });

  it("allocates by what has come, not by what a length claims", () => {
    const reader = new FrameReader(1 << 30);
    const length = Buffer.alloc(4);
    length.writeInt32BE(1 << 30);
    reader.push(length);
    const before = process.memoryUsage().arrayBuffers;
    for (let index = 0; index < 10; index++) reader.push(Buffer.alloc(100));
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1 << 20);
    expect(reader.take()).toBeUndefined();
  });

  it.each([[-1], [0], [9], [101]])("refuses a length of %i", (length) => {
    const reader = new FrameReader(100);
    const claim = Buffer.alloc(4);
    claim.writeInt32BE(length);
    reader.push(claim);
    expect(() => reader.take()).toThrow(ProtocolError);
  });
});
