/** A screen as the guest's EDID will describe it. */
export interface Monitor {
  readonly width: number;
  readonly height: number;
  /** Vertical refresh in millihertz: 60000 for 60 Hz. */
  readonly refreshMhz: number;
  /** Visible area in millimetres; 0 when unknown. */
  readonly widthMm: number;
  readonly heightMm: number;
  /** At most 13 ASCII characters reach the guest. */
  readonly name: string;
  /** The real monitor's EDID, when there is one; otherwise the source makes one from the fields above. */
  readonly edid?: Uint8Array;
}

export const MAX_REFRESH_MHZ = 1_000_000;

/** A monitor of 96 dots per inch, for outputs that have no physical size. */
export function virtualMonitor(name: string, width: number, height: number, refreshMhz: number): Monitor {
  return { name, width, height, refreshMhz, widthMm: Math.round((width * 25.4) / 96), heightMm: Math.round((height * 25.4) / 96) };
}
