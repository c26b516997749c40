/**
 * The part of the standard DisposableStack we need; Node 20 has none. For objects built in
 * several steps: each step is `use`d, a failure disposes those before it, success is `move`d.
 */
export class DisposableStack implements Disposable {
  #undo: (() => void)[] = [];
  #disposed = false;

  get disposed(): boolean {
    return this.#disposed;
  }

  /** Owns `value` from now on and returns it. */
  use<T extends Disposable>(value: T): T {
    this.defer(() => value[Symbol.dispose]());
    return value;
  }

  defer(undo: () => void): void {
    if (this.#disposed) throw new ReferenceError('DisposableStack already disposed');
    this.#undo.push(undo);
  }

  /** Hands everything to a new stack; this one is disposed and owns nothing. */
  move(): DisposableStack {
    if (this.#disposed) throw new ReferenceError('DisposableStack already disposed');
    const moved = new DisposableStack();
    moved.#undo = this.#undo;
    this.#undo = [];
    this.#disposed = true;
    return moved;
  }

  /**
   * Disposes last to first, every one of them. What the first failing one threw is rethrown at
   * the end, with the later failures in its `suppressed`.
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
    if (others.length > 0 && first instanceof Error) Object.defineProperty(first, 'suppressed', { value: others, configurable: true });
    throw first;
  }
}
