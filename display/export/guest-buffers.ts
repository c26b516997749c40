import { DRM_FORMAT_MOD_LINEAR, formatInfo } from '../../protocols/drm-fourcc.ts';
import {
  EXPORT_EVENT,
  EXPORT_KIND,
  EXPORT_NO_SCANOUT,
  export_exported,
  export_frame,
  export_layer,
  PRODUCER_RESULT,
} from '../../protocols/export.ts';
import type { MemoryBudget } from '../../src/core/budget.ts';
import { Damage } from '../../src/core/damage.ts';
import type { Framebuffer } from '../../src/core/framebuffer.ts';
import type { LogOnce } from '../../src/core/log.ts';
import type { BufferSink, GuestBuffer } from '../../src/core/output.ts';
import { copyRect } from '../../src/sys/copy-rect.ts';
import { Pump } from '../../src/sys/pump.ts';
import { type Importable, SealedMemory } from './buffers.ts';
import type { Consumer, Consumers, Loan, Loanable, Stream } from './consumers.ts';
import { ExportError } from './errors.ts';
import { message, writeDamage } from './messages.ts';
import type { Ready } from './producer-channel.ts';

/** Pictures that are not released; each has a buffer of its own. */
const MAX_PENDING = 64;
/** How many bytes are copied between looks at the clock. */
const PIECE = 2 ** 20;
const MAX_SIDE = 16384;

/** The buffers that programs of the guest export, and the pictures they announce in them. */
export class GuestBuffers implements BufferSink, Disposable {
  readonly #consumers: Consumers;
  readonly #budget: MemoryBudget;
  readonly #logOnce: LogOnce;
  readonly #byResource = new Map<number, GuestExport>();
  #pending = 0;

  constructor(consumers: Consumers, budget: MemoryBudget, logOnce: LogOnce) {
    this.#consumers = consumers;
    this.#budget = budget;
    this.#logOnce = logOnce;
    consumers.onJoined = (consumer) => {
      for (const { event } of this.#byResource.values()) consumer.send(event);
    };
  }

  get count(): number {
    return this.#byResource.size;
  }

  added(buffer: GuestBuffer): void {
    const made = new GuestExport(buffer, this.#consumers, this.#budget, this.#logOnce);
    this.#byResource.set(buffer.resource, made);
    this.#consumers.exports.add(made);
    this.#consumers.broadcast(made.event);
  }

  removed(buffer: GuestBuffer): void {
    const gone = this.#byResource.get(buffer.resource);
    if (gone?.buffer !== buffer) return;
    this.#byResource.delete(buffer.resource);
    this.#consumers.exports.delete(gone);
    gone[Symbol.dispose]();
  }

  /** Shows the picture that a program has drawn. `answer` is called once, with a PRODUCER_RESULT. */
  ready(ready: Ready, answer: (result: number) => void): void {
    const target = this.#byResource.get(ready.resource);
    if (!target) answer(PRODUCER_RESULT.NO_SUCH_RESOURCE);
    else if (!fits(ready, target.byteLength)) answer(PRODUCER_RESULT.BAD_LAYOUT);
    else if (target.isPending || this.#pending >= MAX_PENDING) answer(PRODUCER_RESULT.BUSY);
    else {
      this.#pending++;
      target.show(ready, (result) => {
        this.#pending--;
        answer(result);
      });
    }
  }

  [Symbol.dispose](): void {
    for (const { buffer } of this.#byResource.values()) this.removed(buffer);
  }
}

/** The message of all frames of buffers on no scanout. */
const frame = message(EXPORT_EVENT.FRAME, new Uint8Array(export_frame.size));
const view = new DataView(frame.buffer);
export_frame.field.scanout.set(view, 0, EXPORT_NO_SCANOUT);
const LAYER = export_frame.offset.primary;
const damage = new Damage();

/** One buffer. Its pages are shared when a consumer first imports it, or copied for each picture if they cannot be. */
class GuestExport implements Importable, Loanable, Stream, Disposable {
  readonly buffer: GuestBuffer;
  readonly id: Uint8Array;
  /** Says that it is there. */
  readonly event: Uint8Array;
  readonly #consumers: Consumers;
  readonly #budget: MemoryBudget;
  readonly #logOnce: LogOnce;
  readonly #copying = new Pump(() => this.#copyNext());
  #shared: Framebuffer | null = null;
  #copy: SealedMemory | null = null;
  /** What the copy lacks of the picture that is to be shown: from, and up to. */
  #copyAt = 0;
  #copyEnd = 0;
  #ready: Ready | null = null;
  #answer: ((result: number) => void) | null = null;
  #users = 0;
  #isLate = false;

  constructor(buffer: GuestBuffer, consumers: Consumers, budget: MemoryBudget, logOnce: LogOnce) {
    this.buffer = buffer;
    this.id = buffer.framebuffer.uuid!;
    this.#consumers = consumers;
    this.#budget = budget;
    this.#logOnce = logOnce;
    this.event = message(EXPORT_EVENT.EXPORTED, export_exported.encode({ id: this.id, length: this.byteLength }));
  }

  get byteLength(): number {
    return this.buffer.framebuffer.width;
  }

  get kind(): Importable['kind'] {
    return this.#shared ? EXPORT_KIND.DMABUF : EXPORT_KIND.MEMFD;
  }

  get fd(): Importable['fd'] {
    const backing = this.#shared?.backing;
    return backing?.kind === 'dmabuf' ? backing.dmabuf : this.#copy!.memfd;
  }

  /** A picture in it is not released. */
  get isPending(): boolean {
    return this.#answer !== null;
  }

  /** SysError or ExportError `resources` if its pages can neither be shared nor copied now. */
  open(): Importable {
    if (this.#shared || this.#copy) return this;
    const shared = this.buffer.share();
    if (!(shared instanceof Error)) {
      this.#shared = shared;
      return this;
    }
    this.#logOnce('info', `export: copying the pictures of guest programs: ${shared.message}`, 'copied');
    if (!this.#budget.reserve(this.byteLength))
      throw new ExportError('resources', `a copy of ${this.byteLength} bytes would exceed --max-guest-memory`);
    try {
      this.#copy = SealedMemory.create(this.byteLength);
    } catch (error) {
      this.#budget.release(this.byteLength);
      throw error;
    }
    return this;
  }

  show(ready: Ready, answer: (result: number) => void): void {
    this.#ready = ready;
    this.#answer = answer;
    this.#isLate = false;
    try {
      this.open();
    } catch (error) {
      this.#logOnce('warn', `export: a picture of a guest program is not shown: ${String(error)}`, 'not shown');
      this.#finish(PRODUCER_RESULT.BUSY);
      return;
    }
    this.#copyAt = ready.offset;
    this.#copyEnd = this.#copy ? endOf(ready) : 0;
    this.#copying.start();
  }

  acquire(): void {
    this.#users++;
  }

  release(): void {
    this.#users--;
  }

  joined(): void {
    // The next picture is for the new consumer, too.
  }

  returned(_loan: Loan, isLate: boolean): void {
    this.#isLate ||= isLate;
    if (this.#users === 0) this.#finish(this.#isLate ? PRODUCER_RESULT.REVOKED : PRODUCER_RESULT.RELEASED);
  }

  released(): void {
    // The next picture is for this consumer, too.
  }

  left(): void {
    // Its loans were returned.
  }

  [Symbol.dispose](): void {
    this.#copying[Symbol.dispose]();
    this.#finish(PRODUCER_RESULT.NO_SUCH_RESOURCE);
    if (this.#shared) this.buffer.unshare();
    if (this.#copy) this.#budget.release(this.byteLength);
    this.#copy?.[Symbol.dispose]();
    this.#shared = null;
    this.#copy = null;
  }

  /** A piece of the copy, or, when that is complete or not needed, the frame. Whether there is more to do. */
  #copyNext(): boolean {
    const { backing } = this.buffer.framebuffer;
    const length = Math.min(PIECE, this.#copyEnd - this.#copyAt);
    if (length > 0 && this.#copy && backing.kind === 'pages') {
      try {
        copyRect(this.#copy.pixels, this.#copyAt, length, backing.pixels(), this.#copyAt, length, length, 1);
      } catch (error) {
        this.#logOnce('warn', `export: a picture of a guest program cannot be read: ${String(error)}`, 'not read');
        this.#finish(PRODUCER_RESULT.BUSY);
        return false;
      }
      this.#copyAt += length;
      return true;
    }
    if (this.#ready) this.#lend(this.#ready);
    return false;
  }

  #lend({ fourcc, width, height, offset, stride }: Ready): void {
    this.#ready = null;
    const serial = this.#consumers.nextSerial();
    const rect = { x: 0, y: 0, width, height };
    export_frame.field.serial.set(view, 0, serial);
    export_frame.field.width.set(view, 0, width);
    export_frame.field.height.set(view, 0, height);
    export_layer.set(view, LAYER, {
      id: this.id,
      modifier: DRM_FORMAT_MOD_LINEAR,
      width,
      height,
      fourcc,
      planes: 1,
      offsets: [offset, 0, 0, 0],
      strides: [stride, 0, 0, 0],
      src: rect,
      dst: rect,
    });
    damage.clear();
    damage.addRect(rect);
    writeDamage(view, damage);
    for (let i = 0; i < this.#consumers.count; i++) this.#offer(this.#consumers.at(i), serial);
    this.#consumers.recall(this);
    if (this.#users === 0) this.#finish(PRODUCER_RESULT.RELEASED);
  }

  /** One that still has an earlier picture of this buffer does without. */
  #offer(consumer: Consumer, serial: number): void {
    if (consumer.held(this) === 0) consumer.lend(this, frame, serial, this, null, null);
  }

  #finish(result: number): void {
    const answer = this.#answer;
    this.#answer = null;
    this.#ready = null;
    answer?.(result);
  }
}

/** Whether it describes a picture inside of a buffer of `byteLength` bytes. */
function fits(ready: Ready, byteLength: number): boolean {
  const { fourcc, width, height, stride } = ready;
  const info = formatInfo(fourcc);
  if (info?.planes.length !== 1 || info.isYuv || info.planes[0]!.blockWidth !== 1) return false;
  if (width < 1 || height < 1 || width > MAX_SIDE || height > MAX_SIDE) return false;
  // A sum beyond 2^53 is rounded, and far too large all the same.
  return stride >= width * info.planes[0]!.bytesPerBlock && endOf(ready) <= byteLength;
}

function endOf({ fourcc, width, height, offset, stride }: Ready): number {
  return offset + stride * (height - 1) + width * formatInfo(fourcc)!.planes[0]!.bytesPerBlock;
}
