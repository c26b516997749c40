import { closeSync, openSync, writeSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { OwnedFd } from '../../../src/sys/fd.ts';
import { openForWriting, openPipe, readPipe, writePipe } from '../../../src/sys/pipe.ts';
import { socketPair } from '../../../src/sys/socket.ts';
import { expectNoLeaks } from './no-leaks.ts';

expectNoLeaks();

const LONG_MS = 60_000;
const NEVER = new AbortController().signal;
const BYTES = Uint8Array.from({ length: 300_000 }, (_, i) => (i * 31) >> 3);

describe('pipes', () => {
  test('carry what is longer than they hold', async () => {
    const { reading, writing } = openPipe();
    const read = readPipe(reading, BYTES.length, { timeoutMs: LONG_MS, signal: NEVER });
    expect(await writePipe(openForWriting(writing), BYTES, { timeoutMs: LONG_MS, signal: NEVER })).toBe('written');
    expect(await read).toEqual(Buffer.from(BYTES));
  });

  test('readPipe: gives up what is longer than the limit', async () => {
    const { reading, writing } = openPipe();
    const written = writePipe(openForWriting(writing), BYTES, { timeoutMs: LONG_MS, signal: NEVER });
    expect(await readPipe(reading, 1000, { timeoutMs: LONG_MS, signal: NEVER })).toBe('large');
    await expect(written).rejects.toMatchObject({ code: 'EPIPE' });
  });

  test('readPipe: an empty pipe is no data', async () => {
    const { reading, writing } = openPipe();
    writing[Symbol.dispose]();
    expect(await readPipe(reading, 10, { timeoutMs: LONG_MS, signal: NEVER })).toEqual(Buffer.alloc(0));
  });

  test('readPipe: gives up a writer that does nothing, and one that is aborted', async () => {
    const [idle, aborted] = [openPipe(), openPipe()];
    expect(await readPipe(idle.reading, 10, { timeoutMs: 1, signal: NEVER })).toBe('timeout');
    const ending = new AbortController();
    const read = readPipe(aborted.reading, 10, { timeoutMs: LONG_MS, signal: ending.signal });
    ending.abort();
    expect(await read).toBe('aborted');
    idle.writing[Symbol.dispose]();
    aborted.writing[Symbol.dispose]();
  });

  test('writePipe: a peer that makes its end blocking does not block this process', async () => {
    const { reading, writing } = openPipe();
    // The peer's end is blocking, and full.
    const ours = openForWriting(writing.dup());
    expect(await writePipe(ours, BYTES, { timeoutMs: 1, signal: NEVER })).toBe('timeout');
    reading[Symbol.dispose]();
    writing[Symbol.dispose]();
  });

  test('writePipe: a reader that has gone is an error', async () => {
    const { reading, writing } = openPipe();
    reading[Symbol.dispose]();
    const written = writePipe(openForWriting(writing), BYTES, { timeoutMs: LONG_MS, signal: NEVER });
    await expect(written).rejects.toMatchObject({ code: 'EPIPE' });
  });

  test('openForWriting: refuses what is no pipe', () => {
    const [near, far] = socketPair();
    expect(() => openForWriting(near)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    far[Symbol.dispose]();
    expect(() => openForWriting(OwnedFd.adopt(openSync('/dev/null', 'w')))).toThrow(
      expect.objectContaining({ code: 'EINVAL' }),
    );
  });

  test('openPipe: the other program gets an end that blocks', () => {
    const { reading, writing } = openPipe();
    const fd = writing.take();
    expect(writeSync(fd, BYTES, 0, 1000)).toBe(1000);
    closeSync(fd);
    reading[Symbol.dispose]();
  });
});
