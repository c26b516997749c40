import { VIRTIO_GPU_CMD, commandName, virtio_gpu_ctrl_hdr } from '../../../protocols/virtio-gpu.ts';
import type { LogOnce } from '../../core/log.ts';
import { Pump } from '../../sys/pump.ts';
import type { Chain } from '../virtio/chain.ts';
import type { Virtqueue } from '../virtio/queue.ts';
import type { Command, GpuState } from './commands.ts';
import { VirtioGpuError, responseOf } from './errors.ts';
import { type Answer, Answers } from './fences.ts';
import { Reply, Request } from './message.ts';
import type { Work } from './resources.ts';
import type { GpuTap } from './tap.ts';

const KNOWN_COMMANDS: ReadonlySet<number> = new Set(Object.values(VIRTIO_GPU_CMD));

/** More than a flip takes. */
const COMMANDS_PER_PIECE = 8;

/** How long an unfinished command may still take when its queue stops, ms: enough for any picture of a real guest. */
const LAST_SHARE_MS = 20;

/**
 * Firmware and small drivers send one command, wait for its answer and send the next within microseconds, thousands of
 * times for one screen of text. Waking up for each costs more than all the rest, so the queue is watched this long
 * after an answer, ms.
 */
const PATIENCE_MS = 0.1;

/** A vain watch doubles how many kicks the queue is left to until the next, one that pays halves it: other drivers pay nothing. */
const MOST_KICKS_BETWEEN = 16_384;

export interface CommandQueueOptions {
  /** Of the queue, counted from 0. */
  readonly index: number;
  /** By VIRTIO_GPU_CMD_*. */
  readonly commands: ReadonlyMap<number, Command>;
  /** A command without room for a response is not run. */
  readonly mustAnswer: boolean;
  readonly state: GpuState;
  readonly tap: GpuTap | null;
  readonly log: LogOnce;
  /** GET_DISPLAY_INFO is held back, and the queue with it, until this settles. */
  readonly refreshMonitors: (() => Promise<void>) | null;
  /** Gets what should not happen: all that is wrong with a command becomes its answer. */
  readonly onFailed: (error: unknown) => void;
}

/**
 * One queue of the device. Its commands run one after another, for a share of each turn of the event loop. A command
 * whose work is large goes on in the next turn, and what is behind it waits.
 */
export class CommandQueue {
  readonly #options: CommandQueueOptions;
  /** The copy of the command that is being handled, which the guest cannot change. */
  readonly #request = new Request();
  readonly #reply = new Reply();
  readonly #pump = new Pump(
    () => {
      try {
        return this.#step();
      } catch (error) {
        this.#options.onFailed(error);
        return false;
      }
    },
    { isOnFlipPath: true },
  );
  #queue: Virtqueue | null = null;
  #answers: Answers | null = null;
  /** GET_DISPLAY_INFO while it waits for `refreshMonitors`. */
  #held: Chain | null = null;
  /** What is left of the command in `#request`, its chain, and its answer. */
  #work: Work | null = null;
  #chain: Chain | null = null;
  #answer: Answer | null = null;
  /** How often the queue may run empty until it is watched again, and how often it had to since the last time. */
  #kicksBetween = 0;
  #kicks = 0;

  constructor(options: CommandQueueOptions) {
    this.#options = options;
  }

  start(queue: Virtqueue): void {
    this.stop();
    this.#queue = queue;
    // The next driver may be of the other kind.
    this.#kicksBetween = 0;
    this.#kicks = 0;
    this.#answers = new Answers(queue, () => this.#options.log('error', 'a flush was reported done twice'));
  }

  /** Answers every command that was taken from the queue. One that still has much to do fails. */
  stop(): void {
    const held = this.#held;
    this.#held = null;
    if (held) this.#begin(held);
    const { tap } = this.#options;
    const end = performance.now() + LAST_SHARE_MS;
    while (this.#work && !tap?.isBusy && performance.now() < end) this.#continue();
    if (this.#work) {
      this.#work.return();
      this.#work = null;
      this.#failed(new VirtioGpuError('stopped', 'its queue was stopped before it was done'));
      this.#end();
    }
    this.#answers?.stop();
    this.#answers = null;
    this.#queue = null;
  }

  /** There are commands, or the tap takes some again. */
  run(): void {
    this.#pump.start();
  }

  /** Handles a few commands, or a piece of one that is large. Whether there is more to do. */
  #step(): boolean {
    for (let i = 0; i < COMMANDS_PER_PIECE; i++) {
      if (!this.#next()) return false;
      if (this.#work) return true;
    }
    return true;
  }

  /** Handles one command, or a piece of one. Whether there is more to do. */
  #next(): boolean {
    const queue = this.#queue;
    const { refreshMonitors } = this.#options;
    if (!queue || this.#held || this.#options.tap?.isBusy) return false;
    if (this.#work) {
      this.#continue();
    } else {
      const chain = queue.pop();
      if (!chain) return false;
      this.#request.copyFrom(chain);
      if (refreshMonitors && this.#request.type === VIRTIO_GPU_CMD.GET_DISPLAY_INFO) {
        this.#hold(chain, refreshMonitors());
        return false;
      }
      this.#begin(chain);
    }
    return this.#work !== null || this.#isFollowed(queue) || queue.hasNext();
  }

  /** Whether the driver sends its next command at once. */
  #isFollowed(queue: Virtqueue): boolean {
    // That several commands were sent at once says nothing about what follows the last.
    if (queue.isReady) return true;
    if (this.#kicks < this.#kicksBetween) {
      this.#kicks++;
      return false;
    }
    this.#kicks = 0;
    const isFollowed = queue.watch(PATIENCE_MS);
    this.#kicksBetween = isFollowed
      ? this.#kicksBetween >> 1
      : Math.min(Math.max(1, 2 * this.#kicksBetween), MOST_KICKS_BETWEEN);
    return isFollowed;
  }

  #hold(chain: Chain, until: Promise<void>): void {
    const resume = (): void => {
      if (this.#held !== chain) return;
      this.#held = null;
      this.#begin(chain);
      this.run();
    };
    this.#held = chain;
    until.then(resume, resume);
  }

  /** Runs the command in `#request`, which `chain` carried. */
  #begin(chain: Chain): void {
    const { commands, mustAnswer, state } = this.#options;
    const request = this.#request;
    const reply = this.#reply;
    const answers = this.#answers!;
    const answer = answers.begin(chain);
    if (request.isFenced) answers.fence(answer);
    reply.start(request);
    this.#chain = chain;
    this.#answer = answer;
    let work: Work | null = null;
    try {
      // Cursor commands need no response and mostly leave no room for one.
      if (mustAnswer && chain.writable < virtio_gpu_ctrl_hdr.size)
        throw new VirtioGpuError('invalid-parameter', 'no room for a response');
      if (!request.hasHeader) throw new VirtioGpuError('unsupported', `a request of ${request.length} bytes`);
      const command = commands.get(request.type);
      if (!command) throw new VirtioGpuError('unsupported', 'not supported');
      request.needs(command.size);
      work = command.run(state, request, reply, answer) ?? null;
    } catch (error) {
      this.#failed(error);
    }
    // A sink may have stopped the queue meanwhile.
    if (work && this.#answers === answers) this.#advance(work);
    else this.#end();
  }

  #continue(): void {
    const work = this.#work!;
    this.#work = null;
    this.#advance(work);
  }

  /** Does the next piece. */
  #advance(work: Work): void {
    const answers = this.#answers;
    try {
      if (!work.next().done) {
        if (this.#answers === answers) this.#work = work;
        else work.return();
        return;
      }
    } catch (error) {
      this.#failed(error);
    }
    this.#end();
  }

  #end(): void {
    const { index, state, tap } = this.#options;
    const request = this.#request;
    const chain = this.#chain!;
    state.commands++;
    tap?.command(index, request.bytes, request.length, chain.writable);
    this.#answer!.finish(this.#reply.writeTo(chain));
  }

  #failed(error: unknown): void {
    const { state, log } = this.#options;
    const request = this.#request;
    state.errors++;
    this.#reply.fail(responseOf(error));
    const name = request.hasHeader ? commandName(request.type) : 'request';
    // Command numbers that mean nothing are of one kind: there are 2^32 of them.
    const kind = KNOWN_COMMANDS.has(request.type) ? name : 'unknown';
    if (error instanceof VirtioGpuError)
      log('warn', `refused the guest's ${name}: ${error.message}`, `${kind} ${error.code}`);
    else log('error', `the guest's ${name} failed: ${String(error)}`, kind);
  }
}
