import type { Picture } from '../../src/core/picture.ts';
import type { ComparedArea } from './compared-area.ts';
import type { Difference } from './difference.ts';

/** How much differs, in one sentence. */
export function diagnose(_expected: Picture, _actual: Picture, area: ComparedArea, { count }: Difference): string {
  return `${count} of ${area.pixels} pixels differ`;
}

export function diagnoseSizes(expected: Picture, actual: Picture): string {
  return `the picture is ${actual.width}x${actual.height} instead of ${expected.width}x${expected.height}`;
}
