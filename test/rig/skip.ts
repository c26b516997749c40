/**
 * For `describe.skipIf`, when a test lacks something on this machine: prints the reason and returns
 * true. Under CI=true nothing is skipped, so it throws.
 */
export function skipBecause(reason: string): true {
  if (process.env['CI'] === 'true') throw new Error(reason);
  console.warn(`skipped: ${reason}`);
  return true;
}
