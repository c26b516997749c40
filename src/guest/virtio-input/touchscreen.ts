import { ABS, BTN, EV, INPUT_PROP_DIRECT, MT_TOOL } from '../../../protocols/input-event-codes.ts';
import { type EventBacklog, type InputDescription, VirtioInput } from './device.ts';
import { AXIS_MAX } from './keyboard-pointer.ts';

const SLOTS = 16;
const MAX_ID = 0xffff;
const UP = -1;

/** Slot, tracking id, tool, two axes. */
const MOST_PER_SLOT = 5;
const MOST_EVENTS = SLOTS * MOST_PER_SLOT + 1;

const description: InputDescription = {
  name: 'scanout-bridge touchscreen',
  serial: 'touch',
  product: 2,
  properties: [INPUT_PROP_DIRECT],
  events: new Map<number, readonly number[]>([
    [EV.KEY, [BTN.TOUCH]],
    [EV.ABS, [ABS.MT_SLOT, ABS.MT_TRACKING_ID, ABS.MT_TOOL_TYPE, ABS.MT_POSITION_X, ABS.MT_POSITION_Y]],
  ]),
  axisMax: new Map<number, number>([
    [ABS.MT_SLOT, SLOTS - 1],
    [ABS.MT_TRACKING_ID, MAX_ID],
    [ABS.MT_TOOL_TYPE, MT_TOOL.MAX],
    [ABS.MT_POSITION_X, AXIS_MAX],
    [ABS.MT_POSITION_Y, AXIS_MAX],
  ]),
};

/** One place of a touch; `id` tells one touch there from the next. */
interface Slot {
  id: number;
  x: number;
  y: number;
  isCancelled: boolean;
  toldId: number;
  toldX: number;
  toldY: number;
}

/** A touchscreen of 16 fingers, by the kernel's multi-touch protocol B (Documentation/input/multi-touch-protocol.rst). */
export class Touchscreen extends VirtioInput {
  readonly #slots: readonly Slot[] = Array.from({ length: SLOTS }, () => ({ id: UP, x: 0, y: 0, isCancelled: false, toldId: UP, toldX: 0, toldY: 0 }));
  #lastId = -1;
  #toldSlot = 0;
  #toldTouched = false;

  /** `onTaken` is as of KeyboardPointer. */
  constructor(onTaken: () => void = () => undefined) {
    super(description, () => undefined, onTaken);
  }

  /** `x` and `y` are 0 to AXIS_MAX. A slot that is down begins anew. */
  down(slot: number, x: number, y: number): void {
    const state = this.#slots[slot];
    if (!state) return;
    this.begin();
    this.#lastId = (this.#lastId + 1) & MAX_ID;
    state.id = this.#lastId;
    state.isCancelled = false;
    state.x = x;
    state.y = y;
  }

  move(slot: number, x: number, y: number): void {
    const state = this.#slots[slot];
    if (!state || state.id === UP) return;
    this.begin();
    state.x = x;
    state.y = y;
  }

  /** A touch that begins and ends in one frame would not be seen: its end begins another. */
  up(slot: number): void {
    const state = this.#slots[slot];
    if (!state || state.id === UP) return;
    if (state.id !== state.toldId) this.frame();
    this.begin();
    state.id = UP;
  }

  cancel(): void {
    this.begin();
    for (const slot of this.#slots) {
      if (slot.id !== UP) slot.isCancelled = true;
      slot.id = UP;
    }
  }

  releaseAll(): void {
    this.frame();
    this.cancel();
    this.frame();
  }

  protected get isBehind(): boolean {
    return !this.canWait || this.#slots.some(isMoved);
  }

  protected get canWait(): boolean {
    return !this.#slots.some(isOtherTouch);
  }

  protected get mostEvents(): number {
    return MOST_EVENTS;
  }

  /** A touch that has taken another's place is told in the group after that other's end. */
  protected report(into: EventBacklog): void {
    for (let index = 0; index < SLOTS; index++) {
      const slot = this.#slots[index]!;
      if (isOtherTouch(slot)) {
        this.#select(index, into);
        if (slot.toldId === UP) this.#begin(slot, into);
        else this.#end(slot, into);
      } else if (isMoved(slot)) {
        this.#select(index, into);
        this.#place(slot, into);
      }
    }
    const isTouched = this.#slots.some(isToldDown);
    if (isTouched !== this.#toldTouched) into.add(EV.KEY, BTN.TOUCH, isTouched ? 1 : 0);
    this.#toldTouched = isTouched;
  }

  protected forget(): void {
    for (const slot of this.#slots) Object.assign(slot, { id: UP, toldId: UP, toldX: 0, toldY: 0 });
    this.#toldSlot = 0;
    this.#toldTouched = false;
  }

  #select(index: number, into: EventBacklog): void {
    if (index !== this.#toldSlot) into.add(EV.ABS, ABS.MT_SLOT, index);
    this.#toldSlot = index;
  }

  #begin(slot: Slot, into: EventBacklog): void {
    into.add(EV.ABS, ABS.MT_TRACKING_ID, slot.id);
    into.add(EV.ABS, ABS.MT_TOOL_TYPE, MT_TOOL.FINGER);
    slot.toldId = slot.id;
    this.#place(slot, into);
  }

  #end(slot: Slot, into: EventBacklog): void {
    if (slot.isCancelled) into.add(EV.ABS, ABS.MT_TOOL_TYPE, MT_TOOL.PALM);
    else if (slot.id === UP) this.#place(slot, into);
    into.add(EV.ABS, ABS.MT_TRACKING_ID, UP);
    slot.toldId = UP;
  }

  #place(slot: Slot, into: EventBacklog): void {
    if (slot.x !== slot.toldX) into.add(EV.ABS, ABS.MT_POSITION_X, slot.x);
    if (slot.y !== slot.toldY) into.add(EV.ABS, ABS.MT_POSITION_Y, slot.y);
    slot.toldX = slot.x;
    slot.toldY = slot.y;
  }
}

function isOtherTouch(slot: Slot): boolean {
  return slot.id !== slot.toldId;
}

function isMoved(slot: Slot): boolean {
  return slot.id !== UP && (slot.x !== slot.toldX || slot.y !== slot.toldY);
}

function isToldDown(slot: Slot): boolean {
  return slot.toldId !== UP;
}
