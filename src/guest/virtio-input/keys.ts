import { EV, KEY_CNT } from '../../../protocols/input-event-codes.ts';
import type { EventBacklog } from './event-backlog.ts';

const KNOWN = 1;
const IS_DOWN = 2;
const TOLD_DOWN = 4;
const IS_NEWS = 8;

/** The keys and buttons of a device: which are down, which the driver was told are, and what changed in which order. */
export class Keys {
  readonly #state = new Uint8Array(KEY_CNT);
  readonly #news = new Uint16Array(KEY_CNT);
  #count = 0;

  /** `codes`: those the device has. */
  constructor(codes: readonly number[]) {
    for (const code of codes) this.#state[code] = KNOWN;
  }

  /** How many events `report` adds at most. */
  get count(): number {
    return this.#count;
  }

  /** It has changed since the last report. */
  isNews(code: number): boolean {
    return ((this.#state[code] ?? 0) & IS_NEWS) !== 0;
  }

  /** Ignores keys the device does not have. */
  set(code: number, isDown: boolean): void {
    const before = this.#state[code] ?? 0;
    if ((before & KNOWN) === 0 || ((before & IS_DOWN) !== 0) === isDown) return;
    this.#state[code] = (before ^ IS_DOWN) | IS_NEWS;
    if ((before & IS_NEWS) === 0) this.#news[this.#count++] = code;
  }

  releaseAll(): void {
    for (let code = 0; code < KEY_CNT; code++) this.set(code, false);
  }

  report(into: EventBacklog): void {
    for (let i = 0; i < this.#count; i++) {
      const code = this.#news[i]!;
      const isDown = (this.#state[code]! & IS_DOWN) !== 0;
      const wasDown = (this.#state[code]! & TOLD_DOWN) !== 0;
      this.#state[code] = isDown ? KNOWN | IS_DOWN | TOLD_DOWN : KNOWN;
      if (isDown !== wasDown) into.add(EV.KEY, code, isDown ? 1 : 0);
    }
    this.#count = 0;
  }

  /** All are up and there is no news. */
  forget(): void {
    for (let code = 0; code < KEY_CNT; code++) this.#state[code]! &= KNOWN;
    this.#count = 0;
  }
}
