import { openSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { ZwpLinuxDmabufFeedbackV1, ZwpLinuxDmabufV1 } from '../../../../display/wayland/client/index.ts';
import { DmabufFormats } from '../../../../display/wayland/dmabuf-formats.ts';
import { DRM_FORMAT, type Modifier } from '../../../../protocols/drm-fourcc.ts';
import { OwnedFd } from '../../../../src/sys/fd.ts';
import { Mapping } from '../../../../src/sys/mapping.ts';
import { createMemfd } from '../../../../src/sys/memfd.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';

expectNoLeaks();

const { XRGB8888 } = DRM_FORMAT;
const MAX_PAIRS = 8192;

const count = (formats: DmabufFormats): number =>
  formats.tranches.reduce((sum, tranche) => sum + [...tranche.modifiers(XRGB8888)].length, 0);

test.each([
  ['a device', '/dev/zero'],
  ['a file of /proc', '/proc/self/maps'],
])('DmabufFormats: reads no table from %s, which may block', (_, path) => {
  const formats = new DmabufFormats();
  const feedback = { listener: null } as unknown as ZwpLinuxDmabufFeedbackV1;
  formats.watch(feedback);
  const { formatTable, trancheFormats, trancheDone, done } = feedback.listener!;
  formatTable!(OwnedFd.adopt(openSync(path, 'r')), 16);
  trancheFormats!(new Uint8Array(2));
  trancheDone!();
  done!();
  expect(formats.tranches.map(({ isEmpty }) => isEmpty)).toEqual([true]);
});

describe('DmabufFormats: on a compositor that announces without end', () => {
  test('keeps the first 8192 pairs of version 3', () => {
    const formats = new DmabufFormats();
    const dmabuf = { version: 3, listener: null } as unknown as ZwpLinuxDmabufV1;
    formats.watchGlobal(dmabuf);
    for (let i = 0; i <= MAX_PAIRS; i++) dmabuf.listener!.modifier!(XRGB8888, 0, i);
    expect(count(formats)).toBe(MAX_PAIRS);
  });

  test('keeps the first 8192 pairs and 16 tranches of a feedback, and those of the next one', () => {
    const table = createMemfd('table', 2 * 16);
    {
      using mapping = Mapping.file(table, 0, 2 * 16, 'read-write');
      for (const at of [0, 16]) mapping.view.setUint32(at, XRGB8888, true);
      mapping.view.setBigUint64(24, 1n, true);
    }
    const formats = new DmabufFormats();
    const feedback = { listener: null } as unknown as ZwpLinuxDmabufFeedbackV1;
    formats.watch(feedback);
    const { formatTable, trancheFormats, trancheDone, done } = feedback.listener!;
    formatTable!(table, 2 * 16);
    const first = new Uint8Array(2);
    const second = new Uint8Array([1, 0]);

    for (let i = 0; i < MAX_PAIRS; i++) trancheFormats!(first);
    trancheFormats!(second);
    for (let i = 0; i < 17; i++) trancheDone!();
    done!();
    expect([formats.tranches.length, count(formats)]).toEqual([16, 1]);
    trancheFormats!(second);
    trancheDone!();
    done!();
    expect(formats.tranches.map((tranche) => tranche.has(XRGB8888, 1n as Modifier))).toEqual([true]);
  });
});
