import { afterEach, expect, test, vi } from 'vitest';
import { EncodingThread } from '../../../../display/vnc/encoding-thread.ts';
import { type RfbViewer, ZRLE } from '../../../rig/rfb-viewer.ts';
import { eventually } from '../../../rig/eventually.ts';
import { VncRig } from './rig.ts';

afterEach(() => vi.restoreAllMocks());

test('VncOutput: flips never wait for the thread that encodes, and it is asked for one update at a time', async () => {
  using rig = await VncRig.open();
  const pixels = new Uint32Array(64 * 48);
  await rig.show(64, 48, pixels);
  const viewers = [await rig.connect({ encodings: [ZRLE] }), await rig.connect({ encodings: [ZRLE] })];
  for (const viewer of viewers) await viewer.update();
  const { updates } = rig.output.stats;
  // It does not answer any more.
  const encode = vi.spyOn(EncodingThread.prototype, 'encode').mockReturnValue();
  const ask = (viewer: RfbViewer): void => viewer.request(true);
  viewers.forEach(ask);
  for (let frame = 1; frame <= 20; frame++) {
    await rig.show(64, 48, pixels.fill(frame));
    rig.forgetShadows();
  }
  await eventually(() => expect(encode).toHaveBeenCalled());
  const asked = encode.mock.calls.length;
  viewers.forEach(ask);
  for (let frame = 21; frame <= 40; frame++) await rig.show(64, 48, pixels.fill(frame));

  expect(asked).toBeLessThanOrEqual(viewers.length);
  expect(encode.mock.calls.length).toBe(asked);
  expect(rig.output.stats.updates).toBe(updates);
});
