import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { UdmabufDriver } from '../../src/buffer/udmabuf.ts';
import { openUdmabuf, type ScatteredPicture } from '../rig/scattered-picture.ts';
import { CrtcCrc } from './crtc-crc.ts';
import { FakeVmm, Kiosk, MODE, Pictures } from './kiosk-rig.ts';
import { kernelObjects, skipWithoutVkms, vkmsCard } from './kms-rig.ts';
import { expectNothingLeft } from './machine.ts';

const isSkipped = skipWithoutVkms();
const card = vkmsCard() ?? '';
const COLOUR = 0x20304f;

describe.skipIf(isSkipped)('a kiosk', () => {
  let directory: string;
  let socket: string;
  let udmabuf: UdmabufDriver;
  let pictures: Pictures;
  let one: ScatteredPicture;
  let two: ScatteredPicture;
  /** Checksums: `oneAndCursor` with the cursor on it. */
  let seen: Record<'oneAndCursor' | 'one' | 'two' | 'black' | 'colour', string>;

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'kiosk-'));
    socket = join(directory, 'gpu.sock');
    udmabuf = openUdmabuf();
    pictures = new Pictures(card, udmabuf);
    one = pictures.noise(1);
    two = pictures.noise(2);
    const modes = pictures.modes().filter(({ width }) => width === 640);
    const checksums = await pictures.checksums(modes, [one, one, pictures.plain(COLOUR), pictures.plain(0), two], pictures.cursor);
    seen = { oneAndCursor: checksums[0]!, one: checksums[1]!, colour: checksums[2]!, black: checksums[3]!, two: checksums[4]! };
  });
  afterAll(() => {
    pictures[Symbol.dispose]();
    udmabuf[Symbol.dispose]();
    rmSync(directory, { recursive: true });
  });
  expectNothingLeft();

  const start = (whenOff: string): Promise<Kiosk> =>
    Kiosk.start('--guest', `vhost-user:${socket}`, '--output', `kms:${card},mode=${MODE}`, '--when-off', whenOff, '--control', join(directory, 'control.sock'));

  test('can tell its pictures apart', () => {
    expect(new Set(Object.values(seen)).size).toBe(5);
  });

  test('keeps the last picture over a reset of the guest and the end of the VMM', async () => {
    const { framebuffers } = kernelObjects(card);
    await using kiosk = await start('last');
    using crc = new CrtcCrc(card);
    using vmm = await FakeVmm.connect(socket);
    expect((await crc.during(1)).at(-1)).toBe(seen.black);
    await vmm.show(one, pictures.cursor);
    await crc.until(seen.oneAndCursor);
    expect(kiosk.log).toContain("by rung 'udmabuf'");

    await vmm.reset();
    await crc.until(seen.one);
    expect(await crc.during(10)).toEqual([seen.one]);
    await vmm.boot();
    expect(await crc.during(5)).toEqual([seen.one]);
    await vmm.show(two);
    expect(await crc.until(seen.two)).toEqual([seen.one, seen.two]);

    vmm[Symbol.dispose]();
    expect(await crc.during(10)).toEqual([seen.two]);
    using next = await FakeVmm.connect(socket);
    await next.show(one);
    expect(await crc.until(seen.one)).toEqual([seen.two, seen.one]);
    expect(await kiosk.end('SIGTERM')).toBe(0);
    expect(kernelObjects(card).framebuffers).toBe(framebuffers);
  });

  test.each([
    ['black', 'black'],
    ['a colour', 'colour'],
  ] as const)('is %s while there is no guest', async (_, calm) => {
    await using kiosk = await start(calm === 'black' ? 'black' : `#${COLOUR.toString(16)}`);
    using crc = new CrtcCrc(card);
    using vmm = await FakeVmm.connect(socket);
    expect((await crc.during(1)).at(-1)).toBe(seen[calm]);
    await vmm.show(one, pictures.cursor);
    await crc.until(seen.oneAndCursor);

    // Nobody knows of the reset before the driver starts again.
    await vmm.reset();
    expect(await crc.during(10)).toEqual([seen.oneAndCursor]);
    await vmm.boot();
    expect(await crc.until(seen[calm])).toEqual([seen.oneAndCursor, seen[calm]]);
    await vmm.show(two);
    expect(await crc.until(seen.two)).toEqual([seen[calm], seen.two]);

    vmm[Symbol.dispose]();
    expect(await crc.until(seen[calm])).toEqual([seen.two, seen[calm]]);
    using next = await FakeVmm.connect(socket);
    await next.show(one);
    expect(await crc.until(seen.one)).toEqual([seen[calm], seen.one]);
    expect(await kiosk.end('SIGTERM')).toBe(0);
  });

  test('killed and started again under the same socket shows the next guest', async () => {
    await using first = await start('last');
    using vmm = await FakeVmm.connect(socket);
    await vmm.show(one);
    await first.end('SIGKILL');
    await using second = await start('last');
    using crc = new CrtcCrc(card);
    using next = await FakeVmm.connect(socket);
    await next.show(two);
    await crc.until(seen.two);
    expect(second.log).toContain('front end connected');
  });
});
