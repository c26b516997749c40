import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { printable } from '../core/log.ts';
import { type Qmp, QmpError } from '../qemu/qmp.ts';

/** The ids of a launched guest's drives. */
export const DISK = 'disk';
export const CD = 'cd';
const FIRMWARE_VARIABLES = 'pflash1';

/** Of QEMU's jobs and nodes that save a disk. */
const JOB = 'snapshot';
const NODE = 'snapshot';
const RETRY_MS = 2;

/** A saved guest. */
export interface Snapshot {
  /** What QEMU migrates: the memory, and the state of the devices. */
  readonly state: string;
  /** What the guest has written to its disk, as an overlay of it; null if it has none. */
  readonly disk: string | null;
  /** The guest had no CD any more. */
  readonly isCdOut: boolean;
}

/** How a guest is launched, which its snapshots depend on. */
export interface Machine {
  readonly arguments: readonly string[];
  /** QEMU, and what it reads. A snapshot is out of date once one of them has changed. */
  readonly files: readonly string[];
}

interface Block {
  readonly device: string;
  readonly inserted?: { readonly ro: boolean; readonly image: Image };
}

/** QEMU's ImageInfo, in part. */
interface Image {
  readonly filename: string;
  readonly format: string;
  readonly 'virtual-size': number;
  readonly 'backing-image'?: Image;
}

export interface SaveOptions {
  readonly replaces: boolean;
  readonly hasWholeDisk: boolean;
}

/** Begins the names of folders that are being written; what follows is the process that does. */
const UNFINISHED = 'unfinished-';

/** The snapshots of one machine, in the user's cache folder. */
export class Snapshots {
  readonly #machine: Machine;
  /** Of its files as they are when the guest is launched, not when it is saved. */
  readonly #version: string;

  constructor(machine: Machine) {
    this.#machine = machine;
    // QEMU says best what is wrong with a file that is missing.
    const files = machine.files.map((file) => statSync(file, { throwIfNoEntry: false }));
    this.#version = hash(...files.map((found) => [found?.size, found?.mtimeMs, found?.ino].join(' ')));
  }

  find(name: string): Snapshot | null {
    const folder = this.#current(name);
    const state = join(folder, 'state');
    if (!existsSync(state)) return null;
    const disk = join(folder, 'disk.qcow2');
    return { state, disk: existsSync(disk) ? disk : null, isCdOut: existsSync(join(folder, 'cd-is-out')) };
  }

  /**
   * Saves a guest, which stands still meanwhile. `replaces`: in place of an earlier snapshot of that name, and not only if
   * there is none by then. `hasWholeDisk`: with all of its disk, because what that is based on is a snapshot itself.
   * Rejects with QmpError: `refused`, for example, for a device whose state QEMU cannot save.
   */
  async save(name: string, qmp: Qmp, { replaces, hasWholeDisk }: SaveOptions): Promise<void> {
    const { running } = (await qmp.command('query-status')) as { readonly running: boolean };
    const current = this.#current(name);
    const versions = join(current, '..');
    mkdirSync(versions, { recursive: true, mode: 0o700 });
    const unfinished = mkdtempSync(join(versions, `${UNFINISHED}${process.pid}-`));
    try {
      await qmp.command('stop');
      const blocks = (await qmp.command('query-block')) as readonly Block[];
      // First: migration takes the disks from the guest.
      const disk = findDisk(blocks);
      if (disk) await copyDisk(qmp, disk, join(unfinished, 'disk.qcow2'), hasWholeDisk);
      if (blocks.some(({ device, inserted }) => device === CD && !inserted))
        writeFileSync(join(unfinished, 'cd-is-out'), '');
      await migrate(qmp, 'migrate', join(unfinished, 'state'));
      for (const other of readdirSync(versions).map((version) => join(versions, version)))
        if (other === current ? replaces : !isBeingWritten(other)) remove(other);
      if (!existsSync(current)) renameSync(unfinished, current);
    } finally {
      remove(unfinished);
      if (running) await goOn(qmp);
    }
  }

  /** The folder of a snapshot, in the folder of all that its name and machine ever had. */
  #current(name: string): string {
    return join(cacheFolder(), hash(name, ...this.#machine.arguments, ...this.#machine.files), this.#version);
  }
}

/** Goes on with a saved guest, in a QEMU that waits for one. Rejects with QmpError. */
export async function resume(qmp: Qmp, { state }: Snapshot): Promise<void> {
  await migrate(qmp, 'migrate-incoming', state);
  // Draws the screen, so that the first picture that a viewer gets is that of the guest.
  await qmp.command('screendump', { filename: '/dev/null' });
  await qmp.command('cont');
}

function isBeingWritten(folder: string): boolean {
  const pid = new RegExp(`^${UNFINISHED}(\\d+)-`).exec(basename(folder))?.[1];
  return pid !== undefined && existsSync(`/proc/${pid}`);
}

function remove(folder: string): void {
  rmSync(folder, { recursive: true, force: true });
}

function cacheFolder(): string {
  return join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'scanout-bridge/snapshots');
}

function hash(...parts: readonly string[]): string {
  return createHash('sha256').update(parts.join('\0')).digest('hex').slice(0, 16);
}

/** The disk to save, if there is one. Throws QmpError `refused` if there are others. */
function findDisk(blocks: readonly Block[]): Image | undefined {
  const writable = blocks.filter(({ inserted }) => inserted?.ro === false);
  // The variables of the firmware are part of the memory that QEMU migrates.
  const others = writable.map(({ device }) => device).filter((name) => name !== DISK && name !== FIRMWARE_VARIABLES);
  if (others.length > 0)
    throw new QmpError('refused', `a snapshot keeps the disk of launchGuest only, not ${others.join(', ')}`);
  return writable.find(({ device }) => device === DISK)?.inserted?.image;
}

/**
 * Makes a new overlay of the disk, and copies into it what the guest has written. QEMU's drive-backup, which does all of
 * this, removes the disk if the overlay of the guest is a temporary one, as `snapshot=on` makes it (seen with 10.0).
 */
async function copyDisk(qmp: Qmp, image: Image, filename: string, isWhole: boolean): Promise<void> {
  const file = { driver: 'file', filename };
  const size = image['virtual-size'];
  const base = image['backing-image'];
  const backing = isWhole || !base ? {} : { 'backing-file': base.filename, 'backing-fmt': base.format };
  await run(qmp, 'blockdev-create', { options: { ...file, size: 0 } });
  await run(qmp, 'blockdev-create', { options: { driver: 'qcow2', file, size, ...backing } });
  // What is written is whole clusters, so what they overlay is not read.
  await qmp.command('blockdev-add', { driver: 'qcow2', 'node-name': NODE, file, backing: null });
  try {
    await run(qmp, 'blockdev-backup', { device: DISK, target: NODE, sync: isWhole ? 'full' : 'top' });
  } finally {
    await qmp.command('blockdev-del', { 'node-name': NODE });
  }
}

/** Lets the guest run. QEMU tells that a migration is complete a moment before that is possible, and not when it is. */
async function goOn(qmp: Qmp): Promise<void> {
  const isMigrating = async (): Promise<boolean> =>
    ((await qmp.command('query-status')) as { readonly status: string }).status === 'finish-migrate';
  while (await isMigrating()) await sleep(RETRY_MS);
  await qmp.command('cont');
}

/** Runs a job to its end. Rejects with QmpError. */
async function run(qmp: Qmp, command: string, args: Record<string, unknown>): Promise<void> {
  // QEMU keeps the result of a creation anyway.
  const isCreation = command === 'blockdev-create';
  await qmp.command(command, { 'job-id': JOB, ...args, ...(!isCreation && { 'auto-dismiss': false }) });
  const job = await until(qmp, 'JOB_STATUS_CHANGE', async () => {
    const jobs = (await qmp.command('query-jobs')) as { id: string; status: string; error?: string }[];
    return jobs.find(({ id, status }) => id === JOB && status === 'concluded');
  });
  await qmp.command('job-dismiss', { id: JOB });
  if (job.error !== undefined) throw new QmpError('refused', `QMP ${command}: ${printable(job.error)}`);
}

/** QEMU's docs/devel/migration. */
async function migrate(qmp: Qmp, command: 'migrate' | 'migrate-incoming', file: string): Promise<void> {
  await qmp.command('migrate-set-capabilities', { capabilities: [{ capability: 'events', state: true }] });
  await qmp.command(command, { uri: `file:${file}` });
  const end = await until(qmp, 'MIGRATION', async () => {
    const now = (await qmp.command('query-migrate')) as { status?: string; 'error-desc'?: string };
    return now.status === 'completed' || now.status === 'failed' ? now : undefined;
  });
  if (end.status === 'failed')
    throw new QmpError('refused', printable(`QMP ${command} ${file}: ${end['error-desc'] ?? 'failed'}`));
}

/** Asks now and after each event, until there is an answer. */
async function until<T>(qmp: Qmp, event: string, ask: () => Promise<T | undefined>): Promise<T> {
  for (;;) {
    // What changes after the answer is told by an event; `ask` rejects as well when QEMU goes.
    const change = qmp.event(event);
    change.catch(() => undefined);
    const answer = await ask();
    if (answer !== undefined) return answer;
    await change;
  }
}
