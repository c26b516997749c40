import { spawn } from 'node:child_process';
import { DisposableStack } from '../../../src/sys/disposable-stack.ts';
import type { OwnedFd } from '../../../src/sys/fd.ts';
import { NativeBuffer } from '../../../src/sys/native-buffer.ts';
import { Poll } from '../../../src/sys/poll.ts';
import { receiveAt, socketPair, transmit } from '../../../src/sys/socket.ts';

const EVENT_BYTES = 40;
const REQUEST_BYTES = 120;
const CAPACITY = 4096;
const NO_BYTES = new Uint8Array(0);
const NO_FDS: OwnedFd[] = [];
/** When a frame is shown, in refreshes after the client may draw it: 7 ms at 60 Hz, as on Weston. */
const SHOWN_AFTER = 0.42;

/** Sends a compositor's two events per frame, with its timing: that the client may draw, and that the frame was shown. */
const compositor = (refreshHz: number): string => `
  const socket = new (require('node:net').Socket)({ fd: 3 });
  const event = Buffer.alloc(${EVENT_BYTES});
  const frame = () => { socket.write(event); setTimeout(() => socket.write(event), ${SHOWN_AFTER * (1000 / refreshHz)}); };
  socket.on('data', () => undefined).on('close', () => process.exit());
  setInterval(frame, ${1000 / refreshHz});
`;

/** What a frame costs in Node without any Wayland code: two wake-ups with a recvmsg each, and one sendmsg. */
export class BareLoop implements Disposable {
  readonly #stack: DisposableStack;
  #left = 0;
  #onStop: () => void = () => undefined;

  constructor(refreshHz = 60) {
    using stack = new DisposableStack();
    const [ours, theirs] = socketPair();
    stack.use(ours);
    const memory = stack.use(NativeBuffer.allocate(CAPACITY));
    using given = theirs;
    const child = spawn(process.execPath, ['-e', compositor(refreshHz)], {
      stdio: ['ignore', 'ignore', 'inherit', given.fd],
    });
    stack.defer(() => child.kill());
    let bytes = 0;
    const wake = (): void => {
      bytes += receiveAt(ours.fd, memory.address, CAPACITY, NO_FDS);
      if (bytes < 2 * EVENT_BYTES) return;
      bytes -= 2 * EVENT_BYTES;
      transmit(ours.fd, NO_BYTES, 0, memory.address, REQUEST_BYTES, NO_FDS);
      if (--this.#left === 0) setImmediate(this.#onStop);
    };
    stack.use(Poll.readable(ours, wake));
    this.#stack = stack.move();
  }

  /** Microseconds of processor time per frame, of all threads of this process. */
  async cpuUs(frames: number): Promise<number> {
    const before = process.cpuUsage();
    await new Promise<void>((resolve) => {
      this.#left = frames;
      this.#onStop = resolve;
    });
    const { user, system } = process.cpuUsage(before);
    return (user + system) / frames;
  }

  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }
}
