import { HeadlessOutput } from '../../display/headless/output.ts';
import { VmmDisplay } from '../../display/vmm/vmm-display.ts';
import { Bridge, type ScanoutStats } from '../bridge.ts';
import type { ZeroCopy } from '../buffer/dmabuf-pool.ts';
import { UsageError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Monitor } from '../core/monitor.ts';
import type { Picture } from '../core/picture.ts';
import { type ScanoutId, scanoutId, type Source, type SourceSink } from '../core/source.ts';
import { Recorder } from '../guest/replay/recorder.ts';
import { VhostUserServer } from '../guest/vhost-user/server.ts';
import { type GpuStats, VirtioGpu } from '../guest/virtio-gpu/device.ts';
import { DisposableStack } from '../sys/disposable-stack.ts';
import { OwnedFd } from '../sys/fd.ts';
import { ControlError } from './control-protocol.ts';
import type { GuestSpec } from './guest-spec.ts';
import type { OutputSpec } from './output-spec.ts';

export interface SessionOptions {
  readonly guest: GuestSpec;
  /** Each headless output shows one scanout, in order; the VMM's display shows all of them. */
  readonly outputs: readonly OutputSpec[];
  /** Default: one for each headless output, and at least one. */
  readonly scanouts?: number;
  /** Bytes. */
  readonly maxGuestMemory: number;
  readonly zeroCopy: ZeroCopy;
  /** File to record the session into. */
  readonly record?: string;
  readonly log: Log;
}

export interface SessionStats {
  readonly guest: GpuStats & { readonly connected: boolean };
  readonly scanouts: readonly ScanoutStats[];
}

/** A guest that may come and go, and the outputs that show it: what `scanout run` runs. */
export class Session implements Disposable {
  readonly headless: readonly HeadlessOutput[];
  readonly #options: SessionOptions;
  readonly #gpu: VirtioGpu;
  readonly #bridge: Bridge;
  readonly #server: VhostUserServer;
  readonly #stack: DisposableStack;
  #vmm: VmmDisplay | null = null;

  private constructor(options: SessionOptions, stack: DisposableStack) {
    const { log, guest } = options;
    this.#options = options;
    this.headless = openHeadless(options.outputs).map((output) => stack.use(output));
    const scanouts = options.scanouts ?? Math.max(1, this.headless.length);
    if (this.headless.length > scanouts) throw new UsageError(`${this.headless.length} headless outputs for ${scanouts} scanouts: raise --scanouts or leave outputs out`);
    const recorder =
      options.record === undefined
        ? null
        : stack.use(Recorder.create(options.record, { scanouts, onFailed: (error) => log('error', `the recording ends here: ${error.message}`) }));
    this.#gpu = stack.use(new VirtioGpu({ scanouts, maxGuestMemory: options.maxGuestMemory, log, ...(recorder && { tap: recorder }) }));
    const source = recorder ? new RecordedMonitors(this.#gpu, recorder) : this.#gpu;
    this.#bridge = stack.use(new Bridge(source, { log, zeroCopy: options.zeroCopy, budget: this.#gpu.budget }));
    this.headless.forEach((output, index) => this.#bridge.show(scanoutId(index), output));
    stack.defer(() => this.#vmm?.[Symbol.dispose]());
    // Last: a front end that waits already must find everything in place.
    const server = { log, memorySlots: true, onDisplaySocket: this.#displaySocketTaker() };
    this.#server = stack.use('socket' in guest ? VhostUserServer.listen(guest.socket, this.#gpu, server) : VhostUserServer.adopt(OwnedFd.inherit(guest.fd), this.#gpu, server));
    this.#stack = stack.move();
  }

  /** Throws UsageError for outputs that cannot be; SysError if the guest's socket cannot be had. */
  static open(options: SessionOptions): Session {
    using stack = new DisposableStack();
    return new Session(options, stack);
  }

  stats(): SessionStats {
    return { guest: { connected: this.#server.connected, ...this.#gpu.stats }, scanouts: this.#bridge.stats };
  }

  /** Throws ControlError `no-scanout`, `no-picture`. */
  screenshot(scanout: number, cursor: boolean): Picture {
    const output = this.headless[scanout];
    if (!output) throw new ControlError('no-scanout', `scanout ${scanout} is on no headless output; ${this.headless.length} of them are`);
    const picture = output.capture({ cursor });
    if (!picture) throw new ControlError('no-picture', `scanout ${scanout} is off: the guest shows nothing yet`);
    return picture;
  }

  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }

  #displaySocketTaker(): ((fd: OwnedFd) => void) | undefined {
    const spec = this.#options.outputs.find(({ kind }) => kind === 'vmm');
    if (spec?.kind !== 'vmm') return undefined;
    return (fd) => void this.#showOnVmm(fd, spec.dmabuf);
  }

  /** Consumes `fd`. The display of before is over: the VMM replaces its socket. */
  async #showOnVmm(fd: OwnedFd, dmabuf: boolean): Promise<void> {
    const { log } = this.#options;
    try {
      const display = await VmmDisplay.open(fd, { log, scanouts: this.#gpu.scanouts, dmabuf });
      if (this.#stack.disposed) {
        display[Symbol.dispose]();
        return;
      }
      this.#vmm?.outputs.forEach((output) => this.#bridge.hide(output));
      this.#vmm?.[Symbol.dispose]();
      this.#vmm = display;
      display.outputs.forEach((output, index) => this.#bridge.show(scanoutId(index), output));
      log('info', "the VMM's own display shows the guest too");
    } catch (error) {
      log('warn', `the VMM's own display cannot be used: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
}

function openHeadless(specs: readonly OutputSpec[]): HeadlessOutput[] {
  if (specs.filter(({ kind }) => kind === 'vmm').length > 1) throw new UsageError("--output vmm: the VMM's display is given once, it shows every scanout");
  const modes = specs.filter((spec) => spec.kind === 'headless');
  return modes.map((mode, index) => HeadlessOutput.open({ ...mode, name: modes.length === 1 ? 'headless' : `headless-${index}` }));
}

/** A guest whose monitors are part of what is recorded. */
class RecordedMonitors implements Source {
  readonly #source: Source;
  readonly #recorder: Recorder;

  constructor(source: Source, recorder: Recorder) {
    this.#source = source;
    this.#recorder = recorder;
  }

  get scanouts(): number {
    return this.#source.scanouts;
  }

  connect(sink: SourceSink): void {
    this.#source.connect(sink);
  }

  setMonitor(id: ScanoutId, monitor: Monitor | null): void {
    this.#recorder.monitorChanged(id, monitor);
    this.#source.setMonitor(id, monitor);
  }

  [Symbol.dispose](): void {
    this.#source[Symbol.dispose]();
  }
}
