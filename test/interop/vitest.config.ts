import { defineConfig } from "vitest/config";

// Real clients against the built program: one file at a time, for they share a small machine's processors.
export default defineConfig({
  test: {
    include: ["test/interop/**/*.test.ts"],
    fileParallelism: false,
    testTimeout: 90_000,
    hookTimeout: 60_000,
  },
});
