import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Pump } from '../../../src/sys/pump.ts';

/** The clock that pumps see, ms: a busy machine may take as long as it likes. */
let now = 0;

beforeEach(() => void vi.spyOn(performance, 'now').mockImplementation(() => now));
afterEach(() => void vi.restoreAllMocks());

/** Takes longer than a pump's share of a turn. */
function overrun(): void {
  now += 3;
}

test('Pump: runs small pieces in the turn that started it', () => {
  let left = 3;
  using pump = new Pump(() => --left > 0);

  pump.start();

  expect(left).toBe(0);
  expect(pump.isBusy).toBe(false);
});

test('Pump: goes on in the next turn when its share is used up, once however often it is started', async () => {
  const seen: number[] = [];
  using pump = new Pump(() => {
    overrun();
    return seen.push(seen.length) < 3;
  });

  pump.start();
  pump.start();
  pump.start();
  expect(seen).toEqual([0]);

  await turn();
  expect(seen).toEqual([0, 1]);
  await turn();
  expect(seen).toEqual([0, 1, 2]);
  await turn();
  expect(seen).toEqual([0, 1, 2]);
  expect(pump.isBusy).toBe(false);
});

test('Pump: on the flip path does one piece that is not timed, and then takes its share', async () => {
  let pieces = 0;
  using pump = new Pump(
    () => {
      overrun();
      return ++pieces < 4;
    },
    { isOnFlipPath: true },
  );

  pump.start();
  expect(pieces).toBe(2);

  await turn();
  expect(pieces).toBe(3);
});

test('Pump: does not run a piece inside another that starts it', () => {
  let depth = 0;
  using pump: Pump = new Pump(() => {
    expect(++depth).toBe(1);
    pump.start();
    depth--;
    return false;
  });

  pump.start();
});

test('Pump: does nothing after it is disposed, even by its own piece', async () => {
  let pieces = 0;
  const pump: Pump = new Pump(() => {
    overrun();
    if (++pieces === 2) pump[Symbol.dispose]();
    return true;
  });

  pump.start();
  await turn();
  await turn();
  pump.start();

  expect(pieces).toBe(2);
});

test('Pump: can be started again after a piece has thrown', () => {
  let throws = true;
  let done = 0;
  using pump = new Pump(() => {
    if (throws) throw new Error('no');
    done++;
    return false;
  });

  expect(() => pump.start()).toThrow('no');
  throws = false;
  pump.start();

  expect(done).toBe(1);
});
