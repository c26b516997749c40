import type { Fourcc } from '../../protocols/drm-fourcc.ts';
import { formatName } from '../../protocols/drm-fourcc.ts';
import type { Log } from '../../src/core/log.ts';
import { SysError } from '../../src/sys/errors.ts';
import type { BorrowedFd } from '../../src/sys/fd.ts';
import { GbmDevice, GbmError } from '../../src/sys/lib/gbm.ts';
import { KmsBuffer } from './buffer.ts';
import type { KmsDevice } from './device.ts';

/**
 * Memory of one card for what the CPU draws: GBM's where libgbm has a driver for the card, dumb
 * buffers otherwise. libgbm loads that driver, so it is asked when the first shadow is needed: a
 * guest whose pages go straight to the screen never needs one.
 */
export class ShadowMemory implements Disposable {
  readonly #device: KmsDevice;
  readonly #open: (card: BorrowedFd) => GbmDevice | GbmError;
  readonly #logged = new Set<string>();
  /** Drivers that refuse once do so again, and some (llvmpipe) lose a descriptor each time. */
  readonly #refused = new Set<Fourcc>();
  #gbm: GbmDevice | GbmError | null = null;

  /** `open` is for tests. */
  constructor(device: KmsDevice, open: (card: BorrowedFd) => GbmDevice | GbmError = (card) => GbmDevice.open(card)) {
    this.#device = device;
    this.#open = open;
  }

  /** Zeroed. KmsError `no-buffer`. */
  create(width: number, height: number, format: Fourcc, log: Log): KmsBuffer {
    const gbm = (this.#gbm ??= this.#open(this.#device.fd));
    if (gbm instanceof GbmError) {
      this.#logOnce(log, `shadows are dumb buffers: ${gbm.message}`);
    } else if (!this.#refused.has(format)) {
      try {
        const buffer = KmsBuffer.gbm(this.#device, gbm, width, height, format);
        this.#logOnce(log, `shadows are GBM buffers (${gbm.backendName})`);
        return buffer;
      } catch (error) {
        if (!(error instanceof GbmError || error instanceof SysError)) throw error;
        this.#refused.add(format);
        this.#logOnce(log, `${formatName(format)} shadows are dumb buffers: ${error.message}`);
      }
    }
    return KmsBuffer.dumb(this.#device, width, height, format);
  }

  /** Before the card is closed: libgbm has a descriptor of it, and so is master, until the last buffer goes. */
  [Symbol.dispose](): void {
    if (this.#gbm instanceof GbmDevice) this.#gbm[Symbol.dispose]();
  }

  #logOnce(log: Log, message: string): void {
    if (this.#logged.has(message)) return;
    this.#logged.add(message);
    log('info', `${this.#device.name}: ${message}`);
  }
}
