import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Locator, Page } from 'playwright-core';
import { afterAll, beforeAll, beforeEach, expect, test as anyTest } from 'vitest';
import { decodePng, encodePng } from '../../display/picture/png.ts';
import { renderReport, type ReportEntry } from '../../display/picture/report.ts';
import { Damage } from '../../src/core/damage.ts';
import type { Rect } from '../../src/core/geometry.ts';
import type { Picture } from '../../src/core/picture.ts';
import { FrameHistory } from '../../display/picture/frame-history.ts';
import { openBrowser, skipWithoutChromium } from '../rig/chromium.ts';
import { isSamePicture, pixel } from '../rig/picture.ts';

/** Without Chromium all tests of the file are skipped, and with them its hooks. */
const test = anyTest.skipIf(skipWithoutChromium());

const RED = 0xd02010;
const BLUE = 0x1020d0;
const GREEN = 0x10a020;
const [WIDTH, HEIGHT] = [200, 100];

const outputDir = join(import.meta.dirname, '../output');
let directory: string;
let browser: Awaited<ReturnType<typeof openBrowser>>;
let page: Page;
const requests: string[] = [];

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'scanout-report-'));
  mkdirSync(outputDir, { recursive: true });
  browser = await openBrowser(1000, 800);
  page = browser.page;
  page.on('request', (request) => requests.push(request.url()));
});

afterAll(async () => {
  await browser[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true });
});

beforeEach(() => {
  requests.length = 0;
});

function solid(colour: number, width = WIDTH, height = HEIGHT): Picture {
  const data = new Uint8Array(width * height * 4);
  for (let at = 0; at < data.length; at += 4) data.set([colour >> 16, (colour >> 8) & 255, colour & 255, 255], at);
  return { width, height, data };
}

const png = (colour: number): Uint8Array => encodePng(solid(colour));

function entry(name: string, fields: Partial<ReportEntry> = {}): ReportEntry {
  return {
    test: 'login.test.ts > the prompt appears',
    name,
    status: 'matched',
    explanation: '',
    rung: 'shadow',
    frames: [],
    expected: png(RED),
    actual: null,
    diff: null,
    video: null,
    ...fields,
  };
}

const different = (name: string): ReportEntry =>
  entry(name, { status: 'different', explanation: 'all of it is blue', actual: png(BLUE), diff: png(GREEN) });

async function open(...entries: ReportEntry[]): Promise<void> {
  const file = join(directory, 'report.html');
  writeFileSync(file, renderReport(entries, 'A run'));
  // The browser would not reload the same address with a different fragment.
  await page.goto('about:blank');
  await page.goto(`file://${file}`);
  requests.length = 0;
}

async function shot(element: Locator): Promise<Picture> {
  return decodePng(await element.screenshot());
}

const views = (): Locator => page.locator('details[open] .views').first();

test('report: shows pictures pixel for pixel and requests nothing from the network', async () => {
  const picture = solid(RED);
  for (let at = 0; at < picture.data.length; at += 4) picture.data[at] = (at * 31) >> 3;
  await open(
    entry('noise.png', { status: 'different', expected: encodePng(picture), actual: png(BLUE), diff: png(GREEN) }),
  );

  await page.getByLabel('pixel for pixel').check();
  // The browser rounds a position between two pixels.
  const box = (await page.locator('.expected img').boundingBox())!;
  const shown = decodePng(
    await page.screenshot({ clip: { x: Math.round(box.x), y: Math.round(box.y), width: WIDTH, height: HEIGHT } }),
  );

  expect(isSamePicture(shown, picture)).toBe(true);
  expect(requests.filter((url) => !url.startsWith('file:') && !url.startsWith('data:'))).toEqual([]);
});

test('report: lists failures first and open, and matches closed', async () => {
  await open(entry('good.png'), different('bad.png'));

  expect(await page.locator('h2').allInnerTexts()).toEqual([
    'login.test.ts > the prompt appears: bad.png',
    'login.test.ts > the prompt appears: good.png',
  ]);
  expect(
    await page.locator('details').evaluateAll((all) => all.map((each) => (each as unknown as { open: boolean }).open)),
  ).toEqual([true, false]);
  expect(await page.title()).toBe('1 failed: A run');
  await page.screenshot({ path: join(outputDir, 'report.png'), fullPage: true });
});

test('report: moves between comparisons and moves the slider by keyboard alone', async () => {
  await open(different('one.png'), different('two.png'));

  await page.keyboard.press('j');
  await page.keyboard.press('j');
  expect(await page.evaluate('document.activeElement.innerText')).toContain('two.png');
  await page.keyboard.press('2');
  const slider = page.locator('#c1').getByRole('slider');
  await slider.focus();
  for (let i = 0; i < 25; i++) await page.keyboard.press('ArrowRight');

  const shown = await shot(page.locator('#c1 .views'));
  expect(pixel(shown, Math.round(WIDTH * 0.74), 50)).toBe(RED);
  expect(pixel(shown, Math.round(WIDTH * 0.77), 50)).toBe(BLUE);
  expect(await page.locator('#c0 [value=side]').isChecked()).toBe(true);
});

test('report: shows only the differences on key 4', async () => {
  await open(different('one.png'));

  await page.keyboard.press('4');

  expect(await views().locator('figure:visible').count()).toBe(1);
  expect(pixel(await shot(views()), 50, 50)).toBe(GREEN);
});

test('report: blinks between the expected and the actual picture', async () => {
  await open(different('one.png'));
  await page.keyboard.press('3');
  const at = (ms: number) =>
    page.evaluate(
      `for (const each of document.querySelector('.actual').getAnimations()) { each.pause(); each.currentTime = ${ms}; }`,
    );

  await at(200);
  const before = pixel(await shot(views()), 50, 50);
  await at(700);
  const after = pixel(await shot(views()), 50, 50);

  expect([before, after]).toEqual([BLUE, RED]);
});

test('report: escapes HTML in names', async () => {
  const name = `<img src=x onerror="document.title='mine'">&amp;'"`;
  await open(entry(name));

  expect(await page.locator('h2').innerText()).toContain(name);
  expect(await page.title()).toBe('A run');
});

test('report: the browser plays the video with the frames and durations of the screen', async () => {
  let screen = solid(RED, 64, 32);
  const history = new FrameHistory(10, (area) => cut(screen, area));
  const shown: number[][] = [];
  const draw = (timeMs: number, area: Rect, colour: number): void => {
    for (let y = area.y; y < area.y + area.height; y++) {
      for (let x = area.x; x < area.x + area.width; x++)
        screen.data.set([colour >> 16, (colour >> 8) & 255, colour & 255, 255], (y * screen.width + x) * 4);
    }
    const damage = new Damage();
    damage.addRect(area);
    history.add(timeMs, screen, damage);
    shown.push([...screen.data]);
  };
  draw(0, { x: 0, y: 0, width: 64, height: 32 }, RED);
  draw(100, { x: 10, y: 5, width: 7, height: 9 }, BLUE);
  draw(300, { x: 0, y: 31, width: 64, height: 1 }, GREEN);
  screen = solid(GREEN, 64, 32);
  draw(450, { x: 0, y: 0, width: 64, height: 32 }, BLUE);
  await open(entry('video.png', { status: 'different', actual: png(BLUE), video: history.encode() }));

  const decoded = await page.evaluate<{ durations: number[]; pixels: number[][] }>(`(async () => {
    const data = Uint8Array.from(atob(document.querySelector('.video img').src.split(',')[1]), (c) => c.charCodeAt(0));
    const decoder = new ImageDecoder({ data, type: 'image/png' });
    await Promise.all([decoder.tracks.ready, decoder.completed]);
    const result = { durations: [], pixels: [] };
    for (let frameIndex = 0; frameIndex < decoder.tracks.selectedTrack.frameCount; frameIndex++) {
      const { image } = await decoder.decode({ frameIndex });
      const context = new OffscreenCanvas(image.displayWidth, image.displayHeight).getContext('2d');
      context.drawImage(image, 0, 0);
      result.durations.push(image.duration / 1000);
      result.pixels.push([...context.getImageData(0, 0, image.displayWidth, image.displayHeight).data]);
    }
    return result;
  })()`);

  expect(decoded.durations).toEqual([100, 200, 150, 2000]);
  expect(decoded.pixels).toEqual(shown);
});

function cut({ data, width }: Picture, area: Rect): Picture {
  const rows = Array.from({ length: area.height }, (_, y) =>
    data.subarray(((area.y + y) * width + area.x) * 4, ((area.y + y) * width + area.x + area.width) * 4),
  );
  return { width: area.width, height: area.height, data: Buffer.concat(rows) };
}
