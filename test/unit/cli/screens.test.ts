import { describe, expect, test } from 'vitest';
import { assignScanouts } from '../../../src/cli/screens.ts';
import { FakeOutput } from '../bridge/fakes.ts';

function connected(name: string): FakeOutput {
  return new FakeOutput({ name });
}

function disconnected(name: string): FakeOutput {
  const output = new FakeOutput({ name });
  output.plug(null);
  return output;
}

describe('assignScanouts', () => {
  test.each([
    ['shows each scanout on a monitor', [], [connected('A'), connected('B')], 2, { A: 0, B: 1 }],
    [
      'mirrors scanouts on further monitors',
      [],
      [connected('A'), connected('B'), connected('C')],
      2,
      { A: 0, B: 1, C: 0 },
    ],
    [
      'assigns to connected monitors before disconnected ones',
      [],
      [disconnected('A'), connected('B'), disconnected('C'), connected('D')],
      2,
      { B: 0, D: 1, A: 0, C: 1 },
    ],
    ['assigns to a disconnected monitor if there is no other', [], [disconnected('A')], 1, { A: 0 }],
    [
      'assigns the rest to monitors after headless outputs',
      [connected('H')],
      [connected('A'), connected('B')],
      2,
      { H: 0, A: 1, B: 1 },
    ],
    [
      'shares scanouts between headless outputs and monitors if none are left',
      [connected('H')],
      [connected('A')],
      1,
      { H: 0, A: 0 },
    ],
  ])('%s', (_, headless, monitors, scanouts, expected) => {
    expect(
      Object.fromEntries(
        assignScanouts(headless, monitors, scanouts).map(({ output, scanout }) => [output.name, scanout]),
      ),
    ).toEqual(expected);
  });
});
