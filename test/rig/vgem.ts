import { execFileSync } from 'node:child_process';
import { closeSync, constants, existsSync, openSync, readdirSync, readlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import {
  DMA_BUF_IOCTL_EXPORT_SYNC_FILE,
  DMA_BUF_IOCTL_IMPORT_SYNC_FILE,
  dma_buf_export_sync_file,
  dma_buf_import_sync_file,
  DMA_BUF_SYNC_READ,
  DMA_BUF_SYNC_WRITE,
} from '../../protocols/dma-buf.ts';
import {
  DRM_CLOEXEC,
  DRM_IOCTL_GEM_CLOSE,
  DRM_IOCTL_PRIME_HANDLE_TO_FD,
  drm_gem_close,
  drm_prime_handle,
} from '../../protocols/drm.ts';
import { DRM_IOCTL_MODE_CREATE_DUMB, drm_mode_create_dumb } from '../../protocols/drm-mode.ts';
import { iow, iowr, struct, u32 } from '../../protocols/layout.ts';
import { SYNC_IOC_FILE_INFO, sync_fence_info, sync_file_info } from '../../protocols/sync-file.ts';
import { type BorrowedFd, OwnedFd } from '../../src/sys/fd.ts';
import { ioctl } from '../../src/sys/ioctl.ts';
import { NativeBuffer } from '../../src/sys/native-buffer.ts';
import { cacheDir } from './guest-image.ts';

/* From drm/vgem_drm.h, which no Debian package installs. */
const VGEM_FENCE_WRITE = 1;
const drm_vgem_fence_attach = struct('drm_vgem_fence_attach', { handle: u32, flags: u32, out_fence: u32, pad: u32 });
const drm_vgem_fence_signal = struct('drm_vgem_fence_signal', { fence: u32, flags: u32 });
const DRM_IOCTL_VGEM_FENCE_ATTACH = iowr('d', 0x41, drm_vgem_fence_attach);
const DRM_IOCTL_VGEM_FENCE_SIGNAL = iow('d', 0x42, drm_vgem_fence_signal);

/** The kernel's virtual GPU, whose work ends when a test ends it (or after 10 s). The module is loaded until dispose. */
export class Vgem implements Disposable {
  readonly #fd: OwnedFd;

  constructor() {
    execFileSync('modprobe', ['-d', join(cacheDir, 'linux'), 'vgem']);
    const drm = '/sys/class/drm';
    const card = readdirSync(drm).find(
      (name) =>
        /^card\d+$/.test(name) &&
        existsSync(`${drm}/${name}/device`) &&
        basename(readlinkSync(`${drm}/${name}/device`)) === 'vgem',
    );
    if (card === undefined) throw new Error(`vgem is loaded but has no card in ${drm}`);
    this.#fd = OwnedFd.adopt(openSync(`/dev/dri/${card}`, constants.O_RDWR));
  }

  /** Starts a piece of work, which runs until its `end` or dispose. */
  begin(): GpuWork {
    return new GpuWork(this.#fd);
  }

  [Symbol.dispose](): void {
    this.#fd[Symbol.dispose]();
    execFileSync('modprobe', ['-r', '-d', join(cacheDir, 'linux'), 'vgem']);
  }
}

/** One piece of GPU work and the fence that signals its end. Dispose ends it too. */
export class GpuWork implements Disposable {
  /** A sync_file, closed at dispose; a consumer it is handed to may close it earlier. */
  readonly fence: OwnedFd;
  readonly #device: BorrowedFd;
  readonly #handle: number;
  readonly #number: number;
  #isDone = false;

  constructor(device: BorrowedFd) {
    this.#device = device;
    const buffer = drm_mode_create_dumb.encode({ width: 16, height: 16, bpp: 32 });
    ioctl(device, DRM_IOCTL_MODE_CREATE_DUMB, 'DRM_IOCTL_MODE_CREATE_DUMB', buffer);
    const { handle } = drm_mode_create_dumb.decode(buffer);
    this.#handle = handle;
    const attach = drm_vgem_fence_attach.encode({ handle, flags: VGEM_FENCE_WRITE });
    ioctl(device, DRM_IOCTL_VGEM_FENCE_ATTACH, 'DRM_IOCTL_VGEM_FENCE_ATTACH', attach);
    this.#number = drm_vgem_fence_attach.decode(attach).out_fence;
    const prime = drm_prime_handle.encode({ handle, flags: DRM_CLOEXEC });
    ioctl(device, DRM_IOCTL_PRIME_HANDLE_TO_FD, 'DRM_IOCTL_PRIME_HANDLE_TO_FD', prime);
    const dmabuf = drm_prime_handle.decode(prime).fd;
    const exported = dma_buf_export_sync_file.encode({ flags: DMA_BUF_SYNC_READ });
    ioctl({ fd: dmabuf }, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, 'DMA_BUF_IOCTL_EXPORT_SYNC_FILE', exported);
    this.fence = OwnedFd.adopt(dma_buf_export_sync_file.decode(exported).fd);
    closeSync(dmabuf);
  }

  /** The work writes to `dmabuf`: the kernel has everything else that uses it wait for its end. */
  writesTo(dmabuf: BorrowedFd): void {
    const imported = dma_buf_import_sync_file.encode({ flags: DMA_BUF_SYNC_WRITE, fd: this.fence.fd });
    ioctl(dmabuf, DMA_BUF_IOCTL_IMPORT_SYNC_FILE, 'DMA_BUF_IOCTL_IMPORT_SYNC_FILE', imported);
  }

  end(): void {
    if (this.#isDone) return;
    this.#isDone = true;
    ioctl(
      this.#device,
      DRM_IOCTL_VGEM_FENCE_SIGNAL,
      'DRM_IOCTL_VGEM_FENCE_SIGNAL',
      drm_vgem_fence_signal.encode({ fence: this.#number }),
    );
  }

  [Symbol.dispose](): void {
    this.end();
    this.fence[Symbol.dispose]();
    ioctl(this.#device, DRM_IOCTL_GEM_CLOSE, 'DRM_IOCTL_GEM_CLOSE', drm_gem_close.encode({ handle: this.#handle }));
  }
}

/** Reads the state of a sync_file with one fence. `status` is 1 once it has signalled, at `timeMs` of CLOCK_MONOTONIC; before, 0. */
export function fenceInfo(fence: BorrowedFd): { driver: string; status: number; timeMs: number } {
  using info = NativeBuffer.allocate(sync_fence_info.size);
  ioctl(
    fence,
    SYNC_IOC_FILE_INFO,
    'SYNC_IOC_FILE_INFO',
    sync_file_info.encode({ num_fences: 1, sync_fence_info: info.address }),
  );
  const { driver_name, status, timestamp_ns } = sync_fence_info.decode(info.bytes);
  return {
    driver: Buffer.from(driver_name).toString('latin1').replace(/\0.*/s, ''),
    status,
    timeMs: timestamp_ns / 1e6,
  };
}
