import { createHash } from 'node:crypto';
import { virtio_gpu_ctrl_hdr, VIRTIO_GPU_FORMAT, VIRTIO_GPU_RESP } from '../../protocols/virtio-gpu.ts';
import type { Rect } from '../../src/core/geometry.ts';
import type { Picture } from '../../src/core/picture.ts';
import type { OwnedFd } from '../../src/sys/fd.ts';
import { FrontEnd } from '../rig/front-end.ts';
import { pictureOfBgrx } from '../rig/picture.ts';
import type { Random } from '../rig/random.ts';
import * as requests from '../unit/guest/virtio-gpu/requests.ts';
import { PAGE, RAM } from '../unit/guest/virtio-gpu/rig.ts';

/** Room for the scattered pages of one picture. */
const BUFFER_SIZE = 4 * 2 ** 20;
const RESPONSE_SIZE = 24;

interface Shown {
  readonly resource: number;
  readonly isBlob: boolean;
  /** Which of the scanout's two buffers. */
  readonly buffer: number;
  readonly entries: readonly requests.Entry[];
  readonly width: number;
  readonly height: number;
  /** B, G, R, X without padding. */
  readonly bytes: Uint8Array;
}

/** A driver that does everything right, waits for every answer, and knows what the screens have to show. */
export class HonestGuest implements Disposable {
  readonly #frontEnd: FrontEnd;
  readonly #scanouts: number;
  readonly #random: Random;
  readonly #shown = new Map<number, Shown>();
  /** Digests of all pictures so far, with their scanouts. */
  readonly #digests = new Set<string>();
  #resource = 0;
  #fence = 0n;

  private constructor(frontEnd: FrontEnd, scanouts: number, random: Random) {
    this.#frontEnd = frontEnd;
    this.#scanouts = scanouts;
    this.#random = random;
  }

  /** Consumes `socket`. Rejects with FrontEndError `closed` if the back end serves another front end. */
  static async connect(socket: OwnedFd, scanouts: number, random: Random): Promise<HonestGuest> {
    const memory = [{ guestAddress: RAM, size: (2 * scanouts + 1) * BUFFER_SIZE }];
    const frontEnd = FrontEnd.create({ socket, memory });
    try {
      await frontEnd.connect();
      return new HonestGuest(frontEnd, scanouts, random);
    } catch (error) {
      frontEnd[Symbol.dispose]();
      throw error;
    }
  }

  /** Shows a new picture of noise. Resolves when it is on the screen that takes longest. */
  async show(scanout: number, width: number, height: number): Promise<void> {
    const before = this.#shown.get(scanout);
    const bytes = noise(width * height, this.#random);
    const buffer = before === undefined ? 0 : 1 - before.buffer;
    const entries = requests.scattered(Math.ceil(bytes.length / PAGE), RAM + (2 * scanout + buffer) * BUFFER_SIZE);
    const isBlob = this.#random.chance(0.5);
    const shown: Shown = { resource: ++this.#resource, isBlob, buffer, entries, width, height, bytes };
    const { resource } = shown;
    if (isBlob) {
      await this.#command(requests.createBlob(resource, entries.length * PAGE, entries));
    } else {
      await this.#command(requests.create2d(resource, width, height));
      await this.#command(requests.attach(resource, entries));
    }
    this.#write(shown, 0, bytes.length);
    this.#remember(scanout, shown);
    if (!isBlob) await this.#command(requests.transfer(resource, 0, 0, width, height, 0));
    await this.#command(
      isBlob
        ? requests.setScanoutBlob(scanout, resource, { width, height, stride: width * 4, offset: 0 })
        : requests.setScanout(scanout, resource, 0, 0, width, height),
    );
    this.#shown.set(scanout, shown);
    await this.#flush(resource, { x: 0, y: 0, width, height });
    if (before) await this.#command(requests.unref(before.resource));
  }

  /** Changes some rows of the picture on a scanout. */
  async change(scanout: number): Promise<void> {
    const shown = this.#shown.get(scanout);
    if (!shown) return;
    const { width, resource, isBlob } = shown;
    const y = this.#random.below(shown.height);
    const height = 1 + this.#random.below(shown.height - y);
    const from = y * width * 4;
    shown.bytes.set(noise(width * height, this.#random), from);
    this.#write(shown, from, from + width * height * 4);
    this.#remember(scanout, shown);
    if (!isBlob) await this.#command(requests.transfer(resource, 0, y, width, height, from));
    await this.#flush(resource, { x: 0, y, width, height });
  }

  /** Shows a cursor of that size on every scanout, and hides it. */
  async flashCursor(width: number, height: number): Promise<void> {
    const resource = ++this.#resource;
    const entries = requests.scattered(Math.ceil((width * height * 4) / PAGE), RAM + 2 * this.#scanouts * BUFFER_SIZE);
    await this.#command(requests.create2d(resource, width, height, VIRTIO_GPU_FORMAT.B8G8R8A8_UNORM));
    await this.#command(requests.attach(resource, entries));
    await this.#command(requests.transfer(resource, 0, 0, width, height, 0));
    for (const shown of [resource, 0])
      for (let scanout = 0; scanout < this.#scanouts; scanout++)
        await this.#frontEnd.request(1, requests.updateCursor(scanout, shown, 0, 0), RESPONSE_SIZE);
    await this.#command(requests.unref(resource));
  }

  async turnOff(scanout: number): Promise<void> {
    const shown = this.#shown.get(scanout);
    if (!shown) return;
    await this.#command(requests.setScanout(scanout, 0, 0, 0, 0, 0));
    await this.#command(requests.unref(shown.resource));
    this.#shown.delete(scanout);
  }

  /** What the screen of a scanout has to show now; null if it is off. */
  picture(scanout: number): Picture | null {
    const shown = this.#shown.get(scanout);
    return shown ? pictureOfBgrx(shown.width, shown.height, shown.bytes) : null;
  }

  /** Whether it has ever shown this picture on that scanout. */
  hasShown(scanout: number, picture: Picture): boolean {
    return this.#digests.has(digest(scanout, picture));
  }

  [Symbol.dispose](): void {
    this.#frontEnd[Symbol.dispose]();
  }

  #remember(scanout: number, { width, height, bytes }: Shown): void {
    this.#digests.add(digest(scanout, pictureOfBgrx(width, height, bytes)));
  }

  /** Writes the bytes from `from` to `to` of the picture into the pages that they lie in. */
  #write({ entries, bytes }: Shown, from: number, to: number): void {
    for (let at = from; at < to;) {
      const end = Math.min((Math.floor(at / PAGE) + 1) * PAGE, to);
      this.#frontEnd.memory.write(entries[Math.floor(at / PAGE)]!.addr + (at % PAGE), bytes.subarray(at, end));
      at = end;
    }
  }

  #flush(resource: number, { x, y, width, height }: Rect): Promise<void> {
    return this.#command(requests.flush(resource, x, y, width, height, { id: ++this.#fence }));
  }

  async #command(request: Uint8Array): Promise<void> {
    const { type } = virtio_gpu_ctrl_hdr.decode(await this.#frontEnd.request(0, request, RESPONSE_SIZE));
    if (type === VIRTIO_GPU_RESP.OK_NODATA) return;
    const command = virtio_gpu_ctrl_hdr.decode(request).type;
    throw new Error(`a correct command 0x${command.toString(16)} was answered with 0x${type.toString(16)}`);
  }
}

function noise(pixels: number, random: Random): Uint8Array {
  const words = new Uint32Array(pixels);
  let state = random.below(2 ** 32);
  for (let at = 0; at < pixels; at++) words[at] = state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return new Uint8Array(words.buffer);
}

function digest(scanout: number, { width, height, data }: Picture): string {
  return `${scanout} ${width}x${height} ${createHash('sha1').update(data).digest('base64')}`;
}
