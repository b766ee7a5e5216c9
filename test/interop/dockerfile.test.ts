/**
 * What stands in for a Docker engine: the Dockerfile's steps, run as they are stated in folders of their own, then
 * the image's command with the environment of docker-compose.yml, its health check, its sensors and its
 * subscriber, against Apache Kafka. Not shown by it: the base images, the container's network, other platforms.
 */
import { cp, mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parse } from "yaml";
import { ApacheKafka } from "./support/apache-kafka.ts";
import { freePort } from "./support/gateway.ts";
import { eventually, Running, run } from "./support/process.ts";
import { suite } from "./support/suite.ts";
import { repository } from "./support/tools.ts";

interface Stage {
  readonly root: string;
  workdir: string;
  readonly env: Record<string, string>;
  command: string[];
  health: string[];
}

/** Instructions with their arguments; continued lines are one, comments are none. */
function instructionsOf(text: string): [name: string, rest: string][] {
  const lines = text
    .replace(/^\s*#.*\n/gm, "")
    .replace(/\\\n\s*/g, " ")
    .split("\n");
  return lines
    .filter((line) => line.trim() !== "")
    .map((line) => {
      const [, name = "", rest = ""] = /^(\w+)\s+(.*)$/.exec(line) ?? [];
      return [name, rest];
    });
}

class Build {
  readonly stages = new Map<string, Stage>();
  last!: Stage;
  private readonly folder: string;

  constructor(folder: string) {
    this.folder = folder;
  }

  async run(text: string): Promise<void> {
    for (const [name, rest] of instructionsOf(text)) await this.step(name, rest);
  }

  private async step(name: string, rest: string): Promise<void> {
    const stage = this.last;
    switch (name) {
      case "FROM": {
        const as = /\bAS (\w+)/.exec(rest)?.[1] ?? "final";
        const root = join(this.folder, as);
        this.last = { root, workdir: "/", env: {}, command: [], health: [] };
        this.stages.set(as, this.last);
        return void (await mkdir(join(root, "usr/local/bin"), { recursive: true }));
      }
      case "WORKDIR":
        stage.workdir = rest;
        return void (await mkdir(join(stage.root, rest), { recursive: true }));
      case "COPY": {
        const [, from] = /--from=(\w+)/.exec(rest) ?? [];
        const words = rest.split(/\s+/).filter((word) => !word.startsWith("--"));
        const to = words.pop() as string;
        const source = from === undefined ? repository : (this.stages.get(from) as Stage).root;
        for (const word of words) {
          const isInto = to.endsWith("/") || words.length > 1;
          const target = join(
            stage.root,
            stage.workdir,
            to,
            isInto ? (word.split("/").at(-1) as string) : "",
          );
          await mkdir(dirname(target), { recursive: true });
          await cp(join(source, word), target, { recursive: true, verbatimSymlinks: true });
        }
        return;
      }
      case "RUN": {
        // The stage's folder is its root; its users are not there.
        const moved = rest
          .replace(/(?<=\s|^)(\/(?:app|data|usr)\b)/g, `${stage.root}$1`)
          .replace(/-o node -g node /, "");
        await run("sh", ["-c", moved], { cwd: join(stage.root, stage.workdir), timeoutMs: 300_000 });
        return;
      }
      case "ENV": {
        for (const [, key = "", quoted, plain] of rest.matchAll(/(\w+)=(?:'([^']*)'|(\S+))/g)) {
          stage.env[key] = quoted ?? plain ?? "";
        }
        return;
      }
      case "CMD":
        stage.command = JSON.parse(rest);
        return;
      case "HEALTHCHECK":
        stage.health = JSON.parse(rest.slice(rest.indexOf("[")));
        return;
      case "ARG":
      case "USER":
      case "VOLUME":
      case "EXPOSE":
        return;
      default:
        throw new Error(`the Dockerfile has ${name}, which is not tried here`);
    }
  }
}

suite("the image", ["java", "kafka's jars"], () => {
  let folder: string;
  let image: Stage;
  let kafka: ApacheKafka;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "sluice-image-"));
    const build = new Build(folder);
    await build.run(await readFile(join(repository, "Dockerfile"), "utf8"));
    image = build.last;
    kafka = await ApacheKafka.start();
  }, 400_000);

  afterAll(async () => {
    await kafka?.close();
    await rm(folder, { recursive: true, force: true });
  });

  test("starts with compose's environment, is healthy, and its sensors' readings reach its subscriber through Kafka", async () => {
    const [mqttPort, kafkaPort] = [await freePort(), await freePort()];
    const compose = parse(await readFile(join(repository, "docker-compose.yml"), "utf8"));
    const inside = (text: string): string =>
      text
        .replaceAll("$$", "$")
        .replaceAll("0.0.0.0:1883", `127.0.0.1:${mqttPort}`)
        .replaceAll("0.0.0.0:9092", `127.0.0.1:${kafkaPort}`)
        .replaceAll("127.0.0.1:9092", `127.0.0.1:${kafkaPort}`)
        .replaceAll("gateway:1883", `127.0.0.1:${mqttPort}`)
        .replaceAll("kafka:19092", kafka.brokers)
        .replace(/^\/data$/, join(image.root, "data"))
        .replace("[1883,9092]", `[${mqttPort},${kafkaPort}]`);
    const settings: Record<string, string> = { ...image.env, ...compose.services.gateway.environment };
    const env = Object.fromEntries(Object.entries(settings).map(([name, value]) => [name, inside(value)]));
    const cwd = join(image.root, image.workdir);
    const start = (command: readonly string[], more: Record<string, string> = {}): Running => {
      const [program = "", ...args] = command.map(inside);
      const path = program === "sluice" ? join(image.root, "usr/local/bin/sluice") : program;
      return new Running(path, args, { cwd, env: more });
    };
    const gateway = start(image.command, env);
    try {
      const healthy = async (): Promise<boolean> => (await start(image.health).exited) === 0;
      await eventually(healthy, "a healthy gateway", 60_000);
      const sensors = start(compose.services.sensors.command);
      // As compose does it: again until the topic is there.
      let subscriber: Running | undefined;
      await eventually(
        async () => {
          subscriber = start(compose.services.subscriber.command);
          await Promise.race([
            subscriber.exited,
            eventually(() => subscriber?.stdout.includes("\n") ?? false, "a line", 15_000).catch(() => {}),
          ]);
          if (subscriber.stdout.includes('"stream":"edge.greenhouse.telemetry"')) return true;
          await subscriber.end();
          return false;
        },
        "readings at the subscriber",
        90_000,
      );
      await subscriber?.end();
      expect(await sensors.end()).toBe(0);
      expect(await gateway.end()).toBe(0);
    } finally {
      await gateway.end("SIGKILL");
    }
  }, 200_000);
});
