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
 *     using input = new VhostUserInput();
 *     input.serve('keyboard-pointer', '/tmp/input.sock');
 *     using bridge = new Bridge(guest, { input: input.sink });
 */
export class VhostUserInput implements Disposable {
  readonly #seat = new Seat();
  readonly #stack = new DisposableStack();
  readonly #log: Log;

  constructor({ log = () => undefined }: VhostUserInputOptions = {}) {
    this.#log = log;
  }

  /** Where outputs, or a test, say what a person does. */
  get sink(): GuestInput {
    return this.#seat;
  }

  /** `socket` is as of VhostUserGuest. SysError EADDRINUSE, EACCES...; once for each kind. */
  serve(kind: InputKind, socket: string | OwnedFd): void {
    const device = kind === 'touch' ? this.#seat.touchscreen : this.#seat.keyboardPointer;
    const options: { log: Log } = { log: (level, message) => this.#log(level, `${kind}: ${message}`) };
    this.#stack.use(typeof socket === 'string' ? VhostUserServer.listen(socket, device, options) : VhostUserServer.adopt(socket, device, options));
  }

  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }
}
