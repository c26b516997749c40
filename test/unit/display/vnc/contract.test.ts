import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'vitest';
import { VncOutput } from '../../../../display/vnc/output.ts';
import { DRM_FORMAT, DRM_FORMAT_MOD_LINEAR } from '../../../../protocols/drm-fourcc.ts';
import { newFramebufferId } from '../../../../src/core/framebuffer.ts';
import { type OutputRig, outputSuite } from '../../../../src/testing/output-suite.ts';
import { createMemfd } from '../../../../src/sys/memfd.ts';
import { CONTINUOUS, CURSOR, EXTENDED_DESKTOP_SIZE, FENCE, RfbViewer, ZRLE } from '../../../rig/rfb-viewer.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';

expectNoLeaks();

/** A rig, with a viewer that gets every frame if it is watched. */
async function open(isWatched: boolean): Promise<OutputRig> {
  const directory = mkdtempSync(join(tmpdir(), 'vnc-'));
  const path = join(directory, 'vnc.sock');
  const output = await VncOutput.open({ address: { path }, width: 64, height: 48, refreshMhz: 500_000 });
  const memory = createMemfd('refused', 64 * 48 * 2);
  let viewer: RfbViewer | null = null;
  if (isWatched) {
    await output.prepare();
    viewer = await RfbViewer.connect(path, { encodings: [ZRLE, EXTENDED_DESKTOP_SIZE, CURSOR, FENCE, CONTINUOUS] });
    viewer.continuous(true, [0, 0, 64, 48]);
  }
  return {
    output,
    isDark: () => output.isDark,
    refused: () => ({
      id: newFramebufferId(),
      width: 64,
      height: 48,
      format: DRM_FORMAT.RGB565,
      modifier: DRM_FORMAT_MOD_LINEAR,
      planes: [{ offset: 0, stride: 128 }],
      backing: { kind: 'dmabuf', dmabuf: memory },
    }),
    close: () => {
      viewer?.[Symbol.dispose]();
      memory[Symbol.dispose]();
      rmSync(directory, { recursive: true });
    },
  };
}

outputSuite('VncOutput', { describe, test }, () => open(false), ['refuse']);
outputSuite('VncOutput with a viewer', { describe, test }, () => open(true), ['refuse']);
