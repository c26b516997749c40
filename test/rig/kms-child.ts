import { KmsDisplay } from '../../display/kms/display.ts';

/** Takes a card's screens (black), says so, and fails when told to: what is on screen then is for the parent to see. */
const display = KmsDisplay.open({ card: process.argv[2]!, log: () => undefined });
process.stdout.write(`${display.outputs.length}\n`);
process.stdin.once('data', () => {
  throw new Error('told to fail');
});
