import { readFileSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { type UdevEvent, UdevMonitor } from '../../src/sys/lib/udev.ts';
import { asNobody } from '../rig/as-nobody.ts';
import { skipWithoutVkms, vkmsCard } from './kms-rig.ts';
import { expectNothingLeft, skipWithoutProgram } from './machine.ts';
import { UDEVD, Udevd } from './seat-rig.ts';

const isSkipped = skipWithoutVkms();
const card = basename(vkmsCard() ?? 'none');

/** Collects the events of a subsystem. */
class Heard implements Disposable {
  readonly #events: UdevEvent[] = [];
  #onEvent: (() => void) | null = null;
  readonly #monitor: UdevMonitor;

  constructor(subsystem: string) {
    this.#monitor = UdevMonitor.open(subsystem, (event) => {
      this.#events.push(event);
      this.#onEvent?.();
    })!;
  }

  async next(): Promise<UdevEvent> {
    while (this.#events.length === 0) await new Promise<void>((resolve) => (this.#onEvent = resolve));
    return this.#events.shift()!;
  }

  [Symbol.dispose](): void {
    this.#monitor[Symbol.dispose]();
  }
}

/** Makes the kernel announce a device again. */
function announce(device: string, action = 'change'): void {
  writeFileSync(`/sys/class/${device}/uevent`, action);
}

const cases = () => {
  test('reach a monitor of their subsystem, and no other', async () => {
    using heard = new Heard('drm');
    announce('mem/null');
    announce(`drm/${card}`);
    announce('mem/null');
    announce(`drm/${card}`, 'add');
    expect(await heard.next()).toEqual({ action: 'change', sysName: card });
    expect(await heard.next()).toEqual({ action: 'add', sysName: card });
  });

  test('do not reach a listener that has disposed its monitor', async () => {
    const heard = await new Promise<unknown>((resolve) => {
      const onEvent = vi.fn(() => {
        monitor[Symbol.dispose]();
        setImmediate(() => resolve(onEvent.mock.calls.length));
      });
      const monitor = UdevMonitor.open('drm', onEvent)!;
      announce(`drm/${card}`);
      announce(`drm/${card}`);
    });
    expect(heard).toBe(1);
  });
};

describe.skipIf(isSkipped)("the kernel's device events", () => {
  expectNothingLeft();
  cases();

  test('are reported as an overrun if the buffer was full, and later ones arrive', async () => {
    // For root, libudev would create a buffer of 128 MiB.
    const user = asNobody();
    using heard = new Heard('mem');
    user[Symbol.dispose]();
    // More events than its buffer holds, before it reads one.
    const room = Number(readFileSync('/proc/sys/net/core/rmem_max', 'utf8'));
    for (let bytes = 0; bytes < 2 * room; bytes += 512) announce('mem/null');
    let event = await heard.next();
    while (event.action === 'change') event = await heard.next();
    expect(event).toEqual({ action: 'overrun', sysName: '' });
    announce('mem/full', 'add');
    expect(await heard.next()).toEqual({ action: 'add', sysName: 'full' });
  });
});

describe.skipIf(isSkipped || skipWithoutProgram(UDEVD))("udevd's device events", () => {
  let udevd: Udevd;

  beforeEach(async () => {
    udevd = await Udevd.start();
  });
  afterEach(() => udevd[Symbol.asyncDispose]());

  cases();
});
