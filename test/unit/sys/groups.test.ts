import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { groupId, groupName } from '../../../src/sys/groups.ts';

test('groups have the numbers and names that getent(1) prints', () => {
  const entries = execFileSync('getent', ['group'], { encoding: 'utf8' }).trimEnd().split('\n');
  const groups = entries.map((line) => line.split(':')).map(([name, , id]) => [name!, Number(id)] as const);
  expect(groups.length).toBeGreaterThan(10);
  expect(groups.map(([name, id]) => [groupName(id), groupId(name)])).toEqual(groups);
});

test('there is none of another name or number', () => {
  expect(groupId('no-such-group')).toBeNull();
  expect(groupName(0xfffffff0)).toBeNull();
});
