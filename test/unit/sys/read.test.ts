import { expect, test } from 'vitest';
import { EventFd } from '../../../src/sys/eventfd.ts';
import { NativeBuffer } from '../../../src/sys/native-buffer.ts';
import { tryRead } from '../../../src/sys/read.ts';
import { EAGAIN } from '../../../src/sys/errors.ts';
import { expectNoLeaks } from './no-leaks.ts';

const EINVAL = 22;

expectNoLeaks();

test('what there is to read comes into the memory, and its length back', () => {
  using eventfd = EventFd.create(7);
  using buffer = NativeBuffer.allocate(16);
  expect(tryRead(eventfd, buffer.address, buffer.length)).toBe(8);
  expect(buffer.view.getBigUint64(0, true)).toBe(7n);
});

test.each([
  ['nothing there yet', 16, -EAGAIN],
  ['a buffer too short', 4, -EINVAL],
])('%s: the errno comes back, negative', (_, length, result) => {
  using eventfd = EventFd.create();
  using buffer = NativeBuffer.allocate(16);
  expect(tryRead(eventfd, buffer.address, length)).toBe(result);
});
