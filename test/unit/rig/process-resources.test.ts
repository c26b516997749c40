import { expect, test } from 'vitest';
import { Mapping } from '../../../src/sys/mapping.ts';
import { createMemfd } from '../../../src/sys/memfd.ts';
import { mappingCount, openFds } from '../../rig/process-resources.ts';
import { expectNoLeaks } from '../sys/no-leaks.ts';

expectNoLeaks();

test('openFds and mappingCount see a new descriptor and a new mapping', () => {
  const before = openFds();
  using fd = createMemfd('counted', 4096);
  expect(openFds().get(fd.fd)).toContain('/memfd:counted');
  expect(openFds().size).toBe(before.size + 1);
  expect(mappingCount(/memfd:counted/)).toBe(0);
  using mapping = Mapping.file(fd, 0, 4096, 'read');
  expect(mappingCount(/memfd:counted/)).toBe(1);
  expect(mapping.length).toBe(4096);
});
