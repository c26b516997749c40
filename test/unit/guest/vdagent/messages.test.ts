import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { VD_AGENT_MAX_DATA_SIZE, VDAgentMessage, VDIChunkHeader } from '../../../../protocols/vd-agent.ts';
import { VdagentError } from '../../../../src/guest/vdagent/errors.ts';
import { MessageReader, OutgoingMessage } from '../../../../src/guest/vdagent/messages.ts';
import '../../../rig/property-seed.ts';

interface Message {
  readonly type: number;
  readonly data: Uint8Array;
}

/** A reader, and what it has put together; messages of type 0 are not wanted. */
function reading(): { readonly reader: MessageReader; readonly messages: Message[] } {
  const messages: Message[] = [];
  const reader = new MessageReader({
    begins: (type) => type !== 0,
    grows: () => undefined,
    message: (type, data) => messages.push({ type, data }),
  });
  return { reader, messages };
}

/** A message in chunks of these sizes, and the rest in one, as agents may cut it. */
function chunked({ type, data }: Message, port: number, sizes: readonly number[]): Uint8Array {
  const header = VDAgentMessage.encode({ protocol: 1, type, size: data.length });
  let rest = Buffer.concat([header, data]);
  const pieces: Uint8Array[] = [];
  for (const size of [...sizes, Infinity]) {
    const piece = rest.subarray(0, size);
    rest = rest.subarray(piece.length);
    if (piece.length > 0) pieces.push(VDIChunkHeader.encode({ port, size: piece.length }), piece);
  }
  return Buffer.concat(pieces);
}

const message = fc.record({ type: fc.nat(20), data: fc.uint8Array({ maxLength: 5000 }) });

describe('MessageReader', () => {
  test('reads the same messages however they are cut', () => {
    const cut = fc.record({ message, sizes: fc.array(fc.integer({ min: 1, max: 3000 }), { maxLength: 5 }) });
    fc.assert(
      fc.property(
        fc.array(cut, { maxLength: 5 }),
        fc.infiniteStream(fc.integer({ min: 1, max: 4000 })),
        (all, pieces) => {
          const { reader, messages } = reading();
          const stream = Buffer.concat(all.map(({ message: each, sizes }) => chunked(each, 1, sizes)));
          for (let at = 0; at < stream.length;) {
            const { value } = pieces.next() as { value: number };
            reader.take(stream.subarray(at, at + value));
            at += value;
          }
          expect(messages).toEqual(all.map((each) => each.message).filter(({ type }) => type !== 0));
        },
      ),
    );
  });

  test('passes over messages to the server, between the chunks of one for the client', () => {
    const { reader, messages } = reading();
    const mine = chunked({ type: 4, data: Uint8Array.of(1, 2, 3, 4) }, 1, [21]);
    const end = VDIChunkHeader.size + 21;
    reader.take(mine.subarray(0, end));
    reader.take(chunked({ type: 4, data: new Uint8Array(100) }, 2, []));
    reader.take(mine.subarray(end));
    expect(messages).toEqual([{ type: 4, data: Uint8Array.of(1, 2, 3, 4) }]);
  });

  test.each([
    ['a port that does not exist', () => VDIChunkHeader.encode({ port: 3, size: 4 }), /port 3/],
    [
      'another protocol',
      () => Buffer.concat([VDIChunkHeader.encode({ port: 1, size: 20 }), VDAgentMessage.encode({ protocol: 2 })]),
      /protocol 2/,
    ],
    [
      'a chunk that is longer than its message',
      () =>
        Buffer.concat([
          VDIChunkHeader.encode({ port: 1, size: 24 }),
          VDAgentMessage.encode({ protocol: 1, type: 4, size: 2 }),
          new Uint8Array(4),
        ]),
      /longer than what is left of its message, 2 bytes/,
    ],
    [
      'a chunk that goes on when its message has ended',
      () =>
        Buffer.concat([
          VDIChunkHeader.encode({ port: 1, size: 40 }),
          VDAgentMessage.encode({ protocol: 1, type: 4, size: 0 }),
        ]),
      /longer than its message/,
    ],
  ])('refuses %s', (_, bytes, why) => {
    const { reader } = reading();
    expect(() => reader.take(bytes())).toThrow(why);
  });

  test('throws VdagentError and nothing else, whatever comes', () => {
    const header = fc.record({ port: fc.nat(3), size: fc.nat(3000) }).map((fields) => VDIChunkHeader.encode(fields));
    const head = fc
      .record({ protocol: fc.nat(2), type: fc.nat(20), size: fc.nat(3000) })
      .map((fields) => VDAgentMessage.encode(fields));
    const piece = fc.oneof(header, head, fc.uint8Array({ maxLength: 200 }));
    fc.assert(
      fc.property(fc.array(piece), (pieces) => {
        const { reader } = reading();
        try {
          for (const bytes of pieces) reader.take(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(VdagentError);
        }
      }),
    );
  });
});

test('OutgoingMessage: makes chunks that the agent for Linux takes, and that read as the message', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(), { maxLength: 4 }), fc.uint8Array({ maxLength: 100_000 }), (fields, data) => {
      const outgoing = new OutgoingMessage(4, fields, data);
      const { reader, messages } = reading();
      const pieces: Uint8Array[] = [];
      while (!outgoing.isTaken) pieces.push(outgoing.take());
      const stream = Buffer.concat(pieces);
      for (let at = 0; at < stream.length; at += VDIChunkHeader.size + VDIChunkHeader.decode(stream.subarray(at)).size)
        expect(VDIChunkHeader.decode(stream.subarray(at)).size).toBeLessThanOrEqual(VD_AGENT_MAX_DATA_SIZE);
      reader.take(stream);
      const head = Buffer.from(Uint32Array.from(fields).buffer);
      expect(messages).toEqual([{ type: 4, data: new Uint8Array(Buffer.concat([head, data])) }]);
    }),
  );
});
