import { KEY } from '../../../protocols/input-event-codes.ts';
import { type OrLater, type WlKeyboard, WlKeyboardKeyState, type WlSurface } from '../client/index.ts';
import type { AttachedSurface, AttachedSurfaces } from './attached-surface.ts';
import type { Holder } from './shared-input.ts';

/** Holds pointer and keyboard in the window, and frees them again. G is the key that is G on a US keyboard. */
export const GRAB_SHORTCUT = 'Ctrl+Alt+G';

const CTRL = 0x03;
const ALT = 0x0c;

/** The modifier keys, in the order of their bits. */
const MODIFIERS = [
  KEY.LEFTCTRL,
  KEY.RIGHTCTRL,
  KEY.LEFTALT,
  KEY.RIGHTALT,
  KEY.LEFTSHIFT,
  KEY.RIGHTSHIFT,
  KEY.LEFTMETA,
  KEY.RIGHTMETA,
];
const MODIFIER_BITS = new Uint8Array(KEY.RIGHTMETA + 1);
MODIFIERS.forEach((code, bit) => {
  MODIFIER_BITS[code] = 1 << bit;
});

export interface KeyboardOptions {
  /** Identifies the keyboard among the devices that hold keys down. */
  readonly holder: Holder;
  /** GRAB_SHORTCUT was pressed. Returns false if the compositor can grab nothing: then the guest gets the key. */
  readonly onShortcut: (at: AttachedSurface) => boolean;
  /** The keyboard has left the window. */
  readonly onLeft: () => void;
}

/**
 * A seat's keyboard. Sends keys to the guest of the window in focus, as the kernel's codes: the guest
 * has its own keymap and repeats keys itself.
 */
export class Keyboard implements Disposable {
  readonly #keyboard: WlKeyboard;
  readonly #surfaces: AttachedSurfaces;
  readonly #options: KeyboardOptions;
  /** Bits of the modifiers that are down, whether the guest has been told or not. */
  #modifiers = 0;
  /** The surface in focus, attached or not. */
  #surface: WlSurface | null = null;
  #focus: AttachedSurface | null = null;

  /** Owns `keyboard`. */
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

  /** A surface has been attached, which may have the focus already. */
  attached(at: AttachedSurface): void {
    if (this.#surface === at.surface) this.#focusOn(at);
  }

  detached(at: AttachedSurface): void {
    if (this.#focus === at) this.#unfocus();
  }

  /** Releases all keys in the guest. They stay up until they are pressed again. */
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

  #enter(surface: WlSurface | null, keys: Uint8Array): void {
    this.#leave();
    this.#surface = surface;
    for (const code of new Uint32Array(keys.buffer, keys.byteOffset, keys.length >> 2))
      this.#modifiers |= MODIFIER_BITS[code] ?? 0;
    const at = this.#surfaces.find(surface);
    if (at) this.#focusOn(at);
  }

  #leave(): void {
    this.#unfocus();
    this.#surface = null;
    this.#modifiers = 0;
  }

  /**
   * Of the keys that are down already the guest gets the modifiers only: the others were pressed
   * for another window.
   */
  #focusOn(at: AttachedSurface): void {
    this.#focus = at;
    const { input } = at;
    if (!input) return;
    MODIFIERS.forEach((code, bit) => {
      if (this.#modifiers & (1 << bit)) input.key(this.#options.holder, code, true);
    });
    input.frame();
  }

  #unfocus(): void {
    if (!this.#focus) return;
    this.releaseAll();
    this.#focus = null;
    this.#options.onLeft();
  }

  #key(code: number, state: OrLater<WlKeyboardKeyState>): void {
    // Ignores the repeats that compositors send since version 10.
    if (state !== WlKeyboardKeyState.pressed && state !== WlKeyboardKeyState.released) return;
    const isDown = state === WlKeyboardKeyState.pressed;
    const bit = MODIFIER_BITS[code] ?? 0;
    if (isDown) this.#modifiers |= bit;
    else this.#modifiers &= ~bit;
    const focus = this.#focus;
    if (!focus?.input || (isDown && code === KEY.G && this.#isShortcut && this.#options.onShortcut(focus))) return;
    focus.input.key(this.#options.holder, code, isDown);
    focus.input.frame();
  }

  get #isShortcut(): boolean {
    const modifiers = this.#modifiers;
    return (modifiers & CTRL) !== 0 && (modifiers & ALT) !== 0 && (modifiers & ~(CTRL | ALT)) === 0;
  }
}
