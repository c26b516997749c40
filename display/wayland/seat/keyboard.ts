import { KEY } from '../../../protocols/input-event-codes.ts';
import { type OrLater, type WlKeyboard, WlKeyboardKeyState, type WlSurface } from '../client/index.ts';
import type { AttachedSurface, AttachedSurfaces } from './attached-surface.ts';
import type { Holder, SharedInput } from './shared-input.ts';

/** Holds pointer and keyboard in the window, and frees them again. Letters name the keys of a US keyboard. */
export const GRAB_SHORTCUT = 'Ctrl+Alt+G';
/** Makes the window full screen, and a window again. */
export const FULLSCREEN_SHORTCUT = 'Ctrl+Alt+F';
/** Copies the guest's picture to the desktop's clipboard. */
export const COPY_SHORTCUT = 'Ctrl+Alt+C';

/** The keys of the shortcuts, which are pressed while Ctrl and Alt are down. */
export type ShortcutKey = typeof KEY.C | typeof KEY.F | typeof KEY.G;

const CTRL = 0x03;
const ALT = 0x0c;
/** Bits of the modifiers that open a menu in many guests when they are pressed and released alone. */
const MENU_KEYS = 0xcc;

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
  /** A shortcut was pressed. Returns false if the compositor cannot do what it is for: then the guest gets the key. */
  readonly onShortcut: (key: ShortcutKey, at: AttachedSurface) => boolean;
  /** The keyboard has come to the window. */
  readonly onEntered: (at: AttachedSurface) => void;
  /** The keyboard has left the window. */
  readonly onLeft: () => void;
  /** A key was pressed or released, or the keyboard has come: a serial by which the compositor knows that. */
  readonly onSerial: (serial: number) => void;
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
  /** The modifier that the guest was sent last, and no key after it; 0 for none. One of MENU_KEYS. */
  #lone = 0;
  /** It was down when the keyboard came to the window, so it was pressed for something else, such as Alt+Tab. */
  #isLoneForeign = false;

  /** Owns `keyboard`. */
  constructor(keyboard: WlKeyboard, surfaces: AttachedSurfaces, options: KeyboardOptions) {
    this.#keyboard = keyboard;
    this.#surfaces = surfaces;
    this.#options = options;
    keyboard.listener = {
      enter: (serial, surface, keys) => {
        options.onSerial(serial);
        this.#enter(surface, keys);
      },
      leave: () => this.#leave(),
      key: (serial, _time, key, state) => {
        options.onSerial(serial);
        this.#key(key, state);
      },
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
    this.#hideTap(input);
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
    if (input) {
      MODIFIERS.forEach((code, bit) => {
        if (!(this.#modifiers & (1 << bit))) return;
        input.key(this.#options.holder, code, true);
        if (MENU_KEYS & (1 << bit)) this.#lone = code;
      });
      this.#isLoneForeign = true;
      input.frame();
    }
    this.#options.onEntered(at);
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
    if (!focus) return;
    const isShortcutKey = code === KEY.G || code === KEY.F || code === KEY.C;
    if (isDown && isShortcutKey && this.#isShortcut && this.#options.onShortcut(code, focus)) return;
    const { input } = focus;
    if (!input) return;
    if (isDown) {
      this.#lone = bit & MENU_KEYS ? code : 0;
      this.#isLoneForeign = false;
    } else if (code === this.#lone) {
      if (this.#isLoneForeign) this.#hideTap(input);
      this.#lone = 0;
    }
    input.key(this.#options.holder, code, isDown);
    input.frame();
  }

  /**
   * Before a lone Alt or Meta goes up that was not pressed for the guest, as with Alt+Tab, or whose next key went
   * elsewhere: presses Ctrl in between, so that the guest does not open a menu.
   */
  #hideTap(input: SharedInput): void {
    if (this.#lone === 0) return;
    this.#lone = 0;
    if (this.#modifiers & CTRL) return;
    input.key(this.#options.holder, KEY.LEFTCTRL, true);
    input.frame();
    input.key(this.#options.holder, KEY.LEFTCTRL, false);
    input.frame();
  }

  get #isShortcut(): boolean {
    const modifiers = this.#modifiers;
    return (modifiers & CTRL) !== 0 && (modifiers & ALT) !== 0 && (modifiers & ~(CTRL | ALT)) === 0;
  }
}
