import { constants } from 'node:os';
import * as uapi from '../../../protocols/qemu-display1.ts';
import type { MemoryBudget } from '../../core/budget.ts';
import { Damage } from '../../core/damage.ts';
import { EMPTY_RECT, MutableRect } from '../../core/geometry.ts';
import type { LogOnce } from '../../core/log.ts';
import type { Flush, ScanoutId, SourceSink } from '../../core/source.ts';
import type { Memory } from '../../sys/copy-rect.ts';
import { ScanoutError } from '../../sys/errors.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { BusConnection, type BusListener, type BusMessage } from '../../sys/lib/sd-bus.ts';
import { QemuDbusError } from './errors.ts';
import {
  type ConsolePicture,
  CopiedPicture,
  CursorPicture,
  DmabufPicture,
  MappedPicture,
  type Rows,
} from './pictures.ts';

const { EINVAL } = constants.errno;
/** asm-generic/errno.h; libsystemd's error for a method that is not known. */
const EBADR = 53;

/** Of a picture in dma-bufs. */
const MOST_PLANES = 4;

/** How long QEMU may wait for a picture in a dma-buf to be shown. Its guest's GPU stands still for that long. */
const ANSWER_MS = 100;

export interface ConsoleStats {
  /** QEMU's number of the console. */
  id: number;
  label: string;
  /** How the picture comes here: `copied` over the socket, `mapped` in shared memory, or a `dmabuf`; null without one. */
  way: ConsolePicture['way'] | null;
  /** Pictures in other memory, and changes. */
  switches: number;
  updates: number;
  /** Bytes of pictures that came over the socket. */
  socketBytes: number;
}

/** What a console needs of its guest. */
export interface ConsoleOwner {
  readonly sink: SourceSink | null;
  readonly budget: MemoryBudget;
  readonly logOnce: LogOnce;
  /** QEMU has ended the connection, or what it sent did. */
  lost(console: QemuConsole, cause: Error): void;
}

/** A console of a VM, which is one scanout: takes its pictures and cursors from QEMU. */
export class QemuConsole implements Disposable {
  readonly scanout: ScanoutId;
  readonly #owner: ConsoleOwner;
  readonly #stats: ConsoleStats;
  readonly #connection: BusConnection;
  /** What QEMU shows; what the sink was told last is `#shown`. */
  #picture: ConsolePicture | null = null;
  #isOn = false;
  #shown: ConsolePicture | null = null;
  /** Not all of it has been copied; then nothing else is received. */
  #incoming: CopiedPicture | null = null;
  readonly #retired: ConsolePicture[] = [];
  readonly #damage = new Damage();
  readonly #rect = new MutableRect();
  /** Answers to updates that wait for their frame. */
  #answers: (() => void)[] = [];
  #cursor: CursorPicture | null = null;
  #cursorIsOn = false;
  #hotspotX = 0;
  #hotspotY = 0;
  #cursorX = 0;
  #cursorY = 0;

  /** The connection of a listener; the socket's other end goes to QEMU. Takes ownership of `socket`, also on failure. */
  constructor(owner: ConsoleOwner, scanout: ScanoutId, id: number, label: string, socket: OwnedFd) {
    this.#owner = owner;
    this.scanout = scanout;
    this.#stats = { id, label, way: null, switches: 0, updates: 0, socketBytes: 0 };
    const listener: BusListener = {
      received: (call) => this.#receive(call),
      drained: () => this.#report(),
      closed: (cause) => owner.lost(this, cause),
    };
    this.#connection = BusConnection.peer(socket, listener);
  }

  get stats(): ConsoleStats {
    return { ...this.#stats, way: this.#picture?.way ?? null };
  }

  /** The size of the picture; 0x0 while it is off. */
  get width(): number {
    return this.#shown?.width ?? 0;
  }

  get height(): number {
    return this.#shown?.height ?? 0;
  }

  /** Tells a new sink what is shown. */
  connected(): void {
    this.#shown = null;
    if (this.#isOn && this.#picture) this.#damage.add(0, 0, this.#picture.width, this.#picture.height);
    this.#report();
    this.#showCursor();
  }

  /** After `halted`, screens keep a copy of the picture. */
  [Symbol.dispose](): void {
    this.#connection[Symbol.dispose]();
    this.#incoming?.[Symbol.dispose]();
    this.#incoming = null;
    const pictures = [...this.#retired.splice(0), ...(this.#picture ? [this.#picture] : [])];
    this.#picture = null;
    this.#shown = null;
    for (const picture of pictures) this.#destroy(picture);
    if (this.#cursor) this.#destroy(this.#cursor);
    this.#cursor = null;
    this.#answer();
  }

  #receive(call: BusMessage): void {
    try {
      if (call.path !== uapi.LISTENER_PATH) this.#connection.refuse(call, EBADR);
      else if (call.interface === uapi.PROPERTIES) this.#answerProperties(call);
      else this.#handle(call);
    } catch (error) {
      // QEMU goes on: without a picture in shared memory, for example, it sends one.
      if (!(error instanceof ScanoutError)) throw error;
      this.#owner.logOnce(
        'warn',
        `qemu-dbus: ${this.#stats.label}: ${call.member} refused: ${error.message}`,
        `${call.member} ${error.code}`,
      );
      this.#connection.refuse(call, EINVAL);
    }
  }

  #answerProperties(call: BusMessage): void {
    const { member } = call;
    const isListener = call.string() === uapi.LISTENER;
    const interfaces = [uapi.LISTENER_MAP, uapi.LISTENER_DMABUF2];
    if (member === 'GetAll') {
      this.#connection.reply(call, (reply) =>
        reply.container('a', '{sv}', () => {
          if (!isListener) return;
          reply.container('e', 'sv', () => {
            reply.append('s', ['Interfaces']);
            reply.container('v', 'as', () => reply.append('as', [interfaces]));
          });
        }),
      );
    } else if (member === 'Get' && isListener && call.string() === 'Interfaces') {
      this.#connection.reply(call, (reply) => reply.container('v', 'as', () => reply.append('as', [interfaces])));
    } else {
      this.#connection.refuse(call, EBADR);
    }
  }

  /** Every call is answered at once, except for UpdateDMABUF and large pictures: QEMU waits for some of the answers. */
  #handle(call: BusMessage): void {
    switch (call.member) {
      case 'ScanoutMap':
        this.#scanoutMap(call);
        break;
      case 'UpdateMap':
        this.#update(call, 'mapped');
        break;
      case 'Scanout':
        this.#scanoutCopy(call);
        return;
      case 'Update':
        this.#updateCopy(call);
        return;
      case 'ScanoutDMABUF':
        this.#scanoutDmabuf(call);
        break;
      case 'ScanoutDMABUF2':
        this.#scanoutDmabuf2(call);
        break;
      case 'UpdateDMABUF':
        this.#isOn = this.#picture !== null;
        this.#update(call, 'dmabuf');
        if (call.wantsReply) this.#answers.push(this.#connection.later(call));
        return;
      case 'Disable':
        this.#isOn = false;
        break;
      case 'CursorDefine':
        this.#defineCursor(call);
        break;
      case 'MouseSet':
        this.#setMouse(call);
        break;
      default:
        this.#connection.refuse(call, EBADR);
        return;
    }
    this.#connection.reply(call);
  }

  #scanoutMap(call: BusMessage): void {
    const file = call.fd();
    try {
      const offset = call.u32();
      const rows = this.#rowsOf(call.u32(), call.u32(), call);
      this.#switchTo(new MappedPicture(file, offset, rows));
    } catch (error) {
      file[Symbol.dispose]();
      throw error;
    }
  }

  #rowsOf(width: number, height: number, call: BusMessage): Rows {
    return { width, height, stride: call.u32(), pixman: call.u32() };
  }

  /** A change of a picture that QEMU writes to itself. */
  #update(call: BusMessage, way: ConsolePicture['way']): void {
    const [x, y, width, height] = [call.i32(), call.i32(), call.i32(), call.i32()];
    if (this.#picture?.way !== way) throw new QemuDbusError('malformed', `there is no picture of the kind ${way}`);
    this.#changed(x, y, width, height);
  }

  #scanoutCopy(call: BusMessage): void {
    const rows = this.#rowsOf(call.u32(), call.u32(), call);
    const pixels = call.bytes();
    const old = this.#picture;
    if (old instanceof CopiedPicture && old.matches(rows)) {
      this.#copy(call, old, 0, 0, rows, pixels);
      return;
    }
    this.#incoming = new CopiedPicture(rows, this.#owner.budget);
    try {
      this.#copy(call, this.#incoming, 0, 0, rows, pixels);
    } catch (error) {
      this.#incoming[Symbol.dispose]();
      this.#incoming = null;
      throw error;
    }
  }

  #updateCopy(call: BusMessage): void {
    const [x, y, width, height] = [call.i32(), call.i32(), call.i32(), call.i32()];
    const rows = this.#rowsOf(width, height, call);
    const pixels = call.bytes();
    if (!(this.#picture instanceof CopiedPicture)) throw new QemuDbusError('malformed', 'there was no Scanout before');
    this.#copy(call, this.#picture, x, y, rows, pixels);
  }

  /** Takes over pixels, of a large picture a piece in each step of the connection, and answers. */
  #copy(call: BusMessage, picture: CopiedPicture, x: number, y: number, rows: Rows, pixels: Memory): void {
    let row = picture.write(x, y, rows, pixels);
    if (row === rows.height) {
      this.#copied(call, picture, x, y, rows, pixels);
      return;
    }
    this.#connection.goOn(call, () => {
      row = picture.write(x, y, rows, pixels, row);
      if (row === rows.height) this.#copied(call, picture, x, y, rows, pixels);
      return row < rows.height;
    });
  }

  #copied(
    call: BusMessage,
    picture: CopiedPicture,
    x: number,
    y: number,
    { width, height }: Rows,
    { length }: Memory,
  ): void {
    this.#stats.socketBytes += length;
    if (picture === this.#incoming) {
      this.#incoming = null;
      this.#switchTo(picture);
      this.#isOn = true;
    }
    this.#changed(x, y, width, height);
    this.#connection.reply(call);
  }

  /** The last value is `y0_top`, which is true if the first row is the lowest (QEMU's ui/egl-helpers.c, egl_fb_blit). */
  #scanoutDmabuf(call: BusMessage): void {
    const dmabuf = call.fd();
    try {
      const [width, height, stride, fourcc] = [call.u32(), call.u32(), call.u32(), call.u32()];
      const planes = [{ offset: 0, stride }];
      const [modifier, isBottomUp] = [call.u64(), call.boolean()];
      this.#switchTo(new DmabufPicture(dmabuf, { width, height, fourcc, modifier, planes, isBottomUp }));
    } catch (error) {
      dmabuf[Symbol.dispose]();
      throw error;
    }
  }

  #scanoutDmabuf2(call: BusMessage): void {
    const dmabufs = call.fds(MOST_PLANES);
    try {
      const [x, y, width, height] = [call.u32(), call.u32(), call.u32(), call.u32()];
      const [offsets, strides, count] = [call.u32s(MOST_PLANES), call.u32s(MOST_PLANES), call.u32()];
      const [fourcc, backingWidth, backingHeight, modifier] = [call.u32(), call.u32(), call.u32(), call.u64()];
      const isBottomUp = call.boolean();
      const isComplete = dmabufs.length === count && offsets.length === count && strides.length === count;
      const isInside = x + width <= backingWidth && y + height <= backingHeight;
      if (!isComplete || !isInside || width === 0 || height === 0)
        throw new QemuDbusError(
          'malformed',
          `${count} planes of ${width}x${height} in ${backingWidth}x${backingHeight}`,
        );
      const planes = offsets.map((offset, index) => ({ offset, stride: strides[index]! }));
      const layout = { width: backingWidth, height: backingHeight, fourcc, modifier, planes, isBottomUp };
      this.#switchTo(DmabufPicture.ofPlanes(dmabufs, layout));
      this.#rect.set(x, y, width, height);
    } catch (error) {
      for (const dmabuf of dmabufs) dmabuf[Symbol.dispose]();
      throw error;
    }
  }

  #switchTo(picture: ConsolePicture): void {
    if (this.#picture) this.#retired.push(this.#picture);
    this.#picture = picture;
    this.#rect.set(0, 0, picture.width, picture.height);
    this.#isOn = true;
    this.#stats.switches++;
  }

  #changed(x: number, y: number, width: number, height: number): void {
    this.#stats.updates++;
    if (width > 0 && height > 0) this.#damage.add(x, y, Math.min(width, 2 ** 20), Math.min(height, 2 ** 20));
  }

  /** Tells the sink what changed with the messages that have arrived: several changes become one flush. */
  #report(): void {
    const { sink } = this.#owner;
    const picture = this.#isOn ? this.#picture : null;
    if (sink && picture !== this.#shown) sink.scanout(this.scanout, picture, picture ? this.#rect : EMPTY_RECT);
    this.#shown = picture;
    if (picture) {
      this.#damage.clip(this.#rect);
      if (sink && (!this.#damage.isEmpty || this.#answers.length > 0))
        sink.flush(this.scanout, this.#damage, this.#answers.length > 0 ? this.#newFlush() : null);
    }
    this.#damage.clear();
    // Of a picture that was not shown.
    this.#answer();
    if (this.#retired.length > 0) for (const retired of this.#retired.splice(0)) this.#destroy(retired);
  }

  /** Answers when the frame is shown, or after a while. */
  #newFlush(): Flush {
    const answers = this.#answers;
    this.#answers = [];
    const answer = (): void => {
      clearTimeout(timer);
      for (const each of answers.splice(0)) each();
    };
    const timer = setTimeout(answer, ANSWER_MS);
    return { isFenced: true, done: answer };
  }

  #answer(): void {
    if (this.#answers.length > 0) for (const answer of this.#answers.splice(0)) answer();
  }

  #defineCursor(call: BusMessage): void {
    const [width, height, hotspotX, hotspotY] = [call.i32(), call.i32(), call.i32(), call.i32()];
    const cursor = new CursorPicture(width, height, call.bytes(), this.#owner.budget);
    const old = this.#cursor;
    this.#cursor = cursor;
    this.#hotspotX = Math.min(Math.max(hotspotX, 0), width - 1);
    this.#hotspotY = Math.min(Math.max(hotspotY, 0), height - 1);
    this.#showCursor();
    if (old) this.#destroy(old);
  }

  #setMouse(call: BusMessage): void {
    const wasOn = this.#cursorIsOn;
    this.#cursorX = call.i32();
    this.#cursorY = call.i32();
    this.#cursorIsOn = call.i32() !== 0;
    if (wasOn !== this.#cursorIsOn) this.#showCursor();
    else if (wasOn && this.#cursor) this.#owner.sink?.cursorMoved(this.scanout, this.#cursorX, this.#cursorY);
  }

  #showCursor(): void {
    const { sink } = this.#owner;
    if (this.#cursor && this.#cursorIsOn)
      sink?.cursor(this.scanout, this.#cursor, this.#hotspotX, this.#hotspotY, this.#cursorX, this.#cursorY);
    else sink?.cursor(this.scanout, null, 0, 0, 0, 0);
  }

  #destroy(picture: ConsolePicture | CursorPicture): void {
    this.#owner.sink?.destroyed(picture);
    picture[Symbol.dispose]();
  }
}
