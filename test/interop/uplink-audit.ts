/** The audit for as long as one likes: `npm run audit:uplink -- --faults 2000 --seed 1 [--tls] [--at-least-once]` */
import { parseArgs } from "node:util";
import { Audit } from "./support/uplink-audit.ts";

const { values } = parseArgs({
  options: {
    faults: { type: "string", default: "2000" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    tls: { type: "boolean", default: false },
    "at-least-once": { type: "boolean", default: false },
    quiet: { type: "boolean", default: false },
  },
});
const audit = new Audit({
  faults: Number(values.faults),
  seed: Number(values.seed),
  tls: values.tls,
  delivery: values["at-least-once"] ? "at-least-once" : "exactly-once",
  ...(values.quiet ? {} : { say: console.log }),
});
console.log(`seed ${values.seed}`);
try {
  const result = await audit.run();
  console.log(JSON.stringify(result, null, 2));
  const isGood =
    result.lost === 0 && result.outOfOrder === 0 && (values["at-least-once"] || result.duplicates === 0);
  process.exitCode = isGood ? 0 : 1;
} finally {
  console.log(audit.gateway?.process.output.slice(-6_000));
  await audit.close();
  // The tools' JVM would stay.
  process.exit();
}
