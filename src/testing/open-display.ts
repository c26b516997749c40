import { HeadlessOutput } from '../../display/headless/output.ts';
import { Bridge } from '../bridge/bridge.ts';
import { UsageError } from '../core/errors.ts';
import type { Size } from '../core/geometry.ts';
import type { GuestInput } from '../core/input.ts';
import { scanoutId, type ScanoutId, type Source } from '../core/source.ts';
import { openReplay, type Replay } from '../guest/replay/replay.ts';
import { VhostUserGuest } from '../guest/vhost-user/guest.ts';
import { DisposableStack } from '../sys/disposable-stack.ts';
import { LaunchedGuest } from './launched-guest.ts';
import { TestDisplay } from './test-display.ts';

const DEFAULT_SIZE: Size = { width: 1280, height: 800 };
const VHOST_USER = 'vhost-user:';

export interface DisplayOptions {
  /**
   * A recording's path (`*.scanout`, played as fast as it goes), `vhost-user:SOCKET` to listen for a VMM of the
   * caller's, or a guest that is the caller's and stays so.
   */
  readonly guest: string | LaunchedGuest | Source;
  /** The monitor the guest is offered, in pixels; default: the recording's, else 1280x800. A launched guest has one already. */
  readonly size?: Size;
  /** Which of the guest's monitors, from 0. Default 0. */
  readonly scanout?: number;
  /** The guest's input devices, where they are not those of a launched guest: `VhostUserInput`'s `sink`. */
  readonly input?: GuestInput;
  /** Keeps so many seconds of what is shown for `video`, and for the report of a failure. Default 0. */
  readonly video?: number;
}

/**
 * A display for a test, with a guest on it:
 *
 *     using display = openDisplay({ guest: 'fixtures/console-boot.scanout' });
 *     const picture = await display.waitForStable();
 *
 * Disposing it disposes what it opened, not what it was given. UsageError for options that cannot be, RecordingError,
 * SysError for a socket that cannot be had.
 */
export function openDisplay(options: DisplayOptions): TestDisplay {
  const { guest, scanout = 0 } = options;
  using owned = new DisposableStack();
  if (guest instanceof LaunchedGuest) return displayOf(guest, options, owned);
  const replay = typeof guest === 'string' && !guest.startsWith(VHOST_USER) ? owned.use(openRecording(guest)) : null;
  const source = replay ?? (typeof guest === 'string' ? owned.use(listenFor(guest, scanout)) : guest);
  const id = checkedScanout(scanout, source.scanouts);
  const output = owned.use(HeadlessOutput.open({ ...(options.size ?? replay?.monitors.get(id) ?? DEFAULT_SIZE), name: 'test display' }));
  const input = options.input ?? null;
  const bridge = owned.use(new Bridge(source, input ? { input } : {}));
  bridge.show(id, output);
  const display = new TestDisplay({ bridge, output, scanout: id, input, videoSeconds: options.video ?? 0, owned: owned.move() });
  replay?.finished.catch((cause: unknown) => display.lost(`the recording cannot be played to its end: ${cause instanceof Error ? cause.message : String(cause)}`, cause));
  return display;
}

/** The display of a guest that has its monitor already. */
function displayOf(guest: LaunchedGuest, { size, scanout = 0, input, video = 0 }: DisplayOptions, owned: DisposableStack): TestDisplay {
  const { bridge, output } = guest;
  const { width, height } = output.monitor;
  if (size && (size.width !== width || size.height !== height)) throw new UsageError(`openDisplay: the guest was launched with a monitor of ${width}x${height}, give launchGuest the size: QEMU's guest hears of monitors when its driver starts`);
  if (input) throw new UsageError('openDisplay: a launched guest has its own input devices; leave `input` out');
  const display = new TestDisplay({ bridge, output, scanout: checkedScanout(scanout, 1), input: guest.input, videoSeconds: video, owned: owned.move() });
  void guest.exited.then(() => display.lost(`the guest is gone: ${guest.obituary}`));
  return display;
}

function openRecording(file: string): Replay {
  if (!file.endsWith('.scanout')) throw new UsageError(`openDisplay: '${file}' is no guest: give a recording (*.scanout), vhost-user:SOCKET, or what launchGuest gave you`);
  return openReplay({ file, speed: 'fast' });
}

function listenFor(guest: string, scanout: number): VhostUserGuest {
  return VhostUserGuest.open({ socket: guest.slice(VHOST_USER.length), scanouts: scanout + 1 });
}

function checkedScanout(index: number, count: number): ScanoutId {
  if (!Number.isInteger(index) || index < 0 || index >= count) throw new UsageError(`openDisplay: scanout ${index} of a guest with ${count}; they count from 0`);
  return scanoutId(index);
}
