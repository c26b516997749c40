import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { Bridge } from '../../../src/bridge/bridge.ts';
import { assignScanouts, openWindows } from '../../../src/cli/screens.ts';
import { FakeOutput } from '../bridge/fakes.ts';
import { FakeHost } from '../display/wayland/fake-host.ts';
import { FakeGuest } from '../display/wayland/window-rig.ts';

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

test('openWindows: the compositor is given the XDG_ACTIVATION_TOKEN of the environment', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'scanout-screens-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  vi.stubEnv('XDG_ACTIVATION_TOKEN', 'started-by-the-menu');
  onTestFinished(() => void vi.unstubAllEnvs());
  using host = new FakeHost({ globals: { xdg_activation_v1: 1 } });
  host.server.listen(join(directory, 'wayland'));
  const nothing = (): void => undefined;
  using windows = await openWindows(
    { kind: 'wayland', display: join(directory, 'wayland') },
    'no guest',
    nothing,
    nothing,
  );
  const activated = host.server.next('xdg_activation_v1.activate');
  using bridge = new Bridge(new FakeGuest());
  bridge.show(0, windows.openOutputs(1)[0]!);

  expect((await activated).args).toMatchObject({ token: 'started-by-the-menu' });
});
