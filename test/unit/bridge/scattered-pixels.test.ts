/** Pictures that are read where their scattered pages are mapped. */
import { expect, test } from 'vitest';
import { DRM_FORMAT, type Fourcc } from '../../../protocols/drm-fourcc.ts';
import { copyPixels } from '../../../src/bridge/copy-pixels.ts';
import { Damage } from '../../../src/core/damage.ts';
import type { Framebuffer } from '../../../src/core/framebuffer.ts';
import type { Shadow } from '../../../src/core/output.ts';
import { ScatteredMemory } from '../../../src/sys/copy-rect.ts';
import { DisposableStack } from '../../../src/sys/disposable-stack.ts';
import { loadPixman } from '../../../src/sys/lib/pixman.ts';
import { Mapping } from '../../../src/sys/mapping.ts';
import { FakeOutput, GuestPicture } from './fakes.ts';

const WIDTH = 100;
const HEIGHT = 60;

/** The same framebuffer, whose pages are read one by one. */
function scattered({ framebuffer }: GuestPicture, resources: DisposableStack): Framebuffer {
  const { backing } = framebuffer;
  if (backing.kind !== 'pages') throw new Error('not in pages');
  const { ranges } = backing;
  const file = resources.use(Mapping.file(ranges.memfds[0]!, 0, ranges.length, 'read'));
  const memory = new ScatteredMemory(ranges, Float64Array.of(file.address));
  return { ...framebuffer, backing: { ...backing, pixels: () => memory } };
}

test.each<[string, Fourcc]>([
  ['same', DRM_FORMAT.XRGB8888],
  ...(loadPixman() ? [['converted', DRM_FORMAT.XBGR8888] as [string, Fourcc]] : []),
])('copyPixels: scattered pages give the pixels that one run of memory gives, %s format', (_, format) => {
  using resources = new DisposableStack();
  const picture = resources.use(new GuestPicture(WIDTH, HEIGHT, format));
  picture.noise(7);
  const output = new FakeOutput();
  const [expected, actual] = [0, 1].map(() => output.createShadow(WIDTH, HEIGHT, DRM_FORMAT.XRGB8888)) as [
    Shadow,
    Shadow,
  ];
  for (const shadow of [expected, actual]) shadow.beginWrite();
  const area = new Damage();
  area.add(3, 2, 50, 40);
  area.add(60, 30, 39, 29);
  const rect = { x: 1, y: 1, width: WIDTH - 1, height: HEIGHT - 1 };
  copyPixels(picture.framebuffer, rect, expected, area);
  copyPixels(scattered(picture, resources), rect, actual, area);
  expect(expected.pixels.bytes.some((byte) => byte !== 0)).toBe(true);
  expect(Buffer.compare(actual.pixels.bytes, expected.pixels.bytes)).toBe(0);
});
