import fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import { Bridge } from '../../../src/bridge/bridge.ts';
import { Damage } from '../../../src/core/damage.ts';
import type { Framebuffer } from '../../../src/core/framebuffer.ts';
import { EMPTY_RECT } from '../../../src/core/geometry.ts';
import { MemoryBudget } from '../../../src/core/budget.ts';
import { type Flush, type Source, type SourceSink } from '../../../src/core/source.ts';
import { FakeHandle, FakeOutput, GuestPicture } from './fakes.ts';

const FIRST = 0;
const NEW_COLOUR = 0x22ccff;
const JUNK = 0xbad0bad;

/** A bridge whose guest is the test. */
class Scene implements Disposable {
  readonly log: string[] = [];
  readonly budget: MemoryBudget;
  readonly output: FakeOutput;
  readonly bridge: Bridge;
  sink!: SourceSink;
  readonly #pictures: GuestPicture[] = [];

  constructor(options: { keepLast: boolean; readsPages: boolean; limit?: number }) {
    this.budget = new MemoryBudget(options.limit ?? Infinity);
    this.output = new FakeOutput({ readsPages: options.readsPages });
    const source: Source = {
      scanouts: 1,
      budget: this.budget,
      connect: (sink) => (this.sink = sink),
      setMonitor: () => undefined,
      [Symbol.dispose]: () => undefined,
    };
    this.bridge = new Bridge(source, {
      keepLast: options.keepLast,
      zeroCopy: 'off',
      log: (_, message) => this.log.push(message),
    });
    this.bridge.show(FIRST, this.output);
  }

  picture(colour: number, width = 64, height = 48): GuestPicture {
    const picture = new GuestPicture(width, height);
    picture.fill(0, 0, width, height, colour);
    this.#pictures.push(picture);
    return picture;
  }

  announce({ framebuffer }: GuestPicture): void {
    this.sink.scanout(FIRST, framebuffer, whole(framebuffer));
  }

  flush({ framebuffer }: GuestPicture): Flush & { done: ReturnType<typeof vi.fn> } {
    const damage = new Damage();
    damage.addRect(whole(framebuffer));
    const flush = { isFenced: true, done: vi.fn() };
    this.sink.flush(FIRST, damage, flush);
    return flush;
  }

  /** Shown, and on screen. */
  show(picture: GuestPicture): void {
    this.announce(picture);
    this.flush(picture);
    this.output.vblank();
  }

  /** As a reset does: off, then every framebuffer goes, and its memory with it. */
  reset(picture: GuestPicture): void {
    this.sink.scanout(FIRST, null, EMPTY_RECT);
    this.sink.cursor(FIRST, null, 0, 0, 0, 0);
    this.sink.destroyed(picture.framebuffer);
    scribble(picture);
  }

  /** Until nothing is on its way to the screen. */
  settle(): void {
    for (let i = 0; i < 3; i++) this.output.vblank();
  }

  get shown(): ReturnType<FakeOutput['presents']['at']> {
    return this.output.presents.at(-1);
  }

  [Symbol.dispose](): void {
    this.bridge[Symbol.dispose]();
    for (const picture of this.#pictures) picture[Symbol.dispose]();
  }
}

function whole({ width, height }: Framebuffer): { x: number; y: number; width: number; height: number } {
  return { x: 0, y: 0, width, height };
}

/** What firmware does with memory it thinks is free. */
function scribble(picture: GuestPicture): void {
  picture.fill(0, 0, picture.framebuffer.width, picture.framebuffer.height, JUNK);
}

describe.each([
  ['an output that reads the guest’s memory', true],
  ['an output that is given copies', false],
])('the last picture on %s', (_, readsPages) => {
  test('stays when the guest is reset and its memory changes', () => {
    using scene = new Scene({ keepLast: true, readsPages });
    const picture = scene.picture(0x123456);
    const expected = picture.read();
    scene.show(picture);
    scene.reset(picture);
    scene.output.vblank();
    expect(scene.output.picture()).toEqual(expected);
  });

  test.each([true, false])('stays when a halted source takes its memory away (last picture kept: %s)', (keepLast) => {
    using scene = new Scene({ keepLast, readsPages });
    const picture = scene.picture(0x123456);
    const expected = picture.read();
    scene.show(picture);
    scene.sink.halted();
    scene.sink.destroyed(picture.framebuffer);
    scribble(picture);
    scene.settle();
    // Anything that has the screen present again.
    scene.output.changeImports();
    scene.settle();
    expect(scene.output.picture()).toEqual(expected);
    expect(scene.bridge.stats[0]!.picture).toBeNull();
    const next = scene.picture(NEW_COLOUR);
    scene.show(next);
    scene.settle();
    expect(scene.output.presents.map(({ handle }) => handle)).not.toContain(null);
  });

  test('is the one that was in flight', () => {
    using scene = new Scene({ keepLast: true, readsPages });
    scene.show(scene.picture(0x111111));
    const picture = scene.picture(0x222222);
    const expected = picture.read();
    scene.announce(picture);
    const flush = scene.flush(picture);
    scene.reset(picture);
    scene.output.vblank();
    scene.output.vblank();
    expect(scene.output.picture()).toEqual(expected);
    expect(flush.done).toHaveBeenCalledOnce();
  });

  test('is replaced by the next guest’s picture of another size without a dark frame', () => {
    using scene = new Scene({ keepLast: true, readsPages });
    const old = scene.picture(0x123456);
    scene.show(old);
    scene.reset(old);
    scene.settle();
    const next = scene.picture(NEW_COLOUR, 80, 60);
    scene.announce(next);
    const flush = scene.flush(next);
    scene.output.vblank();
    expect(flush.done).toHaveBeenCalledOnce();
    expect(scene.output.presents.map(({ handle }) => handle)).not.toContain(null);
    expect(scene.bridge.stats[0]!.picture).toBe('80x60');
    expect(scene.output.presents.at(-1)!.damage).toEqual([[0, 0, 80, 60]]);
    if (!readsPages) expect(scene.output.picture()).toEqual(next.read());
  });

  test('is shown even if the next guest announces another size first', () => {
    using scene = new Scene({ keepLast: true, readsPages });
    const old = scene.picture(0x123456);
    const expected = old.read();
    scene.show(scene.picture(0x111111));
    scene.announce(old);
    scene.flush(old);
    scene.reset(old);
    scene.output.refuse = 'size';
    scene.announce(scene.picture(NEW_COLOUR, 80, 60));
    scene.settle();
    expect(scene.output.picture()).toEqual(expected);
    expect(scene.shown).toMatchObject({ canvas: '64x48', damage: [[0, 0, 64, 48]] });
  });

  test('is never a framebuffer that was announced and not flushed', () => {
    using scene = new Scene({ keepLast: true, readsPages });
    const old = scene.picture(0x123456);
    const expected = old.read();
    scene.show(old);
    scene.reset(old);
    scene.output.vblank();
    const next = scene.picture(NEW_COLOUR);
    scene.announce(next);
    scene.reset(next);
    scene.output.vblank();
    expect(scene.output.picture()).toEqual(expected);
  });

  test('has no cursor until the guest draws again', () => {
    using scene = new Scene({ keepLast: true, readsPages });
    const picture = scene.picture(0x123456);
    const arrow = scene.picture(0xffffff, 16, 16);
    scene.show(picture);
    scene.sink.cursor(FIRST, arrow.framebuffer, 0, 0, 5, 5);
    scene.output.vblank();
    expect(scene.shown!.cursor).not.toBeNull();
    scene.sink.halted();
    scene.output.vblank();
    expect(scene.shown!.cursor).toBeNull();
    scene.flush(picture);
    expect(scene.shown!.cursor).not.toBeNull();
  });
});

describe('a halted guest', () => {
  test('is shown with its cursor as it was, even if its memory changes', () => {
    using scene = new Scene({ keepLast: false, readsPages: true });
    const picture = scene.picture(0x123456);
    const expected = picture.read();
    scene.show(picture);
    scene.sink.cursor(FIRST, scene.picture(0xffffff, 16, 16).framebuffer, 0, 0, 5, 5);
    scene.output.vblank();
    scene.sink.halted();
    scribble(picture);
    scene.output.vblank();
    expect(scene.output.picture()).toEqual(expected);
    expect(scene.shown!.cursor).not.toBeNull();
    expect(scene.shown!.cursor).not.toBeInstanceOf(FakeHandle);
  });

  test('is shown by its earlier handles when it resumes, and the copy is freed', () => {
    using scene = new Scene({ keepLast: false, readsPages: true });
    const picture = scene.picture(0x123456);
    scene.show(picture);
    const before = { handle: scene.shown!.handle, used: scene.budget.used, imports: scene.output.importCount };
    scene.sink.halted();
    scene.output.vblank();
    const flush = scene.flush(picture);
    scene.output.vblank();
    expect(flush.done).toHaveBeenCalledOnce();
    expect({ handle: scene.shown!.handle, used: scene.budget.used, imports: scene.output.importCount }).toEqual(before);
  });

  test('goes dark when it turns out to have been reset', () => {
    using scene = new Scene({ keepLast: false, readsPages: true });
    const picture = scene.picture(0x123456);
    scene.show(picture);
    scene.sink.halted();
    scene.output.vblank();
    scene.reset(picture);
    expect(scene.shown!.handle).toBeNull();
    scene.output.vblank();
    expect(scene.budget.used).toBe(0);
  });

  test('is dark if there is no memory for a copy, and logs that once', () => {
    using scene = new Scene({ keepLast: true, readsPages: true, limit: 4096 });
    for (const picture of [scene.picture(0x111111), scene.picture(0x222222)]) {
      scene.show(picture);
      scene.reset(picture);
      scene.settle();
      expect(scene.shown!.handle).toBeNull();
    }
    expect(scene.log.filter((line) => line.includes('no memory'))).toHaveLength(1);
  });
});

test('Bridge: keeps the picture of the last flush, whatever the guest does before it goes', () => {
  const step = fc.record({
    what: fc.constantFrom('flip', 'redraw', 'halt', 'cursor', 'off'),
    colour: fc.integer({ min: 1, max: 0xffffff }),
    wide: fc.boolean(),
    vblanks: fc.integer({ min: 0, max: 2 }),
  });
  fc.assert(
    fc.property(fc.boolean(), fc.array(step, { maxLength: 20 }), (readsPages, steps) => {
      using scene = new Scene({ keepLast: true, readsPages });
      let current = scene.picture(0);
      scene.show(current);
      let expected = current.read();
      for (const { what, colour, wide, vblanks } of steps) {
        if (what === 'flip') current = scene.picture(colour, wide ? 80 : 64);
        if (what === 'redraw') current.fill(0, 0, 64, 48, colour);
        if (what === 'flip' || what === 'redraw') {
          scene.announce(current);
          scene.flush(current);
          expected = current.read();
        } else if (what === 'cursor') {
          scene.sink.cursorMoved(FIRST, colour & 63, 0);
        } else {
          scene.sink.halted();
          if (what === 'off') scene.sink.scanout(FIRST, null, EMPTY_RECT);
        }
        for (let i = 0; i < vblanks; i++) scene.output.vblank();
      }
      scene.sink.halted();
      scene.reset(current);
      scene.settle();
      expect(scene.output.picture()).toEqual(expected);
    }),
    { numRuns: 50 },
  );
});
