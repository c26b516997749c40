import { makeEdid } from '../../../protocols/edid.ts';
import { virtio_gpu_display_one, virtio_gpu_rect, virtio_gpu_resp_display_info, virtio_gpu_resp_edid } from '../../../protocols/virtio-gpu.ts';
import type { Monitor } from '../../core/monitor.ts';
import type { Scanouts } from './scanouts.ts';

const NO_EDID: Uint8Array = new Uint8Array(0);
const MAX_EDID = virtio_gpu_resp_edid.fields.edid.size;

interface Plug {
  readonly monitor: Monitor;
  readonly edid: Uint8Array;
}

/** What is plugged into each scanout, as the guest asks for it. Outlives resets. */
export class Monitors {
  readonly #plugs: (Plug | null)[];
  readonly #scanouts: Scanouts;

  constructor(scanouts: Scanouts) {
    this.#scanouts = scanouts;
    this.#plugs = Array.from({ length: scanouts.count }, () => null);
  }

  /** Null is unplugged. A given EDID goes to the guest as it is, unless it is longer than the 1024 bytes of a response. */
  set(index: number, monitor: Monitor | null): void {
    this.#scanouts.get(index);
    this.#plugs[index] = monitor && { monitor, edid: monitor.edid && monitor.edid.length <= MAX_EDID ? monitor.edid : makeEdid(monitor) };
  }

  /** Empty when nothing is plugged in. VirtioGpuError invalid-scanout. */
  edid(index: number): Uint8Array {
    this.#scanouts.get(index);
    return this.#plugs[index]?.edid ?? NO_EDID;
  }

  /** Fills in virtio_gpu_resp_display_info, which is zero: monitors side by side. */
  writeDisplayInfo(view: DataView): void {
    let x = 0;
    this.#plugs.forEach((plug, index) => {
      if (!plug) return;
      const { width, height } = plug.monitor;
      const at = virtio_gpu_resp_display_info.offset.pmodes + index * virtio_gpu_display_one.size;
      virtio_gpu_rect.set(view, at + virtio_gpu_display_one.offset.r, { x, y: 0, width, height });
      virtio_gpu_display_one.field.enabled.set(view, at, 1);
      x += width;
    });
  }
}
