/**
 * The part of the standard DisposableStack that this project needs; Node 20 has none. For objects
 * built in several steps: `use` the result of each step, so that a later failure disposes it, and
 * `move` the stack at the end.
 */
export class DisposableStack implements Disposable {
  #undo: (() => void)[] = [];
  #disposed = false;

  get disposed(): boolean {
    return this.#disposed;
  }

  /** Takes ownership of `value` and returns it. */
  use<T extends Disposable>(value: T): T {
    this.defer(() => value[Symbol.dispose]());
    return value;
  }

  defer(undo: () => void): void {
    if (this.#disposed) throw new ReferenceError('DisposableStack already disposed');
    this.#undo.push(undo);
  }

  /** Hands everything to a new stack. This one counts as disposed and owns nothing. */
  move(): DisposableStack {
    if (this.#disposed) throw new ReferenceError('DisposableStack already disposed');
    const moved = new DisposableStack();
    moved.#undo = this.#undo;
    this.#undo = [];
    this.#disposed = true;
    return moved;
  }

  /**
   * Disposes everything, last to first. If some throw, the rest are still disposed; then the first
   * error is rethrown with the others in its `suppressed` property.
   */
  [Symbol.dispose](): void {
    this.#disposed = true;
    const failures: unknown[] = [];
    for (let undo = this.#undo.pop(); undo !== undefined; undo = this.#undo.pop()) {
      try {
        undo();
      } catch (error) {
        failures.push(error);
      }
    }
    const [first, ...others] = failures;
    if (failures.length === 0) return;
    if (others.length > 0 && first instanceof Error)
      Object.defineProperty(first, 'suppressed', { value: others, configurable: true });
    throw first;
  }
}
