import { DRM_FORMAT } from '../../protocols/drm-fourcc.ts';
import { VHOST_USER_PROTOCOL_F } from '../../protocols/vhost-user.ts';
import { VIRTIO_GPU_FORMAT } from '../../protocols/virtio-gpu.ts';
import type { Picture } from '../../src/core/picture.ts';
import { FrontEnd } from '../rig/front-end.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { connectUnix } from '../../src/sys/socket.ts';
import { openUdmabuf, ScatteredPicture } from '../rig/scattered-picture.ts';
import * as request from '../unit/guest/virtio-gpu/requests.ts';

export const WIDTH = 640;
export const HEIGHT = 480;
const CURSOR_SIDE = 64;
const CURSOR_AT = [200, 100] as const;

const RAM = 0x4000_0000;
const CURSOR_ADDRESS = RAM + 2 * 2 ** 20;
const REPLY = 24;

/**
 * A VMM and a guest that draws a picture. Like QEMU 10 it reports a reset only when the driver starts
 * again. Dispose ends it as a crash would.
 */
export class FakeVmm implements Disposable {
  readonly #frontEnd: FrontEnd;

  private constructor(socket: string) {
    const protocolFeatures = ~(1n << BigInt(VHOST_USER_PROTOCOL_F.RESET_DEVICE));
    this.#frontEnd = FrontEnd.create({
      socket: connectUnix(socket),
      memory: [{ guestAddress: RAM, size: 4 * 2 ** 20 }],
      protocolFeatures,
    });
  }

  static async connect(socket: string): Promise<FakeVmm> {
    const vmm = new FakeVmm(socket);
    await vmm.#frontEnd.connect();
    return vmm;
  }

  /** Resolves when the picture is on screen, with the cursor if there is one. */
  async show(picture: ScatteredPicture, cursor: ScatteredPicture | null = null): Promise<void> {
    this.#frontEnd.memory.write(RAM, picture.pixels.bytes);
    const { width, height } = picture.framebuffer;
    const commands = [
      request.createBlob(1, width * height * 4, request.contiguous(width * height * 4, RAM)),
      request.setScanoutBlob(0, 1, { width, height, stride: width * 4, offset: 0 }),
      request.flush(1, 0, 0, width, height),
    ];
    for (const command of commands) await this.#frontEnd.request(0, command, REPLY);
    if (cursor) await this.#setCursor(cursor);
  }

  /** The guest resets itself, and its firmware makes use of all memory. */
  async reset(): Promise<void> {
    await this.#frontEnd.stop();
    this.#frontEnd.memory.write(RAM, new Uint8Array(4 * 2 ** 20).fill(0xa5));
  }

  /** The guest's driver is loaded again. */
  async boot(): Promise<void> {
    await this.#frontEnd.start();
  }

  [Symbol.dispose](): void {
    this.#frontEnd[Symbol.dispose]();
  }

  async #setCursor(cursor: ScatteredPicture): Promise<void> {
    this.#frontEnd.memory.write(CURSOR_ADDRESS, cursor.pixels.bytes);
    const commands = [
      request.create2d(2, CURSOR_SIDE, CURSOR_SIDE, VIRTIO_GPU_FORMAT.B8G8R8A8_UNORM),
      request.attach(2, request.contiguous(CURSOR_SIDE * CURSOR_SIDE * 4, CURSOR_ADDRESS)),
      request.transfer(2, 0, 0, CURSOR_SIDE, CURSOR_SIDE, 0),
    ];
    for (const command of commands) await this.#frontEnd.request(0, command, REPLY);
    await this.#frontEnd.request(1, request.updateCursor(0, 2, ...CURSOR_AT), 0);
  }
}

/** What a guest draws, all of it opaque. */
export class Pictures implements Disposable {
  readonly one: ScatteredPicture;
  readonly two: ScatteredPicture;
  readonly cursor: ScatteredPicture;
  readonly #stack = new DisposableStack();

  constructor() {
    const udmabuf = this.#stack.use(openUdmabuf());
    this.one = this.#stack.use(new ScatteredPicture(udmabuf, WIDTH, HEIGHT).fillNoise(1));
    this.two = this.#stack.use(new ScatteredPicture(udmabuf, WIDTH, HEIGHT).fillNoise(2));
    const format = DRM_FORMAT.ARGB8888;
    this.cursor = this.#stack.use(
      new ScatteredPicture(udmabuf, CURSOR_SIDE, CURSOR_SIDE, { format }).fill(
        (x, y) => 0xff000000 + x * 0x30000 + y * 0x300,
      ),
    );
  }

  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }
}

/** A screen as large as the guest's picture, with the cursor where `show` puts it. */
export function withCursor(picture: ScatteredPicture, cursor: ScatteredPicture): Picture {
  const screen = picture.onScreen(WIDTH, HEIGHT);
  const { data } = cursor.onScreen(CURSOR_SIDE, CURSOR_SIDE);
  const row = CURSOR_SIDE * 4;
  for (let y = 0; y < CURSOR_SIDE; y++)
    screen.data.set(data.subarray(y * row, (y + 1) * row), ((CURSOR_AT[1] + y) * WIDTH + CURSOR_AT[0]) * 4);
  return screen;
}

/** A screen in one colour, 0xRRGGBB. */
export function plain(colour: number): Picture {
  const data = new Uint8Array(WIDTH * HEIGHT * 4);
  new DataView(data.buffer).setUint32(0, ((colour << 8) | 255) >>> 0);
  for (let length = 4; length < data.length; length *= 2) data.copyWithin(length, 0, length);
  return { width: WIDTH, height: HEIGHT, data };
}
