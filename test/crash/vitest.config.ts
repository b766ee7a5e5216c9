import { defineConfig } from "vitest/config";

// Minutes of power cuts, on all processors. All of it is run by .ci/run; `mutations/` puts bugs into the program, and
// each must be caught.
export default defineConfig({
  test: { include: ["test/crash/{ci,mutations}/*.test.ts"], testTimeout: 600_000, maxWorkers: "100%" },
});
