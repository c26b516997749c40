/**
 * Drives ExportedDisplay with bridges that send anything: frames of buffers that exist or do not, descriptors of any
 * kind, answers that were not asked for. A program reads the frames meanwhile. Everything follows from one seed.
 */
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { inspect } from 'node:util';
import { ExportedDisplay, ExportError } from '../../display/export/import.ts';
import * as wire from '../../protocols/export.ts';
import { DRM_FORMAT, DRM_FORMAT_MOD_LINEAR } from '../../protocols/drm-fourcc.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { SysError } from '../../src/sys/errors.ts';
import { EventFd } from '../../src/sys/eventfd.ts';
import type { BorrowedFd } from '../../src/sys/fd.ts';
import { createMemfd } from '../../src/sys/memfd.ts';
import { acceptUnix, listenUnix, UnixConnection } from '../../src/sys/socket.ts';
import { encode } from '../unit/display/export/raw-consumer.ts';
import type { Random } from './random.ts';

const { EXPORT_EVENT, EXPORT_REQUEST } = wire;
const SIDE = 16;
const PAGE = 4096;
const IDS = Array.from({ length: 4 }, (_, i) => new Uint8Array(16).fill(i + 1));

export interface ImportFuzzResult {
  messages: number;
  connections: number;
  /** Frames and pictures that the program got. */
  frames: number;
  pictures: number;
  /** Connections that ended with an ExportError. */
  ended: number;
  /** What must not happen and did. */
  readonly faults: string[];
}

/** Sends at least `messages` messages. */
export async function fuzzImport(random: Random, messages: number): Promise<ImportFuzzResult> {
  const result: ImportFuzzResult = { messages: 0, connections: 0, frames: 0, pictures: 0, ended: 0, faults: [] };
  using stack = new DisposableStack();
  const directory = mkdtempSync(join(tmpdir(), 'fuzz-import-'));
  stack.defer(() => rmSync(directory, { recursive: true }));
  const path = join(directory, 'socket');
  const listener = stack.use(listenUnix(path));
  const device = openSync('/dev/zero', 'r+');
  stack.defer(() => closeSync(device));
  const sealed = stack.use(createMemfd('sealed', PAGE));
  const others = [stack.use(createMemfd('unsealed', PAGE, 0)), stack.use(EventFd.create()), { fd: device }];
  while (result.messages < messages && result.faults.length === 0) {
    const opening = open(path);
    result.connections++;
    using connection = UnixConnection.adopt(acceptUnix(listener)!);
    const bridge = new HostileBridge(connection, random, sealed, others, result);
    bridge.greet();
    const program = read(opening, random, result);
    for (let batches = random.below(40); batches >= 0 && !bridge.isOver; batches--) {
      for (let i = random.below(16); i > 0; i--) bridge.send();
      await turn();
      bridge.answer();
    }
    connection[Symbol.dispose]();
    await program;
  }
  return result;
}

async function open(path: string): Promise<ExportedDisplay> {
  return ExportedDisplay.connect(path);
}

/** Reads what comes until the display ends. */
async function read(opening: Promise<ExportedDisplay>, random: Random, result: ImportFuzzResult): Promise<void> {
  try {
    using display = await opening;
    for await (const frame of display) {
      result.frames++;
      try {
        if (random.chance(0.5) && frame.picture()) result.pictures++;
      } catch (error) {
        if (!(error instanceof ExportError || error instanceof SysError)) throw error;
      }
      if (random.chance(0.9)) frame[Symbol.dispose]();
    }
  } catch (error) {
    if (error instanceof ExportError) result.ended++;
    else result.faults.push(inspect(error));
  }
}

class HostileBridge {
  isOver = false;
  readonly #connection: UnixConnection;
  readonly #random: Random;
  readonly #sealed: BorrowedFd;
  readonly #others: readonly BorrowedFd[];
  readonly #result: ImportFuzzResult;
  #serial = 0;
  #requests = Buffer.alloc(0);

  constructor(
    connection: UnixConnection,
    random: Random,
    sealed: BorrowedFd,
    others: readonly BorrowedFd[],
    result: ImportFuzzResult,
  ) {
    this.#connection = connection;
    this.#random = random;
    this.#sealed = sealed;
    this.#others = others;
    this.#result = result;
  }

  greet(): void {
    const version = this.#random.chance(0.99) ? wire.EXPORT_VERSION : 7;
    this.#transmit(encode(EXPORT_EVENT.HELLO, wire.export_hello, { version, scanouts: 1 }));
  }

  send(): void {
    const random = this.#random;
    const id = random.pick(IDS);
    const odd = (honest: number): number => (random.chance(0.98) ? honest : random.below(2 ** 31));
    this.#result.messages++;
    switch (random.below(12)) {
      case 0:
        this.#transmit(encode(EXPORT_EVENT.EXPORTED, wire.export_exported, { id, length: odd(PAGE) }));
        return;
      case 1:
        this.#transmit(encode(EXPORT_EVENT.GONE, wire.export_gone, { id }));
        return;
      case 2:
        this.#transmit(encode(EXPORT_EVENT.REVOKED, wire.export_revoked, { serial: random.below(this.#serial + 2) }));
        return;
      case 3:
        if (random.chance(0.9)) return;
        this.#transmit(
          encode(EXPORT_EVENT.ERROR, wire.export_error, { code: random.below(9), request: odd(0x102), id }),
        );
        return;
      case 4:
        if (random.chance(0.95)) return;
        this.#transmit(random.bytes(1 + random.below(60)));
        return;
      case 5:
        if (random.chance(0.95)) return;
        this.#transmit(
          encode(EXPORT_EVENT.IMPORTED, wire.export_imported, { id, length: odd(PAGE), kind: random.below(4) }),
          [random.pick(this.#others)],
        );
        return;
      default:
        this.#frame(id, odd);
    }
  }

  /** Answers the client's requests, mostly as a bridge would. */
  answer(): void {
    const chunk = new Uint8Array(65536);
    try {
      const count = this.#connection.recv(chunk, 0, chunk.length);
      if (count === 0) this.isOver = true;
      if (count > 0) this.#requests = Buffer.concat([this.#requests, chunk.subarray(0, count)]);
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      this.isOver = true;
    }
    while (this.#requests.length >= wire.export_header.size) {
      const { size, type } = wire.export_header.decode(this.#requests);
      if (this.#requests.length < size) return;
      if (type === EXPORT_REQUEST.IMPORT) this.#handOver(wire.export_import.decode(this.#requests).id);
      this.#requests = this.#requests.subarray(size);
    }
  }

  #handOver(id: Uint8Array): void {
    const random = this.#random;
    if (random.chance(0.1)) {
      const { NO_SUCH_BUFFER } = wire.EXPORT_ERROR;
      this.#transmit(
        encode(EXPORT_EVENT.ERROR, wire.export_error, { code: NO_SUCH_BUFFER, request: EXPORT_REQUEST.IMPORT, id }),
      );
      return;
    }
    const kind = random.chance(0.8) ? wire.EXPORT_KIND.MEMFD : wire.EXPORT_KIND.DMABUF;
    const length = random.chance(0.95) ? PAGE : random.below(2 ** 31);
    const fd = random.chance(0.97) ? this.#sealed : random.pick(this.#others);
    this.#transmit(encode(EXPORT_EVENT.IMPORTED, wire.export_imported, { id, kind, length }), [fd]);
  }

  #frame(id: Uint8Array, odd: (honest: number) => number): void {
    const random = this.#random;
    const rect = { x: odd(0), y: odd(0), width: odd(SIDE), height: odd(SIDE) };
    const layer = {
      id,
      modifier: random.chance(0.98) ? DRM_FORMAT_MOD_LINEAR : 1n,
      width: odd(SIDE),
      height: odd(SIDE),
      fourcc: odd(DRM_FORMAT.XRGB8888),
      planes: odd(1),
      offsets: [odd(0), 0, 0, 0],
      strides: [odd(SIDE * 4), 0, 0, 0],
      src: rect,
      dst: rect,
    };
    const hasFence = random.chance(0.01);
    this.#transmit(
      encode(EXPORT_EVENT.FRAME, wire.export_frame, {
        scanout: odd(0),
        flags: hasFence ? wire.EXPORT_FRAME_ACQUIRE : 0,
        serial: ++this.#serial,
        width: random.chance(0.99) ? SIDE : random.below(2 ** 31),
        height: random.chance(0.99) ? SIDE : random.below(2 ** 31),
        primary: random.chance(0.9) ? layer : { ...layer, id: new Uint8Array(16) },
        cursor: random.chance(0.3) ? layer : { ...layer, id: new Uint8Array(16) },
        damage_count: random.chance(0.99) ? 1 : random.below(30),
      }),
      hasFence ? [random.pick(this.#others)] : [],
    );
  }

  /** The client may have closed its side. */
  #transmit(bytes: Uint8Array, fds: readonly BorrowedFd[] = []): void {
    try {
      this.#connection.send(bytes, fds);
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      this.isOver = true;
    }
  }
}
