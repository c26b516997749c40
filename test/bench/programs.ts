import { join } from 'node:path';

/** Where `npm run bench` puts the bundled programs of this folder. */
export const BUNDLE: string = join(import.meta.dirname, '../output/bench');

/** The path of a bundled program: of `kms/main.ts` for `kms/main`. */
export function bundled(name: string): string {
  return join(BUNDLE, `${name}.js`);
}
