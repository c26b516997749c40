/** A guest inside the guest, whose pages other processes get by udmabuf: QEMU with blobs, a bridge, and a consumer. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ExportDisplay } from '../../display/export/display.ts';
import { Bridge } from '../../src/bridge/bridge.ts';
import { VhostUserGuest } from '../../src/guest/vhost-user/guest.ts';
import { NESTED_MIB, newerQemu, skipWithoutGuest } from '../rig/guest-image.ts';
import { drawnPicture, guestDraw, startDrawing } from '../rig/guest-pictures.ts';
import { bootGuest } from '../rig/guest.ts';
import { ExportConsumer, shaOf } from './export-consumer.ts';
import { expectNothingLeft, skipWithoutUdmabuf } from './machine.ts';

/** A machine in an emulated machine, on a busy machine. */
const BOOT_MS = 600_000;

describe.skipIf(skipWithoutUdmabuf() || skipWithoutGuest(newerQemu))('a guest of QEMU with blobs', () => {
  expectNothingLeft();

  test('is seen by another process in its own pages, with nothing copied', { timeout: BOOT_MS }, async () => {
    const directory = mkdtempSync(join(tmpdir(), 'export-guest-'));
    const at = (name: string): string => join(directory, name);
    {
      using guest = VhostUserGuest.open({ socket: at('gpu') });
      using display = ExportDisplay.open({ path: at('export'), scanouts: 1, budget: guest.budget });
      using bridge = new Bridge(guest);
      bridge.show(0, display.outputs[0]!);
      await using vm = await bootGuest({
        gpu: { kind: 'generic', socket: at('gpu') },
        programs: [guestDraw()],
        memoryMiB: NESTED_MIB,
        patienceMs: BOOT_MS / 2,
      });
      await using consumer = new ExportConsumer(at('export'));
      const draw = await startDrawing(vm);
      await draw('mode 640 480');
      const copiedBefore = bridge.stats[0]!.screens[0]!.primary.copiedBytes;

      for (const pattern of [3, 4]) {
        await draw(`pattern ${pattern}`);
        const expected = { kind: 'dmabuf', sha: shaOf(drawnPicture(640, 480, pattern)) };
        let seen = await consumer.next();
        while (seen.sha !== expected.sha) seen = await consumer.next();
        expect(seen).toMatchObject(expected);
      }

      expect(bridge.stats[0]!.screens[0]!.primary).toMatchObject({ rung: 'udmabuf', copiedBytes: copiedBefore });
      await draw('quit');
    }
    rmSync(directory, { recursive: true });
  });
});
