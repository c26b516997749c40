import { openSync } from 'node:fs';
import { expect, test } from 'vitest';
import { OwnedFd } from '../../../src/sys/fd.ts';
import { ioctl, tryIoctl } from '../../../src/sys/ioctl.ts';
import { NativeBuffer } from '../../../src/sys/native-buffer.ts';
import { UnixConnection, socketPair } from '../../../src/sys/socket.ts';
import { expectNoLeaks } from './no-leaks.ts';

const FIONREAD = 0x541b;
const ENOTTY = 25;

expectNoLeaks();

test('ioctl: the kernel writes into a struct given as bytes or as an address', () => {
  const [a, b] = socketPair();
  using near = UnixConnection.adopt(a);
  using far = UnixConnection.adopt(b);
  near.send(new Uint8Array(5));
  const bytes = new Uint8Array(4);
  expect(ioctl(far, FIONREAD, 'FIONREAD', bytes)).toBe(0);
  expect([...bytes]).toEqual([5, 0, 0, 0]);
  using struct = NativeBuffer.allocate(4);
  expect(ioctl(far, FIONREAD, 'FIONREAD', struct.address)).toBe(0);
  expect(struct.view.getUint32(0, true)).toBe(5);
  expect(tryIoctl(far, FIONREAD, struct.address)).toBe(0);
});

test('ioctl: a failure throws with its name and errno; tryIoctl returns -errno', () => {
  using fd = OwnedFd.adopt(openSync('/dev/null', 'r'));
  expect(() => ioctl(fd, 0xc0de, 'DRM_IOCTL_MODE_ATOMIC', 0)).toThrow('ioctl(DRM_IOCTL_MODE_ATOMIC): ENOTTY');
  expect(() => ioctl(fd, 0xc0de, 'IT', new Uint8Array(1))).toThrow(
    expect.objectContaining({ code: 'ENOTTY', errno: ENOTTY, syscall: 'ioctl(IT)' }) as Error,
  );
  expect(tryIoctl(fd, 0xc0de, 0)).toBe(-ENOTTY);
});

test('ioctl: passes request numbers with the top bit set', () => {
  using fd = OwnedFd.adopt(openSync('/dev/null', 'r'));
  expect(tryIoctl(fd, 0xc038_64bc, 0)).toBe(-ENOTTY);
});
