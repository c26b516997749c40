import {
  DRM_CLOEXEC,
  drm_gem_close,
  DRM_IOCTL_GEM_CLOSE,
  DRM_IOCTL_PRIME_FD_TO_HANDLE,
  DRM_IOCTL_PRIME_HANDLE_TO_FD,
  drm_prime_handle,
  DRM_RDWR,
} from '../../protocols/drm.ts';
import { drm_mode_create_dumb, DRM_IOCTL_MODE_CREATE_DUMB } from '../../protocols/drm-mode.ts';
import { type BorrowedFd, OwnedFd } from '../../src/sys/fd.ts';
import { ioctl, tryIoctlBytes } from '../../src/sys/ioctl.ts';
import type { GemHandle } from './ids.ts';

export interface DumbStorage {
  readonly handle: GemHandle;
  /** Bytes from one row to the next, and in total. */
  readonly pitch: number;
  readonly size: number;
}

/**
 * The GEM handles of one device. The kernel returns the same handle for the same dma-buf however
 * often it is imported, and one close closes it for all. So uses are counted here, and the last one
 * closes the handle.
 */
export class GemHandles {
  readonly #fd: BorrowedFd;
  readonly #uses = new Map<GemHandle, number>();

  constructor(device: BorrowedFd) {
    this.#fd = device;
  }

  /** Handles open now. */
  get count(): number {
    return this.#uses.size;
  }

  /** Adds a use of the dma-buf's handle. The descriptor stays the caller's. SysError from the driver. */
  import(dmabuf: BorrowedFd): GemHandle {
    const argument = drm_prime_handle.encode({ fd: dmabuf.fd });
    ioctl(this.#fd, DRM_IOCTL_PRIME_FD_TO_HANDLE, 'DRM_IOCTL_PRIME_FD_TO_HANDLE', argument);
    return this.#use(drm_prime_handle.decode(argument).handle);
  }

  /** A dma-buf of the memory behind a handle, owned by the caller; for an import the same one that it came from. */
  export(handle: GemHandle): OwnedFd {
    const argument = drm_prime_handle.encode({ handle, flags: DRM_CLOEXEC | DRM_RDWR });
    ioctl(this.#fd, DRM_IOCTL_PRIME_HANDLE_TO_FD, 'DRM_IOCTL_PRIME_HANDLE_TO_FD', argument);
    return OwnedFd.adopt(drm_prime_handle.decode(argument).fd);
  }

  /** Allocates memory that the CPU can write and the device can show. SysError ENOMEM, EINVAL. */
  createDumb(width: number, height: number, bpp: number): DumbStorage {
    const argument = drm_mode_create_dumb.encode({ width, height, bpp });
    ioctl(this.#fd, DRM_IOCTL_MODE_CREATE_DUMB, 'DRM_IOCTL_MODE_CREATE_DUMB', argument);
    const { handle, pitch, size } = drm_mode_create_dumb.decode(argument);
    return { handle: this.#use(handle), pitch, size };
  }

  /** Removes one use. Never throws. */
  release(handle: GemHandle): void {
    const uses = this.#uses.get(handle) ?? 0;
    if (uses > 1) {
      this.#uses.set(handle, uses - 1);
      return;
    }
    this.#uses.delete(handle);
    tryIoctlBytes(this.#fd, DRM_IOCTL_GEM_CLOSE, drm_gem_close.encode({ handle }));
  }

  #use(number: number): GemHandle {
    const handle = number as GemHandle;
    this.#uses.set(handle, (this.#uses.get(handle) ?? 0) + 1);
    return handle;
  }
}
