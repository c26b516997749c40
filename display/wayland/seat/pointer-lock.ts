import { type WlPointer, ZwpPointerConstraintsV1Lifetime, type ZwpLockedPointerV1, type ZwpRelativePointerV1 } from '../client/index.ts';
import type { AttachedSurface } from './attached-surface.ts';
import type { SeatGlobals } from './globals.ts';

export interface PointerLockOwner {
  /** The pointer stays where it is from now on. */
  lockBegan(): void;
  /** The compositor has taken the lock away. */
  lockLost(): void;
  movedBy(dx: number, dy: number): void;
}

/** Holds a pointer in a window and hears of its motion, once the compositor agrees: it may wait for the pointer to be there. */
export class PointerLock implements Disposable {
  readonly #locked: ZwpLockedPointerV1;
  readonly #relative: ZwpRelativePointerV1;
  #isActive = false;

  private constructor(locked: ZwpLockedPointerV1, relative: ZwpRelativePointerV1, owner: PointerLockOwner) {
    this.#locked = locked;
    this.#relative = relative;
    locked.listener = {
      locked: () => {
        this.#isActive = true;
        owner.lockBegan();
      },
      unlocked: () => owner.lockLost(),
    };
    // The motion as it was before the host's acceleration: the guest has its own.
    relative.listener = {
      relativeMotion: (_timeHigh, _timeLow, _dx, _dy, dx, dy) => {
        if (this.#isActive) owner.movedBy(dx, dy);
      },
    };
  }

  /** Null if the compositor does not offer both. */
  static request(at: AttachedSurface, pointer: WlPointer, globals: SeatGlobals, owner: PointerLockOwner): PointerLock | null {
    const { constraints, relativePointers } = globals;
    if (!constraints || !relativePointers) return null;
    const locked = constraints.lockPointer(at.surface, pointer, null, ZwpPointerConstraintsV1Lifetime.oneshot);
    return new PointerLock(locked, relativePointers.getRelativePointer(pointer), owner);
  }

  get isActive(): boolean {
    return this.#isActive;
  }

  [Symbol.dispose](): void {
    this.#isActive = false;
    this.#locked[Symbol.dispose]();
    this.#relative[Symbol.dispose]();
  }
}
