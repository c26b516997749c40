import { KEY_CNT } from '../../../protocols/input-event-codes.ts';

/** The keys or buttons that one device holds down. */
export class Held {
  readonly #isDown = new Uint8Array(KEY_CNT);

  /** False if it is no news, or no code of the kernel's. */
  set(code: number, isDown: boolean): boolean {
    const state = isDown ? 1 : 0;
    if (code >= KEY_CNT || this.#isDown[code] === state) return false;
    this.#isDown[code] = state;
    return true;
  }

  /** Takes one that is down; -1 if none is. */
  take(): number {
    const code = this.#isDown.indexOf(1);
    if (code >= 0) this.#isDown[code] = 0;
    return code;
  }
}
