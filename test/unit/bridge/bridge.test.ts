import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { DRM_FORMAT, DRM_FORMAT_MOD_LINEAR } from '../../../protocols/drm-fourcc.ts';
import { Bridge } from '../../../src/bridge/bridge.ts';
import { Damage } from '../../../src/core/damage.ts';
import { FormatSet, type Framebuffer } from '../../../src/core/framebuffer.ts';
import { MemoryBudget } from '../../../src/core/budget.ts';
import { mappingCount, openFds } from '../../rig/process-resources.ts';
import { FakeOutput, GuestPicture } from './fakes.ts';
import { bridge, FIRST, output, picture, source, useBridge } from './bridge-rig.ts';

useBridge();

describe('a guest that flips between buffers', () => {
  test('has its flush done when the frame is on screen, not before', () => {
    bridge.show(FIRST, output);
    const a = picture();
    source.show(a.framebuffer);
    const flush = source.flush(0, 0, 64, 48);
    expect(output.presents).toHaveLength(1);
    expect(flush.done).not.toHaveBeenCalled();
    output.vblank();
    expect(flush.done).toHaveBeenCalledOnce();
  });

  test('without a copy, has its flush done only when the replaced buffer is released', () => {
    const importing = new FakeOutput({ imports: new FormatSet([[DRM_FORMAT.XRGB8888, DRM_FORMAT_MOD_LINEAR]]) });
    bridge.show(FIRST, importing);
    const [a, b] = [picture().asDmabuf, picture().asDmabuf];
    source.show(a);
    source.flush(0, 0, 64, 48);
    importing.vblank();
    source.show(b);
    const flush = source.flush(0, 0, 64, 48);
    const replaced = importing.vblank({ keepReplaced: true });
    expect(flush.done).not.toHaveBeenCalled();
    importing.release(replaced!);
    expect(flush.done).toHaveBeenCalledOnce();
    expect(bridge.stats[0]!.screens[0]!.primary.rung).toBe('dmabuf');
  });

  test('read by the output itself, has its flush done when presented, because no buffer is held', () => {
    const direct = new FakeOutput({ readsPages: true });
    bridge.show(FIRST, direct);
    for (const p of [picture(), picture()]) {
      source.show(p.framebuffer);
      const flush = source.flush(0, 0, 64, 48);
      direct.vblank({ keepReplaced: true });
      expect(flush.done).toHaveBeenCalledOnce();
    }
  });

  test("is imported again when the output's imports change, and copied if refused", () => {
    const direct = new FakeOutput({ readsPages: true });
    bridge.show(FIRST, direct);
    const p = picture();
    p.fill(0, 0, 64, 48, 0x00c0ffee);
    source.show(p.framebuffer);
    source.flush(0, 0, 64, 48);
    direct.vblank();
    direct.changeImports();
    direct.vblank();
    expect([direct.importCount, direct.live.length, direct.presents.length]).toEqual([2, 1, 2]);

    direct.refuse = 'format';
    direct.changeImports();
    expect([direct.live.length, bridge.stats[0]!.screens[0]!.primary.rung]).toEqual([0, 'shadow']);
    expect(direct.presents.at(-1)!.damage).toEqual([[0, 0, 64, 48]]);
    expect(direct.picture()).toEqual(p.read());
  });

  test('flips back to a known handle after other framebuffers were copied', () => {
    const direct = new FakeOutput({ readsPages: true });
    bridge.show(FIRST, direct);
    const flip = (to: Framebuffer): ReturnType<typeof source.flush> => {
      source.show(to);
      const flush = source.flush(0, 0, 64, 48);
      direct.vblank({ keepReplaced: true });
      return flush;
    };
    const known = picture();
    flip(known.framebuffer);
    flip(picture().asDmabuf);
    expect(bridge.stats[0]!.screens[0]!.primary.rung).toBe('shadow');

    flip(known.framebuffer);
    expect(bridge.stats[0]!.screens[0]!.primary.rung).toBe('direct');
    // What an output has read is free when it is shown, released or not.
    expect(flip(picture().framebuffer).done).toHaveBeenCalledOnce();
  });

  test('has each framebuffer imported once in 10,000 flips', () => {
    const direct = new FakeOutput({ readsPages: true });
    bridge.show(FIRST, direct);
    const buffers = [picture(), picture(), picture()];
    for (let i = 0; i < 10_000; i++) {
      source.show(buffers[i % 3]!.framebuffer);
      source.flush(0, 0, 64, 48);
      direct.vblank();
    }
    expect(direct.importCount).toBe(3);
    expect(bridge.stats[0]!.screens[0]!.primary).toMatchObject({
      rung: 'direct',
      imports: 3,
      hits: 9997,
      evictions: 0,
    });
  });

  test('faster than the screen, has its newest frame shown and every flush done', () => {
    bridge.show(FIRST, output);
    const [a, b, c] = [picture(), picture(), picture()];
    const flushes = [a, b, c].map((p, i) => {
      p.fill(0, 0, 64, 48, 0x10_10_10 * (i + 1));
      source.show(p.framebuffer);
      return source.flush(0, 0, 64, 48);
    });
    expect(output.presents).toHaveLength(1);
    output.vblank();
    expect(flushes.map((f) => f.done.mock.calls.length)).toEqual([1, 0, 0]);
    expect(output.presents).toHaveLength(2);
    expect(output.picture()).toEqual(c.read());
    output.vblank();
    expect(flushes.map((f) => f.done.mock.calls.length)).toEqual([1, 1, 1]);
    expect(output.presents).toHaveLength(2);
  });
});

describe('a guest that redraws the buffer on screen', () => {
  test('has its flush done at once when the pixels are copied', () => {
    bridge.show(FIRST, output);
    const a = picture();
    source.show(a.framebuffer);
    source.flush(0, 0, 64, 48);
    output.vblank();
    const again = source.flush(1, 2, 3, 4);
    expect(again.done).toHaveBeenCalledOnce();
    expect(output.presents.at(-1)!.damage).toEqual([[1, 2, 3, 4]]);
  });

  test('that is looked at once a frame has each flush done when its frame is on screen, a redraw as well', () => {
    bridge.show(FIRST, output);
    source.show(picture().framebuffer);
    for (let frame = 0; frame < 3; frame++) {
      const flush = source.flush(0, 0, 64, 48, true, FIRST, true);
      expect(flush.done).not.toHaveBeenCalled();
      output.vblank();
      expect(flush.done).toHaveBeenCalledOnce();
    }
  });

  test('with empty damage keeps the buffer that is on screen', () => {
    bridge.show(FIRST, output);
    source.show(picture().framebuffer);
    source.flush(0, 0, 64, 48);
    output.vblank();
    const shown = output.presents.at(-1)!.handle;

    const empty = source.flush(0, 0, 0, 0);
    output.vblank();

    expect(output.presents.at(-1)!.handle).toBe(shown);
    expect(empty.done).toHaveBeenCalledOnce();
  });

  test('has only the damage copied', () => {
    bridge.show(FIRST, output);
    const a = picture();
    source.show(a.framebuffer);
    source.flush(0, 0, 64, 48);
    output.vblank();
    source.flush(0, 0, 64, 48);
    output.vblank();
    source.flush(0, 0, 64, 48);
    output.vblank();
    const before = bridge.stats[0]!.screens[0]!.primary.copiedBytes;
    source.flush(0, 0, 10, 1);
    expect(bridge.stats[0]!.screens[0]!.primary.copiedBytes - before).toBeLessThanOrEqual(64 * 48 * 4 + 40);
    output.vblank();
    source.flush(0, 0, 10, 1);
    output.vblank();
    source.flush(0, 0, 10, 1);
    output.vblank();
    const settled = bridge.stats[0]!.screens[0]!.primary.copiedBytes;
    source.flush(5, 5, 2, 2);
    // The buffer's age: this damage and those of the frames it missed.
    expect(bridge.stats[0]!.screens[0]!.primary.copiedBytes - settled).toBeLessThanOrEqual((2 * 2 + 10) * 4);
  });

  test('is shown exactly for any damage and any pace of the screen', () => {
    const step = fc.record({
      x: fc.integer({ min: 0, max: 60 }),
      y: fc.integer({ min: 0, max: 44 }),
      width: fc.integer({ min: 1, max: 4 }),
      height: fc.integer({ min: 1, max: 4 }),
      colour: fc.nat(0xffffff),
      vblanks: fc.integer({ min: 0, max: 2 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 25 }), (steps) => {
        const slow = new FakeOutput();
        bridge.show(FIRST, slow);
        using guest = new GuestPicture(64, 48);
        source.show(guest.framebuffer);
        for (const s of steps) {
          guest.fill(s.x, s.y, s.width, s.height, s.colour);
          source.flush(s.x, s.y, s.width, s.height);
          for (let i = 0; i < s.vblanks; i++) slow.vblank();
        }
        source.flush(0, 0, 1, 1);
        slow.vblank();
        slow.vblank();
        expect(slow.picture()).toEqual(guest.read());
        bridge.hide(slow);
        source.sink.scanout(FIRST, null, { x: 0, y: 0, width: 0, height: 0 });
        source.sink.destroyed(guest.framebuffer);
      }),
      { numRuns: 60 },
    );
  });
});

describe('a scanout', () => {
  test('that shows a part of a framebuffer shows exactly that part', () => {
    bridge.show(FIRST, output);
    const a = picture();
    a.fill(0, 0, 64, 48, 0x111111);
    a.fill(10, 20, 30, 8, 0x22ccff);
    source.sink.scanout(FIRST, a.framebuffer, { x: 10, y: 20, width: 30, height: 8 });
    source.flush(10, 20, 30, 8);
    expect(output.picture()).toEqual(a.read(10, 20, 30, 8));
    expect(output.presents[0]!.damage).toEqual([[0, 0, 30, 8]]);
  });

  test('turned off blanks the screen at once', () => {
    bridge.show(FIRST, output);
    const a = picture();
    source.show(a.framebuffer);
    source.flush(0, 0, 64, 48);
    output.vblank();
    source.sink.scanout(FIRST, null, { x: 0, y: 0, width: 0, height: 0 });
    expect(output.presents.at(-1)!.handle).toBeNull();
  });

  test('on two outputs has its flush done when both have shown it', () => {
    const second = new FakeOutput({ name: 'second' });
    bridge.show(FIRST, output);
    bridge.show(FIRST, second);
    const a = picture();
    source.show(a.framebuffer);
    const flush = source.flush(0, 0, 64, 48);
    output.vblank();
    expect(flush.done).not.toHaveBeenCalled();
    second.vblank();
    expect(flush.done).toHaveBeenCalledOnce();
    expect(second.picture()).toEqual(output.picture());
  });

  test('without an output still completes flushes', async () => {
    const a = picture();
    source.show(a.framebuffer);
    await new Promise<void>((resolve) => {
      const damage = new Damage();
      damage.add(0, 0, 1, 1);
      source.sink.flush(FIRST, damage, { isFenced: true, done: resolve });
    });
  });

  test('joined by an output later is shown there without a flush', () => {
    const a = picture();
    a.fill(0, 0, 64, 48, 0xabcdef);
    source.show(a.framebuffer);
    bridge.show(FIRST, output);
    expect(output.picture()).toEqual(a.read());
  });

  test('has the monitor of the first output that shows it, then of the next', () => {
    const second = new FakeOutput({ name: 'second' });
    bridge.show(FIRST, output);
    bridge.show(FIRST, second);
    expect(source.monitors[0]).toBe(output.monitor);
    bridge.hide(output);
    expect(source.monitors[0]).toBe(second.monitor);
    bridge.hide(second);
    expect(source.monitors[0]).toBeNull();
  });
});

test("Bridge: charges shadows to the source's budget and returns it on dispose", () => {
  const budget = new MemoryBudget(64 * 48 * 4 * 8);
  source.budget = budget;
  bridge[Symbol.dispose]();
  using bounded = new Bridge(source, { zeroCopy: 'off' });
  bounded.show(FIRST, output);
  const a = picture();
  source.show(a.framebuffer);
  source.flush(0, 0, 64, 48);
  expect(budget.used).toBeGreaterThan(0);
  bounded[Symbol.dispose]();
  expect(budget.used).toBe(0);
});

test('Bridge: leaves no descriptor and no mapping behind when guests come and go', () => {
  const fds = openFds().size;
  const mappings = mappingCount();
  for (let i = 0; i < 5; i++) {
    using guest = new GuestPicture(64, 48);
    const screen = new FakeOutput();
    bridge.show(FIRST, screen);
    source.show(guest.framebuffer);
    source.flush(0, 0, 64, 48);
    screen.vblank();
    source.sink.cursor(FIRST, guest.framebuffer, 0, 0, 5, 5);
    screen.vblank();
    source.sink.cursor(FIRST, null, 0, 0, 0, 0);
    source.sink.scanout(FIRST, null, { x: 0, y: 0, width: 0, height: 0 });
    source.sink.destroyed(guest.framebuffer);
    bridge.hide(screen);
  }
  expect(openFds().size).toBe(fds);
  expect(mappingCount()).toBe(mappings);
});
