import { readFile } from 'node:fs/promises';
import { Command, InvalidArgumentError } from 'commander';
import { comparePictures, diffPicture, type CompareOptions } from '../../display/picture/compare.ts';
import { decodePng, PngError, writePng } from '../../display/picture/png.ts';
import { UsageError } from '../core/errors.ts';
import type { Rect } from '../core/geometry.ts';
import type { Picture } from '../core/picture.ts';
import { packageFile } from './package-file.ts';

const EXIT_DIFFERENT = 1;

interface Options {
  diff?: string;
  json?: true;
  threshold: number;
  allowed: number;
  region?: Rect;
  mask?: Rect[];
  ignoreAntialiasing?: true;
}

function parseRect(text: string): Rect {
  const match = /^(\d{1,5})x(\d{1,5})\+(\d{1,5})\+(\d{1,5})$/.exec(text);
  if (!match) throw new InvalidArgumentError('write WIDTHxHEIGHT+X+Y in pixels, such as 200x16+1080+0.');
  const [width, height, x, y] = match.slice(1).map(Number) as [number, number, number, number];
  return { x, y, width, height };
}

function parseNumber(text: string): number {
  if (!/^\d+(\.\d+)?$/.test(text)) throw new InvalidArgumentError('write a number such as 20 or 0.01.');
  return Number(text);
}

export function command(): Command {
  const picture = packageFile('fixtures/console.png');
  return new Command('compare')
    .argument('<expected.png>', 'the expected picture')
    .argument('<actual.png>', 'the actual picture')
    .option('--diff <out.png>', 'write a picture of the differences: red on a pale copy of the actual picture')
    .option('--json', 'print the result as JSON')
    .option('--threshold <number>', 'how far a colour may be off, from 0 (exact) to 1', parseNumber, 0)
    .option(
      '--allowed <number>',
      'how many pixels may differ; a number below 1 is a share of those compared',
      parseNumber,
      0,
    )
    .option('--ignore-antialiasing', 'ignore pixels that look like anti-aliasing')
    .option('--region <rect>', 'compare only this rectangle, WIDTHxHEIGHT+X+Y', parseRect)
    .option(
      '--mask <rect>',
      'do not compare this rectangle, WIDTHxHEIGHT+X+Y; may be repeated',
      (text: string, before?: Rect[]) => [...(before ?? []), parseRect(text)],
    )
    .addHelpText(
      'after',
      `\nThe exit code is 0 if the pictures match, 1 if they differ, 2 if they could not be compared.\n\nExample:\n  $ scanout compare ${picture} ${picture} --mask 200x16+1080+0 --diff /tmp/diff.png`,
    )
    .action(run);
}

async function run(expectedPath: string, actualPath: string, options: Options): Promise<void> {
  const { threshold, allowed, ignoreAntialiasing = false, region, mask: masks = [] } = options;
  const compareOptions: CompareOptions = { threshold, allowed, ignoreAntialiasing, masks, ...(region && { region }) };
  const expected = await readPicture(expectedPath);
  const actual = await readPicture(actualPath);
  const comparison = comparePictures(expected, actual, compareOptions);
  if (options.diff !== undefined) await writeDiff(options.diff, diffPicture(expected, actual, compareOptions));
  const { matches, comparedPixels, explanation } = comparison;
  if (options.json) {
    console.log(
      JSON.stringify(
        { expected: expectedPath, actual: actualPath, diff: options.diff ?? null, ...comparison },
        null,
        2,
      ),
    );
  } else {
    const verdict = matches
      ? explanation === ''
        ? `${comparedPixels} pixels are equal`
        : `within the allowance: ${explanation}`
      : explanation;
    console.log(`${actualPath}: ${verdict}`);
  }
  if (!matches) process.exitCode = EXIT_DIFFERENT;
}

// A file that cannot be read or written exits with 2, because 1 means that the pictures differ.
async function readPicture(path: string): Promise<Picture> {
  try {
    return decodePng(await readFile(path));
  } catch (error) {
    if (error instanceof PngError) throw new UsageError(`${path}: ${error.message}; give a PNG`);
    throw new UsageError(`cannot read ${path}: ${(error as Error).message}`);
  }
}

async function writeDiff(path: string, picture: Picture): Promise<void> {
  try {
    await writePng(path, picture);
  } catch (error) {
    throw new UsageError(`--diff: cannot write ${path}: ${(error as Error).message}`);
  }
}
