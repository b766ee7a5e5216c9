import { spawn } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { Writable } from "node:stream";
import { Command } from "commander";
import { describe, expect, it, vi } from "vitest";
import { register as registerSimulate } from "../../src/cli/simulate.ts";
import { register, writeLine } from "../../src/cli/subscribe.ts";
import { explain } from "../../src/subscriber/kafka-client.ts";
import { subscribe } from "../../src/subscriber/subscriber.ts";

async function closedPort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** What commander says of arguments that it refuses. */
async function refusal(...args: string[]): Promise<string> {
  const program = new Command("sluice").exitOverride();
  register(program);
  registerSimulate(program);
  let said = "";
  for (const command of program.commands) {
    command.exitOverride().configureOutput({
      writeErr: (text) => {
        said += text;
      },
    });
  }
  await expect(program.parseAsync(args, { from: "user" })).rejects.toThrow();
  return said;
}

describe("the arguments", () => {
  it.each([
    [["subscribe"], /missing required argument 'streams'/],
    [["subscribe", "s", "--count", "0"], /'--count <n>'.*'0'.*whole number from 1 on/],
    [["subscribe", "s", "--count", "1.5"], /'1\.5'/],
    [["subscribe", "s", "--json", "--pretty"], /'--json' cannot be used with option '--pretty'/],
    [["subscribe", "s", "--brokers", "localhost"], /must be host:port/],
    [["subscribe", "s", "--brokers", "a:1,b:99999"], /65535/],
    [["subscribe", "s", "--broker", "a:1,b:99999"], /65535/],
    [["simulate"], /missing required argument 'file'/],
    [["simulate", "f", "--count", "-1"], /whole number from 1 on/],
    [["simulate", "f", "--rate", "0"], /number above 0/],
    [["simulate", "f", "--to", "127.0.0.1:1883"], /URL such as mqtt/],
    [["simulate", "f", "--duration", "30"], /needs a unit/],
  ] as [string[], RegExp][])("%j are refused in words", async (args, words) => {
    expect(await refusal(...args)).toMatch(words);
  });
});

function reading(brokers: string[]): Promise<number> {
  const signal = new AbortController().signal;
  const options = { brokers, group: undefined, from: undefined, count: 1, signal, onNotice: () => {} };
  return subscribe(["s"], options, () => {});
}

describe("an error of kafkajs", () => {
  it("becomes one sentence where nothing listens", async () => {
    const brokers = [`127.0.0.1:${await closedPort()}`];
    const said = { code: "UNREACHABLE", message: `nothing listens at ${brokers[0]}`, exitCode: 69 };
    await expect(reading(brokers)).rejects.toMatchObject(said);
  });

  it("becomes one sentence where something else listens", async () => {
    const server = createServer((socket) => socket.destroy()).listen(0, "127.0.0.1");
    await once(server, "listening");
    const where = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    await expect(reading([where])).rejects.toMatchObject({ code: "UNREACHABLE", exitCode: 69 });
    await new Promise((resolve) => server.close(resolve));
  });

  it("keeps its words where there are none of ours", () => {
    const brokers = ["a:1"];
    expect(explain(new Error("Topic authorization failed"), brokers).message).toBe(
      "the broker at a:1 refused: Topic authorization failed",
    );
    expect(explain(new Error("getaddrinfo ENOTFOUND a"), brokers).message).toBe("no host is known as a:1");
    expect(explain(new Error("Connection timeout"), brokers).message).toBe("a:1 does not answer");
  });
});

describe("the output", () => {
  it("waits while its reader is slow, but not for ever", async () => {
    let release: (() => void) | undefined;
    const stream = new Writable({
      highWaterMark: 1,
      write: (_chunk, _encoding, done) => {
        release = () => done();
      },
    });
    const stop = new AbortController();
    const waited = vi.fn();
    const line = writeLine("one", stop.signal, stream)?.then(waited);
    await new Promise((resolve) => setImmediate(resolve));
    expect(waited).not.toHaveBeenCalled();
    release?.();
    await line;
    expect(waited).toHaveBeenCalledOnce();
    const last = writeLine("two", stop.signal, stream);
    stop.abort();
    await last;
    expect(writeLine("three", stop.signal, stream)).toBeUndefined();
  });

  it("ends quietly when its reader is gone", async () => {
    const program = `
      import { stopSignal } from "./dist/cli/stop.js";
      import { writeLine } from "./dist/cli/subscribe.js";
      process.stdout.on("error", () => {});
      const signal = stopSignal();
      while (!signal.aborted) await (writeLine("x".repeat(1000), signal) ?? new Promise(setImmediate));
      console.error(signal.reason);`;
    const child = spawn(process.execPath, ["--input-type=module", "--eval", program]);
    child.stdout.once("data", () => child.stdout.destroy());
    let said = "";
    child.stderr.on("data", (chunk) => {
      said += chunk;
    });
    const [code] = await once(child, "close");
    expect({ code, said }).toEqual({ code: 0, said: "the output was closed\n" });
  });
});
