import { constants, openSync } from 'node:fs';
import { basename } from 'node:path';
import {
  DRM_CAP_ADDFB2_MODIFIERS,
  DRM_CAP_CRTC_IN_VBLANK_EVENT,
  DRM_CAP_CURSOR_HEIGHT,
  DRM_CAP_CURSOR_WIDTH,
  DRM_CAP_DUMB_BUFFER,
  DRM_CAP_PRIME,
  DRM_CAP_TIMESTAMP_MONOTONIC,
  DRM_CLIENT_CAP_ATOMIC,
  DRM_CLIENT_CAP_CURSOR_PLANE_HOTSPOT,
  DRM_CLIENT_CAP_UNIVERSAL_PLANES,
  DRM_CLIENT_CAP_WRITEBACK_CONNECTORS,
  drm_event,
  DRM_EVENT_FLIP_COMPLETE,
  drm_event_vblank,
  drm_get_cap,
  DRM_IOCTL_DROP_MASTER,
  DRM_IOCTL_GET_CAP,
  DRM_IOCTL_SET_CLIENT_CAP,
  DRM_IOCTL_VERSION,
  DRM_PRIME_CAP_IMPORT,
  drm_set_client_cap,
  drm_version,
} from '../../protocols/drm.ts';
import type { Fields, Struct, Values } from '../../protocols/layout.ts';
import type { Size } from '../../src/core/geometry.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { EAGAIN, SysError } from '../../src/sys/errors.ts';
import { type BorrowedFd, OwnedFd, tryRead } from '../../src/sys/fd.ts';
import { ioctl } from '../../src/sys/ioctl.ts';
import { NativeBuffer } from '../../src/sys/native-buffer.ts';
import { Poll } from '../../src/sys/poll.ts';
import { KmsError } from './errors.ts';
import { GemHandles } from './gem-handles.ts';
import type { CrtcId } from './ids.ts';
import { type KmsCard, PlainSeat, type LoginSeat } from './seat.ts';

/** A commit is on screen. Only valid during the call that it is given to: the device uses it again. */
export interface Flip {
  /** CLOCK_MONOTONIC. */
  readonly timeMs: number;
  /** Of the vertical blank, 32 bits. */
  readonly sequence: number;
  /** Of the commit. */
  readonly serial: number;
}

/** Events of one CRTC. */
export interface FlipListener {
  flipped(flip: Flip): void;
  /** The device is gone (unplugged, driver unloaded). */
  deviceLost(reason: string): void;
}

const EVENTS_LENGTH = 4096;

/** An open /dev/dri/card*: capabilities, GEM handles, events. Its seat decides when this process is its master. */
export class KmsDevice implements Disposable {
  readonly path: string;
  /** `card0` */
  readonly name: string;
  readonly driver: string;
  readonly gem: GemHandles;
  /** Framebuffers may carry modifiers. Otherwise the driver assumes a layout. */
  readonly hasModifiers: boolean;
  readonly canImport: boolean;
  /** A size that its cursor planes take. */
  readonly cursorSize: Size;
  readonly #card: KmsCard;
  readonly #poll: Poll;
  readonly #listeners = new Map<number, FlipListener>();
  readonly #events: NativeBuffer;
  readonly #flip = { timeMs: 0, sequence: 0, serial: 0 };
  #isDisposed = false;

  private constructor(path: string, card: KmsCard, events: NativeBuffer) {
    const { fd } = card;
    this.path = path;
    this.name = basename(path);
    this.#card = card;
    this.#events = events;
    this.driver = driverName(fd);
    for (const capability of [DRM_CLIENT_CAP_UNIVERSAL_PLANES, DRM_CLIENT_CAP_ATOMIC]) {
      this.#require(() =>
        ioctl(
          fd,
          DRM_IOCTL_SET_CLIENT_CAP,
          'DRM_IOCTL_SET_CLIENT_CAP',
          drm_set_client_cap.encode({ capability, value: 1 }),
        ),
      );
    }
    // Refused by cards that have no such planes, and by kernels that do not know it.
    for (const capability of [DRM_CLIENT_CAP_CURSOR_PLANE_HOTSPOT, DRM_CLIENT_CAP_WRITEBACK_CONNECTORS]) {
      succeeds(() =>
        ioctl(
          fd,
          DRM_IOCTL_SET_CLIENT_CAP,
          'DRM_IOCTL_SET_CLIENT_CAP',
          drm_set_client_cap.encode({ capability, value: 1 }),
        ),
      );
    }
    if (
      capability(fd, DRM_CAP_DUMB_BUFFER) === 0 ||
      capability(fd, DRM_CAP_CRTC_IN_VBLANK_EVENT) === 0 ||
      capability(fd, DRM_CAP_TIMESTAMP_MONOTONIC) === 0
    ) {
      throw this.#notCapable();
    }
    this.hasModifiers = capability(fd, DRM_CAP_ADDFB2_MODIFIERS) !== 0;
    this.canImport = (capability(fd, DRM_CAP_PRIME) & DRM_PRIME_CAP_IMPORT) !== 0;
    this.cursorSize = { width: capability(fd, DRM_CAP_CURSOR_WIDTH), height: capability(fd, DRM_CAP_CURSOR_HEIGHT) };
    this.gem = new GemHandles(fd);
    this.#poll = Poll.readable(fd, () => this.readEvents());
  }

  /**
   * The seat stays the caller's. KmsError `card-missing`, `card-forbidden`, `not-capable` (no atomic
   * modesetting), `not-master`.
   */
  static open(path: string, seat: LoginSeat = new PlainSeat()): KmsDevice {
    using stack = new DisposableStack();
    const device = new KmsDevice(path, stack.use(seat.openCard(path)), stack.use(NativeBuffer.allocate(EVENTS_LENGTH)));
    stack.move();
    return device;
  }

  get fd(): BorrowedFd {
    return this.#card.fd;
  }

  /** The kernel reads and writes the struct's bytes in place. SysError `ioctl(name): …`. */
  ioctl(request: number, name: string, argument: Uint8Array | number): void {
    ioctl(this.#card.fd, request, name, argument);
  }

  listen(crtc: CrtcId, listener: FlipListener): void {
    this.#listeners.set(crtc, listener);
  }

  /** Returns the listener that was removed; null if there was none. */
  unlisten(crtc: CrtcId): FlipListener | null {
    const listener = this.#listeners.get(crtc) ?? null;
    this.#listeners.delete(crtc);
    return listener;
  }

  /** Calls listeners with the events that have arrived. The event loop does so, too. */
  readEvents(): void {
    const { address, view } = this.#events;
    const length = tryRead(this.#card.fd, address, EVENTS_LENGTH);
    if (length === -EAGAIN) return;
    if (length < 0) {
      this.#poll.pause();
      const reason = String(SysError.fromErrno('read', -length, this.path));
      for (const listener of [...this.#listeners.values()]) listener.deviceLost(reason);
      return;
    }
    // A listener may dispose us.
    for (let next = 0; next + drm_event.size <= length && !this.#isDisposed;) {
      const at = next;
      next += drm_event.field.length.get(view, at);
      if (drm_event.field.type.get(view, at) !== DRM_EVENT_FLIP_COMPLETE) continue;
      const { crtc_id, tv_sec, tv_usec, sequence, user_data } = drm_event_vblank.field;
      const flip = this.#flip;
      flip.timeMs = tv_sec.get(view, at) * 1000 + tv_usec.get(view, at) / 1000;
      flip.sequence = sequence.get(view, at);
      flip.serial = user_data.get(view, at);
      this.#listeners.get(crtc_id.get(view, at))?.flipped(flip);
    }
  }

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#poll[Symbol.dispose]();
    this.#card[Symbol.dispose]();
    this.#events[Symbol.dispose]();
  }

  #require(attempt: () => void): void {
    try {
      attempt();
    } catch (cause) {
      throw this.#notCapable(cause);
    }
  }

  #notCapable(cause?: unknown): KmsError {
    return new KmsError(
      'not-capable',
      `${this.path} (${this.driver}) has no atomic modesetting with dumb buffers; try another card with kms:cardN`,
      { cause },
    );
  }
}

export function capability(fd: BorrowedFd, which: number): number {
  const argument = drm_get_cap.encode({ capability: which });
  try {
    ioctl(fd, DRM_IOCTL_GET_CAP, 'DRM_IOCTL_GET_CAP', argument);
  } catch (error) {
    if (error instanceof SysError) return 0;
    throw error;
  }
  return drm_get_cap.decode(argument).value;
}

export function driverName(fd: BorrowedFd): string {
  const { lists } = queryLists(fd, DRM_IOCTL_VERSION, 'DRM_IOCTL_VERSION', drm_version, {}, [
    { pointer: 'name', count: 'name_len', elementSize: 1 },
  ]);
  return Buffer.from(lists[0]!).toString('latin1');
}

/** What a card can do. */
export interface CardAbilities {
  readonly driver: string;
  readonly isAtomic: boolean;
  readonly importsDmabufs: boolean;
  /** No program is DRM master. */
  readonly isFree: boolean;
}

/**
 * Asks a card what it can do, without disturbing a program that shows something on it. Throws what `openSync`
 * throws.
 */
export function probeCard(path: string): CardAbilities {
  using fd = OwnedFd.adopt(openSync(path, constants.O_RDWR | constants.O_NONBLOCK));
  // Opening a card that has no master makes this process its master (drm_auth.c). It gives that up
  // first, so as not to keep other programs from it. That fails if there was a master already.
  const isFree = succeeds(() => ioctl(fd, DRM_IOCTL_DROP_MASTER, 'DRM_IOCTL_DROP_MASTER', 0));
  const atomic = drm_set_client_cap.encode({ capability: DRM_CLIENT_CAP_ATOMIC, value: 1 });
  return {
    driver: driverName(fd),
    isAtomic: succeeds(() => ioctl(fd, DRM_IOCTL_SET_CLIENT_CAP, 'DRM_IOCTL_SET_CLIENT_CAP', atomic)),
    importsDmabufs: (capability(fd, DRM_CAP_PRIME) & DRM_PRIME_CAP_IMPORT) !== 0,
    isFree,
  };
}

function succeeds(attempt: () => void): boolean {
  try {
    attempt();
    return true;
  } catch (error) {
    if (error instanceof SysError) return false;
    throw error;
  }
}

/** An array that the kernel fills: the fields with its address and its number of elements. */
export interface ListFields<F> {
  readonly pointer: keyof F & string;
  readonly count: keyof F & string;
  /** Bytes. */
  readonly elementSize: number;
}

/**
 * An ioctl that fills arrays. Asks for their lengths, makes room, and asks again until none of them
 * has grown in between. Returns the lists in the order of `wanted`, as bytes that the caller owns.
 */
export function queryLists<F extends Fields>(
  fd: BorrowedFd,
  request: number,
  name: string,
  type: Struct<F>,
  given: Partial<Values<F>>,
  wanted: readonly ListFields<F>[],
): { value: Values<F>; lists: Uint8Array[] } {
  let room = wanted.map(() => 0);
  for (;;) {
    using stack = new DisposableStack();
    const arrays = wanted.map(({ elementSize }, i) =>
      room[i]! > 0 ? stack.use(NativeBuffer.allocate(room[i]! * elementSize)) : null,
    );
    const places = Object.fromEntries(
      wanted.flatMap(({ pointer, count }, i) => [
        [pointer, arrays[i]?.address ?? 0],
        [count, room[i]!],
      ]),
    );
    const argument = type.encode({ ...given, ...(places as Partial<Values<F>>) });
    ioctl(fd, request, name, argument);
    const value = type.decode(argument);
    const counts = wanted.map(({ count }) => value[count] as number);
    if (counts.every((count, i) => count <= room[i]!)) {
      return {
        value,
        lists: arrays.map(
          (array, i) => array?.bytes.slice(0, counts[i]! * wanted[i]!.elementSize) ?? new Uint8Array(0),
        ),
      };
    }
    room = counts;
  }
}

/** A list of ids, or of other 32-bit numbers. */
export function u32List(bytes: Uint8Array): number[] {
  return Array.from(new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4));
}
