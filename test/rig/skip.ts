import { spawnSync } from 'node:child_process';

/**
 * For `describe.skipIf`, when a test lacks something on this machine: prints the reason and returns
 * true. Under CI=true nothing is skipped, so it throws.
 */
export function skipBecause(reason: string): true {
  if (process.env['CI'] === 'true') throw new Error(reason);
  console.warn(`skipped: ${reason}`);
  return true;
}

/** As `skipBecause`, if a program is not on PATH; false if it is. */
export function skipWithoutProgram(name: string): boolean {
  if (spawnSync(name, ['--version']).error === undefined) return false;
  return skipBecause(`${name} is not installed: run sh test/rig/install.sh as root`);
}
