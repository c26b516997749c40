import { expect, test } from 'vitest';
import {
  vringAvailEventOffset,
  vringAvailSize,
  vringDescSize,
  vringUsedEventOffset,
  vringUsedSize,
} from '../../../protocols/virtio-ring.ts';

test('the areas of a virtqueue have the sizes of the virtio specification', () => {
  /* "The Virtqueues": 16 n, 6 + 2 n and 6 + 8 n bytes. */
  for (const num of [1, 256, 1024, 32768]) {
    expect(vringDescSize(num)).toBe(16 * num);
    expect(vringAvailSize(num)).toBe(6 + 2 * num);
    expect(vringUsedSize(num)).toBe(6 + 8 * num);
    expect(vringUsedEventOffset(num)).toBe(vringAvailSize(num) - 2);
    expect(vringAvailEventOffset(num)).toBe(vringUsedSize(num) - 2);
  }
});
