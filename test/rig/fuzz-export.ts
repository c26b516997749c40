/**
 * Drives an exported display with consumers and guest programs that send anything: well-formed and malformed messages,
 * in any order, with descriptors of any kind, that read or do not, and leave at any point. A guest shows frames and
 * exports buffers meanwhile. Everything follows from one seed.
 */
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { inspect } from 'node:util';
import { PageRuns } from '../../src/sys/page-runs.ts';
import { ExportDisplay } from '../../display/export/display.ts';
import { ExportedDisplay } from '../../display/export/import.ts';
import * as wire from '../../protocols/export.ts';
import { DRM_FORMAT, DRM_FORMAT_MOD_LINEAR } from '../../protocols/drm-fourcc.ts';
import { MemoryBudget } from '../../src/core/budget.ts';
import { newBufferId } from '../../src/core/buffer-id.ts';
import { Damage } from '../../src/core/damage.ts';
import { type Framebuffer, newFramebufferId } from '../../src/core/framebuffer.ts';
import type { Frame, GuestBuffer, Handle, Output, ScreenListener } from '../../src/core/output.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { SysError } from '../../src/sys/errors.ts';
import { EventFd } from '../../src/sys/eventfd.ts';
import type { BorrowedFd } from '../../src/sys/fd.ts';
import { Mapping } from '../../src/sys/mapping.ts';
import { createMemfd } from '../../src/sys/memfd.ts';
import { connectUnix, UnixConnection } from '../../src/sys/socket.ts';
import { encode, RawConsumer } from '../unit/display/export/raw-consumer.ts';
import type { Random } from './random.ts';

const { EXPORT_EVENT, EXPORT_REQUEST, EXPORT_RELEASE_FENCE } = wire;

export interface ExportFuzzResult {
  messages: number;
  consumers: number;
  /** Frames that consumers got, buffers they imported, and releases that were right. */
  frames: number;
  imports: number;
  releases: number;
  errors: number;
  /** Connections that the display ended. */
  ended: number;
  /** Answers that guest programs got. */
  answers: number;
  /** What must not happen and did. */
  readonly faults: string[];
}

const SIDE = 16;
const LENGTH = SIDE * SIDE * 4;
const PAGE = 4096;
/** Longer than a busy machine takes to tell the display that its peers have gone. */
const PATIENCE_MS = 60_000;

/** Sends at least `messages` messages. */
export async function fuzzExport(random: Random, messages: number): Promise<ExportFuzzResult> {
  const result: ExportFuzzResult = {
    messages: 0,
    consumers: 0,
    frames: 0,
    imports: 0,
    releases: 0,
    errors: 0,
    ended: 0,
    answers: 0,
    faults: [],
  };
  using stack = new DisposableStack();
  const directory = mkdtempSync(join(tmpdir(), 'fuzz-export-'));
  stack.defer(() => rmSync(directory, { recursive: true }));
  const files = stack.use(new Files());
  const budget = new MemoryBudget(2 ** 26);
  const path = join(directory, 'export.sock');
  const channel = join(directory, 'channel.sock');
  const display = stack.use(
    ExportDisplay.open({
      path,
      channel,
      budget,
      scanouts: 2,
      monitor: { width: SIDE, height: SIDE, refreshMhz: 1_000_000 },
      log: (level, message) => {
        if (level === 'error') result.faults.push(message);
      },
    }),
  );
  const screens = display.outputs.map((output) => stack.use(new FuzzedScreen(output, random)));
  const guest = stack.use(new FuzzedGuest(display, random));
  const peers: Peer[] = [];
  while (result.messages < messages && result.faults.length === 0) {
    if (peers.length < 1 + random.below(8)) {
      const peer = connected(() =>
        random.chance(0.2)
          ? new HostileProgram(channel, random, result)
          : new HostileConsumer(path, random, files, result),
      );
      if (peer) peers.push(peer);
    }
    for (const peer of peers) peer.act();
    for (const screen of screens) screen.act();
    guest.act();
    await turn();
    for (let i = peers.length - 1; i >= 0; i--) {
      if (!peers[i]!.isOver && !random.chance(0.01)) continue;
      peers.splice(i, 1)[0]![Symbol.dispose]();
    }
  }
  for (const peer of peers) peer[Symbol.dispose]();
  await settled(display, screens, result);
  await checkWorks(path, screens[0]!, result);
  await settled(display, screens, result);
  guest[Symbol.dispose]();
  for (const screen of screens) screen[Symbol.dispose]();
  if (display.stats.buffers !== 0) result.faults.push(`${display.stats.buffers} buffers are left`);
  if (budget.used !== 0) result.faults.push(`${budget.used} bytes are charged to a guest that has nothing`);
  return result;
}

/** Null while the display has not accepted those that have connected before: on a busy machine it may learn of them late. */
function connected(connect: () => Peer): Peer | null {
  try {
    return connect();
  } catch (error) {
    if (error instanceof SysError && error.code === 'EAGAIN') return null;
    throw error;
  }
}

/** Once the consumers are gone, nothing but the screen holds a buffer. */
async function settled(
  display: ExportDisplay,
  screens: readonly FuzzedScreen[],
  result: ExportFuzzResult,
): Promise<void> {
  const end = performance.now() + PATIENCE_MS;
  while (display.stats.consumers.length > 0 || screens.some(({ held }) => held > 2)) {
    if (performance.now() > end) {
      result.faults.push(
        `held after all consumers have gone: ${inspect([display.stats, screens.map(({ held }) => held)])}`,
      );
      return;
    }
    await turn();
  }
}

async function checkWorks(path: string, screen: FuzzedScreen, result: ExportFuzzResult): Promise<void> {
  using client = await ExportedDisplay.connect(path);
  await screen.showFrame();
  for await (const frame of client) {
    using held = frame;
    // Other frames, and cursors, are of memory that only says to be a dma-buf.
    if (held.scanout !== 0 || held.primary?.buffer.kind !== 'memfd' || held.cursor !== null) continue;
    if (held.picture()?.width === SIDE) return;
  }
  result.faults.push('an honest consumer got no frame');
}

const SILENT: ScreenListener = {
  scanout: 0,
  input: null,
  presented: () => undefined,
  released: () => undefined,
  resized: () => undefined,
  importsChanged: () => undefined,
  closed: () => undefined,
};

/** A scanout whose guest flips between a few shadows and dma-bufs, some of which come and go. */
class FuzzedScreen implements Disposable {
  readonly #output: Output;
  readonly #random: Random;
  readonly #handles: Handle[] = [];
  readonly #memfd = createMemfd('dmabuf', PAGE);
  readonly #frame: Frame;
  #attachment: Disposable | null = null;
  #isInFlight = false;
  #onPresented: () => void = () => undefined;

  constructor(output: Output, random: Random) {
    this.#output = output;
    this.#random = random;
    const rect = { x: 0, y: 0, width: SIDE, height: SIDE };
    const damage = new Damage();
    damage.addRect(rect);
    this.#frame = {
      canvas: rect,
      primary: { handle: null, src: rect, dst: rect },
      cursor: { handle: null, src: rect, dst: rect },
      hotspotX: 0,
      hotspotY: 0,
      isCursorNew: false,
      damage,
      acquire: null,
      release: null,
    };
  }

  get held(): number {
    return this.#handles.filter(({ isHeld }) => isHeld).length;
  }

  act(): void {
    const random = this.#random;
    if (this.#isInFlight) return;
    if (random.chance(0.01)) this.#detach();
    else if (random.chance(0.3)) this.#show(random.chance(0.9) ? this.#handle() : null, random.chance(0.2));
    if (random.chance(0.02)) this.#handles.splice(random.below(this.#handles.length), 1)[0]?.[Symbol.dispose]();
  }

  /** Resolves when a frame with a picture is on screen. */
  async showFrame(): Promise<void> {
    while (this.#isInFlight) await turn();
    const shadow = this.#output.createShadow(SIDE, SIDE, DRM_FORMAT.XRGB8888);
    this.#handles.push(shadow);
    await new Promise<void>((resolve) => {
      this.#onPresented = resolve;
      this.#show(shadow, false);
    });
  }

  /** Nothing is on screen any more, not even the last picture. */
  [Symbol.dispose](): void {
    this.#attachment?.[Symbol.dispose]();
    this.#output.attach(SILENT)[Symbol.dispose]();
    for (const handle of this.#handles.splice(0)) handle[Symbol.dispose]();
    this.#memfd[Symbol.dispose]();
  }

  #show(primary: Handle | null, withCursor: boolean): void {
    const keepLast = this.#random.chance(0.5);
    this.#attachment ??= this.#output.attach(
      {
        ...SILENT,
        presented: () => {
          this.#isInFlight = false;
          this.#onPresented();
        },
      },
      { keepLast },
    );
    this.#isInFlight = true;
    this.#frame.primary.handle = primary;
    this.#frame.cursor.handle = withCursor ? this.#handle() : null;
    this.#output.present(this.#frame);
  }

  #detach(): void {
    this.#attachment?.[Symbol.dispose]();
    this.#attachment = null;
  }

  /** One that is not held, or a new one. */
  #handle(): Handle {
    const free = this.#handles.find(({ isHeld }) => !isHeld);
    if (free && this.#random.chance(0.8)) return free;
    const made = this.#random.chance(0.5)
      ? this.#output.createShadow(SIDE, SIDE, DRM_FORMAT.XRGB8888)
      : (this.#output.import({
          id: newFramebufferId(),
          width: SIDE,
          height: SIDE,
          format: DRM_FORMAT.XRGB8888,
          modifier: DRM_FORMAT_MOD_LINEAR,
          planes: [{ offset: 0, stride: SIDE * 4 }],
          backing: { kind: 'dmabuf', dmabuf: this.#memfd },
        }) as Handle);
    this.#handles.push(made);
    return made;
  }
}

/** Exports buffers, and takes them back. */
class FuzzedGuest implements Disposable {
  readonly #display: ExportDisplay;
  readonly #random: Random;
  readonly #memfd = createMemfd('guest', PAGE);
  readonly #pixels = Mapping.file(this.#memfd, 0, PAGE, 'read');
  readonly #buffers = new Map<number, GuestBuffer>();

  constructor(display: ExportDisplay, random: Random) {
    this.#display = display;
    this.#random = random;
  }

  act(): void {
    if (!this.#random.chance(0.1)) return;
    const resource = this.#random.below(6);
    const known = this.#buffers.get(resource);
    if (known) this.#display.buffers.removed(known);
    this.#buffers.delete(resource);
    if (this.#random.chance(0.3)) return;
    const framebuffer: Framebuffer = {
      id: newFramebufferId(),
      uuid: newBufferId(),
      width: LENGTH,
      height: 1,
      format: DRM_FORMAT.R8,
      modifier: DRM_FORMAT_MOD_LINEAR,
      planes: [{ offset: 0, stride: LENGTH }],
      backing: { kind: 'pages', isBlob: true, ranges: PageRuns.none, pixels: () => this.#pixels },
    };
    const isShared = this.#random.chance(0.5);
    const buffer: GuestBuffer = {
      resource,
      framebuffer,
      share: () =>
        isShared ? { ...framebuffer, backing: { kind: 'dmabuf', dmabuf: this.#memfd } } : new Error('no udmabuf'),
      unshare: () => undefined,
    };
    this.#buffers.set(resource, buffer);
    this.#display.buffers.added(buffer);
  }

  [Symbol.dispose](): void {
    for (const buffer of this.#buffers.values()) this.#display.buffers.removed(buffer);
    this.#buffers.clear();
    this.#pixels[Symbol.dispose]();
    this.#memfd[Symbol.dispose]();
  }
}

/** What consumers send along. */
class Files implements Disposable {
  readonly #stack = new DisposableStack();
  readonly all: readonly BorrowedFd[];

  constructor() {
    const device = openSync('/dev/zero', 'r+');
    this.#stack.defer(() => closeSync(device));
    this.all = [this.#stack.use(createMemfd('file', PAGE)), this.#stack.use(EventFd.create()), { fd: device }];
  }

  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }
}

interface Peer extends Disposable {
  readonly isOver: boolean;
  /** Sends a few messages. */
  act(): void;
}

class HostileConsumer implements Peer {
  readonly #random: Random;
  readonly #files: Files;
  readonly #result: ExportFuzzResult;
  readonly #consumer: RawConsumer;
  /** What it does not do. */
  readonly #reads: boolean;
  readonly #releases: boolean;
  readonly #ids: Uint8Array[] = [new Uint8Array(16)];
  readonly #frames: { readonly id: Uint8Array; readonly serial: number }[] = [];

  constructor(path: string, random: Random, files: Files, result: ExportFuzzResult) {
    this.#random = random;
    this.#files = files;
    this.#result = result;
    this.#reads = random.chance(0.9);
    this.#releases = random.chance(0.8);
    this.#consumer = new RawConsumer(path);
    result.consumers++;
  }

  get isOver(): boolean {
    return this.#consumer.isOver;
  }

  act(): void {
    const random = this.#random;
    if (this.#reads) this.#read();
    for (let i = random.below(8); i > 0 && !this.isOver; i--) this.#send();
  }

  [Symbol.dispose](): void {
    this.#consumer[Symbol.dispose]();
  }

  #read(): void {
    for (const { type, value } of this.#consumer.takeNow()) {
      if (type === EXPORT_EVENT.FRAME) {
        const { primary, cursor, serial } = value as ReturnType<typeof wire.export_frame.get>;
        this.#frames.push({ id: primary.id, serial });
        this.#learn(primary.id);
        this.#learn(cursor.id);
        this.#result.frames++;
      } else if (type === EXPORT_EVENT.EXPORTED) this.#learn((value as { id: Uint8Array }).id);
      else if (type === EXPORT_EVENT.IMPORTED) this.#result.imports++;
      else if (type === EXPORT_EVENT.ERROR) this.#result.errors++;
    }
    for (const fd of this.#consumer.fds.splice(0)) fd[Symbol.dispose]();
    if (this.isOver) this.#result.ended++;
  }

  #learn(id: Uint8Array): void {
    this.#ids.push(id);
    if (this.#ids.length > 32) this.#ids.splice(1, 1);
  }

  #send(): void {
    const random = this.#random;
    const fds = random.chance(0.02) ? [random.pick(this.#files.all)] : [];
    const id = random.chance(0.95) ? random.pick(this.#ids) : random.bytes(16);
    this.#result.messages++;
    if (random.chance(0.5)) {
      const index = random.below(this.#frames.length);
      const frame = this.#frames[index];
      if (!frame || !this.#releases) return;
      if (random.chance(0.95)) this.#frames.splice(index, 1);
      const flags = random.chance(0.02) ? EXPORT_RELEASE_FENCE : random.chance(0.9) ? 0 : random.below(2 ** 31) & ~1;
      const serial = random.chance(0.98) ? frame.serial : random.below(2 ** 31);
      this.#result.releases++;
      this.#transmit(
        encode(EXPORT_REQUEST.RELEASE, wire.export_release, {
          id: random.chance(0.98) ? frame.id : id,
          serial,
          flags,
        }),
        fds,
      );
    } else if (random.chance(0.95)) {
      this.#transmit(encode(EXPORT_REQUEST.IMPORT, wire.export_import, { id }), fds);
    } else {
      this.#transmit(this.#noise(), fds);
    }
  }

  /** Hardly a message: some are only unknown, some are cut off by what follows. */
  #noise(): Uint8Array {
    const random = this.#random;
    const bytes = random.bytes(8 + random.below(60));
    const view = new DataView(bytes.buffer);
    if (random.chance(0.95)) view.setUint32(0, bytes.length, true);
    if (random.chance(0.8)) view.setUint32(4, random.pick([0, 1, 0x100, 0x103, 0x201, 0xffff]), true);
    return random.chance(0.1) ? bytes.subarray(0, random.below(bytes.length) + 1) : bytes;
  }

  #transmit(bytes: Uint8Array, fds: readonly BorrowedFd[]): void {
    transmit(this.#consumer.connection, bytes, fds);
  }
}

class HostileProgram implements Peer {
  readonly #random: Random;
  readonly #result: ExportFuzzResult;
  readonly #connection: UnixConnection;
  isOver = false;

  constructor(path: string, random: Random, result: ExportFuzzResult) {
    this.#random = random;
    this.#result = result;
    this.#connection = UnixConnection.adopt(connectUnix(path));
  }

  act(): void {
    const random = this.#random;
    this.#read();
    for (let i = random.below(4); i > 0; i--) {
      this.#result.messages++;
      const message = encode(wire.PRODUCER_READY, wire.producer_ready, {
        resource: random.below(8),
        fourcc: random.chance(0.95) ? DRM_FORMAT.XRGB8888 : random.below(2 ** 31),
        width: random.chance(0.95) ? SIDE : random.below(2 ** 31),
        height: random.chance(0.95) ? SIDE : random.below(2 ** 31),
        offset: random.chance(0.95) ? 0 : random.below(2 ** 31),
        stride: random.chance(0.95) ? SIDE * 4 : random.below(2 ** 31),
        serial: BigInt(i),
      });
      const cut = random.chance(0.01) ? random.below(message.length) + 1 : message.length;
      transmit(this.#connection, message.subarray(0, cut), []);
    }
  }

  [Symbol.dispose](): void {
    this.#connection[Symbol.dispose]();
  }

  #read(): void {
    const chunk = new Uint8Array(4096);
    try {
      const count = this.#connection.recv(chunk, 0, chunk.length);
      if (count > 0) this.#result.answers += Math.floor(count / wire.producer_released.size);
      if (count === 0) this.isOver = true;
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      this.isOver = true;
    }
  }
}

/** The display may have closed its side. */
function transmit(connection: UnixConnection, bytes: Uint8Array, fds: readonly BorrowedFd[]): void {
  try {
    connection.send(bytes, fds);
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
  }
}
