/** A hostile QEMU: messages of all kinds with values that nearly fit, and bytes that are no D-Bus. */
import { randomInt } from 'node:crypto';
import { ftruncateSync } from 'node:fs';
import { expect, test } from 'vitest';
import { HeadlessOutput } from '../../../../display/headless/output.ts';
import { PIXMAN_FORMAT } from '../../../../protocols/pixman.ts';
import * as uapi from '../../../../protocols/qemu-display1.ts';
import { Bridge } from '../../../../src/bridge/bridge.ts';
import { QemuDbusGuest } from '../../../../src/guest/qemu-dbus/guest.ts';
import type { OwnedFd } from '../../../../src/sys/fd.ts';
import type { BusValue } from '../../../../src/sys/lib/sd-bus.ts';
import { createMemfd } from '../../../../src/sys/memfd.ts';
import { socketPair, UnixConnection } from '../../../../src/sys/socket.ts';
import { Random } from '../../../rig/random.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import { FakeVm } from './fake-vm.ts';
import { eventually } from '../../../rig/eventually.ts';

expectNoLeaks();

const COMMANDS = Number(process.env['FUZZ_COMMANDS'] ?? 2000);
const SEED = Number(process.env['FUZZ_SEED'] ?? randomInt(2 ** 31));
const LIMIT = 4 * 2 ** 20;
const SIDE = 64;

type Method = readonly [interfaceName: string, member: string, signature: string];

const METHODS: readonly Method[] = [
  [uapi.LISTENER, 'Scanout', 'uuuuay'],
  [uapi.LISTENER, 'Update', 'iiiiuuay'],
  [uapi.LISTENER_MAP, 'ScanoutMap', 'huuuuu'],
  [uapi.LISTENER_MAP, 'UpdateMap', 'iiii'],
  [uapi.LISTENER, 'ScanoutDMABUF', 'huuuutb'],
  [uapi.LISTENER, 'UpdateDMABUF', 'iiii'],
  [uapi.LISTENER, 'Disable', ''],
  [uapi.LISTENER, 'MouseSet', 'iii'],
  [uapi.LISTENER, 'CursorDefine', 'iiiiay'],
  [uapi.PROPERTIES, 'Get', 'ss'],
  [uapi.LISTENER, 'Nonsense', 'us'],
];

class HostileVm {
  readonly #random: Random;
  readonly #files: OwnedFd[];

  constructor(random: Random, files: OwnedFd[]) {
    this.#random = random;
    this.#files = files;
  }

  /** Values of a message; sometimes of another signature than the method has. */
  next(): { method: Method; signature: string; values: BusValue[] } {
    const method = this.#random.pick(METHODS);
    const signature = this.#random.below(12) === 0 ? this.#random.pick(METHODS)[2] : method[2];
    const types = signature.match(/a?[a-z]/g) ?? [];
    if (this.#random.below(20) === 0)
      ftruncateSync(this.#random.pick(this.#files).fd, this.#random.below(SIDE * SIDE * 8));
    return { method, signature, values: types.map((type) => this.#value(type)) };
  }

  #value(type: string): BusValue {
    switch (type) {
      case 'h':
        return this.#random.pick(this.#files);
      case 'ay':
        return new Uint8Array(this.#random.pick([0, 1, 4, SIDE * 4, SIDE * SIDE * 4, SIDE * SIDE * 8]));
      case 's':
        return this.#random.pick(['', 'Interfaces', uapi.LISTENER]);
      case 't':
        return this.#random.pick([0n, 1n, 2n ** 64n - 1n]);
      case 'b':
        return this.#random.below(2) === 0;
      default:
        return this.#number(type === 'i');
    }
  }

  #number(isSigned: boolean): number {
    const formats = Object.values(PIXMAN_FORMAT);
    const likely = [
      0,
      1,
      2,
      8,
      SIDE - 1,
      SIDE,
      SIDE * 4,
      SIDE * 4,
      this.#random.pick(formats),
      PIXMAN_FORMAT.x8r8g8b8,
      0x34325258,
    ];
    const edges = isSigned ? [-1, -(2 ** 31), 2 ** 31 - 1] : [2 ** 32 - 1, 2 ** 31, 16384, 16385];
    return this.#random.below(6) === 0 ? this.#random.pick(edges) : this.#random.pick(likely);
  }
}

test(`QemuDbusGuest: a hostile QEMU gets answers, no more memory than the limit, and later a picture (seed ${SEED})`, async () => {
  const files = Array.from({ length: 4 }, () => createMemfd('hostile', SIDE * SIDE * 4, 0));
  using vm = new FakeVm();
  using guest = QemuDbusGuest.open({ vm, maxGuestMemory: LIMIT });
  using output = HeadlessOutput.open({ width: SIDE, height: SIDE });
  using bridge = new Bridge(guest);
  bridge.show(0, output);
  await eventually(() => expect(guest.isConnected).toBe(true));
  await vm.registered();

  const hostile = new HostileVm(new Random(SEED), files);
  const answers = new Map<string | null, number>();
  for (let sent = 0; sent < COMMANDS; sent++) {
    const { method, signature, values } = hostile.next();
    const answer = await vm.call(0, method[0], method[1], signature, values);
    answers.set(answer, (answers.get(answer) ?? 0) + 1);
    expect(guest.budget.used).toBeLessThanOrEqual(LIMIT);
  }
  expect([...answers.keys()].toSorted()).toEqual(['EBADR', 'EINVAL', null]);

  const white = new Uint8Array(SIDE * SIDE * 4).fill(0xff);
  await vm.call(0, uapi.LISTENER, 'MouseSet', 'iii', [0, 0, 0]);
  await vm.call(0, uapi.LISTENER, 'Scanout', 'uuuuay', [SIDE, SIDE, SIDE * 4, PIXMAN_FORMAT.x8r8g8b8, white]);
  await eventually(() => expect(output.capture()?.data[SIDE * SIDE * 4 - 2]).toBe(0xff));
  for (const file of files) file[Symbol.dispose]();
}, 120_000);

test(`QemuDbusGuest: bytes that are no D-Bus, after any part of the handshake, end that connection only (seed ${SEED})`, async () => {
  const random = new Random(SEED);
  const handshake = Buffer.from('DATA\r\nOK 0123456789abcdef0123456789abcdef\r\nAGREE_UNIX_FD\r\n');
  for (let round = 0; round < Math.max(20, COMMANDS / 20); round++) {
    const [ours, theirs] = socketPair();
    using peer = UnixConnection.adopt(theirs);
    const messages: string[] = [];
    let sockets = 0;
    using guest = QemuDbusGuest.open({
      vm: {
        // The second time there is no answer.
        connect: () => (sockets++ === 0 ? Promise.resolve(ours) : new Promise(() => undefined)),
      },
      log: (_, message) => messages.push(message),
    });
    peer.send(handshake.subarray(0, 1 + random.below(handshake.length)));
    const noise = Buffer.from(Array.from({ length: 1 + random.below(300) }, () => random.below(256)));
    if (random.below(2) === 0) noise.set([0x6c, 1, 0, 1].slice(0, noise.length));
    peer.send(noise);
    peer[Symbol.dispose]();
    await eventually(() => expect(messages.join()).toContain('no VM yet'));
    expect(guest.isConnected).toBe(false);
  }
}, 120_000);
