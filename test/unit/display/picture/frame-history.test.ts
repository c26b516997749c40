import fc from 'fast-check';
import { decodeApng } from 'fast-png';
import { expect, test } from 'vitest';
import { encodeApng } from '../../../../display/picture/png.ts';
import { Damage } from '../../../../src/core/damage.ts';
import type { Rect } from '../../../../src/core/geometry.ts';
import type { Picture } from '../../../../src/core/picture.ts';
import { FrameHistory } from '../../../../display/picture/frame-history.ts';

/** A screen to draw on, with its history. */
class Screen {
  picture: Picture;
  readonly history: FrameHistory;

  constructor(width: number, height: number, seconds: number) {
    this.picture = solid(width, height, 1);
    this.history = new FrameHistory(seconds, (area) => cut(this.picture, area));
  }

  draw(timeMs: number, area: Rect, grey: number): Picture {
    fill(this.picture, area, grey);
    this.history.add(timeMs, this.picture, damageOf(area));
    return { ...this.picture, data: this.picture.data.slice() };
  }
}

function damageOf(area: Rect): Damage {
  const damage = new Damage();
  damage.addRect(area);
  return damage;
}

function solid(width: number, height: number, grey: number): Picture {
  const picture = { width, height, data: new Uint8Array(width * height * 4) };
  fill(picture, { x: 0, y: 0, width, height }, grey);
  return picture;
}

function fill({ data, width }: Picture, area: Rect, grey: number): void {
  for (let y = area.y; y < area.y + area.height; y++) {
    for (let x = area.x; x < area.x + area.width; x++) data.set([grey, grey, grey, 255], (y * width + x) * 4);
  }
}

function cut({ data, width }: Picture, area: Rect): Picture {
  const rows = Array.from({ length: area.height }, (_, y) =>
    data.subarray(((area.y + y) * width + area.x) * 4, ((area.y + y) * width + area.x + area.width) * 4),
  );
  return { width: area.width, height: area.height, data: Buffer.concat(rows) };
}

/**
 * The greys of each picture in the video. fast-png decodes each frame onto an empty screen instead of onto the frame
 * before it, so empty pixels keep their previous value here.
 */
function seen(video: Uint8Array | null): { grey: number[]; durationMs: number }[] {
  let shown: number[] = [];
  return decodeApng(video!).frames.map(({ data, delayNumber, delayDenominator }) => {
    shown = [...data].filter((_, index) => index % 3 === 0).map((grey, index) => grey || (shown[index] ?? 0));
    return { grey: shown, durationMs: (delayNumber / delayDenominator) * 1000 };
  });
}

const greys = ({ data }: Picture): number[] => [...data].filter((_, index) => index % 4 === 0);

test('FrameHistory: has no video before the first frame', () => {
  expect(new Screen(4, 4, 1).history.encode()).toBeNull();
});

test('FrameHistory: shows each frame for as long as it was on screen', () => {
  const screen = new Screen(5, 4, 10);
  const pictures = [
    screen.draw(1000, { x: 0, y: 0, width: 5, height: 4 }, 10),
    screen.draw(1100, { x: 1, y: 2, width: 2, height: 1 }, 20),
    screen.draw(1350, { x: 4, y: 0, width: 1, height: 4 }, 30),
  ];

  const video = seen(screen.history.encode());

  expect(video.map(({ grey }) => grey)).toEqual(pictures.map(greys));
  expect(video.map(({ durationMs }) => durationMs)).toEqual([100, 250, 2000]);
});

test('FrameHistory: combines frames in quick succession and always includes the last', () => {
  const screen = new Screen(4, 1, 10);
  screen.draw(0, { x: 0, y: 0, width: 4, height: 1 }, 1);
  screen.draw(10, { x: 0, y: 0, width: 1, height: 1 }, 2);
  const last = screen.draw(20, { x: 3, y: 0, width: 1, height: 1 }, 3);

  const video = seen(screen.history.encode());

  expect(video).toHaveLength(2);
  expect(video[1]!.grey).toEqual(greys(last));
});

test('FrameHistory: applies changes older than its length to the first picture', () => {
  const screen = new Screen(3, 1, 1);
  screen.draw(0, { x: 0, y: 0, width: 3, height: 1 }, 1);
  screen.draw(400, { x: 0, y: 0, width: 1, height: 1 }, 2);
  const start = screen.draw(900, { x: 1, y: 0, width: 1, height: 1 }, 3);
  const end = screen.draw(1900, { x: 2, y: 0, width: 1, height: 1 }, 4);

  const video = seen(screen.history.encode());

  expect(video.map(({ grey }) => grey)).toEqual([greys(start), greys(end)]);
});

test('FrameHistory: shows a picture smaller than the largest on black', () => {
  const screen = new Screen(2, 1, 10);
  screen.draw(0, { x: 0, y: 0, width: 2, height: 1 }, 9);
  screen.picture = solid(3, 2, 1);
  screen.draw(100, { x: 0, y: 0, width: 1, height: 1 }, 5);

  const video = seen(screen.history.encode());

  expect(video.map(({ grey }) => grey)).toEqual([
    [9, 9, 0, 0, 0, 0],
    [5, 1, 1, 1, 1, 1],
  ]);
});

test('FrameHistory: the video ends with what is on screen, whatever was drawn', () => {
  const area = fc.record({
    x: fc.nat(5),
    y: fc.nat(3),
    width: fc.integer({ min: 1, max: 3 }),
    height: fc.integer({ min: 1, max: 3 }),
  });
  fc.assert(
    fc.property(
      fc.array(fc.record({ area, grey: fc.integer({ min: 1, max: 255 }), afterMs: fc.nat(700) }), {
        minLength: 1,
        maxLength: 30,
      }),
      (frames) => {
        const screen = new Screen(8, 6, 1);
        let timeMs = 0;
        for (const { area, grey, afterMs } of frames) screen.draw((timeMs += afterMs), area, grey);

        expect(seen(screen.history.encode()).at(-1)!.grey).toEqual(greys(screen.picture));
      },
    ),
  );
});

test('FrameHistory: copies the whole screen after it was off', () => {
  const screen = new Screen(3, 1, 10);
  screen.draw(0, { x: 0, y: 0, width: 3, height: 1 }, 2);
  screen.history.add(100, { width: 0, height: 0 });
  fill(screen.picture, { x: 0, y: 0, width: 3, height: 1 }, 7);
  screen.draw(200, { x: 1, y: 0, width: 1, height: 1 }, 9);

  expect(seen(screen.history.encode()).map(({ grey }) => grey)).toEqual([
    [2, 2, 2],
    [7, 9, 7],
  ]);
});

test('FrameHistory: clips damage to the screen', () => {
  const screen = new Screen(4, 2, 10);
  screen.draw(0, { x: 0, y: 0, width: 4, height: 2 }, 3);
  fill(screen.picture, { x: 3, y: 1, width: 1, height: 1 }, 9);

  screen.history.add(
    100,
    screen.picture,
    damageOf({ x: 3, y: 1, width: 9, height: 9 }),
    damageOf({ x: -5, y: -5, width: 2, height: 2 }),
  );

  expect(seen(screen.history.encode()).at(-1)!.grey).toEqual(greys(screen.picture));
});

test('encodeApng: refuses no frames, or a frame that is not inside the first', () => {
  const frame = { x: 0, y: 0, patch: solid(2, 2, 0), durationMs: 10 };

  expect(() => encodeApng([])).toThrow(RangeError);
  expect(() => encodeApng([frame, { ...frame, x: 1 }])).toThrow('frame 1: 2x2+1+0 is not inside 2x2');
});
