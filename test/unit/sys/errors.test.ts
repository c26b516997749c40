import { expect, test } from 'vitest';
import { errnoName, SysError } from '../../../src/sys/errors.ts';

test('errno names: the usual alias, and a number without a name', () => {
  expect(errnoName(11)).toBe('EAGAIN');
  expect(errnoName(9999)).toBe('E9999');
  expect(new SysError('open', 'ENOENT', '/x')).toMatchObject({ message: 'open: ENOENT (/x)', errno: 2, name: 'SysError' });
});
