import { Damage } from '../../src/core/damage.ts';
import type { Frame } from '../../src/core/output.ts';
import type { Place } from './placement.ts';

const nowhere = (): Place => ({ x: 0, y: 0, width: 0, height: 0 });

/** The frame presented last, to be shown again. Its damage is empty and its handles are not here: both are whoever's who shows it. */
export class NewestFrame implements Frame {
  readonly canvas = nowhere();
  readonly primary = { handle: null, src: nowhere(), dst: nowhere() };
  readonly cursor = { handle: null, src: nowhere(), dst: nowhere() };
  hotspotX = 0;
  hotspotY = 0;
  readonly damage = new Damage();

  /** Allocates nothing. */
  copy({ canvas, primary, cursor, hotspotX, hotspotY }: Frame): void {
    this.canvas.width = canvas.width;
    this.canvas.height = canvas.height;
    move(primary.src, this.primary.src);
    move(primary.dst, this.primary.dst);
    move(cursor.src, this.cursor.src);
    move(cursor.dst, this.cursor.dst);
    this.hotspotX = hotspotX;
    this.hotspotY = hotspotY;
  }
}

function move({ x, y, width, height }: Readonly<Place>, to: Place): void {
  to.x = x;
  to.y = y;
  to.width = width;
  to.height = height;
}
