/** Leader epochs before clients that know them: an unclean start disturbs nobody, and what a disk lost is noticed. */
import { cp, rm } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { Gateway } from "./support/gateway.ts";
import { kafkaClient } from "./support/kafka.ts";
import { Running } from "./support/process.ts";
import { suite } from "./support/suite.ts";
import { javaArgs, tool } from "./support/tools.ts";

const CONSOLE = "org.apache.kafka.tools.consumer.ConsoleConsumer";

suite("leader epochs", ["kcat", "java", "kafka's jars"], () => {
  let gateway: Gateway;
  const running: Running[] = [];
  afterEach(async () => {
    for (const one of running.splice(0)) await one.end("SIGKILL");
    await gateway?.dispose();
  });

  const start = async (): Promise<void> => {
    gateway = await Gateway.start({ streams: { s: {} }, mappings: [{ from: "#", to: "s" }] });
  };
  const reader = (command: string, args: readonly string[]): Running => {
    const one = new Running(command, args);
    running.push(one);
    return one;
  };
  const javaReader = (...more: string[]): Running => {
    const args = ["--bootstrap-server", gateway.brokers, "--topic", "s", ...more];
    return reader(tool("java"), javaArgs(CONSOLE, args));
  };
  const produce = async (from: number, to: number): Promise<void> => {
    const producer = kafkaClient(gateway.brokers).producer({ idempotent: true });
    await producer.connect();
    for (let at = from; at < to; at++) await producer.send({ topic: "s", messages: [{ value: `${at}` }] });
    await producer.disconnect();
  };
  const numbers = (to: number, from = 0) => Array.from({ length: to - from }, (_, at) => `${from + at}`);
  const linesOf = ({ stdout }: Running) => stdout.split("\n").filter((line) => line !== "");

  test("readers go on through kills, each record once and in order", { timeout: 120_000 }, async () => {
    await start();
    await produce(0, 1);
    const readers = [
      javaReader("--group", "java", "--from-beginning"),
      reader(tool("kcat"), ["-b", gateway.brokers, "-C", "-E", "-u", "-q", "-t", "s", "-o", "beginning"]),
      reader(tool("kcat"), [
        "-b",
        gateway.brokers,
        "-G",
        "kcat",
        "-E",
        "-u",
        "-q",
        "-X",
        "auto.offset.reset=earliest",
        "s",
      ]),
    ];
    const all = async (count: number): Promise<void> => {
      for (const one of readers)
        await one.until((it) => linesOf(it).length >= count, `${count} records`, 40_000);
    };
    for (let round = 0; round < 2; round++) {
      await all(round * 20 + 1);
      await gateway.kill();
      await gateway.again();
      await produce(round * 20 + 1, round * 20 + 21);
    }
    await all(41);
    for (const one of readers) expect(linesOf(one)).toEqual(numbers(41));
    expect(gateway.process.output).not.toMatch(/"level":[56]0/);
  });

  test("a reader that was shown more than there is goes back to where it ended", {
    timeout: 120_000,
  }, async () => {
    await start();
    await produce(0, 100);
    // What a disk would have that lied about the last syncs.
    const copy = join(gateway.folder, "copy");
    await cp(gateway.dataDir, copy, { recursive: true, filter: (path) => !path.endsWith(".sock") });
    await produce(100, 150);
    const java = javaReader("--partition", "0", "--offset", "earliest");
    await java.until((it) => linesOf(it).length >= 150, "150 records", 40_000);
    await gateway.kill();
    await rm(gateway.dataDir, { recursive: true });
    await cp(copy, gateway.dataDir, { recursive: true });
    await gateway.again();
    await produce(1000, 1100);
    // Without epochs it would begin at offset 150 of what is another history now.
    await java.until((it) => linesOf(it).length >= 250, "the records behind the loss", 60_000);
    expect(linesOf(java)).toEqual([...numbers(150), ...numbers(1100, 1000)]);
  });
});
