const V120_PER_NOTCH = 120;

/** Where only a distance is told, as by touchpads: what Weston and Mutter send for a notch. */
const UNITS_PER_NOTCH = 10;

/**
 * One axis of a pointer. A frame tells a distance and, for wheels that have notches, these as well
 * (wl_pointer.axis_value120, before version 8 axis_discrete), in any order: notches count then.
 */
export class Wheel {
  #distance = 0;
  #v120 = 0;
  /** Of a v120 that the guest has not got, from distances. */
  #fraction = 0;

  moved(distance: number): void {
    this.#distance += distance;
  }

  turned(v120: number): void {
    this.#v120 += v120;
  }

  notched(notches: number): void {
    this.#v120 += notches * V120_PER_NOTCH;
  }

  /** A motion that begins later does not go on with this one's fraction. */
  stopped(): void {
    this.#fraction = 0;
  }

  forget(): void {
    this.#distance = 0;
    this.#v120 = 0;
    this.#fraction = 0;
  }

  /** Whole 120ths of a notch that the frame has come to. */
  take(): number {
    let v120 = this.#v120;
    if (v120 === 0) {
      const exact = this.#fraction + (this.#distance * V120_PER_NOTCH) / UNITS_PER_NOTCH;
      v120 = Math.trunc(exact);
      this.#fraction = exact - v120;
    }
    this.#distance = 0;
    this.#v120 = 0;
    return v120;
  }
}
