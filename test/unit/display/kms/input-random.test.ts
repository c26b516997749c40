import fc from 'fast-check';
import { expect, test } from 'vitest';
import { InputRouter, type AttachmentWatcher, type OperatedScreen } from '../../../../display/kms/input-router.ts';
import type { InputSink, WheelAxis } from '../../../../src/core/input.ts';
import type { ScreenListener } from '../../../../src/core/output.ts';

const SIZES = [
  { width: 0, height: 0 },
  { width: 1, height: 1 },
  { width: 640, height: 480 },
];

/** A guest that checks what it is told. */
class StrictGuest implements InputSink {
  readonly leds = 0;
  readonly pressed = new Set<number>();
  readonly touches = new Set<number>();
  readonly #sizes: readonly { width: number; height: number }[];

  /** Of its scanouts. */
  constructor(sizes: readonly { width: number; height: number }[]) {
    this.#sizes = sizes;
  }

  get holdsNothing(): boolean {
    return this.pressed.size === 0 && this.touches.size === 0;
  }

  key(code: number, isPressed: boolean): void {
    expect(this.pressed.has(code)).toBe(!isPressed);
    if (isPressed) this.pressed.add(code);
    else this.pressed.delete(code);
  }

  button(code: number, isPressed: boolean): void {
    this.key(code, isPressed);
  }

  pointerMovedTo(scanout: number, x: number, y: number): void {
    const { width, height } = this.#sizes[scanout]!;
    expect(x >= 0 && x < width && y >= 0 && y < height, `${x}, ${y} in ${width}x${height}`).toBe(true);
  }

  touchDown(_scanout: number, slot: number): void {
    expect(slot >= 0 && slot < 16).toBe(true);
    this.touches.add(slot);
  }

  touchMoved(_scanout: number, slot: number): void {
    expect(this.touches.has(slot)).toBe(true);
  }

  touchUp(slot: number): void {
    expect(this.touches.delete(slot)).toBe(true);
  }

  touchCancelled(): void {
    this.touches.clear();
  }

  pointerMovedBy(): void {
    expect.unreachable('positions are absolute');
  }

  isRelative(): boolean {
    return false;
  }

  wheel(_axis: WheelAxis, v120: number): void {
    expect(v120).not.toBe(0);
  }

  frame(): void {
    // Nothing to check.
  }

  releaseAll(): void {
    expect.unreachable('it would release what windows hold');
  }

  onLeds(): () => void {
    return () => undefined;
  }
}

const code = fc.oneof(fc.integer({ min: 0, max: 0x2ff }), fc.integer({ min: 0, max: 2 ** 32 - 1 }));
const place = fc.double({ min: -2, max: 2, noNaN: true });
const slot = fc.oneof(fc.integer({ min: 0, max: 2 }), fc.integer({ min: -1, max: 40 }));
const which = fc.integer({ min: 0, max: 2 });

const step = fc.oneof(
  { weight: 3, arbitrary: fc.tuple(fc.constant('key' as const), code, fc.boolean()) },
  { weight: 3, arbitrary: fc.tuple(fc.constant('button' as const), code, fc.boolean()) },
  {
    weight: 3,
    arbitrary: fc.tuple(fc.constant('by' as const), fc.double({ min: -1e9, max: 1e9, noNaN: true }), place),
  },
  { weight: 1, arbitrary: fc.tuple(fc.constant('to' as const), which, place) },
  { weight: 8, arbitrary: fc.tuple(fc.constant('down' as const), which, slot) },
  {
    weight: 8,
    arbitrary: fc.tuple(fc.constantFrom('move' as const, 'up' as const, 'cancel' as const), slot, place),
  },
  { weight: 2, arbitrary: fc.tuple(fc.constant('attach' as const), which, fc.integer({ min: 0, max: 2 })) },
  { weight: 1, arbitrary: fc.tuple(fc.constant('detach' as const), which, which) },
  { weight: 1, arbitrary: fc.tuple(fc.constant('resize' as const), which, which) },
  { weight: 1, arbitrary: fc.tuple(fc.constant('release' as const), which, which) },
);

test('InputRouter: whatever is done, guests get only what fits together, and hold nothing once they are left', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60, size: 'max' }), (steps) => {
      const sizes = [{ ...SIZES[2]! }, { ...SIZES[2]! }, { ...SIZES[1]! }];
      const guests = [new StrictGuest(sizes), new StrictGuest(sizes)];
      let watcher: AttachmentWatcher | null = null;
      const screens = sizes.map((picture, index) => ({
        connectorName: `A-${index}`,
        monitor: { width: 100, height: 100, refreshMhz: 0, widthMm: 0, heightMm: 0, name: '' },
        listener: null as ScreenListener | null,
        picture,
        get guestScale() {
          return picture.width / 100;
        },
        toGuest: (x: number, y: number, out: { x: number; y: number }) => {
          out.x = x * picture.width;
          out.y = y * picture.height;
        },
        pointAt: (x: number, y: number) =>
          expect(x >= 0 && x < picture.width && y >= 0 && y < picture.height).toBe(true),
        pointAway: () => undefined,
        watch: (given: AttachmentWatcher | null) => void (watcher = given),
      })) satisfies OperatedScreen[];
      const router = new InputRouter(screens, () => undefined);
      const detach = (index: number): void => {
        const { listener } = screens[index]!;
        screens[index]!.listener = null;
        if (listener) watcher!.detached(listener);
      };
      for (const [kind, a, b] of steps) {
        if (kind === 'key') router.key(a, b);
        else if (kind === 'button') router.button(a, b);
        else if (kind === 'by') router.movedBy(a, b);
        else if (kind === 'to') router.movedTo(screens[a]!, b, b);
        else if (kind === 'down') router.touchDown(screens[a]!, b, 0.5, 0.5);
        else if (kind === 'move') router.touchMoved(a, b, b);
        else if (kind === 'up') router.touchUp(a);
        else if (kind === 'cancel') router.touchCancelled(a);
        else if (kind === 'resize') Object.assign(sizes[a]!, SIZES[b]);
        else if (kind === 'detach') detach(a);
        else if (kind === 'release') {
          router.releaseAll();
          expect(guests.every(({ holdsNothing }) => holdsNothing)).toBe(true);
        } else {
          detach(a);
          screens[a]!.listener = { scanout: a, input: guests[b] ?? null } as unknown as ScreenListener;
          watcher!.attached();
        }
        router.frame();
      }
      screens.forEach((_, index) => detach(index));
      expect(guests.every(({ holdsNothing }) => holdsNothing)).toBe(true);
      router[Symbol.dispose]();
    }),
    { numRuns: 500 },
  );
});
