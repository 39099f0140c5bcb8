// How the tests of the worker are run.

import { defineConfig } from "vitest/config";

export default defineConfig({
  // LangGraph's validation suite takes `describe` and `it` from the air.
  test: {
    globals: true,
    include: ["tests/*.test.ts"],
    // Longer than anything here takes, however busy the machine is.
    testTimeout: 180_000,
    hookTimeout: 180_000,
    fileParallelism: false,
  },
});
