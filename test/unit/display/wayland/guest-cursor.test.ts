import { afterEach, expect, test } from 'vitest';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import { POINTER, type FakeImage, type FakeSeat, type FakeWindow, SeatRig } from './seat/seat-rig.ts';

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

test('WaylandSeats: pointers have the default shape until the guest sets a cursor', async () => {
  await open(['wp_cursor_shape_manager_v1']);
  enter(17);
  expect(await rig.asked()).toEqual([`wp_cursor_shape_device_v1.set_shape 17 ${DEFAULT_SHAPE}`]);
});

test('WaylandSeats: without cursor shapes the pointer’s image is left to the compositor until the guest sets one', async () => {
  await open();
  enter(17);
  expect(await rig.asked()).toEqual([]);
});

test('GuestCursor: a pointer over the window gets a new image at once, with the serial of its last enter', async () => {
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

test('GuestCursor: a pointer that enters later gets the image without another attach', async () => {
  await open();
  rig.setCursor(window, image());
  await rig.asked();
  enter(17);
  expect(await rig.asked()).toEqual(['wl_pointer.set_cursor 17 5 7', 'wl_surface.commit']);
});

test('GuestCursor: the next image is attached to the same surface', async () => {
  await open();
  enter(17);
  rig.setCursor(window, image());
  await rig.asked();
  rig.setCursor(window, { ...image(), hotspotX: 1 });
  expect(await rig.asked()).toEqual([
    'wl_surface.set_buffer_scale 1',
    'wl_surface.attach 0 0',
    `wl_surface.damage_buffer ${EVERYTHING}`,
    'wl_surface.commit',
    'wl_pointer.set_cursor 17 1 7',
    'wl_surface.commit',
  ]);
});

test('GuestCursor: a hidden cursor detaches its buffer, and hides pointers that are there and that enter', async () => {
  await open(['wp_cursor_shape_manager_v1']);
  enter(17);
  rig.setCursor(window, image());
  await rig.asked();
  rig.setCursor(window, null);
  enter(18);
  expect(await rig.asked()).toEqual([
    'wl_surface.attach null 0 0',
    'wl_surface.commit',
    'wl_pointer.set_cursor 17 null 0 0',
    'wl_pointer.set_cursor 18 null 0 0',
  ]);
});

test('WaylandSeats: a cursor that is hidden before it had an image hides the pointer', async () => {
  await open();
  enter(17);
  rig.seats.setCursor(window.surface, null);
  expect(await rig.asked()).toEqual(['wl_pointer.set_cursor 17 null 0 0']);
});

test('WaylandSeats: each window has its own cursor', async () => {
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

test('WaylandSeats: moving the cursor requests nothing while no pointer is locked', async () => {
  await open();
  enter(17);
  rig.setCursor(window, image());
  await rig.asked();
  rig.seats.moveCursor(window.surface, 30, 40);
  expect(await rig.asked()).toEqual([]);
});

test('GuestCursor: image and hotspot are scaled as the picture is', async () => {
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
])(
  'GuestCursor: without a viewporter, a $width x $height image at scale $scale has buffer scale $buffer',
  async ({ scale, width, height, buffer, hotspot }) => {
    await open();
    enter(17);
    rig.setCursor(window, image(scale, width, height));
    const asked = await rig.asked();
    expect(asked).toContain(`wl_surface.set_buffer_scale ${buffer}`);
    expect(asked).toContain(`wl_pointer.set_cursor 17 ${hotspot}`);
  },
);

test('GuestCursor: on wl_compositor version 1 the image is not scaled', async () => {
  await open([], 1);
  enter(17);
  rig.setCursor(window, image(0.5));
  expect(await rig.asked()).toEqual([
    'wl_compositor.create_surface',
    'wl_surface.attach 0 0',
    `wl_surface.damage ${EVERYTHING}`,
    'wl_surface.commit',
    'wl_pointer.set_cursor 17 5 7',
    'wl_surface.commit',
  ]);
});

test('WaylandSeats: two pointers over a window have the same image', async () => {
  await open();
  const second = await rig.addSeat(1, POINTER);
  second.pointer.send('enter', 40, window.far, 10, 0);
  enter(17);
  await rig.asked();
  rig.setCursor(window, image());
  expect((await rig.asked()).filter((request) => request.startsWith('wl_pointer'))).toEqual([
    'wl_pointer.set_cursor 17 5 7',
    'wl_pointer.set_cursor 40 5 7',
  ]);
});

test('GuestCursor: detaching destroys the cursor’s surface and viewport', async () => {
  await open(['wp_viewporter']);
  enter(17);
  rig.setCursor(window, image());
  await rig.asked();
  rig.detach(window);
  rig.detach(window);
  expect(await rig.asked()).toEqual(['wp_viewport.destroy', 'wl_surface.destroy']);
});
