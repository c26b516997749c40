import type { InputSink } from '../../../../src/core/input.ts';

/** Records each call as a line. */
export class SinkLog implements InputSink {
  readonly lines: string[] = [];
  readonly leds = 0;
  hasMouseOnly = false;
  key = (code: number, isPressed: boolean): void => this.#add('key', code, isPressed ? 'down' : 'up');
  pointerMovedTo = (scanout: number, x: number, y: number): void => this.#add('to', scanout, x, y);
  pointerMovedBy = (dx: number, dy: number): void => this.#add('by', dx, dy);
  isRelative = (): boolean => this.hasMouseOnly;
  button = (code: number, isPressed: boolean): void => this.#add('button', code, isPressed ? 'down' : 'up');
  wheel = (axis: string, v120: number): void => this.#add('wheel', axis, v120);
  touchDown = (scanout: number, slot: number, x: number, y: number): void => this.#add('touch', scanout, slot, x, y);
  touchMoved = (scanout: number, slot: number, x: number, y: number): void =>
    this.#add('touch-to', scanout, slot, x, y);
  touchUp = (slot: number): void => this.#add('touch-up', slot);
  touchCancelled = (): void => this.#add('touch-cancel');
  frame = (): void => this.#add('frame');
  releaseAll = (): void => this.#add('release-all');
  onLeds = (): (() => void) => () => undefined;
  taken = (): Promise<void> => Promise.resolve();

  #add(...words: (string | number)[]): void {
    this.lines.push(words.join(' '));
  }
}
