import { describe, expect, test } from 'vitest';
import { assignScanouts } from '../../../src/cli/screens.ts';
import { FakeOutput } from '../bridge/fakes.ts';

function lit(name: string): FakeOutput {
  return new FakeOutput({ name });
}

function dark(name: string): FakeOutput {
  const output = new FakeOutput({ name });
  output.plug(null);
  return output;
}

describe('the scanouts of a guest', () => {
  test.each([
    ['are shown by a monitor each', [], [lit('A'), lit('B')], 2, { A: 0, B: 1 }],
    ['are mirrored by more monitors', [], [lit('A'), lit('B'), lit('C')], 2, { A: 0, B: 1, C: 0 }],
    ['go to monitors that are plugged in before others', [], [dark('A'), lit('B'), dark('C'), lit('D')], 2, { B: 0, D: 1, A: 0, C: 1 }],
    ['wait for a monitor where there is none', [], [dark('A')], 1, { A: 0 }],
    ['are left to monitors by headless outputs', [lit('H')], [lit('A'), lit('B')], 2, { H: 0, A: 1, B: 1 }],
    ['are shared with headless outputs that take them all', [lit('H')], [lit('A')], 1, { H: 0, A: 0 }],
  ])('%s', (_, headless, monitors, scanouts, expected) => {
    expect(Object.fromEntries(assignScanouts(headless, monitors, scanouts).map(({ output, scanout }) => [output.name, scanout]))).toEqual(expected);
  });
});
