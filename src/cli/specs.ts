import type { WantedMode } from '../../display/kms/mode.ts';
import { UsageError } from '../core/errors.ts';
import type { InputKind } from '../guest/vhost-user/input.ts';

const UNITS: Readonly<Record<string, number>> = { K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };

/** `512M`, `2G`: a positive number of bytes. Throws UsageError; `what` names the option. */
export function parseByteSize(text: string, what: string): number {
  const match = /^([1-9]\d{0,6})([KMGT])i?B?$/i.exec(text);
  if (!match) throw new UsageError(`${what}: '${text}' is not a size; write a whole number and K, M, G or T, such as 512M or 2G`);
  return Number(match[1]) * UNITS[match[2]!.toUpperCase()]!;
}

/** Where the guest's VMM comes from: a socket to listen on, or one this process was started with. */
export type GuestSpec = { readonly socket: string } | { readonly fd: number };

export const GUEST_FORMS = 'vhost-user:SOCKET (vhost-user:/tmp/gpu.sock) or vhost-user:fd=N (vhost-user:fd=3)';

const FIRST_AFTER_STDIO = 3;

/** Throws UsageError. */
export function parseGuestSpec(text: string): GuestSpec {
  const rest = /^vhost-user:(.+)$/s.exec(text)?.[1];
  if (rest === undefined) throw new UsageError(`--guest: cannot use '${text}'; write ${GUEST_FORMS}`);
  return parseSocket('--guest', rest, GUEST_FORMS);
}

/** What stands after `vhost-user:` in an option that has these forms. Throws UsageError. */
function parseSocket(option: string, text: string, forms: string): GuestSpec {
  if (text.includes('\0')) throw new UsageError(`${option}: a path has no zero bytes; write ${forms}`);
  if (!text.startsWith('fd=')) return { socket: text };
  const fd = /^fd=(\d{1,7})$/.exec(text)?.[1];
  if (fd === undefined || Number(fd) < FIRST_AFTER_STDIO) {
    throw new UsageError(`${option}: '${text}' is no inherited socket; its number is ${FIRST_AFTER_STDIO} or more: ${forms}`);
  }
  return { fd: Number(fd) };
}

/** A device of the guest, and where the VMM that wants it comes from. */
export interface InputSpec {
  readonly kind: InputKind;
  readonly from: GuestSpec;
}

export const INPUT_FORMS =
  'vhost-user:SOCKET (keyboard and pointer; vhost-user:/tmp/input.sock) or vhost-user:SOCKET,kind=touch (touchscreen); fd=N instead of SOCKET is an inherited one';

/** Throws UsageError. */
export function parseInputSpec(text: string): InputSpec {
  const [, socket, kind = 'keyboard-pointer'] = /^vhost-user:(?!,kind=)(.+?)(?:,kind=([^,/]*))?$/s.exec(text) ?? [];
  if (socket === undefined || !isKind(kind)) throw new UsageError(`--input: cannot use '${text}'; write ${INPUT_FORMS}`);
  return { kind, from: parseSocket('--input', socket, INPUT_FORMS) };
}

/** UsageError unless each device is there at most once. */
export function parseInputSpecs(texts: readonly string[]): readonly InputSpec[] {
  const specs = texts.map(parseInputSpec);
  if (new Set(specs.map(({ kind }) => kind)).size < specs.length) throw new UsageError('--input: a guest has one keyboard and pointer, and one touchscreen');
  return specs;
}

function isKind(text: string): text is InputKind {
  return text === 'keyboard-pointer' || text === 'touch';
}

/** What a window can be asked for. */
interface WindowChoices {
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
function parseWaylandSpec(text: string): WaylandSpec | null {
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
