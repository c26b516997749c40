import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    reporters: ['default', './test/rig/summary-reporter.ts'],
    projects: [
      // Property tests and those that start the command take their time on a busy machine.
      {
        test: {
          name: 'unit',
          testTimeout: 180_000,
          hookTimeout: 180_000,
          include: ['test/unit/**/*.test.ts'],
          setupFiles: ['test/rig/property-seed.ts'],
        },
      },
      // Needs /dev/udmabuf and a KMS device of its own: `npm run test:kernel` has a VM with both, and bundles the tests for it.
      {
        test: {
          name: 'kernel',
          include: [
            process.env['KERNEL_TESTS'] === 'bundled'
              ? 'test/output/kernel-tests/*.test.js'
              : 'test/kernel/**/*.test.ts',
          ],
          server: { deps: { external: [/\/kernel-tests\/bundled\//] } },
          // Replays of whole boots take minutes on a busy machine.
          testTimeout: 600_000,
          hookTimeout: 600_000,
          fileParallelism: false,
        },
      },
      // Real guests share two cores with the tests that watch them: one file at a time.
      {
        test: {
          name: 'host',
          include: ['test/host/**/*.test.ts'],
          // Guests boot and documents are made in minutes on a busy machine.
          testTimeout: 600_000,
          hookTimeout: 600_000,
          fileParallelism: false,
        },
      },
    ],
  },
});
