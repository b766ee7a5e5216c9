import { pino } from "pino";
import { describe, expect, it } from "vitest";
import { Reachability } from "../../src/kafka/reachability.ts";
import { plainAddress } from "../../src/kafka/server.ts";

function world() {
  const lines: { clientHost: string; told: string; msg: string; mend: string }[] = [];
  const logger = pino({ base: null }, { write: (line: string) => lines.push(JSON.parse(line)) });
  let now = 0;
  const reachability = new Reachability(logger, () => now);
  const ask = (times: number, clientHost = "172.17.0.1") => {
    for (let at = 0; at < times; at++) reachability.told(clientHost, { host: "172.17.0.2", port: 9092 });
  };
  return { lines, reachability, ask, wait: (ms: number) => (now += ms) };
}

describe("a hint that clients cannot reach what they are told", () => {
  it.each(["127.0.0.1", "127.1.2.3", "localhost", "::1", "0.0.0.0", "::", "fe80::1"])(
    "is given once when a client from elsewhere is told %s",
    (host) => {
      const { lines, reachability } = world();
      for (let at = 0; at < 5; at++) reachability.told("10.0.0.7", { host, port: 9092 });
      expect(lines).toHaveLength(1);
      expect(lines[0]).toMatchObject({ clientHost: "10.0.0.7", told: `${host}:9092` });
      expect(lines[0]?.mend).toContain("kafka.advertise");
    },
  );

  it("is not given to a client of this machine, nor for an address of the network", () => {
    const { lines, reachability } = world();
    for (const client of ["127.0.0.1", "::1"]) reachability.told(client, { host: "127.0.0.1", port: 9092 });
    reachability.told("10.0.0.7", { host: "10.0.0.1", port: 9092 });
    reachability.told("2001:db8::7", { host: "2001:db8::1", port: 9092 });
    expect(lines).toEqual([]);
  });

  it("is given when a client asks ten times in a minute, and does nothing else", () => {
    const { lines, ask } = world();
    ask(9);
    expect(lines).toEqual([]);
    ask(1);
    expect(lines).toMatchObject([{ clientHost: "172.17.0.1", told: "172.17.0.2:9092" }]);
    ask(100);
    expect(lines).toHaveLength(1);
  });

  it("is not given to one who asks now and then, nor to one who got through", () => {
    const { lines, reachability, ask, wait } = world();
    for (let at = 0; at < 5; at++) {
      ask(9);
      wait(60_001);
    }
    ask(9, "10.0.0.7");
    reachability.used("10.0.0.7");
    ask(100, "10.0.0.7");
    expect(lines).toEqual([]);
  });
});

it("an address is shown as a client can dial it", () => {
  expect(plainAddress("::ffff:192.0.2.1")).toBe("192.0.2.1");
  expect(plainAddress("::FFFF:192.0.2.1")).toBe("192.0.2.1");
  expect(plainAddress("2001:db8::ffff:1")).toBe("2001:db8::ffff:1");
  expect(plainAddress("fe80::1%eth0")).toBe("fe80::1");
  expect(plainAddress(undefined)).toBe("");
});
