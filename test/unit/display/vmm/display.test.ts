import { openSync } from 'node:fs';
import { expect, test, vi } from 'vitest';
import { VmmDisplay } from '../../../../display/vmm/display.ts';
import { DRM_FORMAT } from '../../../../protocols/drm-fourcc.ts';
import { makeEdid } from '../../../../protocols/edid.ts';
import { OwnedFd } from '../../../../src/sys/fd.ts';
import { openFds } from '../../../rig/process-resources.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import { displayInfoReply, edidReply, featuresReply, words } from './fake-vmm.ts';
import {
  type Cursor,
  Listener,
  MODE,
  ONE_SECOND,
  answer,
  connect,
  display,
  frame,
  guest,
  importOf,
  log,
  open,
  scanout,
  show,
  useVmm,
  vmm,
} from './session.ts';

expectNoLeaks();
useVmm();

const EDID_75HZ = makeEdid({ ...MODE, refreshMhz: 75_000, widthMm: 320, heightMm: 200, name: 'QEMU' });

test('VmmDisplay: opening asks for features, modes and the EDID of enabled consoles only', async () => {
  const opening = connect({ scanouts: 3 });
  expect(await vmm.take(12)).toEqual(words(1, 0, 0));
  vmm.reply(featuresReply(0b11));
  expect(await vmm.take(32)).toEqual(Buffer.concat([words(2, 0, 8, 0b01, 0), words(3, 0, 0)]));
  vmm.reply(displayInfoReply([MODE, null, { width: 1024, height: 768 }]));
  expect(await vmm.take(32)).toEqual(Buffer.concat([words(11, 0, 4, 0), words(11, 0, 4, 2)]));
  vmm.reply(edidReply(EDID_75HZ), edidReply(Uint8Array.of(1, 2, 3)));
  const [first, second, third] = (await opening).outputs;
  expect(first!.monitor).toMatchObject({ width: 1280, height: 800, widthMm: 320, heightMm: 200, edid: EDID_75HZ });
  expect(first!.monitor!.refreshMhz).toBeCloseTo(75_000, -2);
  expect(second!.name).toBe('vmm:1');
  expect(third!.monitor).toMatchObject({ width: 1024, height: 768, refreshMhz: 60_000 });
  expect(third!.monitor!.edid).toBeUndefined();
});

test('VmmDisplay: a refresh rate set by the user replaces the EDID, which would contradict it', async () => {
  const opening = connect({ refreshMhz: 30_000 });
  await answer(0b01, [MODE]);
  await vmm.take(16);
  vmm.reply(edidReply(EDID_75HZ));
  const { monitor } = (await opening).outputs[0]!;
  expect(monitor).toMatchObject({ refreshMhz: 30_000, widthMm: 320 });
  expect(monitor!.edid).toBeUndefined();
});

test('VmmDisplay: a console without a viewer is reported unplugged to its listener', async () => {
  const { outputs } = await open({ scanouts: 2 });
  const listeners = outputs.map((output) => new Listener(output));
  await Promise.resolve();
  expect(listeners.map(({ events }) => events)).toEqual([[], ['unplugged']]);
});

test('VmmDisplay: refresh reports the monitors that changed, and nothing else', async () => {
  const { outputs } = await open({ scanouts: 2 });
  const listeners = outputs.map((output) => new Listener(output));
  await Promise.resolve();
  const asking = display!.refresh();
  expect(await vmm.take(12)).toEqual(words(3, 0, 0));
  vmm.reply(displayInfoReply([MODE, { width: 640, height: 480 }]));
  await asking;
  expect(listeners.map(({ events }) => events)).toEqual([[], ['unplugged', 'resized 640x480']]);
});

test('VmmDisplay: a VMM that goes away closes every output once, and what waits for it is dropped', async () => {
  const { outputs } = await open({ scanouts: 2 });
  const listeners = outputs.map((output) => new Listener(output));
  const handle = importOf(outputs[0]!, guest(1280, 800).framebuffer);
  outputs[0]!.present(frame(handle, [0, 0, 1280, 800]));
  const closed = listeners[1]!.next();
  vmm[Symbol.dispose]();
  await closed;
  for (const { events } of listeners) expect(events.filter((event) => event.startsWith('closed'))).toHaveLength(1);
  outputs[0]!.present(frame(handle, [0, 0, 1280, 800]));
  vi.advanceTimersByTime(ONE_SECOND);
  expect(listeners[0]!.events).not.toContain('presented');
});

test('VmmDisplay: a socket that breaks during present closes the output after present has returned', async () => {
  const output = (await open()).outputs[0]!;
  const listener = new Listener(output);
  const handle = importOf(output, guest(20, 10).framebuffer);
  vmm[Symbol.dispose]();
  output.present(frame(handle, [0, 0, 20, 10]));
  expect(listener.events).toEqual([]);
  await Promise.resolve();
  expect(listener.events).toHaveLength(1);
  expect(listener.events[0]).toMatch(/^closed: .*EPIPE/);
});

test('VmmDisplay: a listener attached after the socket has ended is told `closed`', async () => {
  const { outputs } = await open({ scanouts: 2 });
  const heard = new Listener(outputs[1]!).next();
  vmm[Symbol.dispose]();
  await heard;
  const late = new Listener(outputs[0]!);
  await Promise.resolve();
  expect(late.events).toHaveLength(1);
});

const MALFORMED: [string, Buffer][] = [
  ['an unknown request', words(99, 4, 0)],
  ['a message that is not a reply', words(3, 0, 408)],
  ['a payload of the wrong size', words(3, 4, 0xffff_ffff)],
  ['a reply to no request', words(10, 4, 0)],
];

test.each(MALFORMED)('VmmDisplay: opening rejects on %s', async (_, bytes) => {
  const opening = connect();
  vmm.reply(bytes);
  await expect(opening).rejects.toMatchObject({ name: 'VmmDisplayError', code: 'protocol' });
});

test.each(MALFORMED)('VmmDisplay: %s closes the outputs and is logged once', async (_, bytes) => {
  const output = (await open()).outputs[0]!;
  const listener = new Listener(output);
  const closed = listener.next();
  vmm.reply(bytes);
  await closed;
  expect(listener.events).toHaveLength(1);
  expect(log).toHaveLength(1);
});

test('VmmDisplay: opening rejects if the VMM ends first, even right after its last answer', async () => {
  const early = connect();
  vmm[Symbol.dispose]();
  await expect(early).rejects.toMatchObject({ code: 'closed' });
  const late = connect();
  await answer(0, [MODE]);
  vmm[Symbol.dispose]();
  await expect(late).rejects.toMatchObject({ code: 'closed' });
});

test('VmmDisplay: opening rejects after 30 seconds without an answer, and the socket is closed', async () => {
  const opening = expect(connect()).rejects.toMatchObject({ code: 'stalled' });
  await vmm.take(12);
  vi.advanceTimersByTime(30_000);
  await opening;
  expect(await vmm.take(1)).toHaveLength(0);
});

test('VmmDisplay: a VMM that stops answering is given up after 30 seconds: the outputs close, with a line in the log', async () => {
  const output = (await open()).outputs[0]!;
  const listener = new Listener(output);
  const asking = expect(display!.refresh()).rejects.toMatchObject({ code: 'stalled' });
  vi.advanceTimersByTime(30_000);
  await asking;
  expect(listener.events).toEqual(['closed: the VMM has not answered for 30 seconds']);
  expect(log).toHaveLength(1);
});

test('VmmDisplay: opening can be given up, before and while the VMM is asked', async () => {
  const ending = new AbortController();
  const opening = expect(connect({ signal: ending.signal })).rejects.toBe('replaced');
  await vmm.take(12);
  ending.abort('replaced');
  await opening;
  expect(await vmm.take(1)).toHaveLength(0);
  await expect(connect({ signal: AbortSignal.abort('too late') })).rejects.toBe('too late');
});

test('VmmDisplay: a descriptor that is no socket is refused before it is polled, and closed', async () => {
  const file = OwnedFd.adopt(openSync('/dev/null', 'r+'));
  await expect(VmmDisplay.open({ socket: file, scanouts: 1 })).rejects.toMatchObject({
    code: 'ENOTSOCK',
    syscall: 'sendmsg',
  });
  expect(file.closed).toBe(true);
});

test('VmmDisplay: more scanouts than possible throw a RangeError, and the socket is closed', async () => {
  await expect(connect({ scanouts: 17 })).rejects.toThrow(RangeError);
  expect(await vmm.take(1)).toHaveLength(0);
});

test('VmmDisplay: disposing turns the consoles off and notifies no listener', async () => {
  const output = (await open()).outputs[0]!;
  const listener = new Listener(output);
  const cursor: Cursor = { handle: importOf(output, guest(8, 8, DRM_FORMAT.ARGB8888).framebuffer), at: [2, 3, 8, 8] };
  show(output, frame(importOf(output, guest(20, 10).framebuffer), [0, 0, 20, 10], [], cursor));
  const before = listener.events.length;
  display![Symbol.dispose]();
  expect(await vmm.take(1000)).toEqual(Buffer.concat([words(5, 0, 12, 0, 2, 3), scanout(0, 0, 0)]));
  expect(listener.events).toHaveLength(before);
});

test('VmmDisplay: descriptors that the VMM sends without a reason are closed at once', async () => {
  const asking = (await open()).refresh();
  await vmm.take(12);
  const before = openFds().size;
  vmm.connection.send(displayInfoReply([MODE]), [vmm.connection, vmm.connection]);
  await asking;
  expect(openFds().size).toBe(before);
});
