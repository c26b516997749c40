import { drm_mode_create_blob, drm_mode_destroy_blob, DRM_IOCTL_MODE_CREATEPROPBLOB, DRM_IOCTL_MODE_DESTROYPROPBLOB, drm_mode_rect } from '../../protocols/drm-mode.ts';
import type { Damage } from '../../src/core/damage.ts';
import type { Rect } from '../../src/core/geometry.ts';
import { tryIoctl } from '../../src/sys/ioctl.ts';
import { NativeBuffer } from '../../src/sys/native-buffer.ts';
import type { KmsDevice } from './device.ts';

/** As many rectangles as Damage keeps. */
const MAX_CLIPS = 16;

/** Above this share of the picture, two more ioctls cost more than the driver would save. */
const WORTHWHILE_SHARE = 0.5;

/**
 * A plane's FB_DAMAGE_CLIPS for one commit. Drivers that have the property copy or send what is
 * shown (USB, virtual machines, panel self refresh), so for small damage the two ioctls that make
 * and drop a blob pay; for a picture that changed as a whole the kernel assumes just that, and
 * there is no blob.
 */
export class DamageClips implements Disposable {
  readonly #device: KmsDevice;
  readonly #rects = NativeBuffer.allocate(MAX_CLIPS * drm_mode_rect.size);
  readonly #argument = NativeBuffer.allocate(drm_mode_create_blob.size);

  constructor(device: KmsDevice) {
    this.#device = device;
  }

  /** The blob, 0 for everything. Drop it after the commit. */
  make(damage: Damage, src: Rect): number {
    if (damage.count === 0 || damage.count > MAX_CLIPS || damage.area > src.width * src.height * WORTHWHILE_SHARE) return 0;
    const { view } = this.#rects;
    for (let i = 0; i < damage.count; i++) {
      const at = i * drm_mode_rect.size;
      drm_mode_rect.field.x1.set(view, at, damage.x(i));
      drm_mode_rect.field.y1.set(view, at, damage.y(i));
      drm_mode_rect.field.x2.set(view, at, damage.x(i) + damage.width(i));
      drm_mode_rect.field.y2.set(view, at, damage.y(i) + damage.height(i));
    }
    const argument = this.#argument;
    drm_mode_create_blob.field.data.set(argument.view, 0, this.#rects.address);
    drm_mode_create_blob.field.length.set(argument.view, 0, damage.count * drm_mode_rect.size);
    if (tryIoctl(this.#device.fd, DRM_IOCTL_MODE_CREATEPROPBLOB, argument.address) < 0) return 0;
    return drm_mode_create_blob.field.blob_id.get(argument.view, 0);
  }

  drop(blob: number): void {
    if (blob === 0) return;
    drm_mode_destroy_blob.field.blob_id.set(this.#argument.view, 0, blob);
    tryIoctl(this.#device.fd, DRM_IOCTL_MODE_DESTROYPROPBLOB, this.#argument.address);
  }

  [Symbol.dispose](): void {
    this.#rects[Symbol.dispose]();
    this.#argument[Symbol.dispose]();
  }
}
