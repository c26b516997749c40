import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach } from 'vitest';
import { ExportDisplay, type ExportOptions } from '../../../../display/export/display.ts';
import { EXPORT_EVENT } from '../../../../protocols/export.ts';
import { MemoryBudget } from '../../../../src/core/budget.ts';
import { Damage } from '../../../../src/core/damage.ts';
import type { Frame, Handle, Output, ScreenListener } from '../../../../src/core/output.ts';
import { DisposableStack } from '../../../../src/sys/disposable-stack.ts';
import { RawConsumer } from './raw-consumer.ts';

/** A display and its consumers for a test; everything goes when the test ends. */
export class ExportRig {
  #stack = new DisposableStack();
  #directory = '';
  log: string[] = [];
  budget = new MemoryBudget(2 ** 30);

  constructor() {
    beforeEach(() => {
      this.#stack = new DisposableStack();
      this.#directory = mkdtempSync(join(tmpdir(), 'export-'));
      this.log = [];
      this.budget = new MemoryBudget(2 ** 30);
      this.#stack.defer(() => rmSync(this.#directory, { recursive: true }));
    });
    afterEach(() => this.#stack[Symbol.dispose]());
  }

  get path(): string {
    return join(this.#directory, 'export.sock');
  }

  get channel(): string {
    return join(this.#directory, 'channel.sock');
  }

  use<T extends Disposable>(value: T): T {
    return this.#stack.use(value);
  }

  open(options: Partial<ExportOptions> = {}): ExportDisplay {
    return this.use(
      ExportDisplay.open({
        path: this.path,
        scanouts: 1,
        budget: this.budget,
        monitor: { width: 64, height: 48, refreshMhz: 500_000 },
        log: (level, line) => this.log.push(`${level}: ${line}`),
        ...options,
      }),
    );
  }

  /** A consumer that has been greeted. */
  async connect(): Promise<RawConsumer> {
    const consumer = this.use(new RawConsumer(this.path));
    await consumer.take(EXPORT_EVENT.HELLO);
    return consumer;
  }
}

/** Records an output's events, as a screen would get them. */
export class Listener implements ScreenListener {
  readonly scanout = 0;
  readonly input = null;
  readonly events: string[] = [];
  readonly released: (handle: Handle) => void;
  #onPresented: () => void = () => undefined;

  constructor(nameOf: (handle: Handle) => string = () => '') {
    this.released = (handle) => void this.events.push(`released ${nameOf(handle)}`);
  }

  presented(): void {
    this.events.push('presented');
    this.#onPresented();
  }

  resized(): void {
    this.events.push('resized');
  }

  importsChanged(): void {
    this.events.push('importsChanged');
  }

  closed(): void {
    this.events.push('closed');
  }

  /** Presents a picture and resolves when it is presented. */
  show(output: Output, primary: Handle | null, change: Partial<Frame> = {}): Promise<void> {
    return new Promise((resolve) => {
      this.#onPresented = resolve;
      output.present(frameOf(primary, change));
    });
  }
}

export function frameOf(primary: Handle | null, change: Partial<Frame> = {}): Frame {
  const rect = { x: 0, y: 0, width: 64, height: 48 };
  const damage = new Damage();
  damage.addRect(rect);
  return {
    canvas: { width: 64, height: 48 },
    primary: { handle: primary, src: rect, dst: rect },
    cursor: { handle: null, src: rect, dst: rect },
    hotspotX: 0,
    hotspotY: 0,
    isCursorNew: false,
    damage,
    acquire: null,
    release: null,
    ...change,
  };
}
