/**
 * Rejects an import from which the importing file can be reached again. import-x/no-cycle leaves
 * out `import type`, and files that know each other by type only are a circle all the same: neither
 * can be read, moved or tested without the other.
 */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';

const IMPORT = /^(?:import|export)\b[^;]*?\bfrom\s+'(\.[^']+)'|\bimport\(\s*'(\.[^']+)'\s*\)|^import\s+'(\.[^']+)'/gm;

/** @type {Map<string, { mtimeMs: number, imports: string[] }>} */
const known = new Map();

/** The files that a file imports, by path. Read again when the file has changed. @param {string} path */
function importsOf(path) {
  const { mtimeMs } = statSync(path);
  const entry = known.get(path);
  if (entry?.mtimeMs === mtimeMs) return entry.imports;
  const specifiers = [...readFileSync(path, 'utf8').matchAll(IMPORT)].map(
    ([, from, dynamic, bare]) => from ?? dynamic ?? bare,
  );
  const imports = specifiers
    .map((specifier) => join(dirname(path), /** @type {string} */ (specifier)))
    .filter((file) => existsSync(file));
  known.set(path, { mtimeMs, imports });
  return imports;
}

/** The shortest way along imports, both ends included; null if there is none. @param {string} start @param {string} end */
function route(start, end) {
  /** @type {Map<string, string | null>} */
  const from = new Map([[start, null]]);
  for (const path of from.keys()) {
    if (path === end) {
      const way = [path];
      for (let at = from.get(path); at; at = from.get(at)) way.unshift(at);
      return way;
    }
    for (const next of importsOf(path)) if (!from.has(next)) from.set(next, path);
  }
  return null;
}

/** @type {import('eslint').Rule.RuleModule} */
export const noImportCycle = {
  meta: { type: 'problem', schema: [], messages: { cycle: 'Import circle: {{route}}' } },
  create(context) {
    const file = context.filename;
    /** @param {any} node */
    const check = (node) => {
      const specifier = node.source?.value;
      if (typeof specifier !== 'string' || !specifier.startsWith('.')) return;
      const target = join(dirname(file), specifier);
      const way = existsSync(target) ? route(target, file) : null;
      if (!way) return;
      const names = [file, ...way].map((path) => relative(context.cwd, path));
      context.report({ node, messageId: 'cycle', data: { route: names.join(' -> ') } });
    };
    return {
      ImportDeclaration: check,
      ExportNamedDeclaration: check,
      ExportAllDeclaration: check,
      ImportExpression: check,
    };
  },
};
