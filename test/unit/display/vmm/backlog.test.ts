import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Backlog } from '../../../../display/vmm/backlog.ts';
import { NativeView } from '../../../../src/sys/native-buffer.ts';

/** The first `count` bytes that wait, as the socket would take them. */
function take(backlog: Backlog, count: number): Buffer {
  const view = new NativeView(backlog.address, count);
  const bytes = Buffer.from(view.bytes);
  view.detach();
  backlog.consume(count);
  return bytes;
}

const KIB = 1024;
const step = fc.record({ append: fc.integer({ min: 1, max: 200 * KIB }), take: fc.integer({ min: 1, max: 200 * KIB }) });

test('bytes come out in the order they went in, whether the rest is moved to the front or to larger memory', () => {
  const moveThenGrow = [
    { append: 200 * KIB, take: 150 * KIB },
    { append: 150 * KIB, take: 1 },
    { append: 200 * KIB, take: 1 },
  ];
  fc.assert(
    fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
      using backlog = new Backlog();
      const gone: Buffer[] = [];
      const given = steps.map(({ append, take: wanted }, i) => {
        const bytes = Buffer.alloc(append, i + 1);
        backlog.append(bytes);
        gone.push(take(backlog, Math.min(wanted, backlog.length)));
        return bytes;
      });
      if (backlog.length > 0) gone.push(take(backlog, backlog.length));
      expect(Buffer.concat(gone).equals(Buffer.concat(given))).toBe(true);
    }),
    { examples: [[moveThenGrow]], numRuns: 30 },
  );
});
