import { randomUUID } from 'node:crypto';
import {
  type Clipboard,
  ClipboardError,
  type ClipboardType,
  type Copied,
  MAX_CLIPBOARD_BYTES,
} from '../../src/core/clipboard.ts';
import { type Log, limitLog } from '../../src/core/log.ts';
import { SysError } from '../../src/sys/errors.ts';
import type { OwnedFd } from '../../src/sys/fd.ts';
import { openForWriting, openPipe, readPipe, writePipe } from '../../src/sys/pipe.ts';
import type { Offered, Selection, SelectionListener } from './seat/selection.ts';

/** Programs that paste, and those that are read from, at a time. */
const MAX_TRANSFERS = 8;
/**
 * How often the guest may set the desktop's clipboard before another key or button is pressed: more than one copy takes.
 * Programs on both sides that copy whatever they see copied would do so for ever.
 */
const MAX_SETS = 8;
/** How long a program may not read, or write, ms. */
const TIMEOUT_MS = 10_000;

/**
 * The desktop's clipboard, as the windows of a guest have it: it can be read, and set, while the keyboard is in one of
 * them. It outlives compositors.
 */
export class WaylandClipboard implements Clipboard, SelectionListener, Disposable {
  readonly mark = `application/x-scanout-bridge;id=${randomUUID()}`;
  readonly #log: Log;
  readonly #listeners = new Set<(copied: Copied | null) => void>();
  readonly #ending = new AbortController();
  #transfers = 0;
  /** What programs of the desktop can paste, and where that was set. */
  #offered: Copied | null = null;
  #selection: Selection | null = null;
  /** Sets `#offered` at the end of the turn, which may bring another. */
  #setting: NodeJS.Immediate | null = null;
  /** The newest input at the last set, and how often there was one since. */
  #serial = 0;
  #sets = 0;
  /** Where the keyboard is in a window. */
  #focused: Selection | null = null;

  constructor(log: Log) {
    this.#log = limitLog(log);
  }

  offer(copied: Copied | null): void {
    this.#offered = copied;
    this.#setting ??= setImmediate(() => {
      this.#setting = null;
      this.#set();
    });
  }

  /** Puts a picture on the clipboard, in place of what the guest has copied. False if the keyboard has left the windows. */
  copy(png: Uint8Array): boolean {
    this.#offered = { types: new Set(['png']), read: () => Promise.resolve(png) };
    this.#set();
    return this.#selection !== null;
  }

  onCopied(listener: (copied: Copied | null) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** The keyboard of this seat has come to a window. */
  entered(selection: Selection): void {
    this.#focused = selection;
    selection.isFocused = true;
  }

  /** It has left the windows, or its compositor is gone. */
  left(selection: Selection): void {
    selection.isFocused = false;
    if (this.#focused === selection) this.#focused = null;
  }

  /** The seat is gone. */
  closed(selection: Selection): void {
    this.left(selection);
    if (this.#selection === selection) this.#selection = null;
  }

  changed(offered: Offered | null): void {
    const copied: Copied | null = offered && { types: offered.types, read: (type) => this.#read(offered, type) };
    for (const listener of [...this.#listeners]) listener(copied);
  }

  requested(type: ClipboardType, pipe: OwnedFd): void {
    const copied = this.#offered;
    if (!copied || this.#transfers >= MAX_TRANSFERS) {
      pipe[Symbol.dispose]();
      return;
    }
    void this.#write(copied, type, pipe);
  }

  [Symbol.dispose](): void {
    if (this.#setting) clearImmediate(this.#setting);
    this.#ending.abort();
    this.#listeners.clear();
  }

  #set(): void {
    const copied = this.#offered;
    const selection = copied ? this.#settable() : this.#selection;
    if (selection !== this.#selection) this.#selection?.set(null);
    selection?.set(copied?.types ?? null);
    this.#selection = copied && selection;
  }

  /** Where the guest may set the clipboard now; null: nowhere. */
  #settable(): Selection | null {
    const selection = this.#focused;
    if (!selection) {
      this.#log('info', 'clipboard: what the guest has copied stays there: the keyboard is in none of its windows');
      return null;
    }
    if (selection.serial !== this.#serial) this.#sets = 0;
    this.#serial = selection.serial;
    if (this.#sets++ < MAX_SETS) return selection;
    if (this.#sets === MAX_SETS + 1)
      this.#log('warn', 'clipboard: the guest copies without end: nothing is passed on before the next key or click');
    return null;
  }

  async #read(offered: Offered, type: ClipboardType): Promise<Uint8Array> {
    if (!offered.isValid)
      throw new ClipboardError('gone', 'something else was copied, or the keyboard is in no window of the guest');
    if (!offered.types.has(type)) throw new ClipboardError('refused', `there is no ${type} on the clipboard`);
    return await this.#transfer(async () => {
      const { reading, writing } = openPipe();
      using ours = reading;
      {
        using theirs = writing;
        offered.receive(type, theirs);
      }
      return await readPipe(ours, MAX_CLIPBOARD_BYTES, { timeoutMs: TIMEOUT_MS, signal: this.#ending.signal });
    });
  }

  async #write(copied: Copied, type: ClipboardType, pipe: OwnedFd): Promise<void> {
    try {
      await this.#transfer(async () => {
        using writing = openForWriting(pipe);
        const data = await copied.read(type);
        const options = { timeoutMs: TIMEOUT_MS, signal: this.#ending.signal };
        const result = await writePipe(writing, data, options);
        return result === 'written' ? data : result;
      });
    } catch (error) {
      if (!(error instanceof ClipboardError)) throw error;
      this.#log('warn', `clipboard: a program of the desktop cannot paste: ${error.message}`);
    }
  }

  /** Rejects with ClipboardError, whatever the fault. */
  async #transfer(transfer: () => Promise<Uint8Array | 'large' | 'timeout' | 'aborted'>): Promise<Uint8Array> {
    if (this.#transfers >= MAX_TRANSFERS)
      throw new ClipboardError('refused', `${MAX_TRANSFERS} programs copy or paste already`);
    this.#transfers++;
    try {
      const result = await transfer();
      if (typeof result !== 'string') return result;
      if (result === 'large')
        throw new ClipboardError('large', `it has more than ${MAX_CLIPBOARD_BYTES} bytes, which are not passed on`);
      if (result === 'timeout')
        throw new ClipboardError('timeout', `the program at the other end did nothing for ${TIMEOUT_MS / 1000} s`);
      throw new ClipboardError('gone', 'the windows are closed');
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      throw new ClipboardError('refused', error.message, { cause: error });
    } finally {
      this.#transfers--;
    }
  }
}
