import { expect, test } from 'vitest';
import { optionalLibrary } from '../../../../src/sys/lib/library.ts';

function failing(messages: string[]): () => string | null {
  return optionalLibrary(() => {
    const message = messages.shift();
    if (message !== undefined) throw new Error(message);
    return 'loaded';
  });
}

test('optionalLibrary: a library that is not installed is not looked for again', () => {
  const load = failing([
    'Failed to load shared library: libx.so.1: cannot open shared object file: No such file or directory',
  ]);
  expect([load(), load()]).toEqual([null, null]);
});

test('optionalLibrary: a library that could not be opened for want of descriptors is tried again', () => {
  const load = failing([
    'Failed to load shared library: libx.so.1: cannot open shared object file: Too many open files',
  ]);
  expect([load(), load()]).toEqual([null, 'loaded']);
});
