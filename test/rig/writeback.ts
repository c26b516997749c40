import { AtomicRequest } from '../../display/kms/atomic.ts';
import { KmsBuffer } from '../../display/kms/buffer.ts';
import type { KmsDevice } from '../../display/kms/device.ts';
import { type Connector, type Crtc, readResources } from '../../display/kms/resources.ts';
import { DRM_FORMAT } from '../../protocols/drm-fourcc.ts';
import { DRM_MODE_ATOMIC_ALLOW_MODESET } from '../../protocols/drm-mode.ts';
import type { Size } from '../../src/core/geometry.ts';
import type { Picture } from '../../src/core/picture.ts';
import { OwnedFd } from '../../src/sys/fd.ts';
import { NativeBuffer } from '../../src/sys/native-buffer.ts';
import { Poll } from '../../src/sys/poll.ts';

/**
 * Captures what a CRTC shows through a writeback connector, which writes to memory instead of to a
 * monitor. vkms has one; during a capture it takes the monitor's place.
 */
export class Writeback implements Disposable {
  readonly #device: KmsDevice;
  readonly #crtc: Crtc;
  readonly #connector: Connector;
  readonly #monitor: Connector;
  readonly #size: Size;
  readonly #buffer: KmsBuffer;
  readonly #request: AtomicRequest;
  readonly #fence = NativeBuffer.allocate(4);

  /** `size` is that of the current mode. */
  constructor(device: KmsDevice, size: Size) {
    const {
      connectors,
      crtcs,
      writebacks: [connector],
    } = readResources(device);
    if (!connector) throw new Error(`${device.name} (${device.driver}) has no writeback connector`);
    this.#device = device;
    this.#connector = connector;
    this.#monitor = connectors.find(({ properties }) => properties.value('CRTC_ID') !== 0)!;
    this.#crtc = crtcs.find(({ mask }) => (connector.possibleCrtcs & mask) !== 0)!;
    this.#size = size;
    this.#buffer = KmsBuffer.dumb(device, size.width, size.height, DRM_FORMAT.XRGB8888);
    const { properties } = connector;
    this.#request = new AtomicRequest([
      {
        id: connector.id,
        properties: ['CRTC_ID', 'WRITEBACK_FB_ID', 'WRITEBACK_OUT_FENCE_PTR'].map((name) => properties.id(name)),
      },
      { id: this.#monitor.id, properties: [this.#monitor.properties.id('CRTC_ID')] },
    ]);
  }

  /** Captures what is on screen. No commit may be in flight on the CRTC. */
  async take(): Promise<Picture> {
    this.#fence.view.setInt32(0, -1, true);
    this.#commit(this.#crtc.id, this.#buffer.fbAs(this.#buffer.format), this.#fence.address);
    const fence = OwnedFd.adopt(this.#fence.view.getInt32(0, true));
    await new Promise<void>((resolve) => {
      const poll = Poll.readable(fence, () => {
        poll[Symbol.dispose]();
        resolve();
      });
    });
    fence[Symbol.dispose]();
    const picture = this.#copy();
    this.#commit(0, 0, 0);
    return picture;
  }

  [Symbol.dispose](): void {
    this.#request[Symbol.dispose]();
    this.#fence[Symbol.dispose]();
    this.#buffer[Symbol.dispose]();
  }

  #commit(crtc: number, fb: number, fence: number): void {
    [crtc, fb, fence, this.#crtc.id - crtc].forEach((value, slot) => this.#request.set(slot, value));
    const result = this.#request.commit(this.#device, DRM_MODE_ATOMIC_ALLOW_MODESET);
    if (result < 0) throw new Error(`writeback on ${this.#connector.name}: errno ${-result}`);
  }

  #copy(): Picture {
    const { width, height } = this.#size;
    const { pixels, stride } = this.#buffer;
    const data = new Uint8Array(width * height * 4);
    const out = new DataView(data.buffer);
    for (let y = 0; y < height; y++) {
      // XRGB8888 in the buffer; R, G, B, A bytes in a picture.
      for (let x = 0; x < width; x++)
        out.setUint32((y * width + x) * 4, ((pixels.view.getUint32(y * stride + x * 4, true) << 8) | 255) >>> 0);
    }
    return { width, height, data };
  }
}
