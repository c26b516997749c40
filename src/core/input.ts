import type { ScanoutId } from './source.ts';

/** Both count in the direction the content moves into view: `vertical` down, `horizontal` right. */
export type WheelAxis = 'vertical' | 'horizontal';

/**
 * What a person does in front of outputs, told to a guest. What belongs together ends with
 * `frame`. Positions are in pixels of a scanout's picture, fractions allowed; outside of it
 * they count as its edge. Nothing is allocated, nothing throws: a guest that cannot take something
 * does not get it.
 */
export interface InputSink {
  /** `code` is the kernel's, KEY_*; held keys are not repeated, the guest does that. */
  key(code: number, isPressed: boolean): void;
  pointerMovedTo(scanout: ScanoutId, x: number, y: number): void;
  /** In the guest's own unit, whose speed is its decision: for a pointer that is grabbed. */
  pointerMovedBy(dx: number, dy: number): void;
  /** `code` is the kernel's, BTN_*. */
  button(code: number, isPressed: boolean): void;
  /** 120 is one notch. */
  wheel(axis: WheelAxis, v120: number): void;
  /** `slot` tells touches that are down at the same time apart, 0 to 15. */
  touchDown(scanout: ScanoutId, slot: number, x: number, y: number): void;
  touchMoved(scanout: ScanoutId, slot: number, x: number, y: number): void;
  touchUp(slot: number): void;
  /** All that are down never were meant. */
  touchCancelled(): void;
  frame(): void;
  /** Keys and buttons go up and touches end, as a frame of its own: nobody will tell of that any more. */
  releaseAll(): void;
  /** LEDs the guest has on its keyboard: bit n is LED n of the kernel's (Num, Caps, Scroll Lock). */
  readonly leds: number;
  /** Calls `listener` with each change from now on, until what is returned is called. */
  onLeds(listener: (leds: number) => void): () => void;
}

/** The guest's side of it, which has to know the pictures that positions are in. */
export interface GuestInput extends InputSink {
  /** The size of a scanout's picture from now on, in pixels; 0x0 while it is off. Scanouts lie side by side. */
  scanoutSized(scanout: ScanoutId, width: number, height: number): void;
  /** Resolves when the guest's drivers have taken all that was done: one that falls behind misses what comes and goes meanwhile. */
  taken(): Promise<void>;
}
