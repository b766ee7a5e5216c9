/**
 * Other languages' Kafka clients, each by its own package manager: librdkafka in Python, franz-go, and
 * @platformatic/kafka, which is not among our dependencies as nothing but its judge needs it.
 */
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { run } from "./process.ts";
import { clients } from "./tools.ts";

const timeoutMs = 300_000;
await mkdir(clients.platformatic, { recursive: true });
if (!existsSync(clients.python)) {
  const folder = join(clients.python, "../..");
  await run("python3", ["-m", "venv", folder], { timeoutMs });
  await run(join(folder, "bin/pip"), ["install", "-q", "confluent-kafka==2.16.1"], { timeoutMs });
}
if (!existsSync(join(clients.platformatic, "node_modules"))) {
  // The last line of versions that goes with Node 20.
  const args = [
    "install",
    "--prefix",
    clients.platformatic,
    "--no-audit",
    "--no-fund",
    "@platformatic/kafka@1.35.0",
  ];
  await run("npm", args, { timeoutMs });
}
const cwd = fileURLToPath(new URL("../differences/go", import.meta.url));
await run("go", ["build", "-o", clients.go, "."], { cwd, timeoutMs, env: { CGO_ENABLED: "0" } });
console.log(`confluent-kafka, @platformatic/kafka and franz-go's judge are in ${clients.folder}`);
