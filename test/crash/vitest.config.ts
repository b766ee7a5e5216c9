import { defineConfig } from "vitest/config";

// Minutes of power cuts. All of it is run by .ci/run; `mutations/` puts bugs into the log, and each must be caught.
export default defineConfig({
  test: { include: ["test/crash/{ci,mutations}/*.test.ts"], testTimeout: 300_000 },
});
