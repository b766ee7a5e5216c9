import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // What needs other people's software or many minutes lives in these and is run by .ci/run.
    exclude: ["test/interop/**", "test/bench/**", "test/crash/{ci,mutations}/**", "node_modules/**"],
    testTimeout: 20_000,
    hookTimeout: 20_000,
    // Much of it waits for sockets and disks; by itself vitest would leave one of two processors idle.
    maxWorkers: "100%",
    // The modules are loaded once for each worker, not once for each file: a quarter of all the time. They hold no
    // state that a test could leave behind but what it spies on.
    isolate: false,
    restoreMocks: true,
  },
});
