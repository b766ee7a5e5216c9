/** Fetches Apache Kafka's jars from Maven Central, unless they are there: some 90 files, 20 seconds. */
import { mkdir, rename, rm } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { run } from "./process.ts";
import { has, kafkaLibs } from "./tools.ts";

if (has("kafka's jars")) {
  console.log(`Apache Kafka's jars are in ${kafkaLibs}`);
} else {
  const pom = fileURLToPath(new URL("./pom.xml", import.meta.url));
  // Beside, then renamed: an interrupted download must not look like a finished one.
  const partial = `${kafkaLibs}.partial`;
  await rm(partial, { recursive: true, force: true });
  await mkdir(partial, { recursive: true });
  const goal = ["dependency:copy-dependencies", `-DoutputDirectory=${partial}`];
  await run("mvn", ["-q", "-B", "-f", pom, ...goal], { timeoutMs: 600_000 });
  await rm(kafkaLibs, { recursive: true, force: true });
  await rename(partial, kafkaLibs);
  console.log(`fetched Apache Kafka's jars into ${kafkaLibs}`);
}
