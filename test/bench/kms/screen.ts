import { PLANE_PROPERTIES, planeObject } from '../../../display/kms/atomic.ts';
import { KmsDevice } from '../../../display/kms/device.ts';
import { KmsOutput } from '../../../display/kms/output.ts';
import { type Mode, type Pipe, Properties, readMode, readResources } from '../../../display/kms/resources.ts';
import { drm_mode_modeinfo, DRM_MODE_OBJECT_PLANE } from '../../../protocols/drm-mode.ts';
import { DRM_IOCTL_DROP_MASTER, DRM_IOCTL_SET_MASTER } from '../../../protocols/drm.ts';
import type { Size } from '../../../src/core/geometry.ts';
import type { Output } from '../../../src/core/output.ts';
import { DisposableStack } from '../../../src/sys/disposable-stack.ts';
import { firstPipe, vkmsCard } from '../../kernel/kms-rig.ts';

const REFRESH_HZ = 60;

/** The properties that a commit sets of one plane, for a loop of bare ioctls to repeat. */
export interface PlaneState {
  readonly plane: number;
  readonly fbProperty: number;
  readonly fb: number;
  /** Ids and values of all other properties. */
  readonly rest: readonly (readonly [property: number, value: number])[];
}

/** Everything a bare loop needs to flip like the previous frame. */
export interface Flipped {
  readonly card: string;
  readonly state: PlaneState;
  readonly fbs: readonly number[];
}

/** A monitor of vkms in a mode of our choice. No other benchmark code uses display/kms. */
export class BenchScreen implements Disposable {
  readonly card = vkmsCard()!;
  readonly output: Output;
  readonly #device: KmsDevice;
  readonly #pipe: Pipe;
  readonly #stack: DisposableStack;

  constructor(size: Size, refreshHz = REFRESH_HZ) {
    using stack = new DisposableStack();
    this.#device = stack.use(KmsDevice.open(this.card));
    this.#pipe = firstPipe(this.#device).pipe;
    const { connector, primary, cursor, overlay } = this.#pipe;
    const planes = [primary, cursor, overlay].filter((plane) => plane !== null);
    const { writebacks } = readResources(this.#device);
    const options = { connector, planes, writebacks, background: 0, log: (): void => undefined };
    const output = stack.use(new KmsOutput(this.#device, options));
    output.enable(connector, this.#pipe, [newMode(size, refreshHz)]);
    this.output = output;
    this.#stack = stack.move();
  }

  /** Id of the connector, for modetest. */
  get connector(): number {
    return this.#pipe.connector.id;
  }

  /** The primary plane as the last frame left it. Nothing may be in flight. */
  get planeState(): PlaneState {
    const { id, properties } = planeObject(this.#pipe.primary);
    const now = Properties.read(this.#device, id, DRM_MODE_OBJECT_PLANE);
    const names = [...PLANE_PROPERTIES, 'FB_DAMAGE_CLIPS'];
    const rest = names.slice(1).map((name) => [now.id(name) as number, now.value(name)] as const);
    return {
      plane: id,
      fbProperty: now.id('FB_ID'),
      fb: now.value('FB_ID'),
      rest: rest.filter(([property]) => properties.some((each) => each === property)),
    };
  }

  /** Gives up DRM master while `use` runs, so that another open file of the card can take it. The screen stays as it is. */
  async lend<T>(use: () => T | Promise<T>): Promise<T> {
    this.#device.ioctl(DRM_IOCTL_DROP_MASTER, 'DRM_IOCTL_DROP_MASTER', 0);
    try {
      return await use();
    } finally {
      this.#device.ioctl(DRM_IOCTL_SET_MASTER, 'DRM_IOCTL_SET_MASTER', 0);
    }
  }

  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }
}

/** A mode with little blanking; vkms accepts any timing. */
function newMode({ width, height }: Size, refreshHz: number): Mode {
  const htotal = width + 80;
  const vtotal = height + 20;
  const timing = {
    hdisplay: width,
    hsync_start: width + 16,
    hsync_end: width + 48,
    htotal,
    vdisplay: height,
    vsync_start: height + 4,
    vsync_end: height + 8,
    vtotal,
  };
  return readMode(
    drm_mode_modeinfo.encode({
      ...timing,
      clock: Math.round((htotal * vtotal * refreshHz) / 1000),
      vrefresh: refreshHz,
    }),
  );
}
