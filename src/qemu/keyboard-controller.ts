import { setTimeout as sleep } from 'node:timers/promises';
import type { Qmp } from './qmp.ts';

/** The status register of a PC's keyboard controller, i8042. */
const STATUS_PORT = 0x64;
/** Of that register: there is a byte to read. */
const OUTPUT_FULL = 1;
/** What is read from a port without a device. */
const NO_DEVICE = 0xff;
const RETRY_MS = 2;
/** A guest that reads the controller at all does so within this time. */
const PATIENCE_MS = 5000;

/**
 * The keyboard controller of a PC in QEMU. It holds 16 bytes, a few keys, and QEMU drops what has no room: a guest that
 * is slow, or busy, misses keys that follow each other too fast.
 */
export class KeyboardController {
  readonly #qmp: () => Promise<Qmp>;
  /** The guest does not read it, or there is none. */
  #isIdle = false;

  /** `qmp` is called each time that QEMU is asked. */
  constructor(qmp: () => Promise<Qmp>) {
    this.#qmp = qmp;
  }

  /**
   * Resolves when the guest has read all that the controller holds; at once for a guest that does not use it. Rejects as
   * `qmp`, and with QmpError.
   */
  async emptied(): Promise<void> {
    const end = performance.now() + PATIENCE_MS;
    for (;;) {
      const isFull = await this.#isFull();
      if (!isFull) this.#isIdle = false;
      if (!isFull || this.#isIdle) return;
      this.#isIdle = performance.now() > end;
      await sleep(RETRY_MS);
    }
  }

  async #isFull(): Promise<boolean> {
    // QMP has no command that reads a port.
    const command = `i /bx 0x${STATUS_PORT.toString(16)}`;
    const qmp = await this.#qmp();
    const answer = await qmp.command('human-monitor-command', { 'command-line': command });
    const status = Number.parseInt(/= 0x([0-9a-f]+)/.exec(String(answer))?.[1] ?? '0', 16);
    return status !== NO_DEVICE && (status & OUTPUT_FULL) !== 0;
  }
}
