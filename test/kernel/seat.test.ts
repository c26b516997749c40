import { chmodSync, openSync } from 'node:fs';
import { beforeEach, describe, expect, test } from 'vitest';
import { KmsDevice } from '../../display/kms/device.ts';
import { openLibseatSeat, type LoginSeat } from '../../display/kms/seat.ts';
import { asNobody } from '../rig/as-nobody.ts';
import { vkmsCard } from './kms-rig.ts';
import { expectNothingLeft } from './machine.ts';
import {
  asSeatUser,
  Modeset,
  Seatd,
  SeatEvents,
  seatUser,
  skipWithoutSeatd,
  switchTo,
  terminalInFront,
} from './seat-rig.ts';

const isSkipped = skipWithoutSeatd();
const card = vkmsCard() ?? '';
const EACCES = 13;

const logged: string[] = [];
const log = (level: string, message: string): void => void logged.push(`${level}: ${message}`);

async function openSeat(): Promise<LoginSeat> {
  logged.length = 0;
  using _ = seatUser();
  return (await openLibseatSeat(log))!;
}

describe.skipIf(isSkipped)('openLibseatSeat: a seat of seatd', () => {
  expectNothingLeft();
  // udevd may have opened the card to the group.
  beforeEach(() => chmodSync(card, 0o600));

  test('lets a user without privileges set a mode, and takes the card back', async () => {
    await using seatd = await Seatd.start();
    expect(() => asSeatUser(() => openSync(card, 'r+'))).toThrow('EACCES');
    {
      using seat = await openSeat();
      expect(seat).toMatchObject({ name: 'seat0', isActive: true });
      expect(logged).toEqual(['info: seat0 of seatd']);
      using device = asSeatUser(() => KmsDevice.open(card, seat));
      using modeset = new Modeset(device);
      expect(asSeatUser(() => modeset.commit())).toBe(0);
      expect(modeset.isSet).toBe(true);
    }
    // No program is master any longer.
    KmsDevice.open(card)[Symbol.dispose]();
  });

  test('is paused while another virtual terminal is in front, and has the card again afterwards', async () => {
    await using seatd = await Seatd.start();
    const own = terminalInFront();
    const other = own === 'tty2' ? 'tty3' : 'tty2';
    using seat = await openSeat();
    const events = new SeatEvents();
    seat.listen(events);
    using device = KmsDevice.open(card, seat);
    using modeset = new Modeset(device);
    expect(modeset.commit()).toBe(0);

    for (let round = 0; round < 2; round++) {
      await switchTo(other);
      expect(await events.next()).toBe('paused');
      expect(seat.isActive).toBe(false);
      expect(modeset.commit()).toBe(-EACCES);
      expect(() => seat.openCard(card)).toThrow(
        expect.objectContaining({
          code: 'not-master',
          message: expect.stringContaining('switch to this program') as string,
        }) as Error,
      );

      await switchTo(own);
      expect(await events.next()).toBe('resumed');
      expect(seat.isActive).toBe(true);
      expect(modeset.commit()).toBe(0);
    }
    expect(events.events).toEqual([]);
  });

  test('may belong to another session at first', async () => {
    await using seatd = await Seatd.start({ isVtBound: false });
    const first = await openSeat();
    using second = await openSeat();
    const events = new SeatEvents();
    second.listen(events);
    expect(second.isActive).toBe(false);
    expect(logged).toEqual(['info: seat0 of seatd: another session is in front']);
    expect(() => second.openCard(card)).toThrow(expect.objectContaining({ code: 'not-master' }) as Error);

    first[Symbol.dispose]();
    expect(await events.next()).toBe('resumed');
    using device = KmsDevice.open(card, second);
    using modeset = new Modeset(device);
    expect(modeset.commit()).toBe(0);
  });

  test('reports what is wrong with a card', async () => {
    await using seatd = await Seatd.start();
    using seat = await openSeat();
    expect(() => seat.openCard('/dev/dri/card99')).toThrow(expect.objectContaining({ code: 'card-missing' }) as Error);
    expect(() => seat.openCard('/dev/null')).toThrow(expect.objectContaining({ code: 'card-missing' }) as Error);
  });

  test('is paused when seatd dies, and opens no card from then on', async () => {
    await using seatd = await Seatd.start();
    using seat = await openSeat();
    const events = new SeatEvents();
    seat.listen(events);
    using opened = seat.openCard(card);
    await seatd.end('SIGKILL');
    expect(await events.next()).toBe('paused');
    expect(seat.isActive).toBe(false);
    expect(logged.at(-1)).toMatch(/^error: seat0: its seat manager is gone .*restart it/);
    expect(() => seat.openCard(card)).toThrow(
      expect.objectContaining({ code: 'not-master', message: expect.stringContaining('is gone') as string }) as Error,
    );
    expect(opened.fd.fd).toBeGreaterThan(0);
  });

  test('may be disposed by a listener', async () => {
    await using seatd = await Seatd.start();
    const seat = await openSeat();
    const device = KmsDevice.open(card, seat);
    const heard = new Promise<void>((resolve) => {
      seat.listen({
        paused() {
          device[Symbol.dispose]();
          seat[Symbol.dispose]();
          resolve();
        },
        resumed: () => undefined,
      });
    });
    const own = terminalInFront();
    await switchTo(own === 'tty2' ? 'tty3' : 'tty2');
    await heard;
    await switchTo(own);
  });

  test('is refused to a user whom seatd does not admit', async () => {
    await using seatd = await Seatd.start();
    logged.length = 0;
    using _ = asNobody();
    expect(await openLibseatSeat(log)).toBeNull();
    expect(logged).toEqual([expect.stringMatching(/^warn: no seat from seatd: .*EACCES.*join the group/)]);
  });
});
