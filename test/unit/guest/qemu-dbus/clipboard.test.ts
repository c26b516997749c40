/** The clipboard of a scripted VM; test/host/dbus-clipboard.test.ts has QEMU's own. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import {
  ClipboardError,
  type ClipboardType,
  type Copied,
  MAX_CLIPBOARD_BYTES,
} from '../../../../src/core/clipboard.ts';
import type { DbusClipboard } from '../../../../src/guest/qemu-dbus/clipboard.ts';
import { QemuDbusGuest } from '../../../../src/guest/qemu-dbus/guest.ts';
import { eventually } from '../../../rig/eventually.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import { FakeVm } from './fake-vm.ts';

expectNoLeaks();

const TEXT = 'text/plain;charset=utf-8';

let vm: FakeVm;
let guest: QemuDbusGuest;
let clipboard: DbusClipboard;
const log: string[] = [];
const copied: (Copied | null)[] = [];

beforeEach(() => {
  log.length = 0;
  copied.length = 0;
  vm = new FakeVm();
  guest = QemuDbusGuest.open({ vm, clipboard: true, log: (_, message) => log.push(message) });
  clipboard = guest.clipboard!;
  clipboard.onCopied((what) => copied.push(what));
});

afterEach(() => {
  guest[Symbol.dispose]();
  vm[Symbol.dispose]();
});

const shared = (): Promise<void> => eventually(() => expect(clipboard.stats.connected).toBe(true));
const calls = (member: string): unknown[][] =>
  vm.calls.filter(([name]) => name === `Clipboard.${member}`).map(([, ...values]) => values);
const paste = (selection = 0, types = [TEXT]): Promise<string | null> =>
  vm.clipboard('Request', 'uas', [selection, types]);

function offer(text: string, ...types: ClipboardType[]): void {
  clipboard.offer({ types: new Set(['text', ...types]), read: () => Promise.resolve(Buffer.from(text)) });
}

test('QemuDbusGuest: has no clipboard unless it is asked for', async () => {
  using plainVm = new FakeVm();
  using plain = QemuDbusGuest.open({ vm: plainVm });
  await plainVm.registered();
  expect(plain.clipboard).toBeNull();
  expect(plainVm.calls.filter(([name]) => name.startsWith('Clipboard'))).toEqual([]);
});

test('DbusClipboard: offers text when it is there, and answers at once', async () => {
  await shared();
  let arrives: (text: Uint8Array) => void = () => undefined;
  clipboard.offer({ types: new Set(['text', 'png']), read: () => new Promise((resolve) => (arrives = resolve)) });
  expect(await paste()).toBe('EINVAL');
  expect(calls('Grab')).toEqual([]);
  arrives(Buffer.from('one'));
  await eventually(() => expect(calls('Grab')).toEqual([[0, 0, [TEXT]]]));
  expect(await paste()).toBe(`${TEXT}: one`);
  expect(await paste(1)).toBe('EINVAL');
  expect(await paste(0, ['image/png'])).toBe('EINVAL');
});

test('DbusClipboard: numbers its offers after the last of both sides, and from 0 again when an agent comes', async () => {
  await shared();
  offer('one');
  await eventually(() => expect(calls('Grab').at(-1)).toEqual([0, 0, [TEXT]]));
  await vm.clipboard('Grab', 'uuas', [0, 7, [TEXT]]);
  expect(await paste()).toBe('EINVAL');
  offer('two');
  await eventually(() => expect(calls('Grab').at(-1)).toEqual([0, 8, [TEXT]]));
  await vm.clipboard('Register');
  await eventually(() => expect(calls('Grab').at(-1)).toEqual([0, 0, [TEXT]]));
  offer('three');
  await eventually(() => expect(calls('Grab').at(-1)).toEqual([0, 1, [TEXT]]));
  expect(await paste()).toBe(`${TEXT}: three`);
});

test('DbusClipboard: takes back what cannot be pasted any more, and offers no picture', async () => {
  await shared();
  offer('one');
  await eventually(() => expect(calls('Grab')).toHaveLength(1));
  clipboard.offer({ types: new Set(['png']), read: () => Promise.reject(new Error('not asked for')) });
  await eventually(() => expect(calls('Release')).toEqual([[0]]));
  expect(await paste()).toBe('EINVAL');
  clipboard.offer({ types: new Set(['text']), read: () => Promise.reject(new ClipboardError('large', 'too long')) });
  await eventually(() => expect(log.at(-1)).toMatch(/not offered to the guest: too long/));
  // One that the other end should not throw ends nothing either.
  clipboard.offer({ types: new Set(['text']), read: () => Promise.reject(new Error('broken')) });
  offer('next');
  await eventually(() => expect(calls('Grab')).toHaveLength(2));
});

test('DbusClipboard: hands out what the guest copies, until it copies something else', async () => {
  await shared();
  vm.copied = [TEXT, Buffer.from('guest')];
  await vm.clipboard('Grab', 'uuas', [1, 1, [TEXT]]);
  expect(copied).toEqual([]);
  await vm.clipboard('Grab', 'uuas', [0, 1, [TEXT]]);
  const [first] = copied;
  const reads = await Promise.all([first!.read('text'), first!.read('text')]);
  expect(reads.map((text) => Buffer.from(text).toString())).toEqual(['guest', 'guest']);
  expect(calls('Request')).toEqual([[0, [TEXT]]]);
  await vm.clipboard('Grab', 'uuas', [0, 2, [TEXT]]);
  await expect(first!.read('text')).rejects.toMatchObject({ code: 'gone' });
  expect(copied).toHaveLength(2);
  await vm.clipboard('Release', 'u', [0]);
  expect(copied.at(-1)).toBeNull();
});

test.each<[string, () => void, string]>([
  ['QEMU gets nothing from the guest', () => vm.refused.add('Clipboard.Request'), 'timeout'],
  ['it is of another type', () => (vm.copied = ['image/png', new Uint8Array(1)]), 'refused'],
  ['it is too large', () => (vm.copied = [TEXT, new Uint8Array(MAX_CLIPBOARD_BYTES + 1)]), 'large'],
])('DbusClipboard: a read fails when %s, and the next may not', async (_what, fail, code) => {
  await shared();
  fail();
  await vm.clipboard('Grab', 'uuas', [0, 1, [TEXT]]);
  await expect(copied[0]!.read('text')).rejects.toMatchObject({ code });
  vm.refused.clear();
  vm.copied = [TEXT, Buffer.from('now')];
  expect(Buffer.from(await copied[0]!.read('text')).toString()).toBe('now');
});

test('DbusClipboard: says that QEMU shares it with another program', async () => {
  vm.refused.add('Clipboard.Register');
  await eventually(() => expect(log.at(-1)).toMatch(/clipboard: not shared: QEMU has none, or shares it with another/));
  offer('one');
  expect(clipboard.stats.connected).toBe(false);
  await vm.clipboard('Unregister');
  expect(calls('Grab')).toEqual([]);
});

test('DbusClipboard: what a VM that is gone had copied is gone, and the next VM is offered what is there', async () => {
  await shared();
  offer('one');
  await eventually(() => expect(calls('Grab')).toHaveLength(1));
  await vm.clipboard('Grab', 'uuas', [0, 5, [TEXT]]);
  offer('two');
  await eventually(() => expect(calls('Grab')).toHaveLength(2));
  vm[Symbol.dispose]();
  await eventually(() => expect(clipboard.stats.connected).toBe(false));
  await shared();
  await eventually(() => expect(calls('Grab').at(-1)).toEqual([0, 0, [TEXT]]));
  expect(await paste()).toBe(`${TEXT}: two`);
});

test('DbusClipboard: refuses calls that there are not, and lets nothing that a call lacks pass', async () => {
  await shared();
  expect(await vm.clipboard('Steal')).toBe('EINVAL');
  // There is no answer: it ends the connection.
  void vm.clipboard('Grab', 'u', [0]);
  await eventually(() => expect(clipboard.stats.connected).toBe(false));
  await shared();
});
