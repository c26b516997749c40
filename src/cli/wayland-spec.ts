import { UsageError } from '../core/errors.ts';

/** What a window can be asked for. */
export interface WindowChoices {
  readonly fullscreen?: boolean;
  /** Screen pixels per guest pixel. */
  readonly scale?: number;
  readonly title?: string;
}

/** Windows of the compositor at `display`, as WAYLAND_DISPLAY names it; without: of the one the environment names. */
export interface WaylandSpec extends WindowChoices {
  readonly kind: 'wayland';
  readonly display?: string;
  readonly tearing?: boolean;
}

const MAX_SCALE = 16;

/** `wayland[:DISPLAY][,fullscreen][,scale=N][,tearing][,title=TEXT]`, the text last as it may have commas. Null for anything else. */
export function parseWaylandSpec(text: string): WaylandSpec | null {
  const match = /^wayland(?::([^,]+))?((?:,(?:fullscreen|tearing|scale=[^,]*))*)(?:,title=(.+))?$/su.exec(text);
  if (!match) return null;
  const [, display, list = '', title] = match;
  const choices = list.split(',').slice(1);
  const names = choices.map((choice) => choice.split('=')[0]);
  if (new Set(names).size < names.length || text.includes('\0')) return null;
  const scaleText = choices.find((choice) => choice.startsWith('scale='))?.slice('scale='.length);
  const scale = scaleText === undefined ? undefined : parseScale(scaleText);
  if (scale === null) return null;
  return {
    kind: 'wayland',
    ...(display !== undefined && { display }),
    ...(choices.includes('fullscreen') && { fullscreen: true }),
    ...(choices.includes('tearing') && { tearing: true }),
    ...(scale !== undefined && { scale }),
    ...(title !== undefined && { title }),
  };
}

/** Screen pixels per guest pixel, 0.1 to 16; null for anything else. */
export function parseScale(text: string): number | null {
  const scale = /^\d{1,2}(\.\d{1,3})?$/.test(text) ? Number(text) : 0;
  return scale >= 0.1 && scale <= MAX_SCALE ? scale : null;
}

/** The one output in windows, with what was asked for beside it; null if there is none. UsageError if there are two, or nothing that `choices` is about. */
export function windowsAmong(specs: readonly { readonly kind: string }[], choices: WindowChoices): WaylandSpec | null {
  const found = specs.filter((spec): spec is WaylandSpec => spec.kind === 'wayland');
  if (found.length > 1) throw new UsageError('--output wayland: windows are given once, there is one for every scanout');
  const [spec] = found;
  const given = Object.entries(choices).filter(([, value]) => value !== undefined);
  if (!spec && given.length > 0) throw new UsageError(`--${given[0]![0]}: only --output wayland has windows`);
  return spec ? { ...spec, ...Object.fromEntries(given) } : null;
}
