/** Input devices that a test makes in the kernel: linux/uinput.h. Needs root and the module uinput. */
import { constants, openSync, readdirSync, readSync, writeSync } from 'node:fs';
import { EV, SYN_REPORT } from '../../protocols/input-event-codes.ts';
import { bytes, i32, ior, iow, struct, u16, u32, u64 } from '../../protocols/layout.ts';
import { OwnedFd } from '../../src/sys/fd.ts';
import { ioctl } from '../../src/sys/ioctl.ts';

const int = { size: 4 };

export const input_id = struct('input_id', { bustype: u16, vendor: u16, product: u16, version: u16 });
export const uinput_setup = struct('uinput_setup', { id: input_id, name: bytes(80), ff_effects_max: u32 });
export const input_absinfo = struct('input_absinfo', {
  value: i32,
  minimum: i32,
  maximum: i32,
  fuzz: i32,
  flat: i32,
  resolution: i32,
});
export const uinput_abs_setup = struct('uinput_abs_setup', { code: u16, absinfo: input_absinfo });
/** With the 64-bit time of 64-bit machines. */
const input_event = struct('input_event', { tv_sec: u64, tv_usec: u64, type: u16, code: u16, value: i32 });

/** BTN_TOOL_*: what is on the surface. Devices that have PEN are tablets; those that have FINGER, touchpads. */
export const BTN_TOOL = { PEN: 0x140, FINGER: 0x145, DOUBLETAP: 0x14d } as const;
/** The device moves a pointer. */
export const INPUT_PROP_POINTER = 0;
/** The surface itself is the button. */
export const INPUT_PROP_BUTTONPAD = 2;

const NAME_LENGTH = 64;
export const UI_DEV_CREATE = 0x5501;
export const UI_DEV_SETUP = iow('U', 3, uinput_setup);
export const UI_ABS_SETUP = iow('U', 4, uinput_abs_setup);
export const UI_SET_EVBIT = iow('U', 100, int);
export const UI_SET_KEYBIT = iow('U', 101, int);
export const UI_SET_RELBIT = iow('U', 102, int);
export const UI_SET_ABSBIT = iow('U', 103, int);
export const UI_SET_LEDBIT = iow('U', 105, int);
export const UI_SET_PROPBIT = iow('U', 110, int);
const UI_GET_SYSNAME = ior('U', 44, { size: NAME_LENGTH });

export interface UinputOptions {
  readonly name: string;
  readonly keys?: readonly number[];
  readonly rels?: readonly number[];
  /** By code: the largest value; the least is 0. */
  readonly axes?: Readonly<Record<number, number>>;
  readonly leds?: readonly number[];
  readonly properties?: readonly number[];
}

/** One event: type, code, value. */
export type UinputEvent = readonly [type: number, code: number, value: number];

/** Ends a group. */
export const SYN: UinputEvent = [EV.SYN, SYN_REPORT, 0];

/** A device, until disposed. */
export class Uinput implements Disposable {
  readonly #fd: OwnedFd;

  constructor({ name, keys = [], rels = [], axes = {}, leds = [], properties = [] }: UinputOptions) {
    this.#fd = OwnedFd.adopt(openSync('/dev/uinput', constants.O_RDWR | constants.O_NONBLOCK));
    const set = (type: number, request: number, codes: readonly number[]): void => {
      if (codes.length > 0) ioctl(this.#fd, UI_SET_EVBIT, 'UI_SET_EVBIT', type);
      for (const code of codes) ioctl(this.#fd, request, 'UI_SET_*BIT', code);
    };
    set(EV.KEY, UI_SET_KEYBIT, keys);
    set(EV.REL, UI_SET_RELBIT, rels);
    set(EV.ABS, UI_SET_ABSBIT, Object.keys(axes).map(Number));
    set(EV.LED, UI_SET_LEDBIT, leds);
    for (const property of properties) ioctl(this.#fd, UI_SET_PROPBIT, 'UI_SET_PROPBIT', property);
    for (const [code, maximum] of Object.entries(axes)) {
      const absinfo = { value: 0, minimum: 0, maximum, fuzz: 0, flat: 0, resolution: 10 };
      ioctl(this.#fd, UI_ABS_SETUP, 'UI_ABS_SETUP', uinput_abs_setup.encode({ code: Number(code), absinfo }));
    }
    const setup = uinput_setup.encode({ id: { bustype: 3, vendor: 1, product: 1, version: 1 } });
    setup.set(Buffer.from(name), uinput_setup.offset.name);
    ioctl(this.#fd, UI_DEV_SETUP, 'UI_DEV_SETUP', setup);
    ioctl(this.#fd, UI_DEV_CREATE, 'UI_DEV_CREATE', 0);
  }

  /** `event5` */
  get sysName(): string {
    const name = new Uint8Array(NAME_LENGTH);
    ioctl(this.#fd, UI_GET_SYSNAME, 'UI_GET_SYSNAME', name);
    const directory = `/sys/devices/virtual/input/${Buffer.from(name).toString('latin1').replace(/\0.*$/s, '')}`;
    return readdirSync(directory).find((entry) => entry.startsWith('event'))!;
  }

  /** Reports the events in one group. */
  emit(...events: UinputEvent[]): void {
    this.send(...events, SYN);
  }

  /** Sends events together. Those after the last `SYN` are reported with the next one. */
  send(...events: UinputEvent[]): void {
    writeSync(
      this.#fd.fd,
      Buffer.concat(events.map(([type, code, value]) => input_event.encode({ type, code, value }))),
    );
  }

  /** What was sent to the device next that is no SYN: an LED. Null if nothing was. */
  nextOutput(): UinputEvent | null {
    const event = new Uint8Array(input_event.size);
    try {
      while (readSync(this.#fd.fd, event) > 0) {
        const { type, code, value } = input_event.decode(event);
        if (type !== EV.SYN) return [type, code, value];
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
    }
    return null;
  }

  [Symbol.dispose](): void {
    this.#fd[Symbol.dispose]();
  }
}
