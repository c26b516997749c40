import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Bridge, HeadlessOutput, type Picture, VhostUserGuest, type VhostUserGuestOptions } from '../../src/index.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { mappingCount, openFds } from './process-resources.ts';
import { DisplayError } from '../../display/picture/errors.ts';
import { createDisplay, type TestDisplay } from '../../src/testing/open-display.ts';
import type { Guest } from './guest.ts';
import { expectSamePicture, isSamePicture } from './picture.ts';

/** Of a busy machine. */
const PATIENCE_MS = 60_000;

export interface OurGpuOptions extends Omit<VhostUserGuestOptions, 'socket' | 'log' | 'scanouts'> {
  /** Sizes of the headless outputs on scanouts 0, 1, ...; default: one of 1280x800. */
  readonly sizes?: readonly (readonly [width: number, height: number])[];
  /** Replaces the new path that it would listen on. */
  readonly socket?: VhostUserGuestOptions['socket'];
}

/** Our whole side of a guest, put together like the program in docs/library.md: GPU, bridge and headless outputs. */
export class OurGpu implements Disposable {
  /** Path it listens at, for `bootGuest`; unused with `OurGpuOptions.socket`. */
  readonly socket: string;
  readonly guest: VhostUserGuest;
  readonly bridge: Bridge;
  /** Log lines so far, as `level: message`. */
  readonly log: string[] = [];
  readonly #outputs: HeadlessOutput[];
  readonly #displays: TestDisplay[];
  readonly #stack: DisposableStack;

  private constructor({ sizes = [[1280, 800]], socket, ...options }: OurGpuOptions, stack: DisposableStack) {
    const dir = mkdtempSync(join(tmpdir(), 'scanout-ours-'));
    stack.defer(() => rmSync(dir, { recursive: true, force: true }));
    const log = (level: string, message: string) => void this.log.push(`${level}: ${message}`);
    this.socket = join(dir, 'socket');
    this.guest = stack.use(
      VhostUserGuest.open({ ...options, socket: socket ?? this.socket, scanouts: sizes.length, log }),
    );
    this.#outputs = sizes.map(([width, height], index) =>
      stack.use(HeadlessOutput.open({ width, height, name: `headless-${index}` })),
    );
    this.bridge = stack.use(new Bridge(this.guest, { log }));
    this.outputs.forEach((output, index) => this.bridge.show(index, output));
    this.#displays = this.outputs.map((output, index) => stack.use(this.#displayOf(output, index)));
    this.#stack = stack.move();
  }

  static open(options: OurGpuOptions = {}): OurGpu {
    using stack = new DisposableStack();
    return new OurGpu(options, stack);
  }

  get outputs(): readonly HeadlessOutput[] {
    return this.#outputs;
  }

  /** The output on scanout 0. */
  get output(): HeadlessOutput {
    return this.outputs[0]!;
  }

  /** A test's view of each output. */
  get displays(): readonly TestDisplay[] {
    return this.#displays;
  }

  /** A test's view of the output on scanout 0. */
  get display(): TestDisplay {
    return this.displays[0]!;
  }

  /** Replaces the monitor of scanout 0. With QEMU's vhost-user-gpu the guest notices only when its driver starts. */
  plug(width: number, height: number): HeadlessOutput {
    const output = this.#stack.use(HeadlessOutput.open({ width, height }));
    this.bridge.hide(this.output);
    this.bridge.show(0, output);
    this.#outputs[0] = output;
    this.#displays[0] = this.#stack.use(this.#displayOf(output, 0));
    return output;
  }

  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }

  #displayOf(output: HeadlessOutput, index: number): TestDisplay {
    return createDisplay({
      bridge: this.bridge,
      output,
      scanout: index,
      input: null,
      videoSeconds: 0,
      end: new AbortController(),
      owned: new DisposableStack(),
    });
  }
}

/** Unbinds the driver of the guest's GPU, calls `between`, and binds the driver again. */
export async function rebindDriver(guest: Guest, between: () => void | Promise<void> = () => undefined): Promise<void> {
  await guest.run('cd /sys/bus/virtio/drivers/virtio_gpu; device=$(echo virtio*); echo $device >unbind');
  await between();
  await guest.run('echo $device >bind; cd /');
}

/** Waits until the display shows the picture, now or in a later frame. If it does not, throws as `expectSamePicture` does for the last one. */
export async function expectShown(
  display: TestDisplay,
  expected: Picture,
  name: string,
  options?: { readonly cursor?: boolean },
): Promise<void> {
  try {
    await display.waitForMatch(expected, options);
  } catch (error) {
    if (error instanceof DisplayError && error.picture) expectSamePicture(error.picture, expected, name);
    throw error;
  }
}

/** The picture on screen once no frame is in flight. Rejects if the screen is off. */
export async function settledPicture(output: HeadlessOutput, { cursor = false } = {}): Promise<Picture> {
  await output.settled();
  const picture = output.capture({ cursor });
  if (!picture) throw new Error(`${output.name} shows nothing`);
  return picture;
}

/**
 * Waits until a screen shows the picture: what the guest has flushed may still be copied. If it does not, throws as
 * `expectSamePicture` does for the last one.
 */
export async function expectPicture(output: HeadlessOutput, expected: Picture, name: string): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const patience = new Promise<void>((resolve) => (timer = setTimeout(resolve, PATIENCE_MS)));
  await Promise.race([shownWhen(output, (picture) => picture !== null && isSamePicture(expected, picture)), patience]);
  clearTimeout(timer);
  expectSamePicture(await settledPicture(output), expected, name);
}

/** Resolves with the first picture, now or in a later frame, that is accepted. Null stands for a screen that is off. */
export function shownWhen(
  output: HeadlessOutput,
  accept: (picture: Picture | null) => boolean,
  { cursor = false } = {},
): Promise<Picture | null> {
  return new Promise((resolve, reject) => {
    const look = () => {
      try {
        const picture = output.capture({ cursor });
        if (!accept(picture)) return;
        resolve(picture);
      } catch (error) {
        reject(error instanceof Error ? error : new Error(String(error)));
      }
      stop();
    };
    const stop = output.onFrame(look);
    look();
  });
}

/** As `shownWhen`, ignoring moments when the screen is off. */
export async function pictureShownWhen(
  output: HeadlessOutput,
  accept: (picture: Picture) => boolean,
  options?: { cursor: boolean },
): Promise<Picture> {
  return (await shownWhen(output, (picture) => picture !== null && accept(picture), options))!;
}

/** Open descriptors and mappings of this process. */
export function resources(): { fds: string[]; mappings: number } {
  return { fds: [...openFds()].map(([fd, what]) => `${fd} ${what}`), mappings: mappingCount() };
}

/** As `resources`, after opening everything that Node and our libraries open at their first use and keep. */
export async function resourcesBefore(): Promise<ReturnType<typeof resources>> {
  OurGpu.open()[Symbol.dispose]();
  await once(spawn('true'), 'close');
  return resources();
}
