import type { ClipboardType } from '../../../src/core/clipboard.ts';
import type { BorrowedFd, OwnedFd } from '../../../src/sys/fd.ts';
import type { WlDataDevice, WlDataDeviceManager, WlDataOffer, WlDataSource } from '../client/index.ts';

/** MIME types of text, the one to be read first. The last ones are for programs of X11. */
const TEXT = ['text/plain;charset=utf-8', 'UTF8_STRING', 'text/plain', 'TEXT', 'STRING'];
const PNG = 'image/png';
/** A longer list of types has none of these in it, or is not worth reading. */
const MAX_TYPES = 256;

/** What another program of the desktop has copied. */
export interface Offered {
  readonly types: ReadonlySet<ClipboardType>;
  /** False once something else was copied, or the keyboard has left the windows. */
  readonly isValid: boolean;
  /** Has the program write it into `pipe`, which stays the caller's. */
  receive(type: ClipboardType, pipe: BorrowedFd): void;
}

export interface SelectionListener {
  /** A type that no other program offers, by which what this one offers is known. */
  readonly mark: string;
  /** Another program has copied something, or nothing can be pasted any more. */
  changed(offered: Offered | null, selection: Selection): void;
  /** A program pastes what was given to `set`; it is to be written to `pipe`, which is the listener's now. */
  requested(type: ClipboardType, pipe: OwnedFd, selection: Selection): void;
}

/** A data offer that is being described. */
interface Described {
  readonly offer: WlDataOffer;
  /** Positions in TEXT. */
  text: number;
  hasPng: boolean;
  isOurs: boolean;
  types: number;
}

/** The clipboard of one seat (wl_data_device). Drag and drop is refused. */
export class Selection implements Disposable {
  readonly #manager: WlDataDeviceManager;
  readonly #device: WlDataDevice;
  readonly #listener: SelectionListener;
  /** Of the newest key, button or focus: by it the compositor knows that the user wants what `set` does. */
  serial = 0;
  /** The keyboard is in one of the windows. */
  isFocused = false;
  #described: Described | null = null;
  /** What can be read, of another program. */
  #offer: WlDataOffer | null = null;
  #source: WlDataSource | null = null;

  /** Owns `device`. */
  constructor(manager: WlDataDeviceManager, device: WlDataDevice, listener: SelectionListener) {
    this.#manager = manager;
    this.#device = device;
    this.#listener = listener;
    device.listener = {
      dataOffer: (offer) => this.#describe(offer),
      selection: (offer) => this.#selected(offer),
      enter: (_serial, _surface, _x, _y, offer) => {
        offer?.[Symbol.dispose]();
        if (this.#described?.offer === offer) this.#described = null;
      },
    };
  }

  /** Offers this to the desktop in place of whatever was copied; null: nothing, if what was offered before is there still. */
  set(types: ReadonlySet<ClipboardType> | null): void {
    const before = this.#source;
    this.#source = null;
    if (types) {
      const source = (this.#source = this.#manager.createDataSource());
      source.listener = {
        send: (type, pipe) => {
          const known = type === PNG ? 'png' : TEXT.includes(type) ? 'text' : null;
          if (known && types.has(known)) this.#listener.requested(known, pipe, this);
          else pipe[Symbol.dispose]();
        },
        cancelled: () => {
          if (this.#source === source) this.#source = null;
          source[Symbol.dispose]();
        },
      };
      if (types.has('text')) for (const type of TEXT) source.offer(type);
      if (types.has('png')) source.offer(PNG);
      source.offer(this.#listener.mark);
      this.#device.setSelection(source, this.serial);
    }
    before?.[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.#described?.offer[Symbol.dispose]();
    this.#offer?.[Symbol.dispose]();
    this.#source?.[Symbol.dispose]();
    this.#device[Symbol.dispose]();
  }

  #describe(offer: WlDataOffer): void {
    this.#described?.offer[Symbol.dispose]();
    const described: Described = { offer, text: TEXT.length, hasPng: false, isOurs: false, types: 0 };
    this.#described = described;
    offer.listener = {
      offer: (type) => {
        if (described.types++ >= MAX_TYPES) return;
        const text = TEXT.indexOf(type);
        if (text >= 0) described.text = Math.min(described.text, text);
        if (type === PNG) described.hasPng = true;
        if (type === this.#listener.mark) described.isOurs = true;
      },
    };
  }

  #selected(offer: WlDataOffer | null): void {
    const described = this.#described;
    this.#described = null;
    this.#offer?.[Symbol.dispose]();
    this.#offer = null;
    if (!offer || described?.offer !== offer) {
      offer?.[Symbol.dispose]();
      described?.offer[Symbol.dispose]();
      this.#listener.changed(null, this);
      return;
    }
    if (described.isOurs) {
      offer[Symbol.dispose]();
      return;
    }
    this.#offer = offer;
    const text = TEXT[described.text];
    const types = new Set<ClipboardType>();
    if (text !== undefined) types.add('text');
    if (described.hasPng) types.add('png');
    const isValid = (): boolean => this.#offer === offer && this.isFocused && !offer.isDestroyed;
    const offered: Offered = {
      types,
      get isValid() {
        return isValid();
      },
      receive: (type, pipe) => offer.receive(type === 'png' ? PNG : text!, pipe),
    };
    this.#listener.changed(types.size > 0 ? offered : null, this);
  }
}
