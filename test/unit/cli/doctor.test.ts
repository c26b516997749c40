import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { CardAbilities } from '../../../display/kms/device.ts';
import { makeEdid } from '../../../protocols/edid.ts';
import { prospects } from '../../../src/cli/doctor.ts';
import {
  type Card,
  checkCards,
  checkClipboard,
  checkInput,
  readClipboardParts,
  checkLibraries,
  readCards,
} from '../../../src/cli/machine.ts';
import { type ControlHandlers, ControlServer } from '../../../src/control/server.ts';
import { hasLibrary } from '../../../src/sys/lib/library.ts';
import { UdmabufError } from '../../../src/sys/udmabuf.ts';
import { FakeHost } from '../display/wayland/fake-host.ts';

const ABLE: CardAbilities = { driver: 'vkms', isAtomic: true, importsDmabufs: true, isFree: true };
const COMPOSITOR = { name: 'Wayland compositor', ok: true, detail: '/run/user/0/wayland-0' };
const DELL = makeEdid({
  name: 'DELL U2415',
  width: 1920,
  height: 1200,
  refreshMhz: 60_000,
  widthMm: 520,
  heightMm: 320,
});

let sysfs: string;

beforeEach(() => {
  sysfs = mkdtempSync(join(tmpdir(), 'scanout-drm-'));
});

afterEach(() => {
  rmSync(sysfs, { recursive: true });
});

function addCard(name: string): void {
  mkdirSync(join(sysfs, name, 'device'), { recursive: true });
  symlinkSync('../../../bus/pci/drivers/i915', join(sysfs, name, 'device/driver'));
}

/** As the kernel writes it. */
function addConnector(
  name: string,
  status: string,
  modes: readonly string[] = [],
  edid: Uint8Array = new Uint8Array(0),
): void {
  mkdirSync(join(sysfs, name));
  writeFileSync(join(sysfs, name, 'status'), `${status}\n`);
  writeFileSync(join(sysfs, name, 'modes'), modes.map((mode) => `${mode}\n`).join(''));
  writeFileSync(join(sysfs, name, 'edid'), edid);
}

function refuse(code: string): () => never {
  return () => {
    throw Object.assign(new Error(`${code}: told to fail`), { code });
  };
}

const card = (abilities: Card['abilities'], isConnected = true): Card => ({
  name: 'card0',
  connectors: [{ name: 'HDMI-A-1', isConnected, monitor: 'DELL U2415', preferredMode: '1920x1200' }],
  abilities,
});

describe('readCards', () => {
  test('lists cards in order with the monitors plugged into them', () => {
    for (const name of ['card10', 'card2']) addCard(name);
    addConnector('card2-DP-1', 'disconnected');
    addConnector('card2-HDMI-A-1', 'connected', ['1920x1200', '1920x1080i'], DELL);
    addConnector('card2-Writeback-1', 'unknown');
    addConnector('card10-Virtual-1', 'connected', ['1024x768']);
    mkdirSync(join(sysfs, 'renderD128'));
    const asked: string[] = [];

    const cards = readCards(sysfs, '/dev/dri', (path) => {
      asked.push(path);
      return ABLE;
    });

    expect(asked).toEqual(['/dev/dri/card2', '/dev/dri/card10']);
    expect(cards).toEqual([
      {
        name: 'card2',
        abilities: ABLE,
        connectors: [
          { name: 'DP-1', isConnected: false, monitor: null, preferredMode: null },
          { name: 'HDMI-A-1', isConnected: true, monitor: 'DELL U2415', preferredMode: '1920x1200' },
        ],
      },
      {
        name: 'card10',
        abilities: ABLE,
        connectors: [{ name: 'Virtual-1', isConnected: true, monitor: null, preferredMode: '1024x768' }],
      },
    ]);
    expect(checkCards(cards).map(({ name, ok, detail }) => ({ name, ok, detail }))).toEqual([
      {
        name: 'KMS card2',
        ok: true,
        detail:
          'vkms: atomic modesetting, imports dma-bufs, free; DP-1 (nothing plugged in), HDMI-A-1 (DELL U2415, 1920x1200)',
      },
      {
        name: 'KMS card10',
        ok: true,
        detail: 'vkms: atomic modesetting, imports dma-bufs, free; Virtual-1 (a monitor without a name, 1024x768)',
      },
    ]);
  });

  test.each([
    ['EACCES', /no permission to open/, /group/],
    ['EPERM', /sandbox/, /allow the device/],
    ['ENOENT', /told to fail/, /kernel log/],
  ])('gives the driver, the reason and a remedy for a card that fails with %s', (code, problem, todo) => {
    addCard('card0');

    const cards = readCards(sysfs, '/dev/dri', refuse(code));

    expect(cards[0]!.abilities).toEqual({
      driver: 'i915',
      problem: expect.stringMatching(problem) as string,
      todo: expect.stringMatching(todo) as string,
    });
    expect(checkCards(cards)).toMatchObject([
      { ok: false, detail: expect.stringMatching(problem) as string, todo: expect.stringMatching(todo) as string },
    ]);
    expect(prospects(null, cards, COMPOSITOR).at(-1)).toMatchObject({
      output: 'kms:card0',
      rung: 'none',
      why: expect.stringMatching(problem) as string,
    });
  });

  test('returns no cards for a machine without, and checkCards one failed check', () => {
    expect(checkCards(readCards(join(sysfs, 'absent')))).toMatchObject([{ name: 'KMS', ok: false }]);
  });

  test.each([
    ['has no atomic modesetting', card({ ...ABLE, isAtomic: false }), 'another card'],
    ['has no monitor', card(ABLE, false), 'plug in'],
    ['is used by another DRM master', card({ ...ABLE, isFree: false }), 'display server'],
  ])('checkCards fails with a remedy for a card that %s', (_, one, todo) => {
    expect(checkCards([one])).toMatchObject([{ ok: false, todo: expect.stringContaining(todo) as string }]);
  });
});

describe('checkInput', () => {
  const NONE = '/scanout-bridge-has-no-such-file';
  let devices: string;

  beforeEach(() => {
    devices = mkdtempSync(join(tmpdir(), 'input-'));
  });
  afterEach(() => rmSync(devices, { recursive: true }));

  test('says that there are no devices', () => {
    writeFileSync(join(devices, 'mice'), '');
    expect(checkInput(devices, NONE, NONE, devices)).toMatchObject({ ok: false, detail: `none in ${devices}` });
  });

  test('says who opens devices, and that udevd is needed', () => {
    writeFileSync(join(devices, 'event0'), '');
    expect(checkInput(devices, devices, NONE, devices)).toMatchObject({ ok: true, detail: '1, opened by seatd' });
    expect(checkInput(devices, NONE, devices, devices)).toMatchObject({ ok: true, detail: '1, opened by logind' });
    expect(checkInput(devices, NONE, NONE, devices)).toMatchObject({
      ok: true,
      detail: '1, opened by the bridge itself, which may open 1',
    });
    expect(checkInput(devices, devices, NONE, NONE)).toMatchObject({
      ok: false,
      todo: expect.stringContaining('udevd') as string,
    });
  });
});

describe('checkLibraries', () => {
  test('names the Debian package of a missing library', () => {
    expect(checkLibraries(() => false).map(({ ok, todo }) => [ok, todo])).toEqual([
      [false, 'install libgbm1'],
      [false, 'install libseat1'],
      [false, 'install libudev1'],
      [false, 'install libpangocairo-1.0-0'],
      [false, 'install libinput10'],
    ]);
    expect(checkLibraries(() => true).every(({ ok, todo }) => ok && todo === undefined)).toBe(true);
  });

  test('hasLibrary finds a library by its soname', () => {
    expect([hasLibrary('libc.so.6'), hasLibrary('libdoes-not-exist.so.1')]).toEqual([true, false]);
  });
});

describe('prospects', () => {
  const noUdmabuf = new UdmabufError('driver-forbidden', 'no');

  test('gives udmabuf if dma-bufs can be made, else shadow with the reason', () => {
    expect(prospects(null, [card(ABLE)], COMPOSITOR).map(({ output, rung }) => [output, rung])).toEqual([
      ['headless', 'udmabuf'],
      ['vmm', 'direct'],
      ['vmm:dmabuf', 'udmabuf'],
      ['export', 'udmabuf'],
      ['vnc', 'udmabuf'],
      ['wayland', 'udmabuf'],
      ['kms:card0', 'udmabuf'],
    ]);
    expect(prospects(null, [], { ...COMPOSITOR, ok: false, detail: 'connection refused' }).at(-1)).toEqual({
      output: 'wayland',
      rung: 'none',
      why: 'connection refused',
    });
    const without = prospects(noUdmabuf, [card(ABLE)], COMPOSITOR);
    for (const at of [0, 2, 3, 4, 5, 6])
      expect(without[at]).toMatchObject({ rung: 'shadow', why: expect.stringContaining('driver-forbidden') as string });
  });

  test.each([
    ['imports nothing', { ...ABLE, importsDmabufs: false }, 'shadow', /imports no dma-bufs/],
    ['has no atomic modesetting', { ...ABLE, isAtomic: false }, 'none', /atomic/],
    ['is in use', { ...ABLE, isFree: false }, 'udmabuf', /contiguous/],
  ] as const)('gives the rung for a card that %s', (_, abilities, rung, why) => {
    expect(prospects(null, [card(abilities)], COMPOSITOR).at(-1)).toMatchObject({
      rung,
      why: expect.stringMatching(why) as string,
    });
  });
});

describe('checkClipboard', () => {
  test.each([
    ['there is no compositor', null, undefined, 'no Wayland compositor'],
    ['the compositor has no clipboard', false, undefined, 'wl_data_device_manager'],
    ['the running bridge does not share it', true, null, '--clipboard vdagent:SOCKET'],
    ['the VM has not connected', true, { connected: false, agent: false }, 'qemu-args --clipboard'],
    ['QEMU does not share its own', true, { connected: false, agent: null }, '-chardev qemu-vdagent'],
    ['no agent answers in the guest', true, { connected: true, agent: false }, 'install spice-vdagent in the guest'],
  ])('says what is missing if %s', (_, isOnDesktop, channel, missing) => {
    const { ok, detail, todo } = checkClipboard({ isOnDesktop, channel });
    expect([ok, `${detail}; ${todo}`.includes(missing)]).toEqual([false, true]);
  });

  test.each([
    ['it may be shared', undefined],
    ['it is shared', { connected: true, agent: true }],
    ['it is shared by QEMU', { connected: true, agent: null }],
  ])('has nothing to do if %s', (_, channel) => {
    expect(checkClipboard({ isOnDesktop: true, channel })).toMatchObject({ ok: true });
    expect(checkClipboard({ isOnDesktop: true, channel })).not.toHaveProperty('todo');
  });
});

describe('readClipboardParts', () => {
  test.each([
    [3, true],
    [0, false],
  ])(
    'asks the compositor for wl_data_device_manager (version %d), and the bridge for its channel',
    async (version, has) => {
      using host = new FakeHost({ globals: { wl_data_device_manager: version } });
      host.server.listen(join(sysfs, 'wayland'));
      const handlers = { stats: () => ({ clipboard: { connected: true, agent: false } }) };
      using bridge = ControlServer.open(join(sysfs, 'control'), handlers as unknown as ControlHandlers);
      const compositor = { ...COMPOSITOR, detail: join(sysfs, 'wayland') };
      const channel = { connected: true, agent: false };
      expect(await readClipboardParts(compositor, bridge.path)).toEqual({ isOnDesktop: has, channel });
    },
  );

  test('takes a compositor that is gone for none, and says so if no bridge runs', async () => {
    const compositor = { ...COMPOSITOR, detail: join(sysfs, 'wayland') };
    expect(await readClipboardParts(compositor, join(sysfs, 'control'))).toEqual({ isOnDesktop: false });
    expect(await readClipboardParts({ ...compositor, ok: false }, join(sysfs, 'control'))).toEqual({
      isOnDesktop: null,
    });
  });
});
