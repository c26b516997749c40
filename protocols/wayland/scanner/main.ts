/** `npm run generate:wayland`: rewrites the generated files. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { generate } from './generate.ts';

const root = join(import.meta.dirname, '../../..');
for (const [path, text] of generate()) writeFileSync(join(root, path), text);
