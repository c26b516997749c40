import type { WantedMode } from '../../display/kms/mode.ts';
import { UsageError } from '../core/errors.ts';
import { parseWaylandSpec, type WaylandSpec } from './wayland-spec.ts';

/** What `--output` asks for. `dmabuf`: the VMM draws with GL, so it can take pictures without a copy. */
export type OutputSpec =
  | WaylandSpec
  | { readonly kind: 'headless'; readonly width: number; readonly height: number; readonly refreshMhz: number }
  | { readonly kind: 'vmm'; readonly dmabuf: boolean }
  | { readonly kind: 'kms'; readonly card?: string; readonly connector?: string; readonly mode?: WantedMode; readonly background?: number };

/** What a screen shows while the guest shows nothing: the last picture, or a colour, 0xRRGGBB. */
export type WhenOff = 'last' | number;

export const OUTPUT_FORMS =
  "headless:WIDTHxHEIGHT[@HZ] (headless:1280x800@60), vmm (the VMM's own display), vmm:dmabuf (the same, if it draws with GL) " +
  'wayland[:DISPLAY][,fullscreen][,scale=N][,tearing][,title=TEXT] (windows; wayland:wayland-1,scale=2), ' +
  'or kms[:CARD][,connector=NAME][,mode=WIDTHxHEIGHT[@HZ]] (the monitors of this machine; kms:card0,connector=HDMI-A-1)';

export const WHEN_OFF_FORMS = '`last` (its last picture), `black`, or a colour as #RRGGBB (kms only)';

const BLACK = 0;
const MODE = /^(\d{1,5})x(\d{1,5})(?:@(\d{1,4}(?:\.\d{1,3})?))?$/;
const DEFAULT_REFRESH_HZ = 60;

/** Checks the form only; whether a size is possible is for the output to say. Throws UsageError. */
export function parseOutputSpec(text: string): OutputSpec {
  if (text === 'vmm' || text === 'vmm:dmabuf') return { kind: 'vmm', dmabuf: text === 'vmm:dmabuf' };
  const kms = /^kms(?::([^,=]+))?((?:,[^,]+)*)$/.exec(text);
  if (kms) return { kind: 'kms', ...(kms[1] !== undefined && { card: kms[1] }), ...kmsChoices(kms[2]!.split(',').slice(1), text) };
  const wayland = parseWaylandSpec(text);
  if (wayland) return wayland;
  const mode = text.startsWith('headless:') ? parseMode(text.slice('headless:'.length)) : null;
  if (!mode) throw unusable(text);
  return { kind: 'headless', refreshMhz: DEFAULT_REFRESH_HZ * 1000, ...mode };
}

/** Throws UsageError. */
export function parseWhenOff(text: string): WhenOff {
  if (text === 'last') return text;
  if (text === 'black') return BLACK;
  if (!/^#[0-9a-f]{6}$/i.test(text)) throw new UsageError(`--when-off: cannot use '${text}'; write ${WHEN_OFF_FORMS}`);
  return parseInt(text.slice(1), 16);
}

/** The outputs with the colour they show while the guest shows nothing. UsageError if none of them can show it. */
export function withBackground(specs: readonly OutputSpec[], whenOff: WhenOff): readonly OutputSpec[] {
  if (whenOff === 'last' || whenOff === BLACK) return specs;
  if (!specs.some(({ kind }) => kind === 'kms')) throw new UsageError('--when-off: only --output kms shows a colour; `last` and `black` work with every output');
  return specs.map((spec) => (spec.kind === 'kms' ? { ...spec, background: whenOff } : spec));
}

function kmsChoices(parts: readonly string[], text: string): { connector?: string; mode?: WantedMode } {
  const choices: { connector?: string; mode?: WantedMode } = {};
  for (const part of parts) {
    const [, key, value = ''] = /^(connector|mode)=(.+)$/.exec(part) ?? [];
    if (key === 'connector' && choices.connector === undefined) {
      choices.connector = value;
      continue;
    }
    const mode = key === 'mode' && choices.mode === undefined ? parseMode(value) : null;
    if (!mode) throw unusable(text);
    choices.mode = mode;
  }
  return choices;
}

function parseMode(text: string): WantedMode | null {
  const match = MODE.exec(text);
  if (!match) return null;
  const [, width, height, hz] = match;
  return { width: Number(width), height: Number(height), ...(hz !== undefined && { refreshMhz: Math.round(Number(hz) * 1000) }) };
}

function unusable(text: string): UsageError {
  return new UsageError(`--output: cannot use '${text}'; write ${OUTPUT_FORMS}`);
}
