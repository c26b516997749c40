/**
 * Shows a recorded guest on an output of your own.
 *
 *     node build/own-output.js RECORDING FOLDER
 */
import { Bridge, Replay } from 'scanout-bridge';
import { PpmOutput } from './ppm-output.js';

const [recording, folder] = process.argv.slice(2);
if (recording === undefined || folder === undefined) throw new Error('usage: own-output RECORDING FOLDER');

using guest = Replay.open({ file: recording, speed: 'fast' });
using output = new PpmOutput(folder, 1280, 800);
using bridge = new Bridge(guest);
bridge.show(0, output);
const { commands } = await guest.finished;
// Redraws are answered before they are on screen.
await bridge.settled();
console.log(`${commands} commands, ${output.frames} frames in ${folder}`);
