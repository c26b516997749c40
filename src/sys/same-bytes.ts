import { memcmp } from './libc.ts';
import type { Mapping } from './mapping.ts';

/**
 * Whether `length` bytes of two mappings are equal. Offsets are in bytes. Allocates nothing. RangeError if any byte lies
 * outside either mapping. Of memory that changes meanwhile it may say either.
 */
export function sameBytes(a: Mapping, aOffset: number, b: Mapping, bOffset: number, length: number): boolean {
  // Written so that NaN is refused.
  if (!(aOffset >= 0 && bOffset >= 0 && length >= 0 && aOffset + length <= a.length && bOffset + length <= b.length))
    throw new RangeError(`${length} bytes at ${aOffset} of ${a.length} and at ${bOffset} of ${b.length}`);
  return memcmp(a.address + aOffset, b.address + bOffset, length) === 0;
}
