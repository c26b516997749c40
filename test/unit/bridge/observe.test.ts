import { expect, test } from 'vitest';
import { HeadlessOutput } from '../../../display/headless/output.ts';
import { DRM_FORMAT } from '../../../protocols/drm-fourcc.ts';
import { Bridge } from '../../../src/bridge/bridge.ts';
import type { Log } from '../../../src/core/log.ts';
import { MAX_REFRESH_MHZ } from '../../../src/core/monitor.ts';
import { MemoryBudget } from '../../../src/core/budget.ts';
import { FakeOutput } from './fakes.ts';
import { bridge, FIRST, output, picture, source, useBridge } from './bridge-rig.ts';

useBridge();

const log: Log = () => undefined;
const observer = (): FakeOutput => new FakeOutput({ name: 'observer', size: [1, 1] });

test('Bridge.observe: gives the guest no monitor, no input and no statistics', () => {
  const watched = observer();
  bridge.observe(FIRST, watched, { log });

  expect(source.monitors[0] ?? null).toBeNull();
  expect(watched.screen.input).toBeNull();
  expect(bridge.stats[FIRST]!.screens).toEqual([]);
});

test('Bridge.observe: leaves the monitor that the guest has', () => {
  bridge.observe(FIRST, observer(), { log });
  bridge.show(FIRST, output);

  expect(source.monitors[0]).toBe(output.monitor);
});

test('Bridge.observe: a flip waits for the viewer and the observer, so that neither has parts of two pictures', () => {
  const watched = observer();
  bridge.show(FIRST, output);
  bridge.observe(FIRST, watched, { log });
  source.show(picture().framebuffer);
  const flush = source.flush(0, 0, 64, 48);

  watched.vblank();
  expect(flush.done).not.toHaveBeenCalled();
  output.vblank();
  expect(flush.done).toHaveBeenCalledOnce();

  source.show(picture().framebuffer);
  const next = source.flush(0, 0, 64, 48);
  output.vblank();
  expect(next.done).not.toHaveBeenCalled();
  watched.vblank();
  expect(next.done).toHaveBeenCalledOnce();
});

test('Bridge.observe: does not make the guest wait for a viewer that is unplugged but for one that is lit', () => {
  const watched = observer();
  const unplugged = new FakeOutput({ name: 'unplugged' });
  unplugged.plug(null);
  bridge.show(FIRST, output);
  bridge.show(FIRST, unplugged);
  bridge.observe(FIRST, watched, { log });
  source.show(picture().framebuffer);
  const flush = source.flush(0, 0, 64, 48);

  watched.vblank();
  output.vblank();
  expect(flush.done).toHaveBeenCalledOnce();
  unplugged.vblank();
  expect(flush.done).toHaveBeenCalledOnce();
});

test('Bridge.observe: a scanout without a viewer keeps the pace of one that nothing shows', async () => {
  const watched = observer();
  bridge.observe(FIRST, watched, { log });
  source.show(picture().framebuffer);
  const flush = source.flush(0, 0, 64, 48);

  watched.vblank();
  expect(flush.done).not.toHaveBeenCalled();
  await expect.poll(() => flush.done.mock.calls.length).toBe(1);
});

test('Bridge.observe: ended with a frame in flight, completes every flush', () => {
  const watched = observer();
  bridge.show(FIRST, output);
  const observation = bridge.observe(FIRST, watched, { log });
  source.show(picture().framebuffer);
  const flush = source.flush(0, 0, 64, 48);
  output.vblank();

  observation[Symbol.dispose]();
  observation[Symbol.dispose]();

  expect(flush.done).toHaveBeenCalledOnce();
  expect(watched.isAttached).toBe(false);
});

test('Bridge.observe: what a HeadlessOutput keeps is the picture that was shown, whatever the guest draws later', async () => {
  using headless = HeadlessOutput.open({ width: 1, height: 1, refreshMhz: MAX_REFRESH_MHZ });
  const shown = picture();
  shown.noise();
  const expected = shown.rgb;
  bridge.show(FIRST, output);
  source.show(shown.framebuffer);
  source.flush(0, 0, 64, 48);
  const observation = bridge.observe(FIRST, headless, { keepLast: true, log });
  await new Promise<void>((resolve) => headless.onFrame(() => resolve()));

  expect(observation.isCopy).toBe(true);
  observation[Symbol.dispose]();
  shown.fill(0, 0, 64, 48, 0);
  expect(headless.capture()).toEqual(expected);
  expect(headless.pictureSize).toEqual({ width: 64, height: 48 });
});

test('Bridge.observe: the first frame has the whole picture and the cursor', () => {
  const watched = observer();
  const shown = picture();
  shown.noise();
  source.show(shown.framebuffer);
  source.sink.cursor(FIRST, picture(16, 16, DRM_FORMAT.ARGB8888).framebuffer, 0, 0, 5, 6);
  bridge.observe(FIRST, watched, { log });

  expect(watched.presents).toMatchObject([{ cursor: expect.anything() as object, damage: [[0, 0, 64, 48]] }]);
  expect(watched.picture()).toEqual(shown.read());
});

test('Bridge.observe: without memory for a copy, shows nothing and says why', async () => {
  using headless = HeadlessOutput.open({ width: 1, height: 1, refreshMhz: MAX_REFRESH_MHZ });
  const said: string[] = [];
  source.budget = new MemoryBudget(64 * 48 * 4 - 1);
  bridge[Symbol.dispose]();
  using poor = new Bridge(source, { zeroCopy: 'off' });
  source.show(picture().framebuffer);
  poor.observe(FIRST, headless, { log: (level, message) => said.push(`${level}: ${message}`) });
  await new Promise<void>((resolve) => headless.onFrame(() => resolve()));

  expect(headless.pictureSize).toBeNull();
  expect(said).toContainEqual(
    expect.stringMatching(/^warn: .*no memory for a shadow of 64x48 .*raise --max-guest-memory/),
  );
});

test('Bridge.observe: refuses a scanout that the guest does not have, and leaves the output free', () => {
  const watched = observer();
  expect(() => bridge.observe(7, watched, { log })).toThrow('scanout 7: the guest has 2, counted from 0');
  expect(watched.isAttached).toBe(false);
});

test('Bridge.pictureSize: is that of the scanout, and null while it is off', () => {
  expect(bridge.pictureSize(FIRST)).toBeNull();
  source.show(picture(32, 16).framebuffer);
  expect(bridge.pictureSize(FIRST)).toEqual({ width: 32, height: 16 });
});
