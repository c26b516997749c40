import { describe, expect, test } from 'vitest';
import { FrameAges } from '../../../src/bridge/frame-ages.ts';
import type { Handle } from '../../../src/core/output.ts';

const FIRST = {} as Handle;
const SECOND = {} as Handle;
const EVERY = 256;

describe('FrameAges', () => {
  let now = 0;
  const ages = (): FrameAges => new FrameAges(() => now);

  /** Flushes until one is measured. */
  function measured(of: FrameAges): void {
    for (let i = 0; i < EVERY; i++) of.flushed();
  }

  const same = (ms: number): object => ({ median: ms, p99: ms });

  test('measures a frame from its flush to its release', () => {
    const frames = ages();
    now = 100;
    measured(frames);
    now = 101;
    frames.staged();
    now = 103;
    frames.presented(FIRST);
    frames.shown({ timeMs: 110 });
    now = 120;
    frames.released(SECOND);
    now = 130;
    frames.released(FIRST);
    frames.released(FIRST);
    expect(frames.stats).toEqual({ staged: same(1), presented: same(3), onScreen: same(10), released: same(30) });
  });

  test('leaves out a frame that was superseded before it was presented', () => {
    const frames = ages();
    now = 0;
    measured(frames);
    now = 5;
    frames.staged();
    now = 50;
    frames.flushed();
    now = 51;
    frames.staged();
    frames.presented(null);
    frames.shown({ timeMs: 60 });
    expect(frames.stats).toEqual({ staged: same(1), presented: same(1), onScreen: same(10), released: null });
  });

  test('counts copying once, when it was over', () => {
    const frames = ages();
    now = 0;
    measured(frames);
    now = 2;
    frames.staged();
    now = 9;
    frames.staged();
    frames.presented(FIRST);
    expect(frames.stats).toMatchObject({ staged: same(2), presented: same(9), onScreen: null });
  });

  test('says nothing before a frame is measured, and does not measure each', () => {
    const frames = ages();
    for (let i = 1; i < EVERY; i++) {
      frames.flushed();
      frames.staged();
      frames.presented(FIRST);
      frames.shown({ timeMs: 1 });
      frames.released(FIRST);
    }
    expect(frames.stats).toEqual({ staged: null, presented: null, onScreen: null, released: null });
  });

  test('hands out the times of every frame while it is traced', () => {
    const frames = ages();
    const seen: unknown[] = [];
    const stop = frames.trace((times) => seen.push(Object.values(times)));
    const frame = (start: number, handle: Handle): void => {
      now = start;
      frames.flushed();
      now = start + 1;
      frames.staged();
      now = start + 2;
      frames.presented(handle);
    };
    frame(0, FIRST);
    frames.shown({ timeMs: 10 });
    // The next is drawn and presented while the first is on screen.
    frame(11, SECOND);
    now = 20;
    frames.released(FIRST);
    expect(seen).toEqual([[0, 1, 2, 10, 20]]);
    frames.shown({ timeMs: 20 });
    // The same buffer again: it is not released in between.
    frame(21, SECOND);
    frames.shown({ timeMs: 30 });
    expect(seen.at(-1)).toEqual([11, 12, 13, 20, null]);
    // One that the compositor has copied.
    frame(31, FIRST);
    now = 35;
    frames.released(FIRST);
    frames.shown({ timeMs: 40 });
    expect(seen.slice(2)).toEqual([
      [21, 22, 23, 30, null],
      [31, 32, 33, 40, 35],
    ]);
    stop();
    frame(41, FIRST);
    frames.shown({ timeMs: 50 });
    frames.released(FIRST);
    expect(seen).toHaveLength(4);
  });

  test('has the median and the 99th percentile of the last 256', () => {
    const frames = ages();
    for (let i = 0; i < 300; i++) {
      now = 0;
      measured(frames);
      frames.presented(null);
      frames.shown({ timeMs: i });
    }
    expect(frames.stats.onScreen).toEqual({ median: 44 + 127, p99: 44 + 253 });
  });
});
