/** The gateway's own socket: questions, answers, lines, and errors that arrive as they were thrown. */
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { pino } from "pino";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ControlClient } from "../../src/control/client.ts";
import { ControlServer } from "../../src/control/server.ts";
import { SluiceError } from "../../src/errors.ts";
import { lockFolder, socketPath } from "../../src/log/folder-lock.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

let folder: string;
let server: ControlServer;
let client: ControlClient;
let unlock: () => Promise<void>;

beforeEach(async () => {
  folder = await temporaryFolder();
  server = new ControlServer(pino({ level: "silent" }));
  client = new ControlClient(folder);
  unlock = await lockFolder(folder, server.accept);
});
afterEach(async () => {
  await server.close();
  await unlock();
});

describe("a question", () => {
  test("is answered with the route's value, its query and body given", async () => {
    server.route("POST /echo", async ({ query, body }) => ({ of: query.get("of"), body }));
    expect(await client.ask("POST /echo?of=t1", { v: 21.5 })).toEqual({ of: "t1", body: { v: 21.5 } });
  });

  test("that fails brings the error with its mend and exit code", async () => {
    server.route("GET /wrong", () => {
      throw new SluiceError("WRONG", "that is wrong", { mend: "write it right", exitCode: 78 });
    });
    await expect(client.ask("GET /wrong")).rejects.toMatchObject({
      code: "WRONG",
      message: "that is wrong",
      mend: "write it right",
      exitCode: 78,
    });
  });

  test("that breaks the gateway's code says so, and the next one is answered", async () => {
    server.route("GET /broken", () => (undefined as unknown as string).length);
    server.route("GET /whole", () => 1);
    await expect(client.ask("GET /broken")).rejects.toMatchObject({ code: "INTERNAL", exitCode: 70 });
    expect(await client.ask("GET /whole")).toBe(1);
  });

  test("that no route takes is refused", async () => {
    await expect(client.ask("GET /nothing")).rejects.toMatchObject({ code: "NO_ROUTE" });
  });

  test("of more than 4 MiB is refused", async () => {
    server.route("POST /large", () => "taken");
    await expect(client.ask("POST /large", "x".repeat(5 << 20))).rejects.toThrow();
  });
});

describe("lines", () => {
  test("come as they are made, and end when the route's do", async () => {
    server.route("GET /three", async function* () {
      for (const n of [1, 2, 3]) yield { n };
    });
    const seen: unknown[] = [];
    for await (const line of client.lines("GET /three")) seen.push(line);
    expect(seen).toEqual([{ n: 1 }, { n: 2 }, { n: 3 }]);
  });

  test("that end by an error bring it with its mend and exit code, behind those that came before", async () => {
    const seen: unknown[] = [];
    const read = async (what: string) => {
      for await (const line of client.lines(what)) seen.push(line);
    };
    server.route("GET /away", async function* () {
      yield 1;
      throw new SluiceError("AWAY", "the cluster’s away", { mend: "wait", exitCode: 69 });
    });
    await expect(read("GET /away")).rejects.toMatchObject({
      code: "AWAY",
      message: "the cluster’s away",
      mend: "wait",
      exitCode: 69,
    });
    expect(seen).toEqual([1]);
    // biome-ignore lint/correctness/useYield: it fails before its first line.
    server.route("GET /broken", async function* () {
      throw new TypeError("broken");
    });
    await expect(read("GET /broken")).rejects.toMatchObject({ code: "INTERNAL", exitCode: 70 });
  });

  test("that a gateway leaves in the middle end by words for it", async () => {
    const open = new Set<Socket>();
    await unlock();
    unlock = await lockFolder(folder, (socket) => {
      open.add(socket);
      server.accept(socket);
    });
    server.route("GET /endless", async function* () {
      yield 1;
      for (const socket of open) socket.destroy();
      await new Promise(() => {});
    });
    const read = async () => {
      for await (const line of client.lines("GET /endless")) expect(line).toBe(1);
    };
    await expect(read()).rejects.toMatchObject({ code: "GONE", exitCode: 69 });
  });

  test("stop being made when the reader goes", async () => {
    let ended: () => void;
    const end = new Promise<void>((resolve) => {
      ended = resolve;
    });
    server.route("GET /endless", async function* () {
      try {
        for (let n = 0; ; n++) {
          yield { n };
          await new Promise((resolve) => setImmediate(resolve));
        }
      } finally {
        ended();
      }
    });
    for await (const { n } of client.lines<{ n: number }>("GET /endless")) if (n === 2) break;
    await end;
  });
});

test("where no gateway runs, that is said, with the exit code for unavailable", async () => {
  await unlock();
  const error = { code: "NOT_RUNNING", exitCode: 69 };
  await expect(client.ask("GET /status")).rejects.toMatchObject(error);
  await expect(new ControlClient(join(folder, "nowhere")).ask("GET /status")).rejects.toMatchObject(error);
});

test("whoever only holds connections open does not keep others of the folder out for long", async () => {
  server.route("GET /status", () => "here");
  const idle = Array.from({ length: 80 }, () => connect(socketPath(folder)));
  const closed = idle.map((socket) => new Promise((resolve) => socket.once("close", resolve)));
  await Promise.race(closed);
  for (const socket of idle) socket.destroy();
  await Promise.all(closed);
  await expect.poll(() => client.ask("GET /status").catch(() => "not yet")).toBe("here");
});
