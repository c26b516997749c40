import type { WantedMode } from '../../display/kms/resources.ts';
import { UsageError } from '../core/errors.ts';
import type { InputKind } from '../guest/vhost-user/input.ts';

const UNITS: Readonly<Record<string, number>> = { K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };

/** Parses `512M` or `2G` to a positive number of bytes. Throws UsageError with the name of the option, `what`. */
export function parseByteSize(text: string, what: string): number {
  const match = /^([1-9]\d{0,6})([KMGT])i?B?$/i.exec(text);
  if (!match)
    throw new UsageError(
      `${what}: '${text}' is not a size; write a whole number followed by K, M, G or T, such as 512M or 2G`,
    );
  return Number(match[1]) * UNITS[match[2]!.toUpperCase()]!;
}

/** Where the guest's VMM connects: a socket to listen on, or a descriptor that this process inherited. */
export type GuestSpec = { readonly socket: string } | { readonly fd: number };

export const GUEST_FORMS = 'vhost-user:SOCKET (vhost-user:/tmp/gpu.sock) or vhost-user:fd=N (vhost-user:fd=3)';

const FIRST_AFTER_STDIO = 3;

/** Throws UsageError. */
export function parseGuestSpec(text: string): GuestSpec {
  const rest = /^vhost-user:(.+)$/s.exec(text)?.[1];
  if (rest === undefined) throw new UsageError(`--guest: cannot use '${text}'; write ${GUEST_FORMS}`);
  return parseSocket('--guest', rest, GUEST_FORMS);
}

/** Parses the text after `vhost-user:` in an option. Throws UsageError, which lists `forms`. */
function parseSocket(option: string, text: string, forms: string): GuestSpec {
  if (text.includes('\0')) throw new UsageError(`${option}: a path cannot contain zero bytes; write ${forms}`);
  if (!text.startsWith('fd=')) return { socket: text };
  const fd = /^fd=(\d{1,7})$/.exec(text)?.[1];
  if (fd === undefined || Number(fd) < FIRST_AFTER_STDIO) {
    throw new UsageError(
      `${option}: '${text}' is not an inherited descriptor, which has a number of ${FIRST_AFTER_STDIO} or more; write ${forms}`,
    );
  }
  return { fd: Number(fd) };
}

/** An input device of the guest, and where its VMM connects. */
export interface InputSpec {
  readonly kind: InputKind;
  readonly from: GuestSpec;
}

export const INPUT_FORMS =
  'vhost-user:SOCKET (keyboard and pointer; vhost-user:/tmp/input.sock) or vhost-user:SOCKET,kind=touch (touchscreen); fd=N instead of SOCKET is an inherited descriptor';

/** Throws UsageError. */
export function parseInputSpec(text: string): InputSpec {
  const [, socket, kind = 'keyboard-pointer'] = /^vhost-user:(?!,kind=)(.+?)(?:,kind=([^,/]*))?$/s.exec(text) ?? [];
  if (socket === undefined || !isKind(kind))
    throw new UsageError(`--input: cannot use '${text}'; write ${INPUT_FORMS}`);
  return { kind, from: parseSocket('--input', socket, INPUT_FORMS) };
}

/** Throws UsageError, also if a kind of device is given twice. */
export function parseInputSpecs(texts: readonly string[]): readonly InputSpec[] {
  const specs = texts.map(parseInputSpec);
  if (new Set(specs.map(({ kind }) => kind)).size < specs.length)
    throw new UsageError('--input: a guest has at most one keyboard with pointer and one touchscreen');
  return specs;
}

function isKind(text: string): text is InputKind {
  return text === 'keyboard-pointer' || text === 'touch';
}

/** Options of a window. */
interface WindowChoices {
  readonly fullscreen?: boolean;
  /** Screen pixels per guest pixel. */
  readonly scale?: number;
  readonly title?: string;
}

/** Windows on the compositor at `display`, a name as in WAYLAND_DISPLAY; default: the compositor that the environment names. */
export interface WaylandSpec extends WindowChoices {
  readonly kind: 'wayland';
  readonly display?: string;
  readonly tearing?: boolean;
}

const MAX_SCALE = 16;

/** Parses `wayland[:DISPLAY][,fullscreen][,scale=N][,tearing][,title=TEXT]`. The title is last, because it may contain commas. Null for anything else. */
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

/** Parses a number of screen pixels per guest pixel, 0.1 to 16; null for anything else. */
export function parseScale(text: string): number | null {
  const scale = /^\d{1,2}(\.\d{1,3})?$/.test(text) ? Number(text) : 0;
  return scale >= 0.1 && scale <= MAX_SCALE ? scale : null;
}

/** The Wayland output with `choices` added; null if there is none. Throws UsageError for two of them, or for choices without one. */
export function windowsAmong(specs: readonly { readonly kind: string }[], choices: WindowChoices): WaylandSpec | null {
  const found = specs.filter((spec): spec is WaylandSpec => spec.kind === 'wayland');
  if (found.length > 1) throw new UsageError('--output wayland: give it once; it opens a window for every scanout');
  const [spec] = found;
  const given = Object.entries(choices).filter(([, value]) => value !== undefined);
  if (!spec && given.length > 0) throw new UsageError(`--${given[0]![0]}: works only with --output wayland`);
  return spec ? { ...spec, ...Object.fromEntries(given) } : null;
}

/** The parsed `--output`. `dmabuf` means that the VMM draws with GL, so it can show pictures without a copy. */
export type OutputSpec =
  | WaylandSpec
  | { readonly kind: 'headless'; readonly width: number; readonly height: number; readonly refreshMhz: number }
  | { readonly kind: 'vmm'; readonly dmabuf: boolean }
  | {
      readonly kind: 'kms';
      readonly card?: string;
      readonly connector?: string;
      readonly mode?: WantedMode;
      readonly background?: number;
    };

/** What a screen shows while the guest shows nothing: the last picture, or a colour 0xRRGGBB. */
export type WhenOff = 'last' | number;

interface Form {
  readonly form: string;
  readonly what: string;
}

const HEADLESS_FORM = { form: 'headless:WIDTHxHEIGHT[@HZ]', what: 'no screen, for screenshots (headless:1280x800@60)' };
const WAYLAND_FORM = {
  form: 'wayland[:DISPLAY][,fullscreen][,scale=N][,tearing][,title=TEXT]',
  what: 'windows (wayland:wayland-1,scale=2)',
};
const KMS_FORM = {
  form: 'kms[:CARD][,connector=NAME][,mode=WIDTHxHEIGHT[@HZ]]',
  what: 'the monitors of this machine (kms:card0,connector=HDMI-A-1)',
};

/** The outputs that a recording can be replayed to. */
export const REPLAY_OUTPUTS: readonly Form[] = [HEADLESS_FORM, WAYLAND_FORM, KMS_FORM];

export const OUTPUTS: readonly Form[] = [
  ...REPLAY_OUTPUTS,
  { form: 'vmm', what: "the VMM's own display" },
  { form: 'vmm:dmabuf', what: 'the same, if the VMM draws with GL' },
];

/** A section for the help of a command. */
export function formsHelp(title: string, forms: readonly Form[]): string {
  return `\n${title}:\n${forms.map(({ form, what }) => `  ${form}\n      ${what}`).join('\n')}`;
}

export const WHEN_OFF_FORMS = '`last` (its last picture), `black`, or a colour as #RRGGBB (kms only)';

const BLACK = 0;
const MODE = /^(\d{1,5})x(\d{1,5})(?:@(\d{1,4}(?:\.\d{1,3})?))?$/;
const DEFAULT_REFRESH_HZ = 60;

/** Checks the form only; the output checks the size. Throws UsageError. */
export function parseOutputSpec(text: string): OutputSpec {
  if (text === 'vmm' || text === 'vmm:dmabuf') return { kind: 'vmm', dmabuf: text === 'vmm:dmabuf' };
  const kms = /^kms(?::([^,=]+))?((?:,[^,]+)*)$/.exec(text);
  if (kms)
    return {
      kind: 'kms',
      ...(kms[1] !== undefined && { card: kms[1] }),
      ...kmsChoices(kms[2]!.split(',').slice(1), text),
    };
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

/** Adds the colour to show while the guest shows nothing to the outputs. Throws UsageError if none of them can show it. */
export function withBackground(specs: readonly OutputSpec[], whenOff: WhenOff): readonly OutputSpec[] {
  if (whenOff === 'last' || whenOff === BLACK) return specs;
  if (!specs.some(({ kind }) => kind === 'kms'))
    throw new UsageError(
      '--when-off: a colour works only with --output kms; `last` and `black` work with every output',
    );
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
  return {
    width: Number(width),
    height: Number(height),
    ...(hz !== undefined && { refreshMhz: Math.round(Number(hz) * 1000) }),
  };
}

function unusable(text: string): UsageError {
  return new UsageError(
    `--output: cannot use '${text}'; write one of ${OUTPUTS.map(({ form, what }) => `${form}: ${what}`).join('; ')}`,
  );
}
