import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import {
  type WaylandObject,
  WlKeyboard,
  WlOutput,
  WlSurface,
  XdgToplevel,
  ZwpLinuxDmabufV1,
} from '../../../../../display/wayland/client/index.ts';
import type { OwnedFd } from '../../../../../src/sys/fd.ts';
import { createMemfd } from '../../../../../src/sys/memfd.ts';
import { fileSize } from '../../../../rig/process-resources.ts';
import { expectNoLeaks } from '../../../sys/no-leaks.ts';
import { type WireValue, encodeMessage } from './codec.ts';
import { Connected } from './connected.ts';

expectNoLeaks();

let it: Connected;
beforeEach(async () => {
  it = await Connected.open();
});
afterEach(() => it[Symbol.dispose]());

const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

/** A raw message, to send what no correct compositor sends. */
function words(...values: number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(values).buffer);
}

test('Wayland events that take long are dispatched over several turns, in order, and all before a hang-up', async () => {
  const surface = it.compositor.createSurface();
  await it.display.roundtrip();
  const closed = new Promise((resolve) => it.display.onClosed(resolve));
  const scales = Array.from({ length: 40 }, (_, i) => i + 1);
  const seen: number[] = [];
  let thisTurn = 0;
  let mostOfATurn = 0;
  // A clock on which each look takes longer than a share of a turn.
  let now = performance.now();
  const clock = vi.spyOn(performance, 'now').mockImplementation(() => (now += 100));
  surface.listener = {
    preferredBufferScale: (factor) => {
      seen.push(factor);
      mostOfATurn = Math.max(mostOfATurn, ++thisTurn);
      setImmediate(() => (thisTurn = 0));
    },
  };
  for (const scale of scales) it.far(surface).send('preferred_buffer_scale', scale);
  it.client[Symbol.dispose]();
  expect(await closed).toMatchObject({ code: 'gone' });
  clock.mockRestore();
  expect(seen).toEqual(scales);
  // A piece without a look at the clock, and one with.
  expect(mostOfATurn).toBe(16);
});

test('the id of a Wayland object is free when its last event has been heard, however long that took', async () => {
  let now = performance.now();
  const clock = vi.spyOn(performance, 'now').mockImplementation(() => (now += 100));
  const ids = [it.compositor.connection.objects.nextId];
  for (let i = 0; i < 3; i++) {
    await it.display.roundtrip();
    ids.push(it.compositor.connection.objects.nextId);
  }
  clock.mockRestore();
  expect(new Set(ids).size).toBe(1);
});

test('a Wayland event stream that is cut at any byte gives the same events', async () => {
  const [output] = it.conjure(WlOutput);
  const [keyboard] = it.conjure(WlKeyboard);
  const [toplevel] = it.conjure(XdgToplevel);
  const heard: unknown[] = [];
  const log = (...what: unknown[]): void => void heard.push(what);
  output.listener = { geometry: (...args) => log('geometry', ...args), done: () => log('done') };
  keyboard.listener = {
    keymap: (format, fd, size) => {
      log('keymap', format, fileSize(fd), size);
      fd[Symbol.dispose]();
    },
  };
  toplevel.listener = { configure: (...args) => log('configure', ...args) };
  using memfd = createMemfd('keymap', 77);
  const message = (object: WaylandObject, opcode: number, values: readonly WireValue[]): Buffer =>
    encodeMessage(object.id, opcode, object.interface.events[opcode]!.args, values);
  const stream = Buffer.concat([
    message(output, 0, [-1, 2, 300, 200, 1, 'Größe & Co', '', 7]),
    message(keyboard, 0, [1, memfd, 77]),
    message(toplevel, 0, [640, 480, Uint8Array.of(1, 0, 0, 0, 4, 0, 0, 0)]),
    message(output, 2, []),
  ]);
  const expected = [
    ['geometry', -1, 2, 300, 200, 1, 'Größe & Co', '', 7],
    ['keymap', 1, 77, 77],
    ['configure', 640, 480, Uint8Array.of(1, 0, 0, 0, 4, 0, 0, 0)],
    ['done'],
  ];
  for (let cut = 1; cut < stream.length; cut++) {
    heard.length = 0;
    it.client.raw(stream.subarray(0, cut), [memfd]);
    await turn();
    it.client.raw(stream.subarray(cut));
    await it.display.roundtrip();
    expect(heard, `cut at ${cut}`).toEqual(expected);
  }
});

test('arrays of a Wayland event are copies that the listener may keep', async () => {
  const [toplevel, far] = it.conjure(XdgToplevel);
  const kept: Uint8Array[] = [];
  toplevel.listener = { configure: (_width, _height, states) => kept.push(states) };
  for (const state of [1, 2, 3]) far.send('configure', 1, 1, Uint8Array.of(state, 0, 0, 0));
  await it.display.roundtrip();
  expect(kept.map((states) => [...new Uint32Array(states.buffer)])).toEqual([[1], [2], [3]]);
});

const header = (id: number, opcode: number, size: number): number[] => [id, size * 0x10000 + opcode];

test.each<[string, (id: number) => Uint8Array, string]>([
  [
    'a size smaller than the header',
    (id) => words(...header(id, 0, 4)),
    'wl_output#4.geometry: its size is given as 4 bytes',
  ],
  ['a size that is not a multiple of 4', (id) => words(...header(id, 2, 10), 0), 'its size is given as 10 bytes'],
  ['an unknown object', () => words(...header(4711, 0, 8)), 'malformed event #4711.0: there is no such object'],
  [
    'an unknown object in the compositor’s id range',
    () => words(...header(0xff000007, 0, 8)),
    'there is no such object',
  ],
  ['object 0', () => words(...header(0, 0, 8)), 'there is no such object'],
  [
    'an unknown event',
    (id) => words(...header(id, 77, 8)),
    'malformed event wl_output#4.77: its interface has no event 77',
  ],
  [
    'an event to an object whose interface has none',
    () => words(...header(3, 0, 8)),
    'malformed event wl_compositor#3.0: its interface has no event 0',
  ],
  ['a message that is too short', (id) => words(...header(id, 1, 20), 1, 2, 3), 'wl_output#4.mode: it is too short'],
  ['a message that is too long', (id) => words(...header(id, 2, 12), 1), 'wl_output#4.done: it is 4 bytes too long'],
  [
    'a null string where null is not allowed',
    (id) => words(...header(id, 4, 12), 0),
    'wl_output#4.name: a string is null that must not be',
  ],
  [
    'a string that runs past the end',
    (id) => words(...header(id, 4, 16), 5, 0),
    'a string or array of 5 bytes runs past the end of the message',
  ],
  ['a string of 4 GiB', (id) => words(...header(id, 4, 16), 0xffffffff, 0), 'runs past'],
  ['a string of 2 GiB', (id) => words(...header(id, 4, 16), 0x80000000, 0), 'runs past'],
  [
    'a string without its zero byte',
    (id) => words(...header(id, 4, 16), 4, 0x61616161),
    'does not end with its only zero byte',
  ],
  [
    'a string with a zero byte inside',
    (id) => words(...header(id, 4, 16), 4, 0x00610061),
    'does not end with its only zero byte',
  ],
  ['a string that is not UTF-8', (id) => words(...header(id, 4, 16), 4, 0x00ff61c3), 'a string is not valid UTF-8'],
])('malformed Wayland event: %s ends the connection', async (_, bytes, message) => {
  const [output] = it.conjure(WlOutput);
  it.client.raw(bytes(output.id));
  await expect(it.display.roundtrip()).rejects.toMatchObject({
    code: 'malformed',
    message: expect.stringContaining(message) as string,
  });
});

test('malformed Wayland event: a missing file descriptor ends the connection', async () => {
  const [keyboard] = it.conjure(WlKeyboard);
  it.client.raw(words(...header(keyboard.id, 0, 16), 1, 4096));
  await expect(it.display.roundtrip()).rejects.toThrow(
    'wl_keyboard#4.keymap: its file descriptor did not arrive with it',
  );
});

test('malformed Wayland event: the descriptors it has claimed are closed', async () => {
  const [keyboard] = it.conjure(WlKeyboard);
  using memfd = createMemfd('keymap', 1);
  it.client.raw(words(...header(keyboard.id, 0, 12), 1), [memfd]);
  await expect(it.display.roundtrip()).rejects.toThrow('wl_keyboard#4.keymap: it is too short');
});

test('more than 64 descriptors that belong to no Wayland event end the connection', async () => {
  using memfd = createMemfd('spam', 1);
  const fds = new Array<OwnedFd>(28).fill(memfd);
  const [output] = it.conjure(WlOutput);
  for (let i = 0; i < 3; i++) it.client.raw(words(...header(output.id, 2, 8)), fds);
  await expect(it.display.roundtrip()).rejects.toThrow('84 file descriptors belong to no message');
});

test('malformed Wayland event: an object of another interface as an argument ends the connection', async () => {
  const [surface, far] = it.conjure(WlSurface);
  far.send('enter', surface.id);
  await expect(it.display.roundtrip()).rejects.toThrow(
    'wl_surface#4.enter: an argument refers to wl_surface#4, expected wl_output',
  );
});

test('malformed Wayland event: an unknown object as an argument ends the connection', async () => {
  const [, far] = it.conjure(WlSurface);
  far.send('enter', 4711);
  await expect(it.display.roundtrip()).rejects.toThrow(
    'wl_surface#4.enter: an argument refers to unknown object 4711, expected wl_output',
  );
});

test('malformed Wayland event: the error names object, interface, event and the last request to the object', async () => {
  const surface = it.compositor.createSurface();
  surface.commit();
  await it.display.roundtrip();
  it.far(surface).send('enter', surface.id);
  await expect(it.display.roundtrip()).rejects.toMatchObject({
    code: 'malformed',
    message:
      'the compositor sent a malformed event wl_surface#4.enter: an argument refers to wl_surface#4, expected wl_output (the last request to it was commit)',
    interface: 'wl_surface',
    objectId: 4,
    request: 'commit',
  });
});

test('malformed Wayland event: a null object where null is not allowed ends the connection', async () => {
  const [, far] = it.conjure(WlSurface);
  far.send('enter', 0);
  await expect(it.display.roundtrip()).rejects.toThrow(
    'wl_surface#4.enter: an object argument is null, expected wl_output',
  );
});

test('a Wayland event of almost 64 KiB is read', async () => {
  const [toplevel, far] = it.conjure(XdgToplevel);
  const configure = vi.fn();
  toplevel.listener = { configure };
  const states = new Uint8Array(0xfffc - 20).map((_, i) => i);
  far.send('configure', 1, 2, states);
  far.send('configure', 3, 4, states);
  await it.display.roundtrip();
  expect(configure.mock.calls).toEqual([
    [1, 2, states],
    [3, 4, states],
  ]);
});

test('uint arguments of a Wayland event are unsigned', async () => {
  const [dmabuf, far] = it.conjure(ZwpLinuxDmabufV1, 3);
  const modifier = vi.fn();
  dmabuf.listener = { modifier };
  far.send('modifier', 0x34325258, 0x00ffffff, 0xffffffff);
  await it.display.roundtrip();
  expect(modifier.mock.calls).toEqual([[0x34325258, 0x00ffffff, 0xffffffff]]);
});
