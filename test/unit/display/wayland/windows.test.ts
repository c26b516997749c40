import { describe, expect, test, vi } from 'vitest';
import { WlCompositor, XdgToplevelState } from '../../../../display/wayland/client/index.ts';
import { WaylandWindows } from '../../../../display/wayland/windows.ts';
import { KEY } from '../../../../protocols/input-event-codes.ts';
import { ClipboardError, MAX_CLIPBOARD_BYTES } from '../../../../src/core/clipboard.ts';
import { EMPTY_RECT } from '../../../../src/core/geometry.ts';
import { SysError } from '../../../../src/sys/errors.ts';
import { openPipe, readPipe } from '../../../../src/sys/pipe.ts';
import { eventually } from '../../../rig/eventually.ts';
import { openFds } from '../../../rig/process-resources.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import type { FakeObject } from './fake-server.ts';
import { SinkLog } from './sink-log.ts';
import {
  bridge,
  directory,
  guest,
  HEIGHT,
  host,
  listen,
  log,
  nextPicture,
  open,
  picture,
  settle,
  useWindows,
  WIDTH,
  windows,
  showPicture,
} from './window-rig.ts';

expectNoLeaks();
useWindows();

async function show(shown = picture(), scanout = 0): Promise<void> {
  await showPicture(shown.framebuffer, scanout);
}

const firstPixel = (): number => host.pixels(host.committed.get(host.picture)!.buffer!)[0]!;

/** The compositor exits, and another one listens in its place. */
async function restart(): Promise<void> {
  host[Symbol.dispose]();
  listen();
  await host.server.next('xdg_surface.get_toplevel');
}

describe('WaylandWindows: when the compositor exits', () => {
  test('the guest keeps running, and the next compositor shows what it draws', async () => {
    await open();
    const shown = picture();
    shown.fill(0, 0, WIDTH, HEIGHT, 0x00100000);
    await show(shown);
    host[Symbol.dispose]();
    for (let i = 0; i < 3; i++) await guest.flush(0, 0, WIDTH, HEIGHT);
    shown.fill(0, 0, WIDTH, HEIGHT, 0x00200000);
    await guest.flush(0, 0, WIDTH, HEIGHT);

    listen();
    await host.server.next('xdg_surface.get_toplevel');
    await nextPicture();
    expect(firstPixel()).toBe(0x00200000);
    host.repaint();
    await settle();
    shown.fill(0, 0, WIDTH, HEIGHT, 0x00300000);
    const commit = nextPicture();
    void guest.flush(0, 0, WIDTH, HEIGHT);
    await commit;
    expect(firstPixel()).toBe(0x00300000);
    expect(guest.monitors[0]).toMatchObject({ width: 1280 });
    expect(log).toEqual(
      expect.arrayContaining([
        expect.stringMatching(/^lost the compositor, the guest keeps running/),
        'connected to a compositor again',
      ]),
    );
  });

  test('the next compositor shows the last picture of a guest that has gone as well', async () => {
    await open({}, { keepLast: true });
    const shown = picture();
    shown.fill(0, 0, WIDTH, HEIGHT, 0x00405060);
    await show(shown);
    guest.sink.scanout(0, null, EMPTY_RECT);
    guest.sink.destroyed(shown.framebuffer);
    await nextPicture();
    host.repaint();
    await restart();
    await nextPicture();
    expect(firstPixel()).toBe(0x00405060);
  });

  test('over a protocol error, the windows open again and the error is logged', async () => {
    await open();
    await show();
    host.server.client.refuse(host.toplevel, 4, 'told to');
    await host.server.next('xdg_surface.get_toplevel');
    await nextPicture();
    expect(log).toContainEqual(expect.stringContaining('xdg_toplevel'));
  });

  test('and windows cannot be opened on the next one, that connection is ended and made again', async () => {
    await open();
    await show();
    const createSurface = vi.spyOn(WlCompositor.prototype, 'createSurface').mockImplementationOnce(() => {
      throw new SysError('fcntl(F_DUPFD_CLOEXEC)', 'EMFILE');
    });
    const connections = host.server.clients.length;
    host.server.client[Symbol.dispose]();
    await host.server.next('xdg_surface.get_toplevel');
    await nextPicture();
    expect(createSurface.mock.results[0]!.type).toBe('throw');
    expect(host.server.clients.length - connections).toBe(2);
    createSurface.mockRestore();
    expect(log).toContainEqual(expect.stringContaining('EMFILE'));
  });

  test('and the next one refuses the connection together with its last answer, it is made again', async () => {
    await open();
    await show();
    let syncs = 0;
    host.server.on('wl_display.sync', ({ client }) => {
      if (++syncs === 2) client.refuse(client.display, 1, 'told to');
    });
    const connections = host.server.clients.length;
    host.server.client[Symbol.dispose]();
    await host.server.next('xdg_surface.get_toplevel');
    await nextPicture();
    expect(host.server.clients.length - connections).toBe(2);
  });

  test('repeatedly, no descriptors are left behind', async () => {
    await open();
    await show();
    const before = openFds().size;
    for (let i = 0; i < 3; i++) {
      host.server.client[Symbol.dispose]();
      await host.server.next('xdg_surface.get_toplevel');
      await nextPicture();
      host.repaint();
      await settle();
    }
    // The fake compositor keeps what it was sent: each time the files of the backdrop and of the picture.
    expect(openFds().size - before).toBeLessThanOrEqual(3 * 2);
  });
});

describe('WaylandWindows: the next compositor’s window', () => {
  const { fullscreen, maximized } = XdgToplevelState;

  test('is full screen again if the window was, whether it started so or not', async () => {
    await open();
    host.configure(1920, 1080, [fullscreen]);
    await settle();
    await restart();
    expect(host.count('xdg_toplevel.set_fullscreen')).toBe(1);
  });

  test('is not full screen if the user had left that', async () => {
    await open({ size: [1920, 1080], states: [fullscreen] }, { fullscreen: true });
    expect(host.count('xdg_toplevel.set_fullscreen')).toBe(1);
    host.configure(0, 0);
    await settle();
    await restart();
    expect(host.count('xdg_toplevel.set_fullscreen')).toBe(0);
    await settle();
    expect(host.last('xdg_surface.set_window_geometry')).toMatchObject({ width: 1280, height: 800 });
  });

  test('is maximised again, and has its size after that', async () => {
    await open();
    host.configure(700, 500);
    await settle();
    host.configure(1900, 1000, [maximized]);
    await settle();
    await restart();
    expect(host.count('xdg_toplevel.set_maximized')).toBe(1);
    await settle();
    expect(host.last('xdg_surface.set_window_geometry')).toMatchObject({ width: 700, height: 500 });
  });
});

const seat = {
  globals: { wl_seat: 9, wl_data_device_manager: 3 },
  onBind: (object: FakeObject): void => {
    if (object.interface.name === 'wl_seat') object.send('capabilities', 2);
  },
};

/** Ctrl+Alt and this key, in the newest window. */
async function press(key: number): Promise<void> {
  const keyboard = host.bound('wl_keyboard');
  const surface = host.last('wl_subcompositor.get_subsurface')!.parent as FakeObject;
  keyboard.send('enter', 1, surface, new Uint8Array(new Uint32Array([KEY.LEFTCTRL, KEY.LEFTALT]).buffer));
  keyboard.send('key', 2, 0, key, 1);
  await settle();
}

describe('WaylandWindows: Ctrl+Alt+C', () => {
  const PNG = Uint8Array.of(1, 2, 3);

  test("puts the window's picture on the clipboard, and says so", async () => {
    const asked: number[] = [];
    await open(seat, {
      scanouts: 2,
      pngOf: (scanout) => {
        asked.push(scanout);
        return Promise.resolve(PNG);
      },
    });
    await press(KEY.C);
    await eventually(() => expect(log).toContain('the picture of scanout 0 is on the clipboard, as a PNG'));
    await settle();
    expect(asked).toEqual([0]);
    expect(host.last('wl_data_device.set_selection')).toMatchObject({ serial: 2 });
    const { reading, writing } = openPipe();
    (host.last('wl_data_device.set_selection')!.source as FakeObject).send('send', 'image/png', writing);
    writing[Symbol.dispose]();
    const options = { timeoutMs: 60_000, signal: new AbortController().signal };
    expect(await readPipe(reading, 100, options)).toEqual(Buffer.from(PNG));
    reading[Symbol.dispose]();
    expect(windows.clipboard).toBeNull();
  });

  test.each<[string, () => Promise<Uint8Array>, string]>([
    ['there is no picture', () => Promise.reject(new ClipboardError('refused', 'it is off')), 'it is off'],
    ['it is too large', () => Promise.resolve(new Uint8Array(MAX_CLIPBOARD_BYTES + 1)), 'scanout screenshot'],
  ])('says why nothing is copied if %s', async (_, pngOf, why) => {
    await open(seat, { pngOf });
    await press(KEY.C);
    await eventually(() => expect(log.join()).toMatch(`the picture of scanout 0 is not copied`));
    expect([log.join().includes(why), host.count('wl_data_device.set_selection')]).toEqual([true, 0]);
  });

  test('says that nothing is copied if the keyboard leaves the window before', async () => {
    let give!: (png: Uint8Array) => void;
    await open(seat, { pngOf: () => new Promise((resolve) => (give = resolve)) });
    await press(KEY.C);
    host.bound('wl_keyboard').send('leave', 3, host.last('wl_subcompositor.get_subsurface')!.parent as FakeObject);
    await settle();
    give(PNG);
    await eventually(() =>
      expect(log).toContain('the picture of scanout 0 is not copied: the keyboard has left the window'),
    );
    expect(host.count('wl_data_device.set_selection')).toBe(0);
  });

  test.each([
    ['without a clipboard', { globals: { wl_seat: 9 } }, { pngOf: () => Promise.resolve(PNG) }],
    ['for a program that gives no picture', {}, {}],
  ])('is for the guest on a compositor %s', async (_, hostOptions, options) => {
    const input = Object.assign(new SinkLog(), { scanoutSized: () => undefined });
    await open({ ...seat, ...hostOptions }, { ...options, input });
    await press(KEY.C);
    expect(input.lines).toContain(`key ${KEY.C} down`);
  });
});

describe('WaylandWindows: the full-screen shortcut', () => {
  test('makes a window full screen and a window again, also without input devices', async () => {
    await open(seat);
    await press(KEY.F);
    expect(host.count('xdg_toplevel.set_fullscreen')).toBe(1);
    host.configure(1920, 1080, [XdgToplevelState.fullscreen]);
    await settle();
    await press(KEY.F);
    expect(host.count('xdg_toplevel.unset_fullscreen')).toBe(1);
  });

  test('does nothing on a compositor whose capabilities lack full screen', async () => {
    await open(seat);
    host.toplevel.send('wm_capabilities', new Uint8Array(new Uint32Array([1, 2]).buffer));
    host.configure(0, 0);
    await settle();
    await press(KEY.F);
    expect(host.count('xdg_toplevel.set_fullscreen')).toBe(0);
  });
});

describe('WaylandWindows: on a desktop with', () => {
  test('xdg-activation, the first window of all gets the token, once', async () => {
    const globals = { xdg_activation_v1: 1 };
    await open({ globals }, { activationToken: 'started-by-the-menu', scanouts: 2 });
    await settle();
    await show(picture(), 1);
    expect(host.count('xdg_activation_v1.activate')).toBe(1);
    expect(host.last('xdg_activation_v1.activate')).toMatchObject({ token: 'started-by-the-menu' });
    host[Symbol.dispose]();
    listen({ globals });
    await host.server.next('xdg_surface.get_toplevel');
    await settle();
    expect(host.count('xdg_activation_v1.activate')).toBe(0);
  });

  test('xdg-toplevel-icon, the windows have the icon of the desktop file', async () => {
    await open({ globals: { xdg_toplevel_icon_manager_v1: 1 } });
    expect(host.last('xdg_toplevel_icon_v1.set_name')).toEqual({ icon_name: 'scanout-bridge' });
    expect(host.last('xdg_toplevel_icon_manager_v1.set_icon')).toMatchObject({ toplevel: host.toplevel });
  });

  test.each([
    [true, 1],
    [false, 0],
  ])('idle-inhibit, a full-screen window keeps its monitor on if asked to: %s', async (inhibitIdle, inhibitors) => {
    await open({ globals: { zwp_idle_inhibit_manager_v1: 1 } }, { inhibitIdle });
    expect(host.count('zwp_idle_inhibit_manager_v1.create_inhibitor')).toBe(0);
    for (let i = 0; i < 2; i++) {
      host.configure(1920, 1080, [XdgToplevelState.fullscreen]);
      await settle();
    }
    expect(host.count('zwp_idle_inhibit_manager_v1.create_inhibitor')).toBe(inhibitors);
    host.configure(0, 0);
    await settle();
    expect(host.count('zwp_idle_inhibitor_v1.destroy')).toBe(inhibitors);
  });
});

describe('WaylandWindows: a text while the guest shows nothing', () => {
  const surfaces = (): number => host.count('wl_subcompositor.get_subsurface');

  test('is in the middle of the window until there is a picture, and again after', async () => {
    await open({ size: [500, 300] }, { offText: 'no guest yet' });
    await settle();
    expect([surfaces(), host.last('wl_subsurface.set_position')]).toEqual([2, { x: 0, y: 138 }]);
    const [text] = host.server.requests.filter(
      ({ name, args }) => name === 'wl_shm_pool.create_buffer' && args.height === 24,
    );
    expect(text!.args).toMatchObject({ width: 500 });
    const destroyed = host.count('wl_subsurface.destroy');
    await show();
    await settle();
    expect(host.count('wl_subsurface.destroy') - destroyed).toBe(1);
    guest.sink.scanout(0, null, EMPTY_RECT);
    await settle();
    expect(surfaces()).toBe(3);
  });

  test('is none by default', async () => {
    await open();
    await settle();
    expect(surfaces()).toBe(1);
  });
});

describe('WaylandWindows: a suspended window', () => {
  test('commits nothing, and the newest picture when it is visible again', async () => {
    await open();
    const shown = picture();
    await show(shown);
    // A frame whose callback the compositor owes.
    const commit = nextPicture();
    void guest.flush(0, 0, WIDTH, HEIGHT);
    await commit;
    host.configure(0, 0, [XdgToplevelState.suspended]);
    await settle();
    const commits = host.count('wl_surface.commit');
    for (const colour of [0x00000001, 0x00000002, 0x00000003]) {
      shown.fill(0, 0, WIDTH, HEIGHT, colour);
      await guest.flush(0, 0, WIDTH, HEIGHT);
    }
    await settle();
    expect(host.count('wl_surface.commit')).toBe(commits);
    const next = nextPicture();
    host.configure(0, 0);
    await next;
    expect(firstPixel()).toBe(0x00000003);
  });
});

describe('WaylandWindows', () => {
  test('open and close with their scanouts, and the first one stays open', async () => {
    await open({}, { scanouts: 2, keepLast: true });
    expect(host.toplevels.length).toBe(1);
    expect(guest.monitors).toEqual([
      expect.objectContaining({ width: 1280 }),
      expect.objectContaining({ width: 1280 }),
    ]);
    await show(picture(), 1);
    expect(host.toplevels.length).toBe(2);
    expect(host.last('xdg_toplevel.set_title')).toEqual({ title: 'scanout-bridge 2' });
    guest.sink.scanout(1, null, EMPTY_RECT);
    await host.server.next('xdg_toplevel.destroy');
    await show(picture(), 1);
    expect(host.toplevels.length).toBe(3);
  });

  test('closed by the user unplug the guest’s monitors, and closing the last calls onClosed', async () => {
    const onClosed = vi.fn();
    const warnings: string[] = [];
    await open({}, { scanouts: 2, onClosed, onLog: (level) => level !== 'info' && warnings.push(level) });
    await show(picture(), 1);
    const [first, second] = host.toplevels;
    const destroyed = host.server.next('xdg_toplevel.destroy');
    second!.send('close');
    await destroyed;
    expect([guest.monitors[0], guest.monitors[1], onClosed.mock.calls.length]).toEqual([expect.anything(), null, 0]);
    first!.send('close');
    await host.server.next('xdg_toplevel.destroy');
    expect([guest.monitors[0], onClosed.mock.calls.length]).toEqual([null, 1]);
    expect(warnings).toEqual([]);
    await guest.flush(0, 0, 1, 1);
    expect(bridge.stats[0]!.screens).toEqual([]);
  });

  test('refuse to open without a compositor, and on one without xdg_wm_base', async () => {
    await expect(WaylandWindows.open({ socket: `${directory}/no-socket` })).rejects.toMatchObject({ code: 'connect' });
    listen({ globals: { xdg_wm_base: 0 } });
    await expect(WaylandWindows.open({ socket: `${directory}/wayland` })).rejects.toMatchObject({
      code: 'missing',
      message: expect.stringContaining('xdg_wm_base') as string,
    });
  });
});
