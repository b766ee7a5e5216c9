/** Other people's software: where it is, how to get it, how to run it. */
import { accessSync, constants, existsSync, readdirSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Finished, type RunOptions, run } from "./process.ts";

export const repository = fileURLToPath(new URL("../../..", import.meta.url));

/** Where `.ci/run` and `npm run test:interop:fetch` put Apache Kafka's jars. */
export const kafkaLibs = process.env.SLUICE_KAFKA_LIBS ?? join(homedir(), ".cache/sluice-ci/kafka-4.1.0");

/** Where Kafka's message definitions lie once they are fetched: the JSON files of kafka-clients' jar. */
export const kafkaMessages = process.env.KAFKA_MESSAGES ?? join(kafkaLibs, "messages/common/message");

function inPath(program: string): string | undefined {
  // Debian keeps daemons where an ordinary user's PATH does not look.
  for (const folder of [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin", "/usr/local/sbin"]) {
    const path = join(folder, program);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {}
  }
  return undefined;
}

const hasKafkaJars =
  existsSync(kafkaLibs) &&
  ["kafka-tools-", "slf4j-simple-"].every((jar) =>
    readdirSync(kafkaLibs).some((name) => name.startsWith(jar)),
  );

const clientsFolder = join(homedir(), ".cache/sluice-ci/clients-1");

/** Where `npm run test:interop:fetch` puts other languages' clients. */
export const clients = {
  folder: clientsFolder,
  python: join(clientsFolder, "python/bin/python"),
  platformatic: join(clientsFolder, "platformatic"),
  go: join(clientsFolder, "franz-go"),
};

/** Where `npm run bench:fetch` puts Node-RED, which only the bench has use for. */
export const nodeRedFolder = join(homedir(), ".cache/sluice-ci/node-red-4.1.8");

/** Every outside tool, where it was found, and how to get it. */
export const TOOLS = {
  kcat: { path: inPath("kcat"), get: "apt install kcat" },
  mosquitto: { path: inPath("mosquitto"), get: "apt install mosquitto" },
  mosquitto_passwd: { path: inPath("mosquitto_passwd"), get: "apt install mosquitto" },
  mosquitto_pub: { path: inPath("mosquitto_pub"), get: "apt install mosquitto-clients" },
  mosquitto_sub: { path: inPath("mosquitto_sub"), get: "apt install mosquitto-clients" },
  openssl: { path: inPath("openssl"), get: "apt install openssl" },
  stdbuf: { path: inPath("stdbuf"), get: "apt install coreutils" },
  java: { path: inPath("javac") && inPath("java"), get: "apt install default-jdk-headless" },
  "kafka's jars": {
    path: hasKafkaJars ? kafkaLibs : undefined,
    get: "npm run test:interop:fetch (needs Maven)",
  },
  "other languages' clients": {
    path: existsSync(clients.go) ? clients.folder : undefined, // the last to be made
    get: "npm run test:interop:fetch (needs python3-venv and Go)",
  },
  "node-red": {
    path: existsSync(nodeRedFolder) ? nodeRedFolder : undefined,
    get: "npm run bench:fetch",
  },
} as const;

export type Tool = keyof typeof TOOLS;

/** The path of a tool that a suite has asked for by `suite`. */
export function tool(name: Tool): string {
  const { path, get } = TOOLS[name];
  if (path === undefined) throw new Error(`${name} is not installed: ${get}`);
  return path;
}

export const has = (name: Tool): boolean => TOOLS[name].path !== undefined;

export const kcat = (args: readonly string[], options?: RunOptions): Promise<Finished> =>
  run(tool("kcat"), args, options);

/** Arguments of a short-lived JVM: a quick start matters more than peak speed. */
export const javaArgs = (main: string, args: readonly string[]): string[] => [
  "-Xmx256m",
  "-XX:+UseSerialGC",
  "-XX:TieredStopAtLevel=1",
  "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
  "-cp",
  join(tool("kafka's jars"), "*"),
  main,
  ...args,
];
