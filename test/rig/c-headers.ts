/**
 * Asks the C compiler for sizes, offsets and constants of the installed headers, so that tests can
 * compare our definitions with them.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Struct } from '../../protocols/layout.ts';
import { skipBecause } from './skip.ts';

export interface HeaderRow {
  /** Header names as in `#include <…>`, included in this order. */
  readonly headers: readonly string[];
  /** Structs to compare. Their names and field names are those of the C definition. */
  readonly structs?: readonly Struct<any>[]; // eslint-disable-line @typescript-eslint/no-explicit-any
  /** C name -> our value. */
  readonly constants?: Readonly<Record<string, number | bigint>>;
  /** C names that some supported header versions lack: their absence is not a failure. */
  readonly newer?: readonly string[];
  readonly cflags?: readonly string[];
}

export interface HeaderComparison {
  /** One line per difference: `EXPRESSION: ours N, header N`. */
  readonly differences: string[];
  /** Names that this machine's headers do not define. */
  readonly absent: string[];
  /** Number of sizes, offsets and constants that were compared. */
  readonly compared: number;
}

function inFreshDirectory<T>(use: (directory: string) => T): T {
  const directory = mkdtempSync(join(tmpdir(), 'c-headers-'));
  try {
    return use(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** Compiles and runs a C program; returns its standard output. `link` has linker options, placed after the source. */
export function runC(source: string, cflags: readonly string[] = [], link: readonly string[] = []): string {
  return inFreshDirectory((directory) => {
    const file = join(directory, 'program.c');
    const program = join(directory, 'program');
    writeFileSync(file, source);
    execFileSync('cc', ['-w', ...cflags, '-o', program, file, ...link], { stdio: ['ignore', 'ignore', 'pipe'] });
    return execFileSync(program, { encoding: 'utf8' });
  });
}

function includes(headers: readonly string[]): string {
  return headers.map((header) => `#include <${header}>\n`).join('');
}

/** Returns the preprocessed headers, with macro definitions kept. */
export function preprocess(headers: readonly string[], cflags: readonly string[] = []): string {
  return inFreshDirectory((directory) => {
    const file = join(directory, 'headers.c');
    writeFileSync(file, includes(headers));
    return execFileSync('cc', ['-E', '-dD', ...cflags, file], {
      encoding: 'utf8',
      maxBuffer: 64 << 20,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  });
}

/** True if the compiler finds `header`. */
export function hasHeader(header: string, cflags: readonly string[] = []): boolean {
  try {
    preprocess([header], cflags);
    return true;
  } catch {
    return false;
  }
}

/** As `skipBecause`, if the C compiler or one of these headers is missing; false if none is. */
export function skipWithoutC(headers: readonly string[] = ['stdio.h'], cflags: readonly string[] = []): boolean {
  if (headers.every((header) => hasHeader(header, cflags))) return false;
  return skipBecause(`no C compiler, or no ${headers.join(', ')}: run sh test/rig/install.sh as root`);
}

/** Evaluates C integer expressions as unsigned 64-bit numbers. */
export function evaluate(
  headers: readonly string[],
  expressions: readonly string[],
  cflags: readonly string[] = [],
): bigint[] {
  const prints = expressions
    .map((expression) => `  printf("%llu\\n", (unsigned long long)(${expression}));\n`)
    .join('');
  const source = `#include <stddef.h>\n#include <stdio.h>\n${includes(headers)}int main(void) {\n${prints}  return 0;\n}\n`;
  return runC(source, cflags).split('\n').slice(0, expressions.length).map(BigInt);
}

/** Compares the size of each struct, the offset and size of each field, and each constant with the installed headers. */
export function compareWithHeaders(row: HeaderRow): HeaderComparison {
  const known = new Set(preprocess(row.headers, row.cflags).match(/\w+/g));
  const absent: string[] = [];
  const checks: { expression: string; ours: bigint }[] = [];

  for (const struct of row.structs ?? []) {
    const cType = `struct ${struct.name}`;
    if (!known.has(struct.name)) {
      absent.push(cType);
      continue;
    }
    // A struct that has grown since.
    const newer = Object.keys(struct.field).filter((name) => !known.has(name));
    absent.push(...newer.map((name) => `${cType}.${name}`));
    if (newer.length === 0) checks.push({ expression: `sizeof(${cType})`, ours: BigInt(struct.size) });
    for (const [name, type] of Object.entries(struct.field)) {
      if (newer.includes(name)) continue;
      checks.push({ expression: `offsetof(${cType}, ${name})`, ours: BigInt(struct.offset[name] as number) });
      checks.push({ expression: `sizeof(((${cType} *)0)->${name})`, ours: BigInt((type as { size: number }).size) });
    }
  }
  for (const [name, ours] of Object.entries(row.constants ?? {})) {
    if (known.has(name)) checks.push({ expression: name, ours: BigInt.asUintN(64, BigInt(ours)) });
    else absent.push(name);
  }

  const theirs = evaluate(
    row.headers,
    checks.map((check) => check.expression),
    row.cflags,
  );
  const differences = checks.flatMap(({ expression, ours }, i) =>
    theirs[i] === ours ? [] : [`${expression}: ours ${ours.toString()}, header ${String(theirs[i])}`],
  );
  return { differences, absent, compared: checks.length };
}

/** Restores the C names of a table whose keys leave out their common prefix: `{ A: 1 }` and `X_` give `{ X_A: 1 }`. */
export function prefixed<V>(prefix: string, table: Readonly<Record<string, V>>): Record<string, V> {
  return Object.fromEntries(Object.entries(table).map(([name, value]) => [prefix + name, value]));
}
