import { join } from 'node:path';

/** The build, because a compiler takes a minute to load in an emulated machine. */
const DISPLAY = join(import.meta.dirname, '../../dist/display/kms/index.js');

/**
 * Node's arguments for the child process of a KMS test. It takes a card's screens (black), prints their number, and throws
 * when anything arrives on stdin; the parent then checks what is on screen.
 */
export function kmsChild(card: string): string[] {
  const program = `
    import { KmsDisplay } from ${JSON.stringify(DISPLAY)};
    const display = KmsDisplay.open({ card: process.argv[1], log: () => undefined });
    process.stdout.write(display.outputs.length + '\\n');
    process.stdin.once('data', () => {
      throw new Error('told to fail');
    });`;
  return ['--input-type=module', '--eval', program, card];
}
