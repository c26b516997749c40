import { UsageError } from '../../src/core/errors.ts';
import type { Rect, Size } from '../../src/core/geometry.ts';

/** What of a picture is compared. */
export interface ComparedArea {
  /** Inside the picture, not empty. */
  readonly region: Rect;
  /** Inside the region, not overlapping; not compared. */
  readonly masks: readonly Rect[];
  /** The region's without those masked; at least 1. */
  readonly pixels: number;
}

/** Throws UsageError where that is nothing, or a region that is not wholly inside the picture. */
export function comparedArea({ width, height }: Size, { region, masks = [] }: { readonly region?: Rect; readonly masks?: readonly Rect[] }): ComparedArea {
  for (const rect of region ? [region, ...masks] : masks) {
    const isWhole = [rect.x, rect.y, rect.width, rect.height].every(Number.isInteger);
    if (!isWhole || rect.width < 0 || rect.height < 0) throw new UsageError(`${formatRect(rect)} is no rectangle of whole pixels`);
  }
  const whole = { x: 0, y: 0, width, height };
  const inside = region ?? whole;
  if (areaOf(intersection(inside, whole)) !== areaOf(inside)) {
    throw new UsageError(`region ${formatRect(inside)} reaches beyond the ${width}x${height} picture; give one inside it`);
  }
  const parts: Rect[] = [];
  for (const mask of masks) addDisjoint(parts, intersection(mask, inside));
  const pixels = parts.reduce((left, part) => left - areaOf(part), areaOf(inside));
  if (pixels === 0) throw new UsageError(`nothing is left to compare of ${formatRect(inside)}: give a larger region or smaller masks`);
  return { region: inside, masks: parts, pixels };
}

export function isMasked({ masks }: ComparedArea, x: number, y: number): boolean {
  for (const mask of masks) {
    if (x >= mask.x && y >= mask.y && x < mask.x + mask.width && y < mask.y + mask.height) return true;
  }
  return false;
}

export function formatRect({ x, y, width, height }: Rect): string {
  return `${width}x${height}${sign(x)}${x}${sign(y)}${y}`;
}

export function intersection(a: Rect, b: Rect): Rect {
  const x = Math.max(a.x, b.x);
  const y = Math.max(a.y, b.y);
  const width = Math.min(a.x + a.width, b.x + b.width) - x;
  const height = Math.min(a.y + a.height, b.y + b.height) - y;
  return { x, y, width: Math.max(0, width), height: Math.max(0, height) };
}

/** Adds what of `rect` none of `parts` covers yet. */
function addDisjoint(parts: Rect[], rect: Rect): void {
  let rest = [rect];
  for (const part of parts) rest = rest.flatMap((piece) => without(piece, part));
  parts.push(...rest.filter((piece) => areaOf(piece) > 0));
}

/** `rect` without `hole`: the parts above, below, left and right of it. */
function without(rect: Rect, hole: Rect): Rect[] {
  const cut = intersection(rect, hole);
  if (areaOf(cut) === 0) return [rect];
  const below = cut.y + cut.height;
  const right = cut.x + cut.width;
  return [
    { ...rect, height: cut.y - rect.y },
    { ...rect, y: below, height: rect.y + rect.height - below },
    { ...cut, x: rect.x, width: cut.x - rect.x },
    { ...cut, x: right, width: rect.x + rect.width - right },
  ];
}

function areaOf({ width, height }: Rect): number {
  return width * height;
}

function sign(offset: number): string {
  return offset < 0 ? '' : '+';
}
