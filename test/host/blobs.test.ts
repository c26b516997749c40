/** Real guests in a newer QEMU: one whose framebuffers are blobs, and one on the ordinary device of that QEMU. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { VIRTIO_GPU_CMD, virtio_gpu_resource_create_blob, virtio_gpu_set_scanout } from '../../protocols/virtio-gpu.ts';
import type { GpuTap } from '../../src/guest/virtio-gpu/tap.ts';
import { newerQemu, skipWithoutGuest } from '../rig/guest-image.ts';
import {
  type Draw,
  drawnPicture,
  drawPart,
  isWholeText,
  showModetestPattern,
  showText,
  startDrawing,
  withDrawnCursor,
} from '../rig/guest-pictures.ts';
import { bootGuest, type Guest } from '../rig/guest.ts';
import { expectShown, OurGpu, pictureShownWhen, resources, resourcesBefore, expectPicture } from '../rig/our-gpu.ts';
import { pictureWhen } from '../rig/picture.ts';

const { GET_DISPLAY_INFO, RESOURCE_CREATE_BLOB, SET_SCANOUT, SET_SCANOUT_BLOB, TRANSFER_TO_HOST_2D } = VIRTIO_GPU_CMD;

/** Counts commands by type, and records what framebuffers are made of. */
class CommandTap implements GpuTap {
  readonly isBusy = false;
  readonly counts = new Map<number, number>();
  /** Size in bytes of each blob created since `clear`. */
  readonly blobs: number[] = [];
  /** Number of resources other than blobs that were set on a scanout. */
  plainScanouts = 0;
  /** Called when the guest asks for its monitors. */
  onAsked: (() => void) | null = null;

  command(_queue: number, request: Uint8Array): void {
    const view = new DataView(request.buffer, request.byteOffset);
    const type = view.getUint32(0, true);
    this.counts.set(type, this.count(type) + 1);
    if (type === RESOURCE_CREATE_BLOB) this.blobs.push(virtio_gpu_resource_create_blob.get(view, 0).size);
    if (type === SET_SCANOUT && virtio_gpu_set_scanout.get(view, 0).resource_id !== 0) this.plainScanouts++;
    if (type === GET_DISPLAY_INFO) this.onAsked?.();
  }

  count(type: number): number {
    return this.counts.get(type) ?? 0;
  }

  clear(): void {
    this.counts.clear();
    this.blobs.length = 0;
  }

  attached(): void {}
  monitorChanged(): void {}
  memoryChanged(): void {}
  negotiated(): void {}
  pixels(): void {}
  reset(): void {}
}

describe.skipIf(skipWithoutGuest(newerQemu))('a guest with blobs', () => {
  const tap = new CommandTap();
  let before: ReturnType<typeof resources>;
  let ours: OurGpu;
  let guest: Guest;

  beforeAll(async () => {
    before = await resourcesBefore();
    ours = OurGpu.open({ tap });
    guest = await bootGuest({ gpu: { kind: 'generic', socket: ours.socket } });
  });
  afterAll(async () => {
    await guest[Symbol.asyncDispose]();
    ours[Symbol.dispose]();
  });

  test('detects support for blobs and none for 3D', async () => {
    expect(await guest.run('dmesg | grep "drm. features:"')).toMatch(/-virgl \+edid \+resource_blob /);
  });

  test("shows its console and modetest's pattern as QEMU's own GPU does", async () => {
    await using builtin = await bootGuest({ gpu: { kind: 'builtin' } });
    await showText(guest);
    await showText(builtin);
    await expectShown(ours.display, await pictureWhen(() => builtin.screendump(), isWholeText), 'blob-text');
    const stop = await showModetestPattern(guest, 1280, 800);
    await showModetestPattern(builtin, 1280, 800);
    await expectPicture(ours.output, await builtin.screendump(), 'blob-modetest');
    await stop();
  });

  describe('that draws', () => {
    let draw: Draw;

    beforeAll(async () => {
      draw = await startDrawing(guest);
    });
    afterAll(async () => {
      await draw('quit');
    });

    test.each([
      [1024, 768],
      [801, 601],
      [1920, 1080],
      [33, 35],
      [1280, 800],
    ] as const)('in a mode of %i x %i creates three blobs of that size and shows them', async (width, height) => {
      tap.clear();
      await draw(`mode ${width} ${height}`);
      await expectPicture(ours.output, drawnPicture(width, height, 0), `blob-mode-${width}x${height}`);
      // Whole pages.
      expect(tap.blobs).toEqual(Array.from({ length: 3 }, () => Math.ceil((width * height * 4) / 4096) * 4096));
      expect(tap.count(SET_SCANOUT_BLOB)).toBeGreaterThan(0);
    });

    test('flips pages without creating blobs, and the last page stays on screen', async () => {
      await draw('mode 1280 800');
      tap.clear();
      const { flushes } = ours.guest.stats;
      await draw('flip 100 plain');
      await expectPicture(ours.output, drawnPicture(1280, 800, 100 % 3), 'blob-flip');
      expect([tap.count(SET_SCANOUT_BLOB), ours.guest.stats.flushes - flushes]).toEqual([100, 100]);
      expect(tap.blobs).toEqual([]);
    });

    test('shows changes of parts of the picture', async () => {
      await draw('mode 1001 333');
      const expected = drawnPicture(1001, 333, 0);
      for (const [seed, x, y, width, height] of [
        [1, 0, 0, 1, 1],
        [2, 999, 300, 2, 33],
        [3, 333, 1, 500, 200],
      ] as const) {
        await draw(`damage ${seed} ${x} ${y} ${width} ${height}`);
        drawPart(expected, seed, x, y, width, height);
      }
      await expectPicture(ours.output, expected, 'blob-damage');
    });

    test('shows a cursor that is a blob', async () => {
      const background = drawnPicture(1024, 768, 0);
      await draw('mode 1024 768');
      tap.clear();
      await draw('cursor 3 100 200 0 0');
      await draw('move 500 333');
      await expectShown(ours.display, withDrawnCursor(background, 3, 500, 333), 'blob-cursor', { cursor: true });
      expect(tap.blobs).toEqual([64 * 64 * 4]);
      await draw('hide');
    });
  });

  test('detects a new monitor while it runs', async () => {
    const asked = new Promise<void>((resolve) => (tap.onAsked = resolve));
    ours.plug(1024, 768);
    await asked;
    await (
      await startDrawing(guest)
    )('quit');
    expect(await guest.run('modetest -M virtio_gpu -c')).toMatch(/#0 1024x768 .*preferred/);
  });

  test('shows its console again after a reboot', async () => {
    await guest.reboot();
    await showText(guest);
    expect(await pictureShownWhen(ours.output, isWholeText)).toMatchObject({ width: 1024, height: 768 });
  });

  test('sends transfers of blobs, which are not errors, and shows nothing but blobs', () => {
    expect(tap.count(TRANSFER_TO_HOST_2D)).toBeGreaterThan(0);
    expect(tap.plainScanouts).toBe(0);
    expect(ours.guest.stats.errors).toBe(0);
    expect(ours.log.filter((line) => /^(error|warn)/.test(line))).toEqual([]);
    expect(ours.display.rung).toBe('shadow');
  });

  test('leaves no descriptor or mapping open at the end', async () => {
    await guest[Symbol.asyncDispose]();
    ours[Symbol.dispose]();
    expect(resources()).toEqual(before);
  });
});

describe.skipIf(skipWithoutGuest(newerQemu))("a guest on a newer QEMU's ordinary device", () => {
  test('shows pictures although QEMU acknowledges features we did not offer', async () => {
    using ours = OurGpu.open();
    await using guest = await bootGuest({ qemu: newerQemu, gpu: { kind: 'vhost-user', socket: ours.socket } });
    const draw = await startDrawing(guest);
    await draw('mode 1024 768');
    await draw('flip 20 plain');
    await expectPicture(ours.output, drawnPicture(1024, 768, 20 % 3), 'newer-qemu');
    // VIRTIO_F_RING_RESET.
    expect(ours.log).toContain('info: ignoring feature bits that were not offered: 0x10000000000');
    expect(ours.guest.stats.errors).toBe(0);
  });
});
