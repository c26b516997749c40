import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import { type CardAbilities, probeCard } from '../../display/kms/probe.ts';
import { monitorName } from '../../protocols/edid.ts';
import { hasLibrary } from '../sys/lib/library.ts';
import type { Check } from './check.ts';

export interface CardConnector {
  /** `HDMI-A-1` */
  readonly name: string;
  readonly isConnected: boolean;
  /** What the monitor calls itself; null if it does not say, or is not there. */
  readonly monitor: string | null;
  /** `1920x1080` */
  readonly preferredMode: string | null;
}

/** A graphics card of this machine, and what is plugged into it. */
export interface Card {
  /** `card0` */
  readonly name: string;
  readonly connectors: readonly CardConnector[];
  readonly abilities: CardAbilities | CardProblem;
}

/** Why a card cannot be asked what it can do. */
export interface CardProblem {
  readonly driver: string;
  readonly problem: string;
  readonly todo: string;
}

const LIBRARIES = [
  { soname: 'libgbm.so.1', name: 'libgbm', debian: 'libgbm1', with: 'makes buffers as the graphics card likes them', without: 'copies go to dumb buffers' },
  { soname: 'libseat.so.1', name: 'libseat', debian: 'libseat1', with: 'shares the screen by virtual terminals, without root', without: 'the bridge must be DRM master by itself' },
  { soname: 'libudev.so.1', name: 'libudev', debian: 'libudev1', with: 'tells of monitors that come and go', without: 'monitors that come and go are not noticed' },
] as const;

/** What `--output kms` makes use of where it is there. */
export function checkKmsLibraries(isThere: (soname: string) => boolean = hasLibrary): Check[] {
  return LIBRARIES.map(({ soname, name, debian, ...library }) =>
    isThere(soname)
      ? { name, ok: true, detail: library.with }
      : { name, ok: false, detail: `${soname} is missing: ${library.without}`, todo: `install ${debian}` },
  );
}

/** Monitors are read from sysfs, which asks nothing of the hardware: as the kernel knows them since it last looked. */
export function readCards(sysfs = '/sys/class/drm', devices = '/dev/dri', probe: (path: string) => CardAbilities = probeCard): Card[] {
  const entries = list(sysfs);
  return entries
    .filter((entry) => /^card\d+$/.test(entry))
    .map((name) => ({
      name,
      connectors: entries
        // Writeback connectors have no monitor.
        .filter((entry) => entry.startsWith(`${name}-`) && !entry.startsWith(`${name}-Writeback-`))
        .map((entry) => readConnector(join(sysfs, entry), entry.slice(name.length + 1))),
      abilities: abilitiesOf(join(devices, name), join(sysfs, name), probe),
    }));
}

function readConnector(directory: string, name: string): CardConnector {
  const isConnected = readFileSync(join(directory, 'status'), 'latin1').trim() === 'connected';
  if (!isConnected) return { name, isConnected, monitor: null, preferredMode: null };
  // The kernel sorts the mode a monitor prefers to the front.
  const [preferredMode] = readFileSync(join(directory, 'modes'), 'latin1').split('\n');
  return { name, isConnected, monitor: monitorName(readFileSync(join(directory, 'edid'))), preferredMode: preferredMode || null };
}

function abilitiesOf(path: string, sysfs: string, probe: (path: string) => CardAbilities): CardAbilities | CardProblem {
  try {
    return probe(path);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const driver = driverOf(sysfs);
    if (code === 'EACCES') return { driver, problem: `${path} may not be opened`, todo: 'join the group that owns it (often video), then log in again' };
    if (code === 'EPERM') return { driver, problem: `${path} may not be opened in this sandbox`, todo: 'add it to the devices that may' };
    return { driver, problem: message, todo: 'look at the kernel log for what became of the driver' };
  }
}

/** The driver of a device in /sys/class/drm. */
export function driverOf(directory: string): string {
  try {
    return basename(readlinkSync(join(directory, 'device/driver')));
  } catch {
    return 'no driver';
  }
}

/** A row for each card: whether `--output kms` can have it now. */
export function checkCards(cards: readonly Card[]): Check[] {
  if (cards.length > 0) return cards.map(checkCard);
  return [{ name: 'KMS', ok: false, detail: 'no graphics card', todo: 'needed only to show frames on a monitor of this machine' }];
}

function checkCard({ name: card, connectors, abilities }: Card): Check {
  const name = `KMS ${card}`;
  const monitors = connectors.map(describeConnector).join(', ') || 'no connectors';
  if ('problem' in abilities) return { name, ok: false, detail: `${abilities.driver}: ${abilities.problem}; ${monitors}`, todo: abilities.todo };
  const { driver, isAtomic, importsDmabufs, isFree } = abilities;
  const detail = [
    `${driver}: ${isAtomic ? 'atomic modesetting' : 'no atomic modesetting'}`,
    importsDmabufs ? 'imports dma-bufs' : 'imports no dma-bufs',
    isFree ? 'free' : 'somebody else is DRM master',
  ].join(', ');
  const todo = remedy(connectors, abilities);
  return { name, ok: todo === null, detail: `${detail}; ${monitors}`, ...(todo !== null && { todo }) };
}

function describeConnector({ name, isConnected, monitor, preferredMode }: CardConnector): string {
  if (!isConnected) return `${name} (nothing plugged in)`;
  return `${name} (${monitor ?? 'a monitor without a name'}, ${preferredMode ?? 'no modes'})`;
}

/** What is to be done before `--output kms` can have the card. */
function remedy(connectors: readonly CardConnector[], { isAtomic, isFree }: CardAbilities): string | null {
  if (!isAtomic) return 'use another card, or a driver with atomic modesetting';
  if (!connectors.some(({ isConnected }) => isConnected)) return 'plug in a monitor';
  if (!isFree) return 'stop the display server that has it, or switch to a free virtual terminal';
  return null;
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory).sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
  } catch {
    return [];
  }
}
