import * as uapi from '../../../protocols/qemu-display1.ts';
import { type Clipboard, ClipboardError, type Copied, MAX_CLIPBOARD_BYTES } from '../../core/clipboard.ts';
import type { LogOnce } from '../../core/log.ts';
import { type BusMessage, type BusValue, METHOD_ERROR } from '../../sys/lib/sd-bus.ts';

/** The VM that a clipboard belongs to. */
export interface ClipboardVm {
  readonly logOnce: LogOnce;
  /** Calls the VM's clipboard. False, with a line in the log, if that cannot be: there will be no reply. */
  call(
    member: string,
    signature: string,
    values: readonly BusValue[],
    onReply: ((reply: BusMessage) => void) | null,
  ): boolean;
  reply(call: BusMessage, fill?: (reply: BusMessage) => void): void;
  refuse(call: BusMessage): void;
}

export interface DbusClipboardStats {
  /** QEMU shares its clipboard with us. */
  readonly connected: boolean;
  /** QEMU does not say whether an agent runs in its guest. */
  readonly agent: null;
}

/**
 * The clipboard of a VM, by org.qemu.Display1.Clipboard: QEMU has it from a SPICE agent in the guest
 * (`-chardev qemu-vdagent,clipboard=on`). Text only: QEMU passes on nothing else.
 *
 * QEMU stands still until it is answered when its guest pastes. So what is copied here is read at once, and offered to the
 * guest when it is there.
 */
export class DbusClipboard implements Clipboard {
  #vm: ClipboardVm | null = null;
  #isRegistered = false;
  /** What was copied at the other end, and its text, which the guest can have; null until it is there. */
  #offered: Copied | null = null;
  #text: Uint8Array | null = null;
  /** Of the next grab of ours: one more than that of the last, of either side. */
  #serial = 0;
  /** What the guest has copied. */
  #copied: GuestText | null = null;
  readonly #listeners = new Set<(copied: Copied | null) => void>();

  get stats(): DbusClipboardStats {
    return { connected: this.#isRegistered, agent: null };
  }

  offer(copied: Copied | null): void {
    const hadText = this.#text !== null;
    this.#text = null;
    this.#offered = copied?.types.has('text') ? copied : null;
    if (hadText) this.#call('Release', 'u', [uapi.CLIPBOARD_SELECTION]);
    const offered = this.#offered;
    void offered?.read('text').then(
      (text) => {
        if (this.#offered !== offered) return;
        this.#text = text;
        this.#grab();
      },
      (error: unknown) => {
        const why = error instanceof Error ? error.message : String(error);
        this.#vm?.logOnce('warn', `clipboard: what was copied is not offered to the guest: ${why}`);
      },
    );
  }

  onCopied(listener: (copied: Copied | null) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** @internal A VM is there, until `disconnected`. */
  connected(vm: ClipboardVm): void {
    this.#vm = vm;
    this.#serial = 0;
    vm.call('Register', '', [], (reply) => {
      if (reply.type === METHOD_ERROR) {
        vm.logOnce('warn', `clipboard: not shared: QEMU has none, or shares it with another program: ${reply.errno}`);
        return;
      }
      this.#isRegistered = true;
      this.#grab();
    });
  }

  /** @internal */
  disconnected(): void {
    this.#vm = null;
    this.#isRegistered = false;
    this.#setCopied(null);
  }

  /** @internal A call of QEMU's. */
  received(call: BusMessage): void {
    const vm = this.#vm;
    if (!vm) return;
    switch (call.member) {
      // An agent has come, which knows of nothing.
      case 'Register':
        this.#serial = 0;
        vm.reply(call);
        this.#grab();
        return;
      case 'Unregister':
        vm.reply(call);
        return;
      case 'Grab': {
        const selection = call.u32();
        const serial = call.u32();
        const types = call.strings();
        vm.reply(call);
        if (selection !== uapi.CLIPBOARD_SELECTION) return;
        this.#serial = (serial + 1) >>> 0;
        this.#offered = null;
        this.#text = null;
        this.#setCopied(types.includes(uapi.CLIPBOARD_TEXT) ? new GuestText(vm) : null);
        return;
      }
      case 'Release': {
        const selection = call.u32();
        vm.reply(call);
        if (selection === uapi.CLIPBOARD_SELECTION) this.#setCopied(null);
        return;
      }
      case 'Request': {
        const isOurs = call.u32() === uapi.CLIPBOARD_SELECTION && call.strings().includes(uapi.CLIPBOARD_TEXT);
        const text = this.#text;
        if (!isOurs || !text) vm.refuse(call);
        else vm.reply(call, (reply) => reply.append('say', [uapi.CLIPBOARD_TEXT, text]));
        return;
      }
      default:
        vm.refuse(call);
    }
  }

  #grab(): void {
    if (!this.#text || !this.#isRegistered) return;
    this.#setCopied(null);
    this.#call('Grab', 'uuas', [uapi.CLIPBOARD_SELECTION, this.#serial, [uapi.CLIPBOARD_TEXT]]);
    this.#serial = (this.#serial + 1) >>> 0;
  }

  #call(member: string, signature: string, values: readonly BusValue[]): void {
    if (this.#isRegistered) this.#vm?.call(member, signature, values, null);
  }

  #setCopied(copied: GuestText | null): void {
    const before = this.#copied;
    if (!before && !copied) return;
    this.#copied = copied;
    before?.gone();
    for (const listener of [...this.#listeners]) listener(copied);
  }
}

/** What a program of the guest has copied. */
class GuestText implements Copied {
  readonly types = new Set(['text'] as const);
  readonly #vm: ClipboardVm;
  #isGone = false;
  /** QEMU takes one request at a time. */
  #reading: { readonly text: Promise<Uint8Array>; readonly reject: (error: ClipboardError) => void } | null = null;

  constructor(vm: ClipboardVm) {
    this.#vm = vm;
  }

  read(): Promise<Uint8Array> {
    if (this.#isGone) return Promise.reject(GONE());
    this.#reading ??= this.#read();
    return this.#reading.text;
  }

  gone(): void {
    this.#isGone = true;
    this.#reading?.reject(GONE());
  }

  #read(): { text: Promise<Uint8Array>; reject: (error: ClipboardError) => void } {
    let reject: (error: ClipboardError) => void = () => undefined;
    const text = new Promise<Uint8Array>((resolve, rejected) => {
      reject = rejected;
      const wanted = [uapi.CLIPBOARD_SELECTION, [uapi.CLIPBOARD_TEXT]];
      const isAsked = this.#vm.call('Request', 'uas', wanted, (reply) => {
        this.#reading = null;
        if (reply.type === METHOD_ERROR) {
          rejected(new ClipboardError('timeout', `QEMU got nothing from its guest: ${reply.errno}`));
          return;
        }
        const type = reply.string();
        const data = reply.copyOfBytes(MAX_CLIPBOARD_BYTES);
        if (type !== uapi.CLIPBOARD_TEXT) rejected(new ClipboardError('refused', 'QEMU has data of another type'));
        else if (!data) rejected(new ClipboardError('large', `more than ${MAX_CLIPBOARD_BYTES} bytes were copied`));
        else resolve(data);
      });
      if (!isAsked) rejected(GONE());
    });
    text.catch(() => undefined);
    return { text, reject };
  }
}

const GONE = (): ClipboardError => new ClipboardError('gone', 'the guest has copied something else, or is gone');
