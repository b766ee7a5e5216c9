import { expect, it } from "vitest";
import { Persistence } from "../../src/mqtt/persistence.ts";
import type { Sessions } from "../../src/mqtt/sessions.ts";

it("a QoS 2 message and its retransmission are stored once, when both are looked for before either is stored", async () => {
  const stored: unknown[] = [];
  let commit = (): void => {};
  const sessions = { limits: { maxInFlight: 10 }, find: () => undefined } as unknown as Sessions;
  const persistence = new Persistence(sessions, {
    store: (_client, packet) => {
      stored.push(packet);
      return new Promise((resolve) => {
        commit = resolve;
      });
    },
    refusalTold: async () => {},
  });
  const client = { id: "c", clean: true } as Parameters<Persistence["incomingStorePacket"]>[0];
  const packet = { cmd: "publish", messageId: 7 } as Parameters<Persistence["incomingStorePacket"]>[1];
  const looks = [1, 2].map(() => persistence.incomingGetPacket(client, packet));
  for (const look of looks) await expect(look).rejects.toThrow("no such packet");
  let answers = 0;
  const both = [1, 2].map(() => persistence.incomingStorePacket(client, packet).then(() => answers++));
  await Promise.resolve();
  expect([stored.length, answers]).toEqual([1, 0]);
  commit();
  await Promise.all(both);
  expect(stored).toHaveLength(1);
});
