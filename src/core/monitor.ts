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
  /** The real monitor's EDID, if there is one. Otherwise the source makes one from the fields above. */
  readonly edid?: Uint8Array;
}

/** Whether a guest would see no difference between them, apart from the name. */
export function sameMonitor(a: Monitor, b: Monitor): boolean {
  return (
    a.width === b.width &&
    a.height === b.height &&
    a.refreshMhz === b.refreshMhz &&
    a.widthMm === b.widthMm &&
    a.heightMm === b.heightMm &&
    sameBytes(a.edid, b.edid)
  );
}

function sameBytes(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  return a === b || (a !== undefined && b !== undefined && Buffer.compare(a, b) === 0);
}

export const MAX_REFRESH_MHZ = 1_000_000;

/** A monitor of 96 dots per inch, for outputs without a physical size. */
export function virtualMonitor(name: string, width: number, height: number, refreshMhz: number): Monitor {
  return {
    name,
    width,
    height,
    refreshMhz,
    widthMm: Math.round((width * 25.4) / 96),
    heightMm: Math.round((height * 25.4) / 96),
  };
}
