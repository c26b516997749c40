import { setImmediate } from 'node:timers/promises';
import { DRM_FORMAT } from '../../protocols/drm-fourcc.ts';
import type { Size } from '../../src/core/geometry.ts';
import type { Picture } from '../../src/core/picture.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { OwnedFd } from '../../src/sys/fd.ts';
import { FenceWait } from '../../src/sys/fence-wait.ts';
import { NativeBuffer } from '../../src/sys/native-buffer.ts';
import { withResolvers } from '../../src/sys/with-resolvers.ts';
import { AtomicRequest, isBusy, isRefused, nextSerial } from './atomic.ts';
import { KmsBuffer } from './buffer.ts';
import { type KmsDevice, u32List } from './device.ts';
import { KmsError } from './errors.ts';
import { type Connector, type Pipe, readBlob } from './resources.ts';

/** Pixels that are converted in one turn of the event loop, about a millisecond. */
const AT_ONCE = 512 * 512;
/** The alpha of a signed word 0xAABBGGRR. */
const OPAQUE = -0x1000000;

/**
 * One picture of what a CRTC shows, which its hardware writes to memory at a vertical blank: a writeback connector
 * (drivers/gpu/drm/drm_writeback.c) is put on the CRTC for it.
 *
 *     open -> start -> `isWritten` -> stop -> picture
 *
 * The monitor stays on where the driver lets the two connectors share a CRTC. Where it does not, a monitor that is
 * virtual gives way until `stop`; one that is real, and may be looked at, does not.
 */
export class Writeback implements Disposable {
  /** Resolves after `end`, rejects after `fail`. */
  readonly ended: Promise<void>;
  readonly #device: KmsDevice;
  readonly #pipe: Pipe;
  readonly #connector: Connector;
  readonly #size: Size;
  readonly #buffer: KmsBuffer;
  /** The writeback connector: CRTC_ID, WRITEBACK_FB_ID, WRITEBACK_OUT_FENCE_PTR. The monitor's connector: CRTC_ID. */
  readonly #request: AtomicRequest;
  /** The kernel writes a descriptor here. */
  readonly #fence: NativeBuffer;
  readonly #wait: FenceWait;
  readonly #stack: DisposableStack;
  readonly #onEnded = withResolvers<undefined>();
  #onWritten: () => void = () => undefined;
  #isRunning = false;
  #isWritten = false;
  #serial = 0;

  private constructor(device: KmsDevice, pipe: Pipe, connector: Connector, size: Size, stack: DisposableStack) {
    this.#device = device;
    this.#pipe = pipe;
    this.#connector = connector;
    this.#size = size;
    this.#buffer = stack.use(KmsBuffer.dumb(device, size.width, size.height, DRM_FORMAT.XRGB8888));
    const { properties } = connector;
    this.#request = stack.use(
      new AtomicRequest([
        {
          id: connector.id,
          properties: ['CRTC_ID', 'WRITEBACK_FB_ID', 'WRITEBACK_OUT_FENCE_PTR'].map((name) => properties.id(name)),
        },
        { id: pipe.connector.id, properties: [pipe.connector.properties.id('CRTC_ID')] },
      ]),
    );
    this.#fence = stack.use(NativeBuffer.allocate(4));
    this.#wait = stack.use(
      new FenceWait(() => {
        this.#isWritten = true;
        this.#onWritten();
      }),
    );
    this.ended = this.#onEnded.promise;
    this.#stack = stack.move();
  }

  /**
   * Changes nothing on screen. `size` is that of the mode. KmsError `no-writeback` if none of `connectors` can write what
   * the pipe shows, `no-buffer`.
   */
  static open(device: KmsDevice, pipe: Pipe, connectors: readonly Connector[], size: Size): Writeback {
    const what = `${device.name}:${pipe.connector.name}`;
    const connector = connectors.find(({ possibleCrtcs }) => (possibleCrtcs & pipe.crtc.mask) !== 0);
    if (!connector)
      throw new KmsError(
        'no-writeback',
        `${what} cannot be read back, because its card (${device.driver}) has no writeback connector; take the guest's picture instead`,
      );
    const formats = readBlob(device, connector.properties.value('WRITEBACK_PIXEL_FORMATS'));
    if (!formats || !u32List(formats).includes(DRM_FORMAT.XRGB8888))
      throw new KmsError('no-writeback', `${what} cannot be read back, because ${connector.name} writes no XRGB8888`);
    using stack = new DisposableStack();
    return new Writeback(device, pipe, connector, size, stack);
  }

  /** Between `start` and `stop`. */
  get isRunning(): boolean {
    return this.#isRunning;
  }

  /** The hardware has written the picture. */
  get isWritten(): boolean {
    return this.#isWritten;
  }

  /** The serial that the event of `stop` carries. */
  get serial(): number {
    return this.#serial;
  }

  /**
   * Has what is on screen written at the next vertical blank, and calls `onWritten` then. Nothing may be in flight on the
   * CRTC. KmsError `no-writeback`, SysError EMFILE; nothing is changed then.
   */
  start(onWritten: () => void): void {
    const { crtc, connector } = this.#pipe;
    this.#onWritten = onWritten;
    this.#fence.view.setInt32(0, -1, true);
    const fb = this.#buffer.fbAs(DRM_FORMAT.XRGB8888);
    this.#set(crtc.id, fb, this.#fence.address, crtc.id);
    let result = this.#request.change(this.#device);
    if (isRefused(result) && connector.name.startsWith('Virtual-')) {
      this.#set(crtc.id, fb, this.#fence.address, 0);
      result = this.#request.change(this.#device);
    }
    if (result < 0)
      throw new KmsError(
        'no-writeback',
        `${this.#device.name}:${connector.name} cannot be read back while it is shown: the driver (${this.#device.driver}) refuses ${this.#connector.name} beside it (errno ${-result})`,
      );
    this.#isRunning = true;
    using fence = OwnedFd.adopt(this.#fence.view.getInt32(0, true));
    try {
      this.#wait.start(fence);
    } catch (error) {
      this.stop();
      throw error;
    }
  }

  /**
   * The monitor has its CRTC for itself again, at a vertical blank, with an event. Returns as `AtomicRequest.change` does;
   * after -EBUSY it is to be called again.
   */
  stop(): number {
    this.#wait.stop();
    this.#serial = nextSerial();
    this.#set(0, 0, 0, this.#pipe.crtc.id);
    const result = this.#request.change(this.#device, this.#serial);
    this.#isRunning = isBusy(result);
    return result;
  }

  end(): void {
    this.#onEnded.resolve(undefined);
  }

  /** Nothing will be written. Disposes this. */
  fail(error: unknown): void {
    this.#onEnded.reject(error);
    this[Symbol.dispose]();
  }

  /** What was written, some rows in each turn of the event loop. KmsError `no-writeback` if this is disposed meanwhile. */
  async picture(): Promise<Picture> {
    const { width, height } = this.#size;
    const data = new Uint8Array(width * height * 4);
    // Signed words: V8 allocates a number for each large unsigned one until it has compiled the loop.
    const out = new Int32Array(data.buffer);
    const rows = Math.max(1, Math.floor(AT_ONCE / width));
    for (let from = 0; from < height; from += rows) {
      if (this.#stack.disposed)
        throw new KmsError('no-writeback', `${this.#device.name}: the screen was turned off before it was read back`);
      const { pixels, stride } = this.#buffer;
      for (let y = from; y < Math.min(height, from + rows); y++) {
        const row = new Int32Array(pixels.bytes.buffer, pixels.bytes.byteOffset + y * stride, width);
        // XRGB8888 to bytes R, G, B, A.
        for (let x = 0; x < width; x++) {
          const pixel = row[x]!;
          out[y * width + x] = OPAQUE | ((pixel & 0xff) << 16) | (pixel & 0xff00) | ((pixel >>> 16) & 0xff);
        }
      }
      await setImmediate();
    }
    return { width, height, data };
  }

  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }

  #set(...values: readonly [crtc: number, fb: number, fence: number, monitorCrtc: number]): void {
    values.forEach((value, slot) => this.#request.set(slot, value));
  }
}
