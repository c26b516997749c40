import type { Damage } from '../../src/core/damage.ts';
import type { WlSurface } from './client/index.ts';

const EVERYWHERE = 2 ** 31 - 1;
/** Of positions in buffers. */
const DAMAGE_BUFFER_SINCE = 4;

/** Says what of the buffer attached is other than before; null: all. */
export function damageSurface(surface: WlSurface, damage: Damage | null): void {
  if (surface.version < DAMAGE_BUFFER_SINCE) {
    surface.damage(0, 0, EVERYWHERE, EVERYWHERE);
  } else if (!damage) {
    surface.damageBuffer(0, 0, EVERYWHERE, EVERYWHERE);
  } else {
    for (let i = 0; i < damage.count; i++) surface.damageBuffer(damage.x(i), damage.y(i), damage.width(i), damage.height(i));
  }
}
