import { createHash } from 'node:crypto';
import { bytesOf } from '../../../rig/bytes-of.ts';
import type { Damage } from '../../../../src/core/damage.ts';
import type { Framebuffer } from '../../../../src/core/framebuffer.ts';
import type { Rect } from '../../../../src/core/geometry.ts';
import type { Flush, ScanoutId, SourceSink } from '../../../../src/core/source.ts';

/** Records what a bridge would be called with, pixels as hashes, and finishes every flush at once. */
export class PictureSink implements SourceSink {
  readonly seen: string[] = [];
  #shown: Framebuffer | null = null;

  get last(): string {
    return this.seen.at(-1) ?? '';
  }

  scanout(id: ScanoutId, framebuffer: Framebuffer | null, rect: Rect): void {
    this.#shown = framebuffer;
    this.seen.push(
      `scanout ${id} ${framebuffer === null ? 'off' : `${framebuffer.width}x${framebuffer.height}`} ${rect.x},${rect.y} ${rect.width}x${rect.height}`,
    );
  }

  flush(id: ScanoutId, damage: Damage, flush: Flush | null): void {
    const rects = Array.from(
      { length: damage.count },
      (_, i) => `${damage.x(i)},${damage.y(i)} ${damage.width(i)}x${damage.height(i)}`,
    );
    this.seen.push(`flush ${id} ${rects.join(' ')} ${this.#shown === null ? '' : hash(this.#shown)}`);
    flush?.done();
  }

  cursor(
    id: ScanoutId,
    framebuffer: Framebuffer | null,
    hotspotX: number,
    hotspotY: number,
    x: number,
    y: number,
  ): void {
    this.seen.push(
      `cursor ${id} ${framebuffer === null ? 'hidden' : hash(framebuffer)} ${hotspotX},${hotspotY} at ${x},${y}`,
    );
  }

  cursorMoved(id: ScanoutId, x: number, y: number): void {
    this.seen.push(`cursor ${id} at ${x},${y}`);
  }

  halted(): void {
    this.seen.push('halted');
  }

  destroyed(framebuffer: Framebuffer): void {
    if (this.#shown === framebuffer) this.#shown = null;
    this.seen.push(`destroyed ${framebuffer.width}x${framebuffer.height}`);
  }
}

function hash({ backing, planes, height }: Framebuffer): string {
  if (backing.kind !== 'pages') return 'dmabuf';
  const { offset, stride } = planes[0]!;
  return createHash('sha1')
    .update(bytesOf(backing.pixels()).subarray(offset, offset + stride * height))
    .digest('hex')
    .slice(0, 12);
}
