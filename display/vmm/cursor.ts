import { DRM_FORMAT } from '../../protocols/drm-fourcc.ts';
import { VHOST_USER_GPU_CURSOR_SIZE } from '../../protocols/vhost-user-gpu.ts';
import type { Rect } from '../../src/core/geometry.ts';
import { copyRect } from '../../src/sys/copy-rect.ts';
import { Mapping } from '../../src/sys/mapping.ts';
import { BYTES_PER_PIXEL, type Readable } from './handles.ts';
import { cursorHide, cursorPos, cursorUpdate } from './messages.ts';
import type { VmmSocket } from './socket.ts';

const SIDE = VHOST_USER_GPU_CURSOR_SIZE;
const STRIDE = SIDE * BYTES_PER_PIXEL;
const OPAQUE = 0xff00_0000;

/** The pointer of one scanout. The image goes out only when its pixels changed. */
export class VmmCursor implements Disposable {
  readonly #socket: VmmSocket;
  readonly #id: number;
  readonly #next = Mapping.anonymous(STRIDE * SIDE);
  readonly #sent = new Uint8Array(STRIDE * SIDE);
  #hasImage = false;
  #isShown = false;
  #x = 0;
  #y = 0;
  #hotX = 0;
  #hotY = 0;

  /** SysError ENOMEM. */
  constructor(socket: VmmSocket, id: number) {
    this.#socket = socket;
    this.#id = id;
  }

  /** `src` of the picture at `x`, `y` of the scanout; the hotspot is inside the image. */
  show(picture: Readable, src: Rect, x: number, y: number, hotX: number, hotY: number): void {
    this.#read(picture, src);
    const next = this.#next.bytes;
    const isNew = !this.#hasImage || hotX !== this.#hotX || hotY !== this.#hotY || Buffer.compare(next, this.#sent) !== 0;
    const isMoved = !this.#isShown || x !== this.#x || y !== this.#y;
    this.#x = x;
    this.#y = y;
    this.#hotX = hotX;
    this.#hotY = hotY;
    this.#isShown = true;
    if (isNew) {
      this.#hasImage = true;
      this.#sent.set(next);
      this.#socket.send(cursorUpdate(this.#id, x, y, hotX, hotY, next));
    } else if (isMoved) {
      this.#socket.send(cursorPos(this.#id, x, y));
    }
  }

  hide(): void {
    if (!this.#isShown) return;
    this.#isShown = false;
    this.#socket.send(cursorHide(this.#id, this.#x, this.#y));
  }

  [Symbol.dispose](): void {
    this.#next[Symbol.dispose]();
  }

  #read(picture: Readable, src: Rect): void {
    const width = Math.min(src.width, SIDE, picture.width - src.x);
    const height = Math.min(src.height, SIDE, picture.height - src.y);
    const { bytes, view } = this.#next;
    if (width < SIDE || height < SIDE) bytes.fill(0);
    const offset = picture.offset + src.y * picture.stride + src.x * BYTES_PER_PIXEL;
    copyRect(this.#next, 0, STRIDE, picture.pixels, offset, picture.stride, width * BYTES_PER_PIXEL, height);
    if (picture.format !== DRM_FORMAT.XRGB8888) return;
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const at = y * STRIDE + x * BYTES_PER_PIXEL;
        view.setUint32(at, view.getUint32(at, true) | OPAQUE, true);
      }
    }
  }
}
