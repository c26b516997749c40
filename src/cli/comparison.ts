import { type CompareOptions, type Comparison, comparePictures, diffPicture } from '../../display/picture/compare.ts';
import { PngError, readPng, writePng } from '../../display/picture/png.ts';
import { UsageError } from '../core/errors.ts';
import type { Picture } from '../core/picture.ts';

/**
 * Compares two PNGs, and writes a picture of the differences to `diff` if that is not null. Rejects with UsageError for a
 * file that cannot be read or written.
 */
export async function compareFiles(
  expectedPath: string,
  actualPath: string,
  options: CompareOptions,
  diff: string | null,
): Promise<Comparison> {
  const [expected, actual] = await Promise.all([readPicture(expectedPath), readPicture(actualPath)]);
  const comparison = comparePictures(expected, actual, options);
  if (diff !== null) await writeDiff(diff, diffPicture(expected, actual, options));
  return comparison;
}

/** Rejects with UsageError. */
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
