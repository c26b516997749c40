/**
 * Needles: pictures that are looked for on a screen. One is a PNG of what is looked for, or a PNG of a whole screen and
 * a JSON file beside it that says which parts of it count. The JSON is that of os-autoinst (openQA).
 */
import { open } from 'node:fs/promises';
import { basename } from 'node:path';
import { UsageError } from '../../src/core/errors.ts';
import type { Rect, Size } from '../../src/core/geometry.ts';
import type { Picture } from '../../src/core/picture.ts';
import { ScanoutError } from '../../src/sys/errors.ts';
import { formatRect, formatSize, intersection } from './difference.ts';
import { Pattern, SearchedPicture, type Spot } from './find.ts';
import { readPng } from './png.ts';

/** A needle's JSON cannot be used. */
export class NeedleError extends ScanoutError<'format'> {}

/** Where to look, and how similar is good enough. */
export interface FindOptions {
  /** Where the left upper corner should be, in pixels of the screen; of a needle with several areas, that of its first one. Default: where its JSON says; a PNG alone has no such place. */
  readonly near?: { readonly x: number; readonly y: number };
  /** How many pixels it may be away from there in each direction. Default: what the JSON says, else 50. */
  readonly margin?: number;
  /** Look for it everywhere, wherever it should be. Default: true for a PNG alone without `near`. */
  readonly anywhere?: boolean;
  /** How much it may differ, from 0 (no pixel may) to 1. Default 0, or for a needle with a JSON what its `match` leaves: 0.04 for 96. */
  readonly threshold?: number;
}

/** A place that can be clicked. */
export interface Place extends Rect {
  /** From 0 to 1, in the measure of os-autoinst; 1 also for differences too small to be seen. */
  readonly similarity: number;
  /** The pixel to click. */
  readonly click: { readonly x: number; readonly y: number };
}

/** One area of a needle on the screen. */
export interface FoundArea extends Place {
  /** The name of its click point; null if it has none. */
  readonly id: string | null;
}

/** A needle on the screen. The rectangle surrounds all its areas, and the similarity is the lowest of theirs. */
export interface Found extends Place {
  /** The name of the file without its extension; null for a picture. */
  readonly needle: string | null;
  readonly tags: readonly string[];
  readonly areas: readonly FoundArea[];
  /** Its areas of type `ocr`, which are to be read: `display.text({ region })`. */
  readonly ocr: readonly Rect[];
}

interface ClickPoint {
  /** From the corner of the area; null: its middle. */
  readonly at: { readonly x: number; readonly y: number } | null;
  readonly id: string | null;
}

/** What a JSON file says about one area. */
export interface NeedleArea extends Rect {
  readonly type: 'match' | 'exclude' | 'ocr';
  readonly margin: number;
  /** From 0 to 100. */
  readonly match: number;
  readonly click: ClickPoint | null;
}

/** A JSON file. */
export interface NeedleFile {
  readonly tags: readonly string[];
  readonly areas: readonly NeedleArea[];
}

/** Defaults of os-autoinst. */
const MARGIN = 50;
const MATCH = 96;
const MAX_JSON = 2 ** 20;
const MAX_AREAS = 256;

/**
 * Reads the JSON of a needle. `size` is that of its picture. Throws NeedleError, whose message says which area is wrong
 * and how.
 */
export function parseNeedle(text: string, size: Size): NeedleFile {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new NeedleError('format', `no JSON: ${(cause as Error).message}`, { cause });
  }
  const { area, tags = [] } = fieldsOf(json);
  if (!Array.isArray(area) || area.length === 0)
    throw new NeedleError('format', 'a needle without areas: "area" has to be a list of at least one');
  if (area.length > MAX_AREAS)
    throw new NeedleError('format', `a needle of ${area.length} areas; supported are ${MAX_AREAS}`);
  if (!Array.isArray(tags) || !tags.every((tag) => typeof tag === 'string'))
    throw new NeedleError('format', '"tags" has to be a list of strings');
  const areas = area.map((fields, index) => parseArea(fieldsOf(fields), `area ${index}`, size));
  const matches = areas.filter(({ type }) => type === 'match');
  if (matches.length === 0) throw new NeedleError('format', 'a needle without an area of type "match"');
  const points = matches.flatMap(({ click }) => click ?? []);
  if (points.length > 1 && points.some(({ id }) => id === null))
    throw new NeedleError('format', 'several areas have a click point: give each an "id"');
  return { tags, areas };
}

type Fields = Readonly<Record<string, unknown>>;

function fieldsOf(value: unknown): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new NeedleError('format', 'a needle is an object with a list of objects, "area"');
  return value as Fields;
}

function parseArea(fields: Fields, what: string, size: Size): NeedleArea {
  const { type = 'match' } = fields;
  if (type !== 'match' && type !== 'exclude' && type !== 'ocr')
    throw new NeedleError('format', `${what}: "type" has to be match, exclude or ocr`);
  const rect = {
    x: numberOf(fields, 'xpos', what, 0),
    y: numberOf(fields, 'ypos', what, 0),
    width: numberOf(fields, 'width', what, 0),
    height: numberOf(fields, 'height', what, 0),
  };
  const inside = intersection(rect, { x: 0, y: 0, ...size });
  if (rect.width === 0 || rect.height === 0) throw new NeedleError('format', `${what} is empty: ${formatRect(rect)}`);
  if (inside.width !== rect.width || inside.height !== rect.height)
    throw new NeedleError('format', `${what}, ${formatRect(rect)}, reaches beyond the picture of ${formatSize(size)}`);
  // As in os-autoinst 0 stands for the default.
  const match = numberOf(fields, 'match', what, MATCH) || MATCH;
  if (match > 100) throw new NeedleError('format', `${what}: "match" is a percentage, not ${match}`);
  return {
    ...rect,
    type,
    match,
    margin: numberOf(fields, 'margin', what, MARGIN) || MARGIN,
    click: parseClickPoint(fields['click_point'], what),
  };
}

function parseClickPoint(value: unknown, what: string): ClickPoint | null {
  if (value === undefined || value === null) return null;
  if (value === 'center') return { at: null, id: null };
  if (typeof value !== 'object')
    throw new NeedleError('format', `${what}: "click_point" has to be "center" or an object with xpos and ypos`);
  const fields = fieldsOf(value);
  const { id = null } = fields;
  if (id !== null && typeof id !== 'string')
    throw new NeedleError('format', `${what}: the "id" of a click point has to be a string`);
  const name = `${what}: click_point`;
  return { at: { x: numberOf(fields, 'xpos', name), y: numberOf(fields, 'ypos', name) }, id };
}

/** Some tools write numbers as strings or with fractions. */
function numberOf(fields: Fields, name: string, what: string, fallback?: number): number {
  const value = fields[name] ?? fallback;
  const number = typeof value === 'string' && /^\d+(\.\d+)?$/.test(value) ? Number(value) : value;
  if (typeof number !== 'number' || !(number >= 0 && number <= 1e6))
    throw new NeedleError('format', `${what}: "${name}" has to be a number from 0 on`);
  return name === 'match' ? number : Math.floor(number);
}

/** Where one area is looked for. */
interface Sought extends Pick<NeedleArea, 'margin' | 'click'> {
  readonly pattern: Pattern;
  /** Where it is in the picture of the needle. */
  readonly x: number;
  readonly y: number;
  /** The mean squared error that is accepted. */
  readonly allowed: number;
}

/** What is looked for, prepared to be looked for often. */
export class Needle {
  readonly name: string | null;
  readonly tags: readonly string[];
  readonly #size: Size;
  readonly #areas: readonly Sought[];
  readonly #ocr: readonly Rect[];
  /** Whether its areas have places. */
  readonly #isPlaced: boolean;

  /** `file` is null for a picture that is looked for as a whole. Throws NeedleError if nothing is left of an area. */
  constructor(picture: Picture, file: NeedleFile | null, name: string | null = null) {
    this.name = name;
    this.tags = file?.tags ?? [];
    this.#size = picture;
    this.#isPlaced = file !== null;
    const whole: NeedleArea = { ...wholeOf(picture), type: 'match', margin: MARGIN, match: 100, click: null };
    const areas = file?.areas ?? [whole];
    const excluded = areas.filter(({ type }) => type === 'exclude');
    this.#ocr = areas.filter(({ type }) => type === 'ocr').map(({ x, y, width, height }) => ({ x, y, width, height }));
    this.#areas = areas
      .filter(({ type }) => type === 'match')
      .map((area) => ({
        ...area,
        pattern: patternOf(picture, area, excluded),
        allowed: file ? errorFor(area.match / 100) : 0,
      }));
  }

  /** Null if an area is not there. Throws UsageError for options that cannot be used. */
  find(screen: Picture, options: FindOptions = {}): Found | null {
    const areas = this.#seek(new SearchedPicture(screen), options);
    return areas instanceof Array ? this.#found(areas) : null;
  }

  /** As `find`, or what `describeNearest` says: both for little more than the price of one. */
  findOrDescribe(screen: Picture, options: FindOptions = {}): Found | string {
    const searched = new SearchedPicture(screen);
    const areas = this.#seek(searched, options);
    return areas instanceof Array ? this.#found(areas) : this.#describeNearest(areas, searched, options);
  }

  /** What comes nearest to the first area that is not there, for an error message. */
  describeNearest(screen: Picture, options: FindOptions = {}): string {
    const searched = new SearchedPicture(screen);
    const [first, ...others] = this.#areas as [Sought, ...Sought[]];
    const missing = others.length === 0 ? first : this.#seek(searched, options);
    return this.#describeNearest(missing instanceof Array ? first : missing, searched, options);
  }

  /** All areas, or the first one that is not there. */
  #seek(searched: SearchedPicture, options: FindOptions): FoundArea[] | Sought {
    checkOptions(options);
    const areas: FoundArea[] = [];
    for (const area of this.#areas) {
      const where = this.#where(area, searched.picture, options);
      const spot = area.pattern.find(searched, { ...where, allowed: allowedOf(area, options) });
      if (!spot) return area;
      areas.push(foundArea(area, spot));
    }
    return areas;
  }

  #found(areas: readonly FoundArea[]): Found {
    const clicked = areas.findLast((_, index) => this.#areas[index]!.click !== null) ?? areas.at(-1)!;
    const x = Math.min(...areas.map((area) => area.x));
    const y = Math.min(...areas.map((area) => area.y));
    return {
      x,
      y,
      width: Math.max(...areas.map((area) => area.x + area.width)) - x,
      height: Math.max(...areas.map((area) => area.y + area.height)) - y,
      similarity: Math.min(...areas.map((area) => area.similarity)),
      click: clicked.click,
      needle: this.name,
      tags: this.tags,
      areas,
      ocr: this.#ocr,
    };
  }

  #describeNearest(missing: Sought, searched: SearchedPicture, options: FindOptions): string {
    const { pattern } = missing;
    const what = `${this.#areas.length > 1 ? `area ${this.#areas.indexOf(missing)} of ` : ''}${this.name ?? 'the picture'}`;
    const { positions } = this.#where(missing, searched.picture, options);
    const nearest = pattern.nearest(searched, positions);
    if (!nearest)
      return `${what} has ${formatSize(pattern)} pixels, which are not on a screen of ${formatSize(searched.picture)} where it is looked for`;
    const percent = (similarityOf(nearest.error) * 100).toFixed(1);
    const place = formatRect({ ...nearest, width: pattern.width, height: pattern.height });
    return `${what} is not there; the most similar is at ${place}, by ${percent} %`;
  }

  #where(
    area: Sought,
    screen: Size,
    { near, margin = area.margin, anywhere = false }: FindOptions,
  ): { positions: Rect; near?: { x: number; y: number } } {
    const everywhere = wholeOf(screen);
    if (!near && !this.#isPlaced) {
      if (margin !== area.margin) throw new UsageError('find: a margin needs `near`, or a JSON beside the PNG');
      return { positions: everywhere };
    }
    const first = this.#areas[0]!;
    const expected = near
      ? { x: Math.round(near.x) + area.x - first.x, y: Math.round(near.y) + area.y - first.y }
      : {
          // As os-autoinst does for a screen of another size.
          x: Math.floor((area.x * screen.width) / this.#size.width),
          y: Math.floor((area.y * screen.height) / this.#size.height),
        };
    if (anywhere) return { positions: everywhere, near: expected };
    const side = 2 * margin + 1;
    const positions = { x: expected.x - margin, y: expected.y - margin, width: side, height: side };
    return { positions: intersection(positions, everywhere), near: expected };
  }
}

function wholeOf({ width, height }: Size): Rect {
  return { x: 0, y: 0, width, height };
}

function patternOf(picture: Picture, area: Rect, excluded: readonly Rect[]): Pattern {
  const pattern = new Pattern(picture, area, excluded);
  if (pattern.isEmpty)
    throw new NeedleError('format', `nothing is left of the area ${formatRect(area)}: all of it is excluded`);
  return pattern;
}

function foundArea({ pattern: { width, height }, click }: Sought, { x, y, error }: Spot): FoundArea {
  const at = click?.at ?? { x: Math.floor(width / 2), y: Math.floor(height / 2) };
  return {
    x,
    y,
    width,
    height,
    similarity: similarityOf(error),
    click: { x: x + at.x, y: y + at.y },
    id: click?.id ?? null,
  };
}

/** The scale of os-autoinst: an error of 2 is a similarity of 1, one of 40 of 0.9. */
function similarityOf(error: number): number {
  return Math.min(1, Math.max(0, 0.9 + (40 - error) / 380));
}

/** The largest error of a similarity. */
function errorFor(similarity: number): number {
  return similarity > 0 ? 40 - (similarity - 0.9) * 380 : Infinity;
}

function allowedOf({ allowed }: Sought, { threshold }: FindOptions): number {
  if (threshold === undefined) return allowed;
  return threshold === 0 ? 0 : errorFor(1 - threshold);
}

function checkOptions({ near, margin = 0, threshold = 0 }: FindOptions): void {
  if (near && !(Number.isFinite(near.x) && Number.isFinite(near.y)))
    throw new UsageError(`find: near ${near.x},${near.y} is no place`);
  if (!(Number.isInteger(margin) && margin >= 0))
    throw new UsageError(`find: margin ${margin}: give a whole number of pixels`);
  if (!(threshold >= 0 && threshold <= 1))
    throw new UsageError(`find: threshold ${threshold}: give a number from 0 (exact) to 1`);
}

/**
 * Reads a needle: a PNG, with the JSON of the same name beside it if there is one; or a JSON, with the PNG of the same
 * name. Rejects with PngError or NeedleError, which name the file, or the file system's error.
 */
export async function readNeedle(path: string): Promise<Needle> {
  const stem = path.replace(/\.(png|json)$/i, '');
  const isJson = /\.json$/i.test(path);
  const jsonPath = isJson ? path : `${stem}.json`;
  const text = await readSmall(jsonPath, isJson);
  const picture = await readPng(isJson ? `${stem}.png` : path);
  try {
    return new Needle(picture, text === null ? null : parseNeedle(text, picture), basename(stem));
  } catch (cause) {
    if (!(cause instanceof NeedleError)) throw cause;
    throw new NeedleError('format', `${jsonPath}: ${cause.message}`, { cause });
  }
}

/** Null if there is no such file and none is needed. */
async function readSmall(path: string, isNeeded: boolean): Promise<string | null> {
  let file;
  try {
    file = await open(path);
  } catch (error) {
    if (!isNeeded && (error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(MAX_JSON + 1), 0, MAX_JSON + 1, 0);
    if (bytesRead > MAX_JSON) throw new NeedleError('format', `${path}: more than ${MAX_JSON} bytes`);
    return buffer.toString('utf8', 0, bytesRead);
  } finally {
    await file.close();
  }
}
