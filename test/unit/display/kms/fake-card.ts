import { writeSync } from 'node:fs';
import type { FlipListener, KmsDevice } from '../../../../display/kms/device.ts';
import type { GemHandles } from '../../../../display/kms/gem-handles.ts';
import type { Connector, Crtc, Mode, Pipe, Plane, Properties } from '../../../../display/kms/resources.ts';
import { DRM_FORMAT, DRM_FORMAT_MOD_LINEAR } from '../../../../protocols/drm-fourcc.ts';
import * as mode from '../../../../protocols/drm-mode.ts';
import {
  drm_gem_close,
  DRM_IOCTL_GEM_CLOSE,
  DRM_IOCTL_PRIME_FD_TO_HANDLE,
  drm_prime_handle,
} from '../../../../protocols/drm.ts';
import { FormatSet } from '../../../../src/core/framebuffer.ts';
import { SysError } from '../../../../src/sys/errors.ts';
import { type BorrowedFd, dupFd, type OwnedFd } from '../../../../src/sys/fd.ts';
import { createMemfd } from '../../../../src/sys/memfd.ts';
import { NativeView } from '../../../../src/sys/native-buffer.ts';

/*
 * A card whose driver is this file: what src/sys/ioctl.ts sends to its descriptor is answered here. A test file says
 *
 *     vi.mock('../../../../src/sys/ioctl.ts', async () => (await import('./fake-card.ts')).fakeIoctls);
 *
 * test/kernel has a real driver (vkms); this one can be told to refuse, to be busy, and when to flip.
 */

const MEMORY = 64 * 2 ** 20;
const EINVAL = 22;
const EBUSY = 16;
const ENODEV = 19;
const ENOMEM = 12;

/** Property names by id. */
const NAMES = [
  'none',
  'FB_ID',
  'CRTC_ID',
  'SRC_X',
  'SRC_Y',
  'SRC_W',
  'SRC_H',
  'CRTC_X',
  'CRTC_Y',
  'CRTC_W',
  'CRTC_H',
  'IN_FENCE_FD',
  'MODE_ID',
  'ACTIVE',
  'HOTSPOT_X',
  'HOTSPOT_Y',
  'WRITEBACK_PIXEL_FORMATS',
  'WRITEBACK_FB_ID',
  'WRITEBACK_OUT_FENCE_PTR',
];
const HOTSPOT = NAMES.slice(14, 16);
const WRITEBACK_PROPERTIES = ['CRTC_ID', ...NAMES.slice(16)];

const cards = new Map<number, FakeCard>();

function answer(fd: BorrowedFd, request: number, view: DataView): number {
  return cards.get(fd.fd)?.answer(request, view) ?? 0;
}

/** In place of src/sys/ioctl.ts. Descriptors that are no card take every ioctl. */
export const fakeIoctls = {
  tryIoctl(fd: BorrowedFd, request: number, address: number): number {
    if (!cards.has(fd.fd)) return 0;
    const native = new NativeView(address, 256);
    try {
      return answer(fd, request, native.view);
    } finally {
      native.detach();
    }
  },
  tryIoctlBytes(fd: BorrowedFd, request: number, bytes: Uint8Array): number {
    return answer(fd, request, new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  },
  ioctl(fd: BorrowedFd, request: number, name: string, argument: Uint8Array | number): number {
    const bytes = typeof argument === 'number' ? new Uint8Array(8) : argument;
    const result = fakeIoctls.tryIoctlBytes(fd, request, bytes);
    if (result < 0) throw SysError.fromErrno(`ioctl(${name})`, -result);
    return result;
  },
};

/** The values an atomic commit gives to properties of one object. */
export type State = Partial<Record<string, number>>;

/** One DRM_IOCTL_MODE_ATOMIC. */
export interface Commit {
  readonly isTest: boolean;
  readonly isModeset: boolean;
  /** The kernel may hold the caller until earlier commits and fences have ended. */
  readonly mayBlock: boolean;
  /** By object id. */
  readonly states: ReadonlyMap<number, State>;
  /** 0, or -errno. */
  readonly result: number;
}

const PRIMARY = 31;
const CURSOR = 32;
const OVERLAY = 33;
const CRTC = 41;
const CONNECTOR = 51;
const WRITEBACK = 52;
/** The blob of WRITEBACK_PIXEL_FORMATS. */
const WRITEBACK_FORMATS = 61;
/** Between the places of two dumb buffers in the card's memory. */
const ROOM = 4 * 2 ** 20;

/** A card with one monitor, whose CRTC has three planes. */
export class FakeCard implements Disposable {
  readonly device: KmsDevice;
  readonly pipe: Pipe;
  readonly writeback: Connector;
  readonly mode: Mode = {
    width: 640,
    height: 480,
    refreshMhz: 60_000,
    isPreferred: true,
    info: new Uint8Array(mode.drm_mode_modeinfo.size),
  };
  /** Every atomic ioctl so far. */
  readonly commits: Commit[] = [];
  /** Framebuffers that exist. */
  readonly framebuffers = new Set<number>();
  /** Those removed by RMFB, which turns off the planes that show them. */
  readonly removed: number[] = [];
  /** What the screen shows. */
  readonly shown = new Map<number, State>();
  /** Asked about each commit that is not refused for other reasons: 0, or -errno. */
  check: (commit: Omit<Commit, 'result'>) => number = () => 0;
  /** The CRTC is taken by a commit of another process. */
  isBusy = false;
  /** The card was pulled out: every ioctl fails. */
  isGone = false;
  /** For dumb buffers, in bytes; never given back. */
  memoryLeft = Infinity;
  /** The card gives duplicates of it as out-fences of writebacks. */
  writebackFence: BorrowedFd | null = null;
  /** Linux 6.8 or newer. */
  hasCloseFb = true;
  readonly #memory: OwnedFd;
  readonly #handles = new Map<number, number>();
  readonly #listeners = new Map<number, FlipListener>();
  /** The serial of the commit that is not on screen yet. */
  #flip: number | null = null;
  readonly #events: number[] = [];
  #sequence = 0;
  #next = 100;
  #end = 0;

  /** `openGem` is the caller's, because its module is mocked with what this one exports. */
  constructor(openGem: (fd: BorrowedFd) => GemHandles) {
    this.#memory = createMemfd('card', MEMORY, 0);
    cards.set(this.#memory.fd, this);
    const fd = this.#memory;
    this.device = {
      fd,
      path: '/dev/dri/card0',
      name: 'card0',
      driver: 'fake',
      hasModifiers: true,
      cursorSize: { width: 64, height: 64 },
      canImport: true,
      gem: openGem(fd),
      ioctl: (request: number, name: string, argument: Uint8Array | number) =>
        void fakeIoctls.ioctl(fd, request, name, argument),
      readEvents: () => this.#readEvents(),
      listen: (crtc: number, listener: FlipListener) => void this.#listeners.set(crtc, listener),
      unlisten: (crtc: number) => void this.#listeners.delete(crtc),
    } as unknown as KmsDevice;
    const crtc = { id: CRTC, mask: 1, properties: properties(['MODE_ID', 'ACTIVE']) } as unknown as Crtc;
    this.writeback = {
      id: WRITEBACK,
      name: 'Writeback-1',
      possibleCrtcs: 1,
      properties: properties(WRITEBACK_PROPERTIES, { WRITEBACK_PIXEL_FORMATS: WRITEBACK_FORMATS }),
    } as unknown as Connector;
    const connector = {
      id: CONNECTOR,
      name: 'FAKE-1',
      isConnected: true,
      modes: [this.mode],
      possibleCrtcs: 1,
      widthMm: 0,
      heightMm: 0,
      edid: null,
      properties: properties(['CRTC_ID']),
    } as unknown as Connector;
    const formats = new FormatSet([
      [DRM_FORMAT.XRGB8888, DRM_FORMAT_MOD_LINEAR],
      [DRM_FORMAT.ARGB8888, DRM_FORMAT_MOD_LINEAR],
    ]);
    const plane = (id: number, type: number, more: readonly string[] = []): Plane =>
      ({
        id,
        type,
        possibleCrtcs: 1,
        formats,
        sizeHints: [],
        properties: properties([...NAMES.slice(1, 12), ...more]),
      }) as unknown as Plane;
    this.pipe = {
      connector,
      crtc,
      primary: plane(PRIMARY, mode.DRM_PLANE_TYPE_PRIMARY),
      cursor: plane(CURSOR, mode.DRM_PLANE_TYPE_CURSOR, HOTSPOT),
      overlay: plane(OVERLAY, mode.DRM_PLANE_TYPE_OVERLAY),
    };
  }

  /** A commit is accepted and not on screen yet. */
  get isFlipping(): boolean {
    return this.#flip !== null;
  }

  /** The framebuffers on screen: primary, cursor, overlay; 0 where there is none. */
  get planes(): number[] {
    return [PRIMARY, CURSOR, OVERLAY].map((id) => this.shown.get(id)?.['FB_ID'] ?? 0);
  }

  /** Whether the monitor, and whether the writeback connector, is on the CRTC. */
  get connectors(): boolean[] {
    return [CONNECTOR, WRITEBACK].map((id) => this.shown.get(id)?.['CRTC_ID'] === CRTC);
  }

  /** Writes to the dumb buffer that was mapped last, from its first pixel on. */
  write(pixels: Uint32Array): void {
    writeSync(this.#memory.fd, pixels, 0, pixels.byteLength, this.#end - ROOM);
  }

  /** The driver is gone: every reader of its events is told. */
  lose(): void {
    for (const listener of [...this.#listeners.values()]) listener.deviceLost('unplugged');
  }

  /** The vertical blank: what was committed is on screen, and its event is read. */
  flip(): void {
    this.blank();
    this.#readEvents();
  }

  /** The vertical blank, whose event waits in the descriptor. */
  blank(): void {
    if (this.#flip === null) throw new Error('nothing was committed');
    this.#events.push(this.#flip);
    this.#flip = null;
  }

  #readEvents(): void {
    for (const serial of this.#events.splice(0))
      this.#listeners.get(CRTC)?.flipped({ timeMs: performance.now(), sequence: ++this.#sequence, serial });
  }

  /** For `fakeIoctls`. */
  answer(request: number, view: DataView): number {
    if (this.isGone) return -ENODEV;
    switch (request) {
      case DRM_IOCTL_PRIME_FD_TO_HANDLE: {
        const fd = drm_prime_handle.field.fd.get(view, 0);
        if (!this.#handles.has(fd)) this.#handles.set(fd, this.#id());
        drm_prime_handle.field.handle.set(view, 0, this.#handles.get(fd)!);
        return 0;
      }
      case DRM_IOCTL_GEM_CLOSE: {
        const closed = drm_gem_close.field.handle.get(view, 0);
        for (const [fd, handle] of this.#handles) if (handle === closed) this.#handles.delete(fd);
        return 0;
      }
      case mode.DRM_IOCTL_MODE_CREATE_DUMB: {
        const { width, height, bpp, handle, pitch, size } = mode.drm_mode_create_dumb.field;
        const bytes = (width.get(view, 0) * bpp.get(view, 0)) / 8;
        this.memoryLeft -= bytes * height.get(view, 0);
        if (this.memoryLeft < 0) return -ENOMEM;
        handle.set(view, 0, this.#id());
        pitch.set(view, 0, bytes);
        size.set(view, 0, bytes * height.get(view, 0));
        return 0;
      }
      case mode.DRM_IOCTL_MODE_MAP_DUMB:
        mode.drm_mode_map_dumb.field.offset.set(view, 0, this.#end);
        this.#end += ROOM;
        return 0;
      case mode.DRM_IOCTL_MODE_ADDFB2:
        mode.drm_mode_fb_cmd2.field.fb_id.set(view, 0, this.#id());
        this.framebuffers.add(this.#next - 1);
        return 0;
      case mode.DRM_IOCTL_MODE_CLOSEFB:
        if (!this.hasCloseFb) return -EINVAL;
        this.framebuffers.delete(view.getUint32(0, true));
        return 0;
      case mode.DRM_IOCTL_MODE_RMFB:
        this.removed.push(view.getUint32(0, true));
        this.framebuffers.delete(view.getUint32(0, true));
        return 0;
      case mode.DRM_IOCTL_MODE_GETPROPBLOB: {
        const { length, data } = mode.drm_mode_get_blob.field;
        if (length.get(view, 0) >= 4) writeU32(data.get(view, 0), DRM_FORMAT.XRGB8888);
        length.set(view, 0, 4);
        return 0;
      }
      case mode.DRM_IOCTL_MODE_CREATEPROPBLOB:
        mode.drm_mode_create_blob.field.blob_id.set(view, 0, this.#id());
        return 0;
      case mode.DRM_IOCTL_MODE_ATOMIC:
        return this.#commit(view);
      default:
        return 0;
    }
  }

  [Symbol.dispose](): void {
    cards.delete(this.#memory.fd);
    this.#memory[Symbol.dispose]();
  }

  #id(): number {
    return this.#next++;
  }

  #commit(view: DataView): number {
    const { flags, count_objs, objs_ptr, count_props_ptr, props_ptr, prop_values_ptr, user_data } =
      mode.drm_mode_atomic.field;
    const given = flags.get(view, 0);
    const states = readStates(
      count_objs.get(view, 0),
      objs_ptr.get(view, 0),
      count_props_ptr.get(view, 0),
      props_ptr.get(view, 0),
      prop_values_ptr.get(view, 0),
    );
    const isTest = (given & mode.DRM_MODE_ATOMIC_TEST_ONLY) !== 0;
    const isModeset = (given & mode.DRM_MODE_ATOMIC_ALLOW_MODESET) !== 0;
    const mayBlock = !isTest && (given & mode.DRM_MODE_ATOMIC_NONBLOCK) === 0;
    const commit = { isTest, isModeset, mayBlock, states };
    const result = this.#result(commit);
    this.commits.push({ ...commit, result });
    if (result === 0 && !isTest) {
      for (const [id, state] of states) this.shown.set(id, { ...this.shown.get(id), ...state });
      const fence = states.get(WRITEBACK)?.['WRITEBACK_OUT_FENCE_PTR'] ?? 0;
      if (fence !== 0) writeU32(fence, dupFd(this.writebackFence!).take());
      if ((given & mode.DRM_MODE_PAGE_FLIP_EVENT) !== 0) this.#flip = user_data.get(view, 0);
    }
    return result;
  }

  #result(commit: Omit<Commit, 'result'>): number {
    for (const { FB_ID } of commit.states.values())
      if (FB_ID !== undefined && FB_ID !== 0 && !this.framebuffers.has(FB_ID)) return -EINVAL;
    const refused = this.check(commit);
    if (refused !== 0 || commit.isTest) return refused;
    return this.isBusy || this.isFlipping ? -EBUSY : 0;
  }
}

function readStates(count: number, objs: number, counts: number, props: number, values: number): Map<number, State> {
  const states = new Map<number, State>();
  const memory = <T>(address: number, length: number, read: (view: DataView) => T): T => {
    const native = new NativeView(address, Math.max(length, 8));
    try {
      return read(native.view);
    } finally {
      native.detach();
    }
  };
  const u32s = (address: number, length: number): number[] =>
    memory(address, length * 4, (view) => Array.from({ length }, (_, i) => view.getUint32(i * 4, true)));
  const perObject = u32s(counts, count);
  const total = perObject.reduce((sum, each) => sum + each, 0);
  const names = u32s(props, total);
  const numbers = memory(values, total * 8, (view) =>
    Array.from({ length: total }, (_, i) => Number(view.getBigInt64(i * 8, true))),
  );
  let slot = 0;
  u32s(objs, count).forEach((id, i) => {
    const state: State = { ...states.get(id) };
    for (let left = perObject[i]!; left > 0; left--, slot++) state[NAMES[names[slot]!]!] = numbers[slot]!;
    states.set(id, state);
  });
  return states;
}

function writeU32(address: number, value: number): void {
  const native = new NativeView(address, 8);
  try {
    native.view.setUint32(0, value, true);
  } finally {
    native.detach();
  }
}

function properties(names: readonly string[], values: Readonly<Record<string, number>> = {}): Properties {
  return {
    id: (name: string) => (names.includes(name) ? NAMES.indexOf(name) : 0),
    value: (name: string) => values[name] ?? 0,
  } as unknown as Properties;
}
