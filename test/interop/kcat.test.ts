/** librdkafka's judge: kcat lists, produces with every codec, and reads from wherever one may begin. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { suite } from "./support/suite.ts";
import { startTarget, type Target } from "./support/target.ts";
import { kcat } from "./support/tools.ts";

suite("kcat", ["kcat"], () => {
  let target: Target;
  const codecs = ["none", "gzip", "snappy", "lz4", "zstd"];

  beforeAll(async () => {
    const streams = [
      "keyed",
      "places",
      "grouped",
      "moments",
      "followed",
      ...codecs.map((name) => `codec-${name}`),
    ];
    target = await startTarget(
      Object.fromEntries(streams.map((name) => [name, name === "keyed" || name === "grouped" ? 4 : 1])),
    );
  });
  afterAll(() => target?.close());

  const produce = (stream: string, lines: readonly string[], ...args: string[]) =>
    kcat(["-b", target.brokers, "-P", "-t", stream, ...args], {
      input: lines.map((line) => `${line}\n`).join(""),
    });
  const consume = async (stream: string, ...args: string[]) => {
    const format = ["-f", "%p|%o|%k|%h|%s\n"];
    const { stdout } = await kcat(["-b", target.brokers, "-C", "-q", "-e", "-t", stream, ...format, ...args]);
    return stdout.split("\n").filter((line) => line !== "");
  };
  const numbers = (count: number) => Array.from({ length: count }, (_, index) => `n${index}`);

  test("lists brokers, streams and partitions", async () => {
    const { stdout } = await kcat(["-b", target.brokers, "-L", "-J"]);
    const { brokers, topics } = JSON.parse(stdout);
    expect(brokers.map(({ name }: { name: string }) => name)).toEqual([target.brokers]);
    const keyed = topics.find(({ topic }: { topic: string }) => topic === "keyed");
    expect(keyed.partitions.map(({ partition }: { partition: number }) => partition).sort()).toEqual([
      0, 1, 2, 3,
    ]);
    const leaders = new Set(keyed.partitions.map(({ leader }: { leader: number }) => leader));
    expect([...leaders]).toEqual([brokers[0].id]);
  });

  test("produces keys and headers, and reads them back, in order within a partition", async () => {
    const lines = numbers(200).map((value, index) => `k${index % 10}:${value}`);
    await produce("keyed", lines, "-K", ":", "-H", "site=north", "-H", "empty=");
    const read = await consume("keyed", "-o", "beginning");
    expect(read).toHaveLength(200);
    const places = new Map<string, number[]>();
    for (const line of read) {
      const [partition, , key, headers, value] = line.split("|") as [string, string, string, string, string];
      expect(headers).toBe("site=north,empty=");
      const place = `${key}@${partition}`;
      places.set(place, [...(places.get(place) ?? []), Number(value.slice(1))]);
    }
    expect(places.size).toBe(10);
    for (const values of places.values()) expect(values).toEqual(values.toSorted((a, b) => a - b));
  });

  test("reads from the beginning, from an offset, from the end, and the last few", async () => {
    await produce("places", numbers(50));
    const values = async (...args: string[]) =>
      (await consume("places", ...args)).map((line) => line.split("|")[4]);
    expect(await values("-o", "beginning")).toEqual(numbers(50));
    expect(await values("-o", "37")).toEqual(numbers(50).slice(37));
    expect(await values("-o", "-5")).toEqual(numbers(50).slice(-5));
    expect(await values("-o", "end")).toEqual([]);
    expect(await values("-o", "10", "-c", "3")).toEqual(["n10", "n11", "n12"]);
  });

  test("begins at a moment, and ends at another", async () => {
    const stamps: number[] = [];
    for (const value of ["a", "b", "c"]) {
      await produce("moments", [value]);
      const { stdout } = await kcat([
        ...["-b", target.brokers, "-C", "-q", "-t", "moments"],
        ...["-o", "-1", "-c", "1", "-f", "%T %s"],
      ]);
      const [stamp, last] = stdout.split(" ");
      expect(last).toBe(value);
      stamps.push(Number(stamp));
    }
    const values = async (...args: string[]) =>
      (await consume("moments", ...args)).map((line) => line.split("|")[4]);
    expect(await values("-o", `s@${stamps[1]}`)).toEqual(["b", "c"]);
    expect(await values("-o", `s@${(stamps[0] as number) + 1}`)).toEqual(["b", "c"]);
    expect(await values("-o", `s@${stamps[0]}`, "-o", `e@${stamps[2]}`)).toEqual(["a", "b"]);
  });

  test.each(codecs)("a round trip with codec %s", async (codec) => {
    const lines = numbers(500).map((value) => `${value} ${"abc".repeat(40)}`);
    await produce(`codec-${codec}`, lines, "-z", codec, "-X", "linger.ms=50");
    const read = await consume(`codec-${codec}`, "-o", "beginning", "-X", "check.crcs=true");
    expect(read.map((line) => line.split("|")[4])).toEqual(lines);
  });

  test("an idempotent producer, acks=all", async () => {
    const lines = numbers(300);
    await produce(
      "followed",
      lines,
      "-X",
      "enable.idempotence=true",
      "-X",
      "acks=all",
      "-X",
      "batch.num.messages=20",
    );
    expect((await consume("followed", "-o", "beginning")).map((line) => line.split("|")[4])).toEqual(lines);
  });

  test("a group reads everything once, and begins again where it stopped", async () => {
    const member = async () => {
      const settings = ["-X", "auto.offset.reset=earliest", "-X", "session.timeout.ms=6000"];
      const { stdout } = await kcat([
        "-b",
        target.brokers,
        "-G",
        "kcats",
        "-q",
        "-e",
        ...settings,
        "grouped",
      ]);
      return stdout.split("\n").filter((line) => line !== "");
    };
    await produce(
      "grouped",
      numbers(100).map((value) => `${value}:${value}`),
      "-K",
      ":",
    );
    expect((await member()).sort()).toEqual(numbers(100).sort());
    await produce("grouped", ["late:late"], "-K", ":");
    expect(await member()).toEqual(["late"]);
  });

  test("offsets are queried by time", async () => {
    const { stdout } = await kcat(["-b", target.brokers, "-Q", "-t", "places:0:0"]);
    expect(stdout).toMatch(/places \[0\] offset 0/);
  });
});
