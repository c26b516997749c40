import { VHOST_USER_GPU_PROTOCOL_F, VhostUserGpuU64 } from '../../protocols/vhost-user-gpu.ts';
import { VIRTIO_GPU_MAX_SCANOUTS } from '../../protocols/virtio-gpu.ts';
import type { MemoryBudget } from '../../src/core/budget.ts';
import type { Log } from '../../src/core/log.ts';
import type { Monitor } from '../../src/core/monitor.ts';
import type { Output } from '../../src/core/output.ts';
import type { OwnedFd } from '../../src/sys/fd.ts';
import type { VmmDisplayError } from './errors.ts';
import { GET_PROTOCOL_FEATURES, setProtocolFeatures } from './messages.ts';
import { askMonitors } from './monitor.ts';
import { type DmabufMode, VmmOutput } from './output.ts';
import { VmmSocket } from './socket.ts';

const EDID = 1n << BigInt(VHOST_USER_GPU_PROTOCOL_F.EDID);
const DMABUF2 = 1n << BigInt(VHOST_USER_GPU_PROTOCOL_F.DMABUF2);

export interface VmmDisplayOptions {
  /** The VMM's end of its display, connected; consumed even if `open` rejects. */
  readonly socket: OwnedFd;
  /** Default: nothing is logged. */
  readonly log?: Log;
  /** Number of consoles to show, 1 to 16: as many as the guest has scanouts. */
  readonly scanouts: number;
  /**
   * Pass dma-bufs instead of pixels. Default: false, because nothing reports whether it works. QEMU
   * always offers DMABUF2, and on a console without GL (VNC, GTK with gl=off, none) it shows
   * nothing, writes a complaint to its own log and answers each update as if it had been shown. Set
   * it for a QEMU that was started with `-display gtk,gl=on`, `-display egl-headless` or SPICE with
   * gl=on.
   */
  readonly dmabuf?: boolean;
  /** Of the guest, which what waits for the VMM is charged to. Default: nothing is charged. */
  readonly budget?: MemoryBudget;
  /** Gives the display up while it opens. */
  readonly signal?: AbortSignal;
  /** In millihertz. Paces the guest instead of the refresh rate that the VMM asks for. */
  readonly refreshMhz?: number;
}

/**
 * The VMM's own display (QEMU's GTK, VNC, SPICE...), over the socket it hands out with
 * VHOST_USER_GPU_SET_SOCKET (QEMU: docs/interop/vhost-user-gpu.rst). One socket serves all
 * consoles; each is an output. QEMU hands out a new socket whenever the guest's driver starts. Then
 * this display ends (`closed` of every output), and the next one is opened with the next socket.
 */
export class VmmDisplay implements Disposable {
  /** One for each console. They stay the display's. */
  readonly outputs: readonly Output[];
  readonly #outputs: readonly VmmOutput[];
  readonly #socket: VmmSocket;
  readonly #features: bigint;
  readonly #options: VmmDisplayOptions;

  private constructor(
    socket: VmmSocket,
    features: bigint,
    monitors: readonly (Monitor | null)[],
    options: VmmDisplayOptions,
  ) {
    const dmabuf: DmabufMode = options.dmabuf !== true ? 'off' : (features & DMABUF2) !== 0n ? 'modifier' : 'plain';
    this.#socket = socket;
    this.#features = features;
    this.#options = options;
    this.#outputs = monitors.map((monitor, id) => new VmmOutput(socket, id, monitor, dmabuf));
    this.outputs = this.#outputs;
    socket.listener = { progressed: () => this.#progressed(), closed: (error) => this.#closed(error) };
  }

  /**
   * Resolves when the VMM has reported its monitors. It does that only after the vhost-user
   * request that brought the socket has been answered, so never await this in the handler of that
   * request. Rejects with VmmDisplayError `closed`, `protocol` or `stalled`; SysError if the socket cannot
   * be polled; the signal's reason.
   */
  static async open(options: VmmDisplayOptions): Promise<VmmDisplay> {
    const { scanouts, refreshMhz, dmabuf, signal } = options;
    const socket = VmmSocket.open(options.socket, options.budget);
    const abort = (): void => socket[Symbol.dispose]();
    signal?.addEventListener('abort', abort);
    try {
      signal?.throwIfAborted();
      if (!(Number.isInteger(scanouts) && scanouts >= 1 && scanouts <= VIRTIO_GPU_MAX_SCANOUTS))
        throw new RangeError(`vmm: ${scanouts} scanouts; 1 to ${VIRTIO_GPU_MAX_SCANOUTS} are possible`);
      const offered = VhostUserGpuU64.decode(await socket.ask(GET_PROTOCOL_FEATURES)).u64;
      const features = offered & (dmabuf === true ? EDID | DMABUF2 : EDID);
      socket.send(setProtocolFeatures(features));
      const monitors = await askMonitors(socket, scanouts, features, refreshMhz);
      // The last reply may have arrived together with the end of the stream.
      if (socket.error) throw socket.error;
      return new VmmDisplay(socket, features, monitors, options);
    } catch (error) {
      socket[Symbol.dispose]();
      signal?.throwIfAborted();
      throw error;
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  /**
   * Asks for the monitors again; the outputs report what changed by `resized` before this resolves.
   * The VMM does not announce changes on this socket. It notifies the guest, which then sends
   * GET_DISPLAY_INFO and GET_EDID: call this then, and answer the guest afterwards. Rejects as
   * `open` does.
   */
  async refresh(): Promise<void> {
    const { scanouts, refreshMhz } = this.#options;
    const monitors = await askMonitors(this.#socket, scanouts, this.#features, refreshMhz);
    monitors.forEach((monitor, id) => this.#outputs[id]!.setMonitor(monitor));
  }

  /** Turns the consoles off, as far as the socket takes the messages, and closes it. Listeners are not notified. */
  [Symbol.dispose](): void {
    for (const output of this.#outputs) output[Symbol.dispose]();
    this.#socket[Symbol.dispose]();
  }

  #progressed(): void {
    for (const output of this.#outputs) output.progressed();
  }

  #closed(error: VmmDisplayError): void {
    if (error.code !== 'closed') this.#options.log?.('warn', `the VMM's display socket is closed: ${error.message}`);
    for (const output of this.#outputs) output.close(error.message);
  }
}
