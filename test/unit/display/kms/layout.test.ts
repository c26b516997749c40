import { beforeEach, describe, expect, test } from 'vitest';
import type { PipeRequest, PlaneSlots } from '../../../../display/kms/atomic.ts';
import { KmsBuffer } from '../../../../display/kms/buffer.ts';
import type { KmsDevice } from '../../../../display/kms/device.ts';
import { Layout, place } from '../../../../display/kms/layout.ts';
import type { Pipe } from '../../../../display/kms/resources.ts';
import {
  DRM_FORMAT,
  DRM_FORMAT_MOD_LINEAR,
  type Fourcc,
  type Modifier,
  modifierCode,
} from '../../../../protocols/drm-fourcc.ts';
import { newFramebufferId } from '../../../../src/core/framebuffer.ts';
import { MutableRect, type Rect } from '../../../../src/core/geometry.ts';
import type { Frame } from '../../../../src/core/output.ts';

describe('place: a picture', () => {
  const screen = { width: 1024, height: 768 };

  test.each([
    ['as large as the screen fills it', 1024, 768, [0, 0, 1024, 768]],
    ['smaller than the screen is centred, pixel for pixel', 640, 481, [192, 143, 640, 481]],
    ['wider than the screen is scaled down with its aspect ratio kept', 2048, 768, [0, 192, 1024, 384]],
    ['higher than the screen is scaled down with its aspect ratio kept', 512, 1536, [384, 0, 256, 768]],
    ['larger than the screen in both directions is scaled down to fit', 4096, 3072, [0, 0, 1024, 768]],
    ['one pixel wide is never scaled down to nothing', 1, 16384, [511, 0, 1, 768]],
  ])('%s', (_, width, height, expected) => {
    const at = new MutableRect().set(9, 9, 9, 9);
    place({ width, height }, screen, at);
    expect([at.x, at.y, at.width, at.height]).toEqual(expected);
  });
});

const SCREEN: Rect = { x: 0, y: 0, width: 640, height: 480 };
const EINVAL = 22;

function buffer(
  width: number,
  height: number,
  modifier: Modifier = DRM_FORMAT_MOD_LINEAR,
  format: Fourcc = DRM_FORMAT.XRGB8888,
): KmsBuffer {
  const device = {
    hasModifiers: true,
    gem: { import: () => 1, release: () => undefined },
    ioctl: () => undefined,
  } as unknown as KmsDevice;
  const framebuffer = {
    id: newFramebufferId(),
    width,
    height,
    format,
    modifier,
    planes: [{ offset: 0, stride: width * 4 }],
  };
  const made = KmsBuffer.import(
    device,
    { ...framebuffer, backing: { kind: 'dmabuf', dmabuf: { fd: 0 } } },
    { fd: 0 },
    format,
  ) as KmsBuffer;
  // The device above gives no ids.
  made.fbAs = () => 7 as ReturnType<KmsBuffer['fbAs']>;
  return made;
}

/** The whole of a picture; the cursor, 64x64, is at `x`, `y`. */
function frameOf({ width, height }: KmsBuffer, x = 0, y = 0): Frame {
  const whole = { x: 0, y: 0, width, height };
  return {
    canvas: whole,
    primary: { src: whole },
    cursor: { src: { x: 0, y: 0, width: 64, height: 64 }, dst: { x, y, width: 64, height: 64 } },
    hotspotX: 0,
    hotspotY: 0,
  } as unknown as Frame;
}

/** One plane of a request: what was written last. */
class Slots {
  at: string | null = null;

  show(_fb: number, _src: Rect, x: number, y: number, width: number, height: number): void {
    this.at = `${width}x${height} at ${x},${y}`;
  }

  hide(): void {
    this.at = null;
  }

  hotspot(): void {
    // test/unit/display/kms/crtc-planes.test.ts has a card for it.
  }
}

/** The planes of the request, and a driver that refuses what `refuses` says. */
class Card {
  readonly primary = new Slots();
  readonly cursor = new Slots();
  readonly overlay = new Slots();
  readonly planes = 3;
  readonly composed = buffer(SCREEN.width, SCREEN.height);
  tests = 0;
  refuses: (card: this) => boolean = () => false;
  readonly layout: Layout;

  constructor() {
    const plane = { formats: { has: () => true } };
    this.layout = new Layout({
      request: this as unknown as PipeRequest,
      pipe: { primary: plane, cursor: plane, overlay: plane } as unknown as Pipe,
      screen: SCREEN,
      background: buffer(SCREEN.width, SCREEN.height),
      black: buffer(SCREEN.width, SCREEN.height),
      composed: () => this.composed,
    });
  }

  test(): number {
    this.tests++;
    return this.refuses(this) ? -EINVAL : 0;
  }

  /** Lays a frame and commits it: what the planes show, and how often the driver was asked. */
  lay(picture: KmsBuffer, cursor: KmsBuffer | null = null, x = 0, y = 0): string {
    const before = this.tests;
    const assignment = this.layout.lay(frameOf(picture, x, y), picture, cursor, true);
    if (!assignment) return `nothing, ${this.tests - before} tests`;
    this.layout.accepted();
    const plane = assignment.slots === (this.primary as unknown as PlaneSlots) ? 'primary' : 'overlay';
    const what = [`${assignment.isComposed ? 'composed' : 'picture'} on ${plane}`];
    if (assignment.composedCursor) what.push('cursor composed');
    else if (this.cursor.at) what.push('cursor on cursor');
    else if (plane === 'primary' && this.overlay.at) what.push('cursor on overlay');
    return `${what.join(', ')}; ${assignment.planes} planes, ${this.tests - before} tests`;
  }
}

describe('Layout', () => {
  const picture = buffer(320, 200);
  const cursor = buffer(64, 64, DRM_FORMAT_MOD_LINEAR, DRM_FORMAT.ARGB8888);
  let card: Card;
  beforeEach(() => (card = new Card()));

  test.each<[string, (card: Card) => boolean, string]>([
    [
      'that takes everything: each on its own plane',
      () => false,
      'picture on primary, cursor on cursor; 2 planes, 1 tests',
    ],
    [
      'whose cursor plane refuses: cursor on the overlay',
      (of) => of.cursor.at !== null,
      'picture on primary, cursor on overlay; 3 planes, 2 tests',
    ],
    [
      'whose primary must fill the screen: picture on the overlay',
      (of) => of.primary.at !== '640x480 at 0,0',
      'picture on overlay, cursor on cursor; 3 planes, 3 tests',
    ],
    [
      'that has no use for overlays: picture drawn by the CPU',
      (of) => of.primary.at !== '640x480 at 0,0' || of.overlay.at !== null,
      'composed on primary, cursor on cursor; 2 planes, 4 tests',
    ],
    [
      'with one plane that must fill the screen: all drawn by the CPU',
      (of) => of.primary.at !== '640x480 at 0,0' || of.overlay.at !== null || of.cursor.at !== null,
      'composed on primary, cursor composed; 1 planes, 5 tests',
    ],
    ['that refuses everything: nothing', () => true, 'nothing, 5 tests'],
  ])('on hardware %s', (_, refuses, expected) => {
    card.refuses = refuses;
    expect(card.lay(picture, cursor, 10, 10)).toBe(expected);
    expect(card.lay(picture, cursor, 20, 10)).toBe(expected.replace(/\d tests/, '0 tests'));
  });

  test('asks the driver again for another size, format, tiling or cursor', () => {
    const [xTiled, yTiled] = [modifierCode('INTEL', 1n), modifierCode('INTEL', 2n)];
    const asked = (...args: Parameters<Card['lay']>): boolean => !card.lay(...args).endsWith('0 tests');
    const kinds: Parameters<Card['lay']>[] = [
      [picture],
      [buffer(320, 201)],
      [buffer(320, 200, DRM_FORMAT_MOD_LINEAR, DRM_FORMAT.ARGB8888)],
      [buffer(320, 200, xTiled)],
      [buffer(320, 200, yTiled)],
      [picture, cursor],
      [picture, buffer(64, 64, xTiled)],
      [picture, buffer(64, 64, yTiled)],
      // Beyond the edge of the screen: 160 pixels are left of the picture.
      [buffer(640, 480), cursor, 10, 10],
      [buffer(640, 480), cursor, -10, 10],
    ];
    expect(kinds.map((kind) => asked(...kind))).toEqual(kinds.map(() => true));
    expect(kinds.map((kind) => asked(...kind))).toEqual(kinds.map(() => false));
    expect(asked(picture, cursor, 99, 77)).toBe(false);
  });

  test('remembers 16 kinds of frames and forgets the oldest first', () => {
    const kinds = Array.from({ length: 17 }, (_, i) => buffer(100 + i, 100));
    for (const kind of kinds) card.lay(kind);
    expect([kinds[1]!, kinds[16]!, kinds[0]!].map((kind) => card.lay(kind).slice(-7))).toEqual([
      '0 tests',
      '0 tests',
      '1 tests',
    ]);
  });

  test('asks again for a kind that was shown once and is refused in every way now', () => {
    card.lay(picture);
    card.refuses = () => true;
    const frame = frameOf(picture);
    expect(card.layout.lay(frame, picture, null, true)).not.toBeNull();
    expect(card.layout.refused(frame, picture, null, true)).toBeNull();
    card.refuses = () => false;
    expect(card.lay(picture)).toBe('picture on primary; 1 planes, 1 tests');
  });

  test('gives every choice once for a frame, however often it is refused', () => {
    const frame = frameOf(picture, 10, 10);
    const choices: (number | undefined)[] = [card.layout.lay(frame, picture, cursor, true)?.choice];
    while (choices.at(-1) !== undefined) choices.push(card.layout.refused(frame, picture, cursor, true)?.choice);
    expect(choices).toEqual([0, 1, 2, 3, 4, undefined]);
  });
});
