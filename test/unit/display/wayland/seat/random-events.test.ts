/** For any events of a compositor, requests stay valid, and what goes down in the guest comes up once. */
import { afterEach, expect, test } from 'vitest';
import { Random } from '../../../../rig/random.ts';
import { expectNoLeaks } from '../../../sys/no-leaks.ts';
import type { FakeObject } from '../fake-server.ts';
import { type FakeSeat, type FakeWindow, KEYBOARD, POINTER, SeatRig, TOUCH, keys } from './seat-rig.ts';

expectNoLeaks();

const ALL = POINTER | KEYBOARD | TOUCH;
const INHIBIT = 'zwp_keyboard_shortcuts_inhibit_manager_v1.inhibit_shortcuts';
const LOCK = 'zwp_pointer_constraints_v1.lock_pointer';
const EVENTS = 3000;
/** Few, so that devices share them; the grab shortcut's are among them. */
const CODES = [29, 56, 34, 30, 0x110, 0x2ff, 0x300, 0xffffffff];
const STATES = [0, 1, 1, 2];

let rig: SeatRig;
/** Locks and inhibitors that exist, by the pair of objects that may have one. */
const live = new Map<string, FakeObject>();
afterEach(() => {
  rig[Symbol.dispose]();
  live.clear();
});

async function open(): Promise<void> {
  rig = await SeatRig.open([
    'zwp_pointer_constraints_v1',
    'zwp_relative_pointer_manager_v1',
    'zwp_keyboard_shortcuts_inhibit_manager_v1',
    'wp_cursor_shape_manager_v1',
    'wp_viewporter',
  ]);
  rig.server.on(LOCK, ({ args }) =>
    onlyOne(LOCK, args.surface as FakeObject, args.pointer as FakeObject, args.id as FakeObject),
  );
  rig.server.on(INHIBIT, ({ args }) =>
    onlyOne(INHIBIT, args.surface as FakeObject, args.seat as FakeObject, args.id as FakeObject),
  );
}

function onlyOne(what: string, surface: FakeObject, by: FakeObject, object: FakeObject): void {
  const key = `${what} ${surface.id} ${by.id}`;
  if (live.get(key)?.isDestroyed === false) throw new Error(`${key}: there is one already`);
  live.set(key, object);
}

/** One event of any kind, for any surface. */
function sendAny(random: Random, seat: FakeSeat, surfaces: readonly FakeObject[]): void {
  const surface = random.pick(surfaces);
  const code = random.pick(CODES);
  const place = [random.below(800) - 80, random.below(600) - 60];
  const id = random.below(20);
  const { pointer, keyboard, touch } = seat;
  const events: (() => void)[] = [
    () => pointer.send('enter', random.below(99), surface, ...place),
    () => pointer.send('leave', random.below(99), surface),
    () => pointer.send('motion', 0, ...place),
    () => pointer.send('button', 1, 0, code, random.pick(STATES)),
    () => pointer.send('axis', 0, random.below(3), random.below(60) - 30),
    () => keyboard.send('enter', 1, surface, keys(code, 29, 56)),
    () => keyboard.send('leave', 1, surface),
    () => keyboard.send('key', 1, 0, code, random.pick(STATES)),
    () => keyboard.send('key', 1, 0, code, random.pick(STATES)),
    () => [29, 56, 34].forEach((shortcut) => keyboard.send('key', 1, 0, shortcut, 1)),
    () => touch.send('down', 1, 0, surface, id, ...place),
    () => touch.send('motion', 0, id, ...place),
    () => touch.send('up', 1, 0, id),
    () => touch.send('frame'),
    () => random.chance(0.1) && touch.send('cancel'),
    () => pointer.version >= 5 && pointer.send('frame'),
    () => pointer.version >= 8 && pointer.send('axis_value120', random.below(3), random.below(480) - 240),
    () =>
      [...live.values()].forEach(
        (object) =>
          !object.isDestroyed && random.chance(0.2) && object.send(object.interface.events[random.below(2)]!.name),
      ),
  ];
  random.pick(events)();
}

/**
 * What a guest that gets these lines has down at the end; keys and buttons are one kind. Throws if
 * something goes down or up twice.
 */
function follow(lines: readonly string[]): string[] {
  const down = new Set<string>();
  let isEnded = true;
  for (const line of lines) {
    const [what, code, state] = line.split(' ');
    const thing = `code ${code!}`;
    if (state === 'down' && down.has(thing)) throw new Error(`${thing} goes down twice`);
    if (state === 'down') down.add(thing);
    if (state === 'up' && !down.delete(thing)) throw new Error(`${thing} goes up and was not down`);
    if (what === 'touch' && down.has(`slot ${state!}`)) throw new Error(`slot ${state!} is taken twice`);
    if (what === 'touch') down.add(`slot ${state!}`);
    if (what === 'touch-up') down.delete(`slot ${code!}`);
    if (what === 'touch-cancel') for (const each of down) if (each.startsWith('slot')) down.delete(each);
    isEnded = what === 'frame';
  }
  if (!isEnded) down.add('a frame that does not end');
  return [...down];
}

test.each([1, 2, 3, 4, 5, 6])(
  'WaylandSeats: random events leave nothing held and no wrong request, seed %i',
  async (seed) => {
    await open();
    const random = new Random(seed);
    const windows: FakeWindow[] = [await rig.addWindow(), await rig.addWindow(), await rig.addWindow(null)];
    const stranger = rig.compositor.createSurface();
    const seats = [await rig.addSeat(1, ALL), await rig.addSeat(5, ALL), await rig.addSeat(9, ALL)];
    const surfaces = [...windows.map(({ far }) => far), rig.far(stranger)];
    const lines: string[] = [];
    for (let i = 0; i < EVENTS; i++) {
      sendAny(random, random.pick(seats), surfaces);
      if (random.chance(0.05)) lines.push(...(await rig.heard()));
      if (random.chance(0.01)) rig.setCursor(windows[0]!, random.chance(0.5) ? null : rig.image(2, 8, 8));
      if (random.chance(0.01)) rig.seats.moveCursor(windows[0]!.surface, random.below(100), random.below(100));
    }
    lines.push(...(await rig.heard()));
    for (const window of windows) rig.detach(window);
    lines.push(...(await rig.heard()));
    expect(rig.display.closeReason).toBeNull();
    expect(lines.length).toBeGreaterThan(EVENTS / 4);
    expect(windows.map(({ grabs }) => grabs.at(-1) ?? false)).toEqual([false, false, false]);
    expect(windows.flatMap(({ grabs }) => grabs).length).toBeGreaterThan(2);
    expect(follow(lines)).toEqual([]);
  },
);
