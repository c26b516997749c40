/** The contract that every output keeps, as tests. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { outputSuite } from 'scanout-bridge/testing/output-suite';
import { describe, test } from 'vitest';
import { PpmOutput } from './ppm-output.js';

outputSuite('PpmOutput', { describe, test }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'ppm-'));
  return { output: new PpmOutput(folder, 1280, 800), close: () => rmSync(folder, { recursive: true }) };
});
