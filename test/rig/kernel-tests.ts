/**
 * `npm run test:kernel`: runs test/kernel in a VM whose kernel has a real udmabuf and a real KMS
 * device (vkms). Arguments go to vitest: `npm run test:kernel -- udmabuf -t seals`.
 *
 * Afterwards test/output has the log and the pictures of failed tests.
 */
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { COUNTS_FILE } from './counts.ts';
import { skipWithoutGuest } from './guest-image.ts';
import { bootKernelVm, missingVkms, output } from './kernel-vm.ts';
import { skipBecause } from './skip.ts';

const LIMIT_MS = 25 * 60_000;
const log = join(output, 'kernel.log');

if (!skipWithoutGuest() && !skipWithoutVkms()) process.exitCode = (await runInGuest(process.argv.slice(2))) ? 0 : 1;

function skipWithoutVkms(): boolean {
  const missing = missingVkms();
  if (missing === null) return false;
  return skipBecause(`no kernel tests: ${missing}`);
}

/** Resolves with true if all tests passed; otherwise prints the guest's log. */
async function runInGuest(args: readonly string[]): Promise<boolean> {
  rmSync(log, { force: true });
  try {
    await using guest = await bootKernelVm();
    await guest.run(
      `${environment()} node_modules/.bin/vitest run --configLoader runner --no-cache --project kernel ${args.map(quote).join(' ')} >${log} 2>&1`,
      LIMIT_MS,
    );
    return true;
  } catch (error) {
    console.error((error as Error).message);
    return false;
  } finally {
    if (existsSync(log)) process.stdout.write(readFileSync(log));
  }
}

/** Shell assignments of the variables that decide how tests run and where their counts go. */
function environment(): string {
  return ['CI', COUNTS_FILE]
    .flatMap((name) => (process.env[name] === undefined ? [] : [`${name}=${quote(process.env[name])}`]))
    .join(' ');
}

function quote(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}
