import type { Fourcc, Modifier } from '../../protocols/drm-fourcc.ts';

/** The fourcc x modifier pairs something accepts. Immutable after construction. */
export class FormatSet {
  readonly #pairs = new Map<Fourcc, Set<Modifier>>();

  constructor(pairs: Iterable<readonly [Fourcc, Modifier]> = []) {
    for (const [format, modifier] of pairs) {
      const modifiers = this.#pairs.get(format);
      if (modifiers) modifiers.add(modifier);
      else this.#pairs.set(format, new Set([modifier]));
    }
  }

  has(format: Fourcc, modifier: Modifier): boolean {
    return this.#pairs.get(format)?.has(modifier) ?? false;
  }

  get isEmpty(): boolean {
    return this.#pairs.size === 0;
  }

  formats(): Iterable<Fourcc> {
    return this.#pairs.keys();
  }

  modifiers(format: Fourcc): Iterable<Modifier> {
    return this.#pairs.get(format) ?? [];
  }
}
