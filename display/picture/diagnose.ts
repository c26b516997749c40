import type { Rect } from '../../src/core/geometry.ts';
import type { Picture } from '../../src/core/picture.ts';
import { colourChange, formatColour } from './colour-change.ts';
import { formatRect, type ComparedArea } from './compared-area.ts';
import type { Difference } from './difference.ts';
import { gather } from './evidence.ts';
import { movedPixels } from './moved-pixels.ts';

/** What differs, in one sentence: how much, where, and what it looks like. */
export function diagnose(expected: Picture, actual: Picture, area: ComparedArea, difference: Difference): string {
  const { count, box } = difference;
  const evidence = gather(expected, actual, area, difference);
  const first = evidence.differing[0]!;
  const x = area.region.x + (first % area.region.width);
  const y = area.region.y + Math.floor(first / area.region.width);
  const change = `${formatColour(evidence.actual[first]!)} instead of ${formatColour(evidence.expected[first]!)}`;
  if (count === 1) return `1 of ${area.pixels} pixels differs: ${x},${y} is ${change}`;
  const cause = colourChange(evidence) ?? movedPixels(evidence) ?? `the first at ${x},${y} is ${change}`;
  return `${count} of ${area.pixels} pixels differ${place(box, area.region)}: ${cause}`;
}

/** Where, if not everywhere that was compared. */
function place(box: Rect, region: Rect): string {
  if (box.height === 1 && region.height > 1) return `, all in row ${box.y}${box.width === region.width ? '' : `, columns ${box.x} to ${box.x + box.width - 1}`}`;
  if (box.width === 1 && region.width > 1) return `, all in column ${box.x}${box.height === region.height ? '' : `, rows ${box.y} to ${box.y + box.height - 1}`}`;
  return box.width === region.width && box.height === region.height ? '' : `, all within ${formatRect(box)}`;
}
