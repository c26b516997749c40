import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Fourcc } from '../../protocols/drm-fourcc.ts';
import { RFB_PASSWORD_LENGTH, RFB_VERSION } from '../../protocols/rfb.ts';
import { Damage } from '../../src/core/damage.ts';
import { MemoryBudget } from '../../src/core/budget.ts';
import { UsageError } from '../../src/core/errors.ts';
import type { Framebuffer } from '../../src/core/framebuffer.ts';
import { MutableRect, type Rect, type Size } from '../../src/core/geometry.ts';
import { limitLog, type Log } from '../../src/core/log.ts';
import type { Monitor } from '../../src/core/monitor.ts';
import type {
  AttachOptions,
  DmabufImportRefused,
  Frame,
  Handle,
  Output,
  ScreenListener,
  Shadow,
} from '../../src/core/output.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { Pump } from '../../src/sys/pump.ts';
import { listenUnix, SocketFile } from '../../src/sys/socket.ts';
import { HeadlessOutput } from '../headless/output.ts';
import { copyChanges, copyImage, rowsMovedUp } from '../headless/scene.ts';
import { formatVncAddress, isLocal, type VncAddress } from './address.ts';
import type { CursorImage, Encoded } from './encoder.ts';
import { EncodingThread } from './encoding-thread.ts';
import type { VncError } from './errors.ts';
import { type Scroll, type ShownCursor, Viewer, type ViewerHost } from './viewer.ts';
import { WebFront } from './web-front.ts';

const MAX_VIEWERS = 16;
/** Viewers, browsers that load the page, and those that have not said which they are. */
const MAX_CONNECTIONS = 64;
/** How long a connection may keep silent before it gets the greeting of RFB: viewers wait for that, browsers speak first. */
const SILENCE_MS = 250;
/** The same for one from where a browser has the page: it opens connections before it has requests for them. */
const BROWSER_SILENCE_MS = 3000;
/** Of the picture that viewers get; a larger one is cut. */
const MAX_SIDE = 8192;
/** Of the guest's modes that a viewer may ask for. */
const MIN_SIDE = 64;
/** Pixels that are copied in one turn of the event loop, about a quarter of a millisecond. */
const AT_ONCE = 256 * 256;
/** A region is looked at for rows that have moved if it has so many pixels in each direction. */
const MIN_SCROLL = 64;
/** Of a program that has no other: a picture of 8192x8192. */
const MAX_MEMORY = 2 ** 28;

export interface VncOptions {
  readonly address: VncAddress;
  /** The first mode offered to the guest, in pixels. */
  readonly width: number;
  readonly height: number;
  /** Default 60000. */
  readonly refreshMhz?: number;
  /** At most 8 bytes: VNC uses no more. Needed for an address that other machines can reach. */
  readonly password?: string;
  readonly log?: Log;
}

export interface VncStats {
  readonly address: string;
  readonly viewers: number;
  /** Whether one of them operates the guest; the others watch. */
  readonly isDriven: boolean;
  /** Pictures, or parts of them, that were sent, and their bytes as encoded. */
  readonly updates: number;
  readonly bytes: number;
}

/**
 * A screen for VNC viewers: RFB 3.8 of RFC 6143 with the extensions that docs/vnc.md lists. It is a headless output, of
 * which a viewer gets what has changed when it asks: pixels are copied on this thread, and encoded on another.
 *
 * The first viewer drives the guest. Another one watches, unless it asks for the desktop of its own (`shared` is 0).
 */
export class VncOutput implements Output {
  readonly name: string;
  readonly #screen: HeadlessOutput;
  readonly #log: Log;
  readonly #stack: DisposableStack;
  readonly #host: ViewerHost;
  readonly #web: WebFront;
  /** Connections that have not said what they are. */
  readonly #undecided = new Set<Socket>();
  readonly #viewers = new Set<Viewer>();
  #driver: Viewer | null = null;
  #lastId = 0;
  #listener: ScreenListener | null = null;
  #thread: EncodingThread | null = null;
  /** Shared with the thread, which reads it while `#encoding` is not 0; null without viewers. */
  #canvas: Uint32Array | null = null;
  /**
   * What the copy of the picture for viewers is charged to; that of the guest, if it is to be bounded with its other memory.
   * Default: 256 MiB.
   */
  budget = new MemoryBudget(MAX_MEMORY);
  readonly #charge = new Charge();
  readonly #size = new MutableRect();
  /** As it was copied last, and whether it has another image by now. */
  #cursor: ShownCursor | null = null;
  #isCursorOld = false;
  readonly #region = new MutableRect();
  #isBlack = true;
  #lastSerial = 0;
  /** What the guest has damaged since it was copied last. */
  readonly #damage = new Damage();
  /** What is being copied of it, a piece in each turn of the event loop. */
  readonly #uncopied = new Damage();
  readonly #piece = new Damage();
  /** What of it differs from the picture before: many guests damage all of it, whatever they draw. */
  readonly #changed = new Damage();
  /** If rows of it may have moved up, where they are now; and where there are other ones. */
  #scroll: Scroll | null = null;
  readonly #unmoved = new Damage();
  /** How many viewers the thread encodes for. */
  #encoding = 0;
  #updates = 0;
  #bytes = 0;
  #isDisposed = false;
  readonly #copying = new Pump(() => this.#copyNext());

  private constructor(
    options: VncOptions,
    screen: HeadlessOutput,
    server: Server,
    web: WebFront,
    stack: DisposableStack,
  ) {
    const { address, password = null, log = () => undefined } = options;
    this.name = screen.name;
    this.#screen = screen;
    this.#web = web;
    this.#log = limitLog(log);
    this.#size.set(0, 0, options.width, options.height);
    this.#stack = stack.move();
    this.#host = {
      name: `scanout-bridge ${formatVncAddress(address)}`,
      password,
      size: this.#size,
      cursor: () => this.#currentCursor(),
      target: () => this.#listener,
      joined: (viewer, isExclusive) => this.#joined(viewer, isExclusive),
      woken: () => this.#serve(),
      resize: (size) => this.#resize(size),
      left: (viewer, error) => this.#left(viewer, error),
    };
    screen.onFrame(() => this.#frameShown());
    screen.onBlank(() => this.#blanked());
    server.on('error', (error) => this.#log('error', `${this.name}: cannot accept a viewer: ${error.message}`));
    web.onViewer = (stream) => this.#join(stream);
    server.maxConnections = MAX_CONNECTIONS;
    server.on('connection', (socket) => this.#accept(socket));
  }

  /**
   * Listens at `address`; a Unix socket has the file mode 0600. Browsers get a page with noVNC there. Rejects with UsageError for a mode out of range, a
   * password that VNC would cut, or an address that other machines can reach without a password; SysError as
   * `listenUnix`, or Node's error (EADDRINUSE, EADDRNOTAVAIL, EACCES).
   */
  static async open(options: VncOptions): Promise<VncOutput> {
    const { address, password, log = () => undefined } = options;
    const text = formatVncAddress(address);
    if (password !== undefined && (password === '' || Buffer.byteLength(password) > RFB_PASSWORD_LENGTH))
      throw new UsageError(`vnc: the password has to have 1 to ${RFB_PASSWORD_LENGTH} bytes: VNC uses no more`);
    if (!isLocal(address) && password === undefined)
      throw new UsageError(
        `vnc: ${text} can be reached by other machines: give it a password, or listen on 127.0.0.1 and use a tunnel (ssh -L)`,
      );
    using stack = new DisposableStack();
    const screen = stack.use(HeadlessOutput.open({ ...options, name: `vnc:${text}` }));
    // First: a connection that comes while this waits would have nothing to take it.
    const web = stack.use(await WebFront.open({ hasPassword: password !== undefined }));
    const server = createServer();
    stack.defer(() => server.close());
    if ('path' in address) {
      const listener = listenUnix(address.path);
      stack.use(SocketFile.at(address.path));
      server.listen({ fd: listener.take() });
    } else {
      server.listen(address);
    }
    await once(server, 'listening');
    if (!isLocal(address))
      log(
        'warn',
        `vnc: ANYONE WHO REACHES ${text} and knows the password operates this guest; what is seen and typed is NOT ENCRYPTED: prefer 127.0.0.1 and a tunnel`,
      );
    return new VncOutput(options, screen, server, web, stack);
  }

  /** Starts the thread that encodes, which the first viewer does otherwise, for a process that is about to confine itself. */
  prepare(): Promise<void> {
    return this.#startThread().ready;
  }

  get monitor(): Monitor {
    return this.#screen.monitor;
  }

  get imports() {
    return this.#screen.imports;
  }

  get readsPages() {
    return this.#screen.readsPages;
  }

  get takesFences() {
    return this.#screen.takesFences;
  }

  get shadowFormats(): readonly Fourcc[] {
    return this.#screen.shadowFormats;
  }

  get maxCursor(): Size {
    return this.#screen.maxCursor;
  }

  get stats(): VncStats {
    const { name } = this;
    return {
      address: name.slice('vnc:'.length),
      viewers: this.#joinedCount,
      isDriven: this.#driver !== null,
      updates: this.#updates,
      bytes: this.#bytes,
    };
  }

  /** Whether the guest's picture is on the screen. */
  get isDark(): boolean {
    return this.#screen.pictureSize === null;
  }

  attach(listener: ScreenListener, options: AttachOptions = {}): Disposable {
    const attachment = this.#screen.attach(listener, options);
    this.#listener = listener;
    return {
      [Symbol.dispose]: () => {
        if (this.#listener === listener) {
          this.#driver?.releaseInput();
          this.#listener = null;
        }
        attachment[Symbol.dispose]();
      },
    };
  }

  import(framebuffer: Framebuffer): Handle | DmabufImportRefused {
    return this.#screen.import(framebuffer);
  }

  createShadow(width: number, height: number, format: Fourcc): Shadow {
    return this.#screen.createShadow(width, height, format);
  }

  present(frame: Frame): void {
    this.#screen.present(frame);
  }

  /** Disconnects the viewers and closes the socket. */
  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#copying[Symbol.dispose]();
    for (const socket of this.#undecided) socket.destroy();
    for (const viewer of this.#viewers) viewer[Symbol.dispose]();
    this.#thread?.[Symbol.dispose]();
    this.#stack[Symbol.dispose]();
    this.#listener = null;
  }

  /** A viewer, or a browser: one whose first byte is not that of RFB's version. */
  #accept(socket: Socket): void {
    const heard = (first: Buffer | null): void => {
      clearTimeout(timer);
      socket.off('readable', read).off('close', closed).off('error', closed);
      this.#undecided.delete(socket);
      if (socket.destroyed) return;
      if (first) socket.unshift(first);
      if (first && first[0] !== RFB_VERSION.charCodeAt(0)) this.#web.accept(socket);
      else this.#join(socket);
    };
    const read = (): void => {
      const first = socket.read() as Buffer | null;
      if (first) heard(first);
    };
    const closed = (): void => {
      clearTimeout(timer);
      this.#undecided.delete(socket);
    };
    const silence = this.#web.isOpenAt(socket.remoteAddress) ? BROWSER_SILENCE_MS : SILENCE_MS;
    const timer = setTimeout(() => heard(null), silence);
    this.#undecided.add(socket);
    socket.setNoDelay(true);
    socket.on('readable', read).on('close', closed).on('error', closed);
  }

  #join(stream: Duplex): void {
    if (this.#viewers.size >= MAX_VIEWERS) {
      stream.destroy();
      this.#log('warn', `${this.name}: refused a viewer: ${MAX_VIEWERS} are connected`);
      return;
    }
    this.#viewers.add(new Viewer(stream, ++this.#lastId, this.#host));
  }

  get #joinedCount(): number {
    let count = 0;
    for (const viewer of this.#viewers) if (viewer.isJoined) count++;
    return count;
  }

  #joined(viewer: Viewer, isExclusive: boolean): void {
    if (isExclusive || !this.#driver) {
      if (this.#driver) {
        this.#driver.isDriver = false;
        this.#log('info', `${this.name}: another viewer drives the guest now`);
      }
      viewer.isDriver = true;
      this.#driver = viewer;
    }
    this.#log('info', `${this.name}: a viewer connected, which ${viewer.isDriver ? 'drives the guest' : 'watches'}`);
    this.#startThread();
    // Nothing was kept up to date for the first one.
    if (!this.#canvas) this.#frameShown();
  }

  /** It stays for the viewers to come. */
  #startThread(): EncodingThread {
    this.#thread ??= new EncodingThread(
      (encoded) => this.#encoded(encoded),
      (error) => this.#failed(error),
    );
    return this.#thread;
  }

  #left(viewer: Viewer, error: VncError | null): void {
    if (!this.#viewers.delete(viewer)) return;
    if (this.#driver === viewer) this.#driver = null;
    if (error) this.#log('warn', `${this.name}: disconnected a viewer: ${error.message}`);
    else if (viewer.isJoined && !this.#isDisposed) this.#log('info', `${this.name}: a viewer disconnected`);
    this.#thread?.forget(viewer.id);
    if (this.#joinedCount === 0) this.#drop();
  }

  /** Without viewers nothing is kept for them. */
  #drop(): void {
    this.#canvas = null;
    this.#charge.release();
    this.#cursor = null;
    this.#isCursorOld = true;
    this.#damage.clear();
    this.#uncopied.clear();
  }

  #resize({ width, height }: Size): boolean {
    if (Math.min(width, height) < MIN_SIDE || Math.max(width, height) > MAX_SIDE) return false;
    const { monitor } = this.#screen;
    if (monitor.width !== width || monitor.height !== height) this.#screen.resize(width, height);
    return true;
  }

  #frameShown(): void {
    const { shown } = this.#screen;
    if (shown.isDark) {
      this.#blanked();
      return;
    }
    const size = this.#size;
    const width = Math.min(shown.width, MAX_SIDE);
    const height = Math.min(shown.height, MAX_SIDE);
    const isResized = width !== size.width || height !== size.height;
    size.set(0, 0, width, height);
    if (this.#joinedCount === 0) return;
    if (shown.isCursorNew) this.#isCursorOld = true;
    if (isResized || this.#isBlack || !this.#canvas) {
      this.#newCanvas();
    } else {
      this.#damage.addAll(shown.damage);
      this.#damage.clip(size);
    }
    this.#isBlack = false;
    for (const viewer of this.#viewers) if (viewer.paintsCursor) viewer.add(shown.cursorDamage);
    this.#serve();
  }

  /** The guest turns its screen off: viewers see black, of the size that the picture had. */
  #blanked(): void {
    this.#isBlack = true;
    if (this.#joinedCount === 0) return;
    this.#newCanvas();
    // The screen is dark when this turn of the event loop is over.
    setImmediate(() => this.#serve());
  }

  #newCanvas(): void {
    const { width, height } = this.#size;
    this.#canvas = this.#charge.replace(this.budget, width * height * 4);
    if (!this.#canvas) {
      this.#log(
        'error',
        `${this.name}: no memory for ${width}x${height} pixels: ${this.budget.used} of ${this.budget.limit} bytes are in use; viewers are disconnected`,
      );
      for (const viewer of this.#viewers) viewer[Symbol.dispose]();
      return;
    }
    this.#damage.clear();
    this.#uncopied.clear();
    this.#changed.clear();
    this.#scroll = null;
    this.#uncopied.add(0, 0, width, height);
    for (const viewer of this.#viewers) viewer.addAll();
  }

  /** Copies its image, if that is another one than before. */
  #currentCursor(): ShownCursor | null {
    const { cursor, hotspotX, hotspotY } = this.#screen.shown;
    if (!cursor.buffer || this.#isBlack) return (this.#cursor = null);
    const before = this.#cursor;
    if (before && !this.#isCursorOld) {
      if (before.x !== cursor.dstX || before.y !== cursor.dstY)
        this.#cursor = { ...before, x: cursor.dstX, y: cursor.dstY };
      return this.#cursor;
    }
    this.#isCursorOld = false;
    const { srcWidth: width, srcHeight: height } = cursor;
    const pixels = new Uint32Array(new SharedArrayBuffer(width * height * 4));
    this.#read(() => copyImage(pixels, cursor));
    const within = (hotspot: number, length: number): number => Math.max(0, Math.min(hotspot, length - 1));
    const image: CursorImage = {
      width,
      height,
      hotspotX: within(hotspotX, width),
      hotspotY: within(hotspotY, height),
      pixels,
    };
    return (this.#cursor = { image, x: cursor.dstX, y: cursor.dstY, serial: ++this.#lastSerial });
  }

  /** Begins updates for viewers that wait for one, unless those before are still copied or encoded. */
  #serve(): void {
    if (this.#encoding > 0 || !this.#canvas || !this.#hasOne((viewer) => viewer.isWaiting)) return;
    if (this.#uncopied.isEmpty) {
      this.#uncopied.addAll(this.#damage);
      this.#damage.clear();
      this.#seekScroll(this.#canvas);
    }
    if (this.#uncopied.isEmpty) this.#encode(this.#canvas);
    else this.#copying.start();
  }

  #hasOne(is: (viewer: Viewer) => boolean): boolean {
    for (const viewer of this.#viewers) if (is(viewer)) return true;
    return false;
  }

  /** Sees whether what is to be copied has moved up. */
  #seekScroll(canvas: Uint32Array): void {
    this.#scroll = null;
    if (this.#uncopied.count !== 1) return;
    const region = this.#regionOf(this.#uncopied, 0);
    const { x, y, width, height } = region;
    if (width < MIN_SCROLL || height < MIN_SCROLL || !this.#hasOne((viewer) => viewer.takesScrolls)) return;
    const by = this.#read(() => rowsMovedUp(canvas, this.#size.width, this.#screen.shown, region)) ?? 0;
    if (by === 0) return;
    this.#unmoved.clear();
    this.#scroll = { to: { x, y, width, height: height - by }, by };
  }

  /** Copies a piece. At the end viewers get what has changed, even if the guest has gone on meanwhile. */
  #copyNext(): boolean {
    const canvas = this.#canvas;
    if (!canvas) return false;
    const { width } = this.#size;
    const scroll = this.#scroll;
    const move = scroll && { by: scroll.by, end: scroll.to.y + scroll.to.height + scroll.by, unmoved: this.#unmoved };
    this.#piece.clear();
    this.#uncopied.moveTo(this.#piece, AT_ONCE);
    for (let i = 0; i < this.#piece.count; i++) {
      const region = this.#regionOf(this.#piece, i);
      this.#read(() => copyChanges(canvas, width, this.#screen.shown, region, this.#changed, move));
    }
    if (!this.#uncopied.isEmpty) return true;
    this.#tellChanges();
    this.#encode(canvas);
    return false;
  }

  #tellChanges(): void {
    const scroll = this.#scroll;
    // Nothing is gained by moving what has to be sent anyway.
    const isMoved = scroll !== null && this.#unmoved.area * 2 <= scroll.to.width * (scroll.to.height + scroll.by);
    for (const viewer of this.#viewers) {
      if (!viewer.isJoined) continue;
      if (isMoved && viewer.canScroll(scroll)) {
        viewer.addScroll(scroll);
        viewer.add(this.#unmoved);
      } else {
        viewer.add(this.#changed);
      }
    }
    this.#changed.clear();
    this.#scroll = null;
  }

  /** Rectangle `i`, until the next call. */
  #regionOf(damage: Damage, i: number): Rect {
    return this.#region.set(damage.x(i), damage.y(i), damage.width(i), damage.height(i));
  }

  /** Has the thread encode for the viewers that are ready; nothing is copied meanwhile. */
  #encode(canvas: Uint32Array): void {
    const { width } = this.#size;
    for (const viewer of this.#viewers) {
      if (!viewer.isReady) continue;
      if (viewer.isResized) {
        viewer.sendSize();
        continue;
      }
      this.#encoding++;
      this.#thread!.encode({ ...viewer.takeRequest(), canvas, canvasWidth: width });
    }
  }

  #encoded(encoded: Encoded): void {
    this.#encoding--;
    this.#updates++;
    this.#bytes += encoded.bytes.length;
    this.#viewerOf(encoded.viewer)?.send(encoded);
    this.#serve();
  }

  /** The thread is gone, and every viewer's streams with it. The next viewer gets another one. */
  #failed(cause: Error): void {
    this.#log('error', `${this.name}: encoding failed, viewers are disconnected: ${cause.message}`);
    for (const viewer of this.#viewers) viewer[Symbol.dispose]();
    this.#thread = null;
    this.#encoding = 0;
  }

  #viewerOf(id: number): Viewer | undefined {
    for (const viewer of this.#viewers) if (viewer.id === id) return viewer;
    return undefined;
  }

  /** Reads a buffer; what cannot be read stays as it is, and gives nothing. */
  #read<T>(read: () => T): T | undefined {
    try {
      return read();
    } catch (error) {
      this.#log('error', `${this.name}: cannot read the picture: ${String(error)}`);
      return undefined;
    }
  }
}

/** The pixels that are shared with the thread, and who has been charged for them. */
class Charge {
  #budget: MemoryBudget | null = null;
  #bytes = 0;

  /** New pixels, in place of those before; null, and none are charged, if there is no memory for them. */
  replace(budget: MemoryBudget, bytes: number): Uint32Array | null {
    this.release();
    if (!budget.reserve(bytes)) return null;
    try {
      const pixels = new Uint32Array(new SharedArrayBuffer(bytes));
      this.#budget = budget;
      this.#bytes = bytes;
      return pixels;
    } catch (error) {
      budget.release(bytes);
      if (error instanceof RangeError) return null;
      throw error;
    }
  }

  release(): void {
    this.#budget?.release(this.#bytes);
    this.#budget = null;
    this.#bytes = 0;
  }
}
