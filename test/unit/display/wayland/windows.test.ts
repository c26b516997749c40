import { describe, expect, test, vi } from 'vitest';
import { WlCompositor } from '../../../../display/wayland/client/index.ts';
import { WaylandWindows } from '../../../../display/wayland/windows.ts';
import { EMPTY_RECT } from '../../../../src/core/geometry.ts';
import { SysError } from '../../../../src/sys/errors.ts';
import { openFds } from '../../../rig/process-resources.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
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
} from './window-rig.ts';

expectNoLeaks();
useWindows();

async function show(shown = picture(), scanout = 0): Promise<void> {
  guest.show(shown.framebuffer, scanout);
  const commit = nextPicture();
  const done = guest.flush(0, 0, WIDTH, HEIGHT, scanout);
  await commit;
  host.repaint();
  await done;
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
    await open({}, { scanouts: 2, onClosed });
    await show(picture(), 1);
    const [first, second] = host.toplevels;
    const destroyed = host.server.next('xdg_toplevel.destroy');
    second!.send('close');
    await destroyed;
    expect([guest.monitors[0], guest.monitors[1], onClosed.mock.calls.length]).toEqual([expect.anything(), null, 0]);
    first!.send('close');
    await host.server.next('xdg_toplevel.destroy');
    expect([guest.monitors[0], onClosed.mock.calls.length]).toEqual([null, 1]);
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
