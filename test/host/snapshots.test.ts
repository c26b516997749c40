/** Snapshots of launched guests: QEMU saves and restores them, and the guest's own screen and disk tell what they kept. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { crop } from '../../display/picture/difference.ts';
import type { Picture } from '../../src/core/picture.ts';
import type { Rect } from '../../src/core/geometry.ts';
import {
  comparePictures,
  launchGuest,
  type LaunchedGuest,
  type LaunchOptions,
  openDisplay,
} from '../../src/testing/index.ts';
import { desktopGuest, logIn } from '../rig/desktop-guest.ts';
import { DESKTOP_FILES } from '../rig/desktop-image.ts';
import { eventually } from '../rig/eventually.ts';
import { skipWithoutGuest } from '../rig/guest-image.ts';
import { skipWithoutProgram } from '../rig/skip.ts';
import { expectNoLeaks } from '../unit/sys/no-leaks.ts';

const isSkipped = skipWithoutProgram('qemu-system-x86_64') || skipWithoutGuest(...DESKTOP_FILES);

function launch(options: LaunchOptions): Promise<LaunchedGuest> {
  return launchGuest({ display: 'dbus', accel: 'tcg', ...options });
}

let directory: string;
let disk: string;

function setUp(): void {
  directory = mkdtempSync(join(tmpdir(), 'snapshots-'));
  vi.stubEnv('XDG_CACHE_HOME', directory);
  disk = join(directory, 'disk.img');
  writeFileSync(disk, new Uint8Array(2 ** 20));
}

function tearDown(): void {
  vi.unstubAllEnvs();
  rmSync(directory, { recursive: true });
}

describe.skipIf(isSkipped)('a snapshot of the firmware', () => {
  expectNoLeaks();
  beforeEach(setUp);
  afterEach(tearDown);

  const options = (): LaunchOptions => ({
    ...{ memoryMiB: 64, disk, machine: 'pc' },
    args: ['-boot', 'menu=on,splash-time=60000'],
  });

  /** The firmware's cursor blinks below what it says. */
  const cursorRow: Rect = { x: 0, y: 64, width: 720, height: 16 };

  /** By QEMU itself, through the disk that the guest has. */
  async function onDisk(guest: LaunchedGuest, command: string): Promise<void> {
    await guest.qmp('human-monitor-command', { 'command-line': `qemu-io disk "${command} -P 90 4096 512"` });
  }

  /** Whether the guest's disk has what `write` of `onDisk` puts there. */
  async function isWritten(guest: LaunchedGuest): Promise<boolean> {
    const before = guest.log.length;
    await onDisk(guest, 'read');
    await eventually(() => expect(guest.log.slice(before)).toContain('512/512'));
    return !guest.log.slice(before).includes('verification failed');
  }

  function saved(): string[] {
    const folder = join(directory, 'scanout-bridge/snapshots');
    return existsSync(folder) ? readdirSync(folder).flatMap((machine) => readdirSync(join(folder, machine))) : [];
  }

  async function menu(guest: LaunchedGuest): Promise<Picture> {
    using display = openDisplay({ guest });
    return await display.waitForStable({ quietMs: 2000, masks: [cursorRow] });
  }

  test('has its screen and its disk, the guest goes on, and the disk is as before', async () => {
    await using guest = await launch(options());
    await onDisk(guest, 'write');
    const picture = await menu(guest);
    await guest.snapshot('menu');
    expect(await guest.qmp('query-status')).toMatchObject({ running: true });
    await onDisk(guest, 'write');
    await using restored = await launch({ ...options(), snapshot: 'menu' });
    expect(comparePictures(restored.output.capture()!, picture, { masks: [cursorRow] }).matches).toBe(true);
    expect(await restored.qmp('query-status')).toMatchObject({ running: true });
    expect(await isWritten(restored)).toBe(true);
    await using other = await launch(options());
    expect(await isWritten(other)).toBe(false);
  });

  test('can be taken of a guest that came from one', async () => {
    {
      await using guest = await launch(options());
      await guest.snapshot('first');
    }
    {
      await using guest = await launch({ ...options(), snapshot: 'first' });
      await onDisk(guest, 'write');
      await guest.snapshot('second');
    }
    await using first = await launch({ ...options(), snapshot: 'first' });
    expect(await isWritten(first)).toBe(false);
    await first.snapshot('first');
    await using second = await launch({ ...options(), snapshot: 'second' });
    expect(await isWritten(second)).toBe(true);
  });

  test('is made by prepare, once, and again when the disk has changed', async () => {
    const prepare = vi.fn((guest: LaunchedGuest) => onDisk(guest, 'write'));
    const prepared = (): LaunchOptions => ({ ...options(), snapshot: 'prepared', prepare });
    await Promise.all([launch(prepared()), launch(prepared())].map(async (guest) => (await guest).kill()));
    expect(prepare).toHaveBeenCalledTimes(2);
    expect(saved()).toHaveLength(1);
    await using guest = await launch(prepared());
    expect(await isWritten(guest)).toBe(true);
    expect(prepare).toHaveBeenCalledTimes(2);
    utimesSync(disk, 1, 1);
    await expect(launch({ ...options(), snapshot: 'prepared' })).rejects.toMatchObject({
      code: 'no-snapshot',
      message: expect.stringContaining("guest.snapshot('prepared')") as string,
    });
    await using next = await launch(prepared());
    expect(next.pid).toBeGreaterThan(0);
    expect(prepare).toHaveBeenCalledTimes(3);
    expect(saved()).toHaveLength(1);
  });

  test('of a guest that fails in prepare leaves nothing behind', async () => {
    const prepare = () => Promise.reject(new Error('no login'));
    await expect(launch({ ...options(), snapshot: 'prepared', prepare })).rejects.toThrow('no login');
    expect(saved()).toEqual([]);
  });

  test('takes the place of one that a process left unfinished', async () => {
    await using guest = await launch(options());
    await guest.snapshot('menu');
    const [machine] = readdirSync(join(directory, 'scanout-bridge/snapshots'));
    // No process has this number.
    mkdirSync(join(directory, 'scanout-bridge/snapshots', machine!, `unfinished-${2 ** 30}-x`));
    await guest.snapshot('menu');
    expect(saved()).toHaveLength(1);
  });

  test('remembers that the CD is out', async () => {
    const cdrom = join(directory, 'empty.iso');
    writeFileSync(cdrom, new Uint8Array(2 ** 20));
    const blocks = async (guest: LaunchedGuest): Promise<unknown> => {
      const all = (await guest.qmp('query-block')) as { device: string; inserted?: object }[];
      return all.find(({ device }) => device === 'cd')!.inserted;
    };
    await using guest = await launch({ ...options(), cdrom });
    await guest.snapshot('in');
    await guest.eject();
    await guest.snapshot('out');
    await using withCd = await launch({ ...options(), cdrom, snapshot: 'in' });
    expect(await blocks(withCd)).toBeDefined();
    await using without = await launch({ ...options(), cdrom, snapshot: 'out' });
    expect(await blocks(without)).toBeUndefined();
  });

  test('is refused for a disk that it would not keep, or a device that QEMU cannot save', async () => {
    const drive = ['-drive', `if=none,id=more,format=raw,file=${disk},snapshot=on`];
    await using guest = await launch({ ...options(), args: drive });
    await expect(guest.snapshot('more')).rejects.toMatchObject({ code: 'refused', message: /more$/ });
    expect(await guest.qmp('query-status')).toMatchObject({ running: true });
    const peer = ['-object', 'memory-backend-ram,id=m,size=1M', '-device', 'ivshmem-plain,memdev=m,master=off'];
    await using other = await launch({ ...options(), args: peer });
    await expect(other.snapshot('peer')).rejects.toMatchObject({ code: 'refused', message: /ivshmem/ });
    expect(await other.qmp('query-status')).toMatchObject({ running: true });
    expect(saved()).toEqual([]);
  });

  test('needs the D-Bus display', async () => {
    await expect(launchGuest({ snapshot: 'any' })).rejects.toThrow("snapshot works only with display: 'dbus'");
  });
});

describe.skipIf(isSkipped)('a snapshot of a desktop', () => {
  let options: LaunchOptions;
  let answer: Picture;
  const seconds = { boot: 0, restored: [] as number[] };

  beforeAll(async () => {
    setUp();
    options = desktopGuest(disk);
    const start = performance.now();
    await using guest = await launch({ ...options, prepare: logIn });
    seconds.boot = (performance.now() - start) / 1000;
    using display = openDisplay({ guest });
    await display.type('head -n 1 /dev/sda\n');
    await display.waitForText(/^kept/m, { timeoutMs: 120_000 });
    answer = await display.waitForStable({ quietMs: 2000, timeoutMs: 120_000 });
  }, 600_000);

  afterAll(() => {
    const mean = seconds.restored.reduce((sum, one) => sum + one, 0) / seconds.restored.length;
    console.info(`a boot and a login ${seconds.boot.toFixed(1)} s; a restored guest ${mean.toFixed(2)} s on average`);
    tearDown();
  });

  test.for(Array.from({ length: 20 }, (_, i) => i + 1))(
    'is restored for test %i, with its session and disk',
    async () => {
      const start = performance.now();
      await using guest = await launch(options);
      seconds.restored.push((performance.now() - start) / 1000);
      using display = openDisplay({ guest });
      await display.type('head -n 1 /dev/sda\n');
      await display.waitForMatch(answer, { timeoutMs: 60_000 });
    },
  );

  test('is operated by pictures cropped from it: a click on a word opens the menu of its window', async () => {
    await using guest = await launch(options);
    using display = openDisplay({ guest });
    const still = (): Promise<Picture> => display.waitForStable({ quietMs: 1000, timeoutMs: 60_000 });
    const whatIsNew = (before: Picture, after: Picture): Picture => crop(after, comparePictures(before, after).box!);
    // The terminal's cursor looks otherwise while another window has the focus.
    const alike = { threshold: 0.02, timeoutMs: 60_000 };
    const before = await still();
    await display.type('echo here\n');
    await display.waitForText(/^here/m, { timeoutMs: 60_000 });
    const word = whatIsNew(before, await still());

    const found = await display.find(word);
    await display.move(found.click.x, found.click.y);
    const pointedAt = await still();
    const changed = display.waitForChange({ timeoutMs: 60_000 });
    await display.click(found, 'right');
    await changed;
    const menu = whatIsNew(pointedAt, await still());
    const negative = { ...menu, data: menu.data.map((value, i) => (i % 4 === 3 ? value : 255 - value)) };
    // The menu covers the word until something else is clicked.
    await display.click(1, 1);
    const again = await display.waitForAny([word], alike);
    const opening = display.waitForAny([negative, menu], { timeoutMs: 60_000 });
    await display.click(again, 'right');

    expect(await opening).toMatchObject({ index: 1, width: menu.width, height: menu.height, similarity: 1 });
  });
});
