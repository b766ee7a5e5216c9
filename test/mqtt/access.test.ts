import { expect, it } from "vitest";
import { FakeLog } from "./fake-log.ts";
import { eventually, RawClient, startBroker } from "./support.ts";

const USERS = { users: { sensor: "secret", other: "word" }, anonymous: false };

/** Resolves with the return code of CONNACK. */
async function connect(port: number, username?: string, password?: string) {
  const client = await RawClient.open(port);
  const protocol = { protocolId: "MQTT", protocolVersion: 4, keepalive: 0, clean: true };
  const login = {
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
  };
  client.send({ cmd: "connect", clientId: `${username}-${password}`, ...protocol, ...login });
  const connack = await client.until("connack");
  return { client, code: "returnCode" in connack ? connack.returnCode : undefined };
}

it("takes users by their passwords, and tells all others with CONNACK 4", async () => {
  const { port, broker } = await startBroker(new FakeLog("all").log, { access: USERS });
  expect((await connect(port, "sensor", "secret")).code).toBe(0);
  const others: [string?, string?][] = [
    [],
    ["sensor"],
    ["sensor", "word"],
    ["nobody", "secret"],
    ["toString", ""],
  ];
  for (const login of others) {
    const { client, code } = await connect(port, ...login);
    expect(code).toBe(4);
    await client.untilClosed();
  }
  expect(broker.stats).toMatchObject({ connections: 1, rejectedClients: others.length });
});

it("takes who gives no name where that is allowed, and everybody where there are no users", async () => {
  const some = await startBroker(new FakeLog("all").log, { access: { ...USERS, anonymous: true } });
  expect((await connect(some.port)).code).toBe(0);
  expect((await connect(some.port, "nobody", "secret")).code).toBe(4);
  const all = await startBroker(new FakeLog("all").log);
  expect((await connect(all.port, "nobody", "secret")).code).toBe(0);
});

it("disconnects those whose user is gone or has another password, and nobody else", async () => {
  const { port, broker } = await startBroker(new FakeLog("all").log, {
    access: { ...USERS, anonymous: true },
  });
  const { client: stays } = await connect(port, "sensor", "secret");
  const { client: changed } = await connect(port, "other", "word");
  const { client: nameless } = await connect(port);
  const listeners = [{ host: "127.0.0.1", port: 0 }];
  broker.use({ listeners, access: { users: { sensor: "secret", other: "new" }, anonymous: false } });
  await changed.untilClosed();
  await nameless.untilClosed();
  await eventually(() => expect(broker.stats.connections).toBe(1));
  await stays.roundTrip();
  expect((await connect(port, "other", "new")).code).toBe(0);
  broker.use({ listeners });
  await stays.roundTrip();
  expect((await connect(port)).code).toBe(0);
});
