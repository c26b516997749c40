import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'vitest';
import { ExportDisplay } from '../../../../display/export/display.ts';
import { EXPORT_EVENT } from '../../../../protocols/export.ts';
import { DRM_FORMAT } from '../../../../protocols/drm-fourcc.ts';
import { MemoryBudget } from '../../../../src/core/budget.ts';
import { EventFd } from '../../../../src/sys/eventfd.ts';
import { type OutputRig, outputSuite } from '../../../../src/testing/output-suite.ts';
import { GuestPicture } from '../../bridge/fakes.ts';
import { type EventOf, RawConsumer } from './raw-consumer.ts';

const SIZE = { width: 64, height: 48 };

/** A screen whose consumers release each frame when the next has come. */
async function open(consumers: number): Promise<OutputRig> {
  const directory = mkdtempSync(join(tmpdir(), 'export-'));
  const display = ExportDisplay.open({
    path: join(directory, 'socket'),
    scanouts: 1,
    budget: new MemoryBudget(Infinity),
    monitor: { ...SIZE, refreshMhz: 500_000 },
  });
  const all = Array.from({ length: consumers }, () => new RawConsumer(join(directory, 'socket')));
  const shown = new Map<RawConsumer, EventOf<typeof EXPORT_EVENT.FRAME>>();
  for (const consumer of all) await consumer.take(EXPORT_EVENT.HELLO);
  const pictures: GuestPicture[] = [];
  const fences: EventFd[] = [];
  const picture = (): GuestPicture => {
    const made = new GuestPicture(SIZE.width, SIZE.height, DRM_FORMAT.XRGB8888);
    pictures.push(made);
    return made;
  };
  const step = (): void => {
    for (const consumer of all) {
      for (const { type, value } of consumer.takeNow()) {
        if (type !== EXPORT_EVENT.FRAME) continue;
        const frame = value as EventOf<typeof EXPORT_EVENT.FRAME>;
        const before = shown.get(consumer);
        if (before) consumer.release(before.primary.id, before.serial);
        shown.set(consumer, frame);
      }
      for (const fd of consumer.fds.splice(0)) fd[Symbol.dispose]();
    }
  };
  return {
    output: display.outputs[0]!,
    size: SIZE,
    step,
    ...(consumers > 0 && {
      isDark: () => {
        step();
        return shown.get(all[0]!)?.width === 0;
      },
    }),
    framebuffer: () => picture().asDmabuf,
    refused: () => {
      const { asDmabuf } = picture();
      return { ...asDmabuf, planes: Array.from({ length: 5 }, () => asDmabuf.planes[0]!) };
    },
    fence: () => {
      const fd = EventFd.create();
      fences.push(fd);
      return { fd, signal: () => fd.signal() };
    },
    close: () => {
      display[Symbol.dispose]();
      for (const one of [...all, ...pictures, ...fences]) one[Symbol.dispose]();
      rmSync(directory, { recursive: true });
    },
  };
}

outputSuite('ExportOutput without consumers', { describe, test }, () => open(0), ['import', 'refuse', 'fence']);
outputSuite('ExportOutput with two consumers', { describe, test }, () => open(2), ['import', 'refuse', 'fence']);
