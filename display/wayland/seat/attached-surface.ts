import type { WlSurface } from '../client/index.ts';
import type { Cursor } from './cursor.ts';
import type { SharedInput } from './shared-input.ts';
import type { SeatTarget } from './target.ts';

/** A window's surface that seats may be at. */
export interface AttachedSurface {
  readonly surface: WlSurface;
  readonly target: SeatTarget;
  readonly cursor: Cursor;
  /** Null if the target has no input. */
  readonly input: SharedInput | null;
}

/** By surface, which in events is null once it is destroyed. */
export class AttachedSurfaces extends Map<WlSurface, AttachedSurface> {
  find(surface: WlSurface | null): AttachedSurface | null {
    return surface === null ? null : (this.get(surface) ?? null);
  }
}
