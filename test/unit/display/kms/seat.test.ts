import { writeSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { openLibseatSeat } from '../../../../display/kms/seat.ts';
import { SysError } from '../../../../src/sys/errors.ts';
import { socketPair } from '../../../../src/sys/socket.ts';
import { SeatSession } from '../../../../src/sys/lib/libseat.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';

// test/kernel tests with a real seat manager; these tests need none.

const BACKEND = 'LIBSEAT_BACKEND';
const log = vi.fn();

describe.skipIf(!(await hasLibseat()))('openLibseatSeat, with libseat installed,', () => {
  expectNoLeaks();
  beforeEach(() => {
    vi.stubEnv('SEATD_SOCK', '/scanout-bridge-has-no-such-socket');
    vi.stubEnv(BACKEND, undefined);
    log.mockClear();
  });
  afterEach(() => vi.unstubAllEnvs());

  test('reports that there is no seat manager, and leaves the environment unchanged', async () => {
    await expect(SeatSession.open('seatd', 0)).rejects.toThrow(new SysError('libseat_open_seat', 'ENOENT', 'seatd'));
    expect(process.env[BACKEND]).toBeUndefined();
  });

  test('tries no other backend than the one in LIBSEAT_BACKEND', async () => {
    vi.stubEnv(BACKEND, 'seatd');
    expect(await openLibseatSeat(log)).toBeNull();
    expect(log.mock.calls).toEqual([['warn', expect.stringMatching(/^no seat from seatd: libseat_open_seat: ENOENT/)]]);
    expect(process.env[BACKEND]).toBe('seatd');
  });

  test('opens devices, and may be disposed twice, before them or after', async () => {
    vi.stubEnv(BACKEND, 'noop');
    const seat = (await openLibseatSeat(log))!;
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

test('openLibseatSeat: without libseat returns null, and warns if LIBSEAT_BACKEND is set', async () => {
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
  expect(await open(log)).toBeNull();
  expect(log).not.toHaveBeenCalled();
  vi.stubEnv(BACKEND, 'seatd');
  expect(await open(log)).toBeNull();
  expect(log.mock.calls).toEqual([['warn', expect.stringContaining('install libseat1')]]);
  vi.unstubAllEnvs();
});

/** A libseat whose seat manager hands out the seat when the test says so; the timeouts it was told to block for. */
class FakeLibseat implements Disposable {
  readonly timeouts: number[] = [];
  readonly #ends = socketPair();
  readonly #callbacks: (() => void)[] = [];
  #isOffered = false;

  async import(): Promise<typeof openLibseatSeat> {
    const functions: Readonly<Record<string, (...args: never[]) => unknown>> = {
      libseat_open_seat: () => 1,
      libseat_get_fd: () => this.#ends[0].fd,
      libseat_seat_name: () => 'seat0',
      libseat_dispatch: (_seat: number, timeoutMs: number) => this.#dispatch(timeoutMs),
    };
    vi.doMock('koffi', async (original) => {
      const { default: koffi } = await original<{ default: { load(name: string | null): unknown } }>();
      const load = (name: string | null) =>
        name === 'libseat.so.1' ? { func: (called: string) => functions[called] ?? (() => 0) } : koffi.load(name);
      const register = (call: () => void): bigint => BigInt(this.#callbacks.push(call));
      return { default: { ...koffi, load, register, unregister: () => undefined } };
    });
    vi.resetModules();
    return (await import('../../../../display/kms/seat.ts')).openLibseatSeat;
  }

  offer(): void {
    this.#isOffered = true;
    writeSync(this.#ends[1].fd, 'x');
  }

  [Symbol.dispose](): void {
    for (const end of this.#ends) end[Symbol.dispose]();
  }

  #dispatch(timeoutMs: number): number {
    this.timeouts.push(timeoutMs);
    // enable_seat.
    if (this.#isOffered) this.#callbacks[0]!();
    return 0;
  }
}

describe('openLibseatSeat', () => {
  test('lets the event loop run while the seat manager switches to this program', async () => {
    using libseat = new FakeLibseat();
    vi.stubEnv(BACKEND, 'seatd');
    const open = await libseat.import();
    const opening = open(log);
    await new Promise((resolve) => setImmediate(resolve));
    libseat.offer();
    using seat = (await opening)!;
    expect([seat.name, seat.isActive]).toEqual(['seat0', true]);
    expect(new Set(libseat.timeouts)).toEqual(new Set([0]));
    vi.unstubAllEnvs();
  });
});

async function hasLibseat(): Promise<boolean> {
  using session = await SeatSession.open('noop', 0);
  if (session !== null) return true;
  const reason = 'no seat without libseat.so.1: install libseat1';
  if (process.env['CI'] === 'true') throw new Error(reason);
  console.warn(`skipped: ${reason}`);
  return false;
}
