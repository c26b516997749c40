import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { openLibseatSeat } from '../../../../display/kms/seat.ts';
import { SysError } from '../../../../src/sys/errors.ts';
import { SeatSession } from '../../../../src/sys/lib/libseat.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';

// test/kernel has a real seat manager; here are those parts that do without.

const BACKEND = 'LIBSEAT_BACKEND';
const log = vi.fn();

describe.skipIf(!hasLibseat())('a seat', () => {
  expectNoLeaks();
  beforeEach(() => {
    vi.stubEnv('SEATD_SOCK', '/scanout-bridge-has-no-such-socket');
    vi.stubEnv(BACKEND, undefined);
    log.mockClear();
  });
  afterEach(() => vi.unstubAllEnvs());

  test('without a seat manager says so, and leaves the environment as it was', () => {
    expect(() => SeatSession.open('seatd', 0)).toThrow(new SysError('libseat_open_seat', 'ENOENT', 'seatd'));
    expect(process.env[BACKEND]).toBeUndefined();
  });

  test('of a backend that the user names is the only one tried', () => {
    vi.stubEnv(BACKEND, 'seatd');
    expect(openLibseatSeat(log)).toBeNull();
    expect(log.mock.calls).toEqual([['warn', expect.stringMatching(/^no seat from seatd: libseat_open_seat: ENOENT/)]]);
    expect(process.env[BACKEND]).toBe('seatd');
  });

  test('opens devices, gives them back once, and is disposed once', () => {
    vi.stubEnv(BACKEND, 'noop');
    const seat = openLibseatSeat(log)!;
    const card = seat.openCard('/dev/null');
    expect(card.fd.fd).toBeGreaterThan(0);
    card[Symbol.dispose]();
    card[Symbol.dispose]();
    const left = seat.openCard('/dev/null');
    seat[Symbol.dispose]();
    seat[Symbol.dispose]();
    left[Symbol.dispose]();
    expect(log.mock.calls).toEqual([['info', expect.stringMatching(/^noop of noop/)]]);
  });
});

test('without libseat there is no seat, and a backend that was asked for is missed', async () => {
  vi.doMock('koffi', async (original) => {
    const { default: koffi } = await original<{ default: { load(name: string | null): unknown } }>();
    const load = (name: string | null) => {
      if (name === 'libseat.so.1') throw new Error('no such file');
      return koffi.load(name);
    };
    return { default: { ...koffi, load } };
  });
  vi.resetModules();
  const { openLibseatSeat: open } = await import('../../../../display/kms/seat.ts');
  log.mockClear();
  expect(open(log)).toBeNull();
  expect(log).not.toHaveBeenCalled();
  vi.stubEnv(BACKEND, 'seatd');
  expect(open(log)).toBeNull();
  expect(log.mock.calls).toEqual([['warn', expect.stringContaining('install libseat1')]]);
  vi.unstubAllEnvs();
});

function hasLibseat(): boolean {
  using session = SeatSession.open('noop', 0);
  if (session !== null) return true;
  const reason = 'no seat without libseat.so.1: install libseat1';
  if (process.env['CI'] === 'true') throw new Error(reason);
  console.warn(`skipped: ${reason}`);
  return false;
}
