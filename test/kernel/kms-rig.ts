import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { KmsDevice } from '../../display/kms/device.ts';
import { KmsOutput } from '../../display/kms/output.ts';
import { assignPipes, type Mode, type Pipe, readResources } from '../../display/kms/resources.ts';
import type { Fourcc } from '../../protocols/drm-fourcc.ts';
import { Damage } from '../../src/core/damage.ts';
import type { Framebuffer } from '../../src/core/framebuffer.ts';
import { EMPTY_RECT, type Size } from '../../src/core/geometry.ts';
import type { Monitor } from '../../src/core/monitor.ts';
import {
  type AttachOptions,
  DmabufImportRefused,
  type Frame,
  type Handle,
  type Output,
  type PlaneState,
  type Presentation,
  PresentedFlags,
  type ScreenListener,
  type Shadow,
} from '../../src/core/output.ts';
import { openUdmabuf } from '../rig/scattered-picture.ts';
import { Writeback } from '../rig/writeback.ts';

const DRI = '/sys/class/drm';

/** The path of the card with this device in its uevent; null if there is none. */
function cardOf(device: string): string | null {
  if (!existsSync(DRI)) return null;
  const card = readdirSync(DRI).find(
    (name) => /^card\d+$/.test(name) && readFileSync(`${DRI}/${name}/device/uevent`, 'utf8').includes(device),
  );
  return card === undefined ? null : `/dev/dri/${card}`;
}

/** One connector, a writeback connector, planes of all kinds, and dma-bufs. */
export function vkmsCard(): string | null {
  return cardOf('vkms');
}

/** QEMU's `two-heads`: two connectors, the first plugged in, each with a CRTC; no dma-bufs. */
export function twoHeadsCard(): string | null {
  return cardOf('PCI_ID=1AF4:1050');
}

/** For `describe.skipIf`, as `skipWithoutUdmabuf`. */
export function skipWithoutVkms(): boolean {
  if (vkmsCard() !== null) return false;
  const reason = 'no KMS tests without vkms: npm run test:kernel runs them in a VM';
  if (process.env['CI'] === 'true') throw new Error(reason);
  console.warn(`skipped: ${reason}`);
  return true;
}

function debugfs(card: string, file: string): string {
  return readFileSync(`/sys/kernel/debug/dri/${card.replace(/\D+/, '')}/${file}`, 'utf8');
}

/** Their names; the kernel counts them over all cards. */
export function connectorsOf(card: string): string[] {
  const prefix = `${basename(card)}-`;
  return readdirSync(DRI)
    .filter((name) => name.startsWith(prefix))
    .map((name) => name.slice(prefix.length))
    .toSorted();
}

/** Forces the status of a connector until dispose, and has the kernel announce it. */
export class Plug implements Disposable {
  readonly #card: string;
  readonly #status: string;

  constructor(card: string, connector: string, status: 'on' | 'off') {
    this.#card = `${DRI}/${basename(card)}`;
    this.#status = `${this.#card}-${connector}/status`;
    this.set(status);
  }

  /** `detect`: what the hardware reports. */
  set(status: 'on' | 'off' | 'detect'): void {
    writeFileSync(this.#status, status);
    writeFileSync(`${this.#card}/uevent`, 'change');
  }

  [Symbol.dispose](): void {
    this.set('detect');
  }
}

/** The first memory plane of every framebuffer of the card, as the kernel has it. */
export function framebufferLayouts(card: string): { size: string; pitch: number; offset: number }[] {
  return [...debugfs(card, 'framebuffer').matchAll(/\tsize=(\S+)[^]*?pitch\[0\]=(\d+)\s+offset\[0\]=(\d+)/g)].map(
    ([, size, pitch, offset]) => ({ size: size!, pitch: Number(pitch), offset: Number(offset) }),
  );
}

/** Number of GEM objects and framebuffers of all clients of the card. */
export function kernelObjects(card: string): { framebuffers: number; gemNames: number } {
  return {
    framebuffers: debugfs(card, 'framebuffer')
      .split('\n')
      .filter((line) => line.startsWith('framebuffer[')).length,
    gemNames: debugfs(card, 'gem_names').trim().split('\n').length,
  };
}

/** The pipe of the card's first monitor, and its modes. */
export function firstPipe(device: KmsDevice): { pipe: Pipe; offered: readonly Mode[] } {
  const resources = readResources(device);
  const pipe = assignPipes(
    resources,
    resources.connectors.filter(({ isConnected }) => isConnected),
  )[0]!;
  return { pipe, offered: pipe.connector.modes };
}

export function newFrame(): Frame {
  const plane = (): PlaneState => ({ handle: null, src: EMPTY_RECT, dst: EMPTY_RECT });
  return {
    canvas: EMPTY_RECT,
    primary: plane(),
    cursor: plane(),
    hotspotX: 0,
    hotspotY: 0,
    isCursorNew: false,
    damage: new Damage(),
    acquire: null,
    release: null,
  };
}

/** The whole of a picture as a frame's primary. */
export function setPicture(frame: Frame, handle: Handle | null, width: number, height: number): void {
  const whole = { x: 0, y: 0, width, height };
  frame.canvas = whole;
  frame.primary = { handle, src: whole, dst: whole };
  frame.damage.clear();
  frame.damage.addRect(whole);
}

/** Imports a picture. Throws if the output refuses it. */
export function importInto(output: Output, framebuffer: Framebuffer): Handle {
  const handle = output.import(framebuffer);
  if (handle instanceof DmabufImportRefused) throw handle;
  return handle;
}

/** An output that reports when its newest frame is on screen, and how it showed its frames. */
export class WatchedOutput implements Output {
  readonly #output: Output;
  #isInFlight = false;
  #onIdle: (() => void) | null = null;
  /** Number of frames with a picture, and of those that were shown without a copy. */
  frames = 0;
  zeroCopyFrames = 0;
  #hasPicture = false;

  /** `output` stays the caller's. */
  constructor(output: Output) {
    this.#output = output;
  }

  get name(): string {
    return this.#output.name;
  }

  get monitor(): Output['monitor'] {
    return this.#output.monitor;
  }

  get imports(): Output['imports'] {
    return this.#output.imports;
  }

  get readsPages(): boolean {
    return this.#output.readsPages;
  }

  get takesFences(): boolean {
    return this.#output.takesFences;
  }

  get shadowFormats(): Output['shadowFormats'] {
    return this.#output.shadowFormats;
  }

  get maxCursor(): Size {
    return this.#output.maxCursor;
  }

  /** Resolves when the newest frame is on screen. */
  async settled(): Promise<void> {
    if (this.#isInFlight) await new Promise<void>((resolve) => (this.#onIdle = resolve));
  }

  attach(listener: ScreenListener, options?: AttachOptions): Disposable {
    return this.#output.attach(
      {
        scanout: listener.scanout,
        input: listener.input,
        presented: (presentation) => {
          this.#isInFlight = false;
          if (this.#hasPicture) this.frames++;
          if (this.#hasPicture && (presentation.flags & PresentedFlags.ZERO_COPY) !== 0) this.zeroCopyFrames++;
          listener.presented(presentation);
          this.#rest();
        },
        released: (handle) => listener.released(handle),
        resized: (monitor) => listener.resized(monitor),
        closed: (reason) => listener.closed(reason),
        importsChanged: () => listener.importsChanged(),
      },
      options,
    );
  }

  import(framebuffer: Framebuffer): ReturnType<Output['import']> {
    return this.#output.import(framebuffer);
  }

  createShadow(width: number, height: number, format: Fourcc): Shadow {
    return this.#output.createShadow(width, height, format);
  }

  present(frame: Frame): void {
    this.#isInFlight = true;
    this.#hasPicture = frame.primary.handle !== null;
    this.#output.present(frame);
  }

  [Symbol.dispose](): void {
    // It owns nothing.
  }

  /** Unless the listener presented another frame at once. */
  #rest(): void {
    if (!this.#isInFlight) this.#onIdle?.();
  }
}

/** What an output reported about one frame. */
export interface Shown {
  readonly timeMs: number;
  readonly sequence: number;
  readonly flags: number;
  readonly released: readonly Handle[];
}

/** An enabled screen, which shows frames one after the other. */
export class TestScreen implements Disposable, ScreenListener {
  readonly scanout = 0;
  readonly input = null;
  readonly device: KmsDevice;
  readonly output: KmsOutput;
  readonly log: string[] = [];
  readonly udmabuf = openUdmabuf();
  readonly frame = newFrame();
  readonly monitor: Monitor;
  #writeback: Writeback | null = null;
  #released: Handle[] = [];
  #onShown: ((shown: Shown) => void) | null = null;
  #attachment: Disposable | null = null;

  /** Default: 640x480. `change` removes parts of the hardware. */
  constructor({
    card = vkmsCard()!,
    modes,
    change = (pipe) => pipe,
    background = 0,
  }: { card?: string; modes?: readonly Mode[]; change?: (pipe: Pipe) => Pipe; background?: number } = {}) {
    this.device = KmsDevice.open(card);
    const { pipe: whole, offered } = firstPipe(this.device);
    const pipe = change(whole);
    const planes = [pipe.primary, pipe.cursor, pipe.overlay].filter((plane) => plane !== null);
    this.output = new KmsOutput(this.device, {
      connector: pipe.connector,
      planes,
      background,
      log: (_level, message) => void this.log.push(message),
    });
    this.output.enable(pipe.connector, pipe, modes ?? offered.filter(({ width }) => width === 640));
    this.monitor = this.output.monitor!;
  }

  get size(): Size {
    return this.monitor;
  }

  get writeback(): Writeback {
    return (this.#writeback ??= new Writeback(this.device, this.size));
  }

  /** Imports a picture. Throws if the output refuses it. */
  import(framebuffer: Framebuffer): Handle {
    return importInto(this.output, framebuffer);
  }

  /** The whole of a picture as the next frame's primary. */
  setPicture(handle: Handle | null, width: number, height: number): void {
    setPicture(this.frame, handle, width, height);
  }

  setCursor(handle: Handle | null, x: number, y: number, width: number, height: number): void {
    this.frame.cursor = { handle, src: { x: 0, y: 0, width, height }, dst: { x, y, width, height } };
  }

  /** Presents the frame; resolves when it is on screen. From the first call on, the output is this screen's. */
  show(): Promise<Shown> {
    this.#attachment ??= this.output.attach(this);
    return new Promise((resolve) => {
      this.#released = [];
      this.#onShown = resolve;
      this.output.present(this.frame);
    });
  }

  presented({ timeMs, sequence, flags }: Presentation): void {
    this.#onShown?.({ timeMs, sequence, flags, released: this.#released });
  }

  released(handle: Handle): void {
    this.#released.push(handle);
  }

  resized(): void {
    throw new Error('the monitor changed');
  }

  importsChanged(): void {
    throw new Error('a card never changes what it imports');
  }

  closed(reason: string): void {
    throw new Error(`closed: ${reason}`);
  }

  [Symbol.dispose](): void {
    this.#writeback?.[Symbol.dispose]();
    this.output[Symbol.dispose]();
    this.device[Symbol.dispose]();
    this.udmabuf[Symbol.dispose]();
  }
}
