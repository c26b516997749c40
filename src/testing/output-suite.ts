/**
 * The contract of `Output` as tests, for the outputs of this package and for your own. Runs in any
 * runner that has `describe` and `test`:
 *
 *     import { describe, test } from 'vitest';
 *     import { outputSuite } from 'scanout-bridge/testing/output-suite';
 *
 *     outputSuite('MyOutput', { describe, test }, () => ({ output: MyOutput.open() }));
 *
 * Every case opens an output of its own and disposes it.
 */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { Damage } from '../core/damage.ts';
import type { Framebuffer } from '../core/framebuffer.ts';
import type { Size } from '../core/geometry.ts';
import type { Monitor } from '../core/monitor.ts';
import {
  type AttachOptions,
  DmabufImportRefused,
  type Frame,
  type Handle,
  type Output,
  type Presentation,
  PresentedFlags,
  type ScreenListener,
} from '../core/output.ts';
import { monotonicMs } from '../sys/clock.ts';
import type { BorrowedFd } from '../sys/fd.ts';

/** The part of a test runner that the suite uses. */
export interface TestRunner {
  readonly describe: (name: string, body: () => void) => unknown;
  readonly test: (name: string, body: () => Promise<void>) => unknown;
}

/** What a rig can do. A case that needs more is left out of the suite. */
export type Capability = 'import' | 'refuse' | 'fail-import' | 'hide' | 'unplug' | 'lose' | 'fence';

/** One output under test, with control of its environment. */
export interface OutputRig {
  readonly output: Output;
  /** Size of the pictures shown; default 64x48. */
  readonly size?: Size;
  /**
   * Lets the environment make progress: the next vertical blank of a fake clock, a repaint of a fake
   * compositor. Called until what a case waits for has happened. Absent if that happens by itself.
   */
  readonly step?: () => void | Promise<void>;
  /** `import`: a framebuffer that the output imports, which the rig owns. */
  readonly framebuffer?: () => Framebuffer;
  /** `refuse`: a framebuffer that the output refuses for good. */
  readonly refused?: () => Framebuffer;
  /** Whether the screen shows no picture. */
  readonly isDark?: () => boolean | Promise<boolean>;
  /** `hide`: from now on the screen is not visible (covered, minimised). */
  readonly hide?: () => void | Promise<void>;
  /** `unplug`: pulls the monitor's cable; `plug` puts it back. */
  readonly unplug?: () => void | Promise<void>;
  readonly plug?: () => void | Promise<void>;
  /** `lose`: takes the screen away for good. */
  readonly lose?: () => void | Promise<void>;
  /** `fail-import`, with `import`: makes the next import fail after `import` has returned. */
  readonly failImport?: () => void;
  /** `fence`, with `import`: a sync_file, owned by the rig, that signals when `signal` is called. */
  readonly fence?: () => { readonly fd: BorrowedFd; signal(): void };
  /** Disposes the rig, after the output. */
  readonly close?: () => void | Promise<void>;
}

export type Open = () => OutputRig | Promise<OutputRig>;

const DEFAULT_SIZE: Size = { width: 64, height: 48 };
/** Between two looks at a screen that changes by itself; no event tells when a detached output has let go. */
const POLL_MS = 10;

/** Defines the suite's cases for outputs that `open` makes, with the cases for what they `can` do. */
export function outputSuite(
  name: string,
  { describe, test }: TestRunner,
  open: Open,
  can: readonly Capability[] = [],
): void {
  const run: Run = (title, body, ...needs) => {
    if (!needs.every((need) => can.includes(need))) return;
    test(`${name}: ${title}`, async () => {
      const rig = await open();
      try {
        await body(new Stage(rig));
      } finally {
        rig.output[Symbol.dispose]();
        await rig.close?.();
      }
    });
  };
  describe(`${name} keeps the contract of Output`, () => {
    presenting(run);
    holding(run);
    attaching(run);
    leaving(run);
    importing(run);
    vanishing(run);
    fencing(run);
  });
}

type Run = (title: string, body: (stage: Stage) => Promise<void>, ...needs: readonly Capability[]) => void;

function presenting(run: Run): void {
  run('presents each frame once, and never from inside present', async (stage) => {
    const listener = stage.attach();
    const handle = stage.shadow();
    for (let frame = 1; frame <= 3; frame++) {
      stage.present(handle);
      assert.equal(listener.presentedCount, frame - 1, 'presented was called from inside present');
      await stage.until(() => listener.presentedCount === frame);
    }
    await stage.rest();
    assert.equal(listener.presentedCount, 3);
  });

  run('refuses a frame while another is in flight, and without a listener', async (stage) => {
    const handle = stage.shadow();
    assert.throws(() => stage.present(handle));
    const listener = stage.attach();
    stage.present(handle);
    assert.throws(() => stage.present(handle));
    await stage.until(() => listener.presentedCount === 1);
  });

  run('takes a frame from inside presented', async (stage) => {
    const handle = stage.shadow();
    const listener = stage.attach();
    listener.onPresented = () => {
      if (listener.presentedCount < 4) stage.present(handle);
    };
    stage.present(handle);
    await stage.until(() => listener.presentedCount === 4);
  });

  run('knows no next vertical blank, or one that is at most a refresh away', async (stage) => {
    const { output } = stage;
    if (!output.nextBlank) return;
    const listener = stage.attach();
    stage.present(stage.shadow());
    await stage.until(() => listener.presentedCount === 1);
    const now = monotonicMs();
    const blank = output.nextBlank(now);
    const periodMs = 1e6 / (output.monitor?.refreshMhz ?? 60_000);
    assert(blank === 0 || (blank > now && blank <= now + periodMs + 0.001), `${blank} is not the next after ${now}`);
  });

  run('shows no picture for a frame without one', async (stage) => {
    const listener = stage.attach();
    await stage.show(listener, stage.shadow());
    await stage.show(listener, null);
    if (stage.rig.isDark) assert.equal(await stage.rig.isDark(), true);
  });

  run('counts a disposed handle as none', async (stage) => {
    const listener = stage.attach();
    await stage.show(listener, stage.shadow());
    const gone = stage.shadow();
    gone[Symbol.dispose]();
    await stage.show(listener, gone);
    assert.equal(gone.isHeld, false);
    if (stage.rig.isDark) assert.equal(await stage.rig.isDark(), true);
  });
}

function holding(run: Run): void {
  for (const kind of ['shadow', 'import'] as const) {
    run(
      `holds each ${kind} from present until it has left the screen`,
      async (stage) => {
        const listener = stage.attach();
        const [first, second] = [stage.handle(kind), stage.handle(kind)];
        assert.deepEqual([first.isHeld, second.isHeld], [false, false]);
        stage.present(first);
        assert.equal(first.isHeld, true);
        await stage.until(() => listener.presentedCount === 1);
        stage.present(second);
        assert.equal(second.isHeld, true);
        await stage.until(() => listener.presentedCount === 2 && !first.isHeld);
        await stage.until(() => listener.releases.includes(first));
        assert.deepEqual(listener.releasedWhileHeld, [], 'released was called while isHeld was true');
        await stage.show(listener, null);
        await stage.until(() => !second.isHeld);
        assert.equal(listener.releases.filter((handle) => handle === first).length, 1);
      },
      ...(kind === 'import' ? (['import'] as const) : []),
    );
  }

  run('releases no handle that is presented again', async (stage) => {
    const listener = stage.attach();
    const [first, second] = [stage.shadow(), stage.shadow()];
    await stage.show(listener, first);
    await stage.show(listener, second);
    await stage.until(() => !first.isHeld);
    stage.present(first);
    assert.equal(first.isHeld, true);
    await stage.until(() => listener.presentedCount === 3 && !second.isHeld);
    assert.deepEqual(listener.releasedWhileHeld, []);
  });

  run('keeps a handle that is disposed on screen until another frame replaces it', async (stage) => {
    const listener = stage.attach();
    const [first, second] = [stage.shadow(), stage.shadow()];
    await stage.show(listener, first);
    // An output that has copied the pixels no longer needs the buffer.
    const wasHeld = first.isHeld;
    first[Symbol.dispose]();
    assert.equal(first.isHeld, wasHeld);
    if (stage.rig.isDark) assert.equal(await stage.rig.isDark(), false);
    await stage.show(listener, second);
    await stage.until(() => !first.isHeld);
  });
}

function attaching(run: Run): void {
  run('has one listener at a time', async (stage) => {
    const listener = stage.attach();
    assert.throws(() => stage.output.attach(new Listener()));
    listener.detach();
    listener.detach();
    await stage.show(stage.attach(), stage.shadow());
  });

  run('calls nothing from inside attach and detach', async (stage) => {
    const listener = stage.attach();
    assert.deepEqual(listener.events, []);
    await stage.show(listener, stage.shadow());
    const before = listener.events.length;
    listener.detach();
    assert.equal(listener.events.length, before);
    await stage.rest();
    assert.equal(listener.events.length, before);
  });

  run('lets a listener detach from inside released', async (stage) => {
    const listener = stage.attach();
    await stage.show(listener, stage.shadow());
    let isDetached = false;
    listener.onReleased = () => {
      listener.detach();
      isDetached = true;
    };
    stage.present(stage.shadow());
    await stage.until(() => isDetached || listener.presentedCount === 2);
    await stage.until(() => isDetached);
    const before = listener.events.length;
    await stage.rest();
    assert.equal(listener.events.length, before);
  });

  run('tells a listener that attaches again from inside released nothing of its earlier frame', async (stage) => {
    const listener = stage.attach();
    await stage.show(listener, stage.shadow());
    let before = 0;
    listener.onReleased = () => {
      if (before > 0) return;
      before = listener.presentedCount;
      listener.detach();
      listener.attach(stage.output);
    };
    stage.present(stage.shadow());
    await stage.until(() => before > 0);
    await stage.rest();
    assert.equal(listener.presentedCount, before);
    await stage.show(listener, stage.shadow());
  });

  run('lets a listener dispose the output from inside presented', async (stage) => {
    const listener = stage.attach();
    const handle = stage.shadow();
    listener.onPresented = () => stage.output[Symbol.dispose]();
    stage.present(handle);
    await stage.until(() => listener.presentedCount === 1);
    const before = listener.events.length;
    await stage.rest();
    assert.equal(listener.events.length, before);
    handle[Symbol.dispose]();
  });
}

function leaving(run: Run): void {
  run('turns dark when its listener detaches, and holds nothing then', async (stage) => {
    const listener = stage.attach();
    const handle = stage.shadow();
    await stage.show(listener, handle);
    listener.detach();
    await stage.until(() => !handle.isHeld);
    if (stage.rig.isDark) await stage.until(stage.rig.isDark);
  });

  run('settles the frame in flight when its listener detaches, and tells no one', async (stage) => {
    const listener = stage.attach();
    const [shown, inFlight] = [stage.shadow(), stage.shadow()];
    await stage.show(listener, shown);
    stage.present(inFlight);
    const before = listener.events.length;
    listener.detach();
    await stage.until(() => !shown.isHeld && !inFlight.isHeld);
    await stage.rest();
    assert.equal(listener.events.length, before);
  });

  run('may be attached at once with a frame of the listener before in flight', async (stage) => {
    const first = stage.attach();
    const [old, next] = [stage.shadow(), stage.shadow()];
    stage.present(old);
    first.detach();
    const second = stage.attach();
    stage.present(next);
    await stage.until(() => second.presentedCount === 1);
    await stage.until(() => !old.isHeld);
    await stage.rest();
    assert.deepEqual([first.presentedCount, second.presentedCount], [0, 1]);
    // An output that has copied the pixels releases `next` as soon as it is shown.
    assert.deepEqual(
      second.releases.filter((handle) => handle !== old && handle.isHeld),
      [],
    );
    if (stage.rig.isDark) assert.equal(await stage.rig.isDark(), false);
  });

  run('with keepLast keeps the last picture until the next listener presents', async (stage) => {
    const first = stage.attach({ keepLast: true });
    const [last, next] = [stage.shadow(), stage.shadow()];
    await stage.show(first, last);
    first.detach();
    last[Symbol.dispose]();
    await stage.rest();
    if (stage.rig.isDark) assert.equal(await stage.rig.isDark(), false);
    await stage.show(stage.attach(), next);
    await stage.until(() => !last.isHeld);
  });

  run('with keepLast keeps a picture that was still in flight', async (stage) => {
    const first = stage.attach({ keepLast: true });
    const last = stage.shadow();
    stage.present(last);
    first.detach();
    last[Symbol.dispose]();
    const { isDark } = stage.rig;
    if (isDark) await stage.until(async () => !(await isDark()));
    const second = stage.attach();
    await stage.show(second, null);
    await stage.until(() => !last.isHeld);
  });
}

function importing(run: Run): void {
  run(
    'refuses what it does not import with a lasting reason',
    async (stage) => {
      const answer = stage.output.import(stage.rig.refused!());
      assert.ok(answer instanceof DmabufImportRefused);
      assert.equal(answer.isLasting, true);
      await stage.show(stage.attach(), stage.shadow());
    },
    'refuse',
  );

  run(
    'says so when an import fails later, and completes the frame that waited for it',
    async (stage) => {
      const listener = stage.attach();
      stage.rig.failImport!();
      stage.present(stage.handle('import'));
      await stage.until(() => listener.importsChangedCount > 0);
      await stage.until(() => listener.presentedCount === 1);
      await stage.show(listener, stage.shadow());
    },
    'import',
    'fail-import',
  );
}

function vanishing(run: Run): void {
  run(
    'completes frames by a timer while it is hidden',
    async (stage) => {
      const listener = stage.attach();
      await stage.show(listener, stage.shadow());
      await stage.rig.hide!();
      stage.present(stage.shadow());
      await stage.until(() => listener.presentedCount === 2);
      assert.equal((listener.flags & PresentedFlags.HIDDEN) !== 0, true);
    },
    'hide',
  );

  run(
    'completes frames while unplugged, and shows the newest on the next monitor',
    async (stage) => {
      const listener = stage.attach();
      await stage.show(listener, stage.shadow());
      await stage.rig.unplug!();
      await stage.until(() => listener.monitors.at(-1) === null);
      assert.equal(stage.output.monitor, null);
      assert.equal(stage.output.takesFences, false);
      stage.present(stage.shadow());
      await stage.until(() => listener.presentedCount === 2);
      assert.equal((listener.flags & PresentedFlags.HIDDEN) !== 0, true);
      await stage.rig.plug!();
      await stage.until(() => listener.monitors.at(-1) !== null);
      assert.notEqual(stage.output.monitor, null);
      if (stage.rig.isDark) assert.equal(await stage.rig.isDark(), false);
    },
    'unplug',
  );

  run(
    'says once that it is lost, and nothing after it',
    async (stage) => {
      const listener = stage.attach();
      await stage.show(listener, stage.shadow());
      stage.present(stage.shadow());
      await stage.rig.lose!();
      await stage.until(() => listener.events.includes('closed'));
      assert.equal(listener.events.at(-1), 'closed');
      listener.detach();
      await stage.rest();
      assert.equal(listener.events.filter((event) => event === 'closed').length, 1);
    },
    'lose',
  );
}

function fencing(run: Run): void {
  run(
    'shows no frame before its acquire fence has signalled',
    async (stage) => {
      const listener = stage.attach();
      await stage.show(listener, stage.handle('import'));
      assert.equal(stage.output.takesFences, true);
      const fence = stage.rig.fence!();
      stage.present(stage.handle('import'), { acquire: fence.fd });
      await stage.rest();
      assert.equal(listener.presentedCount, 1);
      fence.signal();
      await stage.until(() => listener.presentedCount === 2);
    },
    'import',
    'fence',
  );
}

/** Records an output's events. */
class Listener implements ScreenListener {
  readonly scanout = 0;
  readonly input = null;
  readonly events: string[] = [];
  readonly releases: Handle[] = [];
  readonly releasedWhileHeld: Handle[] = [];
  readonly monitors: (Monitor | null)[] = [];
  presentedCount = 0;
  importsChangedCount = 0;
  flags = 0;
  onPresented: () => void = () => undefined;
  onReleased: () => void = () => undefined;
  #attachment: Disposable | null = null;

  attach(output: Output, options?: AttachOptions): void {
    this.#attachment = output.attach(this, options);
  }

  detach(): void {
    this.#attachment?.[Symbol.dispose]();
  }

  presented({ flags }: Presentation): void {
    this.events.push('presented');
    this.presentedCount++;
    this.flags = flags;
    this.onPresented();
  }

  released(handle: Handle): void {
    this.events.push('released');
    this.releases.push(handle);
    if (handle.isHeld) this.releasedWhileHeld.push(handle);
    this.onReleased();
  }

  resized(monitor: Monitor | null): void {
    this.events.push('resized');
    this.monitors.push(monitor);
  }

  importsChanged(): void {
    this.events.push('importsChanged');
    this.importsChangedCount++;
  }

  closed(): void {
    this.events.push('closed');
  }
}

/** One case's output, and what the case does with it. */
class Stage {
  readonly rig: OutputRig;
  readonly output: Output;
  readonly #size: Size;

  constructor(rig: OutputRig) {
    this.rig = rig;
    this.output = rig.output;
    this.#size = rig.size ?? DEFAULT_SIZE;
  }

  attach(options?: AttachOptions): Listener {
    const listener = new Listener();
    listener.attach(this.output, options);
    return listener;
  }

  shadow(): Handle {
    const { width, height } = this.#size;
    const shadow = this.output.createShadow(width, height, this.output.shadowFormats[0]!);
    shadow.beginWrite();
    shadow.pixels.bytes.fill(0xff);
    shadow.endWrite();
    return shadow;
  }

  handle(kind: 'shadow' | 'import'): Handle {
    if (kind === 'shadow') return this.shadow();
    const handle = this.output.import(this.rig.framebuffer!());
    if (handle instanceof DmabufImportRefused) throw handle;
    return handle;
  }

  present(handle: Handle | null, { acquire = null }: { acquire?: BorrowedFd | null } = {}): void {
    const { width, height } = this.#size;
    const whole = { x: 0, y: 0, width, height };
    const nowhere = { x: 0, y: 0, width: 0, height: 0 };
    const damage = new Damage();
    damage.addRect(whole);
    const frame: Frame = {
      canvas: { width, height },
      primary: { handle, src: whole, dst: whole },
      cursor: { handle: null, src: nowhere, dst: nowhere },
      hotspotX: 0,
      hotspotY: 0,
      isCursorNew: false,
      damage,
      acquire,
      release: null,
    };
    this.output.present(frame);
  }

  /** Presents a frame and waits until it is on screen. */
  async show(listener: Listener, handle: Handle | null): Promise<void> {
    const before = listener.presentedCount;
    this.present(handle);
    await this.until(() => listener.presentedCount > before);
  }

  /** Waits for `condition`, which is asked again after each step of the environment. The runner's timeout ends it. */
  async until(condition: () => boolean | Promise<boolean>): Promise<void> {
    while (!(await condition())) await this.#step();
  }

  /** Gives events that must not come a chance to. */
  async rest(): Promise<void> {
    for (let n = 0; n < 4; n++) await this.#step();
  }

  async #step(): Promise<void> {
    await this.rig.step?.();
    await sleep(this.rig.step ? 0 : POLL_MS);
  }
}
