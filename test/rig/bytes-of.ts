import { copyRect, type Memory, type ScatteredMemory } from '../../src/sys/copy-rect.ts';
import { Mapping } from '../../src/sys/mapping.ts';

/** Where memory is copied to, as large as the largest so far: V8 collects garbage at once for each new one of megabytes. */
let scratch = Mapping.anonymous(4096);

/** A copy of memory, whether in one piece or scattered. */
export function bytesOf(memory: Memory | ScatteredMemory): Uint8Array {
  return copyOf(memory).slice();
}

/** Reads all of memory. Returns the sum of one byte of each page, so that reading is not optimized away. */
export function readAll(memory: Memory | ScatteredMemory): number {
  const bytes = copyOf(memory);
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 4096) sum += bytes[at]!;
  return sum;
}

/** Until the next call. */
function copyOf(memory: Memory | ScatteredMemory): Uint8Array {
  if (scratch.length < memory.length) {
    scratch[Symbol.dispose]();
    scratch = Mapping.anonymous(memory.length);
  }
  copyRect(scratch, 0, memory.length, memory, 0, memory.length, memory.length, 1);
  return scratch.bytes.subarray(0, memory.length);
}
