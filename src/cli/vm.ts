import { type ChildProcess, spawn, type StdioOptions } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { constants } from 'node:os';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Log } from '../core/log.ts';
import type { InputKind } from '../guest/vhost-user/input.ts';
import { wireQemu } from '../qemu/command.ts';
import { QemuProcess, requireProgram, SETPRIV_ADVICE } from '../qemu/process.ts';
import { Qmp, QmpError } from '../qemu/qmp.ts';
import { DisposableStack } from '../sys/disposable-stack.ts';
import { OwnedFd } from '../sys/fd.ts';
import { socketPair } from '../sys/socket.ts';
import { END_SIGNALS, READY, SUPERVISED, WINDOWS_CLOSED } from './terminal.ts';

/** How long a program may take to end after SIGTERM before it is killed. */
const TERM_MS = 10_000;
/** How long QEMU may take to answer a command. */
const QMP_MS = 5000;
const SIGNAL_EXIT = 128;
const STUCK =
  'QEMU has stopped the guest, whose processor could not go on: ending QEMU. If KVM does not work on this machine, run the guest without it, slowly: -accel tcg for QEMU, --accel tcg for scanout view';

export interface VmOptions {
  /** QEMU's program and arguments. */
  readonly qemu: readonly string[];
  /** Options of `scanout run` for the bridge, without --guest and --input. */
  readonly bridge: readonly string[];
  readonly inputs: readonly InputKind[];
  /** The guest's clipboard is shared. */
  readonly hasClipboard: boolean;
  /** QEMU has a display of its own for the guest. */
  readonly hasDisplay: boolean;
  readonly allowUnsealedMemory: boolean;
  /** How long the guest may take to shut down when its windows are closed, ms. */
  readonly patienceMs: number;
  readonly log: Log;
}

/**
 * Runs QEMU and a bridge that is its graphics card, until QEMU exits. QEMU has this process's terminal; both die with
 * this process. When the last window is closed or the bridge ends, the guest is asked to shut down. Signals are passed
 * on to QEMU. Resolves with the exit code. Rejects with UsageError for QEMU's flags, LaunchError if a program is not
 * there; nothing has been started then.
 */
export async function runVm(options: VmOptions): Promise<number> {
  const { inputs, hasClipboard, log, patienceMs } = options;
  const count = 2 + inputs.length + (hasClipboard ? 1 : 0);
  const descriptors = {
    gpu: QemuProcess.descriptorOf(0),
    inputs: inputs.map((_, index) => QemuProcess.descriptorOf(1 + index)),
    clipboard: hasClipboard ? QemuProcess.descriptorOf(1 + inputs.length) : undefined,
    qmp: QemuProcess.descriptorOf(count - 1),
  };
  const [program, ...args] = wireQemu(options.qemu, descriptors, options);
  const qemuPath = requireProgram('scanout run', program!, 'install QEMU (Debian: qemu-system-x86), or write its path');
  const setpriv = requireProgram('scanout run', 'setpriv', SETPRIV_ADVICE);
  using sockets = new DisposableStack();
  const pairs = Array.from({ length: count }, () => socketPair());
  for (const pair of pairs) for (const end of pair) sockets.use(end);
  const ours = pairs.map(([our]) => our);
  const qmpSocket = ours.pop()!;
  const start = (
    command: readonly string[],
    stdio: StdioOptions,
    fds: readonly OwnedFd[],
    detached: boolean,
    env = process.env,
  ): Child =>
    new Child(
      spawn(setpriv, ['--pdeathsig', 'TERM', ...command], {
        stdio: [...(stdio as ('inherit' | 'pipe' | 'ignore')[]), ...fds.map(({ fd }) => fd)],
        detached,
        env,
      }),
    );

  // A Ctrl-C in the terminal is QEMU's business; the bridge must outlive it.
  const bridge = start(
    [process.execPath, ...process.execArgv, process.argv[1]!, 'run', ...options.bridge].concat(
      ['--guest', `vhost-user:fd=${descriptors.gpu}`],
      inputs.flatMap((kind, index) => ['--input', `vhost-user:fd=${descriptors.inputs[index]},kind=${kind}`]),
      hasClipboard ? ['--clipboard', `vdagent:fd=${descriptors.clipboard}`] : [],
    ),
    ['ignore', 'pipe', 'inherit'],
    ours,
    true,
    { ...process.env, [SUPERVISED]: '1' },
  );
  let qemu: Child | null = null;
  const signals = forwardSignals((signal, isRepeated) => {
    if (qemu) qemu.kill(isRepeated ? 'SIGKILL' : signal);
    else bridge.kill(signal);
  });
  try {
    const closed = bridge.line(WINDOWS_CLOSED).then(() => 'the last window was closed');
    if (!(await Promise.race([bridge.line(READY).then(() => true), bridge.ended.then(() => false)])))
      return bridge.exitCode || (signals.received ? SIGNAL_EXIT : 1);
    qemu = start(
      [qemuPath, ...args],
      ['inherit', 'inherit', 'inherit'],
      pairs.map(([, their]) => their),
      false,
    );
    const qmp = openQmp(qmpSocket);
    // QEMU and the bridge have their own copies now, and see each other end.
    sockets[Symbol.dispose]();
    const failed = bridge.ended.then(() => `the bridge ended (${bridge.how})`);
    const why = await Promise.race([qemu.ended.then(() => null), closed, failed, stuck(qmp)]);
    if (why === STUCK) {
      log('error', why);
      await endChild(qemu);
    } else if (why !== null) {
      await shutDown(qemu, qmp, why, patienceMs, log);
    }
    const hasFailed = why === STUCK || (bridge.isGone && bridge.exitCode !== 0 && !signals.received);
    await qemu.ended;
    // One that has not been answered ends with its peer.
    void qmp.then((open) => open[Symbol.dispose]()).catch(() => undefined);
    return qemu.exitCode || (hasFailed ? 1 : 0);
  } finally {
    await endChild(bridge);
    signals[Symbol.dispose]();
  }
}

/** Resolves with STUCK when QEMU keeps a guest that cannot go on. Stays pending if QEMU exits, or speaks no QMP. */
async function stuck(qmp: Promise<Qmp>): Promise<string> {
  try {
    await (await qmp).internalError();
    return STUCK;
  } catch {
    return new Promise(() => undefined);
  }
}

/** Asks the guest to shut down, then QEMU, then ends it. Resolves when QEMU has exited. */
async function shutDown(qemu: Child, qmp: Promise<Qmp>, why: string, patienceMs: number, log: Log): Promise<void> {
  log('info', `${why}: the guest is asked to shut down and has ${patienceMs / 1000} s for it; Ctrl-C ends QEMU now`);
  try {
    await within(
      QMP_MS,
      qmp.then((control) => control.command('system_powerdown')),
    );
    if (await isEnded(qemu, patienceMs)) return;
    log('warn', 'the guest did not shut down: ending QEMU');
  } catch (error) {
    if (qemu.isGone) return;
    const reason = error instanceof Error ? error.message : String(error);
    log('warn', `QEMU cannot be asked to shut the guest down (${reason}): ending QEMU`);
  }
  await endChild(qemu);
}

/** SIGTERM, upon which QEMU writes its caches back and exits; SIGKILL if that takes too long. */
async function endChild(child: Child): Promise<void> {
  child.kill('SIGTERM');
  if (await isEnded(child, TERM_MS)) return;
  child.kill('SIGKILL');
  await child.ended;
}

async function isEnded(child: Child, timeoutMs: number): Promise<boolean> {
  const timer = new AbortController();
  const waited = sleep(timeoutMs, false, { signal: timer.signal }).catch(() => false);
  const ended = await Promise.race([child.ended.then(() => true), waited]);
  timer.abort();
  return ended;
}

async function within<T>(timeoutMs: number, promise: Promise<T>): Promise<T> {
  const timer = new AbortController();
  const late = sleep(timeoutMs, undefined, { signal: timer.signal }).then(() => {
    throw new QmpError('closed', `QEMU did not answer in ${timeoutMs / 1000} s`);
  });
  // It loses the race when it is aborted.
  late.catch(() => undefined);
  try {
    return await Promise.race([promise, late]);
  } finally {
    timer.abort();
  }
}

/** Consumes `fd`. A program that speaks no QMP is noticed when it is asked for something. */
function openQmp(fd: OwnedFd): Promise<Qmp> {
  const qmp = Qmp.open(OwnedFd.adopt(fd.take()));
  qmp.catch(() => undefined);
  return qmp;
}

/** A child process and how it ended. */
class Child {
  readonly #child: ChildProcess;
  readonly #lines = new EventEmitter();
  /** Resolves when it has exited, or could not be started. */
  readonly ended: Promise<void>;
  how = 'is running';
  /** As a shell has it: 128 and the number of the signal that killed it. 127: it could not be started. */
  exitCode = 0;
  isGone = false;

  constructor(child: ChildProcess) {
    this.#child = child;
    this.ended = new Promise((resolve) => {
      const end = (how: string, code: number): void => {
        if (this.isGone) return;
        this.isGone = true;
        this.how = how;
        this.exitCode = code;
        resolve();
      };
      child.on('error', (error) => end(error.message, SIGNAL_EXIT - 1));
      child.on('exit', (code, signal) =>
        signal === null
          ? end(`exit code ${code ?? '?'}`, code ?? 1)
          : end(signal, SIGNAL_EXIT + constants.signals[signal]),
      );
    });
    if (child.stdout) createInterface({ input: child.stdout }).on('line', (line) => this.#lines.emit(line));
  }

  /** Resolves when it has printed this line, which must be asked for before. */
  async line(text: string): Promise<void> {
    await once(this.#lines, text);
  }

  kill(signal: NodeJS.Signals): void {
    if (!this.isGone) this.#child.kill(signal);
  }
}

/** Passes on signals that would end this process, until it is disposed. */
function forwardSignals(
  pass: (signal: NodeJS.Signals, isRepeated: boolean) => void,
): Disposable & { readonly received: boolean } {
  let received = false;
  const listener = (signal: NodeJS.Signals): void => {
    pass(signal, received);
    received = true;
  };
  for (const signal of END_SIGNALS) process.on(signal, listener);
  return {
    get received() {
      return received;
    },
    [Symbol.dispose]: () => {
      for (const signal of END_SIGNALS) process.off(signal, listener);
    },
  };
}
