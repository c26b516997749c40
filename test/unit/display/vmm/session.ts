import { afterEach, beforeEach, vi } from 'vitest';
import { VmmDisplay, type VmmDisplayOptions } from '../../../../display/vmm/display.ts';
import { DRM_FORMAT } from '../../../../protocols/drm-fourcc.ts';
import { Damage } from '../../../../src/core/damage.ts';
import type { Framebuffer } from '../../../../src/core/framebuffer.ts';
import type { Monitor } from '../../../../src/core/monitor.ts';
import {
  type AttachOptions,
  DmabufImportRefused,
  type Frame,
  type Handle,
  type Output,
  type Presentation,
  type ScreenListener,
} from '../../../../src/core/output.ts';
import { socketPair } from '../../../../src/sys/socket.ts';
import { GuestPicture } from '../../bridge/fakes.ts';
import { FakeVmm, type Mode, displayInfoReply, featuresReply, words } from './fake-vmm.ts';

export const ONE_SECOND = 1000;
export const MODE: Mode = { width: 1280, height: 800 };

/** What a test made; disposed after it. `vmm` is the other end of the display connected last. */
export let vmm: FakeVmm;
export let display: VmmDisplay | null = null;
export const handles: Handle[] = [];
export const log: string[] = [];
let undo: Disposable[] = [];

/** Each test of the file begins without a display, and with a clock that only the test advances. */
export function useVmm(): void {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
    display = null;
    handles.length = 0;
    log.length = 0;
    undo = [];
  });
  afterEach(() => {
    for (const handle of handles) handle[Symbol.dispose]();
    display?.[Symbol.dispose]();
    for (const made of undo) made[Symbol.dispose]();
    vi.useRealTimers();
  });
}

/** Opens a display whose questions the test answers. */
export async function connect(options: Partial<VmmDisplayOptions> = {}): Promise<VmmDisplay> {
  const [near, far] = socketPair();
  vmm = new FakeVmm(far);
  undo.push(vmm);
  display = await VmmDisplay.open({ socket: near, log: (_, message) => log.push(message), scanouts: 1, ...options });
  return display;
}

/** Answers the first two questions, each when it has arrived. */
export async function answer(features: number, modes: (Mode | null)[]): Promise<void> {
  await vmm.take(12);
  vmm.reply(featuresReply(features));
  await vmm.take(20 + 12);
  vmm.reply(displayInfoReply(modes));
}

/** Opens a display and answers its questions, without EDID. */
export async function open(
  options: Partial<VmmDisplayOptions> = {},
  features = 0,
  modes: (Mode | null)[] = [MODE],
): Promise<VmmDisplay> {
  const opening = connect(options);
  await answer(features, modes);
  return opening;
}

/** Outputs that had a listener. */
const attached = new WeakSet<Output>();

export class Listener implements ScreenListener {
  readonly scanout = 0;
  readonly input = null;
  readonly events: string[] = [];
  readonly released = (handle: Handle): void => void this.events.push(`released ${handles.indexOf(handle)}`);
  readonly resized = (monitor: Monitor | null): void =>
    void this.events.push(monitor ? `resized ${monitor.width}x${monitor.height}` : 'unplugged');
  flags = 0;
  #wake: (() => void) | null = null;

  readonly attachment: Disposable;

  constructor(output: Output, options?: AttachOptions) {
    this.attachment = output.attach(this, options);
    attached.add(output);
  }

  presented({ flags }: Presentation): void {
    this.flags = flags;
    this.#add('presented');
  }

  importsChanged(): void {
    throw new Error('a VMM never changes what it imports');
  }

  closed(reason: string): void {
    this.#add(`closed: ${reason}`);
  }

  /** Resolves at the next `presented` or `closed`. */
  next(): Promise<void> {
    return new Promise((resolve) => (this.#wake = resolve));
  }

  #add(event: string): void {
    this.events.push(event);
    this.#wake?.();
  }
}

export function guest(width: number, height: number, format = DRM_FORMAT.XRGB8888): GuestPicture {
  const picture = new GuestPicture(width, height, format);
  for (let i = 0; i < width * height; i++) picture.pixels.view.setUint32(i * 4, i * 0x01_0101 + 7, true);
  undo.push(picture);
  return picture;
}

export function importOf(output: Output, framebuffer: Framebuffer): Handle {
  const handle = output.import(framebuffer);
  if (handle instanceof DmabufImportRefused) throw handle;
  handles.push(handle);
  return handle;
}

export type Box = readonly [x: number, y: number, width: number, height: number];
export const rect = ([x, y, width, height]: Box) => ({ x, y, width, height });

export interface Cursor {
  readonly handle: Handle;
  readonly at: Box;
  readonly hotspot?: readonly [number, number];
}

export function frame(
  handle: Handle | null,
  src: Box,
  damage: readonly Box[] = [src],
  cursor: Cursor | null = null,
): Frame {
  const area = new Damage();
  for (const box of damage) area.addRect(rect(box));
  const [, , width, height] = src;
  return {
    canvas: { width, height },
    primary: { handle, src: rect(src), dst: rect([0, 0, width, height]) },
    cursor: {
      handle: cursor?.handle ?? null,
      src: rect([0, 0, cursor?.at[2] ?? 0, cursor?.at[3] ?? 0]),
      dst: rect(cursor?.at ?? [0, 0, 0, 0]),
    },
    hotspotX: cursor?.hotspot?.[0] ?? 0,
    hotspotY: cursor?.hotspot?.[1] ?? 0,
    isCursorNew: false,
    damage: area,
    acquire: null,
    release: null,
  };
}

export const scanout = (id: number, width: number, height: number): Buffer => words(7, 0, 12, id, width, height);
export const update = (id: number, [x, y, width, height]: Box, pixels: Uint8Array): Buffer =>
  Buffer.concat([words(8, 0, 20 + width * height * 4, id, x, y, width, height), pixels]);

/** Presents, waits for the next vertical blank, and returns what the VMM got. Attaches a listener if there was none. */
export function show(output: Output, shown: Frame): Buffer {
  if (!attached.has(output)) new Listener(output);
  output.present(shown);
  vi.advanceTimersByTime(ONE_SECOND);
  return vmm.takeNow();
}
