import { makeEdid } from '../../../protocols/edid.ts';
import {
  virtio_gpu_display_one,
  virtio_gpu_rect,
  virtio_gpu_resp_display_info,
  virtio_gpu_resp_edid,
} from '../../../protocols/virtio-gpu.ts';
import { Damage } from '../../core/damage.ts';
import type { Framebuffer, PixelLayout } from '../../core/framebuffer.ts';
import { EMPTY_RECT, MutableRect, type Rect, sameRect } from '../../core/geometry.ts';
import type { Monitor } from '../../core/monitor.ts';
import { type ScanoutId, type SourceSink } from '../../core/source.ts';
import { VirtioGpuError } from './errors.ts';
import type { Answer } from './fences.ts';
import { LinearLayout, type Resource, sameLayout } from './resource.ts';

const NO_EDID: Uint8Array = new Uint8Array(0);
const MAX_EDID = virtio_gpu_resp_edid.fields.edid.size;

/** How many framebuffers of one blob are kept; more only while they are shown. */
const KEPT_LAYOUTS = 4;

/** A resource on a plane of a scanout. The framebuffer is null while the resource has no pixels. */
interface Plane {
  resource: Resource | null;
  readonly layout: LinearLayout;
  framebuffer: Framebuffer | null;
}

interface Cursor extends Plane {
  /** Hidden, it keeps its image: the guest can show it again by a move. */
  isVisible: boolean;
  hotspotX: number;
  hotspotY: number;
  x: number;
  y: number;
}

/** A monitor that is plugged in, with the EDID the guest gets for it. */
interface Plug {
  readonly monitor: Monitor;
  readonly edid: Uint8Array;
}

export interface Scanout extends Plane {
  readonly id: ScanoutId;
  readonly rect: MutableRect;
  /** What changed inside `rect` and has not been flushed. */
  readonly pending: Damage;
  readonly cursor: Cursor;
  /** Null is unplugged. Survives resets of the device. */
  plug: Plug | null;
}

/** What each of the guest's monitors shows and what is plugged in there, and the sink that is notified. */
export class Scanouts {
  readonly #scanouts: readonly Scanout[];
  /** Until the guest flushes again, its memory need not hold what it shows. */
  #isHalted = false;
  readonly #exported = new Set<Resource>();
  #sink: SourceSink | null = null;

  constructor(count: number) {
    this.#scanouts = Array.from({ length: count }, (_, index) => ({
      id: index,
      resource: null,
      layout: new LinearLayout(),
      framebuffer: null,
      rect: new MutableRect(),
      pending: new Damage(),
      cursor: {
        resource: null,
        layout: new LinearLayout(),
        framebuffer: null,
        isVisible: false,
        hotspotX: 0,
        hotspotY: 0,
        x: 0,
        y: 0,
      },
      plug: null,
    }));
  }

  get count(): number {
    return this.#scanouts.length;
  }

  get(index: number): Scanout {
    const scanout = this.#scanouts[index];
    if (!scanout)
      throw new VirtioGpuError(
        'invalid-scanout',
        `there is no scanout ${index}; the device has ${this.#scanouts.length}, counted from 0 (QEMU: max_outputs must not be more)`,
      );
    return scanout;
  }

  /**
   * Plugs a monitor in; null unplugs. Its own EDID goes to the guest as it is, unless it is longer than the
   * 1024 bytes of a response. VirtioGpuError invalid-scanout.
   */
  setMonitor(index: number, monitor: Monitor | null): void {
    const edid = monitor?.edid && monitor.edid.length <= MAX_EDID ? monitor.edid : null;
    this.get(index).plug = monitor && { monitor, edid: edid ?? makeEdid(monitor) };
  }

  /** Empty if nothing is plugged in. VirtioGpuError invalid-scanout. */
  edid(index: number): Uint8Array {
    return this.get(index).plug?.edid ?? NO_EDID;
  }

  /** Fills in a zeroed virtio_gpu_resp_display_info: the monitors stand side by side. */
  writeDisplayInfo(view: DataView): void {
    let x = 0;
    for (const { id, plug } of this.#scanouts) {
      if (!plug) continue;
      const { width, height } = plug.monitor;
      const at = virtio_gpu_resp_display_info.offset.pmodes + id * virtio_gpu_display_one.size;
      virtio_gpu_rect.set(view, at + virtio_gpu_display_one.offset.r, { x, y: 0, width, height });
      virtio_gpu_display_one.field.enabled.set(view, at, 1);
      x += width;
    }
  }

  /** Sets the sink, reports what is on, and shows it. */
  connect(sink: SourceSink): void {
    this.#sink = sink;
    for (const scanout of this.#scanouts) {
      if (scanout.framebuffer) this.#announce(scanout, true);
      if (scanout.cursor.isVisible && scanout.cursor.framebuffer) this.#announceCursor(scanout);
    }
    for (const { id, exported } of this.#exported) sink.exported?.(id, exported!);
  }

  /** Shows `rect`, which is inside the layout, from the next flush on. That flush shows all of it. */
  show(scanout: Scanout, resource: Resource, layout: PixelLayout, rect: Rect): void {
    if (scanout.resource === resource && sameRect(scanout.rect, rect) && sameLayout(scanout.layout, layout)) return;
    scanout.resource = resource;
    scanout.layout.copy(layout);
    scanout.rect.copy(rect);
    scanout.framebuffer = resource.framebuffer(layout);
    this.#announce(scanout, false);
    this.#dropOldFramebuffers(resource);
  }

  off(scanout: Scanout): void {
    if (!scanout.resource) return;
    scanout.resource = null;
    scanout.framebuffer = null;
    scanout.rect.copy(EMPTY_RECT);
    scanout.pending.clear();
    this.#sink?.scanout(scanout.id, null, scanout.rect);
  }

  /** What is shown must stay as it is until the guest flushes. */
  halt(): void {
    if (this.#isHalted) return;
    this.#isHalted = true;
    this.#sink?.halted();
  }

  /** Shows the resource's pixels as they are now, as the cursor. */
  setCursor(
    scanout: Scanout,
    resource: Resource,
    layout: PixelLayout,
    hotspotX: number,
    hotspotY: number,
    x: number,
    y: number,
  ): void {
    const { cursor } = scanout;
    cursor.resource = resource;
    cursor.framebuffer = resource.framebuffer(cursor.layout.copy(layout));
    cursor.isVisible = true;
    cursor.hotspotX = hotspotX;
    cursor.hotspotY = hotspotY;
    cursor.x = x;
    cursor.y = y;
    this.#announceCursor(scanout);
    this.#dropOldFramebuffers(resource);
  }

  /** Moves the cursor, which is hidden or shows its last image. */
  moveCursor(scanout: Scanout, isVisible: boolean, x: number, y: number): void {
    const { cursor } = scanout;
    const wasVisible = cursor.isVisible;
    cursor.isVisible = isVisible && cursor.resource !== null;
    cursor.x = x;
    cursor.y = y;
    if (cursor.isVisible !== wasVisible) this.#announceCursor(scanout);
    else this.#sink?.cursorMoved(scanout.id, x, y);
  }

  /** Whether it is on a scanout or is a cursor. */
  isShown(resource: Resource): boolean {
    for (const { resource: shown, cursor } of this.#scanouts)
      if (shown === resource || cursor.resource === resource) return true;
    return false;
  }

  /** Marks a rectangle of the resource as changed. It may reach beyond the resource. */
  damage(resource: Resource, x: number, y: number, width: number, height: number): void {
    for (const { resource: shown, rect, pending } of this.#scanouts) {
      if (shown !== resource) continue;
      const left = Math.max(x, rect.x);
      const top = Math.max(y, rect.y);
      pending.add(
        left,
        top,
        Math.min(x + width, rect.x + rect.width) - left,
        Math.min(y + height, rect.y + rect.height) - top,
      );
    }
  }

  /** Calls `see` with every scanout that shows the resource. `flush` clears their `pending`. */
  eachPending(resource: Resource, see: (scanout: Scanout) => void): void {
    for (const scanout of this.#scanouts) if (scanout.resource === resource) see(scanout);
  }

  /** Shows what changed on every scanout of the resource. `answer` waits for all of them. */
  flush(resource: Resource, answer: Answer): void {
    const sink = this.#sink;
    this.#isHalted = false;
    if (!sink) return;
    for (const scanout of this.#scanouts) {
      if (scanout.resource !== resource || !scanout.framebuffer || scanout.pending.isEmpty) continue;
      sink.flush(scanout.id, scanout.pending, answer.wait());
      scanout.pending.clear();
    }
  }

  /**
   * The resource's pixels have moved to `resource.pixels`, or it has a UUID now. What is shown gets new framebuffers,
   * then the old ones are destroyed. The caller frees the memory of the old pixels afterwards.
   */
  moved(resource: Resource): void {
    this.#withdraw(resource);
    const old = resource.framebuffers;
    resource.framebuffers = [];
    for (const scanout of this.#scanouts) {
      if (scanout.resource === resource) {
        const hadPixels = scanout.framebuffer !== null;
        scanout.framebuffer = resource.framebuffer(scanout.layout);
        this.#announce(scanout, hadPixels && !this.#isHalted);
      }
      const { cursor } = scanout;
      if (cursor.resource === resource) {
        cursor.framebuffer = resource.framebuffer(cursor.layout);
        if (cursor.isVisible) this.#announceCursor(scanout);
      }
    }
    for (const framebuffer of old) this.#sink?.destroyed(framebuffer);
    this.#export(resource);
  }

  /** Turns off everything that shows the resource, which is about to go, as its pixels are (see `moved`). */
  remove(resource: Resource): void {
    for (const scanout of this.#scanouts) {
      if (scanout.resource === resource) this.off(scanout);
      const { cursor } = scanout;
      if (cursor.resource !== resource) continue;
      cursor.resource = null;
      cursor.framebuffer = null;
      if (cursor.isVisible) this.moveCursor(scanout, false, cursor.x, cursor.y);
    }
    for (const framebuffer of resource.framebuffers) this.#sink?.destroyed(framebuffer);
    resource.framebuffers = [];
  }

  #export(resource: Resource): void {
    resource.export();
    if (!resource.exported) return;
    this.#exported.add(resource);
    this.#sink?.exported?.(resource.id, resource.exported);
  }

  #withdraw(resource: Resource): void {
    const { exported } = resource;
    if (!exported) return;
    resource.exported = null;
    this.#exported.delete(resource);
    this.#sink?.destroyed(exported);
  }

  #announce(scanout: Scanout, isFlushed: boolean): void {
    scanout.pending.clear();
    scanout.pending.addRect(scanout.rect);
    this.#sink?.scanout(scanout.id, scanout.framebuffer, scanout.rect);
    if (!isFlushed || !scanout.framebuffer || !this.#sink) return;
    this.#sink.flush(scanout.id, scanout.pending, null);
    scanout.pending.clear();
  }

  #announceCursor({ id, cursor }: Scanout): void {
    this.#sink?.cursor(
      id,
      cursor.isVisible ? cursor.framebuffer : null,
      cursor.hotspotX,
      cursor.hotspotY,
      cursor.x,
      cursor.y,
    );
  }

  #dropOldFramebuffers(resource: Resource): void {
    const { framebuffers } = resource;
    for (let i = 0; i < framebuffers.length && framebuffers.length > KEPT_LAYOUTS; i++) {
      const framebuffer = framebuffers[i]!;
      if (this.#scanouts.some((s) => s.framebuffer === framebuffer || s.cursor.framebuffer === framebuffer)) continue;
      framebuffers.splice(i--, 1);
      this.#sink?.destroyed(framebuffer);
    }
  }
}
