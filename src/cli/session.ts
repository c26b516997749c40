import { mkdirSync, readFileSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import type { ExportDisplay } from '../../display/export/display.ts';
import { HeadlessOutput } from '../../display/headless/output.ts';
import type { VmmDisplay } from '../../display/vmm/display.ts';
import { formatVncAddress } from '../../display/vnc/address.ts';
import type { VncOutput } from '../../display/vnc/output.ts';
import type { WaylandWindows } from '../../display/wayland/windows.ts';
import { Bridge } from '../bridge/bridge.ts';
import type { ZeroCopy } from '../bridge/dmabuf-pool.ts';
import type { Latency } from '../bridge/present-deadline.ts';
import type { GuestInput, InputKind } from '../core/input.ts';
import type { MemoryBudget } from '../core/budget.ts';
import { shareClipboard } from '../core/clipboard.ts';
import { UsageError } from '../core/errors.ts';
import { type Log, limitLog } from '../core/log.ts';
import type { Rect, Size } from '../core/geometry.ts';
import { MAX_REFRESH_MHZ } from '../core/monitor.ts';
import { type Picture, type PictureReader, readerOf } from '../core/picture.ts';
import type { VfioAddress } from '../guest/vfio/access.ts';
import type { QemuDbusGuest, VmAddress } from '../guest/qemu-dbus/guest.ts';
import type { VfioGuest } from '../guest/vfio/guest.ts';
import type { DbusClipboard } from '../guest/qemu-dbus/clipboard.ts';
import type { VdagentClipboard } from '../guest/vdagent/clipboard.ts';
import { VhostUserGuest, type VhostUserGuestOptions } from '../guest/vhost-user/guest.ts';
import { VhostUserInput, type VhostUserInputOptions } from '../guest/vhost-user/input.ts';
import { DisposableStack } from '../sys/disposable-stack.ts';
import { ScanoutError, SysError } from '../sys/errors.ts';
import { OwnedFd } from '../sys/fd.ts';
import { groupId } from '../sys/groups.ts';
import { DisplayError } from '../../display/picture/errors.ts';
import { crop, formatRect, formatSize } from '../../display/picture/difference.ts';
import { waitUntilChange, waitUntilStable } from '../../display/picture/waits.ts';
import { encodePngAside } from '../../display/picture/png.ts';
import { FrameTrace } from '../control/frame-trace.ts';
import { FrameWatch } from '../control/frame-watch.ts';
import { Operator } from '../control/operator.ts';
import {
  ControlError,
  checkDirectory,
  type Hello,
  type InputRequest,
  type PngFile,
  PROTOCOL,
  type ScreenshotRequest,
  type WaitRequest,
} from '../control/protocol.ts';
import type { SessionStats } from '../control/stats.ts';
import type { OpenedGuest } from './sandbox.ts';
import {
  type DbusSpec,
  type ExportSpec,
  type InputSpec,
  type MonitorChoices,
  type OutputSpec,
  type SocketSpec,
  vncAddress,
  type VncSpec,
} from './specs.ts';
import { type Assigned, Screens } from './screens.ts';

/** The socket for the guest's VMM cannot be opened; `code` is the errno. */
export class GuestSocketError extends ScanoutError {}

/** A socket of `--output export` cannot be opened; `code` is the errno. */
export class ExportSocketError extends ScanoutError {}

/** The address of `--output vnc` cannot be listened at; `code` is the errno. */
export class VncSocketError extends ScanoutError {}

const REMEDIES: Readonly<Record<string, string>> = {
  EADDRINUSE: 'another process listens on it, or it is not a socket',
  EADDRNOTAVAIL: 'this machine does not have that address',
  ENOENT: 'its directory does not exist',
  EACCES: 'no permission to write to its directory',
  ENAMETOOLONG: 'a socket path has at most 107 bytes',
  EBADF: 'it is not open; the parent process must pass it to this one',
  ENOTSOCK: 'it is not a socket',
};

export interface SessionOptions {
  readonly guest: OpenedGuest;
  /** Each headless output and each monitor shows one scanout, in order, and so does each VNC server; the VMM's display shows all of them. */
  readonly outputs: readonly OutputSpec[];
  readonly inputs?: readonly InputSpec[];
  /** Opens a window for each scanout. Owned by the caller, who disposes it after the session. */
  readonly windows?: WaylandWindows;
  /** Shares the clipboard of `windows`: where the VMM connects the port of the guest's agent, or that of a `qemu-dbus` guest. */
  readonly clipboard?: SocketSpec | 'guest';
  /** Screens keep the last picture when the guest shows nothing; default: they turn off. */
  readonly keepLast?: boolean;
  /** Default: one for each headless output and each monitor that is plugged in, at least one. */
  readonly scanouts?: number;
  /** Limit of the host memory that the guest can cause, in bytes. */
  readonly maxGuestMemory: number;
  /** Whether to accept guest memory that the VMM can truncate; default false. */
  readonly allowUnsealedMemory?: boolean;
  /** Called when a VMM has disconnected. */
  readonly onDisconnected?: () => void;
  readonly zeroCopy: ZeroCopy;
  readonly latency: Latency;
  readonly monitors?: MonitorChoices;
  /** The keys were pressed that are to end the program. */
  readonly onQuit?: () => void;
  /** The file to record the session to, or the descriptor of an empty one, which the session closes. */
  readonly record?: string | number;
  readonly log: Log;
}

/** Modules that only some sessions need: they take time and memory to load. */
async function loadModules({ guest, outputs, record, clipboard }: SessionOptions) {
  const hasCommands = !('dbus' in guest || 'vfio' in guest);
  const isRecorded = record !== undefined;
  return {
    dbus: 'dbus' in guest ? await import('../guest/qemu-dbus/guest.ts') : null,
    qmp: 'dbus' in guest && 'qmp' in guest.dbus ? await import('../qemu/dbus-display.ts') : null,
    vfio: 'vfio' in guest ? await import('../guest/vfio/guest.ts') : null,
    recorder: isRecorded && hasCommands ? await import('../guest/replay/recorder.ts') : null,
    pictures: isRecorded && !hasCommands ? await import('../guest/replay/picture-recorder.ts') : null,
    exports: outputs.some(({ kind }) => kind === 'export') ? await import('../../display/export/display.ts') : null,
    // A VMM offers its display at any time, also while another one is opening.
    vmm: outputs.some(({ kind }) => kind === 'vmm') ? await import('../../display/vmm/display.ts') : null,
    vdagent: clipboard && clipboard !== 'guest' ? await import('../guest/vdagent/clipboard.ts') : null,
  };
}

type Modules = Awaited<ReturnType<typeof loadModules>>;

/** What `scanout run` runs: a guest, which may disconnect and reconnect, and the outputs that show it. */
export class Session implements Disposable {
  readonly headless: readonly HeadlessOutput[];
  readonly #options: SessionOptions;
  readonly #modules: Modules;
  readonly #guest: VhostUserGuest | VfioGuest | QemuDbusGuest;
  readonly #bridge: Bridge;
  readonly #stack: DisposableStack;
  readonly #export: ExportDisplay | null;
  readonly #vncs: readonly VncOutput[];
  readonly #clipboard: VdagentClipboard | DbusClipboard | null;
  /** Null for a guest without input devices. */
  readonly #operator: Operator | null;
  readonly #shown: readonly Assigned[];
  /** The screen that was read back last, if that has not ended: one is read at a time. */
  #readBack: Promise<unknown> = Promise.resolve();
  readonly #ending = new AbortController();
  #operated = 0;
  #vmm: VmmDisplay | null = null;
  /** Gives up the display that is opening. */
  #opening = new AbortController();
  readonly #vmmLog: Log;

  private constructor(
    options: SessionOptions,
    modules: Modules,
    screens: Screens,
    vncs: readonly VncOutput[],
    stack: DisposableStack,
  ) {
    const { log, record, maxGuestMemory, allowUnsealedMemory = false, onDisconnected } = options;
    this.#options = options;
    this.#modules = modules;
    this.#vmmLog = limitLog(log);
    this.headless = screens.headless;
    const defaultScanouts = Math.max(screens.defaultScanouts, vncs.length);
    const scanouts = 'vfio' in options.guest ? 1 : (options.scanouts ?? defaultScanouts);
    this.#shown = screens.assign(scanouts);
    const onFailed = (error: Error): void => log('error', `the recording stopped: ${error.message}`);
    const recording = record === undefined ? null : { file: record, scanouts, onFailed };
    const recorder = recording && modules.recorder && stack.use(modules.recorder.Recorder.open(recording));
    const device = {
      scanouts,
      maxGuestMemory,
      allowUnsealedMemory,
      log,
      ...(recorder && { tap: recorder.tap }),
      ...(onDisconnected && { onDisconnected }),
      ...this.#vmmHooks(),
    };
    const { guest } = options;
    if ('dbus' in guest) {
      const text = guest.dbus.text === true;
      const clipboard = options.clipboard === 'guest';
      const vm = vmAddress(guest.dbus, modules);
      this.#guest = stack.use(modules.dbus!.QemuDbusGuest.open({ vm, scanouts, text, clipboard, log, maxGuestMemory }));
    } else {
      this.#guest = stack.use(
        'vfio' in guest
          ? openDevice(modules.vfio!.VfioGuest, guest.vfio, { log, maxGuestMemory })
          : withSocket('--guest', guest, (socket) => VhostUserGuest.open({ ...device, socket })),
      );
    }
    const input = this.#isDbus(this.#guest)
      ? this.#guest.input
      : openInput(options.inputs ?? [], { log, allowUnsealedMemory }, stack);
    this.#operator =
      input &&
      new Operator(
        input,
        (scanout) => this.#bridge.pictureSize(scanout),
        () => this.#bridge.flushes,
      );
    const { budget } = this.#guest;
    const pictures =
      recording && modules.pictures && stack.use(modules.pictures.PictureRecorder.open({ ...recording, budget }));
    stack.defer(() => this.#vmm?.[Symbol.dispose]());
    stack.defer(() => this.#opening.abort());
    const exportSpec = options.outputs.find(({ kind }) => kind === 'export');
    this.#export =
      exportSpec?.kind === 'export'
        ? stack.use(openExport(modules.exports!.ExportDisplay, exportSpec, scanouts, budget, log))
        : null;
    this.#bridge = stack.use(
      new Bridge(this.#guest, {
        log,
        zeroCopy: options.zeroCopy,
        latency: options.latency,
        keepLast: options.keepLast ?? false,
        ...(input && { input }),
        ...(this.#export && { buffers: this.#export.buffers }),
      }),
    );
    for (const { output, scanout } of this.#shown) this.#bridge.show(scanout, output);
    this.#vncs = vncs;
    vncs.forEach((output, index) => {
      output.budget = this.#guest.budget;
      this.#bridge.show(index % scanouts, output);
    });
    this.#export?.outputs.forEach((output, index) => this.#bridge.show(index, output));
    pictures?.outputs.forEach((output, index) => this.#bridge.observe(index, output, { log }));
    // The first window stays open; the others close when the guest turns their scanouts off.
    const { keepLast = false } = options;
    options.windows
      ?.openOutputs(
        scanouts,
        async (scanout) => (await this.screenshotPng({ scanout, cursor: true }, this.#ending.signal)).bytes,
      )
      .forEach((output, index) => this.#bridge.show(index, output, { keepLast: index === 0 && keepLast }));
    this.#clipboard = this.#shareClipboard(options, stack);
    stack.defer(() => this.#ending.abort(new ControlError('unreachable', 'the bridge ends')));
    this.#stack = stack.move();
  }

  /** Throws GuestSocketError as `withSocket`. Null without a clipboard at either end. */
  #shareClipboard(
    { clipboard, windows, log }: SessionOptions,
    stack: DisposableStack,
  ): VdagentClipboard | DbusClipboard | null {
    if (!clipboard || !windows?.clipboard) return null;
    const VdagentClipboard = this.#modules.vdagent?.VdagentClipboard;
    const guest =
      clipboard !== 'guest'
        ? stack.use(withSocket('--clipboard', clipboard, (socket) => VdagentClipboard!.open({ socket, log })))
        : this.#isDbus(this.#guest)
          ? this.#guest.clipboard
          : null;
    if (guest) stack.use(shareClipboard(guest, windows.clipboard));
    return guest;
  }

  /** Rejects with UsageError for invalid outputs, KmsError if a graphics card cannot be used, GuestSocketError if a socket cannot be opened. */
  static async open(options: SessionOptions): Promise<Session> {
    if ('vfio' in options.guest) checkDeviceOptions(options);
    if ('dbus' in options.guest) checkDbusOptions(options);
    const modules = await loadModules(options);
    using stack = new DisposableStack();
    const screens = stack.use(await Screens.open(options.outputs, options));
    const vncs: VncOutput[] = [];
    for (const spec of options.outputs) if (spec.kind === 'vnc') vncs.push(stack.use(await openVnc(spec, options.log)));
    return new Session(options, modules, screens, vncs, stack);
  }

  /** How often `operate` was carried out. */
  get operated(): number {
    return this.#operated;
  }

  stats(): SessionStats {
    const connected = this.#guest.isConnected;
    const vnc = this.#vncs.length > 0 ? this.#vncs.map(({ stats }) => stats) : null;
    const { scanouts, exports } = { scanouts: this.#bridge.stats, exports: this.#export?.stats ?? null };
    const clipboard = this.#clipboard?.stats ?? null;
    const source = this.#guest;
    if (this.#isDbus(source))
      return { guest: { kind: 'qemu-dbus', connected, ...source.stats }, scanouts, exports, vnc, clipboard };
    const guest = this.#isVfio(source)
      ? ({ kind: 'vfio', connected, ...source.stats } as const)
      : { connected, ...source.stats };
    return { guest, scanouts, exports, vnc, clipboard };
  }

  /**
   * The guest's picture, with its cursor, whatever shows it; or what a screen shows of it. Rejects with ControlError
   * `no-scanout`, `no-picture`, `no-region`, `no-output-picture`, `timeout`, or the reason of the signal.
   */
  async screenshot(request: ScreenshotRequest, signal?: AbortSignal): Promise<Picture> {
    return this.#look(request, signal, wholePicture);
  }

  /** The same as a file, which is written while the picture is read. */
  async screenshotPng(request: ScreenshotRequest, signal?: AbortSignal): Promise<PngFile> {
    return this.#look(request, signal, async (picture) => {
      const { width, height } = picture;
      return { width, height, bytes: await encodePngAside('data' in picture ? readerOf(picture) : picture) };
    });
  }

  /** `take` gets the picture, or what it can be read from until the promise that it returns is settled. */
  async #look<T>(
    request: ScreenshotRequest,
    signal: AbortSignal | undefined,
    take: (picture: Picture | PictureReader) => Promise<T>,
  ): Promise<T> {
    const { scanout, region, still, output = false } = request;
    this.#checkScanout(scanout);
    const shown = this.headless[scanout];
    if (output && !shown) {
      if (still) await this.screenshot({ ...request, output: false }, signal);
      return take(partOf(await this.#outputPicture(scanout), region));
    }
    if (still) {
      using watched = shown ? null : this.#observe(scanout, false);
      return await take(
        partOf(await stillPicture((shown ?? watched?.output)!, { ...request, ...still }, signal), region),
      );
    }
    if (shown) {
      using held = shown.hold();
      if (!held) throw noPicture(scanout);
      return await take(held.isShared ? pictureOn(shown, request) : readerOn(held, request));
    }
    // A wait for a guest that shows nothing would be one for its next start.
    if (this.#bridge.pictureSize(scanout) === null) throw noPicture(scanout);
    using watched = this.#observe(scanout, true);
    await firstFrame(watched.output, signal);
    const size = watched.output.pictureSize;
    if (!size) throw noPicture(scanout, watched.problem);
    if (!watched.isCopy) return await take(pictureOn(watched.output, request));
    // What is copied stays on the output when the guest has gone on.
    watched.detach();
    return await take(readerOn({ ...size, capture: (options) => watched.output.capture(options) }, request));
  }

  hello(): Hello {
    const has = (device: InputKind): boolean => this.#operator?.has(device, 0) ?? false;
    const { scanouts } = this.#guest;
    return { protocol: PROTOCOL, scanouts, keyboard: has('keyboard-pointer'), touch: has('touch') };
  }

  /**
   * Waits until a scanout stands still, or changes from what it is now. Rejects with ControlError `no-scanout`,
   * `timeout`, or the reason of the signal.
   */
  async wait(request: WaitRequest, signal: AbortSignal): Promise<void> {
    using watched = await this.#watched(request.scanout, signal);
    if (request.for === 'stable') await stillPicture(watched.output, request, signal);
    else await inTime(waitUntilChange(watched.output, { ...request, signal }));
  }

  /** The frames that come on a scanout; the caller disposes it. Rejects with ControlError `no-scanout`. */
  async watch(scanout: number, signal: AbortSignal): Promise<FrameWatch> {
    const { output, ...watched } = await this.#watched(scanout, signal);
    return new FrameWatch(output, output.pictureSize, () => watched[Symbol.dispose]());
  }

  /**
   * Operates the guest, after what was asked for before, and resolves when its driver has taken that. Rejects with
   * ControlError `input`, `key`, `off-screen`, `no-scanout`, `no-picture`, or the reason of the signal.
   */
  async operate(request: InputRequest, signal: AbortSignal): Promise<void> {
    if (!this.#operator)
      throw new ControlError('input', 'the guest has no input devices: start the bridge with --input');
    if ('scanout' in request) this.#checkScanout(request.scanout);
    this.#checkConnected('no guest is connected that could take input');
    try {
      await operate(this.#operator, request, signal);
      this.#operated++;
      // What is sent to a VM that has gone is dropped.
      this.#checkConnected('the guest disconnected before it had taken all');
    } catch (error) {
      if (error instanceof UsageError) throw new ControlError('off-screen', error.message, { cause: error });
      if (!(error instanceof DisplayError)) throw error;
      const code = error.code === 'input' || error.code === 'key' ? error.code : 'no-picture';
      throw new ControlError(code, error.message, { cause: error });
    }
  }

  /** What is on the first screen that shows a scanout and can be read back. Rejects with ControlError `no-output-picture`. */
  #outputPicture(scanout: number): Promise<Picture> {
    const screen = this.#shown.find(({ output, scanout: its }) => its === scanout && 'readBack' in output)?.output;
    if (!screen)
      throw new ControlError(
        'no-output-picture',
        `no screen of scanout ${scanout} can be read back: only --output kms on a card with a writeback connector, and --output headless; leave out --output-picture for the guest's picture`,
      );
    const picture = this.#readBack.then(() => screen.readBack!());
    this.#readBack = picture.catch(() => undefined);
    return picture.catch((error: unknown) => {
      if (!(error instanceof ScanoutError)) throw error;
      throw new ControlError('no-output-picture', error.message, { cause: error });
    });
  }

  /** Throws ControlError `no-scanout`. */
  trace(scanout: number): FrameTrace {
    this.#checkScanout(scanout);
    return new FrameTrace((tracer) => this.#bridge.trace(scanout, tracer));
  }

  /** Throws ControlError `input`. */
  #checkConnected(message: string): void {
    if (!this.#guest.isConnected) throw new ControlError('input', message);
  }

  /** Throws ControlError `no-scanout`. */
  #checkScanout(scanout: number): void {
    const { scanouts } = this.#guest;
    if (scanout < scanouts) return;
    throw new ControlError('no-scanout', `there is no scanout ${scanout}: the guest has ${scanouts}, counted from 0`);
  }

  /** A headless output that shows a scanout, or one that copies it, with its picture. */
  async #watched(scanout: number, signal: AbortSignal): Promise<{ readonly output: HeadlessOutput } & Disposable> {
    this.#checkScanout(scanout);
    const output = this.headless[scanout];
    if (output) return { output, [Symbol.dispose]: () => undefined };
    using stack = new DisposableStack();
    const observed = stack.use(this.#observe(scanout, false));
    if (this.#bridge.pictureSize(scanout) !== null) await firstFrame(observed.output, signal);
    const owned = stack.move();
    return { output: observed.output, [Symbol.dispose]: () => owned[Symbol.dispose]() };
  }

  /** An output that copies a scanout, for a picture of it. `keepLast`: the picture stays when it is detached. */
  #observe(scanout: number, keepLast: boolean) {
    using stack = new DisposableStack();
    const output = stack.use(HeadlessOutput.open({ ...OBSERVER, name: `screenshot of scanout ${scanout}` }));
    let problem: string | null = null;
    const log: Log = (level, message) => {
      if (level !== 'info') problem ??= message;
    };
    const observation = stack.use(this.#bridge.observe(scanout, output, { keepLast, log }));
    const owned = stack.move();
    return {
      output,
      get problem() {
        return problem;
      },
      get isCopy() {
        return observation.isCopy;
      },
      detach: () => observation[Symbol.dispose](),
      [Symbol.dispose]: () => owned[Symbol.dispose](),
    };
  }

  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }

  #isDbus(guest: VhostUserGuest | VfioGuest | QemuDbusGuest): guest is QemuDbusGuest {
    return guest === this.#guest && 'dbus' in this.#options.guest;
  }

  #isVfio(guest: VhostUserGuest | VfioGuest | QemuDbusGuest): guest is VfioGuest {
    return guest === this.#guest && 'vfio' in this.#options.guest;
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

  /** Consumes `fd`. Replaces the previous display, whose socket the VMM has closed, and the one that is opening. */
  async #showOnVmm(fd: OwnedFd, dmabuf: boolean): Promise<void> {
    const log = this.#vmmLog;
    const { scanouts, budget } = this.#guest;
    this.#opening.abort();
    const { signal } = (this.#opening = new AbortController());
    try {
      const display = await this.#modules.vmm!.VmmDisplay.open({ socket: fd, log, scanouts, dmabuf, budget, signal });
      if (signal.aborted) {
        display[Symbol.dispose]();
        return;
      }
      this.#vmm?.outputs.forEach((output) => this.#bridge.hide(output));
      this.#vmm?.[Symbol.dispose]();
      this.#vmm = display;
      display.outputs.forEach((output, index) => this.#bridge.show(index, output));
      log('info', "the guest is shown on the VMM's own display");
    } catch (error) {
      if (signal.aborted) return;
      log('warn', `the VMM's own display cannot be used: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
}

/** Its blanks follow one another so fast that a guest never waits for them. The guest does not see the size. */
const OBSERVER = { width: 1, height: 1, refreshMhz: MAX_REFRESH_MHZ };
/** Pixels of a picture that are read in one turn of the event loop, about a millisecond. */
const AT_ONCE = 512 * 512;
/** A picture that is copied takes less, unless the fence that it waits for does not signal. */
const FRAME_TIMEOUT_MS = 5000;

/** Resolves when something is on the output. Rejects with ControlError `timeout`, or the reason of the signal. */
async function firstFrame(output: HeadlessOutput, signal?: AbortSignal): Promise<void> {
  let stop = (): void => undefined;
  let timer: NodeJS.Timeout | undefined;
  let aborted = (): void => undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      stop = output.onFrame(() => resolve());
      timer = setTimeout(
        () =>
          reject(new ControlError('timeout', `the guest did not finish its picture in ${FRAME_TIMEOUT_MS / 1000} s`)),
        FRAME_TIMEOUT_MS,
      );
      aborted = () => reject(signal!.reason as Error);
      if (signal?.aborted) aborted();
      signal?.addEventListener('abort', aborted);
    });
  } finally {
    stop();
    clearTimeout(timer);
    signal?.removeEventListener('abort', aborted);
  }
}

function pictureOn(output: HeadlessOutput, { scanout, cursor, region }: ScreenshotRequest): Picture {
  const size = output.pictureSize;
  if (!size) throw noPicture(scanout);
  if (region) checkRegion(region, size);
  return output.capture({ cursor, ...(region && { region }) })!;
}

/** Reads a picture that does not change. Throws as `checkRegion`. */
function readerOn(
  screen: Size & Pick<HeadlessOutput, 'capture'>,
  { cursor, region }: ScreenshotRequest,
): PictureReader {
  if (region) checkRegion(region, screen);
  const { x, y, width, height } = region ?? { x: 0, y: 0, width: screen.width, height: screen.height };
  return {
    width,
    height,
    read(top, bottom, target) {
      screen.capture({ cursor, region: { x, y: y + top, width, height: bottom - top }, target });
    },
  };
}

/** Reads some rows in each turn of the event loop, so that no frame is late for it. */
async function wholePicture(picture: Picture | PictureReader): Promise<Picture> {
  if ('data' in picture) return picture;
  const { width, height } = picture;
  const data = new Uint8Array(width * height * 4);
  const rows = Math.max(1, Math.floor(AT_ONCE / width));
  for (let top = 0; top < height; top += rows) {
    const bottom = Math.min(top + rows, height);
    picture.read(top, bottom, data.subarray(top * width * 4, bottom * width * 4));
    await setImmediate();
  }
  return { width, height, data };
}

function partOf(picture: Picture, region: Rect | undefined): Picture {
  if (!region) return picture;
  checkRegion(region, picture);
  return crop(picture, region);
}

/** Throws ControlError `no-region`. */
function checkRegion(region: Rect, size: Size): void {
  if (region.x + region.width <= size.width && region.y + region.height <= size.height) return;
  throw new ControlError(
    'no-region',
    `${formatRect(region)} is not within the picture, which has ${formatSize(size)} pixels`,
  );
}

function noPicture(scanout: number, problem: string | null = null): ControlError {
  return new ControlError(
    'no-picture',
    problem === null ? `scanout ${scanout} is off: the guest shows nothing yet` : `scanout ${scanout}: ${problem}`,
  );
}

async function stillPicture(
  output: HeadlessOutput,
  { cursor, region, quietMs, timeoutMs }: Omit<WaitRequest, 'for'>,
  signal?: AbortSignal,
): Promise<Picture> {
  const options = { cursor, quietMs, timeoutMs, ...(region && { region }), ...(signal && { signal }) };
  return inTime(waitUntilStable(output, options));
}

/** Rejects with ControlError `timeout` for a wait that took too long. */
async function inTime<T>(wait: Promise<T>): Promise<T> {
  try {
    return await wait;
  } catch (error) {
    if (!(error instanceof DisplayError)) throw error;
    throw new ControlError('timeout', error.message, { cause: error });
  }
}

function operate(operator: Operator, request: InputRequest, signal: AbortSignal): Promise<void> {
  switch (request.command) {
    case 'type':
      return operator.type(request.text, signal);
    case 'press':
      return operator.press(request.keys, signal);
    case 'move':
      return operator.move(request.scanout, request, signal);
    case 'click':
      return operator.click(request.scanout, request, request.button, request.double ? 2 : 1, signal);
    case 'drag':
      return operator.drag(request.scanout, request.from, request.to, request.button, signal);
    case 'scroll':
      return operator.scroll(request.scanout, request.right, request.down, request.at ?? null, signal);
    case 'touch':
      return operator.touch(request.scanout, request.from, request.to, signal);
  }
}

/** Throws ExportSocketError, or UsageError for a group that does not exist. */
function openExport(
  Display: typeof ExportDisplay,
  spec: ExportSpec,
  scanouts: number,
  budget: MemoryBudget,
  log: Log,
): ExportDisplay {
  const { path, mode, group, channel, size } = spec;
  const gid = group === undefined ? undefined : numberOfGroup(group);
  const fileMode = mode ?? (gid === undefined ? undefined : 0o660);
  try {
    return Display.open({
      path,
      scanouts,
      budget,
      log,
      ...(fileMode !== undefined && { mode: fileMode }),
      ...(gid !== undefined && { gid }),
      ...(channel !== undefined && { channel }),
      ...(size && { monitor: { refreshMhz: 60_000, ...size } }),
    });
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (error instanceof UsageError || code === undefined) throw error;
    const sockets = channel === undefined ? path : `${path} and ${channel}`;
    const why =
      code === 'EPERM' ? `only a member of the group ${group} may give it a file` : (REMEDIES[code] ?? message);
    throw new ExportSocketError(code, `--output export: cannot listen on ${sockets}: ${why}`, { cause: error });
  }
}

const VNC_MODE = { width: 1280, height: 800 };

/** Rejects with VncSocketError, or UsageError as `VncOutput.open` or for a file that has no password or that others may read. */
async function openVnc(spec: VncSpec, log: Log): Promise<VncOutput> {
  const address = vncAddress(spec);
  const { size, passwordFile } = spec;
  const password = passwordFile === undefined ? undefined : readPassword(passwordFile);
  if (!spec.address && 'path' in address) {
    mkdirSync(dirname(address.path), { recursive: true, mode: 0o700 });
    checkDirectory(dirname(address.path));
  }
  const { VncOutput } = await import('../../display/vnc/output.ts');
  try {
    const output = await VncOutput.open({
      address,
      log,
      ...VNC_MODE,
      ...size,
      ...(password !== undefined && { password }),
    });
    await output.prepare();
    log(
      'info',
      `${output.name}: viewers can connect${'path' in address ? '' : `, browsers at http://${formatVncAddress(address)}/`}`,
    );
    return output;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (error instanceof UsageError || code === undefined) throw error;
    const why = REMEDIES[code] ?? message;
    throw new VncSocketError(code, `--output vnc: cannot listen on ${formatVncAddress(address)}: ${why}`, {
      cause: error,
    });
  }
}

/** The first line of a file that only its owner may read. Throws UsageError. */
function readPassword(path: string): string {
  try {
    if ((statSync(path).mode & 0o077) !== 0)
      throw new UsageError(`--output vnc: others may read ${path}: run chmod 600 ${path}`);
    return readFileSync(path, 'utf8').split('\n')[0]!;
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`--output vnc: cannot read the password: ${(error as Error).message}`);
  }
}

/** Of a group's name, or of a number. */
function numberOfGroup(group: string): number {
  if (/^\d{1,9}$/.test(group)) return Number(group);
  const id = groupId(group);
  if (id === null) throw new UsageError(`--output export: group=${group}: there is no such group on this machine`);
  return id;
}

/** Null without input devices. */
function openInput(
  specs: readonly InputSpec[],
  options: VhostUserInputOptions,
  stack: DisposableStack,
): GuestInput | null {
  if (specs.length === 0) return null;
  const input = stack.use(VhostUserInput.open(options));
  for (const { kind, from } of specs) withSocket('--input', from, (socket) => input.serve(kind, socket));
  return input.sink;
}

/** What a virtual GPU does not do. Throws UsageError. */
function checkDeviceOptions({ outputs, scanouts = 1 }: SessionOptions): void {
  if (scanouts !== 1) throw new UsageError('--scanouts: a virtual GPU has one');
  if (outputs.some(({ kind }) => kind === 'vmm'))
    throw new UsageError('--output vmm: works only with --guest vhost-user, through which a VMM offers its display');
}

/** What a VM's D-Bus display does not do. Throws UsageError. */
function checkDbusOptions({ outputs, inputs = [] }: SessionOptions): void {
  if (inputs.length > 0)
    throw new UsageError("--input: a VM's D-Bus display has its keyboard and pointer; leave the option out");
  if (outputs.some(({ kind }) => kind === 'vmm'))
    throw new UsageError('--output vmm: works only with --guest vhost-user, through which a VMM offers its display');
}

/** The buses that have names. */
function vmAddress(spec: DbusSpec, { qmp }: Modules): VmAddress {
  if ('qmp' in spec) return { connect: qmp!.dbusByQmp(spec.qmp), keysRead: qmp!.keysReadByQmp(spec.qmp) };
  const { DBUS_SESSION_BUS_ADDRESS: address, XDG_RUNTIME_DIR: runtime = '/run' } = process.env;
  const { bus, name } = spec;
  const session = address ?? `unix:path=${runtime}/bus`;
  const known = bus === 'system' ? 'unix:path=/run/dbus/system_bus_socket' : bus === 'session' ? session : bus;
  return { bus: known, ...(name !== undefined && { name }) };
}

type DeviceSpec = Extract<OpenedGuest, { vfio: unknown }>['vfio'];

/** Throws VfioError, or GuestSocketError as `withSocket`. */
function openDevice(
  Guest: typeof VfioGuest,
  spec: DeviceSpec,
  options: { log: Log; maxGuestMemory: number },
): VfioGuest {
  const open = (device: VfioAddress): VfioGuest => Guest.open({ device, ...options });
  if ('pid' in spec || 'mdev' in spec) return open(spec);
  return withSocket('--guest', spec, (from) => {
    if (typeof from === 'string') return open({ socket: from });
    return open({ fd: from, ...('process' in spec && { process: OwnedFd.inherit(spec.process) }) });
  });
}

function withSocket<T>(option: string, spec: SocketSpec, use: (socket: string | OwnedFd) => T): T {
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
