import { openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { WaylandClipboard } from '../../../../display/wayland/clipboard.ts';
import {
  ClipboardError,
  type ClipboardType,
  type Copied,
  MAX_CLIPBOARD_BYTES,
} from '../../../../src/core/clipboard.ts';
import { OwnedFd } from '../../../../src/sys/fd.ts';
import { openPipe, readPipe, writePipe, openForWriting } from '../../../../src/sys/pipe.ts';
import { eventually } from '../../../rig/eventually.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import type { FakeObject } from './fake-server.ts';
import { type FakeSeat, type FakeWindow, KEYBOARD, keys, POINTER, SeatRig } from './seat/seat-rig.ts';

expectNoLeaks();

const TEXT = 'text/plain;charset=utf-8';
const BTN_LEFT = 0x110;
const NEVER = new AbortController().signal;
const OPTIONS = { timeoutMs: 60_000, signal: NEVER };

let rig: SeatRig;
let seat: FakeSeat;
let window: FakeWindow;
let host: WaylandClipboard;
let device: FakeObject;
let copied: (Copied | null)[];
let log: string[];

beforeEach(async () => {
  log = [];
  copied = [];
  host = new WaylandClipboard((level, message) => log.push(`${level} ${message}`));
  host.onCopied((each) => copied.push(each));
  rig = await SeatRig.open(['wl_data_device_manager'], 6, host);
  rig.server.on('wl_data_device_manager.get_data_device', ({ args }) => {
    device = args.id as FakeObject;
  });
  window = await rig.addWindow();
  seat = await rig.addSeat(9, POINTER | KEYBOARD);
});

afterEach(() => {
  host[Symbol.dispose]();
  rig[Symbol.dispose]();
});

/** The desktop has something with these types. Returns the compositor's side of the offer. */
async function desktopHas(...types: string[]): Promise<FakeObject> {
  const offer = rig.server.client.newObject('wl_data_offer', device.version);
  device.send('data_offer', offer);
  for (const type of types) offer.send('offer', type);
  device.send('selection', offer);
  await rig.settle();
  return offer;
}

async function enter(serial = 7): Promise<void> {
  seat.keyboard.send('enter', serial, window.far, keys());
  await rig.settle();
}

async function leave(): Promise<void> {
  seat.keyboard.send('leave', 8, window.far);
  await rig.settle();
}

function guestHas(data: Partial<Record<ClipboardType, Uint8Array>>): Copied {
  return {
    types: new Set(Object.keys(data) as ClipboardType[]),
    read: (type) => Promise.resolve(data[type]!),
  };
}

/** What the window has set as the desktop's clipboard: the source, and the types that it has. */
async function set(): Promise<{ source: FakeObject | null; serial: number; types: string[] }> {
  await rig.settle();
  const { source, serial } = rig.server.requests.findLast(({ name }) => name === 'wl_data_device.set_selection')!.args;
  const offers = rig.server.requests.filter(({ name, object }) => name === 'wl_data_source.offer' && object === source);
  return {
    source: source as FakeObject | null,
    serial: serial as number,
    types: offers.map(({ args }) => args.mime_type as string),
  };
}

function sets(): number {
  return rig.server.requests.filter(({ name }) => name === 'wl_data_device.set_selection').length;
}

/** Pastes as a program does, whose compositor passes its pipe on. */
async function paste(source: FakeObject, type: string): Promise<Buffer> {
  const { reading, writing } = openPipe();
  source.send('send', type, writing);
  writing[Symbol.dispose]();
  return (await readPipe(reading, MAX_CLIPBOARD_BYTES + 1, OPTIONS)) as Buffer;
}

const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));

describe('WaylandClipboard', () => {
  test('reads text and pictures that the desktop has, in the best form there is', async () => {
    const offer = await desktopHas('text/html', 'text/plain', TEXT, 'image/png', 'STRING');
    await enter();
    expect([...copied[0]!.types]).toEqual(['text', 'png']);
    const answers: string[] = [];
    rig.server.on('wl_data_offer.receive', ({ args }) => {
      answers.push(args.mime_type as string);
      const fd = (args.fd as OwnedFd).dup();
      // What the rig got must be closed too, or the pipe has no end.
      (args.fd as OwnedFd)[Symbol.dispose]();
      void writePipe(openForWriting(fd), bytes(args.mime_type as string), OPTIONS);
    });
    expect(String(await copied[0]!.read('text'))).toBe(TEXT);
    expect(String(await copied[0]!.read('png'))).toBe('image/png');
    expect(answers).toEqual([TEXT, 'image/png']);
    expect(offer.isDestroyed).toBe(false);
    const next = await desktopHas('text/plain');
    expect(offer.isDestroyed).toBe(true);
    expect([...copied[1]!.types]).toEqual(['text']);
    await expect(copied[0]!.read('text')).rejects.toMatchObject({ code: 'gone' });
    await expect(copied[1]!.read('png')).rejects.toMatchObject({ code: 'refused' });
    device.send('selection', null);
    await rig.settle();
    expect(next.isDestroyed).toBe(true);
    expect(copied[2]).toBeNull();
  });

  test('offers nothing of what it cannot pass on, and refuses what is dragged', async () => {
    await enter();
    await desktopHas('text/html', 'application/pdf');
    expect(copied).toEqual([null]);
    const dragged = rig.server.client.newObject('wl_data_offer', device.version);
    device.send('data_offer', dragged);
    dragged.send('offer', TEXT);
    device.send('enter', 9, window.far, 1, 1, dragged);
    await rig.settle();
    expect(dragged.isDestroyed).toBe(true);
    expect(copied).toEqual([null]);
  });

  test('can be read only while the keyboard is in a window', async () => {
    await desktopHas(TEXT);
    await expect(copied[0]!.read('text')).rejects.toMatchObject({ code: 'gone' });
    await enter();
    await leave();
    await expect(copied[0]!.read('text')).rejects.toThrow(/the keyboard is in no window of the guest/);
    expect(rig.server.requestNames).not.toContain('wl_data_offer.receive');
  });

  test('gives up a program that has more than can be passed on', async () => {
    await desktopHas(TEXT);
    await enter();
    rig.server.on('wl_data_offer.receive', ({ args }) => {
      const fd = args.fd as OwnedFd;
      const zeros = new Uint8Array(MAX_CLIPBOARD_BYTES + 1);
      // It fails when the reader has gone.
      writePipe(openForWriting(fd.dup()), zeros, OPTIONS).catch(() => undefined);
    });
    await expect(copied[0]!.read('text')).rejects.toThrow(`it has more than ${MAX_CLIPBOARD_BYTES} bytes`);
  });

  test('sets what the guest has copied, for programs of Wayland and X11 to paste', async () => {
    await enter(7);
    const png = Buffer.alloc(200_000, 'pixels');
    host.offer(guestHas({ text: bytes('hällo'), png }));
    const { source, serial, types } = await set();
    expect(serial).toBe(7);
    expect(types).toEqual([TEXT, 'UTF8_STRING', 'text/plain', 'TEXT', 'STRING', 'image/png', host.mark]);
    expect(String(await paste(source!, 'UTF8_STRING'))).toBe('hällo');
    expect((await paste(source!, 'image/png')).equals(png)).toBe(true);
    // What was not offered, and the mark, which has no data.
    expect(String(await paste(source!, 'text/html'))).toBe('');
    expect(String(await paste(source!, host.mark))).toBe('');
    host.offer(null);
    await eventually(async () => {
      await rig.settle();
      expect(source!.isDestroyed).toBe(true);
    });
  });

  test('names the newest key or button when it sets the clipboard', async () => {
    await enter(7);
    seat.keyboard.send('key', 12, 0, 46, 1);
    await rig.settle();
    host.offer(guestHas({ text: bytes('a') }));
    await eventually(async () => expect(await set()).toMatchObject({ serial: 12 }));
    seat.pointer.send('enter', 13, window.far, 10, 0);
    seat.pointer.send('button', 14, 0, BTN_LEFT, 1);
    await rig.settle();
    host.offer(guestHas({ text: bytes('b') }));
    await eventually(async () => expect(await set()).toMatchObject({ serial: 14 }));
  });

  test('does not take its own for what another program has copied', async () => {
    await enter();
    host.offer(guestHas({ text: bytes('a') }));
    const { types } = await set();
    const offer = await desktopHas(...types);
    expect(copied).toEqual([]);
    expect(offer.isDestroyed).toBe(true);
  });

  test('lets the guest set nothing while the keyboard is elsewhere', async () => {
    host.offer(guestHas({ text: bytes('a') }));
    await eventually(() => expect(log).toHaveLength(1));
    expect(log[0]).toMatch(/^info clipboard: what the guest has copied stays there/);
    await enter();
    await rig.settle();
    expect(sets()).toBe(0);
  });

  test('sets the newest only, of what the guest copies at once', async () => {
    await enter();
    for (const text of ['a', 'b', 'c']) host.offer(guestHas({ text: bytes(text) }));
    const { source } = await set();
    expect(sets()).toBe(1);
    expect(String(await paste(source!, TEXT))).toBe('c');
  });

  test('ends a game of two programs that copy whatever they see copied', async () => {
    await enter();
    // Each time, a manager of the desktop and then one of the guest takes the clipboard.
    host.onCopied((each) => each && host.offer(guestHas({ text: bytes('again') })));
    rig.server.on('wl_data_device.set_selection', ({ args }) => {
      if (sets() > 100) return;
      (args.source as FakeObject).send('cancelled');
      const offer = rig.server.client.newObject('wl_data_offer', device.version);
      device.send('data_offer', offer);
      offer.send('offer', TEXT);
      device.send('selection', offer);
    });
    host.offer(guestHas({ text: bytes('once') }));
    await eventually(() => expect(log).toContainEqual(expect.stringMatching(/the guest copies without end/)));
    expect(sets()).toBe(8);
    seat.keyboard.send('key', 12, 0, 46, 1);
    await rig.settle();
    host.offer(guestHas({ text: bytes('typed') }));
    await eventually(() => expect(sets()).toBe(16));
  });

  test('has an answer for programs that paste what cannot be read, or paste too much at a time', async () => {
    await enter();
    const waiting: ((data: Uint8Array) => void)[] = [];
    host.offer({
      types: new Set(['text', 'png']),
      read: (type) =>
        type === 'png'
          ? Promise.reject(new ClipboardError('large', 'the guest has copied too much'))
          : new Promise((resolve) => waiting.push(resolve)),
    });
    const { source } = await set();
    expect(String(await paste(source!, 'image/png'))).toBe('');
    expect(log).toEqual(['warn clipboard: a program of the desktop cannot paste: the guest has copied too much']);
    const pastes = Array.from({ length: 8 }, () => paste(source!, TEXT));
    await eventually(() => expect(waiting).toHaveLength(8));
    expect(String(await paste(source!, TEXT))).toBe('');
    for (const resolve of waiting) resolve(bytes('x'));
    expect((await Promise.all(pastes)).map(String)).toEqual(Array(8).fill('x'));
  });

  test('writes to pipes only', async () => {
    await enter();
    host.offer(guestHas({ text: bytes('secret') }));
    const { source } = await set();
    const file = join(tmpdir(), `clipboard-file-${process.pid}`);
    const fd = OwnedFd.adopt(openSync(file, 'w'));
    writeSync(fd.fd, 'kept');
    source!.send('send', TEXT, fd);
    fd[Symbol.dispose]();
    await eventually(() => expect(log).toContainEqual(expect.stringMatching(/cannot paste: .*no pipe/)));
    expect(readFileSync(file, 'utf8')).toBe('kept');
    rmSync(file);
  });

  test('fails what is being read when the compositor goes, and leaves nothing', async () => {
    await desktopHas(TEXT);
    await enter();
    const pending = copied[0]!.read('text');
    host.offer(guestHas({ text: bytes('a') }));
    await set();
    rig[Symbol.dispose]();
    await expect(copied[0]!.read('text')).rejects.toMatchObject({ code: 'gone' });
    host[Symbol.dispose]();
    await expect(pending).rejects.toMatchObject({ code: 'gone' });
  });
});

test('WaylandSeats: leave the clipboard alone unless asked', async () => {
  using plain = await SeatRig.open(['wl_data_device_manager']);
  await plain.addSeat(9, KEYBOARD);
  await plain.settle();
  expect(plain.server.requestNames.some((name) => name.startsWith('wl_data'))).toBe(false);
});
