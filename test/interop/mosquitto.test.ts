/** Mosquitto's clients against our broker: both ways, each QoS, retained messages and wills. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Gateway, STANDARD } from "./support/gateway.ts";
import { readAll } from "./support/kafka.ts";
import { eventually, Running, run } from "./support/process.ts";
import { suite } from "./support/suite.ts";
import { tool } from "./support/tools.ts";

suite(
  "mosquitto_pub and mosquitto_sub",
  ["mosquitto_pub", "mosquitto_sub", "mosquitto_passwd", "stdbuf"],
  () => {
    let gateway: Gateway;
    beforeAll(async () => {
      gateway = await Gateway.start();
    });
    afterAll(() => gateway?.dispose());

    const address = () => ["-h", "127.0.0.1", "-p", String(gateway.mqttPort)];
    const publish = (mqttTopic: string, message: string, ...args: string[]) =>
      run(tool("mosquitto_pub"), [...address(), "-t", mqttTopic, "-m", message, ...args]);
    /** A subscriber whose subscription has been acknowledged. */
    const subscribe = async (filter: string, ...args: string[]) => {
      const format = ["-F", "message|%t|%q|%r|%p"];
      // Into a pipe it would print in blocks, and its "Subscribed" only with the first full one.
      const command = ["-oL", tool("mosquitto_sub"), ...address(), "-d", "-t", filter, ...format, ...args];
      const running = new Running(tool("stdbuf"), command);
      await running.until(({ output }) => output.includes("Subscribed (mid"), "its subscription");
      return running;
    };
    const messages = ({ stdout }: Running) =>
      stdout.split("\n").filter((line) => line.startsWith("message|"));

    test.each([0, 1, 2])("a QoS %i publish reaches a subscriber and the stream, once", async (qos) => {
      const device = `dev-${qos}`;
      const mqttTopic = `sensors/north/${device}/temperature`;
      const subscriber = await subscribe("sensors/north/+/temperature", "-q", String(qos));
      await publish(mqttTopic, `{"v":${qos}}`, "-q", String(qos));
      await subscriber.until((running) => messages(running).length === 1, "the message");
      expect(messages(subscriber)).toEqual([`message|${mqttTopic}|${qos}|0|{"v":${qos}}`]);
      await subscriber.end();
      const mine = async () =>
        (await readAll(gateway.brokers, "telemetry")).filter(({ key }) => key === device);
      await eventually(async () => (await mine()).length > 0, "the record");
      const [record, ...others] = await mine();
      expect(others).toEqual([]);
      expect(record?.value).toBe(`{"v":${qos}}`);
      expect(record?.headers.site).toBe("north");
      expect(Object.values(record?.headers ?? {})).toContain(mqttTopic);
    });

    test("users with passwords that mosquitto_passwd has hashed", async () => {
      const file = join(gateway.folder, "passwords");
      const users: Record<string, string> = { plain: "in text" };
      for (const kind of ["sha512", "sha512-pbkdf2"]) {
        await run(tool("mosquitto_passwd"), [
          "-H",
          kind,
          "-b",
          ...(kind === "sha512" ? ["-c"] : []),
          file,
          kind,
          "secret",
        ]);
      }
      for (const line of (await readFile(file, "utf8")).trimEnd().split("\n")) {
        const [name = "", hash = ""] = line.split(":");
        users[name] = hash;
      }
      const guarded = await Gateway.start({ ...STANDARD, mqtt: { users } });
      try {
        const publishAs = (name: string, password: string, expected: number[]) =>
          run(
            tool("mosquitto_pub"),
            [
              "-h",
              "127.0.0.1",
              "-p",
              String(guarded.mqttPort),
              "-t",
              "t",
              "-m",
              "1",
              "-q",
              "1",
              "-u",
              name,
              "-P",
              password,
            ],
            { expect: expected },
          );
        for (const name of ["sha512", "sha512-pbkdf2"]) await publishAs(name, "secret", [0]);
        await publishAs("plain", "in text", [0]);
        const refused = await publishAs("sha512", "in text", [4]);
        expect(refused.stderr).toMatch(/bad user name or password/i);
      } finally {
        await guarded.dispose();
      }
    });

    test("many lines at each QoS come out in order, at the subscriber and in the stream", async () => {
      for (const qos of ["0", "1", "2"]) {
        const lines = Array.from({ length: 300 }, (_, index) => `q${qos}-${index}`);
        const subscriber = await subscribe(`many/${qos}`, "-q", qos);
        const input = lines.map((line) => `${line}\n`).join("");
        await run(tool("mosquitto_pub"), [...address(), "-t", `many/${qos}`, "-l", "-q", qos], { input });
        await subscriber.until((running) => messages(running).length === 300, "300 messages");
        expect(messages(subscriber).map((line) => line.split("|")[4])).toEqual(lines);
        await subscriber.end();
        const recorded = async () =>
          (await readAll(gateway.brokers, "unmapped"))
            .map(({ value }) => value)
            .filter((v) => v?.startsWith(`q${qos}-`));
        await eventually(async () => (await recorded()).length >= 300, "300 records");
        expect(await recorded()).toEqual(lines);
      }
    });

    test.each([0, 1])(
      "one that pours lines at QoS %i beside a sensor loses none, and the sensor is served",
      async (qos) => {
        const count = 50_000;
        const input = Array.from({ length: count }, (_, index) => `${index}\n`).join("");
        let isPouring = true;
        const args = [...address(), "-t", `poured/${qos}`, "-l", "-q", String(qos)];
        const pouring = run(tool("mosquitto_pub"), args, { input }).finally(() => {
          isPouring = false;
        });
        let acknowledged = 0;
        while (isPouring) {
          await publish("sensors/south/beside/temperature", String(acknowledged), "-q", "1");
          acknowledged++;
        }
        await pouring;
        expect(acknowledged).toBeGreaterThan(1);
        const poured = async () =>
          (await readAll(gateway.brokers, "unmapped"))
            .filter(({ headers }) => Object.values(headers).includes(`poured/${qos}`))
            .map(({ value }) => Number(value));
        await eventually(async () => (await poured()).length >= count, "all that was poured");
        expect(await poured()).toEqual(Array.from({ length: count }, (_, index) => index));
      },
    );

    test("a retained message waits for later subscribers, and an empty one clears it", async () => {
      await publish("state/door", "open", "-r", "-q", "1");
      await publish("state/door", "shut", "-r", "-q", "1");
      const late = await subscribe("state/#");
      await late.until((running) => messages(running).length === 1, "the retained message");
      expect(messages(late)).toEqual(["message|state/door|0|1|shut"]);
      await late.end();
      await run(tool("mosquitto_pub"), [...address(), "-t", "state/door", "-r", "-n", "-q", "1"]);
      const later = await subscribe("state/#");
      await publish("state/other", "end");
      await later.until((running) => messages(running).length === 1, "the last message");
      expect(messages(later)).toEqual(["message|state/other|0|0|end"]);
      await later.end();
    });

    test("the will of a client that dies is delivered and recorded; that of one who leaves is not", async () => {
      const watcher = await subscribe("wills/#", "-q", "1");
      const will = (topic: string) => ["--will-topic", topic, "--will-payload", "gone", "--will-qos", "1"];
      const polite = await subscribe("nothing", ...will("wills/polite"));
      const killed = await subscribe("nothing", ...will("wills/killed"));
      await polite.end("SIGTERM");
      await killed.end("SIGKILL");
      await watcher.until((running) => messages(running).length > 0, "the will");
      await publish("wills/end", "end", "-q", "1");
      await watcher.until((running) => messages(running).some((line) => line.endsWith("end")), "the end");
      expect(messages(watcher)).toEqual(["message|wills/killed|1|0|gone", "message|wills/end|1|0|end"]);
      await watcher.end();
      const values = (await readAll(gateway.brokers, "unmapped")).map(({ value }) => value);
      expect(values.filter((value) => value === "gone")).toEqual(["gone"]);
    });

    test("a session that stays gets what was published while it was away", async () => {
      const session = ["-c", "-i", "sleeper", "-q", "1"];
      await (await subscribe("news", ...session)).end("SIGTERM");
      for (const word of ["one", "two", "three"]) await publish("news", word, "-q", "1");
      const back = await subscribe("news", ...session);
      await back.until((running) => messages(running).length === 3, "three messages");
      expect(messages(back).map((line) => line.split("|")[4])).toEqual(["one", "two", "three"]);
      await back.end();
    });

    test("a clean client under the id of another takes its place", async () => {
      const first = await subscribe("place", "-i", "same");
      const second = await subscribe("place", "-i", "same");
      await publish("place", "hello", "-q", "1");
      await second.until((running) => messages(running).length > 0, "the message");
      expect(messages(first)).toEqual([]);
      await Promise.all([first.end("SIGKILL"), second.end()]);
    });
  },
);
