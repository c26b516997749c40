import { readFileSync } from 'node:fs';
import importX from 'eslint-plugin-import-x';
import tseslint from 'typescript-eslint';
import { noImportCycle } from './test/rig/eslint/no-import-cycle.js';

/**
 * Imports point one way: protocols <- src/sys <- src/core <- src/bridge, src/guest, and
 * src/core <- display. src/index.ts, src/qemu, src/control, src/testing and src/cli are on top of all of it;
 * of those the last two import src/control, and src/index.ts alone imports src/testing.
 */
/** @type {Record<string, string[]>} */
const below = {
  './protocols': [],
  './src/sys': ['./protocols'],
  './src/core': ['./protocols', './src/sys'],
  './src/bridge': ['./protocols', './src/sys', './src/core'],
  './src/guest': ['./protocols', './src/sys', './src/core'],
  './display': ['./protocols', './src/sys', './src/core'],
  './src/qemu': ['./protocols', './src/sys', './src/core'],
};

/** Published to be used alone: what each may import of ours. */
const alone = [
  { target: './display/wayland/client', from: './src', except: ['./sys'] },
  { target: './display/wayland/client', from: './display', except: ['./wayland/client'] },
];

/** On top and independent of each other, but for what drives a guest, which both use. */
const top = [
  { target: './src/control', from: './src/cli' },
  { target: './src/control', from: './src/testing' },
  { target: './src/testing', from: './src/cli' },
  { target: './src/cli', from: './src/testing' },
];

const zones = Object.entries(below).flatMap(([target, allowed]) => [
  {
    target,
    from: './src',
    except: [target, ...allowed].filter((p) => p.startsWith('./src')).map((p) => `.${p.slice('./src'.length)}`),
  },
  ...['./protocols', './display']
    .filter((from) => from !== target && !allowed.includes(from))
    .map((from) => ({ target, from })),
]);

/**
 * What oxlint checks, which does so in a tenth of the time. A typed rule that .oxlintrc.json does not name is run here.
 * @type {{ rules: Record<string, unknown> }}
 */
const oxlint = JSON.parse(readFileSync(new URL('.oxlintrc.json', import.meta.url), 'utf8'));
const elsewhere = Object.fromEntries(
  Object.keys(oxlint.rules).map((name) => [
    name.replace(/^typescript\//, '@typescript-eslint/'),
    /** @type {const} */ ('off'),
  ]),
);

export default tseslint.config(
  {
    ignores: [
      'dist',
      'docs/api',
      'examples',
      'node_modules',
      'test/output',
      '*.js',
      'test/rig/eslint',
      'display/vnc/page',
    ],
  },
  ...tseslint.configs.strictTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true } },
    plugins: { 'import-x': importX, own: { rules: { 'no-import-cycle': noImportCycle } } },
    rules: {
      'import-x/no-restricted-paths': ['error', { zones: [...zones, ...top, ...alone] }],
      'own/no-import-cycle': 'error',
      'no-restricted-imports': ['error', { paths: [{ name: 'koffi', message: 'Only src/sys speaks FFI.' }] }],
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-non-null-assertion': 'off',
      // What lasts until the end of the block need not be named in it.
      '@typescript-eslint/no-unused-vars': ['error', { ignoreUsingDeclarations: true }],
      ...elsewhere,
    },
  },
  { files: ['src/sys/**'], rules: { 'no-restricted-imports': 'off' } },
  // The C code that benchmarks compare with.
  { files: ['test/bench/native.ts'], rules: { 'no-restricted-imports': 'off' } },
  // Mocks are handed to `expect` unbound.
  { files: ['test/**'], rules: { '@typescript-eslint/unbound-method': 'off' } },
  {
    files: ['test/**'],
    rules: {
      'no-restricted-syntax': [
        'error',
        {
          selector: "CallExpression[callee.name='once'] > Literal[value='exit']",
          message:
            "Wait for 'close': at 'exit' the pipes to the child may still be open, and a test that counts descriptors fails.",
        },
        {
          selector: "MemberExpression[object.name='vi'][property.name='waitFor']",
          message: "Use 'eventually': a busy machine does not keep a limit of a second.",
        },
      ],
    },
  },
  { files: ['test/rig/eventually.ts'], rules: { 'no-restricted-syntax': 'off' } },
);
