import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { accessSync, constants, existsSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { qemuFlags } from '../../src/qemu/flags.ts';
import type { Picture } from '../../src/core/picture.ts';
import { cacheDir, guestImage, newerQemu, smallGuestImage } from './guest-image.ts';
import { GuestShell } from './guest-shell.ts';
import { readPpm } from './picture.ts';
import { Qmp } from '../../src/qemu/qmp.ts';
import type { OwnedFd } from '../../src/sys/fd.ts';
import { Poll } from '../../src/sys/poll.ts';
import { acceptUnix, listenUnix } from '../../src/sys/socket.ts';

export type GuestGpu =
  /** QEMU's own virtio-gpu, the reference to compare with. */
  | { readonly kind: 'builtin' }
  /** A GPU behind a listening vhost-user socket: in this process, or the C reference backend. */
  | { readonly kind: 'vhost-user'; readonly socket: string }
  /** As `vhost-user`, behind QEMU's generic front end, which passes on all features, including blobs. QEMU has no display for it, so the back end decides on monitors. */
  | { readonly kind: 'generic'; readonly socket: string }
  /** No GPU except what `extraQemuArgs` add. Memory is shareable, as for `vhost-user`. */
  | { readonly kind: 'none' };

export interface GuestOptions {
  readonly gpu: GuestGpu;
  /** The QEMU program. Default: the installed one, or `newerQemu` for a generic GPU. */
  readonly qemu?: string;
  /** Preferred mode of the first scanout in pixels; default 1280x800. A vhost-user backend may offer another. */
  readonly size?: readonly [width: number, height: number];
  /** Default 512. More than 2048 puts memory above 4 GiB, in a second region. */
  readonly memoryMiB?: number;
  /** The guest has busybox and these programs, by their paths here, instead of this machine's root. */
  readonly programs?: readonly string[];
  /** The modules of a guest with `programs`; default `virtio-gpu`. */
  readonly modules?: readonly string[];
  /** Default 1, at most 16. */
  readonly maxOutputs?: number;
  readonly extraQemuArgs?: readonly string[];
  /** Limit of the boot and of every command, unless that has one of its own; default two minutes. */
  readonly patienceMs?: number;
}

const SYSTEM_QEMU = '/usr/bin/qemu-system-x86_64';

/** Default limit of every wait for a guest. The error of one that times out has the guest's log. */
const PATIENCE_MS = 120_000;

/**
 * Boots a Debian kernel in an emulated machine, whose root is this machine's own, mounted
 * read-only: commands in the guest are this machine's programs, and files of the project and of the
 * cache folder have the same paths. Resolves when the guest's shell answers.
 *
 * The caller owns the guest: `await using guest = await bootGuest(…)`. It is killed when this
 * process ends. Rejects, with the guest's log, if QEMU exits or the shell does not answer in time.
 */
export async function bootGuest(options: GuestOptions): Promise<Guest> {
  const state = options.programs ? stateFile(options) : null;
  return startGuest(options, state !== null && existsSync(state) ? state : null, acceleratorOf(options));
}

/**
 * Boots a guest that has `programs`, without its GPU and without `extraQemuArgs`, and saves its state in the cache folder,
 * unless that is done. From then on `bootGuest` resumes such a guest, with any GPU, and plugs in what it left out: that
 * takes a tenth of a boot, which is most of a minute in a guest in a guest.
 */
export async function saveGuest(options: Omit<GuestOptions, 'extraQemuArgs'>): Promise<void> {
  const state = stateFile(options);
  if (existsSync(state)) return;
  const unfinished = `${state}.${process.pid}`;
  const bare: GuestOptions = { ...options, gpu: { kind: 'none' }, qemu: programOf(options) };
  await using guest = await startGuest(bare, null, emulator(bare));
  await guest.save(unfinished);
  renameSync(unfinished, state);
}

function programOf({ gpu, qemu = gpu.kind === 'generic' ? newerQemu : SYSTEM_QEMU }: GuestOptions): string {
  return qemu;
}

/** Where the state of such a guest is, for the QEMU that reads it and what it was started with. */
function stateFile(options: GuestOptions): string {
  const program = programOf(options);
  const { size, mtimeMs } = statSync(program);
  const { kernel, initrd } = smallGuestImage(options.programs!, options.modules);
  const machine = qemuArgs({ ...options, gpu: { kind: 'none' }, extraQemuArgs: [] }, '', kernel, initrd, null);
  const key = createHash('sha256')
    .update([program, size, mtimeMs, ...machine].join('\n'))
    .digest('hex');
  return join(cacheDir, `state-${key.slice(0, 16)}`);
}

/** `state`: of the guest to resume; null boots one. */
async function startGuest(options: GuestOptions, state: string | null, accelerator: readonly string[]): Promise<Guest> {
  const started = performance.now();
  const dir = mkdtempSync(join(tmpdir(), 'scanout-guest-'));
  const servers: Server[] = [];
  let guest: Guest | undefined;
  try {
    // QEMU connects to these sockets, so there is no need to wait until it has created them.
    const qmpSocket = firstPeer(join(dir, 'qmp'));
    const portSocket = connection(servers, join(dir, 'port'));
    const { kernel, initrd } = options.programs ? smallGuestImage(options.programs, options.modules) : guestImage();
    // setpriv has the kernel kill QEMU when the thread that started it ends, for whatever reason.
    const args = [...qemuArgs(options, dir, kernel, initrd, state), ...accelerator];
    const qemu = spawn('setpriv', ['--pdeathsig', 'KILL', programOf(options), ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    guest = new Guest(qemu, dir, qmpSocket, portSocket, options.patienceMs);
    if (state !== null) await guest.resume(state, devicesOf(options));
    await guest.run(':');
    guest.bootMs = performance.now() - started;
    return guest;
  } catch (error) {
    await guest?.kill();
    rmSync(dir, { recursive: true, force: true });
    throw error;
  } finally {
    for (const server of servers) server.close();
  }
}

/** The first client of a new listening socket. */
function connection(servers: Server[], path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    servers.push(createServer(resolve).on('error', reject).listen(path));
  });
}

/** As `connection`, for a socket that can pass descriptors. */
function firstPeer(path: string): Promise<OwnedFd> {
  const listener = listenUnix(path);
  return new Promise((resolve) => {
    const poll = Poll.readable(listener, () => {
      const peer = acceptUnix(listener);
      if (!peer) return;
      poll[Symbol.dispose]();
      listener[Symbol.dispose]();
      resolve(peer);
    });
  });
}

function closed(socket: Socket): Promise<unknown> {
  return socket.closed ? Promise.resolve() : once(socket.destroy(), 'close');
}

function gpuArgs(gpu: GuestGpu, properties: string): string[] {
  switch (gpu.kind) {
    case 'builtin':
      return ['-device', `virtio-gpu-pci,${properties}`];
    case 'vhost-user':
      return [
        '-chardev',
        `socket,id=vhost,path=${gpu.socket}`,
        '-device',
        `vhost-user-gpu-pci,chardev=vhost,${properties}`,
      ];
    case 'generic':
      // The documented flags, without those for memory, which every guest has.
      return qemuFlags({ socket: gpu.socket, memoryBytes: 2 ** 30, generic: true })
        .slice(-2)
        .flat();
    case 'none':
      return [];
  }
}

/** Arguments for the GPU, and those that the caller adds. */
function ownArgs({ gpu, size = [1280, 800], maxOutputs = 1, extraQemuArgs = [] }: GuestOptions): string[] {
  const [width, height] = size;
  return [...extraQemuArgs, ...gpuArgs(gpu, `id=gpu,max_outputs=${maxOutputs},xres=${width},yres=${height}`)];
}

/** What follows each `-device`. */
function devicesOf(options: GuestOptions): string[] {
  const args = ownArgs(options);
  return args.filter((_, i) => args[i - 1] === '-device');
}

/** `ownArgs`, without the devices. */
function backendsOf(options: GuestOptions): string[] {
  const args = ownArgs(options);
  return args.filter((arg, i) => arg !== '-device' && args[i - 1] !== '-device');
}

/** Where devices can be plugged in, with room for the memory of a GPU. */
function slot(number: number): string {
  return `pcie-root-port,id=slot${number},chassis=${number},addr=${number + 8},mem-reserve=32M,pref64-reserve=32M`;
}

/**
 * KVM for a small guest where there is one: in the kernel VM, where an emulator that is emulated takes a hundred times as
 * long. Its interrupt controllers take over the state of the emulated ones, which `saveGuest` has saved.
 */
function acceleratorOf(options: GuestOptions): string[] {
  return options.programs && canUseKvm() ? ['-accel', 'kvm', '-machine', 'kernel-irqchip=split'] : emulator(options);
}

/** Node and the kernel translate to more than 256 MiB, which would be thrown away and made again. Small guests do not. */
function emulator({ programs }: GuestOptions): string[] {
  return ['-accel', `tcg,thread=multi,tb-size=${programs ? 256 : 1024}`];
}

function canUseKvm(): boolean {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

function qemuArgs(options: GuestOptions, dir: string, kernel: string, initrd: string, state: string | null): string[] {
  const { memoryMiB = 512, programs } = options;
  // The console shows only what tests write to it: no kernel messages, no cursor, no blanking.
  const append = 'console=ttyS0 quiet loglevel=0 vt.global_cursor_default=0 consoleblank=0 panic=-1 mitigations=off';
  return [
    ...['-name', 'guest,debug-threads=on', '-nodefaults', '-no-user-config', '-no-reboot'],
    // Without AVX, whose emulation costs a third more; with AMD's virtualization, so that guests in the guest run by KVM.
    ...['-cpu', 'Nehalem,vendor=AuthenticAMD,svm=on,npt=on'],
    // With room for a second processor QEMU keeps the guest's memory barriers, which virtqueues rely on. A second one itself
    // would double what the same work costs.
    ...['-smp', '1,maxcpus=2'],
    ...[
      '-object',
      `memory-backend-memfd,id=mem,size=${memoryMiB}M,share=on`,
      '-machine',
      'q35,memory-backend=mem',
      '-m',
      `${memoryMiB}M`,
    ],
    ...['-vga', 'none', '-display', 'none', '-kernel', kernel, '-initrd', initrd, '-append', append],
    ...['-chardev', 'stdio,id=log,signal=off', '-serial', 'chardev:log'],
    ...['-chardev', `socket,id=qmp,path=${join(dir, 'qmp')}`, '-mon', 'chardev=qmp,mode=control'],
    ...[
      '-device',
      'virtio-serial-pci',
      '-chardev',
      `socket,id=port,path=${join(dir, 'port')}`,
      '-device',
      'virtserialport,chardev=port',
    ],
    ...(programs
      ? ['-device', slot(1), '-device', slot(2)]
      : [
          '-fsdev',
          'local,id=root,path=/,security_model=none,readonly=on,multidevs=remap',
          '-device',
          'virtio-9p-pci,fsdev=root,mount_tag=root',
        ]),
    ...(state === null ? ownArgs(options) : [...backendsOf(options), '-incoming', 'defer']),
  ];
}

/** A running guest, created by `bootGuest`. */
export class Guest implements AsyncDisposable {
  readonly #qemu: ChildProcess;
  readonly #dir: string;
  readonly #shell: Promise<GuestShell>;
  readonly #qmp: Promise<Qmp>;
  readonly #port: Promise<Socket>;
  readonly #patienceMs: number;
  #log = '';

  /** Milliseconds from the call of `bootGuest` until the guest's shell answered. */
  bootMs = 0;
  /** Resolves with QEMU's exit code, or -1 if a signal ended it. */
  readonly exited: Promise<number>;

  constructor(
    qemu: ChildProcess,
    dir: string,
    qmpSocket: Promise<OwnedFd>,
    portSocket: Promise<Socket>,
    patienceMs = PATIENCE_MS,
  ) {
    this.#qemu = qemu;
    this.#dir = dir;
    this.#patienceMs = patienceMs;
    this.#port = portSocket;
    this.#qmp = qmpSocket.then((socket) => Qmp.open(socket));
    this.#shell = portSocket.then((socket) => new GuestShell(socket));
    for (const stream of [qemu.stdout!, qemu.stderr!])
      stream.setEncoding('utf8').on('data', (text: string) => (this.#log += text));
    this.exited = new Promise((resolve, reject) => qemu.on('error', reject).on('close', (code) => resolve(code ?? -1)));
    void this.#qmp.catch(() => undefined);
  }

  /** QEMU's process. Its threads are named (`CPU 0/TCG` is the guest itself). */
  get pid(): number {
    return this.#qemu.pid!;
  }

  /** Output of the guest's kernel on its serial console, and of QEMU on stderr. */
  get log(): string {
    return this.#log;
  }

  /**
   * Runs shell commands in the guest without stdin, in one shell that lives as long as the guest.
   * Resolves with their stdout and stderr; rejects on a non-zero exit status, or after `patienceMs`.
   */
  run(command: string, patienceMs = this.#patienceMs): Promise<string> {
    return this.#patiently(
      `run ${command}`,
      this.#shell.then((shell) => shell.run(command)),
      patienceMs,
    );
  }

  qmp(command: string, args?: Record<string, unknown>): Promise<unknown> {
    return this.#patiently(
      `qmp ${command}`,
      this.#qmp.then((qmp) => qmp.command(command, args)),
    );
  }

  /** Saves the guest's state to a file. The guest does not run any more. */
  async save(file: string): Promise<void> {
    await this.#migrate('migrate', file);
  }

  /** Goes on with what `save` has saved, and plugs in devices, the GPU last; resolves when its driver has set it up. */
  async resume(file: string, devices: readonly string[]): Promise<void> {
    await this.#migrate('migrate-incoming', file);
    for (const [i, device] of devices.entries()) {
      const [driver, ...properties] = device.split(',');
      const given = Object.fromEntries(
        properties.map((property) => {
          const [name, value] = property.split('=') as [string, string];
          return [name, /^\d+$/.test(value) ? Number(value) : value];
        }),
      );
      await this.qmp('device_add', { driver, ...given, bus: `slot${i + 1}` });
    }
    if (devices.length > 0) await this.run('until [ -e /dev/fb0 ]; do sleep 3; done');
  }

  async #migrate(command: 'migrate' | 'migrate-incoming', file: string): Promise<void> {
    const qmp = await this.#qmp;
    await this.qmp('migrate-set-capabilities', { capabilities: [{ capability: 'events', state: true }] });
    let change = qmp.event('MIGRATION');
    await this.qmp(command, { uri: `file:${file}` });
    for (;;) {
      const { data } = (await this.#patiently(command, change)) as { readonly data: { readonly status: string } };
      if (data.status === 'completed') return;
      if (data.status === 'failed') throw new Error(`guest, ${command} ${file}: failed\n${this.#log}`);
      change = qmp.event('MIGRATION');
    }
  }

  /** The picture QEMU shows on output `head`, without the cursor. Rejects if the output has none. */
  async screendump(head = 0): Promise<Picture> {
    const file = join(this.#dir, `screen-${head}.ppm`);
    await this.qmp('screendump', { filename: file, device: 'gpu', head });
    return readPpm(readFileSync(file));
  }

  /** Resets the guest from within; resolves when the new shell answers. */
  async reboot(): Promise<void> {
    const qmp = await this.#qmp;
    await qmp.command('set-action', { reboot: 'reset' });
    const reset = qmp.event('RESET');
    (await this.#shell).send('echo b >/proc/sysrq-trigger');
    await this.#patiently('reboot', reset);
    // The firmware resets the machine a second time: keep `reset` until the shell answers.
    await this.run(':');
    await qmp.command('set-action', { reboot: 'shutdown' });
  }

  /** Powers the guest off from within; resolves when QEMU has exited. */
  async powerOff(): Promise<void> {
    (await this.#shell).send('echo o >/proc/sysrq-trigger');
    await this.#patiently('power off', this.exited);
  }

  /** Kills QEMU, as a crash would; resolves when it has exited. */
  async kill(): Promise<void> {
    this.#qemu.kill('SIGKILL');
    await this.exited;
  }

  /** As `kill`; also closes this process's sockets to the guest and removes its files. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    (await this.#qmp.catch(() => null))?.[Symbol.dispose]();
    await closed(await this.#port);
    rmSync(this.#dir, { recursive: true, force: true });
  }

  async #patiently<T>(what: string, wait: Promise<T>, patienceMs = this.#patienceMs): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const tooLong = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no answer within ${patienceMs / 1000} s`)), patienceMs);
    });
    // `wait` may be `exited` itself: it settles before this does.
    const gone = this.exited.then((code) => Promise.reject(new Error(`QEMU exited with code ${code}`)));
    try {
      return await Promise.race([wait, tooLong, gone]);
    } catch (error) {
      throw new Error(`guest, ${what}: ${(error as Error).message}\n${this.#log}`, { cause: error });
    } finally {
      clearTimeout(timer);
    }
  }
}
