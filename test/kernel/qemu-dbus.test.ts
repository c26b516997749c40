/** QEMU that draws with OpenGL, and exports dma-bufs over its D-Bus display, compared with its own screendump. */
import { existsSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { DbusMachine } from '../rig/dbus-machine.ts';
import { eventually } from '../rig/eventually.ts';
import { skipBecause, skipWithoutProgram } from '../rig/skip.ts';
import { dmabufCount, expectNothingLeft } from './machine.ts';

const RENDER_NODE = '/dev/dri/renderD128';
const isSkipped =
  skipWithoutProgram('qemu-system-x86_64') || (!existsSync(RENDER_NODE) && skipBecause(`no ${RENDER_NODE}`));

describe.skipIf(isSkipped)('QEMU with OpenGL over its D-Bus display', () => {
  expectNothingLeft();

  test('shows its dma-bufs pixel by pixel, without one over the socket', async () => {
    const before = dmabufCount();
    await using machine = await DbusMachine.start(['-device', 'VGA', '-boot', 'menu=on,splash-time=60000'], {
      renderNode: RENDER_NODE,
      accel: 'kvm',
    });
    const { guest } = machine;
    await eventually(() => expect(guest.stats.consoles[0]).toMatchObject({ way: 'dmabuf', socketBytes: 0 }));
    expect(dmabufCount()).toBeGreaterThan(before);
    await eventually(async () => {
      await machine.qmp.command('stop');
      const wanted = await machine.screendump();
      const shown = machine.capture();
      const isDrawn = wanted.data.some((value, at) => at % 4 !== 3 && value !== 0);
      const isSame = shown !== null && Buffer.compare(shown.data, wanted.data) === 0;
      await machine.qmp.command('cont');
      expect([isDrawn, isSame]).toEqual([true, true]);
    });
    expect(guest.stats.consoles[0]).toMatchObject({ way: 'dmabuf', socketBytes: 0 });
  });
});
