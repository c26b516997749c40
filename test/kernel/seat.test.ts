import { chmodSync, openSync } from 'node:fs';
import { beforeEach, describe, expect, test } from 'vitest';
import { KmsDevice } from '../../display/kms/device.ts';
import { openLibseatSeat, type LoginSeat } from '../../display/kms/seat.ts';
import { vkmsCard } from './kms-rig.ts';
import { asNobody, expectNothingLeft } from './machine.ts';
import { asSeatUser, Modeset, Seatd, SeatNews, seatUser, skipWithoutSeatd, switchTo, terminalInFront } from './seat-rig.ts';

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

describe.skipIf(isSkipped)('a seat of seatd', () => {
  expectNothingLeft();
  // Where udevd has run, the card is open to the group.
  beforeEach(() => chmodSync(card, 0o600));

  test('gives a user without rights the card to set a mode on, and takes it back', async () => {
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
    // Nobody is master any more.
    KmsDevice.open(card)[Symbol.dispose]();
  });

  test('pauses while another virtual terminal is in front, and has the card back afterwards', async () => {
    await using seatd = await Seatd.start();
    const ours = terminalInFront();
    const other = ours === 'tty2' ? 'tty3' : 'tty2';
    using seat = await openSeat();
    const news = new SeatNews();
    seat.listen(news);
    using device = KmsDevice.open(card, seat);
    using modeset = new Modeset(device);
    expect(modeset.commit()).toBe(0);

    for (let round = 0; round < 2; round++) {
      switchTo(other);
      expect(await news.next()).toBe('paused');
      expect(terminalInFront()).toBe(other);
      expect(seat.isActive).toBe(false);
      expect(modeset.commit()).toBe(-EACCES);
      expect(() => seat.openCard(card)).toThrow(expect.objectContaining({ code: 'not-master', message: expect.stringContaining('switch to this program') as string }) as Error);

      switchTo(ours);
      expect(await news.next()).toBe('resumed');
      expect(seat.isActive).toBe(true);
      expect(modeset.commit()).toBe(0);
    }
    expect(news.heard).toEqual([]);
  });

  test('may belong to somebody else at first', async () => {
    await using seatd = await Seatd.start({ isVtBound: false });
    const first = await openSeat();
    using second = await openSeat();
    const news = new SeatNews();
    second.listen(news);
    expect(second.isActive).toBe(false);
    expect(logged).toEqual(['info: seat0 of seatd: somebody else is in front of it']);
    expect(() => second.openCard(card)).toThrow(expect.objectContaining({ code: 'not-master' }) as Error);

    first[Symbol.dispose]();
    expect(await news.next()).toBe('resumed');
    using device = KmsDevice.open(card, second);
    using modeset = new Modeset(device);
    expect(modeset.commit()).toBe(0);
  });

  test('says what is wrong with a card', async () => {
    await using seatd = await Seatd.start();
    using seat = await openSeat();
    expect(() => seat.openCard('/dev/dri/card99')).toThrow(expect.objectContaining({ code: 'card-missing' }) as Error);
    expect(() => seat.openCard('/dev/null')).toThrow(expect.objectContaining({ code: 'card-missing' }) as Error);
  });

  test('pauses when seatd dies, and gives no card from then on', async () => {
    await using seatd = await Seatd.start();
    using seat = await openSeat();
    const news = new SeatNews();
    seat.listen(news);
    using opened = seat.openCard(card);
    await seatd.end('SIGKILL');
    expect(await news.next()).toBe('paused');
    expect(seat.isActive).toBe(false);
    expect(logged.at(-1)).toMatch(/^error: seat0: its seat manager is gone .*start it again/);
    expect(() => seat.openCard(card)).toThrow(expect.objectContaining({ code: 'not-master', message: expect.stringContaining('is gone') as string }) as Error);
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
    const ours = terminalInFront();
    switchTo(ours === 'tty2' ? 'tty3' : 'tty2');
    await heard;
    switchTo(ours);
  });

  test('is not for those whom seatd does not let in', async () => {
    await using seatd = await Seatd.start();
    logged.length = 0;
    using _ = asNobody();
    expect(await openLibseatSeat(log)).toBeNull();
    expect(logged).toEqual([expect.stringMatching(/^warn: no seat from seatd: .*EACCES.*join the group/)]);
  });
});
