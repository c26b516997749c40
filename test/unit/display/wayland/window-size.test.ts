import { describe, expect, test, vi } from 'vitest';
import { exactScale, fit, pictureFor, windowFor, within } from '../../../../display/wayland/window-size.ts';
import { MutableRect } from '../../../../src/core/geometry.ts';
import { XdgToplevelState } from '../../../../display/wayland/client/index.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import type { FakeHostOptions } from './fake-host.ts';
import type { FakeObject } from './fake-server.ts';
import { guest, HEIGHT, host, log, open, picture, settle, useWindows, WIDTH, showPicture } from './window-rig.ts';

async function show(width = WIDTH, height = HEIGHT): Promise<void> {
  await showPicture(picture(width, height).framebuffer);
}

const geometry = (): unknown => host.last('xdg_surface.set_window_geometry');

function destination(): unknown {
  const viewport = host.server.requests.findLast(
    ({ name, args }) => name === 'wp_viewporter.get_viewport' && args.surface === host.picture,
  )!.args.id;
  return host.server.requests.findLast(
    ({ name, object }) => name === 'wp_viewport.set_destination' && object === viewport,
  )?.args;
}

describe('window sizes', () => {
  test.each([
    [1, 1, [1280, 800], [1280, 800]],
    [2, 1, [1280, 800], [640, 400]],
    [1.5, 1, [1280, 800], [853, 533]],
    [1, 2, [640, 400], [1280, 800]],
  ])(
    'windowFor: at scale %d and zoom %d, picture %j needs a window of %j',
    (hostScale, zoom, [width, height], [w, h]) => {
      expect(windowFor({ width: width!, height: height! }, { hostScale, zoom, screen: null })).toEqual({
        width: w,
        height: h,
      });
    },
  );

  /**
   * Of a full-screen window: the pixels of its monitor, the compositor's logical size of it, and what the compositor
   * says in 120ths. KWin rounds the logical size, wlroots cuts it, and GNOME takes the nearest scale at which it is whole.
   */
  test.each([
    ['KWin, 125 %', [2560, 1440], [2048, 1152], 150],
    ['KWin, 150 %', [2560, 1440], [1707, 960], 180],
    ['KWin, 175 %', [2560, 1440], [1463, 823], 210],
    ['KWin, 125 %', [1366, 768], [1093, 614], 150],
    ['KWin, 150 %', [1366, 768], [911, 512], 180],
    ['KWin, 175 %', [1920, 1080], [1097, 617], 210],
    ['KWin, 150 %, on its side', [1440, 2560], [960, 1707], 180],
    ['GNOME, 125 %', [2560, 1440], [2048, 1152], 150],
    ['GNOME, 150 %', [2560, 1440], [1712, 963], 179],
    ['GNOME, 175 %', [2560, 1440], [1456, 819], 211],
    ['GNOME, 150 %', [1920, 1080], [1280, 720], 180],
    ['GNOME, 175 %', [1920, 1080], [1104, 621], 209],
    ['GNOME, 175 %', [3840, 2160], [2192, 1233], 210],
    ['sway, 150 %', [2560, 1440], [1706, 960], 180],
    ['sway, 175 %', [2560, 1440], [1462, 822], 210],
  ])('pictureFor: in full screen on %s, a monitor of %j has its own mode', (_, [width, height], [w, h], units) => {
    const screen = { pixels: { width: width!, height: height! }, logical: { width: w!, height: h! } };
    const hostScale = exactScale(units / 120, false, screen);
    const scaling = { hostScale, zoom: 1, screen };
    expect(pictureFor(screen.logical, scaling)).toEqual(screen.pixels);
    expect(windowFor(screen.pixels, scaling)).toEqual(screen.logical);
    const placement = new MutableRect();
    fit(screen.pixels, screen.logical, placement);
    expect(placement).toEqual({ x: 0, y: 0, width: w, height: h });
  });

  test.each([
    ['KWin, 150 %, under a panel of 44', [1707, 916], [2560, 1374], [2560, 1440], [1707, 960], 180],
    ['GNOME, 150 %, under a bar of 32', [1712, 931], [2560, 1392], [2560, 1440], [1712, 963], 179],
    ['GNOME, 175 %, under a bar of 32', [1456, 787], [2560, 1384], [2560, 1440], [1456, 819], 211],
    ['KWin, 125 %, under a panel of 44', [2048, 1108], [2560, 1385], [2560, 1440], [2048, 1152], 150],
  ])(
    'pictureFor: maximised on %s, a window of %j has %j pixels',
    (_, [width, height], [pictureWidth, pictureHeight], [pixelWidth, pixelHeight], [w, h], units) => {
      const screen = { pixels: { width: pixelWidth!, height: pixelHeight! }, logical: { width: w!, height: h! } };
      const scaling = { hostScale: exactScale(units / 120, false, screen), zoom: 1, screen };
      expect(pictureFor({ width: width!, height: height! }, scaling)).toEqual({
        width: pictureWidth,
        height: pictureHeight,
      });
    },
  );

  test('exactScale: on a compositor that only says the next whole scale, is the ratio of the sizes', () => {
    const screen = { pixels: { width: 2560, height: 1440 }, logical: { width: 1712, height: 963 } };
    expect(exactScale(2, true, screen)).toBe(2560 / 1712);
    expect(exactScale(2, true, { ...screen, logical: { width: 1706, height: 960 } })).toBe(1.5);
  });

  test('exactScale: is what the compositor says if the window is on another monitor, or none is known', () => {
    const screen = { pixels: { width: 2560, height: 1440 }, logical: { width: 2560, height: 1440 } };
    expect(exactScale(1.5, false, screen)).toBe(1.5);
    expect(exactScale(2, true, screen)).toBe(2);
    expect(exactScale(1.5, false, null)).toBe(1.5);
  });

  test('windowFor undoes pictureFor at every scale', () => {
    for (const hostScale of [1, 1.25, 1.5, 1.75, 2, 3]) {
      for (let width = 64; width < 2000; width += 7) {
        const window = { width, height: width };
        expect(
          windowFor(pictureFor(window, { hostScale, zoom: 1, screen: null }), { hostScale, zoom: 1, screen: null }),
        ).toEqual(window);
      }
    }
  });

  test.each([
    [
      [640, 480],
      [1280, 800],
      [106, 0, 1067, 800],
    ],
    [
      [640, 480],
      [640, 480],
      [0, 0, 640, 480],
    ],
    [
      [1280, 800],
      [853, 533],
      [0, 0, 853, 533],
    ],
    [
      [100, 1000],
      [100, 100],
      [45, 0, 10, 100],
    ],
  ])('fit: picture %j in window %j lies at %j', ([width, height], [w, h], [x, y, placedWidth, placedHeight]) => {
    const placement = new MutableRect();
    fit({ width: width!, height: height! }, { width: w!, height: h! }, placement);
    expect(placement).toEqual({ x, y, width: placedWidth, height: placedHeight });
  });

  test('within: a size beyond the bounds shrinks and keeps its aspect ratio', () => {
    expect(within({ width: 4000, height: 2000 }, { width: 1000, height: 0 })).toEqual({ width: 1000, height: 500 });
    expect(within({ width: 400, height: 200 }, { width: 1000, height: 1000 })).toEqual({ width: 400, height: 200 });
  });
});

/** A compositor with fractional scales, whose monitor of 2560x1440 has this logical size. */
function scaled(width: number, height: number): FakeHostOptions {
  return {
    globals: { wp_fractional_scale_manager_v1: 1, zxdg_output_manager_v1: 3 },
    mode: [2560, 1440],
    prepare: (server) =>
      server.on('zxdg_output_manager_v1.get_xdg_output', ({ args }) => {
        (args.id as FakeObject).send('logical_size', width, height);
        (args.output as FakeObject).send('done');
      }),
  };
}

describe('WaylandOutput: the size of the window', () => {
  expectNoLeaks();
  useWindows();

  test('in full screen at 150 % on GNOME is the monitor’s mode to the guest, and its logical size to the compositor', async () => {
    await open(scaled(1712, 963));
    await show();
    host.fractionalScale(179);
    const told = guest.nextMonitor();
    host.configure(1712, 963, [XdgToplevelState.fullscreen]);
    expect(await told).toMatchObject({ width: 2560, height: 1440 });
    await show(2560, 1440);
    expect([geometry(), destination()]).toEqual([
      { x: 0, y: 0, width: 1712, height: 963 },
      { width: 1712, height: 963 },
    ]);
  });

  test('that the bounds of the compositor cut is told to the guest, which then shows as many pixels', async () => {
    const told: unknown[] = [];
    await open({ bounds: [640, 640] });
    expect(geometry()).toMatchObject({ width: 640, height: 400 });
    expect(guest.monitors[0]).toMatchObject({ width: 640, height: 400 });
    await show(640, 400);
    expect([geometry(), destination()]).toMatchObject([
      { width: 640, height: 400 },
      { width: 640, height: 400 },
    ]);
    told.push(guest.monitors[0]);
    await show(2000, 1000);
    expect(geometry()).toMatchObject({ width: 640, height: 320 });
    expect(guest.monitors[0]).toMatchObject({ width: 640, height: 320 });
  });

  test.each([
    ['leaves it to the window', 0, 0],
    ['gives the smallest size there is', 64, 64],
    ['gives the size of the screen', 1920, 1080],
  ])('after a full-screen start is its own, where the compositor %s', async (_, width, height) => {
    await open({ size: [1920, 1080], states: [XdgToplevelState.fullscreen] }, { fullscreen: true });
    await show(1920, 1080);
    const told = guest.nextMonitor();
    host.configure(width, height);
    host.configure(width, height, [XdgToplevelState.activated]);
    await settle();
    expect(geometry()).toMatchObject({ width: 1280, height: 800 });
    expect(await told).toMatchObject({ width: 1280, height: 800 });
    host.configure(700, 500, [XdgToplevelState.resizing]);
    await settle();
    expect(geometry()).toMatchObject({ width: 700, height: 500 });
  });

  test('after a full-screen start on a small screen leaves a quarter of it free', async () => {
    await open({ size: [1000, 500], states: [XdgToplevelState.fullscreen] }, { fullscreen: true });
    await show(1000, 500);
    host.configure(0, 0);
    await settle();
    const { width, height } = geometry() as { width: number; height: number };
    expect([width, height]).toEqual([600, 375]);
  });

  test('follows a full-screen window to another monitor', async () => {
    await open({ size: [1920, 1080], states: [XdgToplevelState.fullscreen] }, { fullscreen: true });
    await show(1920, 1080);
    const told = guest.nextMonitor();
    host.configure(1280, 1024, [XdgToplevelState.fullscreen]);
    expect(await told).toMatchObject({ width: 1280, height: 1024 });
  });

  test('while it is dragged is filled by the picture, until the guest has answered', async () => {
    await open();
    await show(64, 48);
    const told = guest.nextMonitor();
    host.configure(300, 100, [XdgToplevelState.resizing]);
    await settle();
    expect(destination()).toEqual({ width: 300, height: 100 });
    host.configure(310, 100);
    await told;
    expect(destination()).toEqual({ width: 310, height: 100 });
    await show(310, 100);
    await show(100, 100);
    expect(geometry()).toMatchObject({ width: 100, height: 100 });
    host.configure(300, 100, [XdgToplevelState.maximized]);
    await settle();
    expect(destination()).toEqual({ width: 100, height: 100 });
  });

  test('after a drag that the guest does not answer leaves the picture its shape', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
    await open();
    await show(64, 48);
    host.configure(300, 96, [XdgToplevelState.resizing]);
    await settle();
    host.configure(300, 96);
    await settle();
    await vi.advanceTimersByTimeAsync(200);
    await settle();
    expect(destination()).toEqual({ width: 300, height: 96 });
    await vi.advanceTimersByTimeAsync(1000);
    await settle();
    expect(destination()).toEqual({ width: 128, height: 96 });
  });

  test('stays as the user made it when the guest answers with that many pixels, however scales round', async () => {
    await open(scaled(1707, 960));
    await show();
    host.fractionalScale(180);
    const told = guest.nextMonitor();
    host.configure(1707, 500);
    expect(await told).toMatchObject({ width: 2560, height: 750 });
    await show(2560, 750);
    expect(geometry()).toMatchObject({ width: 1707, height: 500 });
  });

  test('is not given back a size that the compositor says before it has seen the new one, and later is', async () => {
    const said: unknown[] = [];
    await open({
      prepare: (server) =>
        server.on('xdg_surface.set_window_geometry', ({ args }) => {
          if (args.width !== 2 * WIDTH) return;
          host.configure(WIDTH, HEIGHT, [XdgToplevelState.activated]);
          said.push(args.width);
        }),
    });
    await show();
    await show(2 * WIDTH, 2 * HEIGHT);
    await settle();
    expect(said.length).toBeGreaterThan(0);
    expect(geometry()).toMatchObject({ width: 2 * WIDTH, height: 2 * HEIGHT });
    host.configure(WIDTH, HEIGHT, [XdgToplevelState.activated]);
    await settle();
    expect(geometry()).toMatchObject({ width: WIDTH, height: HEIGHT });
  });

  test('is half the picture’s at host scale 2', async () => {
    await open({ scale: 2 });
    await show();
    expect([geometry(), destination()]).toEqual([
      { x: 0, y: 0, width: WIDTH / 2, height: HEIGHT / 2 },
      { width: WIDTH / 2, height: HEIGHT / 2 },
    ]);
    expect(guest.monitors[0]).toMatchObject({ width: 1280, height: 800 });
  });

  test('follows the host scale by set_buffer_scale on a compositor without viewports', async () => {
    await open({ scale: 2, globals: { wp_viewporter: 0 } });
    await show();
    expect(host.last('wl_surface.set_buffer_scale')).toEqual({ scale: 2 });
    expect(geometry()).toMatchObject({ width: WIDTH / 2, height: HEIGHT / 2 });
  });

  test('follows a fractional host scale', async () => {
    await open({ globals: { wp_fractional_scale_manager_v1: 1 } });
    await show(96, 48);
    host.fractionalScale(180);
    await settle();
    expect(geometry()).toMatchObject({ width: 64, height: 32 });
  });

  test('forgets the scale of a monitor that is gone', async () => {
    await open({ scale: 2 });
    await show();
    host.server.addGlobal('wl_output', 4);
    await settle();
    const first = host.bound('wl_output');
    for (const surface of host.server.client.objects.values())
      if (surface.interface.name === 'wl_surface') surface.send('enter', first);
    host.server.removeGlobal(4);
    await settle();
    expect(geometry()).toMatchObject({ width: WIDTH / 2, height: HEIGHT / 2 });
  });

  test.each([
    ['scales', { globals: { wp_fractional_scale_manager_v1: 1 } }],
    ['scales on a compositor without viewports', { globals: { wp_viewporter: 0 } }],
  ])('stays possible whatever the compositor %s', async (_, options) => {
    await open(options);
    await show();
    const extremes = [0, 1, -1, 2 ** 31 - 1, -(2 ** 31)];
    for (const scale of extremes) {
      host.bound('wl_output').send('scale', scale);
      host.bound('wl_output').send('done');
      host.server.client.objects.forEach((object) => {
        if (object.interface.name === 'wp_fractional_scale_v1') object.send('preferred_scale', scale >>> 0);
      });
      await show();
      const { width, height } = geometry() as { width: number; height: number };
      expect(Math.min(width, height)).toBeGreaterThan(0);
      expect(Math.max(width, height)).toBeLessThanOrEqual(65_535);
    }
  });

  test('of 2^31 - 1 is cut to what can be shown, and the guest is told so', async () => {
    await open();
    await show();
    const told = guest.nextMonitor();
    host.configure(2 ** 31 - 1, 2 ** 31 - 1);
    expect(await told).toMatchObject({ width: 65_535, height: 65_535 });
    expect(geometry()).toMatchObject({ width: 65_535, height: 65_535 });
  });

  test('of 2^31 - 1 on a compositor without viewports, which no buffer can have, ends the connection', async () => {
    await open({ globals: { wp_viewporter: 0 } });
    await show();
    const back = host.server.next('xdg_surface.get_toplevel');
    host.configure(2 ** 31 - 1, 2 ** 31 - 1);
    await back;
    expect(log).toContainEqual(
      expect.stringMatching(/^lost the compositor, .*cannot keep the windows open: .*wl_shm_pool/),
    );
  });

  test('is twice the picture’s at zoom 2', async () => {
    await open({}, { zoom: 2 });
    await show();
    expect(geometry()).toMatchObject({ width: 2 * WIDTH, height: 2 * HEIGHT });
    expect(guest.monitors[0]).toMatchObject({ width: 1280, height: 800 });
  });

  test('is the compositor’s when maximised: the picture is letterboxed and the guest is told', async () => {
    await open();
    await show(64, 48);
    const told = guest.nextMonitor();
    host.configure(1000, 500, [XdgToplevelState.maximized]);
    await settle();
    expect([geometry(), destination(), host.last('wl_subsurface.set_position')]).toEqual([
      { x: 0, y: 0, width: 1000, height: 500 },
      { width: 667, height: 500 },
      { x: 166, y: 0 },
    ]);
    expect(await told).toMatchObject({ width: 1000, height: 500 });

    await show(1000, 500);
    expect(destination()).toEqual({ width: 1000, height: 500 });
    host.configure(0, 0);
    await settle();
    expect(geometry()).toMatchObject({ width: 64, height: 48 });
  });

  test('in a drag of 500 sizes is acknowledged once a packet, told to the guest once, and takes no memory', async () => {
    await open();
    await show();
    const told: unknown[] = [];
    const acks = host.count('xdg_surface.ack_configure');
    const last = guest.nextMonitor();
    for (let i = 1; i <= 500; i++) host.configure(100 + i, 100 + i, [XdgToplevelState.resizing]);
    await settle();
    host.configure(600, 600);
    told.push(await last);
    await settle();
    expect(told).toEqual([expect.objectContaining({ width: 600, height: 600 })]);
    expect(host.count('xdg_surface.ack_configure') - acks).toBeLessThan(50);
    expect(host.count('wl_shm.create_pool')).toBe(2);
  });

  test('changed by 500 pictures leaves one pool behind', async () => {
    await open();
    for (let i = 0; i < 500; i++) await show(16 + i, 16);
    await settle();
    expect(host.count('wl_shm.create_pool') - host.count('wl_shm_pool.destroy')).toBeLessThanOrEqual(3);
  });
});
