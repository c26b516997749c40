import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { FrameTarget } from '../../../../../display/wayland/seat/attached-surface.ts';
import { BTN } from '../../../../../protocols/input-event-codes.ts';
import { expectNoLeaks } from '../../../sys/no-leaks.ts';
import type { FakeObject } from '../fake-server.ts';
import { type FakeWindow, POINTER, SeatRig } from './seat-rig.ts';

expectNoLeaks();

const TABLETS = 'zwp_tablet_manager_v2';
const SHAPES = 'wp_cursor_shape_manager_v1';
const ARROW = 1;

let rig: SeatRig;
let window: FakeWindow;
let tablets: FakeObject;
let tablet: FakeObject;
let tool: FakeObject;

beforeEach(async () => {
  rig = await SeatRig.open([TABLETS, SHAPES]);
  rig.server.on(`${TABLETS}.get_tablet_seat`, ({ args }) => {
    tablets = args.tablet_seat as FakeObject;
  });
  window = await rig.addWindow();
  await rig.addSeat(9, POINTER);
  tool = plug();
  await rig.heard();
  await rig.asked();
});

afterEach(() => rig[Symbol.dispose]());

/** A pen, after its tablet. */
function plug(): FakeObject {
  tablet = rig.server.client.newObject('zwp_tablet_v2', 1);
  tablets.send('tablet_added', tablet);
  const pen = rig.server.client.newObject('zwp_tablet_tool_v2', 1);
  tablets.send('tool_added', pen);
  pen.send('capability', 2);
  pen.send('done');
  return pen;
}

/** The pen comes near the window, at 30, 40 of it: the middle of the guest's pixel 10, 20. */
function approach(surface: FakeObject = window.far): void {
  // The tablet was not kept.
  rig.server.client.objects.delete(tablet.id);
  tool.send('proximity_in', 5, tablet, surface);
  tool.send('motion', 30, 40);
  tool.send('frame', 100);
}

describe('Tablet', () => {
  test("a pen moves the guest's pointer to where it is, with an arrow, and its tip is the left button", async () => {
    approach();
    expect(await rig.heard()).toEqual(['to 0 10 20', 'frame']);
    expect(await rig.asked()).toContain(`wp_cursor_shape_device_v1.set_shape 5 ${ARROW}`);
    tool.send('down', 6);
    tool.send('frame', 110);
    tool.send('motion', 32, 42);
    tool.send('pressure', 1000);
    tool.send('tilt', 1, 2);
    tool.send('frame', 120);
    tool.send('up');
    tool.send('frame', 130);
    expect(await rig.heard()).toEqual([
      ...['button 272 down', 'frame'],
      ...['to 0 11 21', 'frame'],
      ...['button 272 up', 'frame'],
    ]);
  });

  test('its buttons are the right and the middle one', async () => {
    approach();
    await rig.heard();
    for (const button of [BTN.STYLUS, BTN.STYLUS2]) {
      tool.send('button', 7, button, 1);
      tool.send('button', 8, button, 0);
    }
    tool.send('frame', 110);
    expect(await rig.heard()).toEqual([
      ...[`button ${BTN.RIGHT} down`, `button ${BTN.RIGHT} up`],
      ...[`button ${BTN.MIDDLE} down`, `button ${BTN.MIDDLE} up`, 'frame'],
    ]);
  });

  test.each([
    ['leaves', () => tool.send('proximity_out')],
    ['is unplugged', () => tool.send('removed')],
    ['is over a window that closes', () => rig.detach(window)],
  ])('releases what a pen holds down that %s', async (_, end) => {
    approach();
    tool.send('down', 6);
    tool.send('button', 7, BTN.STYLUS, 1);
    tool.send('frame', 110);
    await rig.heard();
    end();
    expect(await rig.heard()).toEqual(['button 272 up', 'button 273 up', 'frame']);
    // What it does now is not the guest's.
    if (!tool.isDestroyed) tool.send('down', 8);
    if (!tool.isDestroyed) tool.send('frame', 120);
    expect(await rig.heard()).toEqual([]);
  });

  test('operates the title bar, of which the guest hears nothing', async () => {
    const said: string[] = [];
    const frame: FrameTarget = {
      image: () => null,
      moved: (x, y) => {
        said.push(`moved ${x} ${y}`);
        return 7;
      },
      left: () => said.push('left'),
      pressed: ({ serial, timeMs, x, y, button }) => said.push(`pressed ${serial} ${timeMs} ${x} ${y} ${button}`),
      released: (x, y) => said.push(`released ${x} ${y}`),
    };
    const bar = rig.compositor.createSurface();
    rig.seats.attachFrame(bar, frame);
    await rig.settle();
    approach(rig.far(bar));
    tool.send('down', 6);
    tool.send('frame', 110);
    tool.send('up');
    tool.send('proximity_out');
    tool.send('frame', 120);
    expect(await rig.heard()).toEqual([]);
    expect(said).toEqual(['moved 30 40', `pressed 6 110 30 40 ${BTN.LEFT}`, 'released 30 40', 'left']);
    expect(await rig.asked()).toContain('wp_cursor_shape_device_v1.set_shape 5 7');
    rig.seats.detachFrame(bar);
  });

  test('frees pens that are unplugged, and takes no more than people have', async () => {
    for (let i = 0; i < 100; i++) {
      tool.send('removed');
      await rig.settle();
      expect(tool.isDestroyed).toBe(true);
      tool = plug();
    }
    const more = Array.from({ length: 40 }, plug);
    await rig.settle();
    expect(more.filter(({ isDestroyed }) => isDestroyed)).toHaveLength(40 - 31);
  });
});
