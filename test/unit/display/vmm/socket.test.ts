import fc from 'fast-check';
import { expect, test } from 'vitest';
import { VmmDisplayError } from '../../../../display/vmm/errors.ts';
import { Backlog, ReplyReader } from '../../../../display/vmm/socket.ts';
import { NativeView } from '../../../../src/sys/native-buffer.ts';
import { displayInfoReply, edidReply, featuresReply, words } from './fake-vmm.ts';

/** The first `count` bytes that wait, as the socket would take them. */
function take(backlog: Backlog, count: number): Buffer {
  const view = new NativeView(backlog.address, count);
  const bytes = Buffer.from(view.bytes);
  view.detach();
  backlog.consume(count);
  return bytes;
}

const KIB = 1024;
const step = fc.record({
  append: fc.integer({ min: 1, max: 200 * KIB }),
  take: fc.integer({ min: 1, max: 200 * KIB }),
});

test('Backlog: keeps the order of bytes when it moves them to the front or to larger memory', () => {
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

const anyReply = fc.oneof(
  fc.nat().map((features) => featuresReply(features)),
  fc.array(fc.record({ width: fc.nat(), height: fc.nat() }), { maxLength: 16 }).map((modes) => displayInfoReply(modes)),
  fc.uint8Array({ maxLength: 1024 }).map((edid) => edidReply(edid)),
  fc.constant(words(10, 4, 0)),
);

/** Feeds `stream` cut at the given places. */
function read(stream: Buffer, cuts: readonly number[]): Buffer[] {
  const reader = new ReplyReader();
  const replies: Buffer[] = [];
  const edges = [0, ...cuts.map((cut) => cut % (stream.length + 1)).sort((a, b) => a - b), stream.length];
  for (let i = 1; i < edges.length; i++) {
    reader.push(stream.subarray(edges[i - 1], edges[i]), (request, payload) =>
      replies.push(Buffer.concat([words(request, 4, payload.length), payload])),
    );
  }
  return replies;
}

test('ReplyReader: reads the same replies wherever the stream is cut', () => {
  fc.assert(
    fc.property(fc.array(anyReply, { maxLength: 5 }), fc.array(fc.nat(), { maxLength: 20 }), (replies, cuts) => {
      expect(Buffer.concat(read(Buffer.concat(replies), cuts)).equals(Buffer.concat(replies))).toBe(true);
    }),
  );
});

test('ReplyReader: throws a protocol error, or nothing, for bytes that are not replies', () => {
  const almost = fc
    .tuple(
      fc.constantFrom(1, 2, 3, 10, 11, 12),
      fc.constantFrom(0, 4, 5),
      fc.constantFrom(0, 8, 408, 1056, 0xffff_ffff),
      fc.uint8Array(),
    )
    .map(([request, flags, size, rest]) => Buffer.concat([words(request, flags, size), rest]));
  fc.assert(
    fc.property(
      fc.oneof(
        almost,
        fc.uint8Array({ maxLength: 4096 }).map((bytes) => Buffer.from(bytes)),
      ),
      (bytes) => {
        try {
          read(bytes, []);
        } catch (error) {
          expect(error).toBeInstanceOf(VmmDisplayError);
        }
      },
    ),
  );
});
