import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import * as wire from '../../../protocols/export.ts';
import type { Struct } from '../../../protocols/layout.ts';
import { compareWithHeaders, prefixed, skipWithoutC } from '../../rig/c-headers.ts';

type AnyStruct = Struct<any>; // eslint-disable-line @typescript-eslint/no-explicit-any

test.skipIf(skipWithoutC())('docs/export.md: its C declarations are those that are spoken', () => {
  const directory = mkdtempSync(join(tmpdir(), 'export-header-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const document = readFileSync(join(import.meta.dirname, '../../../docs/export.md'), 'utf8');
  writeFileSync(join(directory, 'scanout-export.h'), /^```c\n(.*?)^```/ms.exec(document)![1]!);
  const structs = Object.values<unknown>(wire).filter(
    (value): value is AnyStruct => typeof value === 'object' && value !== null && 'fields' in value,
  );
  const numbers = Object.fromEntries(
    Object.entries<unknown>(wire).filter((entry): entry is [string, number] => typeof entry[1] === 'number'),
  );

  const { differences, absent, compared } = compareWithHeaders({
    headers: ['scanout-export.h'],
    cflags: [`-I${directory}`],
    structs,
    constants: {
      ...numbers,
      ...prefixed('EXPORT_EVENT_', wire.EXPORT_EVENT),
      ...prefixed('EXPORT_REQUEST_', wire.EXPORT_REQUEST),
      ...prefixed('EXPORT_ERROR_', wire.EXPORT_ERROR),
      ...prefixed('EXPORT_KIND_', wire.EXPORT_KIND),
      ...prefixed('PRODUCER_RESULT_', wire.PRODUCER_RESULT),
    },
  });

  expect([differences, absent]).toEqual([[], []]);
  expect(structs.length).toBe(14);
  expect(compared).toBeGreaterThan(100);
});

test.each([
  [wire.export_header, 8],
  [wire.export_hello, 24],
  [wire.export_layer, 104],
  [wire.export_frame, 512],
  [wire.export_release, 40],
  [wire.producer_ready, 40],
])('%# export messages keep their sizes', (struct, size) => {
  expect(struct.size).toBe(size);
});
