import { writeSync } from 'node:fs';
import type { InterfaceTable } from '../../protocols/wayland/wire.ts';
import {
  WaylandDisplay,
  WaylandObject,
  WlKeyboardKeymapFormat,
  WlPointerAxisSource,
  WlSeat,
} from '../../display/wayland/client/index.ts';
import { createMemfd } from '../../src/sys/memfd.ts';

/** `layout` is one of xkeyboard-config: `us`. */
function keymapOf(layout: string): string {
  return `xkb_keymap {
  xkb_keycodes { include "evdev+aliases(qwerty)" };
  xkb_types { include "complete" };
  xkb_compat { include "complete" };
  xkb_symbols { include "pc+${layout}+inet(evdev)" };
};\0`;
}

/* The requests we send of virtual-keyboard-unstable-v1.xml and wlr-virtual-pointer-unstable-v1.xml, which no Debian package installs. */
const uint = (name: string) => ({ name, type: 'uint' }) as const;
const fixed = (name: string) => ({ name, type: 'fixed' }) as const;

const zwp_virtual_keyboard_manager_v1: InterfaceTable = {
  name: 'zwp_virtual_keyboard_manager_v1',
  version: 1,
  requests: [
    {
      name: 'create_virtual_keyboard',
      since: 1,
      args: [
        { name: 'seat', type: 'object', interface: 'wl_seat' },
        { name: 'id', type: 'new_id', interface: 'zwp_virtual_keyboard_v1' },
      ],
    },
  ],
  events: [],
  errors: { unauthorized: 0 },
};

const zwp_virtual_keyboard_v1: InterfaceTable = {
  name: 'zwp_virtual_keyboard_v1',
  version: 1,
  requests: [
    { name: 'keymap', since: 1, args: [uint('format'), { name: 'fd', type: 'fd' }, uint('size')] },
    { name: 'key', since: 1, args: [uint('time'), uint('key'), uint('state')] },
    {
      name: 'modifiers',
      since: 1,
      args: [uint('mods_depressed'), uint('mods_latched'), uint('mods_locked'), uint('group')],
    },
    { name: 'destroy', since: 1, destructor: true, args: [] },
  ],
  events: [],
  errors: { no_keymap: 0 },
};

const zwlr_virtual_pointer_manager_v1: InterfaceTable = {
  name: 'zwlr_virtual_pointer_manager_v1',
  version: 1,
  requests: [
    {
      name: 'create_virtual_pointer',
      since: 1,
      args: [
        { name: 'seat', type: 'object', interface: 'wl_seat', nullable: true },
        { name: 'id', type: 'new_id', interface: 'zwlr_virtual_pointer_v1' },
      ],
    },
  ],
  events: [],
  errors: {},
};

const zwlr_virtual_pointer_v1: InterfaceTable = {
  name: 'zwlr_virtual_pointer_v1',
  version: 1,
  requests: [
    { name: 'motion', since: 1, args: [uint('time'), fixed('dx'), fixed('dy')] },
    {
      name: 'motion_absolute',
      since: 1,
      args: [uint('time'), uint('x'), uint('y'), uint('x_extent'), uint('y_extent')],
    },
    { name: 'button', since: 1, args: [uint('time'), uint('button'), uint('state')] },
    { name: 'axis', since: 1, args: [uint('time'), uint('axis'), fixed('value')] },
    { name: 'frame', since: 1, args: [] },
    { name: 'axis_source', since: 1, args: [uint('axis_source')] },
    { name: 'axis_stop', since: 1, args: [uint('time'), uint('axis')] },
    {
      name: 'axis_discrete',
      since: 1,
      args: [uint('time'), uint('axis'), fixed('value'), { name: 'discrete', type: 'int' }],
    },
    { name: 'destroy', since: 1, destructor: true, args: [] },
  ],
  events: [],
  errors: {},
};

class KeyboardMaker extends WaylandObject {
  static readonly interface = zwp_virtual_keyboard_manager_v1;

  override get interface(): InterfaceTable {
    return zwp_virtual_keyboard_manager_v1;
  }

  create(seat: WlSeat): VirtualKeyboard {
    const out = this.request(0, 16);
    out.uint(this.connection.objects.idOf(seat));
    out.uint(this.connection.objects.nextId);
    out.end();
    return this.connection.objects.create(VirtualKeyboard, this.version);
  }
}

class VirtualKeyboard extends WaylandObject {
  static readonly interface = zwp_virtual_keyboard_v1;

  override get interface(): InterfaceTable {
    return zwp_virtual_keyboard_v1;
  }

  keymap(text: string): void {
    const bytes = Buffer.from(text);
    using memfd = createMemfd('keymap', bytes.length);
    writeSync(memfd.fd, bytes);
    const out = this.request(0, 16);
    out.uint(WlKeyboardKeymapFormat.xkb_v1);
    out.fd(memfd);
    out.uint(bytes.length);
    out.end();
  }

  key(code: number, isPressed: boolean): void {
    const out = this.request(1, 20);
    out.uint(0);
    out.uint(code);
    out.uint(isPressed ? 1 : 0);
    out.end();
  }

  /** What the compositor itself takes for held: `key` reaches only clients. Bits of the keymap, 64 for the Windows key. */
  modifiers(depressed: number): void {
    const out = this.request(2, 24);
    for (const bits of [depressed, 0, 0, 0]) out.uint(bits);
    out.end();
  }
}

class PointerMaker extends WaylandObject {
  static readonly interface = zwlr_virtual_pointer_manager_v1;

  override get interface(): InterfaceTable {
    return zwlr_virtual_pointer_manager_v1;
  }

  create(seat: WlSeat): VirtualPointer {
    const out = this.request(0, 16);
    out.uint(this.connection.objects.idOf(seat));
    out.uint(this.connection.objects.nextId);
    out.end();
    return this.connection.objects.create(VirtualPointer, this.version);
  }
}

class VirtualPointer extends WaylandObject {
  static readonly interface = zwlr_virtual_pointer_v1;

  override get interface(): InterfaceTable {
    return zwlr_virtual_pointer_v1;
  }

  moveBy(dx: number, dy: number): void {
    const out = this.request(0, 20);
    out.uint(0);
    out.fixed(dx);
    out.fixed(dy);
    out.end();
    this.#frame();
  }

  moveTo(x: number, y: number, width: number, height: number): void {
    const out = this.request(1, 28);
    out.uint(0);
    for (const value of [x, y, width, height]) out.uint(value);
    out.end();
    this.#frame();
  }

  button(code: number, isPressed: boolean): void {
    const out = this.request(2, 20);
    out.uint(0);
    out.uint(code);
    out.uint(isPressed ? 1 : 0);
    out.end();
    this.#frame();
  }

  wheel(axis: number, distance: number, notches: number): void {
    const source = this.request(5, 12);
    source.uint(WlPointerAxisSource.wheel);
    source.end();
    const out = this.request(7, 24);
    out.uint(0);
    out.uint(axis);
    out.fixed(distance);
    out.int(notches);
    out.end();
    this.#frame();
  }

  /** Scrolls by a distance without notches, like two fingers on a touchpad. */
  scroll(axis: number, distance: number): void {
    const source = this.request(5, 12);
    source.uint(WlPointerAxisSource.finger);
    source.end();
    const out = this.request(3, 20);
    out.uint(0);
    out.uint(axis);
    out.fixed(distance);
    out.end();
    this.#frame();
  }

  #frame(): void {
    this.request(4, 8).end();
  }
}

/** A virtual keyboard and pointer, which compositors based on wlroots treat like real ones. */
export class VirtualInput implements Disposable {
  readonly keyboard: VirtualKeyboard;
  readonly pointer: VirtualPointer;
  readonly #display: WaylandDisplay;

  private constructor(display: WaylandDisplay, layout: string) {
    this.#display = display;
    const seat = display.bind(WlSeat, 1)!;
    this.keyboard = display.bind(KeyboardMaker, 1)!.create(seat);
    this.keyboard.keymap(keymapOf(layout));
    this.pointer = display.bind(PointerMaker, 1)!.create(seat);
  }

  /** `layout` is what the desktop takes the keyboard for. */
  static async plug(socket: string, { layout = 'us' } = {}): Promise<VirtualInput> {
    const input = new VirtualInput(await WaylandDisplay.connect({ socket }), layout);
    await input.sent();
    return input;
  }

  /** Resolves when the compositor has handled everything sent so far. */
  sent(): Promise<void> {
    return this.#display.roundtrip();
  }

  [Symbol.dispose](): void {
    this.#display[Symbol.dispose]();
  }
}
