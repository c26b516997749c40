import { describe, test } from 'vitest';
import { HeadlessOutput } from '../../../../display/headless/output.ts';
import { DRM_FORMAT, DRM_FORMAT_MOD_LINEAR } from '../../../../protocols/drm-fourcc.ts';
import { newFramebufferId } from '../../../../src/core/framebuffer.ts';
import { createMemfd } from '../../../../src/sys/memfd.ts';
import { outputSuite } from '../../../../src/testing/output-suite.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';

expectNoLeaks();

outputSuite(
  'HeadlessOutput',
  { describe, test },
  () => {
    const output = HeadlessOutput.open({ width: 64, height: 48, refreshMhz: 500_000 });
    const memory = createMemfd('refused', 64 * 48 * 2);
    return {
      output,
      isDark: () => output.capture() === null,
      refused: () => ({
        id: newFramebufferId(),
        width: 64,
        height: 48,
        format: DRM_FORMAT.RGB565,
        modifier: DRM_FORMAT_MOD_LINEAR,
        planes: [{ offset: 0, stride: 128 }],
        backing: { kind: 'dmabuf', dmabuf: memory },
      }),
      close: () => memory[Symbol.dispose](),
    };
  },
  ['refuse'],
);
