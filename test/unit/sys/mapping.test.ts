import { openSync } from 'node:fs';
import { expect, test } from 'vitest';
import { EventFd } from '../../../src/sys/eventfd.ts';
import { OwnedFd } from '../../../src/sys/fd.ts';
import { Mapping, PAGE_SIZE } from '../../../src/sys/mapping.ts';
import { createMemfd } from '../../../src/sys/memfd.ts';
import { mappingCount } from '../../rig/process-resources.ts';
import { expectNoLeaks } from './no-leaks.ts';

expectNoLeaks();

const einval = expect.objectContaining({ code: 'EINVAL' }) as Error;

test('Mapping: two mappings of one file share their bytes and outlive the descriptor', () => {
  const fd = createMemfd('shared', 3 * PAGE_SIZE);
  using whole = Mapping.file(fd, 0, 3 * PAGE_SIZE, 'read-write');
  using last = Mapping.file(fd, 2 * PAGE_SIZE, PAGE_SIZE, 'read');
  fd[Symbol.dispose]();
  whole.view.setUint32(2 * PAGE_SIZE + 8, 0xdead_beef, true);
  expect(last.view.getUint32(8, true)).toBe(0xdead_beef);
  expect(last.bytes.length).toBe(PAGE_SIZE);
});

test('Mapping: getters throw after dispose, and a second dispose does nothing', () => {
  using fd = createMemfd('gone', PAGE_SIZE);
  const mapping = Mapping.file(fd, 0, PAGE_SIZE, 'read-write');
  mapping[Symbol.dispose]();
  mapping[Symbol.dispose]();
  expect(() => mapping.bytes).toThrow('after dispose');
  expect(() => mapping.view).toThrow('after dispose');
  expect(() => mapping.address).toThrow('after dispose');
});

test('Mapping: views taken before dispose cannot be used after it', () => {
  using fd = createMemfd('views', PAGE_SIZE);
  const mapping = Mapping.file(fd, 0, PAGE_SIZE, 'read-write');
  const { bytes, view } = mapping;
  const part = bytes.subarray(16, 32);
  bytes.fill(7);
  mapping[Symbol.dispose]();
  expect(bytes.length).toBe(0);
  expect(part.length).toBe(0);
  expect(bytes[0]).toBeUndefined();
  expect(() => view.getUint8(0)).toThrow(TypeError);
  expect(() => bytes.set([1])).toThrow(TypeError);
  expect(() => new Uint8Array(bytes.buffer)).toThrow(TypeError);
});

test('Mapping: dispose unmaps the pages', () => {
  using fd = createMemfd('counted', PAGE_SIZE);
  const before = mappingCount(/memfd:counted/);
  const mapping = Mapping.file(fd, 0, PAGE_SIZE, 'read');
  expect(mappingCount(/memfd:counted/)).toBe(before + 1);
  mapping[Symbol.dispose]();
  expect(mappingCount(/memfd:counted/)).toBe(before);
});

test('Mapping.linear: maps pieces in the order given', () => {
  using fd = createMemfd('pages', 4 * PAGE_SIZE);
  using plain = Mapping.file(fd, 0, 4 * PAGE_SIZE, 'read-write');
  for (let page = 0; page < 4; page++) plain.bytes.fill(page + 1, page * PAGE_SIZE, (page + 1) * PAGE_SIZE);
  using reversed = Mapping.linear(
    [3, 2, 1, 0].map((page) => ({ fd, offset: page * PAGE_SIZE, length: PAGE_SIZE })),
    'read-write',
  );
  expect([0, 1, 2, 3].map((page) => reversed.bytes[page * PAGE_SIZE])).toEqual([4, 3, 2, 1]);
  reversed.bytes[PAGE_SIZE - 1] = 99;
  expect(plain.bytes[4 * PAGE_SIZE - 1]).toBe(99);
});

test('Mapping.linear: joins several files and may end within a page', () => {
  using one = createMemfd('one', PAGE_SIZE);
  using two = createMemfd('two', PAGE_SIZE);
  using linear = Mapping.linear(
    [
      { fd: one, offset: 0, length: PAGE_SIZE },
      { fd: two, offset: 0, length: 100 },
    ],
    'read-write',
  );
  expect(linear.bytes.length).toBe(PAGE_SIZE + 100);
  linear.bytes[PAGE_SIZE + 99] = 5;
  using second = Mapping.file(two, 0, PAGE_SIZE, 'read');
  expect(second.bytes[99]).toBe(5);
});

test.each([
  ['an unaligned offset', [{ offset: 8, length: PAGE_SIZE }]],
  [
    'an unaligned length before the last',
    [
      { offset: 0, length: 100 },
      { offset: 0, length: PAGE_SIZE },
    ],
  ],
  [
    'a piece past the end of the file',
    [
      { offset: 0, length: PAGE_SIZE },
      { offset: PAGE_SIZE, length: 2 * PAGE_SIZE },
    ],
  ],
  ['a negative offset', [{ offset: -PAGE_SIZE, length: PAGE_SIZE }]],
  [
    'an empty piece',
    [
      { offset: 0, length: 0 },
      { offset: 0, length: PAGE_SIZE },
    ],
  ],
])('Mapping.linear: refuses %s and leaves nothing mapped', (_, pieces) => {
  using fd = createMemfd('refused', 2 * PAGE_SIZE);
  expect(() =>
    Mapping.linear(
      pieces.map((piece) => ({ fd, ...piece })),
      'read',
    ),
  ).toThrow(einval);
  expect(mappingCount(/memfd:refused/)).toBe(0);
});

test('Mapping.linear: unmaps everything if a later piece fails', () => {
  using fd = createMemfd('half', PAGE_SIZE);
  using unmappable = EventFd.create();
  expect(() =>
    Mapping.linear(
      [
        { fd, offset: 0, length: PAGE_SIZE },
        { fd: unmappable, offset: 0, length: PAGE_SIZE },
      ],
      'read',
    ),
  ).toThrow(expect.objectContaining({ syscall: 'mmap', code: 'ENODEV' }) as Error);
  expect(mappingCount(/memfd:half/)).toBe(0);
});

test('Mapping.file: refuses pages past the end of the file, which would raise SIGBUS', () => {
  using fd = createMemfd('short', 100);
  expect(() => Mapping.file(fd, 0, PAGE_SIZE + 1, 'read')).toThrow(einval);
  using upToThePage = Mapping.file(fd, 0, PAGE_SIZE, 'read');
  expect(upToThePage.bytes[PAGE_SIZE - 1]).toBe(0);
});

test('Mapping.file: throws EACCES for a writable mapping of a file open for reading', () => {
  using file = OwnedFd.adopt(openSync('/proc/self/exe', 'r'));
  expect(() => Mapping.file(file, 0, PAGE_SIZE, 'read-write')).toThrow(
    expect.objectContaining({ code: 'EACCES' }) as Error,
  );
});

test.each([0, -1, 1.5, NaN, 2 ** 32, 3 * 2 ** 30 + 1])('Mapping: length %s is a RangeError', (length) => {
  using fd = createMemfd('lengths', PAGE_SIZE);
  expect(() => Mapping.anonymous(length)).toThrow(RangeError);
  expect(() => Mapping.file(fd, 0, length, 'read')).toThrow(RangeError);
});
