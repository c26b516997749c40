import { setImmediate } from 'node:timers/promises';
import { bytesOf } from '../../../rig/bytes-of.ts';
import { vringAvailSize, vringDescSize, vringUsedSize } from '../../../../protocols/virtio-ring.ts';
import type { Framebuffer } from '../../../../src/core/framebuffer.ts';
import type { Damage } from '../../../../src/core/damage.ts';
import type { Rect } from '../../../../src/core/geometry.ts';
import type { Flush, ScanoutId, SourceSink } from '../../../../src/core/source.ts';
import { GuestMemory } from '../../../../src/guest/memory.ts';
import { BufferPool } from '../../../../src/guest/replay/driver-memory.ts';
import type { DriverQueue } from '../../../../src/guest/replay/driver-queue.ts';
import { VirtioGpu, type VirtioGpuOptions } from '../../../../src/guest/virtio-gpu/device.ts';
import { Virtqueue } from '../../../../src/guest/virtio/queue.ts';
import { DisposableStack } from '../../../../src/sys/disposable-stack.ts';
import type { OwnedFd } from '../../../../src/sys/fd.ts';
import { Mapping } from '../../../../src/sys/mapping.ts';
import { createMemfd } from '../../../../src/sys/memfd.ts';
import { HostileQueue } from '../../../rig/hostile-queue.ts';
import { mappingCount, openFds } from '../../../rig/process-resources.ts';

export const PAGE = 4096;
/** Where the guest's memory starts. It is at another offset in the file, so that mixing the two up fails. */
export const RAM = 0x4000_0000;
export const RAM_SIZE = 64 * 2 ** 20;
/** Memory for backings; below it are rings and requests. */
export const HEAP = RAM + 16 * 2 ** 20;
const FILE_OFFSET = 2 * 2 ** 20;
const USER = 0x7f00_0000_0000;

/** A sink that records its calls and keeps every flush for the test to finish. */
export class RecordingSink implements SourceSink {
  readonly calls: string[] = [];
  readonly shown = new Map<number, Framebuffer | null>();
  readonly cursors = new Map<number, Framebuffer | null>();
  readonly destroyedIds: number[] = [];
  readonly flushes: Flush[] = [];
  /** The bytes of the framebuffer at each flush, as a shadow copy would read them. */
  readonly pictures: Uint8Array[] = [];
  readsPixels = false;
  isDoneAtOnce = false;

  scanout(id: ScanoutId, framebuffer: Framebuffer | null, rect: Rect): void {
    this.shown.set(id, framebuffer);
    this.calls.push(
      framebuffer ? `scanout ${id} ${framebuffer.width}x${framebuffer.height} ${text(rect)}` : `scanout ${id} off`,
    );
  }

  flush(id: ScanoutId, damage: Damage, flush: Flush | null): void {
    const rects = Array.from({ length: damage.count }, (_, i) =>
      text({ x: damage.x(i), y: damage.y(i), width: damage.width(i), height: damage.height(i) }),
    );
    this.calls.push(`flush ${id} ${rects.join(' ')}${flush ? '' : ' (no answer)'}`);
    if (this.readsPixels) this.pictures.push(pixelsOf(this.shown.get(id)!));
    if (!flush) return;
    if (this.isDoneAtOnce) flush.done();
    else this.flushes.push(flush);
  }

  cursor(
    id: ScanoutId,
    framebuffer: Framebuffer | null,
    hotspotX: number,
    hotspotY: number,
    x: number,
    y: number,
  ): void {
    this.cursors.set(id, framebuffer);
    this.calls.push(
      framebuffer
        ? `cursor ${id} ${framebuffer.width}x${framebuffer.height} hot ${hotspotX},${hotspotY} at ${x},${y}`
        : `cursor ${id} off`,
    );
  }

  cursorMoved(id: ScanoutId, x: number, y: number): void {
    this.calls.push(`cursor ${id} moved ${x},${y}`);
  }

  halted(): void {
    this.calls.push('halted');
  }

  destroyed(framebuffer: Framebuffer): void {
    this.destroyedIds.push(framebuffer.id);
    this.calls.push('destroyed');
  }

  takeCalls(): string[] {
    return this.calls.splice(0);
  }
}

function text(rect: Rect): string {
  return `${rect.width}x${rect.height}+${rect.x}+${rect.y}`;
}

/** A copy of a framebuffer's bytes, row after row, without the gaps between rows. */
export function pixelsOf(framebuffer: Framebuffer): Uint8Array {
  if (framebuffer.backing.kind !== 'pages') throw new Error('not in pages');
  const bytes = bytesOf(framebuffer.backing.pixels());
  const { offset, stride } = framebuffer.planes[0]!;
  const row = framebuffer.width * 4;
  const out = new Uint8Array(row * framebuffer.height);
  for (let y = 0; y < framebuffer.height; y++)
    out.set(bytes.subarray(offset + y * stride, offset + y * stride + row), y * row);
  return out;
}

export interface Leaks {
  fds: number;
  mappings: number;
}

/** Descriptors of this process, and the mappings a GPU makes: guest pixels (for reading) and stores. */
export function openThings(): Leaks {
  return { fds: openFds().size, mappings: mappingCount(/ r--s .*\/memfd:guest|\/memfd:scanout-resource/) };
}

/** A GPU and a driver with real rings between them, all in this thread. */
export class GpuRig implements Disposable {
  readonly gpu: VirtioGpu;
  readonly sink = new RecordingSink();
  readonly log: string[] = [];
  readonly ram: Mapping;
  readonly broken: string[] = [];
  /** Called for each interrupt. */
  onCall: () => void = () => undefined;
  configChanges = 0;
  drivers: HostileQueue[] = [];
  readonly #memfd: OwnedFd;
  readonly #stack = new DisposableStack();
  readonly #responses = new Map<number, { bytes: Uint8Array; written: number }>();
  readonly #pool = new BufferPool(PAGE, HEAP - RAM);
  #rings = new DisposableStack();
  #memory: GuestMemory;
  #queues: Virtqueue[] = [];

  /** `createRam` makes the file of the guest's memory. */
  constructor(
    options: VirtioGpuOptions = {},
    connected = true,
    createRam = (length: number): OwnedFd => createMemfd('guest', length),
  ) {
    this.gpu = new VirtioGpu({ log: (level, message) => this.log.push(`${level}: ${message}`), ...options });
    this.#memfd = this.#stack.use(createRam(FILE_OFFSET + RAM_SIZE));
    this.ram = this.#stack.use(Mapping.file(this.#memfd, FILE_OFFSET, RAM_SIZE, 'read-write'));
    this.#memory = this.mapMemory();
    if (connected) this.gpu.connect(this.sink);
    this.gpu.attached({
      configChanged: () => {
        this.configChanges++;
        return true;
      },
      failed: (error) => {
        throw error;
      },
    });
    this.gpu.negotiated(this.gpu.features);
    this.gpu.memoryChanged(this.#memory);
    this.startQueues();
  }

  /** The same memory as a new table, `size` bytes of it. */
  mapMemory(size = RAM_SIZE): GuestMemory {
    return GuestMemory.map(
      [{ guestAddress: RAM, size, userAddress: USER, mmapOffset: FILE_OFFSET }],
      [this.#memfd.dup()],
    );
  }

  /** Does what a VMM does: the old table goes once the new one is in use. */
  changeMemory(memory: GuestMemory): void {
    const old = this.#memory;
    this.#memory = memory;
    this.drivers.forEach((driver, index) => this.#queues[index]!.remap(memory, this.#ring(driver)));
    this.gpu.memoryChanged(memory);
    old[Symbol.dispose]();
  }

  startQueues(): void {
    this.drivers = [64, 16].map((size) => {
      const memory = { address: RAM, bytes: this.ram.bytes, view: this.ram.view, pool: this.#pool };
      return new HostileQueue(memory, { size, indirect: false, eventIdx: false, maxSegment: 65536 });
    });
    this.#queues = this.drivers.map((driver, index) => {
      const options = {
        size: driver.size,
        base: 0,
        eventIdx: false,
        indirect: true,
        call: () => this.onCall(),
        onBroken: (reason: string) => this.broken.push(reason),
      };
      const queue = new Virtqueue(options, this.#memory, this.#ring(driver));
      this.gpu.queueStarted(index, queue);
      return queue;
    });
  }

  /** Sends a request and kicks. The token for `answer`; -1 if the ring is full. */
  send(request: Uint8Array, responseSpace = 1056, queue = 0): number {
    const token = this.drivers[queue]!.submit(request, responseSpace);
    this.kick(queue);
    return token;
  }

  kick(queue = 0): void {
    this.gpu.kicked(queue);
    this.drain();
  }

  drain(): void {
    this.drivers.forEach((driver, index) => {
      driver.drain((token, response, written) =>
        this.#responses.set(index * 65536 + token, { bytes: response.slice(), written }),
      );
    });
  }

  /** Takes the response to a token; undefined while there is none. */
  answer(token: number, queue = 0): { bytes: Uint8Array; written: number } | undefined {
    this.drain();
    const key = queue * 65536 + token;
    const response = this.#responses.get(key);
    this.#responses.delete(key);
    return response;
  }

  /** Resolves with the response to a token, however many turns of the event loop it takes. */
  async answered(token: number, queue = 0): Promise<{ bytes: Uint8Array; written: number }> {
    for (;;) {
      const response = this.answer(token, queue);
      if (response) return response;
      await setImmediate();
    }
  }

  /** The whole response of a request that is answered at once. */
  ask(request: Uint8Array, responseSpace = 1056, queue = 0): Uint8Array {
    const response = this.answer(this.send(request, responseSpace, queue), queue);
    if (!response) throw new Error('not answered');
    return response.bytes;
  }

  /** The response type of a request that is answered at once. */
  type(request: Uint8Array, queue = 0): number {
    const response = this.ask(request, 1056, queue);
    return new DataView(response.buffer, response.byteOffset).getUint32(0, true);
  }

  /** Bytes of guest memory, shared. */
  at(address: number, length: number): Uint8Array {
    return this.ram.bytes.subarray(address - RAM, address - RAM + length);
  }

  /** The driver resets the device and starts again. */
  reset(): void {
    this.gpu.reset();
    this.#rings[Symbol.dispose]();
    this.#rings = new DisposableStack();
    this.#responses.clear();
    this.startQueues();
  }

  [Symbol.dispose](): void {
    this.gpu[Symbol.dispose]();
    this.gpu.detached();
    this.#rings[Symbol.dispose]();
    this.#memory[Symbol.dispose]();
    this.#stack[Symbol.dispose]();
  }

  #ring({ at, size }: DriverQueue): { descriptors: Uint8Array; available: Uint8Array; used: Uint8Array } {
    const area = (offset: number, length: number) => this.#rings.use(this.#memory.ring(USER + offset, length)).bytes;
    return {
      descriptors: area(at.desc, vringDescSize(size)),
      available: area(at.avail, vringAvailSize(size)),
      used: area(at.used, vringUsedSize(size)),
    };
  }
}
