const BAR_WIDTH = 30;
const STEP = 10;

/** How far something is: one line redrawn on a terminal, a line every ten per cent elsewhere. */
export class Progress implements Disposable {
  readonly #stream: NodeJS.WriteStream;
  #percent = -1;

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
  }

  /** `fraction` is 0 to 1. */
  show(fraction: number): void {
    const percent = Math.floor(fraction * 100);
    if (this.#stream.isTTY) {
      if (percent === this.#percent) return;
      const done = Math.floor(fraction * BAR_WIDTH);
      this.#stream.write(`\r[${'#'.repeat(done)}${'.'.repeat(BAR_WIDTH - done)}] ${percent}%`);
    } else {
      if (Math.floor(percent / STEP) === Math.floor(this.#percent / STEP)) return;
      this.#stream.write(`${percent}%\n`);
    }
    this.#percent = percent;
  }

  /** Leaves the line clean. */
  [Symbol.dispose](): void {
    if (this.#stream.isTTY && this.#percent >= 0) this.#stream.write('\r\x1b[K');
  }
}
