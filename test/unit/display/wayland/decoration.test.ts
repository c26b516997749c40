import { describe, expect, test, vi } from 'vitest';
import {
  WpCursorShapeDeviceV1Shape as Shape,
  XdgToplevelResizeEdge as Edge,
  XdgToplevelState,
} from '../../../../display/wayland/client/index.ts';
import { BTN } from '../../../../protocols/input-event-codes.ts';
import type { GuestInput } from '../../../../src/core/input.ts';
import { eventually } from '../../../rig/eventually.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import type { FakeHostOptions } from './fake-host.ts';
import type { FakeObject } from './fake-server.ts';
import { SinkLog } from './sink-log.ts';
import { guest, HEIGHT, host, log, open, picture, settle, useWindows, WIDTH } from './window-rig.ts';

expectNoLeaks();
useWindows();

const POINTER_AND_TOUCH = 5;
const BAR = 32;
const EDGE = 8;
const CLIENT_SIDE = 1;
const SERVER_SIDE = 2;

/** A compositor without title bars, as GNOME is. */
const bare: FakeHostOptions = {
  globals: { zxdg_decoration_manager_v1: 0, wl_seat: 9, wp_cursor_shape_manager_v1: 1 },
  onBind: (object) => {
    if (object.interface.name === 'wl_seat') object.send('capabilities', POINTER_AND_TOUCH);
  },
};

const subsurface = (index: number): FakeObject =>
  host.server.requests.filter(({ name }) => name === 'wl_subcompositor.get_subsurface')[index]!.args
    .surface as FakeObject;
/** In the order in which windows make them: the picture, the edges, the bar. */
const edges = (): FakeObject => subsurface(1);
const bar = (): FakeObject => subsurface(2);
const shownBar = (): FakeObject | null => host.committed.get(bar())?.buffer ?? null;
const barPixels = (): Uint32Array => host.pixels(shownBar()!);
const geometry = (): unknown => host.last('xdg_surface.set_window_geometry');
const shape = (): unknown => host.last('wp_cursor_shape_device_v1.set_shape')?.shape;

/** 700 wide and, with the bar, 532 high: buttons are at 604, 636 and 668. */
async function openWindow(options: FakeHostOptions = bare, onClosed?: () => void): Promise<void> {
  await open({ size: [700, 532], ...options }, { title: 'a guest', ...(onClosed && { onClosed }) });
  await settle();
}

function enter(surface: FakeObject, x: number, y: number): void {
  host.bound('wl_pointer').send('enter', 7, surface, x, y);
  host.bound('wl_pointer').send('frame');
}

let time = 1000;

function press(button: number = BTN.LEFT, serial = 9): void {
  host.bound('wl_pointer').send('button', serial, time++, button, 1);
}

function release(button: number = BTN.LEFT): void {
  host.bound('wl_pointer').send('button', 10, time++, button, 0);
}

async function click(x: number): Promise<void> {
  enter(bar(), x, 10);
  press();
  release();
  await settle();
}

describe('Decoration: the title bar', () => {
  test('is part of the window, and no part of the guest’s picture', async () => {
    await openWindow();
    expect(geometry()).toEqual({ x: 0, y: -BAR, width: 700, height: 532 });
    expect(guest.monitors[0]).toMatchObject({ width: 700, height: 500 });
    expect(barPixels().length).toBe(700 * BAR);
  });

  test('comes and goes as the compositor says', async () => {
    await openWindow({ ...bare, globals: { ...bare.globals, zxdg_decoration_manager_v1: 1 } });
    expect(geometry()).toMatchObject({ y: 0, height: 532 });
    const decoration = host.bound('zxdg_toplevel_decoration_v1');
    decoration.send('configure', CLIENT_SIDE);
    host.configure(700, 532);
    await settle();
    expect(geometry()).toMatchObject({ y: -BAR, height: 532 });
    expect(shownBar()).not.toBeNull();
    decoration.send('configure', SERVER_SIDE);
    host.configure(700, 500);
    await settle();
    expect(geometry()).toMatchObject({ y: 0, height: 500 });
    expect(shownBar()).toBeNull();
  });

  test('is not there in full screen, where the guest has the whole monitor', async () => {
    await openWindow();
    const told = guest.nextMonitor();
    host.configure(1920, 1080, [XdgToplevelState.fullscreen]);
    expect(await told).toMatchObject({ width: 1920, height: 1080 });
    expect(geometry()).toEqual({ x: 0, y: 0, width: 1920, height: 1080 });
    expect([shownBar(), host.committed.get(edges())!.buffer]).toEqual([null, null]);
    host.configure(700, 532);
    await settle();
    expect([geometry(), shownBar()]).toEqual([{ x: 0, y: -BAR, width: 700, height: 532 }, expect.anything()]);
  });

  test('leaves the room for itself within the bounds of the compositor', async () => {
    await open({ ...bare, bounds: [1280, 432] });
    await settle();
    expect(geometry()).toEqual({ x: 0, y: -BAR, width: 640, height: 432 });
  });

  test('looks different in an active window, and has the scale of the monitor', async () => {
    await openWindow({ ...bare, scale: 2 });
    const inactive = barPixels();
    expect(inactive.length).toBe(2 * 700 * 2 * BAR);
    host.configure(700, 532, [XdgToplevelState.activated]);
    await settle();
    expect(barPixels()[0]).not.toBe(inactive[0]);
  });

  test('is drawn when it changes, and not for a frame', async () => {
    await openWindow();
    const drawn = host.server.requests.filter(({ name, object }) => name === 'wl_surface.attach' && object === bar());
    const before = drawn.length;
    guest.show(picture(700, 500).framebuffer);
    for (let i = 0; i < 5; i++) {
      const done = guest.flush(0, 0, WIDTH, HEIGHT);
      await settle();
      host.repaint();
      await done;
    }
    expect(
      host.server.requests.filter(({ name, object }) => name === 'wl_surface.attach' && object === bar()).length,
    ).toBe(before);
    expect(before).toBe(1);
  });

  test('has the same size without viewports, and then no edges', async () => {
    await open({ ...bare, size: [700, 532], globals: { ...bare.globals, wp_viewporter: 0 } });
    await settle();
    expect(host.count('wl_subcompositor.get_subsurface')).toBe(2);
    const buffer = host.committed.get(subsurface(1))!.buffer!;
    expect(host.pixels(buffer).length).toBe(700 * BAR);
    expect(geometry()).toEqual({ x: 0, y: -BAR, width: 700, height: 532 });
  });

  test('takes bounded memory, whatever size and scale the compositor says', async () => {
    await openWindow({ ...bare, scale: 64 });
    host.configure(2 ** 31 - 1, 2 ** 31 - 1);
    await settle();
    expect(geometry()).toMatchObject({ width: 65_535 });
    expect(barPixels().length).toBeLessThanOrEqual(16_384 * 256);
  });

  test('comes back with the next window', async () => {
    await openWindow();
    host.server.client[Symbol.dispose]();
    await host.server.next('xdg_surface.get_toplevel');
    await settle();
    expect(geometry()).toEqual({ x: 0, y: -BAR, width: 700, height: 532 });
    expect(log.filter((line) => line.includes('cannot'))).toEqual([]);
  });
});

describe('Decoration: a click on', () => {
  test('the close button closes the window, when it goes up there', async () => {
    const onClosed = vi.fn();
    await openWindow(bare, onClosed);
    enter(bar(), 690, 10);
    press();
    host.bound('wl_pointer').send('motion', 0, 500, 10);
    release();
    await settle();
    expect(onClosed).not.toHaveBeenCalled();
    enter(bar(), 690, 10);
    press();
    release();
    await host.server.next('xdg_toplevel.destroy');
    expect(onClosed).toHaveBeenCalledOnce();
  });

  test('the other buttons minimises, maximises and restores', async () => {
    await openWindow();
    await click(610);
    expect(host.count('xdg_toplevel.set_minimized')).toBe(1);
    await click(650);
    expect(host.count('xdg_toplevel.set_maximized')).toBe(1);
    host.configure(700, 532, [XdgToplevelState.maximized]);
    await settle();
    await click(650);
    expect(host.count('xdg_toplevel.unset_maximized')).toBe(1);
  });

  test('the place of a button that the compositor has no use for moves the window', async () => {
    await openWindow();
    host.toplevel.send('wm_capabilities', new Uint8Array(new Uint32Array([2]).buffer));
    host.configure(700, 532);
    await settle();
    await click(610);
    expect([host.count('xdg_toplevel.set_minimized'), host.count('xdg_toplevel.move')]).toEqual([0, 1]);
    await click(650);
    expect(host.count('xdg_toplevel.set_maximized')).toBe(1);
  });

  test('the title moves the window, a double click maximises it, and a right click shows its menu', async () => {
    await openWindow();
    await click(300);
    expect(host.last('xdg_toplevel.move')).toMatchObject({ serial: 9 });
    await click(300);
    expect([host.count('xdg_toplevel.move'), host.count('xdg_toplevel.set_maximized')]).toEqual([1, 1]);
    time += 1000;
    await click(300);
    time += 1000;
    await click(300);
    expect([host.count('xdg_toplevel.move'), host.count('xdg_toplevel.set_maximized')]).toEqual([3, 1]);
    enter(bar(), 300, 12);
    press(BTN.RIGHT, 11);
    await settle();
    expect(host.last('xdg_toplevel.show_window_menu')).toMatchObject({ serial: 11, x: 300, y: 12 });
  });

  test.each([
    ['top', Edge.top, Shape.n_resize, 300, 2],
    ['bottom', Edge.bottom, Shape.s_resize, 300, 545],
    ['left', Edge.left, Shape.w_resize, 2, 200],
    ['right', Edge.right, Shape.e_resize, 713, 200],
    ['top left', Edge.top_left, Shape.nw_resize, 2, 15],
    ['top right', Edge.top_right, Shape.ne_resize, 700, 2],
    ['bottom left', Edge.bottom_left, Shape.sw_resize, 15, 545],
    ['bottom right', Edge.bottom_right, Shape.se_resize, 713, 540],
  ])('the %s edge resizes the window there', async (_, edge, image, x, y) => {
    await openWindow();
    enter(edges(), x, y);
    press();
    await settle();
    expect([host.last('xdg_toplevel.resize'), shape()]).toMatchObject([{ serial: 9, edges: edge }, image]);
  });

  test('the edges only counts around the window, and nowhere in a maximised one', async () => {
    await openWindow();
    const requests = (): string[] =>
      host.server.requests
        .filter(({ name }) => /^wl_region\.(add|subtract)$/.test(name))
        .map(({ name, args: { x, y, width, height } }) =>
          [name.slice('wl_region.'.length), x, y, width, height].map(String).join(' '),
        );
    expect(requests()).toEqual([`add 0 0 ${700 + 2 * EDGE} ${532 + 2 * EDGE}`, `subtract ${EDGE} ${EDGE} 700 532`]);
    host.configure(700, 532, [XdgToplevelState.maximized]);
    await settle();
    expect(requests().slice(2)).toEqual([`subtract ${EDGE} ${EDGE} 700 532`]);
  });

  test('a button or the title by touch does the same', async () => {
    await openWindow();
    const touch = host.bound('wl_touch');
    touch.send('down', 21, 0, bar(), 0, 300, 10);
    touch.send('up', 22, 1, 0);
    touch.send('down', 23, 5000, bar(), 0, 610, 10);
    touch.send('up', 24, 5001, 0);
    await settle();
    expect([host.last('xdg_toplevel.move'), host.count('xdg_toplevel.set_minimized')]).toMatchObject([
      { serial: 21 },
      1,
    ]);
  });
});

describe('Decoration: the pointer', () => {
  class GuestLog extends SinkLog implements GuestInput {
    scanoutSized = (): void => undefined;
  }

  test('lights the button it is over, and sends the guest nothing', async () => {
    const input = new GuestLog();
    await open({ size: [700, 532], ...bare }, { input });
    await settle();
    const before = barPixels()[690];
    enter(bar(), 690, 10);
    await settle();
    expect(barPixels()[690]).not.toBe(before);
    expect(shape()).toBe(Shape.default);
    press();
    host.bound('wl_pointer').send('leave', 12, bar());
    host.bound('wl_pointer').send('frame');
    await settle();
    expect(barPixels()[690]).toBe(before);
    expect(input.lines.filter((line) => line !== 'frame')).toEqual([]);
  });

  test('may be over a button when the compositor goes', async () => {
    await openWindow();
    enter(bar(), 690, 10);
    await settle();
    host[Symbol.dispose]();
    await eventually(() => expect(log.join('\n')).toContain('lost the compositor'));
  });

  test('is an arrow of the window’s own where the compositor has no images', async () => {
    await openWindow({ ...bare, globals: { ...bare.globals, wp_cursor_shape_manager_v1: 0 } });
    enter(bar(), 300, 10);
    await settle();
    const image = host.last('wl_pointer.set_cursor')!.surface as FakeObject;
    expect(host.pixels(host.committed.get(image)!.buffer!)[0]).toBe(0xff000000);
  });
});
