import { execFile } from "node:child_process";
import { expect, it } from "vitest";

/** In a process of its own: V8's flags are the whole process's. */
const PROGRAM = `
  import { loadConfigAside } from "./src/config/load-aside.ts";
  import { keepHeapSmall, letYoungHeapGrow, youngBytes } from "./src/heap.ts";
  keepHeapSmall();
  await loadConfigAside("config/gateway.yaml", {}); // its thread sets V8's flags back
  const work = () => {
    const kept = [];
    for (let n = 0; n < 100_000; n++) kept[n % 20_000] = { n, list: [n] };
  };
  const looks = [];
  const least = (count) => Math.min(...looks.slice(-count)); // one look may come just after a collection
  for (let n = 0; n < 20; n++) {
    work();
    looks.push(youngBytes());
  }
  const small = least(5);
  letYoungHeapGrow();
  setInterval(work, 1);
  setInterval(() => {
    looks.push(youngBytes());
    if (least(100) < 8 << 20) return; // long enough to see whether it grows again
    console.log(JSON.stringify({ small, grown: least(20) }));
    process.exit();
  }, 30);
`;

it("the young heap stays small at first, though a thread loads the configuration, and grows once there is work", async () => {
  const args = ["--import", "tsx", "--input-type=module", "--eval", PROGRAM];
  const output = await new Promise<string>((resolve, reject) => {
    execFile(process.execPath, args, { timeout: 30_000 }, (error, stdout) => {
      if (error === null) resolve(stdout);
      else reject(error);
    });
  });
  const { small, grown } = JSON.parse(output);
  expect(small).toBeLessThanOrEqual(4 << 20);
  expect(grown).toBeLessThanOrEqual(16 << 20);
});
