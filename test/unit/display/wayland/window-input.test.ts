import { beforeEach, describe, expect, test, vi } from 'vitest';
import { XdgToplevelState } from '../../../../display/wayland/client/index.ts';
import { DRM_FORMAT } from '../../../../protocols/drm-fourcc.ts';
import { KEY } from '../../../../protocols/input-event-codes.ts';
import { Damage } from '../../../../src/core/damage.ts';
import type { GuestInput } from '../../../../src/core/input.ts';
import type { Handle } from '../../../../src/core/output.ts';
import type { GuestPicture } from '../../bridge/fakes.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import type { FakeObject } from './fake-server.ts';
import { SinkLog } from './sink-log.ts';
import {
  bridge,
  guest,
  HEIGHT,
  host,
  listen,
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

/** linux/input-event-codes.h */
const KEY_A = 30;
const KEY_B = 48;
const POINTER_AND_KEYBOARD = 3;
const GLOBALS = {
  wl_seat: 9,
  zwp_keyboard_shortcuts_inhibit_manager_v1: 1,
  zwp_pointer_constraints_v1: 1,
  zwp_relative_pointer_manager_v1: 1,
};

class GuestLog extends SinkLog implements GuestInput {
  scanoutSized = (): void => undefined;
}

let input: GuestLog;
beforeEach(() => {
  input = new GuestLog();
});

const seatOptions = {
  globals: GLOBALS,
  onBind: (object: FakeObject) => {
    if (object.interface.name === 'wl_seat') object.send('capabilities', POINTER_AND_KEYBOARD);
  },
};

async function openSeat(zoom = 1): Promise<void> {
  await open(seatOptions, { zoom, input, title: 'a guest' });
}

async function show(): Promise<void> {
  await showPicture(picture().framebuffer);
}

/** The window's own surface, which gets all input. */
const surface = (): FakeObject =>
  host.server.requests.findLast(({ name }) => name === 'wl_subcompositor.get_subsurface')!.args.parent as FakeObject;
const pointer = (): FakeObject => host.bound('wl_pointer');
const keyboard = (): FakeObject => host.bound('wl_keyboard');
const title = (): unknown => host.last('xdg_toplevel.set_title')?.title;

function enter(x: number, y: number): void {
  pointer().send('enter', 7, surface(), x, y);
  pointer().send('frame');
}

async function heard(): Promise<string[]> {
  await settle();
  return input.lines.splice(0).filter((line) => line !== 'frame');
}

/** Names of the requests that match, from index `since` on. */
async function asked(since: number, pattern: RegExp): Promise<string[]> {
  await settle();
  return host.server.requests
    .slice(since)
    .map(({ name }) => name)
    .filter((name) => pattern.test(name));
}

describe('WaylandOutput: input', () => {
  test('arrives in guest pixels in a letterboxed window', async () => {
    await openSeat();
    await show();
    // 64x48 in 200x96: 128x96 from x = 36, two units to a pixel.
    host.configure(200, 96, [XdgToplevelState.maximized]);
    await settle();
    enter(36, 0);
    pointer().send('motion', 0, 36 + 64, 48);
    pointer().send('motion', 0, 26, 95.5);
    pointer().send('frame');
    expect(await heard()).toEqual(['to 0 0 0', 'to 0 32 24', 'to 0 -5 47.75']);
  });

  test('arrives in guest pixels at zoom 2, and after the window was resized', async () => {
    await openSeat(2);
    await show();
    enter(100, 50);
    expect(await heard()).toEqual(['to 0 50 25']);
    host.configure(4 * WIDTH, 4 * HEIGHT);
    await settle();
    pointer().send('motion', 0, 100, 50);
    expect(await heard()).toEqual(['to 0 25 12.5']);
  });

  test('releases held keys when the focus leaves the window', async () => {
    await openSeat();
    await show();
    keyboard().send('enter', 1, surface(), new Uint8Array());
    keyboard().send('key', 2, 0, KEY_A, 1);
    keyboard().send('leave', 3, surface());
    expect(await heard()).toEqual([`key ${KEY_A} down`, `key ${KEY_A} up`]);
  });

  test('is grabbed by the shortcut that the title names', async () => {
    await openSeat();
    await show();
    expect(title()).toBe('a guest — Ctrl+Alt+G to grab');
    keyboard().send('enter', 1, surface(), new Uint8Array(new Uint32Array([KEY.LEFTCTRL, KEY.LEFTALT]).buffer));
    keyboard().send('key', 2, 0, KEY.G, 1);
    await settle();
    expect(title()).toBe('a guest — Ctrl+Alt+G to grab');
    host.bound('zwp_keyboard_shortcuts_inhibitor_v1').send('active');
    await settle();
    expect(title()).toBe('a guest — Ctrl+Alt+G to release');
    keyboard().send('leave', 3, surface());
    await settle();
    expect(title()).toBe('a guest — Ctrl+Alt+G to grab');
  });

  test('continues on the next compositor, after what was down on the first was released', async () => {
    await openSeat();
    await show();
    guest.sink.cursor(0, picture(16, 16, DRM_FORMAT.ARGB8888).framebuffer, 0, 0, 0, 0);
    enter(1, 1);
    keyboard().send('enter', 1, surface(), new Uint8Array(new Uint32Array([KEY.LEFTCTRL, KEY.LEFTALT]).buffer));
    keyboard().send('key', 2, 0, KEY.G, 1);
    keyboard().send('key', 3, 0, KEY_B, 1);
    await settle();
    input.lines.length = 0;
    host[Symbol.dispose]();
    listen(seatOptions);
    await host.server.next('xdg_surface.get_toplevel');
    expect(await heard()).toEqual([`key ${KEY_B} up`]);
    enter(3, 4);
    expect(await heard()).toEqual(['to 0 3 4']);
    expect(title()).toBe('a guest — Ctrl+Alt+G to grab');
  });
});

describe('WaylandOutput: the guest’s cursor', () => {
  const SIDE = 16;
  const cursorSurface = (): FakeObject =>
    host.server.requests.findLast(({ name, args }) => name === 'wl_pointer.set_cursor' && args.surface !== null)!.args
      .surface as FakeObject;
  const shown = (): FakeObject => host.committed.get(cursorSurface())!.buffer!;

  function image(colour: number): GuestPicture {
    const made = picture(SIDE, SIDE, DRM_FORMAT.ARGB8888);
    made.fill(0, 0, SIDE, SIDE, colour);
    return made;
  }

  /** Sets the guest's cursor; resolves when the compositor has it. */
  async function setCursor(cursor: GuestPicture | null): Promise<void> {
    const attached = host.server.next('wl_surface.attach');
    guest.sink.cursor(0, cursor?.framebuffer ?? null, 5, 7, 0, 0);
    await attached;
    await settle();
  }

  async function openPointer(zoom = 1): Promise<void> {
    await openSeat(zoom);
    await show();
    enter(1, 1);
    await settle();
  }

  test('is not set before the guest has one', async () => {
    await openPointer();
    expect(host.count('wl_pointer.set_cursor')).toBe(0);
  });

  test('is the image of the host’s pointer, with its alpha and hotspot', async () => {
    await openPointer();
    await setCursor(image(0x80402010));
    expect(host.last('wl_pointer.set_cursor')).toMatchObject({ serial: 7, hotspot_x: 5, hotspot_y: 7 });
    expect([...new Set(host.pixels(shown()))]).toEqual([0x80402010]);
    expect(host.last('wl_shm_pool.create_buffer')).toMatchObject({ format: 0, width: SIDE, height: SIDE });
  });

  test('is scaled as the picture is, also when the window is resized', async () => {
    await openPointer(2);
    await setCursor(image(0xff000001));
    const destination = (): unknown => {
      const viewport = host.server.requests.findLast(
        ({ name, args }) => name === 'wp_viewporter.get_viewport' && args.surface === cursorSurface(),
      )!.args.id;
      return host.server.requests.findLast(
        ({ name, object }) => name === 'wp_viewport.set_destination' && object === viewport,
      )!.args;
    };
    expect([destination(), host.last('wl_pointer.set_cursor')]).toMatchObject([
      { width: 2 * SIDE, height: 2 * SIDE },
      { hotspot_x: 10, hotspot_y: 14 },
    ]);
    host.configure(4 * WIDTH, 4 * HEIGHT);
    await settle();
    expect([destination(), host.last('wl_pointer.set_cursor')]).toMatchObject([
      { width: 4 * SIDE, height: 4 * SIDE },
      { hotspot_x: 20, hotspot_y: 28 },
    ]);
  });

  test('moves without any request', async () => {
    await openPointer();
    await setCursor(image(0xff000001));
    await settle();
    const since = host.server.requests.length;
    for (let i = 0; i < 5; i++) guest.sink.cursorMoved(0, i, i);
    await guest.flush(0, 0, 0, 0);
    expect(await asked(since, /^wl_(surface|pointer)/)).toEqual([]);
  });

  test('is hidden and shown again with the guest’s', async () => {
    await openPointer();
    const arrow = image(0xff00ff00);
    await setCursor(arrow);
    await setCursor(null);
    expect(host.last('wl_pointer.set_cursor')!.surface).toBeNull();
    await setCursor(arrow);
    expect(host.pixels(shown())[0]).toBe(0xff00ff00);
  });

  test('changes 20 times with at most three buffers', async () => {
    await openPointer();
    await setCursor(image(0xff000000));
    for (let i = 1; i <= 20; i++) {
      await setCursor(image(0xff000000 + i));
      expect(host.pixels(shown())[0]).toBe(0xff000000 + i);
    }
    const created = host.server.requests.filter(
      ({ name, args }) => name === 'wl_shm_pool.create_buffer' && args.width === SIDE,
    );
    expect(created.length).toBeLessThanOrEqual(3);
  });

  test('changes on a compositor that releases images at once', async () => {
    await openPointer();
    await setCursor(image(0xff000001));
    shown().send('release');
    await settle();
    host.configure(2 * WIDTH, 2 * HEIGHT);
    await settle();
    expect(host.pixels(shown())[0]).toBe(0xff000001);
    await setCursor(image(0xff000002));
    await setCursor(image(0xff000003));
    expect(host.pixels(shown())[0]).toBe(0xff000003);
  });

  test('is released once, when another image has replaced it and the compositor has released it', async () => {
    await openPointer();
    bridge.hide(output);
    const released: Handle[] = [];
    let onPresented = (): void => undefined;
    output.attach({
      scanout: 0,
      input: null,
      presented: () => onPresented(),
      released: (handle) => released.push(handle),
      resized: vi.fn(),
      closed: vi.fn(),
      importsChanged: vi.fn(),
    });
    const present = async (handle: Handle): Promise<void> => {
      const rect = { x: 0, y: 0, width: SIDE, height: SIDE };
      const presented = new Promise<void>((resolve) => (onPresented = resolve));
      output.present({
        canvas: rect,
        primary: { handle: null, src: rect, dst: rect },
        cursor: { handle, src: rect, dst: rect },
        hotspotX: 0,
        hotspotY: 0,
        isCursorNew: false,
        damage: new Damage(),
        acquire: null,
        release: null,
      });
      await presented;
      await settle();
    };
    using first = output.createShadow(SIDE, SIDE, DRM_FORMAT.ARGB8888);
    using second = output.createShadow(SIDE, SIDE, DRM_FORMAT.ARGB8888);
    using third = output.createShadow(SIDE, SIDE, DRM_FORMAT.ARGB8888);
    enter(1, 1);
    await present(first);
    shown().send('release');
    await settle();
    expect(released).not.toContain(first);
    host.releases = false;
    await present(second);
    expect(released.filter((handle) => handle === first)).toEqual([first]);
    const held = shown();
    await present(third);
    expect(released).not.toContain(second);
    held.send('release');
    await settle();
    expect(released.filter((handle) => handle === second)).toEqual([second]);
    expect(released).not.toContain(third);
  });

  test('is shown again by the next compositor', async () => {
    await openPointer();
    await setCursor(image(0xff123456));
    host[Symbol.dispose]();
    listen(seatOptions);
    await host.server.next('xdg_surface.get_toplevel');
    await settle();
    enter(1, 1);
    await settle();
    expect(host.pixels(shown())[0]).toBe(0xff123456);
  });
});
