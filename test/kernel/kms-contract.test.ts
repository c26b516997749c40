import assert from 'node:assert';
import { afterAll, beforeAll, describe, test } from 'vitest';
import { KmsDisplay } from '../../display/kms/display.ts';
import { KmsOutput } from '../../display/kms/output.ts';
import { Properties } from '../../display/kms/resources.ts';
import { modifierCode } from '../../protocols/drm-fourcc.ts';
import { DRM_MODE_OBJECT_PLANE } from '../../protocols/drm-mode.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { type OutputRig, outputSuite } from '../../src/testing/output-suite.ts';
import { openUdmabuf, ScatteredPicture } from '../rig/scattered-picture.ts';
import { Vgem } from '../rig/vgem.ts';
import { Plug, skipWithoutVkms, vkmsCard } from './kms-rig.ts';
import { expectNothingLeft } from './machine.ts';

const isSkipped = skipWithoutVkms();
const card = vkmsCard() ?? '';
const CONNECTOR = 'Virtual-1';
const SIZE = { width: 64, height: 48 };
/** vkms has none. */
const X_TILED = modifierCode('INTEL', 1n);

let gpu: Vgem;

function open(): OutputRig {
  const stack = new DisposableStack();
  const display = stack.use(KmsDisplay.open({ card, mode: { width: 640, height: 480 } }));
  const output = display.outputs[0];
  assert(output instanceof KmsOutput);
  const udmabuf = stack.use(openUdmabuf());
  const picture = (): ScatteredPicture => stack.use(new ScatteredPicture(udmabuf, SIZE.width, SIZE.height));
  let plug: Plug | null = null;
  // The suite leaves its handles to its runner's process.
  const { createShadow, import: importFramebuffer } = output;
  output.createShadow = (...args) => stack.use(createShadow.apply(output, args));
  output.import = (framebuffer) => {
    const handle = importFramebuffer.call(output, framebuffer);
    return handle instanceof Error ? handle : stack.use(handle);
  };
  return {
    output,
    size: SIZE,
    // The background is as large as the screen.
    isDark: () =>
      !output.pipe ||
      Properties.read(display.device, output.pipe.primary.id, DRM_MODE_OBJECT_PLANE).value('CRTC_W') !== SIZE.width,
    framebuffer: () => picture().framebuffer,
    refused: () => ({ ...picture().framebuffer, modifier: X_TILED }),
    unplug: () => void (plug = stack.use(new Plug(card, CONNECTOR, 'off'))),
    plug: () => plug!.set('detect'),
    fence: () => {
      const work = stack.use(gpu.begin());
      return { fd: work.fence, signal: () => work.end() };
    },
    close: () => stack[Symbol.dispose](),
  };
}

describe.skipIf(isSkipped)('on vkms', () => {
  beforeAll(() => void (gpu = new Vgem()));
  afterAll(() => gpu[Symbol.dispose]());
  expectNothingLeft();
  outputSuite('KmsOutput on vkms', { describe, test }, open, ['import', 'refuse', 'unplug', 'fence']);
});
