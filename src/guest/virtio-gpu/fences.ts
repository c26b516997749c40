import { Bag } from '../../core/bag.ts';
import type { Flush } from '../../core/source.ts';
import type { Chain } from '../virtio/chain.ts';
import type { Virtqueue } from '../virtio/queue.ts';

/** One flush that an answer waits for. Pooled: it is free again once it is done. */
class Wait implements Flush {
  readonly #answers: Answers;
  answer: Answer | null = null;
  /** The command that flushed carries VIRTIO_GPU_FLAG_FENCE. */
  isFenced = false;

  constructor(answers: Answers) {
    this.#answers = answers;
  }

  done(): void {
    const answer = this.answer;
    this.answer = null;
    if (answer) this.#answers.waitOver(this, answer);
    else this.#answers.doneTwice();
  }
}

/**
 * A popped chain that has not been pushed back. It starts with one hold, which `finish` releases, so that
 * flushes that are done at once do not push it before its response has been written.
 */
export class Answer {
  readonly #answers: Answers;
  chain: Chain | null = null;
  isFenced = false;
  /** Holds left. */
  holds = 0;
  written = 0;
  /** The next fenced answer of the queue, in the order of the commands. */
  next: Answer | null = null;

  constructor(answers: Answers) {
    this.#answers = answers;
  }

  /** Adds a flush that has to be done before the guest gets its answer. */
  wait(): Flush {
    return this.#answers.newWait(this);
  }

  /** The response, `written` bytes, is in the chain, which goes back as soon as nothing holds it. */
  finish(written: number): void {
    this.written = written;
    this.#answers.release(this);
  }
}

/**
 * Decides when the chains of one queue go back to the guest: when their command is done, but a fenced one not
 * before all earlier fenced ones, because Linux takes an answered fence to cover all before it. Objects are
 * pooled; there are at most as many as the queue has chains.
 */
export class Answers {
  readonly #queue: Virtqueue;
  readonly #onDoneTwice: () => void;
  readonly #freeAnswers: Answer[] = [];
  readonly #freeWaits: Wait[] = [];
  readonly #inFlight = new Bag<Answer>();
  #firstFenced: Answer | null = null;
  #lastFenced: Answer | null = null;
  #isStopped = false;

  constructor(queue: Virtqueue, onDoneTwice: () => void) {
    this.#queue = queue;
    this.#onDoneTwice = onDoneTwice;
  }

  begin(chain: Chain): Answer {
    const answer = this.#freeAnswers.pop() ?? new Answer(this);
    answer.chain = chain;
    answer.isFenced = false;
    answer.holds = 1;
    answer.written = 0;
    answer.next = null;
    this.#inFlight.add(answer);
    return answer;
  }

  /** Puts `answer` in the order of fenced ones. Call it before the first `wait`. */
  fence(answer: Answer): void {
    answer.isFenced = true;
    if (this.#lastFenced) this.#lastFenced.next = answer;
    else this.#firstFenced = answer;
    this.#lastFenced = answer;
  }

  /**
   * The queue is about to stop: every chain goes back now, because a queue that resumes later (a paused VM)
   * resumes behind them. Flushes that are done after this are ignored.
   */
  stop(): void {
    for (let answer = this.#firstFenced; answer; answer = this.#firstFenced) {
      this.#firstFenced = answer.next;
      this.#push(answer);
    }
    this.#lastFenced = null;
    for (let answer = this.#inFlight.pop(); answer; answer = this.#inFlight.pop())
      if (answer.chain) this.#queue.push(answer.chain, answer.written);
    this.#isStopped = true;
  }

  /** For `Answer`. */
  newWait(answer: Answer): Flush {
    const wait = this.#freeWaits.pop() ?? new Wait(this);
    wait.answer = answer;
    wait.isFenced = answer.isFenced;
    answer.holds++;
    return wait;
  }

  /** For `Wait`. */
  waitOver(wait: Wait, answer: Answer): void {
    this.#freeWaits.push(wait);
    this.release(answer);
  }

  /** For `Wait`. */
  doneTwice(): void {
    if (!this.#isStopped) this.#onDoneTwice();
  }

  /** For `Answer`. */
  release(answer: Answer): void {
    answer.holds--;
    if (this.#isStopped || answer.holds > 0) return;
    if (!answer.isFenced) {
      this.#push(answer);
      return;
    }
    for (let first = this.#firstFenced; first?.holds === 0; first = this.#firstFenced) {
      this.#firstFenced = first.next;
      if (!first.next) this.#lastFenced = null;
      this.#push(first);
    }
  }

  #push(answer: Answer): void {
    const chain = answer.chain!;
    answer.chain = null;
    this.#inFlight.remove(answer);
    this.#freeAnswers.push(answer);
    this.#queue.push(chain, answer.written);
  }
}
