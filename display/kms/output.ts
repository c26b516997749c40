import { DRM_FORMAT, type Fourcc, formatName, type Modifier, opaqueOf } from '../../protocols/drm-fourcc.ts';
import { DRM_MODE_ATOMIC_ALLOW_MODESET, DRM_MODE_ATOMIC_TEST_ONLY } from '../../protocols/drm-mode.ts';
import { FormatSet } from '../../src/core/format-set.ts';
import type { Framebuffer } from '../../src/core/framebuffer.ts';
import type { Size } from '../../src/core/geometry.ts';
import type { Log } from '../../src/core/log.ts';
import type { Monitor } from '../../src/core/monitor.ts';
import { DmabufImportRefused, type Frame, type Handle, type Output, type OutputListener, PresentedFlags, type Shadow } from '../../src/core/output.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { monotonicMs } from '../../src/sys/clock.ts';
import { pixmanFormat } from '../../src/sys/pixman.ts';
import { AtomicRequest } from './atomic-request.ts';
import { KmsBuffer, opaqueFor } from './buffer.ts';
import { composedFormat } from './composer.ts';
import { CrtcPlanes, EBUSY, ENODEV } from './crtc-planes.ts';
import type { FlipListener, KmsDevice } from './device.ts';
import { KmsError } from './errors.ts';
import { describeMode, type Mode } from './mode.ts';
import type { Pipe } from './pipes.ts';
import { planeObject, PlaneSlots } from './plane-slots.ts';
import { createBlob, destroyBlob } from './properties.ts';
import { SavedState } from './saved-state.ts';

/** Larger cursor images than the hardware's are drawn by the CPU. */
const MAX_CURSOR: Size = { width: 256, height: 256 };

/** A CRTC busy for longer than a second is not busy with a flip. */
const MAX_BUSY_MS = 1000;

export interface KmsOutputOptions {
  readonly pipe: Pipe;
  /** Tried in order. */
  readonly modes: readonly Mode[];
  /** What the screen shows while the guest shows nothing, 0xRRGGBB; default black. */
  readonly background?: number;
  readonly log: Log;
}

/**
 * One monitor, driven directly (atomic modesetting). Its mode is set when it opens, with a black
 * picture; a frame is then one atomic commit that names framebuffers made before. What was on
 * screen before comes back on dispose.
 */
export class KmsOutput implements Output, FlipListener {
  readonly name: string;
  readonly monitor: Monitor;
  readonly imports: FormatSet;
  readonly readsPages = false;
  readonly shadowFormats: readonly Fourcc[];
  readonly maxCursor = MAX_CURSOR;
  readonly #device: KmsDevice;
  readonly #pipe: Pipe;
  readonly #planes: CrtcPlanes;
  readonly #log: Log;
  readonly #stack: DisposableStack;
  readonly #refreshMs: number;
  readonly #onTimer = (): void => this.#timeOut();
  #listener: OutputListener | null = null;
  #shownPicture: KmsBuffer | null = null;
  #shownCursor: KmsBuffer | null = null;
  #waitingPicture: KmsBuffer | null = null;
  #waitingCursor: KmsBuffer | null = null;
  #isWaiting = false;
  #timer: NodeJS.Timeout | null = null;
  /** While the CRTC is busy: when to give up. */
  #busyUntilMs = 0;
  #isLost = false;
  #sequence = 0;
  #isDisposed = false;

  private constructor(device: KmsDevice, { pipe, modes, background = 0, log }: KmsOutputOptions, stack: DisposableStack) {
    const { connector, crtc } = pipe;
    this.#device = device;
    this.#pipe = pipe;
    this.#log = log;
    this.name = `kms:${device.name}:${connector.name}`;
    this.imports = device.canImport ? importable(pipe) : new FormatSet();
    this.shadowFormats = shadowFormats(pipe);
    const saved = stack.use(new SavedState(device, pipe));
    const { mode, black } = setMode(device, pipe, modes, background, stack);
    // Undone in reverse: the old picture is back before our buffers go.
    this.#planes = stack.use(new CrtcPlanes(device, pipe, mode, black, log));
    stack.defer(() => saved.restore());
    device.listen(crtc.id, this);
    stack.defer(() => device.unlisten(crtc.id));
    this.#refreshMs = 1_000_000 / mode.refreshMhz;
    this.monitor = {
      name: connector.name,
      width: mode.width,
      height: mode.height,
      refreshMhz: mode.refreshMhz,
      widthMm: connector.widthMm,
      heightMm: connector.heightMm,
      ...(connector.edid && { edid: connector.edid }),
    };
    log('info', `${this.name}: ${describeMode(mode)} on CRTC ${crtc.id}, driver ${device.driver}`);
    this.#stack = stack.move();
  }

  /** Sets the mode. KmsError `modeset-refused`, `no-buffer`. The device stays the caller's. */
  static open(device: KmsDevice, options: KmsOutputOptions): KmsOutput {
    using stack = new DisposableStack();
    return new KmsOutput(device, options, stack);
  }

  listen(listener: OutputListener): void {
    this.#listener = listener;
  }

  import(framebuffer: Framebuffer): Handle | DmabufImportRefused {
    const { backing, format, modifier } = framebuffer;
    if (backing.kind !== 'dmabuf') return new DmabufImportRefused('format', `${this.name} imports dma-bufs, not guest pages`);
    if (!this.imports.has(format, modifier)) return new DmabufImportRefused('modifier', `${this.name}: no plane shows ${formatName(format)} with this modifier`);
    return KmsBuffer.import(this.#device, framebuffer, backing.dmabuf, opaqueFor(format, this.#pipe.primary.formats, modifier));
  }

  createShadow(width: number, height: number, format: Fourcc): Shadow {
    return this.#device.shadows.create(width, height, format, this.#log);
  }

  present(frame: Frame): void {
    if (this.#isDisposed) throw new Error(`${this.name}: present after dispose`);
    if (this.#isWaiting) throw new Error(`${this.name}: present while a frame is in flight`);
    const picture = usable(frame.primary.handle);
    const cursor = usable(frame.cursor.handle);
    picture?.acquire();
    cursor?.acquire();
    this.#waitingPicture = picture;
    this.#waitingCursor = cursor;
    this.#isWaiting = true;
    this.#busyUntilMs = 0;
    this.#follow(this.#planes.commit(frame, picture, cursor));
  }

  flipped(timeMs: number, sequence: number): void {
    // One commit by others with an event for us, or the answer to a frame given up: not ours.
    if (!this.#isWaiting || this.#timer) return;
    this.#sequence += (sequence - this.#sequence) >>> 0;
    const zeroCopy = this.#planes.isZeroCopy ? PresentedFlags.ZERO_COPY : 0;
    this.#complete(timeMs, PresentedFlags.VSYNC | PresentedFlags.HW_CLOCK | PresentedFlags.HW_COMPLETION | zeroCopy);
  }

  deviceLost(reason: string): void {
    this.#listener?.closed(reason);
  }

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#listener = null;
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
    this.#stack[Symbol.dispose]();
    this.#shownPicture?.release();
    this.#shownCursor?.release();
    this.#waitingPicture?.release();
    this.#waitingCursor?.release();
  }

  /** What becomes of a commit: an event, another attempt, or nothing, which is no reason to hold up the guest. */
  #follow(result: number): void {
    if (result === 0) return;
    this.#isLost = result === -ENODEV;
    if (result !== -EBUSY) this.#busyUntilMs = 0;
    else if (this.#busyUntilMs === 0) this.#busyUntilMs = monotonicMs() + MAX_BUSY_MS;
    this.#timer = setTimeout(this.#onTimer, this.#refreshMs);
  }

  #timeOut(): void {
    this.#timer = null;
    if (this.#busyUntilMs > monotonicMs()) {
      this.#follow(this.#planes.retry());
      return;
    }
    if (this.#isLost) {
      this.deviceLost('the card is gone');
      return;
    }
    this.#sequence++;
    this.#complete(monotonicMs(), PresentedFlags.HIDDEN);
  }

  #complete(timeMs: number, flags: number): void {
    const picture = this.#shownPicture;
    const cursor = this.#shownCursor;
    this.#shownPicture = this.#waitingPicture;
    this.#shownCursor = this.#waitingCursor;
    this.#waitingPicture = null;
    this.#waitingCursor = null;
    this.#isWaiting = false;
    picture?.release();
    cursor?.release();
    // Each listener may dispose us.
    if (picture && !picture.isUsed) this.#listener?.released(picture);
    if (cursor && cursor !== picture && !cursor.isUsed) this.#listener?.released(cursor);
    this.#listener?.presented(timeMs, this.monitor.refreshMhz, this.#sequence, flags);
  }
}

/** The first mode the driver accepts, set with a black picture. */
function setMode(device: KmsDevice, pipe: Pipe, modes: readonly Mode[], background: number, stack: DisposableStack): { mode: Mode; black: KmsBuffer } {
  const { connector, crtc, primary } = pipe;
  let refused = 0;
  for (const mode of modes) {
    using attempt = new DisposableStack();
    const black = attempt.use(KmsBuffer.dumb(device, mode.width, mode.height, composedFormat(primary)));
    fill(black, background);
    const blob = createBlob(device, mode.info);
    attempt.defer(() => destroyBlob(device, blob));
    const planes = [primary, pipe.cursor, pipe.overlay].filter((plane) => plane !== null).map(planeObject);
    using request = new AtomicRequest([
      { id: connector.id, properties: [connector.properties.id('CRTC_ID')] },
      { id: crtc.id, properties: [crtc.properties.id('MODE_ID'), crtc.properties.id('ACTIVE')] },
      ...planes,
    ]);
    [crtc.id, blob, 1].forEach((value, slot) => request.set(slot, value));
    const whole = { x: 0, y: 0, width: mode.width, height: mode.height };
    new PlaneSlots(request, 3, crtc.id, planes[0]!.properties).show(black.fbAs(black.format), whole, 0, 0, mode.width, mode.height);
    refused = request.commit(device, DRM_MODE_ATOMIC_ALLOW_MODESET | DRM_MODE_ATOMIC_TEST_ONLY) || request.commit(device, DRM_MODE_ATOMIC_ALLOW_MODESET);
    if (refused === 0) {
      stack.use(attempt.move());
      return { mode, black };
    }
  }
  const tried = modes.map(describeMode).join(', ');
  throw new KmsError('modeset-refused', `${device.name}:${connector.name}: the driver refuses ${tried} (errno ${-refused}); ask for another mode with mode=WIDTHxHEIGHT`);
}

/** A buffer of a format of `composedFormat` in one colour, 0xRRGGBB. */
function fill({ format, pixels }: KmsBuffer, colour: number): void {
  const swapped = ((colour & 0xff) << 16) | (colour & 0xff00) | (colour >>> 16);
  if (format === DRM_FORMAT.RGB565) {
    new Uint16Array(pixels.bytes.buffer).fill(((colour >>> 8) & 0xf800) | ((colour >>> 5) & 0x7e0) | ((colour >>> 3) & 0x1f));
  } else {
    new Uint32Array(pixels.bytes.buffer).fill((format === DRM_FORMAT.XBGR8888 ? swapped : colour) | 0xff000000);
  }
}

/** Whatever some plane shows as it is, or without its alpha. */
function importable({ primary, cursor, overlay }: Pipe): FormatSet {
  const pairs: (readonly [Fourcc, Modifier])[] = [];
  for (const { formats } of [primary, cursor, overlay].filter((plane) => plane !== null)) {
    for (const format of formats.formats()) for (const modifier of formats.modifiers(format)) pairs.push([format, modifier]);
  }
  for (const format of Object.values(DRM_FORMAT)) {
    const opaque = opaqueOf(format);
    if (opaque !== null && opaque !== format) for (const modifier of primary.formats.modifiers(opaque)) pairs.push([format, modifier]);
  }
  return new FormatSet(pairs);
}

/** What the CPU can draw, the screen's own format first; with alpha for cursors, which are composed where no plane takes them. */
function shadowFormats({ primary }: Pipe): Fourcc[] {
  const drawn = [...primary.formats.formats()].filter((format) => pixmanFormat(format) !== null);
  return [...new Set([composedFormat(primary), ...drawn, DRM_FORMAT.ARGB8888])];
}

function usable(handle: Handle | null): KmsBuffer | null {
  return handle instanceof KmsBuffer && !handle.isFreed ? handle : null;
}
