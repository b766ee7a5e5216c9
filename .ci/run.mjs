/**
 * The steps of `.ci/run`, and the sum of their results. Plain JavaScript without dependencies: it runs before
 * `npm ci` has. A step that breaks counts as one failure; the steps that do not need it still run.
 */
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const total = { passed: 0, failed: 0, skipped: 0 };
const results = mkdtempSync(join(tmpdir(), "sluice-ci-"));

/** Runs a command with its output shown; true when it ends with 0 in time. */
function step(name, command, args, { minutes = 10 } = {}) {
  console.log(`\n=== ${name}: ${command} ${args.join(" ")}`);
  const startedAt = Date.now();
  return new Promise((resolve) => {
    // A group of its own, so that a step that hangs is ended with all that it started.
    const child = spawn(command, args, { stdio: ["ignore", "inherit", "inherit"], detached: true });
    const timer = setTimeout(() => {
      console.log(`=== ${name} took over ${minutes} minutes and is ended`);
      process.kill(-child.pid, "SIGKILL");
    }, minutes * 60_000);
    child.once("error", (error) => console.log(`=== ${name}: ${error.message}`));
    child.once("close", (code) => {
      clearTimeout(timer);
      console.log(
        `=== ${name}: ${code === 0 ? "ok" : `FAILED (${code})`}, ${Math.round((Date.now() - startedAt) / 1000)} s`,
      );
      resolve(code === 0);
    });
  });
}

/** A step that counts as one check. */
async function check(...parameters) {
  const good = await step(...parameters);
  total[good ? "passed" : "failed"]++;
  return good;
}

/** A vitest run, whose every test counts. */
async function suite(name, command, args, options) {
  const file = join(results, `${name}.json`);
  const good = await step(
    name,
    command,
    [...args, "--reporter=default", "--reporter=json", `--outputFile.json=${file}`],
    options,
  );
  let report;
  try {
    report = JSON.parse(readFileSync(file, "utf8"));
  } catch {
    total.failed++;
    return;
  }
  // A file whose imports or hooks failed has no failed test of its own.
  const broken = report.testResults.filter(
    ({ status, assertionResults }) =>
      status === "failed" && assertionResults.every((test) => test.status !== "failed"),
  ).length;
  const failed = report.numFailedTests + broken;
  total.passed += report.numPassedTests;
  total.failed += failed === 0 && !good ? 1 : failed;
  total.skipped += report.numPendingTests + report.numTodoTests;
  if (report.numPassedTests + failed === 0) total.failed++;
}

function missingPackages() {
  const wanted = {
    kcat: "kcat",
    mosquitto: "mosquitto",
    mosquitto_pub: "mosquitto-clients",
    javac: "default-jdk-headless",
    mvn: "maven",
    go: "golang-go",
    openssl: "openssl",
  };
  const isThere = (program) =>
    spawnSync("sh", ["-c", `PATH="$PATH:/usr/sbin" command -v ${program}`]).status === 0;
  const missing = Object.entries(wanted).flatMap(([program, name]) => (isThere(program) ? [] : [name]));
  if (spawnSync("python3", ["-c", "import ensurepip"]).status !== 0) missing.push("python3-venv");
  return missing;
}

async function main() {
  if (!(await check("install", "npm", ["ci", "--no-audit", "--no-fund"]))) return;
  await check("lint and types", "npm", ["run", "check"]);
  await suite("tests", "npm", ["test", "--"], { minutes: 10 });
  // Users have newer ones than the oldest that will do, and those say and warn of other things.
  await suite("tests on Node 26", "npx", ["--yes", "--package=node@26", "vitest", "run"], { minutes: 10 });
  await suite("power cuts", "npm", ["run", "test:crash:ci", "--"], { minutes: 20 });
  const missing = missingPackages();
  if (missing.length > 0) {
    process.env.DEBIAN_FRONTEND = "noninteractive";
    await step("package lists", "apt-get", ["update", "-qq"]);
    await step("packages", "apt-get", ["install", "-y", "-qq", "--no-install-recommends", ...missing]);
  }
  await step("Kafka and its clients", "npm", ["run", "test:interop:fetch"]);
  await suite("interop", "npm", ["run", "test:interop", "--", "--exclude", "**/uplink*"], { minutes: 20 });
  await suite("uplink", "npm", ["run", "test:interop", "--", "interop/uplink"], { minutes: 15 });
}

await main();
rmSync(results, { recursive: true, force: true });
console.log(`\n${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exit(total.failed + total.skipped > 0 ? 1 : 0);
