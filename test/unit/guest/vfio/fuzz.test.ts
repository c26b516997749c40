import { constants } from 'node:os';
import { expect, test, vi } from 'vitest';
import { DRM_FORMAT, DRM_FORMAT_MOD_INVALID, DRM_FORMAT_MOD_LINEAR } from '../../../../protocols/drm-fourcc.ts';
import * as uapi from '../../../../protocols/vfio.ts';
import { Bridge } from '../../../../src/bridge/bridge.ts';
import { FormatSet } from '../../../../src/core/framebuffer.ts';
import { VfioDevice } from '../../../../src/guest/vfio/device.ts';
import { VfioGuest } from '../../../../src/guest/vfio/guest.ts';
import { SysError } from '../../../../src/sys/errors.ts';
import { createMemfd } from '../../../../src/sys/memfd.ts';
import type { NativeBuffer } from '../../../../src/sys/native-buffer.ts';
import { Random } from '../../../rig/random.ts';
import { FakeOutput } from '../../bridge/fakes.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import { FakeAccess, FakeDevice, type PlaneFields } from './fake-device.ts';

const LOOKS = Math.ceil(Number(process.env.FUZZ_COMMANDS ?? 200_000) / 20);
const SEED = Number(process.env.FUZZ_SEED ?? 20_261_128);
const MAX_GUEST_MEMORY = 8 * 2 ** 20;

const { EAGAIN, EBADF, EINVAL, EIO, EMFILE, ENODEV, ENOENT, ENOMEM } = constants.errno;
const FAILURES = [EINVAL, EINVAL, ENOENT, ENOMEM, EAGAIN, EMFILE, ENODEV, EIO, EBADF];
const NUMBERS = [0, 1, 2, 63, 64, 255, 256, 4096, 16384, 16385, 0x7fffffff, 0x80000000, 0xffffffff];
const MODIFIERS = [
  DRM_FORMAT_MOD_LINEAR,
  DRM_FORMAT_MOD_LINEAR,
  DRM_FORMAT_MOD_INVALID,
  (1n << 56n) | 1n,
  ~0n & 0xffffffffffffffffn,
];

/** Mostly plausible, because what is not is refused at once. */
function fields(random: Random): PlaneFields {
  if (random.chance(0.1)) return {};
  const width = random.chance(0.9) ? 1 + random.below(96) : random.pick(NUMBERS);
  const height = random.chance(0.9) ? 1 + random.below(96) : random.pick(NUMBERS);
  const { XRGB8888, ARGB8888, RGB565, NV12, C1 } = DRM_FORMAT;
  return {
    drm_format: random.chance(0.95) ? random.pick([XRGB8888, ARGB8888, RGB565, NV12, C1]) : random.pick(NUMBERS),
    drm_format_mod: random.chance(0.8) ? DRM_FORMAT_MOD_LINEAR : random.pick(MODIFIERS),
    width,
    height,
    stride: random.chance(0.9) ? Math.min(width * (1 + random.below(6)), 0xffffffff) : random.pick(NUMBERS),
    size: random.pick(NUMBERS),
    x_pos: random.pick(NUMBERS),
    y_pos: random.pick(NUMBERS),
    x_hot: random.pick(NUMBERS),
    y_hot: random.pick(NUMBERS),
    dmabuf_id: random.chance(0.95) ? 9 + random.below(12) : random.pick(NUMBERS),
  };
}

/** A device whose driver answers anything. */
class HostileDevice extends FakeDevice {
  readonly #random: Random;

  constructor(random: Random) {
    super(1 << 18);
    this.#random = random;
    this.kinds = random.pick([uapi.VFIO_GFX_PLANE_TYPE_DMABUF, uapi.VFIO_GFX_PLANE_TYPE_REGION]);
    for (let index = 9; index < 9 + random.below(20); index++) {
      const isPlausible = random.chance(0.8);
      this.region(
        index,
        isPlausible ? 4096 * random.below(64) : random.pick([1, 2 ** 40, 2 ** 60]),
        isPlausible ? 4096 * random.below(64) : random.pick([0, 1, 2 ** 32, 2 ** 62]),
        random.chance(0.3) ? { type: 1, subtype: 1 } : { type: random.below(3), subtype: random.below(3) },
      );
    }
    this.memory.bytes.set(random.bytes(256), 4096 * random.below(60));
  }

  change(): void {
    const random = this.#random;
    if (random.chance(0.5)) this.primary = fields(random);
    if (random.chance(0.3)) this.cursor = fields(random);
    if (random.chance(0.1))
      this.failures.push(...Array.from({ length: 1 + random.below(4) }, () => -random.pick(FAILURES)));
    this.memory.bytes[random.below(this.memory.length)] = random.below(256);
  }

  override call(request: number, argument: NativeBuffer): number {
    const random = this.#random;
    if (request === uapi.VFIO_DEVICE_GET_GFX_DMABUF && random.chance(0.2))
      return random.chance(0.5)
        ? -random.pick(FAILURES)
        : createMemfd('hostile', random.pick([0, 1, 4096, 1 << 16])).take();
    const result = super.call(request, argument);
    // Capabilities that lead anywhere, and an answer that does not end.
    if (request === uapi.VFIO_DEVICE_GET_REGION_INFO && random.chance(0.2)) {
      const at = random.pick([0, 4, 12, 32, 36]);
      if (at + 4 <= argument.length) argument.view.setUint32(at, random.pick(NUMBERS), true);
    }
    return result;
  }

  override map(offset: number, length: number): ReturnType<FakeDevice['map']> {
    // The kernel would say so for a real device; a memfd has an end, after which there is nothing to read.
    if (offset % 4096 !== 0 || offset + length > this.memory.length) throw new SysError('mmap', 'EINVAL');
    return super.map(offset, length);
  }
}

expectNoLeaks();

test(
  `VfioGuest: hostile devices neither break screens nor leave anything behind (FUZZ_SEED=${SEED})`,
  { timeout: 300_000 },
  async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
    const random = new Random(SEED);
    const access = new FakeAccess();
    const log = vi.fn();
    let devices = 0;
    let frames = 0;
    let answered = 0;
    let halts = 0;
    let looks = 0;
    let flips = 0;
    const { XRGB8888, ARGB8888 } = DRM_FORMAT;
    {
      using guest = VfioGuest.over(access, { maxGuestMemory: MAX_GUEST_MEMORY, log });
      using output = new FakeOutput({
        imports: new FormatSet([
          [XRGB8888, DRM_FORMAT_MOD_LINEAR],
          [ARGB8888, DRM_FORMAT_MOD_LINEAR],
        ]),
      });
      using bridge = new Bridge(guest, { log, zeroCopy: 'off' });
      bridge.show(0, output);
      let device: HostileDevice | null = null;
      while (guest.stats.looks < LOOKS) {
        if (!guest.isConnected) {
          device = new HostileDevice(random);
          devices++;
          access.listener.opened(VfioDevice.open(device));
        }
        device!.change();
        output.refuse = random.chance(0.2) ? random.pick(['format', 'size', 'resources'] as const) : null;
        if (random.chance(0.9) && output.presents.length > answered) {
          answered = output.presents.length;
          output.vblank();
        }
        if (random.chance(0.01)) access.listener.lost('told to');
        if (!guest.isConnected) halts++;
        vi.advanceTimersByTime(17);
        // Large planes are compared in several turns.
        await new Promise(setImmediate);
        expect(guest.budget.used).toBeLessThanOrEqual(MAX_GUEST_MEMORY);
        expect(guest.stats.dmabufs).toBeLessThanOrEqual(34);
      }
      frames = output.presents.length;
      ({ looks, flips } = guest.stats);
    }
    vi.useRealTimers();
    // It must show pictures most of the time, or this proves nothing.
    expect(frames).toBeGreaterThan(looks / 10);
    expect(flips).toBeGreaterThan(looks / 20);
    expect(halts).toBeGreaterThan(looks / 1000);
    console.info(`fuzz: ${JSON.stringify({ devices, looks, flips, frames, halts, lines: log.mock.calls.length })}`);
  },
);
