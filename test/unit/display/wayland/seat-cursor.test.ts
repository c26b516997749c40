import { afterEach, expect, test } from 'vitest';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import { POINTER, type FakeImage, type FakeSeat, type FakeWindow, SeatRig } from './seat-rig.ts';

expectNoLeaks();

const DEFAULT_SHAPE = 1;
const EVERYTHING = '0 0 2147483647 2147483647';

let rig: SeatRig;
let window: FakeWindow;
let seat: FakeSeat;
afterEach(() => rig[Symbol.dispose]());

async function open(globals: readonly string[] = [], compositorVersion = 6): Promise<void> {
  rig = await SeatRig.open(globals, compositorVersion);
  window = await rig.addWindow();
  seat = await rig.addSeat(9, POINTER);
  await rig.asked();
}

function enter(serial: number): void {
  seat.pointer.send('enter', serial, window.far, 10, 0);
  seat.pointer.send('frame');
}

function image(scale = 1, width = 64, height = 64): FakeImage {
  return rig.image(scale, width, height);
}

test('until the guest has set a cursor the pointer is an arrow', async () => {
  await open(['wp_cursor_shape_manager_v1']);
  enter(17);
  expect(await rig.asked()).toEqual([`wp_cursor_shape_device_v1.set_shape 17 ${DEFAULT_SHAPE}`]);
});

test('without cursor shapes it is what the compositor likes', async () => {
  await open();
  enter(17);
  expect(await rig.asked()).toEqual([]);
});

test('a pointer over the window gets a new image at once, with the serial of its last enter', async () => {
  await open(['wp_cursor_shape_manager_v1']);
  enter(17);
  enter(18);
  await rig.asked();
  rig.setCursor(window, image());
  expect(await rig.asked()).toEqual([
    'wl_compositor.create_surface',
    'wl_surface.set_buffer_scale 1',
    'wl_surface.attach 0 0',
    `wl_surface.damage_buffer ${EVERYTHING}`,
    'wl_surface.commit',
    'wl_pointer.set_cursor 18 5 7',
    'wl_surface.commit',
  ]);
});

test('a pointer that comes later gets the image it finds, and no buffer is attached again', async () => {
  await open();
  rig.setCursor(window, image());
  await rig.asked();
  enter(17);
  expect(await rig.asked()).toEqual(['wl_pointer.set_cursor 17 5 7', 'wl_surface.commit']);
});

test('the next image is attached to the same surface, which releases the one before', async () => {
  await open();
  enter(17);
  rig.setCursor(window, image());
  await rig.asked();
  rig.setCursor(window, { ...image(), hotspotX: 1 });
  expect(await rig.asked()).toEqual(['wl_surface.set_buffer_scale 1', 'wl_surface.attach 0 0', `wl_surface.damage_buffer ${EVERYTHING}`, 'wl_surface.commit', 'wl_pointer.set_cursor 17 1 7', 'wl_surface.commit']);
});

test('a hidden cursor hides the pointer, now and when it comes again, and its buffer is let go', async () => {
  await open(['wp_cursor_shape_manager_v1']);
  enter(17);
  rig.setCursor(window, image());
  await rig.asked();
  rig.setCursor(window, null);
  enter(18);
  expect(await rig.asked()).toEqual(['wl_surface.attach null 0 0', 'wl_surface.commit', 'wl_pointer.set_cursor 17 null 0 0', 'wl_pointer.set_cursor 18 null 0 0']);
});

test('a cursor that is hidden before it ever had an image hides the pointer', async () => {
  await open();
  enter(17);
  rig.seats.setCursor(window.surface, null);
  expect(await rig.asked()).toEqual(['wl_pointer.set_cursor 17 null 0 0']);
});

test('the cursor of another window is that window\'s', async () => {
  await open();
  const other = await rig.addWindow();
  rig.setCursor(window, image());
  enter(17);
  await rig.asked();
  rig.seats.setCursor(other.surface, null);
  seat.pointer.send('leave', 18, window.far);
  seat.pointer.send('enter', 19, other.far, 0, 0);
  expect(await rig.asked()).toEqual(['wl_pointer.set_cursor 19 null 0 0']);
});

test('where the cursor is costs nothing while the host\'s pointer is there too', async () => {
  await open();
  enter(17);
  rig.setCursor(window, image());
  await rig.asked();
  rig.seats.moveCursor(window.surface, 30, 40);
  expect(await rig.asked()).toEqual([]);
});

test('image and hotspot are scaled as the window is', async () => {
  await open(['wp_viewporter']);
  enter(17);
  rig.setCursor(window, image(1.5));
  const asked = await rig.asked();
  expect(asked).toContain('wp_viewport.set_destination 96 96');
  expect(asked).toContain('wl_pointer.set_cursor 17 8 11');
});

test.each([
  { scale: 0.5, width: 64, height: 32, buffer: 2, hotspot: '3 4' },
  { scale: 0.5, width: 63, height: 64, buffer: 1, hotspot: '5 7' },
  { scale: 0.5, width: 64, height: 63, buffer: 1, hotspot: '5 7' },
  { scale: 1.5, width: 64, height: 64, buffer: 1, hotspot: '5 7' },
])('without a viewporter whole scales have to do: a cursor of $width x $height shown at $scale', async ({ scale, width, height, buffer, hotspot }) => {
  await open();
  enter(17);
  rig.setCursor(window, image(scale, width, height));
  const asked = await rig.asked();
  expect(asked).toContain(`wl_surface.set_buffer_scale ${buffer}`);
  expect(asked).toContain(`wl_pointer.set_cursor 17 ${hotspot}`);
});

test('a compositor of version 1 gets the image as it is', async () => {
  await open([], 1);
  enter(17);
  rig.setCursor(window, image(0.5));
  expect(await rig.asked()).toEqual(['wl_compositor.create_surface', 'wl_surface.attach 0 0', `wl_surface.damage ${EVERYTHING}`, 'wl_surface.commit', 'wl_pointer.set_cursor 17 5 7', 'wl_surface.commit']);
});

test('two pointers over a window have the same image', async () => {
  await open();
  const second = await rig.addSeat(1, POINTER);
  second.pointer.send('enter', 40, window.far, 10, 0);
  enter(17);
  await rig.asked();
  rig.setCursor(window, image());
  expect((await rig.asked()).filter((request) => request.startsWith('wl_pointer'))).toEqual(['wl_pointer.set_cursor 17 5 7', 'wl_pointer.set_cursor 40 5 7']);
});

test('a window that is detached takes its cursor along', async () => {
  await open(['wp_viewporter']);
  enter(17);
  rig.setCursor(window, image());
  await rig.asked();
  rig.detach(window);
  rig.detach(window);
  expect(await rig.asked()).toEqual(['wp_viewport.destroy', 'wl_surface.destroy']);
});
