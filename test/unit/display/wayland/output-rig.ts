import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { WaylandOutput } from '../../../../display/wayland/output.ts';
import { WaylandWindows, type WaylandWindowsOptions } from '../../../../display/wayland/windows.ts';
import { DRM_FORMAT } from '../../../../protocols/drm-fourcc.ts';
import { Damage } from '../../../../src/core/damage.ts';
import type { InputSink } from '../../../../src/core/input.ts';
import {
  type Frame,
  type Handle,
  type Presentation,
  PresentedFlags,
  type ScreenListener,
  type Shadow,
} from '../../../../src/core/output.ts';
import type { BorrowedFd } from '../../../../src/sys/fd.ts';
import { FakeHost, type FakeHostOptions } from './fake-host.ts';
import type { FakeObject } from './fake-server.ts';

export const SIDE = 32;

/** Hears what an output says, in words: `presented`, `hidden`, `released A`, `resized`, `importsChanged`, `closed`. */
export class Heard implements ScreenListener {
  readonly scanout = 0;
  readonly input: InputSink | null;
  readonly lines: string[] = [];
  readonly #names: ReadonlyMap<Handle, string>;
  #waiting: (() => void)[] = [];

  constructor(names: ReadonlyMap<Handle, string>, input: InputSink | null = null) {
    this.#names = names;
    this.input = input;
  }

  presented = ({ flags }: Presentation): void => this.#add(flags & PresentedFlags.HIDDEN ? 'hidden' : 'presented');
  released = (handle: Handle): void => this.#add(`released ${this.#names.get(handle) ?? 'an unknown buffer'}`);
  resized = (): void => this.#add('resized');
  importsChanged = (): void => this.#add('importsChanged');
  closed = (): void => this.#add('closed');

  /** Resolves when the next frame has ended. */
  frameEnded(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #add(line: string): void {
    this.lines.push(line);
    if (line !== 'presented' && line !== 'hidden') return;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }
}

export interface OutputRigOptions extends WaylandWindowsOptions {
  /** Of the first listener. */
  readonly input?: InputSink;
  /** Of the first attachment. */
  readonly keepLast?: boolean;
}

/**
 * One WaylandOutput on a fake compositor, without a bridge: the test presents, repaints the screen
 * (`host.repaint`) and, if `host.releases` is off, gives buffers back (`send('release')`).
 */
export class OutputRig implements Disposable {
  readonly names = new Map<Handle, string>();
  readonly windows: WaylandWindows;
  readonly output: WaylandOutput;
  host: FakeHost;
  /** The newest listener. */
  heard!: Heard;
  #attachment!: Disposable;
  readonly #directory: string;

  private constructor(directory: string, host: FakeHost, windows: WaylandWindows) {
    this.#directory = directory;
    this.host = host;
    this.windows = windows;
    this.output = windows.openOutputs(1)[0]!;
  }

  /** Resolves when the window is configured. */
  static async open(
    hostOptions: FakeHostOptions = {},
    { input, keepLast, ...options }: OutputRigOptions = {},
  ): Promise<OutputRig> {
    const directory = mkdtempSync(join(tmpdir(), 'scanout-output-'));
    const host = new FakeHost(hostOptions);
    const socket = join(directory, 'wayland');
    host.server.listen(socket);
    const windows = await WaylandWindows.open({ socket, ...options });
    const rig = new OutputRig(directory, host, windows);
    rig.attach({ ...(input && { input }), ...(keepLast !== undefined && { keepLast }) });
    await host.server.next('xdg_surface.ack_configure');
    await rig.settle();
    return rig;
  }

  /** Attaches another listener, which the one before must have made room for. */
  attach({ input, keepLast = false }: Pick<OutputRigOptions, 'input' | 'keepLast'> = {}): Heard {
    const heard = new Heard(this.names, input ?? null);
    this.#attachment = this.output.attach(heard, { keepLast });
    this.heard = heard;
    return heard;
  }

  detach(): void {
    this.#attachment[Symbol.dispose]();
  }

  /** The compositor ends, and another one takes its place; resolves when the window is there again. */
  async restartHost(): Promise<void> {
    this.replaceHost();
    await this.host.server.next('xdg_surface.ack_configure');
    await this.settle();
  }

  /** The same, without waiting for anything. */
  replaceHost(): void {
    this.host[Symbol.dispose]();
    this.host = new FakeHost();
    this.host.server.listen(join(this.#directory, 'wayland'));
  }

  /** The wl_buffer that the newest window shows as the guest's picture. */
  get shown(): FakeObject | null {
    return this.host.committed.get(this.host.picture)?.buffer ?? null;
  }

  /** A shadow of SIDE x SIDE pixels. */
  shadow(name: string): Shadow {
    const shadow = this.output.createShadow(SIDE, SIDE, DRM_FORMAT.XRGB8888);
    this.names.set(shadow, name);
    return shadow;
  }

  present(handle: Handle | null, acquire: BorrowedFd | null = null): void {
    this.output.present(frameOf(handle, acquire));
  }

  /** Presents and has it on screen. */
  async show(handle: Handle): Promise<void> {
    const ended = this.heard.frameEnded();
    this.present(handle);
    await this.committed();
    this.host.repaint();
    await ended;
  }

  /** What was presented has been committed; the wl_buffer the window shows. */
  async committed(): Promise<FakeObject> {
    await this.settle();
    return this.shown!;
  }

  /** Everything that is on its way has arrived, on both sides. */
  async settle(): Promise<void> {
    for (let i = 0; i < 2; i++) await this.windows.roundtrip();
  }

  [Symbol.dispose](): void {
    this.windows[Symbol.dispose]();
    this.host[Symbol.dispose]();
    rmSync(this.#directory, { recursive: true });
  }
}

/** All of it damaged, and no cursor. */
export function frameOf(handle: Handle | null, acquire: BorrowedFd | null = null): Frame {
  const rect = { x: 0, y: 0, width: SIDE, height: SIDE };
  const damage = new Damage();
  damage.addRect(rect);
  return {
    canvas: rect,
    primary: { handle, src: rect, dst: rect },
    cursor: { handle: null, src: rect, dst: rect },
    hotspotX: 0,
    hotspotY: 0,
    isCursorNew: false,
    damage,
    acquire,
    release: null,
  };
}
