import type { Fields, Struct, Values } from '../../protocols/layout.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import type { BorrowedFd } from '../../src/sys/fd.ts';
import { ioctl } from '../../src/sys/ioctl.ts';
import { NativeBuffer } from '../../src/sys/native-buffer.ts';

/** An array the kernel fills: the fields of its address and of its number of elements. */
export interface ListFields<F> {
  readonly pointer: keyof F & string;
  readonly count: keyof F & string;
  /** Bytes. */
  readonly elementSize: number;
}

/**
 * An ioctl that fills arrays: asks for their lengths, makes room, and asks again until none grew
 * meanwhile. The lists come back in the order asked for, as bytes of the caller's.
 */
export function queryLists<F extends Fields>(
  fd: BorrowedFd, request: number, name: string, type: Struct<F>, given: Partial<Values<F>>, wanted: readonly ListFields<F>[],
): { value: Values<F>; lists: Uint8Array[] } {
  let room = wanted.map(() => 0);
  for (;;) {
    using stack = new DisposableStack();
    const arrays = wanted.map(({ elementSize }, i) => (room[i]! > 0 ? stack.use(NativeBuffer.allocate(room[i]! * elementSize)) : null));
    const places = Object.fromEntries(wanted.flatMap(({ pointer, count }, i) => [[pointer, arrays[i]?.address ?? 0], [count, room[i]!]]));
    const argument = type.encode({ ...given, ...(places as Partial<Values<F>>) });
    ioctl(fd, request, name, argument);
    const value = type.decode(argument);
    const counts = wanted.map(({ count }) => value[count] as number);
    if (counts.every((count, i) => count <= room[i]!)) {
      return { value, lists: arrays.map((array, i) => array?.bytes.slice(0, counts[i]! * wanted[i]!.elementSize) ?? new Uint8Array(0)) };
    }
    room = counts;
  }
}

/** A list of ids, or of other 32-bit numbers. */
export function u32List(bytes: Uint8Array): number[] {
  return Array.from(new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4));
}
