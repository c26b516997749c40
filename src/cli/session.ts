import type { HeadlessOutput } from '../../display/headless/output.ts';
import { VmmDisplay } from '../../display/vmm/display.ts';
import type { WaylandWindows } from '../../display/wayland/windows.ts';
import { Bridge, type ScanoutStats } from '../bridge/bridge.ts';
import type { ZeroCopy } from '../bridge/dmabuf-pool.ts';
import type { GuestInput } from '../core/input.ts';
import type { Log } from '../core/log.ts';
import type { Picture } from '../core/picture.ts';
import { Recorder } from '../guest/replay/recorder.ts';
import { VhostUserGuest, type VhostUserGuestOptions } from '../guest/vhost-user/guest.ts';
import { VhostUserInput } from '../guest/vhost-user/input.ts';
import type { GpuStats } from '../guest/virtio-gpu/device.ts';
import { DisposableStack } from '../sys/disposable-stack.ts';
import { ScanoutError, SysError } from '../sys/errors.ts';
import { OwnedFd } from '../sys/fd.ts';
import { DisplayError } from '../../display/picture/errors.ts';
import { type WaitForStableOptions, waitUntilStable } from '../../display/picture/waits.ts';
import { ControlError, type ScreenshotRequest } from './control.ts';
import type { GuestSpec, InputSpec, OutputSpec } from './specs.ts';
import { Screens } from './screens.ts';

/** The socket for the guest's VMM cannot be opened; `code` is the errno. */
export class GuestSocketError extends ScanoutError {}

const REMEDIES: Readonly<Record<string, string>> = {
  EADDRINUSE: 'another process listens on it, or it is not a socket',
  ENOENT: 'its directory does not exist',
  EACCES: 'no permission to write to its directory',
  ENAMETOOLONG: 'a socket path has at most 107 bytes',
  EBADF: 'it is not open; the parent process must pass it to this one',
  ENOTSOCK: 'it is not a socket',
};

export interface SessionOptions {
  readonly guest: GuestSpec;
  /** Each headless output and each monitor shows one scanout, in order; the VMM's display shows all of them. */
  readonly outputs: readonly OutputSpec[];
  readonly inputs?: readonly InputSpec[];
  /** Opens a window for each scanout. Owned by the caller, who disposes it after the session. */
  readonly windows?: WaylandWindows;
  /** Screens keep the last picture when the guest shows nothing; default: they turn off. */
  readonly keepLast?: boolean;
  /** The same for the first window; default: `keepLast`. */
  readonly windowKeepsLast?: boolean;
  /** Default: one for each headless output and each monitor that is plugged in, at least one. */
  readonly scanouts?: number;
  /** Limit of the host memory that the guest can cause, in bytes. */
  readonly maxGuestMemory: number;
  readonly zeroCopy: ZeroCopy;
  /** The file to record the session to. */
  readonly record?: string;
  readonly log: Log;
}

export interface SessionStats {
  readonly guest: GpuStats & { readonly connected: boolean };
  readonly scanouts: readonly ScanoutStats[];
}

/** What `scanout run` runs: a guest, which may disconnect and reconnect, and the outputs that show it. */
export class Session implements Disposable {
  readonly headless: readonly HeadlessOutput[];
  readonly #options: SessionOptions;
  readonly #guest: VhostUserGuest;
  readonly #bridge: Bridge;
  readonly #stack: DisposableStack;
  #vmm: VmmDisplay | null = null;

  private constructor(options: SessionOptions, screens: Screens, stack: DisposableStack) {
    const { log, record, maxGuestMemory } = options;
    this.#options = options;
    this.headless = screens.headless;
    const scanouts = options.scanouts ?? screens.defaultScanouts;
    const shown = screens.assign(scanouts);
    const onFailed = (error: Error): void => log('error', `the recording stopped: ${error.message}`);
    const recorder = record === undefined ? null : stack.use(Recorder.open({ file: record, scanouts, onFailed }));
    const device = { scanouts, maxGuestMemory, log, ...(recorder && { tap: recorder.tap }), ...this.#vmmHooks() };
    this.#guest = stack.use(
      withSocket('--guest', options.guest, (socket) => VhostUserGuest.open({ ...device, socket })),
    );
    const input = openInput(options.inputs ?? [], log, stack);
    stack.defer(() => this.#vmm?.[Symbol.dispose]());
    this.#bridge = stack.use(
      new Bridge(this.#guest, {
        log,
        zeroCopy: options.zeroCopy,
        keepLast: options.keepLast ?? false,
        ...(input && { input }),
      }),
    );
    for (const { output, scanout } of shown) this.#bridge.show(scanout, output);
    // The first window stays open; the others close when the guest turns their scanouts off.
    const { keepLast = false, windowKeepsLast = keepLast } = options;
    options.windows
      ?.openOutputs(scanouts)
      .forEach((output, index) => this.#bridge.show(index, output, { keepLast: index === 0 && windowKeepsLast }));
    this.#stack = stack.move();
  }

  /** Rejects with UsageError for invalid outputs, KmsError if a graphics card cannot be used, GuestSocketError if a socket cannot be opened. */
  static async open(options: SessionOptions): Promise<Session> {
    using stack = new DisposableStack();
    const screens = stack.use(await Screens.open(options.outputs, options.log));
    return new Session(options, screens, stack);
  }

  stats(): SessionStats {
    return { guest: { connected: this.#guest.isConnected, ...this.#guest.stats }, scanouts: this.#bridge.stats };
  }

  /** Rejects with ControlError `no-scanout`, `no-picture`, `timeout`, or the reason of the signal. */
  async screenshot({ scanout, cursor, still }: ScreenshotRequest, signal?: AbortSignal): Promise<Picture> {
    const output = this.headless[scanout];
    if (!output)
      throw new ControlError(
        'no-scanout',
        `scanout ${scanout} has no headless output to take a screenshot of; scanouts with one: ${this.headless.length}`,
      );
    if (still) return stillPicture(output, { cursor, ...still, ...(signal && { signal }) });
    const picture = output.capture({ cursor });
    if (!picture) throw new ControlError('no-picture', `scanout ${scanout} is off: the guest shows nothing yet`);
    return picture;
  }

  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }

  /** A VMM answers requests for its monitors but does not report changes, so it is asked whenever the guest asks. */
  #vmmHooks(): Pick<VhostUserGuestOptions, 'onDisplaySocket' | 'refreshMonitors'> {
    const spec = this.#options.outputs.find(({ kind }) => kind === 'vmm');
    if (spec?.kind !== 'vmm') return {};
    let opened = Promise.resolve();
    return {
      onDisplaySocket: (fd) => {
        opened = this.#showOnVmm(fd, spec.dmabuf);
      },
      refreshMonitors: async () => {
        await opened;
        await this.#vmm?.refresh();
      },
    };
  }

  /** Consumes `fd`. Replaces the previous display, whose socket the VMM has closed. */
  async #showOnVmm(fd: OwnedFd, dmabuf: boolean): Promise<void> {
    const { log } = this.#options;
    try {
      const display = await VmmDisplay.open({ socket: fd, log, scanouts: this.#guest.scanouts, dmabuf });
      if (this.#stack.disposed) {
        display[Symbol.dispose]();
        return;
      }
      this.#vmm?.outputs.forEach((output) => this.#bridge.hide(output));
      this.#vmm?.[Symbol.dispose]();
      this.#vmm = display;
      display.outputs.forEach((output, index) => this.#bridge.show(index, output));
      log('info', "the guest is shown on the VMM's own display");
    } catch (error) {
      log('warn', `the VMM's own display cannot be used: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
}

async function stillPicture(output: HeadlessOutput, options: WaitForStableOptions): Promise<Picture> {
  try {
    return await waitUntilStable(output, options);
  } catch (error) {
    if (!(error instanceof DisplayError)) throw error;
    throw new ControlError('timeout', error.message, { cause: error });
  }
}

/** Null without input devices. */
function openInput(specs: readonly InputSpec[], log: Log, stack: DisposableStack): GuestInput | null {
  if (specs.length === 0) return null;
  const input = stack.use(VhostUserInput.open({ log }));
  for (const { kind, from } of specs) withSocket('--input', from, (socket) => input.serve(kind, socket));
  return input.sink;
}

function withSocket<T>(option: string, spec: GuestSpec, use: (socket: string | OwnedFd) => T): T {
  try {
    return use('socket' in spec ? spec.socket : OwnedFd.inherit(spec.fd));
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    const what = 'socket' in spec ? `listen on ${spec.socket}` : `use the inherited descriptor ${spec.fd}`;
    throw new GuestSocketError(error.code, `${option}: cannot ${what}: ${REMEDIES[error.code] ?? error.message}`, {
      cause: error,
    });
  }
}
