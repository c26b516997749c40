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
import { expectSamePicture } from './picture.ts';

export interface OurGpuOptions extends Omit<VhostUserGuestOptions, 'socket' | 'log' | 'scanouts'> {
  /** One headless output each, on scanouts 0, 1, ...; one of 1280x800 unless told. */
  readonly sizes?: readonly (readonly [width: number, height: number])[];
  /** Instead of a new path to listen on. */
  readonly socket?: VhostUserGuestOptions['socket'];
}

/** All of our side of a guest, as the program in docs/library.md puts it together. */
export class OurGpu implements Disposable {
  /** Where it listens, for `bootGuest`, if it does. */
  readonly socket: string;
  readonly guest: VhostUserGuest;
  readonly bridge: Bridge;
  /** What was logged, `level: message`. */
  readonly log: string[] = [];
  readonly #outputs: HeadlessOutput[];
  readonly #displays: TestDisplay[];
  readonly #stack: DisposableStack;

  private constructor({ sizes = [[1280, 800]], socket, ...options }: OurGpuOptions, stack: DisposableStack) {
    const dir = mkdtempSync(join(tmpdir(), 'scanout-ours-'));
    stack.defer(() => rmSync(dir, { recursive: true, force: true }));
    const log = (level: string, message: string) => void this.log.push(`${level}: ${message}`);
    this.socket = join(dir, 'socket');
    this.guest = stack.use(VhostUserGuest.open({ ...options, socket: socket ?? this.socket, scanouts: sizes.length, log }));
    this.#outputs = sizes.map(([width, height], index) => stack.use(HeadlessOutput.open({ width, height, name: `headless-${index}` })));
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

  /** On scanout 0. */
  get output(): HeadlessOutput {
    return this.outputs[0]!;
  }

  /** What a test sees of each output. */
  get displays(): readonly TestDisplay[] {
    return this.#displays;
  }

  /** Of scanout 0. */
  get display(): TestDisplay {
    return this.displays[0]!;
  }

  /** Another monitor in place of what scanout 0 has; QEMU's guest hears of it when its driver starts. */
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
    return createDisplay({ bridge: this.bridge, output, scanout: index, input: null, videoSeconds: 0, end: new AbortController(), owned: new DisposableStack() });
  }
}

/** Ends the driver of the guest's GPU, does `between` and starts it anew. */
export async function rebindDriver(guest: Guest, between: () => void | Promise<void> = () => undefined): Promise<void> {
  await guest.run('cd /sys/bus/virtio/drivers/virtio_gpu; device=$(echo virtio*); echo $device >unbind');
  await between();
  await guest.run('echo $device >bind; cd /');
}

/** The display shows the picture now or in a later frame; throws what `expectSamePicture` does of its last one if not. */
export async function expectShown(display: TestDisplay, expected: Picture, name: string, options?: { readonly cursor?: boolean }): Promise<void> {
  try {
    await display.waitForMatch(expected, options);
  } catch (error) {
    if (error instanceof DisplayError && error.picture) expectSamePicture(error.picture, expected, name);
    throw error;
  }
}

/** What is on screen once nothing more is on its way there. Rejects while the screen is dark. */
export async function settledPicture(output: HeadlessOutput, { cursor = false } = {}): Promise<Picture> {
  await output.settled();
  const picture = output.capture({ cursor });
  if (!picture) throw new Error(`${output.name} shows nothing`);
  return picture;
}

/** The first picture on screen, now or in any later frame, that is accepted; dark is null. */
export function shownWhen(output: HeadlessOutput, accept: (picture: Picture | null) => boolean, { cursor = false } = {}): Promise<Picture | null> {
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

/** As `shownWhen`, of a screen that is on. */
export async function pictureShownWhen(output: HeadlessOutput, accept: (picture: Picture) => boolean, options?: { cursor: boolean }): Promise<Picture> {
  return (await shownWhen(output, (picture) => picture !== null && accept(picture), options))!;
}

/** What this process has open and mapped. */
export function resources(): { fds: string[]; mappings: number } {
  return { fds: [...openFds()].map(([fd, what]) => `${fd} ${what}`), mappings: mappingCount() };
}

/** The same before any guest, with all open that Node and our libraries keep from their first use on. */
export async function resourcesBefore(): Promise<ReturnType<typeof resources>> {
  OurGpu.open()[Symbol.dispose]();
  await once(spawn('true'), 'close');
  return resources();
}
