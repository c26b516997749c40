import { UsageError } from '../../core/errors.ts';
import type { GuestInput, InputKind } from '../../core/input.ts';
import { type Log, limitLog } from '../../core/log.ts';
import { DisposableStack } from '../../sys/disposable-stack.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { InputDevices } from '../virtio-input/input-devices.ts';
import { VhostUserServer } from './server.ts';

export type { InputKind };

export interface VhostUserInputOptions {
  readonly log?: Log;
  /** As in VhostUserGuestOptions. */
  readonly allowUnsealedMemory?: boolean;
}

/**
 * The input devices of a guest. Each is a `vhost-user-input-pci` of the VMM, with a socket of its own. Events
 * for a device that is not served, or that no VMM is connected to, are dropped.
 *
 *     using input = VhostUserInput.open();
 *     input.serve('keyboard-pointer', '/tmp/input.sock');
 *     using bridge = new Bridge(guest, { input: input.sink });
 */
export class VhostUserInput implements Disposable {
  readonly #devices = new InputDevices();
  readonly #stack = new DisposableStack();
  readonly #options: VhostUserInputOptions;

  private constructor(options: VhostUserInputOptions) {
    this.#options = options;
  }

  /** Has no device until `serve`. */
  static open(options: VhostUserInputOptions = {}): VhostUserInput {
    return new VhostUserInput(options);
  }

  /** Takes the events of outputs or of a test. Pass it to the bridge as `input`. */
  get sink(): GuestInput {
    return this.#devices;
  }

  /**
   * Offers a device of one kind at `socket`, which is as in VhostUserGuestOptions. SysError EADDRINUSE,
   * EACCES...; UsageError if this kind is served already.
   */
  serve(kind: InputKind, socket: string | OwnedFd): void {
    if (this.#devices.has(kind)) {
      if (typeof socket !== 'string') socket[Symbol.dispose]();
      throw new UsageError(`VhostUserInput serves a '${kind}' device already; a guest has one of each kind`);
    }
    const device = kind === 'touch' ? this.#devices.touchscreen : this.#devices.keyboardPointer;
    const { log, allowUnsealedMemory } = this.#options;
    const options = { log: limitLog((level, message) => log?.(level, `${kind}: ${message}`)), allowUnsealedMemory };
    this.#stack.use(
      typeof socket === 'string'
        ? VhostUserServer.listen(socket, device, options)
        : VhostUserServer.adopt(socket, device, options),
    );
    this.#devices.serve(kind);
  }

  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }
}
