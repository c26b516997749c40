/** How fast an operator types; typing.test.ts has what arrives. */
import { setImmediate } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { Operator } from '../../../src/control/operator.ts';
import type { GuestInput } from '../../../src/core/input.ts';
import { eventually } from '../../rig/eventually.ts';

/** A keyboard that counts presses, of a guest that draws when it is told to. */
function setUp() {
  const guest = { presses: 0, drawn: 0 };
  const input = {
    leds: 0,
    key: (_code: number, isPressed: boolean) => void (guest.presses += Number(isPressed)),
    frame: () => undefined,
    taken: () => Promise.resolve(),
  } as Partial<GuestInput> as GuestInput;
  const operator = new Operator(
    input,
    () => null,
    () => guest.drawn,
  );
  return { guest, operator };
}

test('type: keys that a busy program could lose wait until the guest has drawn', async () => {
  const { guest, operator } = setUp();

  const typed = operator.type('0123456789ab');
  await setImmediate();
  expect(guest.presses).toBe(5);
  guest.drawn++;
  await eventually(() => expect(guest.presses).toBeGreaterThanOrEqual(10));
  guest.drawn++;
  await typed;
  expect(guest.presses).toBe(12);
});

test('type: a guest that shows nothing of it gets all in the end', async () => {
  const { guest, operator } = setUp();

  await operator.type('secret'.repeat(20));

  expect(guest.presses).toBe(120);
});

test('type: a wait for the guest ends with the signal', async () => {
  const { guest, operator } = setUp();
  const abort = new AbortController();

  const typed = operator.type('0123456789', abort.signal);
  await setImmediate();
  abort.abort(new Error('enough'));

  await expect(typed).rejects.toThrow('enough');
  expect(guest.presses).toBe(5);
});
