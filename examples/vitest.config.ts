import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['*.test.ts'],
    // A real guest takes its time to boot.
    testTimeout: 120_000,
    reporters: ['default', 'scanout-bridge/vitest-reporter'],
  },
});
