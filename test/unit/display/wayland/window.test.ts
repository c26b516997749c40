import { describe, expect, test, vi } from 'vitest';
import { Damage } from '../../../../src/core/damage.ts';
import { PresentedFlags } from '../../../../src/core/output.ts';
import { DRM_FORMAT } from '../../../../protocols/drm-fourcc.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import {
  bridge,
  guest,
  HEIGHT,
  host,
  nextPicture,
  open,
  output,
  picture,
  settle,
  useWindows,
  WIDTH,
  showPicture,
} from './window-rig.ts';

expectNoLeaks();
useWindows();

/** Shows a picture; resolves when it is on screen. */
async function show(shown = picture(), scanout = 0): Promise<ReturnType<typeof picture>> {
  await showPicture(shown.framebuffer, scanout);
  return shown;
}

const shownPixels = (): Uint32Array => host.pixels(host.committed.get(host.picture)!.buffer!);

describe('WaylandOutput: a window', () => {
  test('shows the guest’s picture pixel for pixel, in the picture’s size', async () => {
    await open();
    const shown = picture();
    shown.fill(0, 0, WIDTH, HEIGHT, 0x00112233);
    shown.fill(5, 7, 1, 1, 0x00ff8000);
    await show(shown);
    const pixels = shownPixels();
    expect([pixels[0], pixels[7 * WIDTH + 5], pixels.length]).toEqual([0x00112233, 0x00ff8000, WIDTH * HEIGHT]);
    expect(host.last('xdg_surface.set_window_geometry')).toEqual({ x: 0, y: 0, width: WIDTH, height: HEIGHT });
    expect(host.last('wp_viewport.set_destination')).toEqual({ width: WIDTH, height: HEIGHT });
    expect(host.last('wl_shm_pool.create_buffer')).toMatchObject({ format: 1, stride: WIDTH * 4 });
  });

  test('begins every row where compositors can import it, whatever the width of the picture', async () => {
    await open();
    const shown = picture(50, 3);
    shown.fill(0, 0, 50, 3, 0x00112233);
    shown.fill(49, 2, 1, 1, 0x00ff8000);
    await show(shown);
    expect(host.last('wl_shm_pool.create_buffer')).toMatchObject({ width: 50, stride: 256 });
    const pixels = shownPixels();
    expect([pixels[0], pixels[98], pixels[149]]).toEqual([0x00112233, 0x00112233, 0x00ff8000]);
  });

  test('is black, with title and app id, before the guest shows anything', async () => {
    await open({}, { title: 'a guest' });
    await settle();
    const base = [...host.committed.keys()].find((surface) => surface !== host.picture);
    expect([...host.pixels(host.committed.get(base!)!.buffer!)]).toEqual([0]);
    expect([host.last('xdg_toplevel.set_title'), host.last('xdg_toplevel.set_app_id')]).toEqual([
      { title: 'a guest' },
      { app_id: 'scanout-bridge' },
    ]);
    expect(host.last('xdg_surface.set_window_geometry')).toMatchObject({ width: 1280, height: 800 });
    expect(guest.monitors[0]).toMatchObject({ width: 1280, height: 800, refreshMhz: 60_000 });
  });

  test('commits a redraw with its damage only, and creates nothing once three buffers are in use', async () => {
    await open();
    const shown = await show();
    for (let i = 0; i < 3; i++) {
      const commit = nextPicture();
      void guest.flush(0, 0, 8, 8);
      await commit;
      host.repaint();
      await settle();
    }
    const before = host.server.requests.length;
    shown.fill(10, 20, 3, 4, 0x00abcdef);
    const commit = nextPicture();
    void guest.flush(10, 20, 3, 4);
    await commit;
    expect(host.server.requests.slice(before).map(({ name }) => name)).toEqual([
      'wl_surface.attach',
      'wl_surface.damage_buffer',
      'wp_presentation.feedback',
      'wl_surface.commit',
    ]);
    expect(host.committed.get(host.picture)!.damage).toEqual([[10, 20, 3, 4]]);
    expect(shownPixels()[20 * WIDTH + 10]).toBe(0x00abcdef);
    expect(host.count('wl_shm.create_pool')).toBe(2);
  });

  test('ends a frame that the compositor discarded, and asks for a frame callback with the next', async () => {
    await open();
    const [a, b] = [await show(), await show()];
    guest.show(a.framebuffer);
    const commit = nextPicture();
    const done = guest.flush(0, 0, WIDTH, HEIGHT);
    await commit;
    const asked = host.count('wl_surface.frame');
    host.discard();
    await done;
    const next = nextPicture();
    guest.show(b.framebuffer);
    void guest.flush(0, 0, WIDTH, HEIGHT);
    await next;
    expect(host.count('wl_surface.frame')).toBe(asked + 1);
  });

  test('reports the time, refresh, sequence and flags of wp_presentation', async () => {
    await open();
    const reported: unknown[] = [];
    bridge.hide(output);
    output.attach({
      scanout: 0,
      input: null,
      presented: ({ timeMs, refreshMhz, sequence, flags }) => reported.push([timeMs, refreshMhz, sequence, flags]),
      released: vi.fn(),
      resized: vi.fn(),
      closed: vi.fn(),
      importsChanged: vi.fn(),
    });
    using shadow = output.createShadow(4, 4, DRM_FORMAT.XRGB8888);
    const commit = nextPicture();
    const rect = { x: 0, y: 0, width: 4, height: 4 };
    output.present({
      canvas: rect,
      primary: { handle: shadow, src: rect, dst: rect },
      cursor: { handle: null, src: rect, dst: rect },
      hotspotX: 0,
      hotspotY: 0,
      isCursorNew: false,
      damage: new Damage(),
      acquire: null,
      release: null,
    });
    await commit;
    host.repaint();
    await settle();
    expect(reported).toEqual([
      [5000, 60_000, 1, PresentedFlags.VSYNC | PresentedFlags.HW_CLOCK | PresentedFlags.HW_COMPLETION],
    ]);
  });

  test.each([
    ['on a compositor without wp_presentation', { wp_presentation: 0 }],
    [
      'on the first version of every global',
      { wl_compositor: 1, wl_output: 1, xdg_wm_base: 1, wp_viewporter: 0, wp_presentation: 0 },
    ],
  ])('shows frames %s', async (_, globals) => {
    await open({ globals });
    await show();
    const commit = nextPicture();
    const done = guest.flush(0, 0, 4, 4);
    await commit;
    host.repaint();
    await done;
    expect(host.last('xdg_surface.set_window_geometry')).toMatchObject({ width: WIDTH, height: HEIGHT });
  });

  test('requests server-side decorations, and full screen and tearing if they are wanted', async () => {
    await open(
      { globals: { zxdg_decoration_manager_v1: 1, wp_tearing_control_manager_v1: 1 } },
      { fullscreen: true, tearing: true },
    );
    expect([
      host.last('zxdg_toplevel_decoration_v1.set_mode'),
      host.last('wp_tearing_control_v1.set_presentation_hint'),
    ]).toEqual([{ mode: 2 }, { hint: 1 }]);
    expect(host.last('xdg_toplevel.set_fullscreen')).toEqual({ output: null });
  });

  test('answers xdg_wm_base.ping', async () => {
    await open();
    const pong = host.server.next('xdg_wm_base.pong');
    host.bound('xdg_wm_base').send('ping', 77);
    expect((await pong).args).toEqual({ serial: 77 });
  });
});

describe('WaylandOutput: a hidden window', () => {
  test('ends frames by a timer with one frame callback outstanding, and follows the compositor again when visible', async () => {
    await open();
    await show();
    host.isHidden = true;
    const before = host.count('wl_surface.frame');
    for (let i = 0; i < 4; i++) await guest.flush(0, 0, 4, 4);
    for (let i = 0; i < 4; i++) {
      guest.show(picture().framebuffer);
      await guest.flush(0, 0, 4, 4);
    }
    await settle();
    expect(host.count('wl_surface.frame')).toBe(before + 1);
    host.isHidden = false;
    host.repaint();
    await settle();
    const commit = nextPicture();
    void guest.flush(0, 0, 4, 4);
    await commit;
    expect(host.count('wl_surface.frame')).toBe(before + 2);
  });
});

describe('WaylandOutput: a compositor that releases no buffer', () => {
  test('does not block the guest for good', async () => {
    await open();
    await show();
    host.releases = false;
    for (let i = 0; i < 4; i++) await show();
  });
});
