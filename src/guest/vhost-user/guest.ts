import { limitLog } from '../../core/log.ts';
import type { MemoryBudget } from '../../core/budget.ts';
import type { Monitor } from '../../core/monitor.ts';
import type { ScanoutId, Source, SourceSink } from '../../core/source.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { VirtioGpu, type GpuStats, type VirtioGpuOptions } from '../virtio-gpu/device.ts';
import { VhostUserServer } from './server.ts';

export interface VhostUserGuestOptions extends VirtioGpuOptions {
  /** A path to listen on (mode 0600), or a socket this process was given, which is consumed even when `open` fails. */
  readonly socket: string | OwnedFd;
  /**
   * Takes the socket of the VMM's own display, whenever the guest's driver starts. Without it the socket is kept
   * open, unused, while the front end is connected: QEMU 10 spins on one that its peer closed first.
   */
  readonly onDisplaySocket?: (fd: OwnedFd) => void;
  /** Called when a VMM has disconnected, and its scanouts are off. */
  readonly onDisconnected?: () => void;
  /**
   * Whether to accept guest memory that the VMM can truncate, such as QEMU's memory-backend-file. A VMM that does so
   * kills this process (SIGBUS), with all other guests in it. Default false: memory must be sealed (F_SEAL_SHRINK).
   */
  readonly allowUnsealedMemory?: boolean;
}

/**
 * A guest in a VMM, whose GPU this is over vhost-user:
 *
 *     using guest = VhostUserGuest.open({ socket: '/tmp/gpu.sock' });
 *     using bridge = new Bridge(guest);
 *     bridge.show(0, output);
 *
 * VMMs may come and go, one at a time. The scanouts are off in between.
 */
export class VhostUserGuest implements Source {
  readonly #gpu: VirtioGpu;
  readonly #server: VhostUserServer;

  private constructor(options: VhostUserGuestOptions) {
    const log = limitLog(options.log ?? (() => undefined));
    const { socket, onDisplaySocket, onDisconnected, allowUnsealedMemory } = options;
    const serverOptions = { log, onDisplaySocket, allowUnsealedMemory, ...(onDisconnected && { onDisconnected }) };
    try {
      this.#gpu = new VirtioGpu({ ...options, log });
    } catch (error) {
      if (typeof socket !== 'string') socket[Symbol.dispose]();
      throw error;
    }
    this.#server =
      typeof socket === 'string'
        ? VhostUserServer.listen(socket, this.#gpu, serverOptions)
        : VhostUserServer.adopt(socket, this.#gpu, serverOptions);
  }

  /** SysError EADDRINUSE, EACCES, ENAMETOOLONG... for the socket; UsageError for the options. */
  static open(options: VhostUserGuestOptions): VhostUserGuest {
    return new VhostUserGuest(options);
  }

  get scanouts(): number {
    return this.#gpu.scanouts;
  }

  get budget(): MemoryBudget {
    return this.#gpu.budget;
  }

  /** Whether a VMM is connected. */
  get isConnected(): boolean {
    return this.#server.connected;
  }

  get stats(): GpuStats {
    return this.#gpu.stats;
  }

  connect(sink: SourceSink): void {
    this.#gpu.connect(sink);
  }

  setMonitor(id: ScanoutId, monitor: Monitor | null): void {
    this.#gpu.setMonitor(id, monitor);
  }

  [Symbol.dispose](): void {
    this.#server[Symbol.dispose]();
    this.#gpu[Symbol.dispose]();
  }
}
