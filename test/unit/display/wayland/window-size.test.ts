import { describe, expect, test } from 'vitest';
import { fit, pictureFor, windowFor, within } from '../../../../display/wayland/window.ts';
import { MutableRect } from '../../../../src/core/geometry.ts';
import { XdgToplevelState } from '../../../../display/wayland/client/index.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import { guest, HEIGHT, host, nextPicture, open, picture, settle, useWindows, WIDTH } from './window-rig.ts';

async function show(width = WIDTH, height = HEIGHT): Promise<void> {
  guest.show(picture(width, height).framebuffer);
  const commit = nextPicture();
  const done = guest.flush(0, 0, width, height);
  await commit;
  host.repaint();
  await done;
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
      expect(windowFor({ width: width!, height: height! }, { hostScale, zoom })).toEqual({ width: w, height: h });
    },
  );

  test('windowFor undoes pictureFor at every scale', () => {
    for (const hostScale of [1, 1.25, 1.5, 1.75, 2, 3]) {
      for (let width = 64; width < 2000; width += 7) {
        const window = { width, height: width };
        expect(windowFor(pictureFor(window, { hostScale, zoom: 1 }), { hostScale, zoom: 1 })).toEqual(window);
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

describe('WaylandOutput: the size of the window', () => {
  expectNoLeaks();
  useWindows();

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
