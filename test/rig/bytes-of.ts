import { copyRect, type Memory, type ScatteredMemory } from '../../src/sys/copy-rect.ts';
import { Mapping } from '../../src/sys/mapping.ts';

/** A copy of memory, whether in one piece or scattered. */
export function bytesOf(memory: Memory | ScatteredMemory): Uint8Array {
  using copy = copyOf(memory);
  return copy.bytes.slice();
}

/** Reads all of memory. Returns the sum of one byte of each page, so that reading is not optimized away. */
export function readAll(memory: Memory | ScatteredMemory): number {
  using copy = copyOf(memory);
  const { bytes } = copy;
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 4096) sum += bytes[at]!;
  return sum;
}

function copyOf(memory: Memory | ScatteredMemory): Mapping {
  const copy = Mapping.anonymous(memory.length);
  copyRect(copy, 0, memory.length, memory, 0, memory.length, memory.length, 1);
  return copy;
}
