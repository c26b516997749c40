import { setTimeout } from 'node:timers/promises';
import { Command, Option } from 'commander';
import type { ExportStats } from '../../display/export/display.ts';
import type { FrameAgesStats } from '../bridge/frame-ages.ts';
import type { PlaneStats } from '../bridge/plane-buffers.ts';
import { ControlClient } from '../control/client.ts';
import { ControlError } from '../control/protocol.ts';
import { UsageError } from '../core/errors.ts';
import { type BridgeStats, type ClipboardStats, sandboxText } from '../control/stats.ts';
import { controlOption, parseSeconds, scanoutOption } from './control-options.ts';
import { endSignal, print, printJson } from './terminal.ts';
import { TraceFile } from './trace-file.ts';

interface Options {
  control: string;
  json?: true;
  follow?: true;
  trace?: string;
  seconds?: number;
  scanout: number;
}

/** Between the statistics of `--follow`. */
const FOLLOW_MS = 1000;

export function command(): Command {
  return new Command('stats')
    .addOption(controlOption())
    .option('--json', 'print JSON')
    .option('--follow', 'print them again every second, with --json as one line each, until the bridge ends')
    .addOption(
      new Option(
        '--trace <file>',
        'instead, write when each frame came to each stage, for ui.perfetto.dev or chrome://tracing, until interrupted',
      ).conflicts(['json', 'follow']),
    )
    .option('--seconds <number>', 'end the trace after so many seconds', parseSeconds)
    .addOption(scanoutOption())
    .addHelpText(
      'after',
      '\nThe bridge is a running `scanout run` or `scanout record`.\n\nExample:\n  $ scanout stats --json',
    )
    .action(async ({ control, json, follow, trace, seconds, scanout }: Options) => {
      const bridge = new ControlClient(control);
      if (trace !== undefined) {
        await traceTo(trace, bridge, scanout, seconds);
        return;
      }
      if (seconds !== undefined) throw new UsageError('--seconds: works only with --trace');
      for (;;) {
        const stats: unknown = await bridge.stats();
        if (json) printJson(stats, follow ? 0 : 2);
        else if (isBridgeStats(stats)) print(statsText(stats));
        else throw new ControlError('protocol', `${control}: the answer is not statistics; --json prints it as it is`);
        if (!follow) return;
        await setTimeout(FOLLOW_MS);
      }
    });
}

/** Until the bridge ends, the time is over or a signal comes. Rejects with ControlError, or as `TraceFile` throws. */
async function traceTo(path: string, bridge: ControlClient, scanout: number, seconds?: number): Promise<void> {
  using file = new TraceFile(path);
  const over = new AbortController();
  void endSignal().then(() => over.abort());
  const timer = seconds === undefined ? undefined : globalThis.setTimeout(() => over.abort(), seconds * 1000);
  let lost = 0;
  try {
    for await (const event of bridge.trace({ scanout, signal: over.signal })) {
      file.write(event.frames);
      lost += event.lost;
    }
  } catch (error) {
    if (!over.signal.aborted) throw error;
  } finally {
    clearTimeout(timer);
  }
  print(`${path}: ${file.frames} frames${lost > 0 ? `, ${lost} more were not taken in time` : ''}`);
}

const GPU_NUMBERS = ['commands', 'errors', 'flushes', 'transfers', 'resources', 'storeBytes'];
const CONSOLE_NUMBERS = ['id', 'switches', 'updates', 'socketBytes'];
const AGES = ['staged', 'presented', 'onScreen', 'released'] as const;
const DEVICE_NUMBERS = ['looks', 'flips', 'dmabufs', 'opened', 'stale', 'copiedBytes'];

/** Whether a bridge, which may be of another version, answered all that is printed here and by `scanout watch`. */
export function isBridgeStats(value: unknown): value is BridgeStats {
  const { guest, scanouts, sandbox, exports, vnc, clipboard, control } = fields(value);
  const { connected, kind, mode, vm, consoles, ...rest } = fields(guest);
  const numbers = kind === 'vfio' ? DEVICE_NUMBERS : kind === 'qemu-dbus' ? ['losses'] : GPU_NUMBERS;
  return (
    typeof connected === 'boolean' &&
    (kind !== 'vfio' || isText(mode)) &&
    (kind !== 'qemu-dbus' || (isText(vm) && isListOf(consoles, isConsole))) &&
    numbers.every((name) => isNumber(rest[name])) &&
    isListOf(
      scanouts,
      ({ scanout, picture, screens }) => isNumber(scanout) && isText(picture) && isListOf(screens, isScreen),
    ) &&
    isSandbox(fields(sandbox)) &&
    isControl(fields(control)) &&
    (exports === null || isExports(fields(exports))) &&
    (vnc === null || isListOf(vnc, isVnc)) &&
    (clipboard === null || isClipboard(fields(clipboard)))
  );
}

function isSandbox({ noNewPrivileges, notDumpable, systemCalls, landlock }: Fields): boolean {
  return (
    [noNewPrivileges, notDumpable, systemCalls].every((held) => typeof held === 'boolean') &&
    (landlock === null || isNumber(landlock))
  );
}

function isControl({ clients, input }: Fields): boolean {
  return [clients, input].every(isNumber);
}

function isClipboard({ connected, agent }: Fields): boolean {
  return typeof connected === 'boolean' && (agent === null || typeof agent === 'boolean');
}

function isExports({ buffers, guestBuffers, consumers }: Fields): boolean {
  return (
    isNumber(buffers) &&
    isNumber(guestBuffers) &&
    isListOf(consumers, ({ pid, uid, frames, held }) => [pid, uid, frames, held].every(isNumber))
  );
}

function isVnc({ address, viewers, isDriven, updates, bytes }: Fields): boolean {
  const counts = [viewers, updates, bytes];
  return typeof address === 'string' && typeof isDriven === 'boolean' && counts.every(isNumber);
}

function isScreen({ output, frames, input, ages, primary, cursor }: Fields): boolean {
  return (
    typeof output === 'string' &&
    isNumber(frames) &&
    isNumber(input) &&
    AGES.every((stage) => isAge(fields(ages)[stage])) &&
    [primary, cursor].every((plane) => isPlane(fields(plane)))
  );
}

function isAge(age: unknown): boolean {
  const { median, p99 } = fields(age);
  return age === null || (isNumber(median) && isNumber(p99));
}

function isPlane({ rung, copiedBytes, shadowBytes }: Fields): boolean {
  return isText(rung) && isNumber(copiedBytes) && isNumber(shadowBytes);
}

type Fields = Readonly<Record<string, unknown>>;

function fields(value: unknown): Fields {
  return (value ?? {}) as Fields;
}

function isListOf(value: unknown, isOne: (one: Fields) => boolean): boolean {
  return Array.isArray(value) && value.every((one) => isOne(fields(one)));
}

function isNumber(value: unknown): boolean {
  return typeof value === 'number';
}

/** Text, or null for none. */
function isText(value: unknown): boolean {
  return value === null || typeof value === 'string';
}

function statsText({ guest, scanouts, sandbox, exports, vnc, clipboard, control }: BridgeStats): string {
  return [
    `guest: ${guest.connected ? 'connected' : 'not connected'}, ${guestText(guest)}`,
    ...scanouts.flatMap(({ scanout, picture, screens }) => [
      `scanout ${scanout}: ${picture ?? 'off'}`,
      ...screens.flatMap(({ output, frames, input, ages, primary, cursor }) => [
        `  ${output}: ${frames} frames${input > 0 ? `, ${input} input events` : ''}${prefixed('; ms after the flush, median and 99 %: ', agesText(ages))}`,
        `    primary ${planeText(primary)}`,
        `    cursor  ${planeText(cursor)}`,
      ]),
    ]),
    ...(exports ? exportsText(exports) : []),
    ...(vnc ?? []).map(
      ({ address, viewers, isDriven, updates, bytes }) =>
        `vnc ${address}: ${viewers} viewers, ${isDriven ? 'one drives' : 'none drives'}, ${updates} updates, ${mebibytes(bytes)} encoded`,
    ),
    ...(clipboard ? [`clipboard: ${clipboardText(clipboard)}`] : []),
    `control: ${control.clients} clients, ${control.input} input commands`,
    `sandbox: ${sandboxText(sandbox)}`,
  ].join('\n');
}

function isConsole({ label, way, ...rest }: Record<string, unknown>): boolean {
  return isText(label) && isText(way) && CONSOLE_NUMBERS.every((name) => isNumber(rest[name]));
}

/** In ms after the flush, the median and the 99th percentile at each stage that was seen; nothing if none was. */
export function agesText(ages: FrameAgesStats): string {
  return AGES.flatMap((stage) => {
    const age = ages[stage];
    return age ? [`${AGE_NAMES[stage]} ${milliseconds(age.median)} (${milliseconds(age.p99)})`] : [];
  }).join(', ');
}

function prefixed(prefix: string, text: string): string {
  return text === '' ? '' : `${prefix}${text}`;
}

const AGE_NAMES = { staged: 'staged', presented: 'presented', onScreen: 'on screen', released: 'released' } as const;

function milliseconds(age: number): string {
  return age.toFixed(age < 10 ? 2 : 1);
}

function clipboardText({ connected, agent }: ClipboardStats): string {
  if (!connected)
    return agent === null ? 'not connected: QEMU does not share its own' : 'not connected: QEMU has no port for it';
  if (agent === null) return 'shared, if an agent runs in the guest';
  return agent ? 'shared' : 'no agent yet: install spice-vdagent in the guest';
}

function exportsText({ buffers, guestBuffers, consumers }: ExportStats): string[] {
  return [
    `exports: ${buffers} buffers, ${guestBuffers} of them by guest programs`,
    ...consumers.map(
      ({ pid, uid, frames, held }) => `  process ${pid} of user ${uid}: ${frames} frames, ${held} not released`,
    ),
  ];
}

function guestText(guest: BridgeStats['guest']): string {
  if ('kind' in guest && guest.kind === 'qemu-dbus') {
    const { vm, consoles, losses } = guest;
    const each = consoles.map(
      ({ label, way, updates, socketBytes }) =>
        `${label} ${way ?? 'shows nothing yet'}, ${updates} updates, ${mebibytes(socketBytes)} over the socket`,
    );
    return [`VM ${vm ?? 'none'}, lost ${losses} times`, ...each].join('; ');
  }
  if ('kind' in guest) {
    const { mode, looks, flips, dmabufs, opened, stale, copiedBytes } = guest;
    return `planes in ${mode ?? 'nothing yet'}, ${looks} looks, ${flips} flips, ${dmabufs} dma-bufs open (${opened} in all, ${stale} ids were stale), ${mebibytes(copiedBytes)} copied from the device`;
  }
  const { commands, flushes, transfers, errors, resources, storeBytes } = guest;
  return `${commands} commands (${errors} refused), ${flushes} flushes, ${transfers} transfers, ${resources} resources, ${mebibytes(storeBytes)} saved from detached backings`;
}

function planeText({ rung, copiedBytes, shadowBytes }: PlaneStats): string {
  return `${rung ?? 'nothing yet'}, ${mebibytes(copiedBytes)} copied, ${mebibytes(shadowBytes)} of shadows`;
}

export function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
