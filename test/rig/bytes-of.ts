import { copyRect, type Memory, type ScatteredMemory } from '../../src/sys/copy-rect.ts';
import { Mapping } from '../../src/sys/mapping.ts';

/** A copy of memory, whether in one piece or scattered. */
export function bytesOf(memory: Memory | ScatteredMemory): Uint8Array {
  using copy = Mapping.anonymous(memory.length);
  copyRect(copy, 0, memory.length, memory, 0, memory.length, memory.length, 1);
  return copy.bytes.slice();
}
