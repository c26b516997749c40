/** The keyboard controller, with scripted answers of QEMU's monitor; test/host/snapshots.test.ts types into a real one. */
import { expect, test, vi } from 'vitest';
import { KeyboardController } from '../../../src/qemu/keyboard-controller.ts';
import type { Qmp } from '../../../src/qemu/qmp.ts';

function controller(...answers: string[]) {
  const command = vi.fn(() => Promise.resolve(answers.length > 1 ? answers.shift() : answers[0]));
  return { command, keyboard: new KeyboardController(() => Promise.resolve({ command } as Partial<Qmp> as Qmp)) };
}

test('KeyboardController: is asked until it is empty', async () => {
  const { command, keyboard } = controller(
    'portb[0x0064] = 0x1d\r\n',
    'portb[0x0064] = 0x1d\r\n',
    'portb[0x0064] = 0x1c\r\n',
  );

  await keyboard.emptied();

  expect(command).toHaveBeenCalledTimes(3);
  expect(command).toHaveBeenCalledWith('human-monitor-command', { 'command-line': 'i /bx 0x64' });
});

test.each([
  ['whose processor has no ports', "unknown command: 'i'\r\n"],
  ['without a device at its port', 'portb[0x0064] = 0xff\r\n'],
])('KeyboardController: a machine %s has nothing to wait for', async (_which, answer) => {
  const { command, keyboard } = controller(answer);

  await keyboard.emptied();

  expect(command).toHaveBeenCalledTimes(1);
});

test('KeyboardController: a guest that does not read it is waited for once', async () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  try {
    const { command, keyboard } = controller('portb[0x0064] = 0x1d\r\n');
    command.mockImplementationOnce(() => {
      vi.advanceTimersByTime(6000);
      return Promise.resolve('portb[0x0064] = 0x1d\r\n');
    });
    await keyboard.emptied();
    const asked = command.mock.calls.length;
    await keyboard.emptied();

    expect(command).toHaveBeenCalledTimes(asked + 1);
  } finally {
    vi.useRealTimers();
  }
});
