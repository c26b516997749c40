import { KmsDisplay } from '../../display/kms/display.ts';

/**
 * Child process of a KMS test. Takes a card's screens (black), prints their number, and throws when
 * anything arrives on stdin; the parent then checks what is on screen.
 */
const display = KmsDisplay.open({ card: process.argv[2]!, log: () => undefined });
process.stdout.write(`${display.outputs.length}\n`);
process.stdin.once('data', () => {
  throw new Error('told to fail');
});
