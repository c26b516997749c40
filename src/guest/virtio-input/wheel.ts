import { EV } from '../../../protocols/input-event-codes.ts';
import type { EventBacklog } from './event-backlog.ts';

const NOTCH = 120;

/** One wheel in the two resolutions the kernel wants: every step, and a notch whenever 120 have come together. */
export class Wheel {
  readonly #notchCode: number;
  readonly #fineCode: number;
  /** Not told yet, in 120ths. */
  #turned = 0;
  /** Told, and no whole notch yet. */
  #rest = 0;

  constructor(notchCode: number, fineCode: number) {
    this.#notchCode = notchCode;
    this.#fineCode = fineCode;
  }

  get isNews(): boolean {
    return Math.trunc(this.#turned) !== 0;
  }

  turn(v120: number): void {
    this.#turned += v120;
  }

  /** A notch begun in the other direction does not count against this one. */
  report(into: EventBacklog): void {
    const fine = Math.trunc(this.#turned);
    if (fine === 0) return;
    this.#turned -= fine;
    const rest = this.#rest * fine < 0 ? fine : this.#rest + fine;
    const notches = Math.trunc(rest / NOTCH);
    this.#rest = rest - notches * NOTCH;
    if (notches !== 0) into.add(EV.REL, this.#notchCode, notches);
    into.add(EV.REL, this.#fineCode, fine);
  }

  forget(): void {
    this.#turned = 0;
    this.#rest = 0;
  }
}
