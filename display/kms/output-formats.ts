import { DRM_FORMAT, type Fourcc, type Modifier, opaqueOf } from '../../protocols/drm-fourcc.ts';
import { DRM_PLANE_TYPE_PRIMARY } from '../../protocols/drm-mode.ts';
import { FormatSet } from '../../src/core/framebuffer.ts';
import { pixmanFormat } from '../../src/sys/lib/pixman.ts';
import { composedFormat } from './composer.ts';
import type { Plane } from './resources.ts';

/** What of pixels an output takes, whichever of the planes that can reach its connector it will get. */
export interface OutputFormats {
  /** Whatever some plane shows as it is, or without its alpha. */
  readonly imports: FormatSet;
  /** What primary planes show. */
  readonly primary: FormatSet;
  /** What the CPU can draw, the screen's own format first; with alpha for cursors, which are composed where no plane takes them. */
  readonly shadows: readonly Fourcc[];
}

export function outputFormats(planes: readonly Plane[]): OutputFormats {
  const primaries = planes.filter(({ type }) => type === DRM_PLANE_TYPE_PRIMARY);
  const primary = new FormatSet(primaries.flatMap(pairsOf));
  const opaques = Object.values(DRM_FORMAT).flatMap((format): Pair[] => {
    const opaque = opaqueOf(format);
    return opaque === null || opaque === format ? [] : [...primary.modifiers(opaque)].map((modifier) => [format, modifier]);
  });
  const drawn = [...primary.formats()].filter((format) => pixmanFormat(format) !== null);
  return {
    imports: new FormatSet([...planes.flatMap(pairsOf), ...opaques]),
    primary,
    shadows: [...new Set([...primaries.slice(0, 1).map(composedFormat), ...drawn, DRM_FORMAT.ARGB8888])],
  };
}

type Pair = readonly [Fourcc, Modifier];

function pairsOf({ formats }: Plane): Pair[] {
  return [...formats.formats()].flatMap((format) => [...formats.modifiers(format)].map((modifier): Pair => [format, modifier]));
}
