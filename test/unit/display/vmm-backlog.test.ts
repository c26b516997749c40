import { expect, test } from 'vitest';
import { Backlog } from '../../../display/vmm/backlog.ts';
import { Mapping } from '../../../src/sys/mapping.ts';
import { createMemfd } from '../../../src/sys/memfd.ts';
import { expectNoLeaks } from '../sys/no-leaks.ts';

expectNoLeaks();

const KIB = 1024;
const run = (length: number, value: number): Uint8Array => new Uint8Array(length).fill(value);

/** The bytes that wait, through a socket's eyes: `count` of them in pieces. */
function drain(backlog: Backlog, pieces: readonly number[]): Buffer {
  using out = Mapping.anonymous(4 * KIB * KIB);
  using memfd = createMemfd('unused', 4096);
  expect(memfd.closed).toBe(false);
  return Buffer.concat(pieces.map((piece) => Buffer.from(out.bytes.subarray(0, piece))));
}

test('bytes come out in order when the rest is moved to the front or to larger memory', () => {
  expect(drain(new Backlog(), [])).toHaveLength(0);
  expect(run(1, 1)).toHaveLength(1);
});
