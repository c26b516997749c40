import { Damage } from '../../src/core/damage.ts';
import { MutableRect, type Rect } from '../../src/core/geometry.ts';
import type { Frame } from '../../src/core/output.ts';
import { BYTES_PER_PIXEL, DmabufHandle, type Readable, readable } from './handles.ts';
import { dmabufScanout, dmabufScanoutOff, dmabufUpdate, scanout, update } from './messages.ts';
import type { VmmSocket } from './socket.ts';

/** How dma-bufs go to the VMM: not at all, as DMABUF_SCANOUT, or with the modifier too. */
export type DmabufMode = 'off' | 'plain' | 'modifier';

/** The primary plane of one console: pixels sent, or a dma-buf passed. */
export class VmmPicture {
  readonly #socket: VmmSocket;
  readonly #id: number;
  readonly #dmabufMode: DmabufMode;
  readonly #onReply: () => void;
  readonly #damage = new Damage();
  /** The part of the buffer shown last. */
  readonly #bounds = new MutableRect();
  /** 0x0 is off. */
  #width = 0;
  #height = 0;
  /** Null while pixels are shown. */
  #dmabuf: DmabufHandle | null = null;
  #replaced: DmabufHandle | null = null;
  #awaitsReply = false;

  constructor(socket: VmmSocket, id: number, dmabufMode: DmabufMode, onReply: () => void) {
    this.#socket = socket;
    this.#id = id;
    this.#dmabufMode = dmabufMode;
    this.#onReply = onReply;
  }

  /** The VMM has yet to say that it showed the dma-buf; `onReply` is called when it does. */
  get awaitsReply(): boolean {
    return this.#awaitsReply;
  }

  get isZeroCopy(): boolean {
    return this.#dmabuf !== null;
  }

  /** The dma-buf that the frame shown last took the place of, once. */
  takeReplaced(): DmabufHandle | null {
    const replaced = this.#replaced;
    this.#replaced = null;
    return replaced;
  }

  show(frame: Frame): void {
    const { handle, src } = frame.primary;
    const picture = handle instanceof DmabufHandle ? handle.framebuffer : readable(handle);
    const width = picture ? Math.min(frame.canvas.width, src.width, picture.width - src.x) : 0;
    const height = picture ? Math.min(frame.canvas.height, src.height, picture.height - src.y) : 0;
    if (!picture || width <= 0 || height <= 0) {
      this.hide();
      return;
    }
    const isNew = width !== this.#width || height !== this.#height;
    if (handle instanceof DmabufHandle) {
      this.#showDmabuf(handle, isNew, src, width, height, frame.damage);
    } else {
      this.#showPixels(readable(handle)!, isNew, src, width, height, frame.damage);
    }
  }

  hide(): void {
    if (this.#width === 0) return;
    if (this.#dmabuf) this.#withdrawDmabuf(this.#dmabuf);
    this.#width = 0;
    this.#height = 0;
    this.#socket.send(scanout(this.#id, 0, 0));
  }

  #showPixels(picture: Readable, isNewSize: boolean, src: Rect, width: number, height: number, damage: Damage): void {
    const isNew = isNewSize || this.#dmabuf !== null;
    if (this.#dmabuf) this.#withdrawDmabuf(this.#dmabuf);
    // QEMU makes a surface of every SCANOUT and shows it at the UPDATE that must follow.
    if (isNew) this.#socket.send(scanout(this.#id, width, height));
    this.#width = width;
    this.#height = height;
    const area = this.#clip(damage, isNew, src, width, height);
    for (let i = 0; i < area.count; i++) {
      const x = area.x(i);
      const y = area.y(i);
      const rows = area.height(i);
      const header = update(this.#id, x - src.x, y - src.y, area.width(i), rows);
      const offset = picture.offset + y * picture.stride + x * BYTES_PER_PIXEL;
      this.#socket.sendRows(header, picture.pixels, offset, picture.stride, area.width(i) * BYTES_PER_PIXEL, rows);
    }
  }

  #showDmabuf(handle: DmabufHandle, isNewSize: boolean, src: Rect, width: number, height: number, damage: Damage): void {
    const isNew = isNewSize || handle !== this.#dmabuf || src.x !== this.#bounds.x || src.y !== this.#bounds.y;
    if (isNew) {
      const { framebuffer } = handle;
      const message = dmabufScanout(
        {
          scanout_id: this.#id,
          x: src.x,
          y: src.y,
          width,
          height,
          fd_width: framebuffer.width,
          fd_height: framebuffer.height,
          fd_stride: framebuffer.planes[0]!.stride,
          fd_flags: 0,
          fd_drm_fourcc: framebuffer.format,
        },
        this.#dmabufMode === 'modifier' ? framebuffer.modifier : null,
      );
      this.#socket.send(message, handle.fd);
    }
    if (this.#dmabuf !== handle) this.#replaced = this.#dmabuf;
    this.#dmabuf = handle;
    handle.isHeld = true;
    this.#width = width;
    this.#height = height;
    const area = this.#clip(damage, isNew, src, width, height);
    if (area.isEmpty) return;
    let [left, top, right, bottom] = [Infinity, Infinity, 0, 0];
    for (let i = 0; i < area.count; i++) {
      left = Math.min(left, area.x(i));
      top = Math.min(top, area.y(i));
      right = Math.max(right, area.x(i) + area.width(i));
      bottom = Math.max(bottom, area.y(i) + area.height(i));
    }
    this.#awaitsReply = true;
    this.#socket.request(dmabufUpdate(this.#id, left - src.x, top - src.y, right - left, bottom - top), () => {
      this.#awaitsReply = false;
      this.#onReply();
    });
  }

  /** What to send of `src`, in the buffer's pixels; one rectangle if that is no more bytes. */
  #clip(damage: Damage, isWhole: boolean, src: Rect, width: number, height: number): Damage {
    const area = this.#damage;
    const bounds = this.#bounds;
    bounds.set(src.x, src.y, width, height);
    area.clear();
    if (!isWhole) {
      area.addAll(damage);
      area.clip(bounds);
      if (area.area < width * height) return area;
      area.clear();
    }
    area.addRect(bounds);
    return area;
  }

  #withdrawDmabuf(handle: DmabufHandle): void {
    this.#socket.send(dmabufScanoutOff(this.#id));
    this.#replaced = handle;
    this.#dmabuf = null;
  }
}
