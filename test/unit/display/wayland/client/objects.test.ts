import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { WlBuffer} from '../../../../../display/wayland/client/index.ts';
import { WlKeyboard, WlOutput, WlSeat, WlShm, WlSurface, WpPresentationFeedback, ZwpLinuxBufferParamsV1 } from '../../../../../display/wayland/client/index.ts';
import { createMemfd } from '../../../../../src/sys/memfd.ts';
import { expectNoLeaks } from '../../../sys/no-leaks.ts';
import { Connected } from './connected.ts';

expectNoLeaks();

let it: Connected;
beforeEach(async () => {
  it = await Connected.open();
});
afterEach(() => it[Symbol.dispose]());

test('an id is given again after delete_id, not before', async () => {
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

test('an object used after destroy throws, alone and as an argument', () => {
  const surface = it.compositor.createSurface();
  const region = it.compositor.createRegion();
  region.destroy();
  expect(() => region.add(0, 0, 1, 1)).toThrow(`wl_region#${region.id}.add was called after the object was destroyed`);
  expect(() => region.destroy()).toThrow(expect.objectContaining({ code: 'destroyed' }) as Error);
  expect(() => surface.setInputRegion(region)).toThrow(`wl_region#${region.id} cannot be an argument: it is destroyed`);
  region[Symbol.dispose]();
});

test('an object of another connection is no argument', async () => {
  using other = await Connected.open();
  expect(() => it.compositor.createSurface().setInputRegion(other.compositor.createRegion())).toThrow('cannot be an argument: it belongs to another connection');
});

test('a request that throws has sent nothing and used no id', async () => {
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
  expect(it.server.requestNames.slice(-3)).toEqual(['wl_compositor.create_surface', 'wl_surface.frame', 'wl_surface.commit']);
});

test('a request later than the bound version names interface, request and versions', async () => {
  using old = await Connected.open(2);
  const surface = old.compositor.createSurface();
  expect(surface.version).toBe(2);
  surface.setBufferTransform(0);
  expect(() => surface.damageBuffer(0, 0, 1, 1)).toThrow(
    expect.objectContaining({ code: 'version', interface: 'wl_surface', request: 'damage_buffer', needed: 4, bound: 2, message: 'wl_surface.damage_buffer came with version 4; this object has version 2' }) as Error,
  );
});

test('dispose sends the destructor the version has, else it only stops listening', async () => {
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

test('events to a destroyed object are read and dropped, with their descriptors', async () => {
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

test('an object that an event to a destroyed one brings is destroyed too, and its id may come again', async () => {
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

test('a descriptor or an object nobody listens for is closed, or destroyed', async () => {
  const [, keyboard] = it.conjure(WlKeyboard);
  const [params, farParams] = it.conjure(ZwpLinuxBufferParamsV1);
  params.listener = { failed: () => undefined };
  using memfd = createMemfd('keymap', 4096);
  keyboard.send('keymap', 1, memfd, 4096);
  farParams.send('created', it.client.newObject('wl_buffer', 1));
  await it.server.next('wl_buffer.destroy');
});

test('an object the compositor made works both ways', async () => {
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
  ['an id of ours', 3],
  ['an id that leaves a gap', 0xff000001],
  ['the last id there is', 0xffffffff],
  ['no id', 0],
])('%s is no id for an object of the compositor', async (_, id) => {
  const [, far] = it.conjure(ZwpLinuxBufferParamsV1);
  far.send('created', id);
  await expect(it.display.roundtrip()).rejects.toMatchObject({ code: 'malformed', interface: 'zwp_linux_buffer_params_v1' });
});

test('an id of the compositor is not given twice', async () => {
  const [params, far] = it.conjure(ZwpLinuxBufferParamsV1);
  params.listener = { created: () => undefined };
  far.send('created', 0xff000000);
  far.send('created', 0xff000000);
  await expect(it.display.roundtrip()).rejects.toThrow('created: a new object has the id of wl_buffer#4278190080');
});

test('an object in an event is null once we destroyed it', async () => {
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

test('an object ended by an event is destroyed when its listener is called', async () => {
  const [feedback, far] = it.conjure(WpPresentationFeedback);
  const seen = vi.fn();
  feedback.listener = { discarded: () => void seen(feedback.isDestroyed) };
  far.send('discarded');
  await it.display.roundtrip();
  expect(seen.mock.calls).toEqual([[true]]);
  expect(it.compositor.connection.objects.get(feedback.id)).toBeNull();
});

test('an object the compositor deletes of its own accord is of no use any more', async () => {
  const surface = it.compositor.createSurface();
  await it.display.roundtrip();
  it.client.destroyed(it.far(surface));
  await it.display.roundtrip();
  expect(() => surface.commit()).toThrow('was called after the object was destroyed');
});

test.each([1, 999, 0, 0xff000000])('delete_id of %i ends the connection', async (id) => {
  it.client.display.send('delete_id', id);
  await expect(it.display.roundtrip()).rejects.toMatchObject({ code: 'malformed', interface: 'wl_display' });
});

test('a listener may destroy its own object and others in any event', async () => {
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

test('what a listener throws is thrown as uncaught, and the events go on', async () => {
  const surface = it.compositor.createSurface();
  await it.display.roundtrip();
  const uncaught = vi.fn();
  const others = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException').on('uncaughtException', uncaught);
  const scales: number[] = [];
  surface.listener = {
    preferredBufferScale: (factor) => {
      scales.push(factor);
      throw new Error(`scale ${factor}`);
    },
  };
  it.far(surface).send('preferred_buffer_scale', 2);
  it.far(surface).send('preferred_buffer_scale', 3);
  await it.display.roundtrip();
  process.removeAllListeners('uncaughtException');
  for (const other of others) process.on('uncaughtException', other);
  expect(scales).toEqual([2, 3]);
  expect(uncaught.mock.calls.map(([error]) => String(error))).toEqual(['Error: scale 2', 'Error: scale 3']);
});

test('interfaces with the same requests are different types', () => {
  const [surface] = it.conjure(WlSurface);
  // @ts-expect-error a wl_shm is no wl_buffer
  const wrong = (): void => surface.attach(it.conjure(WlShm)[0], 0, 0);
  // @ts-expect-error nor is a wl_surface
  const worse = (): void => surface.attach(surface, 0, 0);
  expect([wrong, worse].map((call) => typeof call)).toEqual(['function', 'function']);
});
