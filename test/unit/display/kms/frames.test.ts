import { describe, expect, test } from 'vitest';
import { VblankCount } from '../../../../display/kms/frames.ts';

describe('VblankCount', () => {
  test("grows over the wrap of the hardware's count, over blanks the hardware did not count, and over a reset", () => {
    const vblanks = new VblankCount();
    const counts = [
      () => vblanks.counted(0xffff_fffe),
      () => vblanks.counted(1),
      () => vblanks.uncounted(),
      () => vblanks.counted(2),
      () => vblanks.reset(),
      () => vblanks.counted(0),
      () => vblanks.counted(5),
    ].map((step) => {
      step();
      return vblanks.count;
    });
    expect(counts).toEqual([1, 4, 5, 6, 6, 7, 12]);
  });
});
