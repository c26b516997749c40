/**
 * Drives devices with VMMs that send any vhost-user message: well-formed and malformed, in any order, with memory
 * tables that are page-aligned or not, descriptors of any kind, and rings full of noise. Everything follows from one
 * seed.
 */
import { closeSync, openSync } from 'node:fs';
import { inspect } from 'node:util';
import * as wire from '../../protocols/vhost-user.ts';
import { virtio_gpu_ctrl_hdr, VIRTIO_GPU_CMD, VIRTIO_GPU_RESP } from '../../protocols/virtio-gpu.ts';
import { VRING_DESC_F_NEXT, VRING_DESC_F_WRITE, vring_desc } from '../../protocols/virtio-ring.ts';
import { virtualMonitor } from '../../src/core/monitor.ts';
import { GuestMemoryError } from '../../src/guest/memory.ts';
import { VhostUserBackend } from '../../src/guest/vhost-user/backend.ts';
import { VhostUserError } from '../../src/guest/vhost-user/errors.ts';
import { VhostUserServer } from '../../src/guest/vhost-user/server.ts';
import type { VirtioDevice } from '../../src/guest/virtio/device.ts';
import { VirtioGpu } from '../../src/guest/virtio-gpu/device.ts';
import { InputDevices } from '../../src/guest/virtio-input/input-devices.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { SysError } from '../../src/sys/errors.ts';
import { EventFd } from '../../src/sys/eventfd.ts';
import { type BorrowedFd, OwnedFd } from '../../src/sys/fd.ts';
import { eventfd, fcntl, ftruncate, write } from '../../src/sys/libc.ts';
import { Mapping } from '../../src/sys/mapping.ts';
import { createMemfd } from '../../src/sys/memfd.ts';
import { NativeBuffer } from '../../src/sys/native-buffer.ts';
import { socketPair, UnixConnection } from '../../src/sys/socket.ts';
import { LazySink } from './fuzz.ts';
import { FrontEnd } from './front-end.ts';
import type { Random } from './random.ts';

const { VHOST_USER } = wire;

export interface VmmFuzzResult {
  messages: number;
  connections: number;
  /** Messages that were acknowledged, and that were refused. */
  accepted: number;
  refused: number;
  /** Connections that the back end ended. */
  ended: number;
  /** Commands that came through rings. */
  commands: number;
  /** What must not happen and did. */
  readonly faults: string[];
}

const PAGE = 4096;
const RAM_SIZE = 2 ** 20;
/** Where RAM is for the VMM, and for the guest. */
const USER = 0x7f00_0000_0000;
const RAM = 0x10_0000;
/** Each ring's part of RAM. */
const RING_SIZE = 64 * 1024;
const BATCH = 32;
const MAX_TURNS = 100_000;
const F_SETFL = 4;
const O_RDWR = 2;
const EFD_SEMAPHORE = 1;

const NUMBERS = [
  0,
  1,
  2,
  3,
  7,
  8,
  15,
  16,
  255,
  256,
  PAGE - 1,
  PAGE,
  PAGE + 1,
  RAM_SIZE - 1,
  RAM_SIZE,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 32,
  2 ** 40,
  2 ** 42 + PAGE,
  2 ** 47,
  2 ** 52,
  2 ** 53 - PAGE,
  2 ** 53 - 1,
];

const turn = (): Promise<void> =>
  new Promise((resolve) => {
    setImmediate(resolve);
  });

/** Sends at least `messages` messages. */
export async function fuzzVmm(random: Random, messages: number): Promise<VmmFuzzResult> {
  const result: VmmFuzzResult = {
    messages: 0,
    connections: 0,
    accepted: 0,
    refused: 0,
    ended: 0,
    commands: 0,
    faults: [],
  };
  using stack = new DisposableStack();
  const sink = new LazySink(random);
  const gpu = stack.use(
    new VirtioGpu({ scanouts: 16, maxGuestMemory: 2 ** 26, log: (level, message) => logged(level, message, result) }),
  );
  gpu.connect(sink);
  const input = new InputDevices();
  const files = stack.use(new VmmFiles());
  while (result.messages < messages && result.faults.length === 0) {
    const device = random.pick<VirtioDevice>([gpu, gpu, input.keyboardPointer, input.touchscreen]);
    const [ours, theirs] = socketPair();
    using backend = new VhostUserBackend(theirs, device, {
      log: (level, message) => logged(level, message, result),
      memorySlots: random.chance(0.9),
      onEnded: (error) => ended(error, result),
    });
    using vmm = new HostileVmm({ socket: ours, files, random, turn, result });
    await vmm.run(() => {
      if (random.chance(0.1))
        gpu.setMonitor(random.below(16), random.chance(0.5) ? virtualMonitor('fuzz', 640, 480, 60_000) : null);
      if (random.chance(0.1)) input.keyboardPointer.key(30, random.chance(0.5));
      sink.finishSome();
    });
    vmm[Symbol.dispose]();
    backend[Symbol.dispose]();
    sink.finishSome();
    if (gpu.budget.used !== 0) result.faults.push(`${gpu.budget.used} bytes of guest memory after a VMM`);
    if (gpu.stats.resources !== 0) result.faults.push(`${gpu.stats.resources} resources after a VMM`);
  }
  result.commands = gpu.stats.commands;
  await checkWorks(gpu, result);
  return result;
}

/** The device logs unexpected exceptions of commands as errors; broken rings and lost memory are the VMM's doing. */
function logged(level: string, message: string, result: VmmFuzzResult): void {
  if (level === 'error' && !/broke ring|ring \d stops/.test(message)) result.faults.push(message);
}

function ended(error: unknown, result: VmmFuzzResult): void {
  result.ended++;
  if (error === null || error instanceof VhostUserError || error instanceof GuestMemoryError) return;
  result.faults.push(inspect(error));
}

async function checkWorks(gpu: VirtioGpu, result: VmmFuzzResult): Promise<void> {
  const [ours, theirs] = socketPair();
  using server = VhostUserServer.adopt(theirs, gpu);
  using frontEnd = FrontEnd.create({ socket: ours, memory: [{ guestAddress: 0, size: RAM_SIZE }] });
  await frontEnd.connect();
  const request = virtio_gpu_ctrl_hdr.encode({ type: VIRTIO_GPU_CMD.GET_DISPLAY_INFO });
  const { type } = virtio_gpu_ctrl_hdr.decode(await frontEnd.request(0, request, 408));
  if (type !== VIRTIO_GPU_RESP.OK_DISPLAY_INFO || !server.connected)
    result.faults.push(`an honest front end got 0x${type.toString(16)}`);
}

/** What VMMs share with the back end: memory, eventfds and what is neither. */
export class VmmFiles implements Disposable {
  readonly #stack = new DisposableStack();
  readonly ram = this.#stack.use(createMemfd('ram', RAM_SIZE));
  /** RAM as the VMM maps it. */
  readonly bytes = this.#stack.use(Mapping.file(this.ram, 0, RAM_SIZE, 'read-write'));
  readonly unsealed = this.#stack.use(createMemfd('unsealed', RAM_SIZE, 0));
  readonly events = Array.from({ length: 4 }, () => this.#stack.use(EventFd.create()));
  readonly semaphore = this.#stack.use(OwnedFd.adopt(eventfd(7, EFD_SEMAPHORE)));
  readonly others: readonly BorrowedFd[];

  constructor() {
    const [near, far] = socketPair();
    const device = openSync('/dev/zero', 'r+');
    this.#stack.defer(() => closeSync(device));
    this.others = [this.unsealed, this.semaphore, this.#stack.use(near), this.#stack.use(far), { fd: device }];
  }

  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }
}

export interface HostileVmmOptions {
  /** Connected to the back end; consumed. */
  readonly socket: OwnedFd;
  readonly files: VmmFiles;
  readonly random: Random;
  /** Resolves when the back end may have done more. */
  readonly turn: () => Promise<unknown>;
  /** What is added to. */
  readonly result: Pick<VmmFuzzResult, 'messages' | 'connections' | 'accepted' | 'refused' | 'faults'>;
}

/** One connection to a back end, of this process or another. */
export class HostileVmm implements Disposable {
  readonly #options: HostileVmmOptions;
  readonly #files: VmmFiles;
  readonly #random: Random;
  readonly #socket: UnixConnection;
  readonly #top = NativeBuffer.allocate(8);
  /** How far regions are from where honest VMMs have them. */
  readonly #skew: number;
  #hasEnded = false;
  #replies = new Uint8Array(0);
  #questions = 0;
  #answers = 0;

  constructor(options: HostileVmmOptions) {
    const { socket, files, random, result } = options;
    this.#options = options;
    this.#files = files;
    this.#random = random;
    this.#skew = random.pick([0, 0, 0, 0, PAGE, 1, 2, 4, 16, 100]);
    this.#socket = UnixConnection.adopt(socket);
    this.#top.view.setBigUint64(0, 2n ** 64n - 2n, true);
    result.connections++;
  }

  /** Up to a few hundred messages; `between` is called between batches. */
  async run(between: () => void): Promise<void> {
    const random = this.#random;
    if (random.chance(0.95)) await this.#start();
    for (let batches = random.below(20); batches >= 0 && !this.#hasEnded; batches--) {
      for (let i = random.below(BATCH); i >= 0; i--) this.#sendAny();
      for (let i = random.below(8); i > 0; i--) this.#disturb();
      await this.#settle();
      between();
    }
    // Some go in the middle of a message.
    if (!this.#hasEnded && random.chance(0.2)) {
      const message = this.#encode(VHOST_USER.SET_MEM_TABLE, this.#table(2), 1);
      this.#sendRaw(message.subarray(0, 1 + random.below(message.length - 1)), [this.#files.ram]);
      await this.#options.turn();
    }
  }

  [Symbol.dispose](): void {
    this.#socket[Symbol.dispose]();
    this.#top[Symbol.dispose]();
  }

  /** What an honest VMM sends, as far as the skew allows. */
  async #start(): Promise<void> {
    this.#send(VHOST_USER.SET_FEATURES, u64(this.#features()));
    this.#send(VHOST_USER.SET_MEM_TABLE, this.#table(1), [this.#files.ram]);
    this.#startRing(0);
    this.#startRing(1);
    await this.#settle();
  }

  #startRing(index: number): void {
    const { bytes, events } = this.#files;
    this.#send(VHOST_USER.GET_VRING_BASE, state(index, 0));
    bytes.view.setUint32(this.#available(index), 0);
    this.#send(VHOST_USER.SET_VRING_NUM, state(index, this.#random.pick([4, 16, 64])));
    this.#send(VHOST_USER.SET_VRING_BASE, state(index, 0));
    this.#send(VHOST_USER.SET_VRING_ADDR, this.#addresses(index, 0));
    this.#send(VHOST_USER.SET_VRING_CALL, u64(BigInt(index)), [events[index]!]);
    this.#send(VHOST_USER.SET_VRING_KICK, u64(BigInt(index)), [events[2 + index]!]);
    this.#send(VHOST_USER.SET_VRING_ENABLE, state(index, 1));
  }

  #sendAny(): void {
    const random = this.#random;
    const { ram, events } = this.#files;
    const ring = random.chance(0.995) ? random.below(2) : this.#number();
    const event = random.chance(0.9) ? random.pick(events) : random.pick(this.#files.others);
    const memory = random.chance(0.9) ? ram : random.pick([...this.#files.others, random.pick(events)]);
    switch (random.below(24)) {
      case 0:
        this.#send(VHOST_USER.SET_FEATURES, u64(this.#features()));
        break;
      case 1: {
        const regions = 1 + random.below(random.chance(0.99) ? 3 : 9);
        const fds = random.chance(0.998) ? regions : random.below(4);
        this.#send(VHOST_USER.SET_MEM_TABLE, this.#table(regions), new Array<BorrowedFd>(fds).fill(memory));
        break;
      }
      case 2:
      case 3:
        this.#send(VHOST_USER.ADD_MEM_REG, slot(this.#region(1 + random.below(8))), [memory]);
        break;
      case 4:
        this.#send(VHOST_USER.REM_MEM_REG, slot(this.#region(random.below(9))), random.chance(0.1) ? [memory] : []);
        break;
      case 5:
        this.#send(VHOST_USER.SET_VRING_NUM, state(ring, random.pick([1, 2, 4, 16, 64, 1024, this.#number()])));
        break;
      case 6:
        this.#send(VHOST_USER.SET_VRING_BASE, state(ring, random.chance(0.7) ? 0 : this.#number()));
        break;
      case 7:
      case 8:
        this.#send(VHOST_USER.SET_VRING_ADDR, this.#addresses(ring, random.chance(0.9) ? 0 : this.#number()));
        break;
      case 9:
        this.#send(VHOST_USER.GET_VRING_BASE, state(ring, 0));
        break;
      case 10:
      case 11:
        this.#send(VHOST_USER.SET_VRING_KICK, ...this.#forRing(ring, event));
        break;
      case 12:
        this.#send(VHOST_USER.SET_VRING_CALL, ...this.#forRing(ring, event));
        break;
      case 13:
        this.#send(VHOST_USER.SET_VRING_ERR, ...this.#forRing(ring, event));
        break;
      case 14:
      case 15:
      case 16:
        this.#send(VHOST_USER.SET_VRING_ENABLE, state(ring, random.chance(0.99) ? random.below(4) & 1 : 2));
        break;
      case 17: {
        const length = random.chance(0.99) ? random.below(257) : this.#number();
        const head = wire.VhostUserConfig.encode({
          offset: random.below(300),
          size: random.chance(0.99) ? length : this.#number(),
        });
        const body = random.bytes(Math.min(length, 300));
        const request = random.pick([VHOST_USER.GET_CONFIG, VHOST_USER.SET_CONFIG]);
        this.#send(request, Buffer.concat([head, body]));
        break;
      }
      case 18:
        this.#send(random.pick([VHOST_USER.SET_BACKEND_REQ_FD, VHOST_USER.GPU_SET_SOCKET]), undefined, [
          random.pick(this.#files.others),
        ]);
        break;
      case 19:
        this.#send(random.pick([VHOST_USER.RESET_DEVICE, VHOST_USER.RESET_OWNER, VHOST_USER.SET_OWNER]));
        break;
      case 20:
        this.#send(VHOST_USER.SET_PROTOCOL_FEATURES, u64(random.chance(0.5) ? 0xffffn : this.#bits()));
        break;
      case 21:
        this.#send(
          random.pick([VHOST_USER.GET_FEATURES, VHOST_USER.GET_PROTOCOL_FEATURES, VHOST_USER.GET_MAX_MEM_SLOTS]),
        );
        break;
      case 22:
        if (random.chance(0.02)) this.#sendMalformed();
        else this.#startRing(random.below(2));
        break;
      default:
        this.#ask();
        break;
    }
  }

  /** Bytes that are hardly a message. */
  #sendMalformed(): void {
    const random = this.#random;
    const bytes = random.bytes(12 + random.below(80));
    const view = new DataView(bytes.buffer);
    if (random.chance(0.9)) view.setUint32(0, random.below(46), true);
    if (random.chance(0.9)) view.setUint32(4, random.pick([1, 9, 2, 5]), true);
    if (random.chance(0.9)) view.setUint32(8, bytes.length - 12, true);
    this.#options.result.messages++;
    this.#sendRaw(bytes, random.chance(0.5) ? [random.pick(this.#files.others)] : []);
  }

  /** What a VMM and its guest do without a message: rings, kicks, flags of shared files, the size of memory. */
  #disturb(): void {
    const random = this.#random;
    const { events, unsealed } = this.#files;
    switch (random.below(12)) {
      case 0:
        fcntl(random.pick(events).fd, F_SETFL, O_RDWR);
        return;
      case 1: {
        const event = random.pick(events);
        event.consume();
        write(event.fd, this.#top.address, 8);
        return;
      }
      case 2:
        random.pick(events).consume();
        return;
      case 3:
        ftruncate(unsealed.fd, random.below(3) * PAGE);
        return;
      default:
        this.#fillRing(random.below(2));
        events[2 + random.below(2)]!.signal();
    }
  }

  /** Chains in the part of RAM where `#addresses` has the ring; some are broken. */
  #fillRing(index: number): void {
    const random = this.#random;
    const { view } = this.#files.bytes;
    const ring = index * RING_SIZE + this.#skew;
    for (let i = 0; i < 4; i++) {
      const at = ring + i * vring_desc.size;
      const isLast = i % 2 === 1;
      vring_desc.set(view, at, {
        addr: random.chance(0.99) ? RAM + 0x4_0000 + random.below(0x1_0000) : this.#number(),
        len: random.chance(0.99) ? 24 + random.below(400) : this.#number() % 2 ** 32,
        flags: random.chance(0.99) ? (isLast ? VRING_DESC_F_WRITE : VRING_DESC_F_NEXT) : random.below(8),
        next: random.chance(0.99) ? i + 1 : random.below(0x1_0000),
      });
    }
    const available = this.#available(index);
    for (let i = 0; i < 8; i++) view.setUint16(available + 4 + 2 * i, random.chance(0.99) ? 2 * (i % 2) : 99, true);
    const next = view.getUint16(available + 2, true) + random.below(3);
    view.setUint16(available + 2, random.chance(0.99) ? next & 0xffff : random.below(0x1_0000), true);
    view.setUint32(0x4_0000 + random.below(0x1_0000), random.pick(Object.values(VIRTIO_GPU_CMD)), true);
  }

  /** Where the available ring is in RAM, if it is aligned. */
  #available(index: number): number {
    return index * RING_SIZE + 0x4000 + this.#skew - (this.#skew % 2);
  }

  #features(): bigint {
    return this.#random.chance(0.8) ? this.#random.features() & (2n ** 33n - 1n) : this.#bits();
  }

  #bits(): bigint {
    return new DataView(this.#random.bytes(8).buffer).getBigUint64(0, true);
  }

  #number(): number {
    return this.#random.chance(0.5) ? this.#random.pick(NUMBERS) : this.#random.below(2 ** 31);
  }

  /** Region 0 is all of RAM, as far as the skew allows; the others lie above it. */
  #region(index: number): Uint8Array {
    const random = this.#random;
    const isOdd = random.chance(0.03);
    const size = RAM_SIZE - Math.ceil(this.#skew / PAGE) * PAGE;
    return wire.VhostUserMemoryRegion.encode({
      guest_phys_addr: isOdd ? this.#number() : RAM + index * RAM_SIZE,
      memory_size: random.chance(0.98) ? size : this.#number(),
      userspace_addr: random.chance(0.98) ? USER + index * RAM_SIZE : this.#number(),
      mmap_offset: random.chance(0.98) ? this.#skew : this.#number(),
    });
  }

  #table(regions: number): Uint8Array {
    return Buffer.concat([
      wire.VhostUserMemory.encode({ nregions: this.#random.chance(0.999) ? regions : this.#number() % 2 ** 32 }),
      ...Array.from({ length: regions }, (_, index) => this.#region(index)),
    ]);
  }

  #addresses(index: number, shift: number): Uint8Array {
    const at = USER + (index % 16) * RING_SIZE + (shift % RAM_SIZE);
    return wire.vhost_vring_addr.encode({
      index,
      flags: this.#random.chance(0.99) ? 0 : 1,
      desc_user_addr: at,
      avail_user_addr: at + 0x4000,
      used_user_addr: this.#random.chance(0.98) ? at + 0x8000 : this.#number(),
    });
  }

  #forRing(ring: number, event: BorrowedFd): [payload: Uint8Array, fds: readonly BorrowedFd[]] {
    const hasFd = this.#random.chance(0.9);
    const number = BigInt(ring & 0xff) | (hasFd ? 0n : 0x100n);
    return [u64(number), hasFd === this.#random.chance(0.999) ? [event] : []];
  }

  /** A question whose reply shows that all before it was handled. */
  #ask(): void {
    this.#questions++;
    this.#send(VHOST_USER.GET_QUEUE_NUM);
  }

  #send(request: number, payload: Uint8Array = new Uint8Array(0), fds: readonly BorrowedFd[] = []): void {
    const needsReply = this.#random.chance(0.97);
    this.#options.result.messages++;
    this.#sendRaw(this.#encode(request, payload, needsReply ? 9 : 1), fds);
  }

  #encode(request: number, payload: Uint8Array, flags: number): Uint8Array {
    return Buffer.concat([wire.VhostUserHeader.encode({ request, flags, size: payload.length }), payload]);
  }

  #sendRaw(bytes: Uint8Array, fds: readonly BorrowedFd[]): void {
    if (this.#hasEnded) return;
    try {
      this.#socket.send(bytes, fds);
    } catch (error) {
      // The back end may have closed its side.
      if (!(error instanceof SysError)) throw error;
    }
  }

  /** Until everything that was sent is handled, or the connection has ended. */
  async #settle(): Promise<void> {
    this.#ask();
    for (let turns = 0; !this.#hasEnded && this.#answers < this.#questions; turns++) {
      if (turns === MAX_TURNS) {
        this.#options.result.faults.push('no reply, and the connection goes on');
        return;
      }
      await this.#options.turn();
      this.#read();
    }
  }

  #read(): void {
    const chunk = new Uint8Array(65536);
    const count = this.#receive(chunk);
    if (count === 0) this.#hasEnded = true;
    if (count <= 0) return;
    this.#replies = Buffer.concat([this.#replies, chunk.subarray(0, count)]);
    let at = 0;
    while (this.#replies.length - at >= wire.VhostUserHeader.size) {
      const { request, size } = wire.VhostUserHeader.decode(this.#replies.subarray(at));
      const end = at + wire.VhostUserHeader.size + size;
      if (end > this.#replies.length) break;
      this.#replied(request, this.#replies.subarray(at + wire.VhostUserHeader.size, end));
      at = end;
    }
    this.#replies = this.#replies.slice(at);
  }

  /** 0 at the end, also of a back end that closed while messages waited; -1 if there is nothing yet. */
  #receive(chunk: Uint8Array): number {
    try {
      return this.#socket.recv(chunk, 0, chunk.length);
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      return 0;
    }
  }

  #replied(request: number, payload: Uint8Array): void {
    if (request === VHOST_USER.GET_QUEUE_NUM) this.#answers++;
    if (payload.length !== wire.VhostUserU64.size) return;
    if (payload.every((byte) => byte === 0)) this.#options.result.accepted++;
    else if (wire.VhostUserU64.decode(payload).u64 === 1n) this.#options.result.refused++;
  }
}

function u64(value: bigint): Uint8Array {
  return wire.VhostUserU64.encode({ u64: value });
}

function state(index: number, num: number): Uint8Array {
  return wire.vhost_vring_state.encode({ index, num });
}

/** The payload of ADD_MEM_REG and REM_MEM_REG. */
function slot(region: Uint8Array): Uint8Array {
  return Buffer.concat([new Uint8Array(wire.VhostUserMemRegMsg.offset.region), region]);
}
