import type { ScanoutId } from './source.ts';

/** A keyboard with a pointer, or a touchscreen: a guest uses a device as a pointer or for touches, not both. */
export type InputKind = 'keyboard-pointer' | 'touch';

/** Positive values scroll down (`vertical`) or to the right (`horizontal`). */
export type WheelAxis = 'vertical' | 'horizontal';

/**
 * Input from people at the outputs, on its way to a guest. Events that belong together end with
 * `frame`. Positions are in pixels of a scanout's picture and may be fractional; positions outside
 * of it are clamped to its edge. No method allocates or throws: input that the guest's devices
 * cannot express is dropped.
 */
export interface InputSink {
  /** The same for all sinks that lead to one guest; default: the sink itself. */
  readonly guest?: object;
  /** `code` is the kernel's KEY_*. Held keys are not repeated; the guest does that. */
  key(code: number, isPressed: boolean): void;
  pointerMovedTo(scanout: ScanoutId, x: number, y: number): void;
  /** Relative motion, in units whose speed the guest decides. */
  pointerMovedBy(dx: number, dy: number): void;
  /**
   * True if the guest has a mouse only, so that it alone knows where its pointer is: give it motion. It takes positions
   * for distances from the last one.
   */
  isRelative(scanout: ScanoutId): boolean;
  /** `code` is the kernel's BTN_*. */
  button(code: number, isPressed: boolean): void;
  /** 120 is one notch. */
  wheel(axis: WheelAxis, v120: number): void;
  /** `slot`, 0 to 15, identifies a touch until `touchUp`. */
  touchDown(scanout: ScanoutId, slot: number, x: number, y: number): void;
  touchMoved(scanout: ScanoutId, slot: number, x: number, y: number): void;
  touchUp(slot: number): void;
  /** Cancels every active touch; the guest should discard them. */
  touchCancelled(): void;
  frame(): void;
  /**
   * Releases all keys and buttons and ends all touches, in a frame of its own. Call it when their
   * release events can no longer arrive.
   */
  releaseAll(): void;
  /** The keyboard LEDs the guest has set: bit n is the kernel's LED n (Num, Caps, Scroll Lock). */
  readonly leds: number;
  /** Calls `listener` on every change until the returned function is called. */
  onLeds(listener: (leds: number) => void): () => void;
}

/** What is the same of all sinks of one guest: each of its screens may have a sink of its own. */
export function guestOf(sink: InputSink): object {
  return sink.guest ?? sink;
}

/** The guest's end of its input, which needs to know the pictures that positions refer to. */
export interface GuestInput extends InputSink {
  /**
   * The size in pixels of a scanout's picture from now on; 0x0 while it is off. The guest's desktop
   * has its scanouts side by side.
   */
  scanoutSized(scanout: ScanoutId, width: number, height: number): void;
  /** Whether the guest has the device, at this scanout; events for one that it does not have are dropped. Absent: it has both. */
  has?(device: InputKind, scanout: ScanoutId): boolean;
  /**
   * Resolves once the guest has consumed every event sent so far. A driver that falls behind loses
   * short press and release pairs.
   */
  taken(): Promise<void>;
}
