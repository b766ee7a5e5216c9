import { defineConfig } from "vitest/config";

// Minutes of power cuts. `ci/` is run by .ci/run; `mutations/` puts bugs into the log and takes longer.
export default defineConfig({
  test: { include: ["test/crash/{ci,mutations}/*.test.ts"], testTimeout: 300_000 },
});
