/**
 * Fetches Apache Kafka's jars and message definitions from Maven Central, unless they are there: some 90 files,
 * 20 seconds.
 */
import { existsSync } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { run } from "./process.ts";
import { has, kafkaLibs } from "./tools.ts";

const MESSAGES = "messages";

async function maven(...args: string[]): Promise<void> {
  const pom = fileURLToPath(new URL("./pom.xml", import.meta.url));
  await run("mvn", ["-q", "-B", "-f", pom, ...args], { timeoutMs: 600_000 });
}

if (has("kafka's jars") && existsSync(join(kafkaLibs, MESSAGES))) {
  console.log(`Apache Kafka's jars are in ${kafkaLibs}`);
} else {
  // Beside, then renamed: an interrupted download must not look like a finished one.
  const partial = `${kafkaLibs}.partial`;
  await rm(partial, { recursive: true, force: true });
  await mkdir(partial, { recursive: true });
  await maven("dependency:copy-dependencies", `-DoutputDirectory=${partial}`);
  await maven(
    "dependency:unpack-dependencies",
    "-DincludeArtifactIds=kafka-clients",
    "-Dmdep.unpack.includes=common/message/*.json",
    `-DoutputDirectory=${join(partial, MESSAGES)}`,
    `-DmarkersDirectory=${join(partial, "markers")}`,
  );
  await rm(kafkaLibs, { recursive: true, force: true });
  await rename(partial, kafkaLibs);
  console.log(`fetched Apache Kafka's jars into ${kafkaLibs}`);
}
