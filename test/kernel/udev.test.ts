import { readFileSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { type UdevEvent, UdevMonitor } from '../../src/sys/lib/udev.ts';
import { skipWithoutVkms, vkmsCard } from './kms-rig.ts';
import { asNobody, expectNothingLeft, skipWithoutProgram } from './machine.ts';
import { UDEVD, Udevd } from './seat-rig.ts';

const isSkipped = skipWithoutVkms();
const card = basename(vkmsCard() ?? 'none');

/** The events of a subsystem, one after the other. */
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

/** Has the kernel announce a device once more. */
function announce(device: string, action = 'change'): void {
  writeFileSync(`/sys/class/${device}/uevent`, action);
}

const cases = () => {
  test('a change of a card arrives, a change of another subsystem does not', async () => {
    using heard = new Heard('drm');
    announce('mem/null');
    announce(`drm/${card}`);
    announce('mem/null');
    announce(`drm/${card}`, 'add');
    expect(await heard.next()).toEqual({ action: 'change', sysName: card });
    expect(await heard.next()).toEqual({ action: 'add', sysName: card });
  });

  test('a listener that disposes the monitor hears no more', async () => {
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

describe.skipIf(isSkipped)('devices as the kernel announces them', () => {
  expectNothingLeft();
  cases();

  test('events lost for want of room make the owner look again, and those after them arrive', async () => {
    // Root would get a buffer of 128 MiB from libudev.
    const user = asNobody();
    using heard = new Heard('mem');
    user[Symbol.dispose]();
    // More than its buffer holds, while nobody reads.
    const room = Number(readFileSync('/proc/sys/net/core/rmem_max', 'utf8'));
    for (let bytes = 0; bytes < 2 * room; bytes += 512) announce('mem/null');
    let event = await heard.next();
    while (event.action === 'change') event = await heard.next();
    expect(event).toEqual({ action: 'overrun', sysName: '' });
    announce('mem/full', 'add');
    expect(await heard.next()).toEqual({ action: 'add', sysName: 'full' });
  });
});

describe.skipIf(isSkipped || skipWithoutProgram(UDEVD))('devices as udevd announces them', () => {
  let udevd: Udevd;

  beforeEach(async () => {
    udevd = await Udevd.start();
  });
  afterEach(() => udevd[Symbol.asyncDispose]());

  cases();
});
