import { Command } from 'commander';
import { comparePictures, diffPicture } from '../../display/picture/compare.ts';
import { PngError, readPng, writePng } from '../../display/picture/png.ts';
import { UsageError } from '../core/errors.ts';
import type { Picture } from '../core/picture.ts';
import { addCompareOptions, compareOptionsOf, type ComparisonFlags } from './control-options.ts';
import { packageFile } from '../sys/package-file.ts';
import { print, printJson } from './terminal.ts';

const EXIT_DIFFERENT = 1;

interface Options extends ComparisonFlags {
  diff?: string;
  json?: true;
}

export function command(): Command {
  const picture = packageFile('fixtures/console.png');
  const self = new Command('compare')
    .argument('<expected.png>', 'the expected picture')
    .argument('<actual.png>', 'the actual picture')
    .option('--diff <out.png>', 'write a picture of the differences: red on a pale copy of the actual picture')
    .option('--json', 'print the result as JSON');
  return addCompareOptions(self)
    .addHelpText(
      'after',
      `\nThe exit code is 0 if the pictures match, 1 if they differ, 2 if they could not be compared.\n\nExample:\n  $ scanout compare ${picture} ${picture} --mask 200x16+1080+0 --diff /tmp/diff.png`,
    )
    .action(run);
}

async function run(expectedPath: string, actualPath: string, options: Options): Promise<void> {
  const compareOptions = compareOptionsOf(options);
  const [expected, actual] = await Promise.all([readPicture(expectedPath), readPicture(actualPath)]);
  const comparison = comparePictures(expected, actual, compareOptions);
  if (options.diff !== undefined) await writeDiff(options.diff, diffPicture(expected, actual, compareOptions));
  const { matches, comparedPixels, explanation } = comparison;
  if (options.json) {
    printJson({ expected: expectedPath, actual: actualPath, diff: options.diff ?? null, ...comparison });
  } else {
    const verdict = matches
      ? explanation === ''
        ? `${comparedPixels} pixels are equal`
        : `within the allowance: ${explanation}`
      : explanation;
    print(`${actualPath}: ${verdict}`);
  }
  if (!matches) process.exitCode = EXIT_DIFFERENT;
}

// A file that cannot be read or written exits with 2, because 1 means that the pictures differ.
export async function readPicture(path: string): Promise<Picture> {
  try {
    return await readPng(path);
  } catch (error) {
    if (error instanceof PngError) throw new UsageError(`${error.message}; give a PNG`);
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
