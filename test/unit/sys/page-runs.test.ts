import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type PageRange, PageRuns } from '../../../src/sys/page-runs.ts';

const PAGE = 4096;
const memfds = [{ fd: 3 }, { fd: 4 }];

const ranges = fc.array(
  fc.record({
    memfd: fc.constantFrom(...memfds),
    offset: fc.nat(9).map((page) => page * PAGE),
    length: fc.integer({ min: 1, max: 3 }).map((count) => count * PAGE),
  }),
  { maxLength: 12 },
);

/** Which byte of which file each page begins at, in order. */
function pagesOf(list: Iterable<PageRange>): string[] {
  return Array.from(list).flatMap(({ memfd, offset, length }) =>
    Array.from({ length: length / PAGE }, (_, i) => `${memfd.fd}:${offset + i * PAGE}`),
  );
}

test('PageRuns: has the pages of the ranges in their order, no two runs adjoining', () => {
  fc.assert(
    fc.property(ranges, (list) => {
      const runs = PageRuns.of(list);
      expect(pagesOf(runs)).toEqual(pagesOf(list));
      expect(runs.length).toBe(list.reduce((sum, { length }) => sum + length, 0));
      const merged = [...runs];
      expect(merged).toHaveLength(runs.count);
      merged.forEach(({ memfd, offset, length }, i) => {
        const next = merged[i + 1];
        expect(next?.memfd === memfd && next.offset === offset + length).toBe(false);
      });
      expect(runs.equals(PageRuns.of([...runs]))).toBe(true);
      expect(runs.trim().cost).toBe(runs.count * 20);
    }),
  );
});

test('PageRuns: finds the run of any byte', () => {
  fc.assert(
    fc.property(ranges, (list) => {
      const runs = PageRuns.of(list);
      for (let at = 0; at < runs.length; at += PAGE / 2) {
        const run = runs.runAt(at);
        expect(runs.start(run) <= at && at < runs.end(run)).toBe(true);
      }
    }),
  );
});

test('PageRuns: a slice has the pages between two places, and none beyond the end', () => {
  fc.assert(
    fc.property(ranges, fc.nat(20), fc.nat(20), (list, from, count) => {
      const slice = PageRuns.of(list).slice(from * PAGE, (from + count) * PAGE);
      expect(pagesOf(slice)).toEqual(pagesOf(list).slice(from, from + count));
    }),
  );
});

test('PageRuns: other pages, another order or another file are not equal', () => {
  const [one, two] = memfds as [{ fd: number }, { fd: number }];
  const runs = PageRuns.of([
    { memfd: one, offset: 0, length: PAGE },
    { memfd: two, offset: 0, length: PAGE },
  ]);
  const others = [
    [{ memfd: one, offset: 0, length: PAGE }],
    [
      { memfd: two, offset: 0, length: PAGE },
      { memfd: one, offset: 0, length: PAGE },
    ],
    [
      { memfd: one, offset: 0, length: PAGE },
      { memfd: two, offset: PAGE, length: PAGE },
    ],
    [
      { memfd: one, offset: 0, length: 2 * PAGE },
      { memfd: two, offset: 0, length: PAGE },
    ],
  ];
  expect(others.map((other) => runs.equals(PageRuns.of(other)))).toEqual([false, false, false, false]);
});

test('PageRuns: takes no more runs than it has room for', () => {
  const runs = new PageRuns(1);
  runs.add(memfds[0]!, 0, PAGE);
  runs.add(memfds[0]!, PAGE, PAGE);
  expect(() => runs.add(memfds[0]!, 0, PAGE)).toThrow(RangeError);
});
