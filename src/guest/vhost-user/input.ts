import { UsageError } from '../../core/errors.ts';
import type { GuestInput } from '../../core/input.ts';
import type { Log } from '../../core/log.ts';
import { DisposableStack } from '../../sys/disposable-stack.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { Seat } from '../virtio-input/seat.ts';
import { VhostUserServer } from './server.ts';

/** Touches need a device of their own: guests take one device for a pointer or for a touchscreen. */
export type InputKind = 'keyboard-pointer' | 'touch';

export interface VhostUserInputOptions {
  readonly log?: Log;
}

/**
 * The input devices of a guest, each a `vhost-user-input-pci` of its VMM with a socket of its own.
 * A device that has none, or no VMM at the moment, hears nothing.
 *
 *     using input = VhostUserInput.open();
 *     input.serve('keyboard-pointer', '/tmp/input.sock');
 *     using bridge = new Bridge(guest, { input: input.sink });
 */
export class VhostUserInput implements Disposable {
  readonly #seat = new Seat();
  readonly #served = new Set<InputKind>();
  readonly #stack = new DisposableStack();
  readonly #log: Log;

  private constructor(log: Log) {
    this.#log = log;
  }

  /** Has no device until `serve`. */
  static open({ log = () => undefined }: VhostUserInputOptions = {}): VhostUserInput {
    return new VhostUserInput(log);
  }

  /** Where outputs, or a test, say what a person does. */
  get sink(): GuestInput {
    return this.#seat;
  }

  /**
   * Offers a device of one kind at `socket`, which is as in VhostUserGuestOptions. SysError EADDRINUSE,
   * EACCES...; UsageError if this kind is served already.
   */
  serve(kind: InputKind, socket: string | OwnedFd): void {
    if (this.#served.has(kind)) {
      if (typeof socket !== 'string') socket[Symbol.dispose]();
      throw new UsageError(`VhostUserInput serves a '${kind}' device already; a guest has one of each kind`);
    }
    const device = kind === 'touch' ? this.#seat.touchscreen : this.#seat.keyboardPointer;
    const options: { log: Log } = { log: (level, message) => this.#log(level, `${kind}: ${message}`) };
    this.#stack.use(typeof socket === 'string' ? VhostUserServer.listen(socket, device, options) : VhostUserServer.adopt(socket, device, options));
    this.#served.add(kind);
  }

  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }
}
