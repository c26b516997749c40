import { beforeEach, describe, expect, test, vi } from 'vitest';
import { DRM_FORMAT, DRM_FORMAT_MOD_LINEAR } from '../../../protocols/drm-fourcc.ts';
import { Damage } from '../../../src/core/damage.ts';
import { FormatSet } from '../../../src/core/framebuffer.ts';
import { virtualMonitor } from '../../../src/core/monitor.ts';
import { FakeOutput, type GuestPicture } from './fakes.ts';
import { bridge, FIRST, logged, output, picture, source, useBridge } from './bridge-rig.ts';

const SECOND = 1;
const LINEAR = new FormatSet([[DRM_FORMAT.XRGB8888, DRM_FORMAT_MOD_LINEAR]]);

useBridge();

/** Two framebuffers, each twice; the one shown last. */
function showInTurns(screen: FakeOutput): GuestPicture {
  const [a, b] = [picture(), picture()];
  for (const p of [a, b, a, b]) {
    source.show(p.framebuffer);
    source.flush(0, 0, 64, 48);
    screen.vblank();
  }
  return b;
}

describe('outputs that mirror one scanout', () => {
  let second: FakeOutput;

  beforeEach(() => {
    second = new FakeOutput({ name: 'second' });
  });

  test("pass the guest's monitor on when the first is unplugged, and back", () => {
    const { monitor: own } = output;
    const other = virtualMonitor('other', 800, 600, 75_000);
    second.plug(other);
    bridge.show(FIRST, output);
    bridge.show(FIRST, second);
    const told = (
      [
        [output, null],
        [second, null],
        [second, other],
        [output, own],
      ] as const
    ).map(([screen, monitor]) => {
      screen.plug(monitor);
      return source.monitors[0];
    });
    expect(told).toEqual([other, null, other, own]);
  });

  test('give the guest no monitor until one of them has one', () => {
    const other = virtualMonitor('other', 800, 600, 75_000);
    second.plug(null);
    bridge.show(FIRST, second);
    bridge.show(FIRST, output);
    expect(source.monitors[0]).toBe(output.monitor);
    second.plug(other);
    expect(source.monitors[0]).toBe(other);
  });

  test('do not delay flushes while unplugged if another is lit', () => {
    second.plug(null);
    bridge.show(FIRST, output);
    bridge.show(FIRST, second);
    const a = picture();
    source.show(a.framebuffer);
    const flush = source.flush(0, 0, 64, 48);
    output.vblank();
    expect(flush.done).toHaveBeenCalledOnce();
    expect(second.presents).toHaveLength(1);
    second.vblank();
    expect(flush.done).toHaveBeenCalledOnce();
  });

  test('do not delay flushes while hidden if another is lit, and do if none is', () => {
    second.isHidden = true;
    bridge.show(FIRST, output);
    bridge.show(FIRST, second);
    const a = picture();
    source.show(a.framebuffer);
    const flush = source.flush(0, 0, 64, 48);
    output.vblank();
    expect(flush.done).toHaveBeenCalledOnce();
    second.vblank();
    output.isHidden = true;
    const b = picture();
    source.show(b.framebuffer);
    const next = source.flush(0, 0, 64, 48);
    output.vblank();
    expect(next.done).not.toHaveBeenCalled();
    second.vblank();
    expect(next.done).toHaveBeenCalledOnce();
  });

  test('pace the guest by their timers while all are unplugged', () => {
    bridge.show(FIRST, output);
    bridge.show(FIRST, second);
    output.plug(null);
    second.plug(null);
    const a = picture();
    source.show(a.framebuffer);
    const flush = source.flush(0, 0, 64, 48);
    output.vblank();
    expect(flush.done).not.toHaveBeenCalled();
    second.vblank();
    expect(flush.done).toHaveBeenCalledOnce();
  });
});

describe('an output', () => {
  test('that closes with a frame in flight completes every flush', () => {
    bridge.show(FIRST, output);
    const a = picture();
    source.show(a.framebuffer);
    const flushes = [source.flush(0, 0, 64, 48), source.flush(0, 0, 64, 48)];
    output.lose();
    expect(flushes.map((f) => f.done.mock.calls.length)).toEqual([1, 1]);
  });

  test('without the guest’s format gets converted pixels', () => {
    bridge.show(FIRST, output);
    const a = picture(8, 8, DRM_FORMAT.XBGR8888);
    a.fill(0, 0, 8, 8, 0x332211);
    source.show(a.framebuffer);
    source.flush(0, 0, 8, 8);
    expect([...output.picture().slice(0, 3)]).toEqual([0x33, 0x22, 0x11]);
  });

  test('that refuses a format for good is asked only once', () => {
    const direct = new FakeOutput({ readsPages: true });
    direct.refuse = 'format';
    bridge.show(FIRST, direct);
    const b = showInTurns(direct);
    expect(direct.importCount).toBe(1);
    expect(direct.picture()).toEqual(b.read());
    expect(logged.filter((line) => line.includes('refused'))).toHaveLength(1);
  });

  test('that refuses a size is asked once for each framebuffer', () => {
    const direct = new FakeOutput({ readsPages: true });
    direct.refuse = 'size';
    bridge.show(FIRST, direct);
    showInTurns(direct);
    expect(direct.importCount).toBe(2);
  });

  test('without memory for shadows completes flushes and logs one line', () => {
    output.failShadows = true;
    bridge.show(FIRST, output);
    const a = picture();
    source.show(a.framebuffer);
    for (let i = 0; i < 3; i++) {
      const flush = source.flush(0, 0, 64, 48);
      if (output.presents.length > 0) output.vblank();
      expect(flush.done).toHaveBeenCalledOnce();
    }
    const larger = picture(80, 60);
    source.show(larger.framebuffer);
    source.flush(0, 0, 80, 60);
    expect(logged.filter((line) => line.includes('no memory'))).toHaveLength(1);
  });
});

describe('Bridge.hide', () => {
  test('with a frame in flight lets the output be shown again at once', () => {
    bridge.show(FIRST, output);
    const a = picture();
    source.show(a.framebuffer);
    const flush = source.flush(0, 0, 64, 48);
    bridge.hide(output);
    expect(flush.done).toHaveBeenCalledOnce();

    bridge.show(FIRST, output);
    expect(output.presents).toHaveLength(2);
    expect(output.picture()).toEqual(a.read());
  });

  test('takes the picture off the output and stops presenting', () => {
    bridge.show(FIRST, output);
    const a = picture();
    source.show(a.framebuffer);
    source.flush(0, 0, 64, 48);
    output.vblank();
    expect(output.shown).not.toBeNull();
    bridge.hide(output);

    expect(output.shown).toBeNull();
    expect(output.isAttached).toBe(false);
    expect(output.presents).toHaveLength(1);
    source.flush(0, 0, 64, 48);
    expect(output.presents).toHaveLength(1);
  });

  test('with keepLast leaves the last picture on the output and disposes its handle', () => {
    const direct = new FakeOutput({ readsPages: true });
    bridge.show(FIRST, direct, { keepLast: true });
    const a = picture();
    source.show(a.framebuffer);
    source.flush(0, 0, 64, 48);
    direct.vblank();
    bridge.hide(direct);

    expect(direct.isAttached).toBe(false);
    expect(direct.shown).not.toBeNull();
    expect(direct.live).toEqual([]);
  });

  test.each([
    ['imports it where the output mirrors pictures', { mirrors: true }, 'asReadableDmabuf', 1, null],
    ['copies it where the output does not', {}, 'asReadableDmabuf', 0, 'copying the damage'],
    ['imports it where neither is possible', {}, 'asDmabuf', 1, 'they are upside down'],
  ] as const)('of a dma-buf whose first row is the lowest: %s', (_, isMirroring, kind, imports, line) => {
    const importing = Object.assign(new FakeOutput({ imports: LINEAR }), isMirroring);
    bridge.show(FIRST, importing);
    source.show({ ...picture()[kind], isBottomUp: true });
    source.flush(0, 0, 64, 48);

    expect(importing.importCount).toBe(imports);
    const lines = logged.filter((message) => message.includes('first row is the lowest'));
    expect(lines).toEqual(line === null ? [] : [expect.stringContaining(line)]);
  });

  test('with keepLast leaves nothing of a dma-buf that the CPU cannot read', () => {
    const importing = new FakeOutput({ imports: LINEAR });
    bridge.show(FIRST, importing, { keepLast: true });
    source.show(picture().asDmabuf);
    source.flush(0, 0, 64, 48);
    importing.vblank();
    bridge.hide(importing);

    expect(importing.shown).toBeNull();
    expect(logged.at(-1)).toContain('a dma-buf of LINEAR cannot be copied');
  });

  test('of an output moves it to another scanout', () => {
    bridge.show(FIRST, output);
    expect(() => bridge.show(SECOND, output)).toThrow('taken');
    bridge.hide(output);
    bridge.show(SECOND, output);
    expect(source.monitors).toEqual([null, output.monitor]);
  });
});

describe('Bridge.show', () => {
  test('of an output that cannot present throws, and leaves the output free', () => {
    source.show(picture().framebuffer);
    output.present = () => {
      throw new Error('told to throw');
    };
    expect(() => bridge.show(FIRST, output)).toThrow('told to throw');
    expect([output.isAttached, bridge.stats[FIRST]!.screens, source.monitors[FIRST]]).toEqual([false, [], null]);
  });
});

describe('an output that joins', () => {
  test('while the scanout is off shows the cursor when it comes on', () => {
    const arrow = picture(16, 16, DRM_FORMAT.ARGB8888);
    source.sink.cursor(FIRST, arrow.framebuffer, 0, 0, 5, 5);
    bridge.show(FIRST, output);
    if (output.presents.length > 0) output.vblank();
    const a = picture();
    source.show(a.framebuffer);
    source.flush(0, 0, 64, 48);

    expect(output.presents.at(-1)!.cursor).not.toBeNull();
  });
});

describe('an output without a shadow format for the cursor', () => {
  test('shows no cursor and logs it once', () => {
    const opaque = new FakeOutput({ shadowFormats: [DRM_FORMAT.XRGB8888] });
    bridge.show(FIRST, opaque);
    const arrow = picture(16, 16, DRM_FORMAT.ARGB8888);
    const a = picture();
    source.show(a.framebuffer);
    source.flush(0, 0, 64, 48);
    opaque.vblank();
    source.sink.cursor(FIRST, arrow.framebuffer, 0, 0, 5, 5);
    source.sink.halted();
    opaque.vblank();
    source.sink.cursor(FIRST, null, 0, 0, 0, 0);
    source.sink.cursor(FIRST, arrow.framebuffer, 0, 0, 5, 5);

    expect(opaque.presents.at(-1)!.cursor).toBeNull();
    expect(logged.filter((line) => line.includes('no shadow format'))).toHaveLength(1);
  });
});

describe('an output without any shadow format', () => {
  test("shows nothing of a guest that has stopped, whose memory may change, and the guest's picture when it resumes", () => {
    const direct = new FakeOutput({ readsPages: true, shadowFormats: [] });
    bridge.show(FIRST, direct);
    source.show(picture().framebuffer);
    source.flush(0, 0, 64, 48);
    direct.vblank();
    const { handle } = direct.presents.at(-1)!;
    source.sink.halted();
    expect(direct.presents.at(-1)!.handle).toBeNull();
    direct.vblank();
    source.flush(0, 0, 64, 48);
    expect(direct.presents.at(-1)!.handle).toBe(handle);
  });
});

describe('a source that flushes again from inside `done`', () => {
  /** Flushes whenever its last flush is done; the number of flushes so far. */
  function keepFlushing(next: () => void): () => number {
    let count = 0;
    const flush = (): void => {
      if (++count > 10) return;
      next();
      const damage = new Damage();
      damage.add(0, 0, 8, 8);
      source.sink.flush(FIRST, damage, { isFenced: true, done: flush });
    };
    flush();
    return () => count;
  }

  test('is paced by the screen when it flips', () => {
    bridge.show(FIRST, output);
    const [a, b] = [picture(), picture()];
    let shown = 0;
    const flushes = keepFlushing(() => source.show([a, b][shown++ % 2]!.framebuffer));
    const counts = [1, 2, 3].map(() => {
      output.vblank();
      return flushes();
    });
    expect(counts).toEqual([2, 3, 4]);
  });

  test('has a redraw that present reads done by its own commit only', () => {
    const direct = new FakeOutput({ readsPages: true });
    bridge.show(FIRST, direct);
    source.show(picture().framebuffer);
    source.flush(0, 0, 64, 48);
    const flushes = keepFlushing(() => undefined);
    direct.vblank();
    const counts = [1, 2, 3].map(() => {
      direct.vblank();
      return flushes();
    });
    expect(counts).toEqual([3, 4, 5]);
  });

  test('flips once a refresh while no output shows its scanout', () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      const [a, b] = [picture(), picture()];
      let shown = 0;
      const flushes = keepFlushing(() => source.show([a, b][shown++ % 2]!.framebuffer));
      vi.advanceTimersByTime(17);
      expect(flushes()).toBe(2);
    } finally {
      vi.useRealTimers();
    }
  });
});

describe('a flush', () => {
  test('with a fence, of pages that present reads, is done by the commit', () => {
    const direct = new FakeOutput({ readsPages: true });
    bridge.show(FIRST, direct);
    const a = picture();
    source.show(a.framebuffer);
    source.flush(0, 0, 64, 48);
    direct.vblank();
    source.flush(0, 0, 8, 8);
    const redraw = source.flush(8, 8, 8, 8);
    expect(redraw.done).not.toHaveBeenCalled();
    direct.vblank();
    expect(redraw.done).toHaveBeenCalledOnce();
  });

  test('without a fence is done at once if it redraws what is shown, and paced by the screen if it flips', () => {
    const direct = new FakeOutput({ readsPages: true });
    bridge.show(FIRST, direct);
    const a = picture();
    source.show(a.framebuffer);
    const flip = source.flush(0, 0, 64, 48, false);
    expect(flip.done).not.toHaveBeenCalled();
    direct.vblank();
    expect(flip.done).toHaveBeenCalledOnce();
    for (let i = 0; i < 100; i++) expect(source.flush(0, 0, 8, 8, false).done).toHaveBeenCalledOnce();
    expect(direct.presents).toHaveLength(2);
  });

  test('without a fence is done at once on a scanout that no output shows, unless it flips', () => {
    const a = picture();
    source.show(a.framebuffer);
    expect(source.flush(0, 0, 64, 48, false).done).not.toHaveBeenCalled();
    for (let i = 0; i < 100; i++) expect(source.flush(0, 0, 8, 8, false).done).toHaveBeenCalledOnce();
    expect(source.flush(0, 0, 8, 8, true).done).not.toHaveBeenCalled();
  });
});

test('a shadow of 16-bit pixels counts two copied bytes a pixel', () => {
  const narrow = new FakeOutput({ shadowFormats: [DRM_FORMAT.RGB565] });
  bridge.show(FIRST, narrow);
  const a = picture(8, 8, DRM_FORMAT.RGB565);
  source.show(a.framebuffer);
  source.flush(0, 0, 8, 8);

  expect(bridge.stats[0]!.screens[0]!.primary.copiedBytes).toBe(128);
});
