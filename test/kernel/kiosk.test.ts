import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readPng } from '../../display/picture/png.ts';
import type { Picture } from '../../src/core/picture.ts';
import { requestScreenshot } from '../../src/control/client.ts';
import { expectSamePicture } from '../rig/picture.ts';
import { MAIN, ScanoutRun } from '../rig/scanout-run.ts';
import { checksum, CrtcCrc } from './crtc-crc.ts';
import { FakeVmm, HEIGHT, Pictures, plain, WIDTH, withCursor } from './kiosk-rig.ts';
import { kernelObjects, skipWithoutVkms, vkmsCard } from './kms-rig.ts';
import { expectNothingLeft, expectSettled } from './machine.ts';

const isSkipped = skipWithoutVkms();
const card = vkmsCard() ?? '';
const COLOUR = 0x20304f;
const OF_OUTPUT = { scanout: 0, cursor: true, output: true };

describe.skipIf(isSkipped)('scanout run as a kiosk', () => {
  let directory: string;
  let socket: string;
  let pictures: Pictures;
  /** Checksums of what may be on screen. */
  let seen: Record<'oneAndCursor' | 'one' | 'two' | 'black' | 'colour', string>;

  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'kiosk-'));
    socket = join(directory, 'gpu.sock');
    pictures = new Pictures();
    const { one, two, cursor } = pictures;
    seen = {
      oneAndCursor: checksum(withCursor(one, cursor)),
      one: checksum(one.onScreen(WIDTH, HEIGHT)),
      two: checksum(two.onScreen(WIDTH, HEIGHT)),
      black: checksum(plain(0)),
      colour: checksum(plain(COLOUR)),
    };
  });
  afterAll(() => {
    pictures[Symbol.dispose]();
    rmSync(directory, { recursive: true });
  });
  expectNothingLeft();

  const start = (whenOff: string): Promise<ScanoutRun> =>
    ScanoutRun.start(
      '--guest',
      `vhost-user:${socket}`,
      '--output',
      `kms:${card},mode=${WIDTH}x${HEIGHT}`,
      '--when-off',
      whenOff,
      '--control',
      join(directory, 'control.sock'),
    );

  /** Resolves when the screen has this checksum. vkms computes none any more after a writeback, until it is asked again. */
  async function shown(checksum: string): Promise<void> {
    using crc = new CrtcCrc(card);
    await crc.until(checksum);
  }

  test('keeps the last picture when the guest is reset and when the VMM ends', async () => {
    const { framebuffers } = kernelObjects(card);
    await using kiosk = await start('last');
    using crc = new CrtcCrc(card);
    using vmm = await FakeVmm.connect(socket);
    expect((await crc.during(1)).at(-1)).toBe(seen.black);
    await vmm.show(pictures.one, pictures.cursor);
    await crc.until(seen.oneAndCursor);
    expect(kiosk.log).toContain("by rung 'udmabuf'");

    await vmm.reset();
    await crc.until(seen.one);
    expect(await crc.during(10)).toEqual([seen.one]);
    await vmm.boot();
    expect(await crc.during(5)).toEqual([seen.one]);
    await vmm.show(pictures.two);
    expect(await crc.until(seen.two)).toEqual([seen.one, seen.two]);

    vmm[Symbol.dispose]();
    expect(await crc.during(10)).toEqual([seen.two]);
    using next = await FakeVmm.connect(socket);
    await next.show(pictures.one);
    expect(await crc.until(seen.one)).toEqual([seen.two, seen.one]);
    expect(await kiosk.end('SIGTERM')).toBe(0);
    await expectSettled(() => kernelObjects(card).framebuffers, framebuffers);
  });

  test.each([
    ['black', 'black'],
    ['a colour', 'colour'],
  ] as const)('is %s while there is no guest', async (_, calm) => {
    await using kiosk = await start(calm === 'black' ? 'black' : `#${COLOUR.toString(16)}`);
    using crc = new CrtcCrc(card);
    using vmm = await FakeVmm.connect(socket);
    expect((await crc.during(1)).at(-1)).toBe(seen[calm]);
    await vmm.show(pictures.one, pictures.cursor);
    await crc.until(seen.oneAndCursor);

    // The reset is not known before the driver starts again. The hardware reads the guest's memory until the copy is on screen.
    await vmm.reset();
    expect((await crc.during(30)).at(-1)).toBe(seen.oneAndCursor);
    expect(await crc.during(10)).toEqual([seen.oneAndCursor]);
    await vmm.boot();
    expect(await crc.until(seen[calm])).toEqual([seen.oneAndCursor, seen[calm]]);
    await vmm.show(pictures.two);
    expect(await crc.until(seen.two)).toEqual([seen[calm], seen.two]);

    vmm[Symbol.dispose]();
    expect(await crc.until(seen[calm])).toEqual([seen.two, seen[calm]]);
    using next = await FakeVmm.connect(socket);
    await next.show(pictures.one);
    expect(await crc.until(seen.one)).toEqual([seen[calm], seen.one]);
    expect(await kiosk.end('SIGTERM')).toBe(0);
  });

  test('scanout screenshot saves the picture of the guest, with its cursor and without', async () => {
    await using _kiosk = await start('last');
    using vmm = await FakeVmm.connect(socket);
    await vmm.show(pictures.one, pictures.cursor);
    const saved = async (...options: string[]): Promise<Picture> => {
      const file = join(directory, 'screen.png');
      const args = [MAIN, 'screenshot', '--control', join(directory, 'control.sock'), ...options, file];
      await promisify(execFile)(process.execPath, args);
      return readPng(file);
    };
    expectSamePicture(await saved(), withCursor(pictures.one, pictures.cursor), 'kiosk-screenshot');
    expectSamePicture(await saved('--no-cursor'), pictures.one.onScreen(WIDTH, HEIGHT), 'kiosk-screenshot-bare');
  });

  test('a screenshot of the output has the checksum that the hardware computes of the screen, which stays as it is', async () => {
    await using _kiosk = await start('last');
    using vmm = await FakeVmm.connect(socket);
    await vmm.show(pictures.one, pictures.cursor);
    await shown(seen.oneAndCursor);
    for (let taken = 0; taken < 3; taken++) {
      const onScreen = await requestScreenshot(join(directory, 'control.sock'), OF_OUTPUT);
      expect(checksum(onScreen)).toBe(seen.oneAndCursor);
      await shown(seen.oneAndCursor);
    }
    vmm[Symbol.dispose]();
    using next = await FakeVmm.connect(socket);
    await next.show(pictures.two);
    await shown(seen.two);
  });

  test('shows the next guest after it was killed and started again with the same socket', async () => {
    await using first = await start('last');
    using vmm = await FakeVmm.connect(socket);
    await vmm.show(pictures.one);
    await first.end('SIGKILL');
    await using second = await start('last');
    using crc = new CrtcCrc(card);
    using next = await FakeVmm.connect(socket);
    await next.show(pictures.two);
    await crc.until(seen.two);
    expect(second.log).toContain('front end connected');
  });
});
