import { KmsDisplay, type KmsOptions } from '../../display/kms/display.ts';
import { KmsOutput } from '../../display/kms/output.ts';
import type { Monitor } from '../../src/core/monitor.ts';
import type { Presentation, ScreenListener } from '../../src/core/output.ts';
import { newFrame } from './kms-rig.ts';

/** A card's screens, opened as the command does. */
export class TestDisplay implements Disposable {
  readonly display: KmsDisplay;
  readonly log: string[] = [];
  readonly screens: readonly HeardScreen[];

  constructor(options: Omit<KmsOptions, 'log'>) {
    this.display = KmsDisplay.open({ ...options, log: (_level, message) => void this.log.push(message) });
    this.screens = this.display.outputs
      .filter((output) => output instanceof KmsOutput)
      .map((output) => new HeardScreen(output));
  }

  [Symbol.dispose](): void {
    this.display[Symbol.dispose]();
  }
}

/** One screen of a display that comes and goes. */
export class HeardScreen implements ScreenListener {
  readonly scanout = 0;
  readonly input = null;
  readonly output: KmsOutput;
  readonly frame = newFrame();
  #onPresented: (flags: number) => void = () => undefined;
  #onResized: (monitor: Monitor | null) => void = () => undefined;
  #attachment: Disposable | null = null;

  constructor(output: KmsOutput) {
    this.output = output;
  }

  /** Presents the frame; resolves with the flags of `presented`. */
  show(): Promise<number> {
    this.#attachment ??= this.output.attach(this);
    return new Promise((resolve) => {
      this.#onPresented = resolve;
      this.output.present(this.frame);
    });
  }

  /** Resolves with the next monitor that is reported. */
  resize(): Promise<Monitor | null> {
    this.#attachment ??= this.output.attach(this);
    return new Promise((resolve) => (this.#onResized = resolve));
  }

  /** Leaves the output to another listener. */
  detach(): void {
    this.#attachment?.[Symbol.dispose]();
    this.#attachment = null;
  }

  presented({ flags }: Presentation): void {
    this.#onPresented(flags);
  }

  released(): void {
    // TestScreen records these.
  }

  resized(monitor: Monitor | null): void {
    this.#onResized(monitor);
  }

  importsChanged(): void {
    throw new Error('a card never changes what it imports');
  }

  closed(reason: string): void {
    throw new Error(`closed: ${reason}`);
  }
}
