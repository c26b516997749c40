import { expect, test } from 'vitest';
import { errnoName, SysError } from '../../../src/sys/errors.ts';

test('errnoName: gives the usual alias, and E<number> for a number without a name', () => {
  expect(errnoName(11)).toBe('EAGAIN');
  expect(errnoName(9999)).toBe('E9999');
  expect(new SysError('open', 'ENOENT', '/x')).toMatchObject({
    message: 'open: ENOENT (/x)',
    errno: 2,
    name: 'SysError',
  });
});
