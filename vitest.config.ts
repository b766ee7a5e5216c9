import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // What needs other people's software or many minutes lives in these two and is run by .ci/run.
    exclude: ["test/interop/**", "test/bench/**", "node_modules/**"],
    testTimeout: 20_000,
    hookTimeout: 20_000,
  },
});
