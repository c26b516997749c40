import { ABS, BTN, EV, INPUT_PROP_DIRECT, MT_TOOL } from '../../../protocols/input-event-codes.ts';
import { type EventBacklog, type InputDescription, VirtioInput } from './device.ts';
import { AXIS_MAX } from './keyboard-pointer.ts';

const SLOTS = 16;
const MAX_ID = 0xffff;
const UP = -1;

/** Slot, tracking id, tool, two axes. */
const MAX_PER_SLOT = 5;
const MAX_EVENTS = SLOTS * MAX_PER_SLOT + 1;

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

/** A slot for one touch; `id` tells one touch in it from the next. */
interface Slot {
  id: number;
  x: number;
  y: number;
  isCancelled: boolean;
  reportedId: number;
  reportedX: number;
  reportedY: number;
}

/** A touchscreen for 16 fingers; the kernel's multi-touch protocol B (Documentation/input/multi-touch-protocol.rst). */
export class Touchscreen extends VirtioInput {
  readonly #slots: readonly Slot[] = Array.from({ length: SLOTS }, () => ({
    id: UP,
    x: 0,
    y: 0,
    isCancelled: false,
    reportedId: UP,
    reportedX: 0,
    reportedY: 0,
  }));
  #lastId = -1;
  #reportedSlot = 0;
  #reportedTouch = false;

  /** `onTaken` is called when the driver has been given every event. */
  constructor(onTaken: () => void = () => undefined) {
    super(description, () => undefined, onTaken);
  }

  /** `x` and `y` are 0 to AXIS_MAX. In a slot that is down already, a new touch replaces the old one. Other slots are ignored. */
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

  /** The end of a touch that began in this frame begins a new frame, because the guest would see neither. */
  up(slot: number): void {
    const state = this.#slots[slot];
    if (!state || state.id === UP) return;
    if (state.id !== state.reportedId) this.frame();
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

  protected get hasReport(): boolean {
    return !this.canWait || this.#slots.some(isMoved);
  }

  protected get canWait(): boolean {
    return !this.#slots.some(isNewTouch);
  }

  protected get maxEvents(): number {
    return MAX_EVENTS;
  }

  /** A touch that replaced another is reported in the group after the one that ends the other. */
  protected report(into: EventBacklog): void {
    for (let index = 0; index < SLOTS; index++) {
      const slot = this.#slots[index]!;
      if (isNewTouch(slot)) {
        this.#select(index, into);
        if (slot.reportedId === UP) this.#begin(slot, into);
        else this.#end(slot, into);
      } else if (isMoved(slot)) {
        this.#select(index, into);
        this.#place(slot, into);
      }
    }
    const isTouched = this.#slots.some(isReportedDown);
    if (isTouched !== this.#reportedTouch) into.add(EV.KEY, BTN.TOUCH, isTouched ? 1 : 0);
    this.#reportedTouch = isTouched;
  }

  protected clear(): void {
    for (const slot of this.#slots) Object.assign(slot, { id: UP, reportedId: UP, reportedX: 0, reportedY: 0 });
    this.#reportedSlot = 0;
    this.#reportedTouch = false;
  }

  #select(index: number, into: EventBacklog): void {
    if (index !== this.#reportedSlot) into.add(EV.ABS, ABS.MT_SLOT, index);
    this.#reportedSlot = index;
  }

  #begin(slot: Slot, into: EventBacklog): void {
    into.add(EV.ABS, ABS.MT_TRACKING_ID, slot.id);
    into.add(EV.ABS, ABS.MT_TOOL_TYPE, MT_TOOL.FINGER);
    slot.reportedId = slot.id;
    this.#place(slot, into);
  }

  #end(slot: Slot, into: EventBacklog): void {
    if (slot.isCancelled) into.add(EV.ABS, ABS.MT_TOOL_TYPE, MT_TOOL.PALM);
    else if (slot.id === UP) this.#place(slot, into);
    into.add(EV.ABS, ABS.MT_TRACKING_ID, UP);
    slot.reportedId = UP;
  }

  #place(slot: Slot, into: EventBacklog): void {
    if (slot.x !== slot.reportedX) into.add(EV.ABS, ABS.MT_POSITION_X, slot.x);
    if (slot.y !== slot.reportedY) into.add(EV.ABS, ABS.MT_POSITION_Y, slot.y);
    slot.reportedX = slot.x;
    slot.reportedY = slot.y;
  }
}

function isNewTouch(slot: Slot): boolean {
  return slot.id !== slot.reportedId;
}

function isMoved(slot: Slot): boolean {
  return slot.id !== UP && (slot.x !== slot.reportedX || slot.y !== slot.reportedY);
}

function isReportedDown(slot: Slot): boolean {
  return slot.reportedId !== UP;
}
