import { existsSync } from "node:fs";
import { defineConfig } from "vitest/config";
import { kafkaMessages } from "./support/tools.ts";

// Real clients against the built program: one file at a time, for they share a small machine's processors.
export default defineConfig({
  test: {
    include: ["test/interop/**/*.test.ts"],
    setupFiles: ["test/interop/support/setup.ts"],
    fileParallelism: false,
    testTimeout: 90_000,
    hookTimeout: 60_000,
    env: existsSync(kafkaMessages) ? { KAFKA_MESSAGES: kafkaMessages } : {},
  },
});
