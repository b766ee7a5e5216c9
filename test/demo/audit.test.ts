import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Audit, addChecksum, encodeReading } from "../../src/demo/audit.ts";
import { Histogram } from "../../src/histogram.ts";

const audit = (sensors = 3): Audit => new Audit(sensors, new Histogram());
const take = (books: Audit, ...messages: [sensor: number, seq: number][]): void => {
  for (const [sensor, seq] of messages) books.take(encodeReading(sensor, seq));
};

describe("an audit", () => {
  it("finds nothing wrong with messages in order, whatever the order among sensors", () => {
    const books = audit();
    take(books, [0, 0], [1, 0], [1, 1], [0, 1], [2, 0]);
    expect(books).toMatchObject({ delivered: 5, outOfOrder: 0, duplicates: 0, missing: 0 });
    expect(books.lost([2, 2, 1])).toBe(0);
  });

  it("counts a message that was jumped over, and one that never came, as lost", () => {
    const books = audit();
    take(books, [0, 0], [0, 2]);
    expect(books.missing).toBe(1);
    expect(books.lost([4, 1, 0])).toBe(3);
  });

  it("counts a late message as out of order and not as lost", () => {
    const books = audit();
    take(books, [0, 0], [0, 2], [0, 1]);
    expect(books).toMatchObject({ delivered: 3, outOfOrder: 1, missing: 0 });
    expect(books.lost([3, 0, 0])).toBe(0);
  });

  it("counts a repetition as a duplicate, not as a delivery", () => {
    const books = audit();
    take(books, [0, 0], [0, 1], [0, 0], [0, 1]);
    expect(books).toMatchObject({ delivered: 2, duplicates: 2, outOfOrder: 0 });
  });

  it("sets aside what no sensor of the demonstration sent", () => {
    const books = audit();
    for (const text of ["", "hello", "null", "[]", '{"sensor":0}', '{"sensor":9,"seq":0,"sentUs":1}']) {
      books.take(Buffer.from(text));
    }
    expect(books).toMatchObject({ delivered: 0, foreign: 6 });
  });

  it("accounts for every message and checksum under any loss, repetition and reordering", () => {
    const arrivals = fc.array(fc.tuple(fc.nat(2), fc.nat(12)), { maxLength: 80 });
    fc.assert(
      fc.property(arrivals, (messages) => {
        const books = audit();
        const payloads = new Map<string, Buffer>();
        for (const [sensor, seq] of messages) {
          const name = `${sensor}/${seq}`;
          const payload = payloads.get(name) ?? encodeReading(sensor, seq);
          payloads.set(name, payload);
          books.take(payload);
        }
        expect(books.delivered).toBe(payloads.size);
        expect(books.duplicates).toBe(messages.length - payloads.size);
        expect(books.lost([13, 13, 13])).toBe(39 - payloads.size);
        expect(books.checksum).toBe([...payloads.values()].reduce(addChecksum, 0));
      }),
    );
  });
});
