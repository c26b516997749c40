import { KEY } from '../../../protocols/input-event-codes.ts';
import { type OrLater, type WlKeyboard, WlKeyboardKeyState, type WlSurface } from '../client/index.ts';
import type { AttachedSurface, AttachedSurfaces } from './attached-surface.ts';
import type { Holder } from './shared-input.ts';

/** Holds pointer and keyboard in a window, and lets go again. G is where keyboards of the United States have it. */
export const GRAB_SHORTCUT = 'Ctrl+Alt+G';

const CTRL = 0x03;
const ALT = 0x0c;

/** Bits of the keys that change what others mean. */
const MODIFIER_BITS = new Uint8Array(KEY.RIGHTMETA + 1);
[KEY.LEFTCTRL, KEY.RIGHTCTRL, KEY.LEFTALT, KEY.RIGHTALT, KEY.LEFTSHIFT, KEY.RIGHTSHIFT, KEY.LEFTMETA, KEY.RIGHTMETA].forEach((code, bit) => {
  MODIFIER_BITS[code] = 1 << bit;
});

export interface KeyboardOptions {
  /** It, for the keys it holds down. */
  readonly holder: Holder;
  /** GRAB_SHORTCUT was pressed; false if there is nothing it can do, and the guest gets the key. */
  readonly onShortcut: (at: AttachedSurface) => boolean;
  /** The focus went, or the keyboard. */
  readonly onLeft: () => void;
}

/**
 * A seat's keyboard: keys go to the guest of the window in focus, by the kernel's codes. The
 * keymap is the guest's own matter, as is repeating.
 */
export class Keyboard implements Disposable {
  readonly #keyboard: WlKeyboard;
  readonly #surfaces: AttachedSurfaces;
  readonly #options: KeyboardOptions;
  /** Those that are down, whether the guest was told or not. */
  #modifiers = 0;
  #focus: AttachedSurface | null = null;

  /** `keyboard` is disposed with this. */
  constructor(keyboard: WlKeyboard, surfaces: AttachedSurfaces, options: KeyboardOptions) {
    this.#keyboard = keyboard;
    this.#surfaces = surfaces;
    this.#options = options;
    keyboard.listener = {
      enter: (_serial, surface, keys) => this.#enter(surface, keys),
      leave: () => this.#leave(),
      key: (_serial, _time, key, state) => this.#key(key, state),
    };
  }

  detached(at: AttachedSurface): void {
    if (this.#focus === at) this.#leave();
  }

  /** All go up in the guest, and stay there until they are pressed again. */
  releaseAll(): void {
    const input = this.#focus?.input;
    if (!input) return;
    input.releaseKeys(this.#options.holder);
    input.frame();
  }

  [Symbol.dispose](): void {
    this.#leave();
    this.#keyboard[Symbol.dispose]();
  }

  /** Of keys that are down already, only modifiers are meant for the guest: the rest was pressed elsewhere, to get here. */
  #enter(surface: WlSurface | null, keys: Uint8Array): void {
    this.#leave();
    this.#focus = this.#surfaces.find(surface);
    const input = this.#focus?.input;
    if (!input) return;
    for (const code of new Uint32Array(keys.buffer, keys.byteOffset, keys.length >> 2)) {
      const bit = MODIFIER_BITS[code] ?? 0;
      this.#modifiers |= bit;
      if (bit !== 0) input.key(this.#options.holder, code, true);
    }
    input.frame();
  }

  #leave(): void {
    if (!this.#focus) return;
    this.releaseAll();
    this.#modifiers = 0;
    this.#focus = null;
    this.#options.onLeft();
  }

  /** The compositor's repeats, which version 10 brings, are neither. */
  #key(code: number, state: OrLater<WlKeyboardKeyState>): void {
    const focus = this.#focus;
    if (!focus?.input || (state !== WlKeyboardKeyState.pressed && state !== WlKeyboardKeyState.released)) return;
    const isDown = state === WlKeyboardKeyState.pressed;
    const bit = MODIFIER_BITS[code] ?? 0;
    if (isDown) this.#modifiers |= bit;
    else this.#modifiers &= ~bit;
    if (isDown && code === KEY.G && this.#isShortcut && this.#options.onShortcut(focus)) return;
    focus.input.key(this.#options.holder, code, isDown);
    focus.input.frame();
  }

  get #isShortcut(): boolean {
    const modifiers = this.#modifiers;
    return (modifiers & CTRL) !== 0 && (modifiers & ALT) !== 0 && (modifiers & ~(CTRL | ALT)) === 0;
  }
}
