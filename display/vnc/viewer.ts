import { createCipheriv, randomBytes, timingSafeEqual } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { BTN, KEY, KEY_CNT } from '../../protocols/input-event-codes.ts';
import { keyOfKeysym } from '../../protocols/keysyms.ts';
import { keyOfQnum } from '../../protocols/qemu-display1.ts';
import * as rfb from '../../protocols/rfb.ts';
import { Damage } from '../../src/core/damage.ts';
import { MutableRect, type Rect, type Size } from '../../src/core/geometry.ts';
import type { ScreenListener } from '../../src/core/output.ts';
import { Pump } from '../../src/sys/pump.ts';
import { ClientMessages, type ClientMessageHandler } from './client-messages.ts';
import { type CursorImage, type Encoded, type EncodeRequest, type PaintedCursor, rectHeader } from './encoder.ts';
import { VncError } from './errors.ts';
import { encodePixelFormat, mappedColours, type PixelFormat, XRGB } from './pixel-format.ts';

/** How long a greeting may take, and how long the answer to a wrong password does. */
const GREETING_MS = 30_000;
const WRONG_PASSWORD_MS = 1000;
/** Answers that wait for a viewer that does not read them, in bytes; its messages wait then, too. */
const MAX_REPLIES = 64 * 1024;
/** Continuous updates that the viewer has not confirmed, if it can. */
const MAX_UNCONFIRMED = 2;
/** What most viewers of other servers get. */
const DEFAULT_LEVEL = 2;
/** Sent as 0xe0 0x37 by viewers that follow the keyboard. */
const QNUM_PRINT = 0xb7;
const NOTCH = 120;

/** By the bits of a pointer event's mask. */
const BUTTONS = [BTN.LEFT, BTN.MIDDLE, BTN.RIGHT];
const { UP, DOWN, LEFT, RIGHT } = rfb.RFB_WHEEL_BITS;
const WHEELS = [
  { bit: UP, axis: 'vertical', v120: -NOTCH },
  { bit: DOWN, axis: 'vertical', v120: NOTCH },
  { bit: LEFT, axis: 'horizontal', v120: -NOTCH },
  { bit: RIGHT, axis: 'horizontal', v120: NOTCH },
] as const;

/** The cursor of the picture, and a number that is another one for each image. */
export interface ShownCursor extends PaintedCursor {
  readonly serial: number;
}

/** A part of the picture that was further down before. */
export interface Scroll {
  /** Where it is now, in pixels. */
  readonly to: Rect;
  /** How many rows it has moved up. */
  readonly by: number;
}

/** The server, for one viewer. */
export interface ViewerHost {
  readonly name: string;
  readonly password: string | null;
  /** Of the picture, in pixels. */
  readonly size: Size;
  /** Null if there is none. Copied when it is asked for. */
  cursor(): ShownCursor | null;
  /** Who gets the keys and the pointer; null while nothing does. */
  target(): Pick<ScreenListener, 'input' | 'scanout'> | null;
  /** The greeting is over. `isExclusive`: the viewer asks to be the one that drives the guest. */
  joined(viewer: Viewer, isExclusive: boolean): void;
  /** The viewer may be ready for an update. */
  woken(): void;
  /** Offers the guest another mode. False for a size that no monitor has. */
  resize(size: Size): boolean;
  /** Once, with the reason if it is not the viewer's own. */
  left(viewer: Viewer, error: VncError | null): void;
}

/** What of a picture has to be shared with the encoding thread. */
type ViewerRequest = Omit<EncodeRequest, 'canvas' | 'canvasWidth'>;

/** One connection, from the greeting on. What the viewer does wrong ends it and nothing else. */
export class Viewer implements ClientMessageHandler, Disposable {
  readonly id: number;
  readonly #socket: Duplex;
  readonly #host: ViewerHost;
  readonly #messages = new ClientMessages(this);
  /** The socket is paused until all messages that have arrived are handled. */
  readonly #reading = new Pump(() => this.#handleNext());
  #greeting: Greeting | null;
  #timer: NodeJS.Timeout | undefined;
  #isOver = false;
  #isDriver = false;

  #format: PixelFormat = XRGB;
  #encoding: number = rfb.RFB_ENCODING.RAW;
  #level = DEFAULT_LEVEL;
  #supported: ReadonlySet<number> = new Set();
  /** It was told that the server takes the numbers of keys. */
  #knowsQnums = false;
  #knowsFences = false;
  #knowsContinuous = false;

  /** The picture as the viewer has it. */
  #width = 0;
  #height = 0;
  /** The id of its only screen, as the viewer gave it. */
  #screen = 0;
  readonly #damage = new Damage();
  /** What its picture needs before `#damage` is sent, and that as it is sent. */
  #scroll: Scroll | null = null;
  #scrolled: Buffer[] = [];
  /** What it asked for and has not got; empty if nothing. */
  readonly #requested = new MutableRect();
  /** The result of `#area`. */
  readonly #within = new MutableRect();
  #continuous: Rect | null = null;
  #unconfirmed = 0;
  #shapeSerial = 0;

  #isEncoding = false;
  #isSending = false;
  /** Answers that come after the update that is being encoded. */
  #deferred: Buffer[] = [];
  #replyBytes = 0;
  /** A fence to be answered after so many messages. */
  #fence: Buffer | null = null;
  #fenceIn = 0;

  readonly #held = new Set<number>();
  #buttons = 0;

  constructor(socket: Duplex, id: number, host: ViewerHost) {
    this.#socket = socket;
    this.id = id;
    this.#host = host;
    this.#greeting = new Greeting(host.password);
    this.#timer = setTimeout(() => this.#end(new VncError('stalled', 'no greeting')), GREETING_MS).unref();
    socket.on('data', (bytes: Buffer) => this.#receive(bytes));
    socket.on('error', () => this.#end(null));
    socket.on('close', () => this.#end(null));
    socket.write(rfb.RFB_VERSION);
  }

  /** Whether it gets updates. */
  get isJoined(): boolean {
    return this.#greeting === null;
  }

  /** Whether keys, pointer and the size of the monitor are its own. */
  get isDriver(): boolean {
    return this.#isDriver;
  }

  set isDriver(isDriver: boolean) {
    if (this.#isDriver === isDriver) return;
    if (!isDriver) this.releaseInput();
    this.#isDriver = isDriver;
    // The cursor is in the picture now, or no longer.
    this.cursorChanged();
  }

  /** Whether the cursor is part of its picture: one who only watches has no pointer of the guest's. */
  get paintsCursor(): boolean {
    return !this.#isDriver || !this.#supported.has(rfb.RFB_ENCODING.CURSOR);
  }

  /** Whether an update can be sent, if there is anything new. */
  get isWaiting(): boolean {
    if (!this.isJoined || this.#isOver || this.#isEncoding || this.#isSending) return false;
    return this.#requested.width > 0 || (this.#continuous !== null && this.#unconfirmed < MAX_UNCONFIRMED);
  }

  /** Whether an update, or a new size, can and should be sent. */
  get isReady(): boolean {
    return this.isWaiting && (this.isResized || this.#hasShape || this.#scroll !== null || this.#isDamaged());
  }

  /** The picture has another size than the viewer has, which it can be told. */
  get isResized(): boolean {
    const { width, height } = this.#host.size;
    return (width !== this.#width || height !== this.#height) && this.#takesSizes;
  }

  /** Marks a part of the picture as changed. */
  add(damage: Damage): void {
    this.#damage.addAll(damage);
  }

  /** Whether it knows how to move a part of its picture. */
  get takesScrolls(): boolean {
    return this.#supported.has(rfb.RFB_ENCODING.COPY_RECT);
  }

  /** Whether it can be told what has moved: its picture has to have that as it was. */
  canScroll({ to, by }: Scroll): boolean {
    if (!this.takesScrolls || this.#scroll) return false;
    const isThere = to.x + to.width <= this.#width && to.y + to.height + by <= this.#height;
    const from = { ...to, y: to.y + by };
    return isThere && !overlapsAny(this.#damage, from);
  }

  /** Marks a part of the picture as moved; it `canScroll`. */
  addScroll(scroll: Scroll): void {
    this.#scroll = scroll;
    const cursor = this.paintsCursor ? this.#host.cursor() : null;
    if (!cursor) return;
    // The cursor has moved with what is below it, and is not where it belongs.
    const { width, height } = cursor.image;
    this.#damage.add(cursor.x, cursor.y - scroll.by, width, height);
    this.#damage.add(cursor.x, cursor.y, width, height);
    this.#damage.clip({ x: 0, y: 0, width: this.#width, height: this.#height });
  }

  /** Marks all of the picture as changed. */
  addAll(): void {
    this.#scroll = null;
    this.#damage.add(0, 0, this.#width, this.#height);
  }

  /** The cursor is elsewhere or has another image; marks it where it is now. */
  cursorChanged(): void {
    const cursor = this.#host.cursor();
    if (cursor) this.#damage.add(cursor.x, cursor.y, cursor.image.width, cursor.image.height);
  }

  /** Keys and buttons that are held here are let go. */
  releaseInput(): void {
    if (this.#held.size === 0 && this.#buttons === 0) return;
    this.#held.clear();
    this.#buttons = 0;
    this.#host.target()?.input?.releaseAll();
  }

  /** Tells a viewer that `isReady` of the new size. Updates follow when it asks again. */
  sendSize(): void {
    const { width, height } = this.#host.size;
    this.#width = width;
    this.#height = height;
    this.#damage.clear();
    this.addAll();
    this.#requested.set(0, 0, 0, 0);
    const isExtended = this.#supported.has(rfb.RFB_ENCODING.EXTENDED_DESKTOP_SIZE);
    if (isExtended) this.#reply(this.#desktopSize(rfb.RFB_RESIZED_BY_SERVER, 0));
    else this.#reply(update(1, rectHeader(0, 0, width, height, rfb.RFB_ENCODING.DESKTOP_SIZE)));
  }

  /** Takes what has changed out of a viewer that `isReady`, parts that lie within the picture; the answer goes to `send`. */
  takeRequest(): ViewerRequest {
    const cursor = this.#host.cursor();
    this.#scrolled = this.#takeScroll();
    const rects = this.#takeDamage();
    this.#requested.set(0, 0, 0, 0);
    this.#isEncoding = true;
    const shape = this.#hasShape ? (cursor?.image ?? NO_CURSOR) : null;
    if (shape) this.#shapeSerial = cursor?.serial ?? 0;
    return {
      viewer: this.id,
      format: this.#format,
      encoding: this.#encoding,
      level: this.#level,
      rects: Int32Array.from({ length: rects.count * 4 }, (_, at) => edge(rects, at)),
      painted: cursor && this.paintsCursor ? cursor : null,
      shape,
    };
  }

  /** Sends an update. */
  send({ rects, bytes }: Encoded): void {
    this.#isEncoding = false;
    if (this.#isOver) return;
    this.#isSending = true;
    this.#socket.cork();
    this.#socket.write(update(rects + this.#scrolled.length));
    for (const rect of this.#scrolled) this.#socket.write(rect);
    if (this.#continuous && this.#knowsFences) {
      this.#unconfirmed++;
      this.#socket.write(bytes);
      this.#socket.write(fenceMessage(rfb.RFB_FENCE_REQUEST | rfb.RFB_FENCE_BLOCK_BEFORE, NOTHING), () => this.#sent());
    } else {
      this.#socket.write(bytes, () => this.#sent());
    }
    this.#socket.uncork();
    this.#sendDeferred();
  }

  /** Disconnects. */
  [Symbol.dispose](): void {
    this.#end(null);
  }

  // What the viewer says.

  setPixelFormat(format: PixelFormat, hasColourMap: boolean): void {
    this.#format = format;
    if (hasColourMap) {
      const head = Buffer.from([rfb.RFB_SERVER.SET_COLOUR_MAP_ENTRIES, 0, 0, 0, 1, 0]);
      this.#reply(Buffer.concat([head, mappedColours()]));
    }
    // Of the pointer's image, too; pictures that the viewer has are its own business.
    this.#shapeSerial = -1;
  }

  setEncodings(encodings: readonly number[]): void {
    const { TIGHT, ZRLE, RAW, COMPRESSION_0, COMPRESSION_9, ...pseudo } = rfb.RFB_ENCODING;
    const usable: readonly number[] = [TIGHT, ZRLE, RAW];
    this.#encoding = encodings.find((encoding) => usable.includes(encoding)) ?? RAW;
    const level = encodings.find((encoding) => encoding >= COMPRESSION_0 && encoding <= COMPRESSION_9);
    this.#level = level === undefined ? DEFAULT_LEVEL : level - COMPRESSION_0;
    this.#supported = new Set(encodings);
    if (!this.#knowsContinuous && this.#supported.has(pseudo.CONTINUOUS_UPDATES)) {
      this.#knowsContinuous = true;
      this.#reply(Buffer.of(rfb.RFB_SERVER.END_OF_CONTINUOUS_UPDATES));
    }
    if (!this.#knowsFences && this.#supported.has(pseudo.FENCE)) {
      this.#knowsFences = true;
      this.#reply(fenceMessage(rfb.RFB_FENCE_REQUEST, NOTHING));
      this.#unconfirmed++;
    }
    this.cursorChanged();
  }

  requestUpdate(isIncremental: boolean, area: Rect): void {
    if (isIncremental && this.#continuous) return;
    if (!isIncremental) {
      this.#damage.addRect(area);
      this.#damage.clip({ x: 0, y: 0, width: this.#width, height: this.#height });
      if (this.#supported.has(rfb.RFB_ENCODING.EXTENDED_DESKTOP_SIZE) && !this.isResized)
        this.#reply(this.#desktopSize(rfb.RFB_RESIZED_BY_SERVER, 0));
    }
    // After the size: TigerVNC looks at the first update for whether it may set one.
    if (!this.#knowsQnums && this.#supported.has(rfb.RFB_ENCODING.QEMU_EXTENDED_KEY)) {
      this.#knowsQnums = true;
      this.#reply(update(1, rectHeader(0, 0, 0, 0, rfb.RFB_ENCODING.QEMU_EXTENDED_KEY)));
    }
    unite(this.#requested, area);
    this.#host.woken();
  }

  key(isPressed: boolean, keysym: number, qnum: number): void {
    if (!this.#isDriver) return;
    const code = qnum === QNUM_PRINT ? KEY.SYSRQ : qnum > 0 ? keyOfQnum(qnum) : keyOfKeysym(keysym);
    // A key that is held is not repeated.
    if (code === 0 || code >= KEY_CNT || this.#held.has(code) === isPressed) return;
    if (isPressed) this.#held.add(code);
    else this.#held.delete(code);
    const input = this.#host.target()?.input;
    input?.key(code, isPressed);
    input?.frame();
  }

  pointer(buttons: number, x: number, y: number): void {
    const target = this.#host.target();
    if (!this.#isDriver || !target?.input) return;
    const { input, scanout } = target;
    const changed = buttons ^ this.#buttons;
    this.#buttons = buttons;
    input.pointerMovedTo(scanout, x, y);
    BUTTONS.forEach((code, bit) => {
      if (changed & (1 << bit)) input.button(code, (buttons & (1 << bit)) !== 0);
    });
    for (const { bit, axis, v120 } of WHEELS) if (changed & buttons & (1 << bit)) input.wheel(axis, v120);
    input.frame();
  }

  continuousUpdates(area: Rect | null): void {
    this.#continuous = area;
    this.#unconfirmed = 0;
    if (area) this.#host.woken();
    else this.#reply(Buffer.of(rfb.RFB_SERVER.END_OF_CONTINUOUS_UPDATES));
  }

  fence(flags: number, payload: Buffer): void {
    if ((flags & rfb.RFB_FENCE_REQUEST) === 0) {
      this.#unconfirmed = Math.max(0, this.#unconfirmed - 1);
      this.#host.woken();
      return;
    }
    this.#answerFence();
    const known = rfb.RFB_FENCE_BLOCK_BEFORE | rfb.RFB_FENCE_BLOCK_AFTER | rfb.RFB_FENCE_SYNC_NEXT;
    // Messages are handled in order, and answers follow the update before: that is all that the first two flags ask for.
    this.#fence = fenceMessage(flags & known, payload);
    this.#fenceIn = flags & rfb.RFB_FENCE_SYNC_NEXT ? 2 : 1;
  }

  setDesktopSize(size: Size, screen: number | null): void {
    if (!this.#isDriver) {
      this.#reply(this.#desktopSize(rfb.RFB_RESIZED_BY_CLIENT, rfb.RFB_RESIZE_PROHIBITED));
      return;
    }
    const isPossible = screen !== null && this.#host.resize(size);
    if (isPossible) this.#screen = screen;
    const isSame = size.width === this.#width && size.height === this.#height;
    const forwarded = isSame ? 0 : rfb.RFB_RESIZE_FORWARDED;
    this.#reply(this.#desktopSize(rfb.RFB_RESIZED_BY_CLIENT, isPossible ? forwarded : rfb.RFB_RESIZE_INVALID));
  }

  handled(): void {
    if (this.#fence && --this.#fenceIn === 0) this.#answerFence();
  }

  #answerFence(): void {
    if (this.#fence) this.#reply(this.#fence);
    this.#fence = null;
  }

  #receive(bytes: Buffer): void {
    if (this.#isOver) return;
    try {
      if (this.#greeting) this.#greet(this.#greeting, bytes);
      else this.#read(bytes);
    } catch (error) {
      this.#fail(error);
    }
  }

  #read(bytes: Buffer): void {
    this.#messages.add(bytes);
    this.#socket.pause();
    this.#reading.start();
  }

  /** Handles a message, unless the viewer does not read its answers. */
  #handleNext(): boolean {
    if (this.#isOver || this.#replyBytes > MAX_REPLIES) return false;
    try {
      if (this.#messages.next()) return true;
    } catch (error) {
      this.#fail(error);
      return false;
    }
    this.#socket.resume();
    return false;
  }

  #fail(error: unknown): void {
    this.#end(error instanceof VncError ? error : new VncError('internal', String(error), { cause: error }));
  }

  #greet(greeting: Greeting, bytes: Buffer): void {
    const answer = greeting.feed(bytes);
    if (answer.length > 0) this.#socket.write(answer);
    if (greeting.isWrong) {
      const wrong = greeting.refusal();
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => {
        this.#socket.end(wrong, () => this.#end(new VncError('password', 'the password is wrong')));
      }, WRONG_PASSWORD_MS).unref();
      this.#socket.pause();
      return;
    }
    if (greeting.isExclusive === null) return;
    clearTimeout(this.#timer);
    this.#greeting = null;
    const { name, size } = this.#host;
    this.#width = size.width;
    this.#height = size.height;
    this.addAll();
    this.#socket.write(serverInit(size, name));
    this.#host.joined(this, greeting.isExclusive);
    if (greeting.rest.length > 0) this.#read(greeting.rest);
  }

  get #takesSizes(): boolean {
    const { DESKTOP_SIZE, EXTENDED_DESKTOP_SIZE } = rfb.RFB_ENCODING;
    return this.#supported.has(EXTENDED_DESKTOP_SIZE) || this.#supported.has(DESKTOP_SIZE);
  }

  get #hasShape(): boolean {
    return !this.paintsCursor && this.#shapeSerial !== (this.#host.cursor()?.serial ?? 0);
  }

  #isDamaged(): boolean {
    return overlapsAny(this.#damage, this.#area());
  }

  /** Where updates may be now, until the next call. A viewer that does not know the size has parts that do not change. */
  #area(): MutableRect {
    const area = this.#within.copy(this.#requested);
    if (this.#continuous) unite(area, this.#continuous);
    const { width, height } = this.#host.size;
    const right = Math.min(area.x + area.width, this.#width, width);
    const bottom = Math.min(area.y + area.height, this.#height, height);
    return area.set(area.x, area.y, Math.max(0, right - area.x), Math.max(0, bottom - area.y));
  }

  /** The rectangle for what has moved. What does not lie within the area is damaged instead. */
  #takeScroll(): Buffer[] {
    if (!this.#scroll) return [];
    const { to, by } = this.#scroll;
    this.#scroll = null;
    const area = this.#area();
    const isWithin =
      to.x >= area.x &&
      to.y >= area.y &&
      to.x + to.width <= area.x + area.width &&
      to.y + to.height <= area.y + area.height;
    if (!isWithin) {
      this.#damage.addRect(to);
      return [];
    }
    const source = Buffer.alloc(4);
    source.writeUInt16BE(to.x, 0);
    source.writeUInt16BE(to.y + by, 2);
    const head = rectHeader(to.x, to.y, to.width, to.height, rfb.RFB_ENCODING.COPY_RECT);
    return [Buffer.concat([head, source])];
  }

  /** Removes the damage within the area and returns it. */
  #takeDamage(): Damage {
    const { x, y, width, height } = this.#area();
    const taken = new Damage();
    taken.addAll(this.#damage);
    taken.clip({ x, y, width, height });
    const left = new Damage();
    for (let i = 0; i < this.#damage.count; i++) {
      const right = this.#damage.x(i) + this.#damage.width(i);
      const bottom = this.#damage.y(i) + this.#damage.height(i);
      const top = Math.max(this.#damage.y(i), y);
      const end = Math.min(bottom, y + height);
      // Above, below, and at both sides of the area.
      left.add(this.#damage.x(i), this.#damage.y(i), this.#damage.width(i), Math.min(bottom, y) - this.#damage.y(i));
      left.add(
        this.#damage.x(i),
        Math.max(this.#damage.y(i), y + height),
        this.#damage.width(i),
        bottom - Math.max(this.#damage.y(i), y + height),
      );
      left.add(this.#damage.x(i), top, Math.min(right, x) - this.#damage.x(i), end - top);
      left.add(Math.max(this.#damage.x(i), x + width), top, right - Math.max(this.#damage.x(i), x + width), end - top);
    }
    this.#damage.clear();
    this.#damage.addAll(left);
    return taken;
  }

  #desktopSize(reason: number, result: number): Buffer {
    const head = rectHeader(reason, result, this.#width, this.#height, rfb.RFB_ENCODING.EXTENDED_DESKTOP_SIZE);
    const screens = Buffer.alloc(20);
    screens[0] = 1;
    screens.writeUInt32BE(this.#screen, 4);
    screens.writeUInt16BE(this.#width, 12);
    screens.writeUInt16BE(this.#height, 14);
    return update(1, Buffer.concat([head, screens]));
  }

  /** After the update that is being encoded, because the viewer may count on that. */
  #reply(bytes: Buffer): void {
    this.#replyBytes += bytes.length;
    if (this.#isEncoding) this.#deferred.push(bytes);
    else this.#write(bytes);
  }

  #sendDeferred(): void {
    for (const reply of this.#deferred.splice(0)) this.#write(reply);
  }

  #write(reply: Buffer): void {
    if (this.#isOver) return;
    this.#socket.write(reply, () => {
      this.#replyBytes -= reply.length;
      if (this.#socket.isPaused()) this.#reading.start();
    });
  }

  #sent(): void {
    this.#isSending = false;
    if (!this.#isOver) this.#host.woken();
  }

  #end(error: VncError | null): void {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#reading[Symbol.dispose]();
    this.releaseInput();
    this.#socket.destroy();
    this.#host.left(this, error);
  }
}

const NOTHING = Buffer.alloc(0);
const NO_CURSOR: CursorImage = { width: 0, height: 0, hotspotX: 0, hotspotY: 0, pixels: new Uint32Array(0) };

/** The greeting of RFC 6143, 7.1 to 7.3.1, until the viewer says whether it shares the desktop. */
class Greeting {
  /** Null until it is known. */
  isExclusive: boolean | null = null;
  isWrong = false;
  /** What came after the greeting. */
  rest: Buffer = NOTHING;
  readonly #password: string | null;
  readonly #challenge = randomBytes(rfb.RFB_CHALLENGE_LENGTH);
  #minor = 0;
  #step: 'version' | 'security' | 'password' | 'init' = 'version';

  constructor(password: string | null) {
    this.#password = password;
  }

  /** Returns what to answer. Throws VncError `protocol`. */
  feed(bytes: Buffer): Buffer {
    this.rest = Buffer.concat([this.rest, bytes]);
    const answers: Buffer[] = [];
    while (this.isExclusive === null && !this.isWrong && this.rest.length >= this.#length) {
      const message = this.rest.subarray(0, this.#length);
      this.rest = this.rest.subarray(this.#length);
      answers.push(this.#next(message));
    }
    return Buffer.concat(answers);
  }

  /** The end of a greeting with a wrong password. */
  refusal(): Buffer {
    const reason = Buffer.from('the password is wrong');
    return Buffer.concat([u32(1), ...(this.#minor >= 8 ? [u32(reason.length), reason] : [])]);
  }

  get #length(): number {
    return { version: rfb.RFB_VERSION.length, security: 1, password: rfb.RFB_CHALLENGE_LENGTH, init: 1 }[this.#step];
  }

  get #security(): number {
    return this.#password === null ? rfb.RFB_SECURITY_NONE : rfb.RFB_SECURITY_VNC;
  }

  #next(message: Buffer): Buffer {
    switch (this.#step) {
      case 'version': {
        const [, major, minor] = /^RFB (\d{3})\.(\d{3})\n$/.exec(message.toString('latin1')) ?? [];
        if (Number(major) !== 3) throw new VncError('protocol', 'not a VNC viewer');
        this.#minor = Number(minor) >= 8 ? 8 : Number(minor) === 7 ? 7 : 3;
        if (this.#minor >= 7) {
          this.#step = 'security';
          return Buffer.of(1, this.#security);
        }
        return Buffer.concat([u32(this.#security), this.#begin()]);
      }
      case 'security':
        if (message[0] !== this.#security)
          throw new VncError('protocol', `security type ${message[0]!} was not offered`);
        return this.#begin();
      case 'password':
        this.isWrong = !timingSafeEqual(message, encrypt(this.#challenge, this.#password!));
        this.#step = 'init';
        return this.isWrong ? NOTHING : u32(0);
      case 'init':
        this.isExclusive = message[0] === 0;
        return NOTHING;
    }
  }

  /** Authentication begins. */
  #begin(): Buffer {
    this.#step = this.#password === null ? 'init' : 'password';
    if (this.#password !== null) return this.#challenge;
    return this.#minor >= 8 ? u32(0) : NOTHING;
  }
}

/** VNC authentication: DES, whose key has the bits of each byte in reverse. Node has it as three rounds with one key. */
function encrypt(challenge: Buffer, password: string): Buffer {
  const key = Buffer.alloc(rfb.RFB_PASSWORD_LENGTH);
  key.set(Buffer.from(password, 'latin1').subarray(0, key.length));
  const reversed = key.map((byte) =>
    [0, 1, 2, 3, 4, 5, 6, 7].reduce((all, bit) => all | (((byte >> bit) & 1) << (7 - bit)), 0),
  );
  const cipher = createCipheriv('des-ede3-ecb', Buffer.concat([reversed, reversed, reversed]), null);
  cipher.setAutoPadding(false);
  return Buffer.concat([cipher.update(challenge), cipher.final()]);
}

function serverInit({ width, height }: Size, name: string): Buffer {
  const head = Buffer.alloc(4);
  head.writeUInt16BE(width, 0);
  head.writeUInt16BE(height, 2);
  const text = Buffer.from(name);
  return Buffer.concat([head, encodePixelFormat(XRGB), u32(text.length), text]);
}

/** The start of a FramebufferUpdate, or all of one. */
function update(rects: number, body: Buffer = NOTHING): Buffer {
  const head = Buffer.of(rfb.RFB_SERVER.FRAMEBUFFER_UPDATE, 0, rects >> 8, rects);
  return Buffer.concat([head, body]);
}

function fenceMessage(flags: number, payload: Buffer): Buffer {
  return Buffer.concat([Buffer.of(rfb.RFB_SERVER.FENCE, 0, 0, 0), u32(flags), Buffer.of(payload.length), payload]);
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
}

/** Grows `rect` to contain `other`. An empty one contains nothing. */
function unite(rect: MutableRect, other: Rect): void {
  if (other.width === 0 || other.height === 0) return;
  if (rect.width === 0) {
    rect.copy(other);
    return;
  }
  const x = Math.min(rect.x, other.x);
  const y = Math.min(rect.y, other.y);
  const right = Math.max(rect.x + rect.width, other.x + other.width);
  const bottom = Math.max(rect.y + rect.height, other.y + other.height);
  rect.set(x, y, right - x, bottom - y);
}

function overlapsAny(damage: Damage, area: Rect): boolean {
  for (let i = 0; i < damage.count; i++) if (overlaps(damage, i, area)) return true;
  return false;
}

function overlaps(damage: Damage, i: number, { x, y, width, height }: Rect): boolean {
  return (
    damage.x(i) < x + width &&
    damage.x(i) + damage.width(i) > x &&
    damage.y(i) < y + height &&
    damage.y(i) + damage.height(i) > y
  );
}

/** Number `at` of x, y, width and height of each rectangle. */
function edge(damage: Damage, at: number): number {
  const i = at >> 2;
  return [damage.x(i), damage.y(i), damage.width(i), damage.height(i)][at & 3]!;
}
