import { existsSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import type { KeyChord, KmsInputOptions } from '../../display/kms/input.ts';
import type { KmsOptions } from '../../display/kms/display.ts';
import type { WantedMode } from '../../display/kms/resources.ts';
import { isLocal, parseVncAddress, type VncAddress } from '../../display/vnc/address.ts';
import { KEY } from '../../protocols/input-event-codes.ts';
import { privateDirectory } from '../control/protocol.ts';
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

/** A socket to listen on, or a descriptor that this process inherited. */
export type SocketSpec = { readonly socket: string } | { readonly fd: number };

/** How a VFIO device is reached, as in VfioAddress. */
export type VfioSpec =
  SocketSpec | { readonly pid: number | string; readonly device?: number } | { readonly mdev: string };

/** How a VM's D-Bus display is reached: QEMU's QMP socket, or the address of a bus. `text` shows its text consoles too. */
export type DbusSpec = ({ readonly qmp: string } | { readonly bus: string; readonly name?: string }) & {
  readonly text?: true;
};

/** Where the guest's VMM connects, the virtual GPU that draws for the guest, or the VM's D-Bus display. */
export type GuestSpec = SocketSpec | { readonly vfio: VfioSpec } | { readonly dbus: DbusSpec };

export const GUEST_FORMS =
  'vhost-user:SOCKET (vhost-user:/tmp/gpu.sock), vhost-user:fd=N (vhost-user:fd=3), vfio:pid=PID[,device=N] (vfio:pid=/run/vm.pid), vfio:socket=PATH, vfio:fd=N, vfio:mdev=UUID, qemu-dbus:qmp=SOCKET[,text] (qemu-dbus:qmp=/run/vm.qmp) or qemu-dbus:bus[=session|system|ADDRESS][,name=VM][,text]';

const FIRST_AFTER_STDIO = 3;

/** Throws UsageError. */
export function parseGuestSpec(text: string): GuestSpec {
  const socket = /^vhost-user:(.+)$/s.exec(text)?.[1];
  if (socket !== undefined) return parseSocket('--guest', socket, GUEST_FORMS);
  const display = /^qemu-dbus:(.+)$/s.exec(text)?.[1];
  if (display !== undefined) return { dbus: parseDbusSpec(display, text) };
  const device = /^vfio:(.+)$/s.exec(text)?.[1];
  if (device === undefined) throw new UsageError(`--guest: cannot use '${text}'; write ${GUEST_FORMS}`);
  return { vfio: parseVfioSpec(device, text) };
}

function parseVfioSpec(rest: string, text: string): VfioSpec {
  if (rest.startsWith('fd=')) return parseSocket('--guest', rest, GUEST_FORMS);
  const [, socket] = /^socket=([^\0]+)$/.exec(rest) ?? [];
  if (socket !== undefined) return { socket };
  const [, mdev] = /^mdev=([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/i.exec(rest) ?? [];
  if (mdev !== undefined) return { mdev: mdev.toLowerCase() };
  const [, pid, device] = /^pid=([1-9]\d{0,8}|[^,\0]*[^,\0\d][^,\0]*)(?:,device=(\d{1,3}))?$/.exec(rest) ?? [];
  if (pid === undefined) throw new UsageError(`--guest: cannot use '${text}'; write ${GUEST_FORMS}`);
  return { pid: /^\d+$/.test(pid) ? Number(pid) : pid, ...(device !== undefined && { device: Number(device) }) };
}

function parseDbusSpec(rest: string, text: string): DbusSpec {
  const [, given, hasText] = /^([^\0]+?)(,text)?$/.exec(rest) ?? [];
  const [, qmp] = /^qmp=(.+)$/.exec(given ?? '') ?? [];
  const choice = hasText === undefined ? {} : ({ text: true } as const);
  if (qmp !== undefined) return { qmp, ...choice };
  const [isBus, bus = 'session', name] = /^bus(?:=(.+?))?(?:,name=(.+))?$/.exec(given ?? '') ?? [];
  const isAddress = bus === 'session' || bus === 'system' || bus.includes(':');
  if (isBus === undefined || !isAddress) throw new UsageError(`--guest: cannot use '${text}'; write ${GUEST_FORMS}`);
  return { bus, ...(name !== undefined && { name }), ...choice };
}

/** Parses the text after `vhost-user:` in an option. Throws UsageError, which lists `forms`. */
function parseSocket(option: string, text: string, forms: string): SocketSpec {
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
  readonly from: SocketSpec;
}

export const INPUT_FORMS =
  'vhost-user:SOCKET (keyboard and pointer; vhost-user:/tmp/input.sock) or vhost-user:SOCKET,kind=touch (touchscreen); fd=N instead of SOCKET is an inherited descriptor; with a QEMU command after -- no SPEC (keyboard and pointer) or touch';

/** What --input is without a value. */
export const DEFAULT_INPUT = 'keyboard-pointer';

/** Throws UsageError. */
export function parseInputSpec(text: string): InputSpec {
  const [, socket, kind = DEFAULT_INPUT] = /^vhost-user:(?!,kind=)(.+?)(?:,kind=([^,/]*))?$/s.exec(text) ?? [];
  if (socket === undefined || !isKind(kind))
    throw new UsageError(`--input: cannot use '${text}'; write ${INPUT_FORMS}`);
  return { kind, from: parseSocket('--input', socket, INPUT_FORMS) };
}

export const CLIPBOARD_FORMS =
  'vdagent:SOCKET (vdagent:/tmp/clipboard.sock) or vdagent:fd=N; with a QEMU command after --, or --guest qemu-dbus, no SPEC';

/** What --clipboard is without a value. */
export const DEFAULT_CLIPBOARD = 'vdagent';

/** Where the VMM connects the port of the guest's SPICE agent. Throws UsageError. */
export function parseClipboardSpec(text: string): SocketSpec {
  const socket = /^vdagent:(.+)$/s.exec(text)?.[1];
  if (socket === undefined) throw new UsageError(`--clipboard: cannot use '${text}'; write ${CLIPBOARD_FORMS}`);
  return parseSocket('--clipboard', socket, CLIPBOARD_FORMS);
}

const TOO_MANY_INPUTS = '--input: a guest has at most one keyboard with pointer and one touchscreen';

/** Throws UsageError, also if a kind of device is given twice. */
export function parseInputSpecs(texts: readonly string[]): readonly InputSpec[] {
  const specs = texts.map(parseInputSpec);
  if (new Set(specs.map(({ kind }) => kind)).size < specs.length) throw new UsageError(TOO_MANY_INPUTS);
  return specs;
}

/** With a QEMU command, to which the devices are connected. Throws UsageError. */
export function parseInputKinds(texts: readonly string[]): readonly InputKind[] {
  const kinds = texts.filter(isKind);
  const other = texts.find((text) => !isKind(text));
  if (other !== undefined)
    throw new UsageError(
      `--input: cannot use '${other}'; with a QEMU command write --input (keyboard and pointer) or --input touch`,
    );
  if (new Set(kinds).size < kinds.length) throw new UsageError(TOO_MANY_INPUTS);
  return kinds;
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
  readonly inhibitIdle?: boolean;
}

const MAX_SCALE = 16;

/** Parses `wayland[:DISPLAY][,fullscreen][,scale=N][,tearing][,inhibit-idle][,title=TEXT]`. The title is last, because it may contain commas. Null for anything else. */
function parseWaylandSpec(text: string): WaylandSpec | null {
  const match = /^wayland(?::([^,]+))?((?:,(?:fullscreen|tearing|inhibit-idle|scale=[^,]*))*)(?:,title=(.+))?$/su.exec(
    text,
  );
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
    ...(choices.includes('inhibit-idle') && { inhibitIdle: true }),
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

/** Buffers for other processes. `mode` is that of the socket's file, `group` a name or number. */
export interface ExportSpec {
  readonly kind: 'export';
  readonly path: string;
  readonly mode?: number;
  readonly group?: string;
  readonly size?: WantedMode;
  /** Where the VMM connects a virtio-serial port. */
  readonly channel?: string;
}

const EXPORT_CHOICES = /^(mode=0?[0-7]{3}|group=[^=]+|size=[^=]+|channel=.+)$/;

/** Parses `export:SOCKET[,mode=MODE][,group=GROUP][,size=WIDTHxHEIGHT[@HZ]][,channel=SOCKET]`. Null for anything else. */
function parseExportSpec(text: string): ExportSpec | null {
  const [path, ...choices] = text.slice('export:'.length).split(',');
  const given = new Map(choices.map((choice) => [choice.split('=')[0]!, choice.slice(choice.indexOf('=') + 1)]));
  if (!text.startsWith('export:') || !path || text.includes('\0')) return null;
  if (given.size < choices.length || !choices.every((choice) => EXPORT_CHOICES.test(choice))) return null;
  const mode = given.get('mode');
  const group = given.get('group');
  const channel = given.get('channel');
  const sizeText = given.get('size');
  const size = sizeText === undefined ? undefined : parseMode(sizeText);
  if (size === null) return null;
  return {
    kind: 'export',
    path,
    ...(mode !== undefined && { mode: parseInt(mode, 8) }),
    ...(group !== undefined && { group }),
    ...(size && { size }),
    ...(channel !== undefined && { channel }),
  };
}

/** A VNC server for one scanout. */
export interface VncSpec {
  readonly kind: 'vnc';
  /** Absent: the default socket. */
  readonly address?: VncAddress;
  /** Whose first line is the password. */
  readonly passwordFile?: string;
  readonly size?: WantedMode;
}

/** Parses `vnc[:ADDRESS][,password-file=FILE][,size=WIDTHxHEIGHT[@HZ]]`. Null for anything else. Throws UsageError for an address that needs a password. */
function parseVncSpec(text: string): VncSpec | null {
  const [, addressText, list = ''] = /^vnc(?::([^,]+))?((?:,[^,]+)*)$/.exec(text) ?? [];
  if (!/^vnc([:,]|$)/.test(text) || (text.startsWith('vnc:') && addressText === undefined)) return null;
  const choices = list.split(',').slice(1);
  const given = new Map(choices.map((choice) => [choice.split('=')[0]!, choice.slice(choice.indexOf('=') + 1)]));
  if (given.size < choices.length || !choices.every((choice) => /^(password-file|size)=./.test(choice))) return null;
  const address = addressText === undefined ? undefined : parseVncAddress(addressText);
  const sizeText = given.get('size');
  const size = sizeText === undefined ? undefined : parseMode(sizeText);
  const passwordFile = given.get('password-file');
  if (address === null || size === null) return null;
  if (address && !isLocal(address) && passwordFile === undefined)
    throw new UsageError(
      `--output: other machines can reach ${addressText}: add password-file=FILE, or listen on 127.0.0.1 and use a tunnel (ssh -L)`,
    );
  return {
    kind: 'vnc',
    ...(address && { address }),
    ...(passwordFile !== undefined && { passwordFile }),
    ...(size && { size }),
  };
}

/** Where VNC viewers connect by default: beside the default control socket. */
function defaultVncPath(): string {
  const { XDG_RUNTIME_DIR: runtime } = process.env;
  return runtime ? join(runtime, 'scanout-bridge-vnc.sock') : join(privateDirectory(), 'vnc.sock');
}

export function vncAddress({ address }: VncSpec): VncAddress {
  return address ?? { path: defaultVncPath() };
}

/** The sockets that the outputs listen on. */
export function outputSockets(outputs: readonly OutputSpec[]): { readonly socket: string }[] {
  return outputs
    .flatMap((output) => {
      if (output.kind === 'export') return [output.path, ...(output.channel === undefined ? [] : [output.channel])];
      const address = output.kind === 'vnc' ? vncAddress(output) : null;
      return address && 'path' in address ? [address.path] : [];
    })
    .map((socket) => ({ socket }));
}

/** The TCP ports that the outputs listen at. */
export function outputPorts(outputs: readonly OutputSpec[]): number[] {
  return outputs.flatMap((output) => {
    const address = output.kind === 'vnc' ? vncAddress(output) : null;
    return address && 'port' in address ? [address.port] : [];
  });
}

/** The files that the outputs read when they are opened. */
export function outputFiles(outputs: readonly OutputSpec[]): string[] {
  return outputs.flatMap((output) =>
    output.kind === 'vnc' && output.passwordFile !== undefined ? [output.passwordFile] : [],
  );
}

/** What the options about monitors ask for. */
export interface MonitorChoices {
  readonly cursor: NonNullable<KmsOptions['cursor']>;
  /** How the input devices of this machine are used; null: not at all. */
  readonly input: InputChoices | null;
}

export type InputChoices = Pick<KmsInputOptions, 'only' | 'except' | 'touch' | 'quitKeys' | 'idleOffMs'>;

/** The options as they are given, undefined if not. */
export interface MonitorOptions {
  readonly cursor?: KmsOptions['cursor'];
  readonly inputDevices?: readonly string[];
  readonly touch?: readonly string[];
  readonly quitKeys?: string;
  readonly idleOff?: number;
}

const EXCLUDED = 'not:';

/**
 * Parses the options about monitors. The devices are used if the guest takes input, or if something is to happen with
 * keys. Throws UsageError, also if there is no monitor among the outputs.
 */
export function parseMonitorOptions(
  options: MonitorOptions,
  guestHasInput: boolean,
  hasMonitors: boolean,
): MonitorChoices {
  const { cursor = 'guest', inputDevices = [], touch = [], quitKeys, idleOff } = options;
  const given = Object.entries(options).find(([, value]) => value !== undefined)?.[0];
  if (given !== undefined && !hasMonitors) {
    const option = given.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    throw new UsageError(`--${option}: works only with --output kms`);
  }
  const [empty] = [...inputDevices, ...touch].filter((text) => text === '' || text === EXCLUDED);
  if (empty !== undefined) throw new UsageError('--input-devices: names no device');
  const only = inputDevices.filter((text) => !text.startsWith(EXCLUDED));
  const except = inputDevices.filter((text) => text.startsWith(EXCLUDED)).map((text) => text.slice(EXCLUDED.length));
  for (const path of [...only, ...except]) checkDevice('--input-devices', path);
  const input: InputChoices = {
    ...(only.length > 0 && { only }),
    except,
    touch: touch.map(parseTouch),
    ...(quitKeys !== undefined && { quitKeys: parseChord(quitKeys) }),
    ...(idleOff !== undefined && { idleOffMs: idleOff * 1000 }),
  };
  const isUsed = hasMonitors && (guestHasInput || quitKeys !== undefined || idleOff !== undefined);
  if (!isUsed && (inputDevices.length > 0 || touch.length > 0))
    throw new UsageError('--input-devices and --touch: the guest takes no input; add --input');
  return { cursor, input: isUsed ? input : null };
}

function parseTouch(text: string): { connector: string; device: string } {
  const [, connector, device] = /^([^=]+)=(.+)$/s.exec(text) ?? [];
  if (connector === undefined || device === undefined)
    throw new UsageError(
      `--touch: cannot use '${text}'; write CONNECTOR=DEVICE, such as HDMI-A-1=event5 or eDP-1=/dev/input/by-path/…`,
    );
  checkDevice('--touch', device);
  return { connector, device };
}

/** A path that is there has to be an input device; one that is not may be plugged in later. */
function checkDevice(option: string, path: string): void {
  if (!path.startsWith('/') || !existsSync(path)) return;
  if (!/^\/dev\/input\/event\d+$/.test(realpathSync(path)))
    throw new UsageError(`${option}: ${path} is no input device: name one of /dev/input/event*, or a link to it`);
}

/** Codes by name in lower case. */
const KEYS = new Map<string, readonly number[]>([
  ...Object.entries(KEY).map(([name, code]) => [name.toLowerCase(), [code]] as const),
  ['ctrl', [KEY.LEFTCTRL, KEY.RIGHTCTRL]],
  ['alt', [KEY.LEFTALT, KEY.RIGHTALT]],
  ['shift', [KEY.LEFTSHIFT, KEY.RIGHTSHIFT]],
  ['meta', [KEY.LEFTMETA, KEY.RIGHTMETA]],
]);

export const CHORD_FORM =
  'keys of a US keyboard that are pressed together, the last one last, as in ctrl+alt+backspace';

/** Throws UsageError. */
function parseChord(text: string): KeyChord {
  const names = text.toLowerCase().split('+');
  const chord = names.map((name) => KEYS.get(name) ?? []);
  if (names.length < 2 || chord.some((codes) => codes.length === 0))
    throw new UsageError(`--quit-keys: cannot use '${text}'; write two or more ${CHORD_FORM}`);
  return chord;
}

/** The parsed `--output`. `dmabuf` means that the VMM draws with GL, so it can show pictures without a copy. */
export type OutputSpec =
  | WaylandSpec
  | { readonly kind: 'headless'; readonly width: number; readonly height: number; readonly refreshMhz: number }
  | { readonly kind: 'vmm'; readonly dmabuf: boolean }
  | ExportSpec
  | VncSpec
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
  form: 'wayland[:DISPLAY][,fullscreen][,scale=N][,tearing][,inhibit-idle][,title=TEXT]',
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
  {
    form: 'export:SOCKET[,mode=MODE][,group=GROUP][,size=WIDTHxHEIGHT[@HZ]][,channel=SOCKET]',
    what: 'other processes, such as `scanout grab` (export:/tmp/export.sock,group=video)',
  },
  {
    form: 'vnc[:ADDRESS][,password-file=FILE][,size=WIDTHxHEIGHT[@HZ]]',
    what: 'VNC viewers, at the path of a socket or HOST:PORT (vnc:127.0.0.1:5900)',
  },
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
  const other = parseWaylandSpec(text) ?? parseExportSpec(text) ?? parseVncSpec(text);
  if (other) return other;
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
