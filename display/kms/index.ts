/**
 * The monitors of this machine as outputs, without a desktop:
 *
 * ```ts
 * import { Bridge, VhostUserGuest } from 'scanout-bridge';
 * import { KmsDisplay } from 'scanout-bridge/kms';
 *
 * using guest = VhostUserGuest.open({ socket: '/tmp/gpu.sock' });
 * using display = KmsDisplay.open({ card: 'card0', log: (level, message) => console.error(level, message) });
 * using bridge = new Bridge(guest);
 * bridge.show(0, display.outputs[0]!);
 * ```
 *
 * A guest with input devices (`VhostUserInput`, given to the bridge) is operated with those of this machine after
 *
 * ```ts
 * using input = KmsInput.open({ displays: [display] });
 * ```
 *
 * @module
 */
export { KmsDisplay, type KmsOptions } from './display.ts';
export { KmsError, type KmsErrorCode } from './errors.ts';
export { type DeviceName, type KeyChord, KmsInput, type KmsInputOptions } from './input.ts';
export type { CursorChoice } from './output.ts';
export type { WantedMode } from './resources.ts';
export {
  type KmsCard,
  type LoginSeat,
  type LoginSeatListener,
  openLibseatSeat,
  PlainSeat,
  type SeatFile,
} from './seat.ts';
