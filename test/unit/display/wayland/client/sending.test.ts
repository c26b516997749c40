import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { WlShm, WlSurface, XdgToplevel } from '../../../../../display/wayland/client/index.ts';
import type { OwnedFd } from '../../../../../src/sys/fd.ts';
import { createMemfd } from '../../../../../src/sys/memfd.ts';
import { fileSize } from '../../../../rig/process-resources.ts';
import { transmit } from '../../../../../src/sys/socket.ts';
import { withFreeFds } from '../../../sys/few-fds.ts';
import { expectNoLeaks } from '../../../sys/no-leaks.ts';
import { Connected } from './connected.ts';

vi.mock('../../../../../src/sys/socket.ts', async (original) => {
  const real = await original<{ transmit: typeof transmit }>();
  return { ...real, transmit: vi.fn(real.transmit) };
});

expectNoLeaks();

let it: Connected;
beforeEach(async () => {
  it = await Connected.open();
  vi.mocked(transmit).mockClear();
});
afterEach(() => it[Symbol.dispose]());

/** The client's sendmsg calls so far. */
const sends = (): number => vi.mocked(transmit).mock.calls.filter(([fd]) => fd === it.socket.fd).length;
const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

test('Wayland requests of one turn are sent by one sendmsg at its end', async () => {
  const surface = it.compositor.createSurface();
  await Promise.resolve();
  surface.damageBuffer(0, 0, 10, 10);
  surface.commit();
  expect(sends()).toBe(0);
  await turn();
  expect(sends()).toBe(1);
  surface.commit();
  await it.display.roundtrip();
  expect(sends()).toBe(2);
  expect(it.server.requestNames.slice(-4)).toEqual([
    'wl_compositor.create_surface',
    'wl_surface.damage_buffer',
    'wl_surface.commit',
    'wl_surface.commit',
  ]);
});

test('WaylandDisplay.flush sends at once, and the end of the turn then sends nothing', async () => {
  it.compositor.createSurface();
  it.display.flush();
  expect(sends()).toBe(1);
  it.display.flush();
  await turn();
  expect(sends()).toBe(1);
});

test('Wayland requests that exceed the buffer are sent early and in order', async () => {
  const surface = it.compositor.createSurface();
  for (let i = 0; i < 5000; i++) surface.damage(i, 0, 1, 1);
  expect(sends()).toBeGreaterThan(0);
  await it.display.roundtrip();
  const damages = it.server.requests.filter(({ name }) => name === 'wl_surface.damage').map(({ args }) => args.x);
  expect(damages).toEqual(Array.from({ length: 5000 }, (_, i) => i));
});

test('more than 28 descriptors of Wayland requests are spread over messages, each not after its request', async () => {
  const [shm] = it.conjure(WlShm);
  for (let i = 0; i < 100; i++) {
    using memfd = createMemfd('pool', i + 1);
    shm.createPool(memfd, i + 1);
  }
  await it.display.roundtrip();
  expect(it.client.fdsPerMessage).toEqual([28, 28, 28, 16]);
  const sizes = it.server.requests
    .filter(({ name }) => name === 'wl_shm.create_pool')
    .map(({ args }) => [fileSize(args.fd as OwnedFd), args.size]);
  expect(sizes).toEqual(Array.from({ length: 100 }, (_, i) => [i + 1, i + 1]));
});

test('a Wayland request whose descriptor cannot be duplicated throws, and later ones are sent', async () => {
  const [shm] = it.conjure(WlShm);
  using memfd = createMemfd('pool', 1);
  withFreeFds(memfd, 0, () => expect(() => shm.createPool(memfd, 1)).toThrow('EMFILE'));
  const pool = shm.createPool(memfd, 1);
  await it.display.roundtrip();
  expect(it.far(pool).interface.name).toBe('wl_shm_pool');
});

test('Wayland requests wait while the compositor does not read, and arrive complete when it does', async () => {
  it.client.pause();
  const surface = it.compositor.createSurface();
  const [shm] = it.conjure(WlShm);
  using memfd = createMemfd('pool', 1);
  for (let i = 0; i < 30_000; i++) {
    surface.damage(i, 0, 1, 1);
    if (i % 1000 === 0) shm.createPool(memfd, i + 1);
  }
  await turn();
  const roundtrip = it.display.roundtrip();
  it.client.resume();
  await roundtrip;
  const damages = it.server.requests.filter(({ name }) => name === 'wl_surface.damage').map(({ args }) => args.x);
  expect(damages).toEqual(Array.from({ length: 30_000 }, (_, i) => i));
  expect(it.server.requests.filter(({ name }) => name === 'wl_shm.create_pool').length).toBe(30);
  // Nothing waits any more, so the poll for writability is off.
  vi.mocked(transmit).mockClear();
  await it.display.roundtrip();
  expect(sends()).toBe(1);
});

test('Wayland requests arrive complete through a socket that takes 7 bytes at a time', async () => {
  const real = vi.mocked(transmit).getMockImplementation()!;
  const few = vi
    .mocked(transmit)
    .mockImplementation((fd, head, from, address, length, fds) =>
      real(fd, head, from, address, fd === it.socket.fd ? Math.min(length, 7) : length, fds),
    );
  const surface = it.compositor.createSurface();
  const [shm] = it.conjure(WlShm);
  using memfd = createMemfd('pool', 1);
  for (let i = 0; i < 200; i++) {
    surface.damage(i, 0, 1, 1);
    if (i % 4 === 0) shm.createPool(memfd, i + 1);
  }
  await it.display.roundtrip();
  few.mockImplementation(real);
  expect(it.server.requests.filter(({ name }) => name === 'wl_surface.damage').map(({ args }) => args.x)).toEqual(
    Array.from({ length: 200 }, (_, i) => i),
  );
  expect(Math.max(...it.client.fdsPerMessage)).toBeLessThanOrEqual(28);
});

test('Wayland requests stay aligned after a full buffer was sent up to the middle of a word', async () => {
  const real = vi.mocked(transmit).getMockImplementation()!;
  let isFull = false;
  vi.mocked(transmit).mockImplementation((fd, head, from, address, length, fds) => {
    if (fd !== it.socket.fd) return real(fd, head, from, address, length, fds);
    if (isFull) return 0;
    isFull = true;
    return real(fd, head, from, address, Math.min(length, 30_001), fds);
  });
  const surface = it.compositor.createSurface();
  for (let i = 0; i < 6000; i++) surface.damage(i, 0, 1, 1);
  vi.mocked(transmit).mockImplementation(real);
  await it.display.roundtrip();
  expect(it.server.requests.filter(({ name }) => name === 'wl_surface.damage').map(({ args }) => args.x)).toEqual(
    Array.from({ length: 6000 }, (_, i) => i),
  );
});

test('a compositor that never reads ends the connection as stalled, and no request throws before', async () => {
  it.client.pause();
  const closed = new Promise((resolve) => it.display.onClosed(resolve));
  const surface = it.compositor.createSurface();
  for (let i = 0; i < 100_000; i++) surface.damage(i, 0, 1, 1);
  expect(await closed).toMatchObject({ code: 'stalled' });
});

test('a compositor that never reads ends the connection as stalled when too many descriptors wait', async () => {
  it.client.pause();
  const closed = new Promise((resolve) => it.display.onClosed(resolve));
  const surface = it.compositor.createSurface();
  const [shm] = it.conjure(WlShm);
  using memfd = createMemfd('pool', 1);
  for (let i = 0; i < 20_000; i++) surface.damage(i, 0, 1, 1);
  for (let i = 0; i < 600; i++) shm.createPool(memfd, 1);
  expect(await closed).toMatchObject({ code: 'stalled' });
});

test('a Wayland request with a string too long for libwayland or with a zero byte throws and sends nothing', async () => {
  const [toplevel] = it.conjure(XdgToplevel);
  expect(() => toplevel.setTitle('x'.repeat(4096))).toThrow(
    'a request of 4112 bytes is too large: compositors read at most 4096',
  );
  expect(() => toplevel.setTitle('a\0b')).toThrow('zero byte');
  toplevel.setTitle('x'.repeat(4083));
  toplevel.setTitle('\ud800');
  await it.display.roundtrip();
  expect(
    it.server.requests.filter(({ name }) => name === 'xdg_toplevel.set_title').map(({ args }) => args.title),
  ).toEqual(['x'.repeat(4083), '\ufffd']);
});

test('Wayland requests made in a listener are sent in the same turn by one sendmsg', async () => {
  const surface = it.compositor.createSurface();
  await it.display.roundtrip();
  vi.mocked(transmit).mockClear();
  const [near] = it.conjure(WlSurface);
  surface.listener = {
    preferredBufferScale: (factor) => {
      surface.setBufferScale(factor);
      near.commit();
    },
  };
  it.far(surface).send('preferred_buffer_scale', 2);
  await it.server.next('wl_surface.commit');
  expect(sends()).toBe(1);
});
