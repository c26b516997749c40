import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { WlBuffer } from '../../../../../display/wayland/client/index.ts';
import {
  WlKeyboard,
  WlOutput,
  WlSeat,
  WlShm,
  WlSurface,
  WpPresentationFeedback,
  ZwpLinuxBufferParamsV1,
} from '../../../../../display/wayland/client/index.ts';
import { createMemfd } from '../../../../../src/sys/memfd.ts';
import { expectNoLeaks } from '../../../sys/no-leaks.ts';
import { Connected } from './connected.ts';

expectNoLeaks();

let it: Connected;
beforeEach(async () => {
  it = await Connected.open();
});
afterEach(() => it[Symbol.dispose]());

test('Wayland object ids are reused after delete_id, not before', async () => {
  it.server.confirmsDestructors = false;
  const first = it.compositor.createSurface();
  await it.display.roundtrip();
  const far = it.far(first);
  first.destroy();
  const second = it.compositor.createSurface();
  await it.display.roundtrip();
  it.client.destroyed(far);
  await it.display.roundtrip();
  const later = [it.compositor.createSurface(), it.compositor.createSurface()].map(({ id }) => id);
  expect(second.id).not.toBe(first.id);
  expect(later).toContain(first.id);
});

test('a destroyed Wayland object throws on a request and as an argument', () => {
  const surface = it.compositor.createSurface();
  const region = it.compositor.createRegion();
  region.destroy();
  expect(() => region.add(0, 0, 1, 1)).toThrow(`wl_region#${region.id}.add was called after the object was destroyed`);
  expect(() => region.destroy()).toThrow(expect.objectContaining({ code: 'destroyed' }) as Error);
  expect(() => surface.setInputRegion(region)).toThrow(`wl_region#${region.id} cannot be an argument: it is destroyed`);
  region[Symbol.dispose]();
});

test('a Wayland object of another connection throws as an argument', async () => {
  using other = await Connected.open();
  expect(() => it.compositor.createSurface().setInputRegion(other.compositor.createRegion())).toThrow(
    'cannot be an argument: it belongs to another connection',
  );
});

test('a Wayland request that throws has sent nothing and used no id', async () => {
  const surface = it.compositor.createSurface();
  const [params] = it.conjure(ZwpLinuxBufferParamsV1);
  expect(() => surface.damage(0, 0, 2 ** 31, 1)).toThrow(RangeError);
  expect(() => surface.damage(0, 0.5, 1, 1)).toThrow(RangeError);
  expect(() => surface.damage(NaN, 0, 1, 1)).toThrow(RangeError);
  expect(() => params.createImmed(1, 1, -1, 0)).toThrow(RangeError);
  expect(() => params.createImmed(1, 2 ** 32, 1, 0)).toThrow(RangeError);
  surface.frame();
  surface.commit();
  await it.display.roundtrip();
  expect(it.server.requestNames.slice(-3)).toEqual([
    'wl_compositor.create_surface',
    'wl_surface.frame',
    'wl_surface.commit',
  ]);
});

test('a Wayland request that the bound version lacks throws an error with interface, request and versions', async () => {
  using old = await Connected.open(2);
  const surface = old.compositor.createSurface();
  expect(surface.version).toBe(2);
  surface.setBufferTransform(0);
  expect(() => surface.damageBuffer(0, 0, 1, 1)).toThrow(
    expect.objectContaining({
      code: 'version',
      interface: 'wl_surface',
      request: 'damage_buffer',
      needed: 4,
      bound: 2,
      message: 'wl_surface.damage_buffer needs version 4, but this object has version 2',
    }) as Error,
  );
});

test('disposing a Wayland object sends its destructor, or only removes the listener if its version has none', async () => {
  const [output, farOutput] = it.conjure(WlOutput, 2);
  const [seat, farSeat] = it.conjure(WlSeat, 5);
  const scale = vi.fn();
  output.listener = { scale };
  output[Symbol.dispose]();
  output[Symbol.dispose]();
  seat[Symbol.dispose]();
  await it.display.roundtrip();
  farOutput.send('scale', 2);
  await it.display.roundtrip();
  expect(it.server.requestNames.slice(-1)).toEqual(['wl_seat.release']);
  expect([farSeat.isDestroyed, farOutput.isDestroyed, output.isDestroyed]).toEqual([true, false, true]);
  expect(scale).not.toHaveBeenCalled();
});

test('events to a destroyed Wayland object are read and discarded, and their descriptors closed', async () => {
  const [keyboard, far] = it.conjure(WlKeyboard);
  const keymap = vi.fn();
  using memfd = createMemfd('keymap', 4096);
  keyboard.listener = { keymap };
  keyboard[Symbol.dispose]();
  keyboard.listener = { keymap };
  far.send('keymap', 1, memfd, 4096);
  far.send('repeat_info', 25, 600);
  await it.display.roundtrip();
  expect(keymap).not.toHaveBeenCalled();
  expect(it.client.objects.has(keyboard.id)).toBe(false);
});

test('an object announced to a destroyed Wayland object is destroyed too, and its id may be reused', async () => {
  const [params, far] = it.conjure(ZwpLinuxBufferParamsV1);
  params.destroy();
  const [first] = [it.client.newObject('wl_buffer', 1)];
  far.send('created', first);
  await it.server.next('wl_buffer.destroy');
  expect(first.isDestroyed).toBe(true);

  const [other, farOther] = it.conjure(ZwpLinuxBufferParamsV1);
  const created = vi.fn();
  other.listener = { created };
  farOther.send('created', it.client.newObject('wl_buffer', 1, first.id));
  await it.display.roundtrip();
  const buffer = created.mock.calls[0]![0] as WlBuffer;
  expect([buffer.id, buffer.isDestroyed]).toEqual([first.id, false]);
});

test('a Wayland event without a listener closes its descriptor and destroys its new object', async () => {
  const [, keyboard] = it.conjure(WlKeyboard);
  const [params, farParams] = it.conjure(ZwpLinuxBufferParamsV1);
  params.listener = { failed: () => undefined };
  using memfd = createMemfd('keymap', 4096);
  keyboard.send('keymap', 1, memfd, 4096);
  farParams.send('created', it.client.newObject('wl_buffer', 1));
  await it.server.next('wl_buffer.destroy');
});

test('a Wayland object that the compositor created is announced to the listener and receives events', async () => {
  const [params, far] = it.conjure(ZwpLinuxBufferParamsV1);
  const release = vi.fn();
  params.listener = { created: (buffer) => (buffer.listener = { release }) };
  const made = it.client.newObject('wl_buffer', 1);
  far.send('created', made);
  made.send('release');
  await it.display.roundtrip();
  expect(made.id).toBe(0xff000000);
  expect(release).toHaveBeenCalledTimes(1);
});

test.each([
  ['an id in the client’s range', 3],
  ['an id that leaves a gap', 0xff000001],
  ['the highest id', 0xffffffff],
  ['id 0', 0],
])('Wayland: the compositor announcing a new object with %s ends the connection', async (_, id) => {
  const [, far] = it.conjure(ZwpLinuxBufferParamsV1);
  far.send('created', id);
  await expect(it.display.roundtrip()).rejects.toMatchObject({
    code: 'malformed',
    interface: 'zwp_linux_buffer_params_v1',
  });
});

test('Wayland: the compositor announcing a new object with an id in use ends the connection', async () => {
  const [params, far] = it.conjure(ZwpLinuxBufferParamsV1);
  params.listener = { created: () => undefined };
  far.send('created', 0xff000000);
  far.send('created', 0xff000000);
  await expect(it.display.roundtrip()).rejects.toThrow('created: a new object has the id of wl_buffer#4278190080');
});

test('an object argument of a Wayland event is null if the client has destroyed the object', async () => {
  const surface = it.compositor.createSurface();
  const [output] = it.conjure(WlOutput);
  const enter = vi.fn();
  surface.listener = { enter };
  await it.display.roundtrip();
  it.far(surface).send('enter', output.id);
  await it.display.roundtrip();
  output.release();
  it.far(surface).send('enter', output.id);
  await it.display.roundtrip();
  expect(enter.mock.calls).toEqual([[output], [null]]);
});

test('a Wayland object that an event destroys is destroyed when its listener is called', async () => {
  const [feedback, far] = it.conjure(WpPresentationFeedback);
  const seen = vi.fn();
  feedback.listener = { discarded: () => void seen(feedback.isDestroyed) };
  far.send('discarded');
  await it.display.roundtrip();
  expect(seen.mock.calls).toEqual([[true]]);
  expect(it.compositor.connection.objects.get(feedback.id)).toBeNull();
});

test('a Wayland object that the compositor deletes unasked ends the connection, except for callbacks', async () => {
  const surface = it.compositor.createSurface();
  const callback = surface.frame();
  await it.display.roundtrip();
  it.client.destroyed(it.far(callback));
  await it.display.roundtrip();
  expect(callback.isDestroyed).toBe(true);
  it.client.destroyed(it.far(surface));
  await expect(it.display.roundtrip()).rejects.toMatchObject({
    code: 'malformed',
    message: expect.stringContaining(`${String(surface)} was deleted, but not destroyed`) as string,
  });
});

test('a compositor that never confirms destroyed objects ends the connection as stalled', async () => {
  it.server.confirmsDestructors = false;
  const closed = new Promise((resolve) => it.display.onClosed(resolve));
  while (!it.display.closeReason) {
    for (let i = 0; i < 1000; i++) it.compositor.createRegion()[Symbol.dispose]();
    await it.display.roundtrip().catch(() => undefined);
    it.server.requests.length = 0;
  }
  expect(await closed).toMatchObject({ code: 'stalled' });
});

test.each([1, 999, 0, 0xff000000])(
  'wl_display.delete_id of %i, which is no deletable object, ends the connection',
  async (id) => {
    it.client.display.send('delete_id', id);
    await expect(it.display.roundtrip()).rejects.toMatchObject({ code: 'malformed', interface: 'wl_display' });
  },
);

test('a Wayland listener may destroy its own and other objects: they hear no further events', async () => {
  const surfaces = [it.compositor.createSurface(), it.compositor.createSurface()];
  await it.display.roundtrip();
  const called = vi.fn();
  for (const surface of surfaces) {
    surface.listener = {
      preferredBufferScale: (factor) => {
        called(factor);
        for (const each of surfaces) each[Symbol.dispose]();
      },
    };
  }
  const far = surfaces.map((surface) => it.far(surface));
  for (const each of far) each.send('preferred_buffer_scale', 2);
  await it.display.roundtrip();
  expect(called.mock.calls).toEqual([[2]]);
});

test('an exception in a Wayland listener ends the connection, and later events are not dispatched', async () => {
  const surface = it.compositor.createSurface();
  await it.display.roundtrip();
  const closed = new Promise((resolve) => it.display.onClosed(resolve));
  const cause = new Error('no such scale');
  const scales: number[] = [];
  surface.listener = {
    preferredBufferScale: (factor) => {
      scales.push(factor);
      throw cause;
    },
  };
  it.far(surface).send('preferred_buffer_scale', 2);
  it.far(surface).send('preferred_buffer_scale', 3);
  expect(await closed).toMatchObject({
    code: 'listener',
    message: `the listener of ${String(surface)}.preferred_buffer_scale threw: Error: no such scale`,
    cause,
  });
  expect(scales).toEqual([2]);
});

test('Wayland interfaces with the same requests are different TypeScript types', () => {
  const [surface] = it.conjure(WlSurface);
  // @ts-expect-error a wl_shm is not a wl_buffer
  const wrong = (): void => surface.attach(it.conjure(WlShm)[0], 0, 0);
  // @ts-expect-error a wl_surface is not a wl_buffer
  const worse = (): void => surface.attach(surface, 0, 0);
  expect([wrong, worse].map((call) => typeof call)).toEqual(['function', 'function']);
});
