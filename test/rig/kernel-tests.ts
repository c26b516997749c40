/**
 * `npm run test:kernel`: runs test/kernel in a VM whose kernel has a real udmabuf and a real KMS
 * device (vkms). Arguments go to vitest: `npm run test:kernel -- udmabuf -t seals`.
 *
 * Afterwards test/output has the log and the pictures of failed tests.
 */
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { bundleTests } from './bundle.ts';
import { COUNTS_FILE } from './counts.ts';
import { saveGuest } from './guest.ts';
import { LOGIN_MODULES, NESTED_MIB, skipWithoutGuest } from './guest-image.ts';
import { guestDraw } from './guest-pictures.ts';
import { bootKernelVm, missingVkms, output } from './kernel-vm.ts';
import { skipBecause } from './skip.ts';

/** Less than `npm test` gives them, which does not print the log that tells where they hang. */
const LIMIT_MS = 65 * 60_000;
// The log tells each test as it ends, so that it shows where a run hangs, and a run that is broken ends early: a failure
// counts for its test, the groups around it and its file. One worker for all files loads the modules once, which takes the
// emulated machine many seconds.
const VITEST =
  'node_modules/.bin/vitest run --configLoader runner --no-cache --project kernel --bail 20 --no-isolate --reporter verbose --reporter ./test/rig/summary-reporter.ts';
const log = join(output, 'kernel.log');
/** vitest.config.ts knows it, too. */
const BUNDLE = join(output, 'kernel-tests');

if (!skipWithoutGuest() && !skipWithoutVkms()) process.exitCode = (await runInGuest(process.argv.slice(2))) ? 0 : 1;

function skipWithoutVkms(): boolean {
  const missing = missingVkms();
  if (missing === null) return false;
  return skipBecause(`no kernel tests: ${missing}`);
}

/** Resolves with true if all tests passed; otherwise prints the guest's log. */
async function runInGuest(args: readonly string[]): Promise<boolean> {
  rmSync(log, { force: true });
  // Guests inside the guest, which would take most of a minute to boot there, and for which the cache folder is read-only.
  const nested = { memoryMiB: NESTED_MIB, patienceMs: LIMIT_MS };
  await saveGuest({ ...nested, gpu: { kind: 'none' }, programs: [guestDraw()], modules: ['bochs'] });
  await saveGuest({ ...nested, gpu: { kind: 'generic', socket: '' }, programs: [guestDraw()] });
  await saveGuest({ ...nested, gpu: { kind: 'generic', socket: '' }, programs: [], modules: LOGIN_MODULES });
  await bundleTests(join(import.meta.dirname, '../kernel'), BUNDLE);
  let failure: string | null = null;
  try {
    await using guest = await bootKernelVm();
    await guest.run(
      `KERNEL_TESTS=bundled ${environment()} ${VITEST} ${args.map(quote).join(' ')} >${log} 2>&1`,
      LIMIT_MS,
    );
  } catch (error) {
    failure = (error as Error).message;
  }
  if (existsSync(log)) process.stdout.write(readFileSync(log));
  if (failure !== null) console.error(withoutNoise(failure));
  return failure === null;
}

/** An error with the guest's console in it, which a busy machine fills with thousands of these lines. */
function withoutNoise(text: string): string {
  return text.replaceAll(/^.*vblank timer overrun\r?\n/gm, '');
}

/** Shell assignments of the variables that decide how tests run and where their counts go. */
function environment(): string {
  return ['CI', COUNTS_FILE, 'PLUG_CYCLES']
    .flatMap((name) => (process.env[name] === undefined ? [] : [`${name}=${quote(process.env[name])}`]))
    .join(' ');
}

function quote(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}
