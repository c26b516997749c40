import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Needle, NeedleError, parseNeedle, readNeedle } from '../../../../display/picture/needle.ts';
import { encodePng, PngError } from '../../../../display/picture/png.ts';
import type { Picture } from '../../../../src/core/picture.ts';
import { colourAt, draw, noisePicture } from './pictures.ts';

const SIZE = { width: 200, height: 150 };
const screen = noisePicture(SIZE.width, SIZE.height, 3);

/** The screen with everything moved; black where nothing was. */
function moved(dx: number, dy: number): Picture {
  return draw(SIZE.width, SIZE.height, (x, y) =>
    x >= dx && y >= dy && x - dx < SIZE.width && y - dy < SIZE.height ? colourAt(screen, x - dx, y - dy) : [0, 0, 0],
  );
}

/** As os-autoinst's own needles are written. */
const json = (...area: readonly object[]): string => JSON.stringify({ area, tags: ['ENV-VERSION-1', 'login'] });
const area = { xpos: 20, ypos: 30, width: 40, height: 16, type: 'match' };
const needle = (...areas: readonly object[]): Needle => new Needle(screen, parseNeedle(json(...areas), SIZE), 'login');

describe('parseNeedle', () => {
  test('fills in what os-autoinst leaves to its defaults', () => {
    const { areas, tags } = parseNeedle(json({ ...area, processing_flags: 't', max_offset: 0 }), SIZE);

    expect(tags).toEqual(['ENV-VERSION-1', 'login']);
    expect(areas).toEqual([{ x: 20, y: 30, width: 40, height: 16, type: 'match', match: 96, margin: 50, click: null }]);
  });

  test('takes 0 for the default of margin and match, and numbers with quotes or fractions', () => {
    const { areas } = parseNeedle(json({ ...area, xpos: '20', ypos: 30.6, margin: 0, match: 0 }), SIZE);

    expect(areas[0]).toMatchObject({ x: 20, y: 30, match: 96, margin: 50 });
  });

  test.each<[string, string]>([
    ['no JSON', '{'],
    ['list of objects', '[]'],
    ['without areas', '{}'],
    ['without areas', '{"area":[]}'],
    ['list of strings', '{"area":[{}],"tags":[1]}'],
    ['supported are 256', json(...Array.from({ length: 257 }, () => area))],
    ['area 1: "type"', json(area, { ...area, type: 'fuzzy' })],
    ['area 0: "xpos"', json({ ...area, xpos: -1 })],
    ['area 0: "width"', json({ ...area, width: 'wide' })],
    ['area 0 is empty', json({ xpos: 1, ypos: 1 })],
    ['area 0, 40x16+170+30, reaches beyond the picture of 200x150', json({ ...area, xpos: 170 })],
    ['area 0: "match" is a percentage', json({ ...area, match: 960 })],
    ['area 0: "click_point"', json({ ...area, click_point: 'middle' })],
    ['area 0: click_point: "ypos"', json({ ...area, click_point: { xpos: 3 } })],
    ['the "id" of a click point', json({ ...area, click_point: { xpos: 3, ypos: 1, id: 4 } })],
    ['without an area of type "match"', json({ ...area, type: 'exclude' }, { ...area, type: 'ocr' })],
    ['several areas have a click point', json({ ...area, click_point: 'center' }, { ...area, click_point: 'center' })],
  ])('refuses what cannot be used: %s', (message, text) => {
    expect(() => parseNeedle(text, SIZE)).toThrow(
      expect.objectContaining({
        name: 'NeedleError',
        code: 'format',
        message: expect.stringContaining(message) as string,
      }),
    );
  });

  test('refuses or understands any JSON, and throws nothing else', () => {
    const field = fc.oneof(
      fc.integer(),
      fc.double(),
      fc.string(),
      fc.constantFrom(null, 'center', 'match', {}, [], 1e9),
    );
    const areas = fc.array(
      fc.dictionary(
        fc.constantFrom('xpos', 'ypos', 'width', 'height', 'type', 'match', 'margin', 'click_point'),
        field,
      ),
    );
    fc.assert(
      fc.property(
        fc.oneof(
          fc.json(),
          fc.record({ area: areas }).map((value) => JSON.stringify(value)),
        ),
        (text) => {
          try {
            new Needle(screen, parseNeedle(text, SIZE)).find(screen, { margin: 1 });
          } catch (error) {
            expect(error).toBeInstanceOf(NeedleError);
          }
        },
      ),
    );
  });
});

describe('Needle', () => {
  test('is found where its JSON says, and within its margin', () => {
    expect(needle(area).find(screen)).toMatchObject({ x: 20, y: 30, width: 40, height: 16, similarity: 1 });
    expect(needle(area).find(moved(50, -30))).toMatchObject({ x: 70, y: 0, similarity: 1 });
    expect(needle(area).find(moved(51, 0))).toBeNull();
    expect(needle({ ...area, margin: 60 }).find(moved(51, 0))).toMatchObject({ x: 71 });
    expect(needle(area).find(moved(51, 0), { margin: 51 })).toMatchObject({ x: 71 });
    expect(needle(area).find(moved(120, 90), { anywhere: true })).toMatchObject({ x: 140, y: 120 });
    expect(needle(area).find(moved(120, 90), { near: { x: 139, y: 119 }, margin: 1 })).toMatchObject({ x: 140 });
  });

  test('is looked for in proportion on a screen of another size', () => {
    const large = draw(400, 300, (x, y) =>
      x >= 90 && y >= 45 && x < 190 && y < 145 ? colourAt(screen, x - 90 + 20, y - 45 + 30) : [0, 0, 0],
    );

    // At 40,60 of the larger screen.
    expect(needle({ ...area, margin: 50 }).find(large)).toMatchObject({ x: 90, y: 45 });
    expect(needle({ ...area, margin: 49 }).find(large)).toBeNull();
  });

  test('has several areas, each within its own margin, and all have to be there', () => {
    const second = { ...area, xpos: 120, ypos: 100, width: 30 };
    const both = needle(area, second);
    const shifted = moved(3, 5);
    const half = draw(SIZE.width, SIZE.height, (x, y) => colourAt(x < 100 ? screen : shifted, x, y));
    const one = draw(SIZE.width, SIZE.height, (x, y) => (x < 100 ? colourAt(screen, x, y) : [0, 0, 0]));

    expect(both.find(half)).toMatchObject({ x: 20, y: 30, width: 133, height: 91 });
    expect(both.find(one)).toBeNull();
    expect(both.describeNearest(one)).toMatch(/^area 1 of login is not there; the most similar is at 30x16\+/);
  });

  test('leaves out what is excluded', () => {
    const changed = draw(SIZE.width, SIZE.height, (x, y) =>
      x >= 30 && x < 40 && y >= 30 ? [255, 255, 255] : colourAt(screen, x, y),
    );
    const exclude = { xpos: 30, ypos: 0, width: 10, height: 150, type: 'exclude' };

    expect(needle(area).find(changed)).toBeNull();
    expect(needle(area, exclude).find(changed)).toMatchObject({ x: 20, y: 30, similarity: 1 });
    expect(() => needle(area, { ...exclude, xpos: 0, width: 200 })).toThrow(/all of it is excluded/);
  });

  test('clicks the click point, else the middle of the last area', () => {
    const second = { ...area, xpos: 120, ypos: 100 };
    const click = (...areas: readonly object[]) => needle(...areas).find(screen)!.click;

    expect(click(area, second)).toEqual({ x: 140, y: 108 });
    expect(click({ ...area, click_point: { xpos: 3, ypos: 4 } }, second)).toEqual({ x: 23, y: 34 });
    expect(click({ ...area, click_point: 'center' }, second)).toEqual({ x: 40, y: 38 });
    const several = needle(
      { ...area, click_point: { xpos: 3, ypos: 4, id: 'ok' } },
      { ...second, click_point: { xpos: 1, ypos: 2, id: 'no' } },
    ).find(screen)!;
    expect(several.click).toEqual({ x: 121, y: 102 });
    expect(several.areas.find(({ id }) => id === 'ok')!.click).toEqual({ x: 23, y: 34 });
  });

  test('names the areas that are to be read', () => {
    expect(needle(area, { ...area, xpos: 70, type: 'ocr' }).find(screen)!.ocr).toEqual([
      { x: 70, y: 30, width: 40, height: 16 },
    ]);
  });

  test('as a picture alone is found anywhere, and only exactly unless a threshold allows more', () => {
    const part = draw(40, 16, (x, y) => colourAt(screen, 20 + x, 30 + y));
    const lighter = draw(40, 16, (x, y) => {
      const [red, green, blue] = colourAt(part, x, y);
      return [Math.min(255, red + 4), Math.min(255, green + 4), blue];
    });

    expect(new Needle(part, null).find(moved(100, 90))).toMatchObject({ x: 120, y: 120, similarity: 1, needle: null });
    expect(new Needle(part, null).find(moved(100, 90), { near: { x: 20, y: 30 } })).toBeNull();
    expect(new Needle(lighter, null).find(screen)).toBeNull();
    expect(new Needle(lighter, null).find(screen, { threshold: 0.04 })).toMatchObject({ x: 20, y: 30 });
  });

  test.each<[string, object]>([
    ['margin', { near: { x: 0, y: 0 }, margin: -1 }],
    ['margin', { near: { x: 0, y: 0 }, margin: 0.5 }],
    ['a margin needs', { margin: 5 }],
    ['threshold', { threshold: 2 }],
    ['near', { near: { x: NaN, y: 0 } }],
  ])('refuses %s that cannot be used', (message, options) => {
    expect(() => new Needle(screen, null).find(screen, options)).toThrow(
      expect.objectContaining({ code: 'usage', message: expect.stringContaining(message) as string }),
    );
  });
});

describe('readNeedle', () => {
  let directory: string;
  beforeEach(() => (directory = mkdtempSync(join(tmpdir(), 'scanout-needle-'))));
  afterEach(() => rmSync(directory, { recursive: true }));
  const file = (name: string, bytes: string | Uint8Array): string => {
    writeFileSync(join(directory, name), bytes);
    return join(directory, name);
  };

  test('reads a PNG alone, and with the JSON beside it by either name', async () => {
    const png = file('login.png', encodePng(screen));
    const alone = await readNeedle(png);
    const beside = file('login.json', json(area));

    expect(alone.find(screen)).toMatchObject({ ...SIZE, needle: 'login' });
    expect((await readNeedle(png)).find(screen)).toMatchObject({ width: 40, tags: ['ENV-VERSION-1', 'login'] });
    expect((await readNeedle(beside)).find(screen)).toMatchObject({ width: 40, needle: 'login' });
  });

  // Those of os-autoinst's repository and of openSUSE's are under the GPL, so these have their fields and their order only.
  test.each<[string, string, object]>([
    [
      'as the editor of openQA writes them',
      `{
  "area": [
    { "ypos": 30, "width": 40, "xpos": 20, "type": "match", "height": 16 },
    { "xpos": 120, "height": 20, "width": 30, "type": "match", "ypos": 100 }
  ],
  "properties": [{ "name": "workaround", "value": "bsc#1234567" }],
  "tags": ["ENV-DISTRI-opensuse", "LANGUAGE-english", "inst-welcome"]
}`,
      { x: 20, y: 30, width: 130, height: 90, similarity: 1, click: { x: 135, y: 110 }, ocr: [] },
    ],
    [
      'as they were before that',
      `{
    "area": [
        {
            "height": 50, "match": 95, "max_offset": 0, "processing_flags": "t",
            "type": "match", "width": 200, "xpos": 0, "ypos": 0
        },
        { "height": 10, "type": "exclude", "width": 20, "xpos": 5, "ypos": 40 }
    ],
    "properties": ["workaround"],
    "tags": ["ENV-DISTRI-opensuse", "LANGUAGE-english", "inst-welcome"]
}
`,
      { x: 0, y: 0, width: 200, height: 50, similarity: 1, click: { x: 100, y: 25 }, ocr: [] },
    ],
    [
      'with a place to click and text to read',
      `{
	"tags": ["ENV-DISTRI-opensuse", "LANGUAGE-english", "inst-welcome"],
	"area": [
		{ "type": "ocr", "xpos": 60, "ypos": 80, "width": 90, "height": 24, "refstr": "Video Mode\\nDefault" },
		{
			"type": "match", "xpos": 20, "ypos": 30, "width": 40, "height": 16, "margin": 150,
			"click_point": { "xpos": 3.5, "ypos": 12, "id": "next" }
		}
	],
	"properties": []
}`,
      {
        ...{ x: 20, y: 30, width: 40, height: 16, similarity: 1, click: { x: 23, y: 42 } },
        ocr: [{ x: 60, y: 80, width: 90, height: 24 }],
      },
    ],
  ])('reads files of os-autoinst as they are: %s', async (_how, text, found) => {
    file('welcome.png', encodePng(screen));
    const read = await readNeedle(file('welcome.json', text));

    expect(read.find(screen)).toMatchObject({
      ...found,
      needle: 'welcome',
      tags: ['ENV-DISTRI-opensuse', 'LANGUAGE-english', 'inst-welcome'],
    });
    expect(read.find(noisePicture(SIZE.width, SIZE.height, 4))).toBeNull();
  });

  test('names the file that cannot be used', async () => {
    file('login.png', encodePng(screen));
    const long = file('long.json', 'x'.repeat(2 ** 20 + 1));
    file('bad.png', 'not a PNG');
    file('bad.json', json(area));

    await expect(readNeedle(file('login.json', '{}'))).rejects.toThrow(/login\.json: a needle without areas/);
    await expect(readNeedle(long)).rejects.toThrow(/long\.json: more than/);
    await expect(readNeedle(join(directory, 'bad.json'))).rejects.toThrow(PngError);
    await expect(readNeedle(join(directory, 'none.json'))).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(readNeedle(join(directory, 'none.png'))).rejects.toMatchObject({ code: 'ENOENT' });
  });
});
