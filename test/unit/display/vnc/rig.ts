import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { VncAddress } from '../../../../display/vnc/address.ts';
import { VncOutput } from '../../../../display/vnc/output.ts';
import { DRM_FORMAT } from '../../../../protocols/drm-fourcc.ts';
import { Damage } from '../../../../src/core/damage.ts';
import type { Rect } from '../../../../src/core/geometry.ts';
import type { Monitor } from '../../../../src/core/monitor.ts';
import type { Handle, ScreenListener, Shadow } from '../../../../src/core/output.ts';
import { RfbViewer, type Format, TRUE_COLOUR, type ViewerOptions } from '../../../rig/rfb-viewer.ts';
import { SinkLog } from '../wayland/sink-log.ts';

/** A VNC output on a Unix socket, with a guest that draws. */
export class VncRig implements Disposable {
  readonly output: VncOutput;
  readonly path: string;
  readonly input = new SinkLog();
  readonly monitors: (Monitor | null)[] = [];
  readonly messages: string[] = [];
  readonly #directory: string;
  readonly #viewers: RfbViewer[] = [];
  #attachment: Disposable;
  #presented = (): void => undefined;
  #shown: Shadow | null = null;
  #cursor: { readonly shadow: Shadow; readonly x: number; readonly y: number; readonly hotspot: number } | null = null;
  #isCursorNew = false;
  readonly #shadows: Handle[] = [];

  private constructor(directory: string, path: string, output: VncOutput, messages: string[]) {
    this.#directory = directory;
    this.path = path;
    this.output = output;
    this.messages = messages;
    this.#attachment = output.attach(this.#listener());
  }

  /** By default at a Unix socket, `path`. */
  static async open({
    password,
    address,
  }: { readonly password?: string; readonly address?: VncAddress } = {}): Promise<VncRig> {
    const directory = mkdtempSync(join(tmpdir(), 'vnc-'));
    const path = join(directory, 'vnc.sock');
    const messages: string[] = [];
    const output = await VncOutput.open({
      address: address ?? { path },
      width: 64,
      height: 48,
      refreshMhz: 1_000_000,
      log: (level, message) => messages.push(`${level} ${message}`),
      ...(password !== undefined && { password }),
    });
    // A test that ends before the thread has started would leave its descriptors to the next one.
    await output.prepare();
    return new VncRig(directory, path, output, messages);
  }

  async connect(options: ViewerOptions = {}): Promise<RfbViewer> {
    const viewer = await RfbViewer.connect(this.path, options);
    this.#viewers.push(viewer);
    return viewer;
  }

  /** Shows a picture of XRGB pixels. All of it is damage, by default. */
  async show(width: number, height: number, pixels: ArrayLike<number>, damage?: Rect): Promise<void> {
    const shadow = this.output.createShadow(width, height, DRM_FORMAT.XRGB8888);
    this.#shadows.push(shadow);
    new Uint32Array(shadow.pixels.bytes.buffer, shadow.pixels.bytes.byteOffset, width * height).set(pixels);
    this.#shown = shadow;
    await this.#present(damage ?? { x: 0, y: 0, width, height });
  }

  /** A square cursor of one premultiplied ARGB colour; null: none. */
  async showCursor(colour: number | null, x = 0, y = 0, side = 8, hotspot = 0): Promise<void> {
    this.#isCursorNew = true;
    this.#cursor = null;
    if (colour !== null) {
      const shadow = this.output.createShadow(side, side, DRM_FORMAT.ARGB8888);
      this.#shadows.push(shadow);
      new Uint32Array(shadow.pixels.bytes.buffer, shadow.pixels.bytes.byteOffset, side * side).fill(colour);
      this.#cursor = { shadow, x, y, hotspot };
    }
    await this.#present(null);
  }

  async moveCursor(x: number, y: number): Promise<void> {
    this.#cursor = { ...this.#cursor!, x, y };
    await this.#present(null);
  }

  /** The guest turns its screen off. */
  async turnOff(): Promise<void> {
    this.#shown = null;
    await this.#present(null);
  }

  detach(): void {
    this.#attachment[Symbol.dispose]();
  }

  attach(): void {
    this.#attachment = this.output.attach(this.#listener());
  }

  /** Frees the buffers that are not on screen. */
  forgetShadows(): void {
    for (let i = this.#shadows.length - 1; i >= 0; i--)
      if (!this.#shadows[i]!.isHeld) this.#shadows.splice(i, 1)[0]![Symbol.dispose]();
  }

  closeViewers(): void {
    for (const viewer of this.#viewers.splice(0)) viewer[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.closeViewers();
    this.output[Symbol.dispose]();
    for (const shadow of this.#shadows) shadow[Symbol.dispose]();
    rmSync(this.#directory, { recursive: true });
  }

  #listener(): ScreenListener {
    return {
      scanout: 0,
      input: this.input,
      presented: () => this.#presented(),
      released: () => undefined,
      resized: (monitor) => this.monitors.push(monitor),
      importsChanged: () => undefined,
      closed: () => undefined,
    };
  }

  #present(changed: Rect | null): Promise<void> {
    const damage = new Damage();
    if (changed) damage.addRect(changed);
    const { width = 0, height = 0 } = this.#shown ?? {};
    const whole = { x: 0, y: 0, width, height };
    const cursor = this.#cursor;
    const side = cursor?.shadow.width ?? 0;
    const presented = new Promise<void>((resolve) => (this.#presented = resolve));
    this.output.present({
      canvas: whole,
      primary: { handle: this.#shown, src: whole, dst: whole },
      cursor: {
        handle: cursor?.shadow ?? null,
        src: { x: 0, y: 0, width: side, height: side },
        dst: { x: cursor?.x ?? 0, y: cursor?.y ?? 0, width: side, height: side },
      },
      hotspotX: cursor?.hotspot ?? 0,
      hotspotY: cursor?.hotspot ?? 0,
      isCursorNew: this.#isCursorNew,
      damage,
      acquire: null,
      release: null,
    });
    this.#isCursorNew = false;
    return presented;
  }
}

/** XRGB pixels as a viewer's format has them. */
export function inFormat(pixels: ArrayLike<number>, { max, shift }: Format = TRUE_COLOUR): number[] {
  return Array.from(pixels, (pixel) =>
    [16, 8, 0].reduce(
      (all, from, i) => all + Math.round((((pixel >> from) & 255) * max[i]!) / 255) * 2 ** shift[i]!,
      0,
    ),
  );
}
