import { expect, test } from 'vitest';
import { DRM_FORMAT, DRM_FORMAT_MOD_LINEAR } from '../../../../protocols/drm-fourcc.ts';
import { PresentedFlags } from '../../../../src/core/output.ts';
import { fileSize } from '../../../rig/process-resources.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import { words } from './fake-vmm.ts';
import {
  Listener,
  MODE,
  frame,
  guest,
  handles,
  importOf,
  open,
  scanout,
  show,
  update,
  useVmm,
  vmm,
} from './session.ts';

expectNoLeaks();
useVmm();

const DMABUF2 = 0b10;

test('VmmOutput: passes dma-bufs only if the user asks for it', async () => {
  const careful = (await open({}, DMABUF2)).outputs[0]!;
  expect([careful.imports.isEmpty, careful.readsPages]).toEqual([true, true]);
});

test('VmmOutput: sends a dma-buf with its modifier, presents it when the VMM answers, releases it when it is replaced', async () => {
  const output = (await open({ dmabuf: true }, DMABUF2)).outputs[0]!;
  expect([output.imports.has(DRM_FORMAT.XRGB8888, DRM_FORMAT_MOD_LINEAR), output.readsPages]).toEqual([true, false]);
  const [one, two] = [guest(100, 80), guest(100, 80)];
  const [first, second] = [importOf(output, one.asDmabuf), importOf(output, two.asDmabuf)];
  const listener = new Listener(output);
  const scanout2 = words(12, 0, 48, 0, 10, 0, 90, 80, 100, 80, 400, 0, DRM_FORMAT.XRGB8888, 0, 0);

  expect(show(output, frame(first, [10, 0, 90, 80]))).toEqual(
    Buffer.concat([scanout2, words(10, 0, 20, 0, 0, 0, 90, 80)]),
  );
  using passed = vmm.takeFd()!;
  expect(fileSize(passed)).toBe(Math.ceil((100 * 80 * 4) / 4096) * 4096);
  expect(listener.events).toEqual([]);
  let shown = listener.next();
  vmm.reply(words(10, 4, 0));
  await shown;
  expect(listener.events).toEqual(['presented']);
  expect(listener.flags).toBe(PresentedFlags.ZERO_COPY);

  expect(
    show(
      output,
      frame(
        first,
        [10, 0, 90, 80],
        [
          [12, 3, 4, 4],
          [20, 10, 5, 2],
        ],
      ),
    ),
  ).toEqual(words(10, 0, 20, 0, 2, 3, 13, 9));
  shown = listener.next();
  vmm.reply(words(10, 4, 0));
  await shown;

  show(output, frame(second, [10, 0, 90, 80]));
  vmm.takeFd()![Symbol.dispose]();
  shown = listener.next();
  vmm.reply(words(10, 4, 0));
  await shown;
  expect(listener.events).toEqual(['presented', 'presented', 'released 0', 'presented']);
});

test('VmmOutput: takes a dma-buf away before it sends pixels', async () => {
  const output = (await open({ dmabuf: true })).outputs[0]!;
  const picture = guest(100, 80);
  const handle = importOf(output, picture.asDmabuf);
  const shadow = output.createShadow(100, 80, DRM_FORMAT.XRGB8888);
  handles.push(shadow);
  const listener = new Listener(output);
  const plain = words(9, 0, 40, 0, 0, 0, 100, 80, 100, 80, 400, 0, DRM_FORMAT.XRGB8888);
  expect(show(output, frame(handle, [0, 0, 100, 80]))).toEqual(
    Buffer.concat([plain, words(10, 0, 20, 0, 0, 0, 100, 80)]),
  );
  vmm.takeFd()![Symbol.dispose]();
  const shown = listener.next();
  vmm.reply(words(10, 4, 0));
  await shown;
  const off = words(9, 0, 40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
  const bytes = show(output, frame(shadow, [0, 0, 100, 80], []));
  expect(bytes).toEqual(Buffer.concat([off, scanout(0, 100, 80), update(0, [0, 0, 100, 80], Buffer.alloc(32_000))]));
  expect(vmm.takeFd()).toBeUndefined();
  expect(listener.events).toEqual(['presented', 'released 1', 'released 0', 'presented']);
});

test('VmmOutput: sends a dma-buf with its own message, behind a frame that waits', async () => {
  const { outputs } = await open({ dmabuf: true, scanouts: 2 }, DMABUF2, [MODE, MODE]);
  const [large, small] = [guest(1280, 800), guest(100, 80)];
  outputs.forEach((output) => new Listener(output));
  outputs[0]!.present(frame(importOf(outputs[0]!, large.framebuffer), [0, 0, 1280, 800]));
  outputs[1]!.present(frame(importOf(outputs[1]!, small.asDmabuf), [0, 0, 100, 80]));
  await vmm.take(24 + 32 + 1280 * 800 * 4);
  expect((await vmm.take(60)).subarray(0, 16)).toEqual(words(12, 0, 48, 1));
  using passed = vmm.takeFd()!;
  expect(fileSize(passed)).toBe(Math.ceil((100 * 80 * 4) / 4096) * 4096);
  expect(vmm.takeFd()).toBeUndefined();
});

test('VmmOutput: refuses a dma-buf of the size of a cursor, and one that does not start with the picture', async () => {
  const output = (await open({ dmabuf: true }, DMABUF2)).outputs[0]!;
  expect(output.import(guest(64, 64, DRM_FORMAT.ARGB8888).asDmabuf)).toMatchObject({ code: 'resources' });
  expect(output.import({ ...guest(100, 80).asDmabuf, planes: [{ offset: 4096, stride: 400 }] })).toMatchObject({
    code: 'resources',
  });
});
