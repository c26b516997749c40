import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Linter } from 'eslint';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import tseslint from 'typescript-eslint';
import { noImportCycle } from '../../../rig/eslint/no-import-cycle.js';

let directory: string;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'cycle-'));
});
afterAll(() => rmSync(directory, { recursive: true }));

/** What the rule says of `a.ts` among these files. */
function messagesOf(files: Readonly<Record<string, string>>): string[] {
  for (const [name, text] of Object.entries(files)) writeFileSync(join(directory, name), text);
  const linter = new Linter({ cwd: directory });
  const config = {
    files: ['**/*.ts'],
    languageOptions: { parser: tseslint.parser },
    plugins: { own: { rules: { cycle: noImportCycle } } },
    rules: { 'own/cycle': 'error' },
  } as Linter.Config;
  return linter.verify(files['a.ts']!, config, join(directory, 'a.ts')).map(({ message }) => message);
}

describe('no-import-cycle', () => {
  test.each([
    ['an import', "import { b } from './b.ts';"],
    ['an import of types', "import type { b } from './b.ts';"],
    ['an import over several lines', "import {\n  b,\n} from './b.ts';"],
    ['an export of names', "export { b } from './b.ts';"],
    ['an export of all', "export * from './b.ts';"],
    ['a dynamic import', "await import('./b.ts');"],
  ])('reports %s that leads back, with its way', (_, text) => {
    expect(
      messagesOf({
        'a.ts': text,
        'b.ts': "import type { c } from './c.ts';",
        'c.ts': text.replace('./b.ts', './a.ts'),
      }),
    ).toEqual(['Import circle: a.ts -> b.ts -> c.ts -> a.ts']);
  });

  test('takes two ways to one file, and circles that the file is not part of', () => {
    expect(
      messagesOf({
        'a.ts': "import { b } from './b.ts';\nimport { d } from './d.ts';\nimport 'node:fs';",
        'b.ts': "import { d } from './d.ts';",
        'd.ts': "import { e } from './e.ts';",
        'e.ts': "import { d } from './d.ts';",
      }),
    ).toEqual([]);
  });
});
