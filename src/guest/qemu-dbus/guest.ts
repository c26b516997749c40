import { constants } from 'node:os';
import * as uapi from '../../../protocols/qemu-display1.ts';
import { MemoryBudget } from '../../core/budget.ts';
import type { GuestInput } from '../../core/input.ts';
import { limitLog, type Log, logOnce, type LogOnce, printable } from '../../core/log.ts';
import type { Monitor } from '../../core/monitor.ts';
import type { ScanoutId, Source, SourceSink } from '../../core/source.ts';
import { SysError } from '../../sys/errors.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { BusConnection, type BusMessage, type BusValue, METHOD_ERROR } from '../../sys/lib/sd-bus.ts';
import { socketPair } from '../../sys/socket.ts';
import { DbusClipboard } from './clipboard.ts';
import { type ConsoleStats, QemuConsole } from './console.ts';
import { QemuDbusError } from './errors.ts';
import { DbusInput } from './input.ts';

/** How a VM's D-Bus display is reached. */
export type VmAddress =
  /**
   * Peer to peer (QEMU: `-display dbus,p2p=yes`). `connect` hands QEMU one end of a socket and resolves with the other.
   * `keysRead` resolves once the guest has read the keys that its keyboard holds: QEMU drops those that have no room.
   */
  | { readonly connect: () => Promise<OwnedFd>; readonly keysRead?: () => Promise<void> }
  /** A bus by its address, such as `unix:path=/run/user/1000/bus`, and which VM (QEMU: `-name`), if there are several. */
  | { readonly bus: string; readonly name?: string };

export interface QemuDbusGuestOptions {
  readonly vm: VmAddress;
  /** How many of the VM's consoles are scanouts, in QEMU's order; default 1. */
  readonly scanouts?: number;
  /** Text consoles (QEMU: `vc`) are scanouts too, after those of graphics; default false. */
  readonly text?: boolean;
  /** Shares the clipboard that QEMU has from an agent in the guest, text only: `QemuDbusGuest.clipboard`. Default false. */
  readonly clipboard?: boolean;
  /** Limit in bytes of pictures that come over the socket, and of the bridge's shadows; default 512 MiB. */
  readonly maxGuestMemory?: number;
  readonly log?: Log;
}

export interface QemuDbusStats {
  /** The VM's name; null while there is none. */
  vm: string | null;
  consoles: ConsoleStats[];
  /** How often a VM was lost. */
  losses: number;
}

/** What QEMU says about a console. */
interface ConsoleInfo {
  readonly path: string;
  readonly id: number;
  isText: boolean;
  label: string;
  isAbsolute: boolean;
  modifiers: number;
  touches: number;
}

interface Vm {
  readonly main: BusConnection;
  /** QEMU's unique name on the bus. */
  destination: string | null;
  name: string;
  infos: ConsoleInfo[];
  consoles: QemuConsole[];
}

const { EINVAL } = constants.errno;
const DEFAULT_MAX_GUEST_MEMORY = 512 * 2 ** 20;
/** A VM that is gone is looked for this often. */
const RETRY_MS = 1000;
/** QEMU exports its objects a little after it has accepted the connection, and reports nothing then. */
const OBJECTS_RETRY_MS = 20;
/** QEMU has answered what is asked at the start, or it hangs. */
const START_MS = 20_000;

const DBUS = { destination: 'org.freedesktop.DBus', path: '/org/freedesktop/DBus', interface: 'org.freedesktop.DBus' };

/**
 * Any VM of QEMU, through its D-Bus display: each console is a scanout, whatever draws it.
 *
 *     using guest = QemuDbusGuest.open({ vm: { connect: dbusByQmp('/run/vm.qmp') } });
 *     using bridge = new Bridge(guest, { input: guest.input });
 *     bridge.show(0, output);
 *
 * When the VM goes away, screens keep a copy of the last picture, and it is looked for again.
 */
export class QemuDbusGuest implements Source {
  readonly scanouts: number;
  readonly budget: MemoryBudget;
  readonly #address: VmAddress;
  readonly #withText: boolean;
  readonly #log: Log;
  #logOnce: LogOnce;
  readonly #input: DbusInput;
  /** The guest's clipboard; null unless it was asked for. */
  readonly clipboard: DbusClipboard | null;
  readonly #monitors: (Monitor | null)[];
  #sink: SourceSink | null = null;
  #vm: Vm | null = null;
  /** All consoles are registered. */
  #isConnected = false;
  #losses = 0;
  /** What waits until QEMU has taken the input before. */
  readonly #waiting = new Set<() => void>();
  #timer: NodeJS.Timeout | undefined;
  #isDisposed = false;

  private constructor(options: QemuDbusGuestOptions) {
    const { vm, scanouts = 1, text = false, clipboard = false, maxGuestMemory = DEFAULT_MAX_GUEST_MEMORY } = options;
    this.clipboard = clipboard ? new DbusClipboard() : null;
    this.scanouts = scanouts;
    this.budget = new MemoryBudget(maxGuestMemory);
    this.#address = vm;
    this.#withText = text;
    this.#log = limitLog(options.log ?? (() => undefined));
    this.#logOnce = logOnce(this.#log);
    this.#monitors = Array.from({ length: scanouts }, () => null);
    this.#input = new DbusInput({
      send: (scanout, interfaceName, member, signature, values) =>
        this.#send(scanout, interfaceName, member, signature, values),
      isAbsolute: (scanout) => this.#infoOf(scanout)?.isAbsolute ?? true,
      hasTouch: (scanout) => (this.#infoOf(scanout)?.touches ?? 0) > 0,
      taken: async () => {
        await this.#taken();
        if ('connect' in vm) await vm.keysRead?.();
      },
      isBehind: () => this.#vm?.main.isBehind === true,
    });
  }

  /** Looks for the VM now, and until it is there. */
  static open(options: QemuDbusGuestOptions): QemuDbusGuest {
    const guest = new QemuDbusGuest(options);
    void guest.#connect();
    return guest;
  }

  /** Whether there is a VM whose consoles are shown. */
  get isConnected(): boolean {
    return this.#isConnected;
  }

  /** The VM's keyboard, pointer and touchscreen. */
  get input(): GuestInput {
    return this.#input;
  }

  get stats(): QemuDbusStats {
    return {
      vm: this.#vm?.name ?? null,
      consoles: this.#vm?.consoles.map(({ stats }) => stats) ?? [],
      losses: this.#losses,
    };
  }

  connect(sink: SourceSink): void {
    this.#sink = sink;
    for (const console of this.#vm?.consoles ?? []) console.connected();
  }

  setMonitor(id: ScanoutId, monitor: Monitor | null): void {
    this.#monitors[id] = monitor;
    this.#showMonitor(id);
  }

  [Symbol.dispose](): void {
    this.#isDisposed = true;
    this.#sink = null;
    clearTimeout(this.#timer);
    this.#close();
  }

  async #connect(): Promise<void> {
    try {
      const main = await this.#open();
      // Disposed meanwhile.
      if (!main) return;
      this.#vm = { main, destination: null, name: '', infos: [], consoles: [] };
      this.#timer = setTimeout(() => this.#lose(new QemuDbusError('no-vm', 'QEMU does not answer')), START_MS);
      if ('bus' in this.#address) this.#find(this.#vm);
      else this.#askForObjects(this.#vm);
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      this.#logOnce('warn', `qemu-dbus: no VM yet: ${error.message}`);
      this.#close();
      this.#connectLater();
    }
  }

  async #open(): Promise<BusConnection | null> {
    const listener = {
      received: (message: BusMessage) => this.#receive(message),
      closed: (cause: Error) => this.#lose(cause),
    };
    if ('bus' in this.#address) return BusConnection.bus(this.#address.bus, listener);
    const socket = await this.#address.connect();
    if (!this.#isDisposed) return BusConnection.peer(socket, listener);
    socket[Symbol.dispose]();
    return null;
  }

  #connectLater(): void {
    if (this.#isDisposed) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#connect(), RETRY_MS);
  }

  /** Screens keep a copy of the picture. */
  #lose(cause: Error): void {
    if (!this.#vm) return;
    if (this.#isConnected) {
      this.#losses++;
      this.#sink?.halted();
      this.#log('warn', `qemu-dbus: the VM is gone; the last picture stays: ${cause.message}`);
    } else {
      this.#logOnce('warn', `qemu-dbus: no VM yet: ${cause.message}`);
    }
    this.#close();
    this.#connectLater();
  }

  #close(): void {
    const vm = this.#vm;
    this.#vm = null;
    this.#isConnected = false;
    vm?.main[Symbol.dispose]();
    this.clipboard?.disconnected();
    for (const console of vm?.consoles.splice(0) ?? []) console[Symbol.dispose]();
    for (const resolve of this.#waiting) resolve();
    this.#waiting.clear();
  }

  /** All VMs of a bus wait for one name; each has its own beside. */
  #find(vm: Vm): void {
    vm.main.call(DBUS, 'ListQueuedOwners', 's', [uapi.BUS_NAME], (reply) => {
      const owners = reply.type === METHOD_ERROR ? [] : reply.strings();
      const names: string[] = [];
      let left = owners.length;
      if (left === 0) this.#lose(new QemuDbusError('no-vm', 'there is none on the bus (QEMU: -display dbus)'));
      for (const owner of owners) {
        const target = { destination: owner, path: `${uapi.ROOT_PATH}/VM`, interface: uapi.PROPERTIES };
        vm.main.call(target, 'Get', 'ss', [uapi.VM, 'Name'], (answer) => {
          if (answer.type !== METHOD_ERROR)
            answer.variant((type) => (names[owners.indexOf(owner)] = type === 's' ? answer.string() : ''), null);
          if (--left === 0) this.#choose(vm, owners, names);
        });
      }
    });
  }

  #choose(vm: Vm, owners: readonly string[], names: readonly string[]): void {
    const wanted = 'bus' in this.#address ? this.#address.name : undefined;
    const indices = owners.map((_, index) => index).filter((index) => names[index] !== undefined);
    const fitting = indices.filter((index) => wanted === undefined || names[index] === wanted);
    const list = indices.map((index) => printable(names[index]!)).join(', ');
    if (fitting.length === 0) {
      this.#lose(new QemuDbusError('no-vm', `the bus has no VM with the name ${String(wanted)}, but: ${list}`));
    } else if (fitting.length > 1) {
      this.#lose(new QemuDbusError('several-vms', `the bus has several VMs; choose one, by its name: ${list}`));
    } else {
      vm.destination = owners[fitting[0]!]!;
      const rule = `type='signal',sender='${vm.destination}',path_namespace='${uapi.ROOT_PATH}'`;
      vm.main.call(DBUS, 'AddMatch', 's', [rule]);
      this.#askForObjects(vm);
    }
  }

  #askForObjects(vm: Vm): void {
    this.#callRoot(vm, (reply) => {
      if (reply.type === METHOD_ERROR && reply.errno === 'EBADR') {
        setTimeout(() => {
          if (this.#vm === vm) this.#askForObjects(vm);
        }, OBJECTS_RETRY_MS);
        return;
      }
      if (reply.type === METHOD_ERROR) {
        this.#lose(new QemuDbusError('malformed', `QEMU does not list its consoles: ${reply.errno}`));
        return;
      }
      readObjects(reply, vm);
      this.#register(vm);
    });
  }

  #callRoot(vm: Vm, onReply: (reply: BusMessage) => void): void {
    vm.main.call(this.#target(vm, uapi.ROOT_PATH, uapi.OBJECT_MANAGER), 'GetManagedObjects', '', [], onReply);
  }

  #target(vm: Vm, path: string, interfaceName: string): { destination?: string; path: string; interface: string } {
    return { path, interface: interfaceName, ...(vm.destination !== null && { destination: vm.destination }) };
  }

  #register(vm: Vm): void {
    const graphic = vm.infos.filter(({ isText }) => !isText);
    const text = this.#withText ? vm.infos.filter(({ isText }) => isText) : [];
    vm.infos = [...graphic, ...text].slice(0, this.scanouts);
    if (vm.infos.length === 0) {
      const advice = this.#withText ? '' : '; add ,text to show its text consoles';
      this.#lose(new QemuDbusError('no-console', `the VM has no graphics${advice}`));
      return;
    }
    let left = vm.infos.length;
    vm.infos.forEach((info, scanout) => {
      const [ours, theirs] = socketPair();
      using socket = theirs;
      // Its whole handshake is in the socket before QEMU, which waits for it, gets the other end.
      vm.consoles.push(new QemuConsole(this.#consoleOwner, scanout, info.id, info.label, ours));
      vm.main.call(this.#target(vm, info.path, uapi.CONSOLE), 'RegisterListener', 'h', [socket], (reply) => {
        if (reply.type === METHOD_ERROR) {
          this.#lose(new QemuDbusError('malformed', `QEMU refused a listener of ${info.label}: ${reply.errno}`));
          return;
        }
        this.#showMonitor(scanout);
        if (--left === 0) this.#started(vm);
      });
    });
  }

  readonly #consoleOwner = ((guest: QemuDbusGuest) => ({
    get sink() {
      return guest.#sink;
    },
    get budget() {
      return guest.budget;
    },
    get logOnce() {
      return guest.#logOnce;
    },
    lost: (_: QemuConsole, cause: Error) => guest.#lose(cause),
  }))(this);

  #started(vm: Vm): void {
    clearTimeout(this.#timer);
    this.#isConnected = true;
    this.#logOnce = logOnce(this.#log);
    this.#log('info', `qemu-dbus: showing ${vm.infos.map(({ label }) => label).join(', ')} of ${vm.name}`);
    this.#showLeds();
    this.#shareClipboard(vm);
  }

  #shareClipboard(vm: Vm): void {
    this.clipboard?.connected({
      logOnce: (level, message, key) => this.#logOnce(level, message, key),
      call: (member, signature, values, onReply) =>
        this.#tell(vm, { path: uapi.CLIPBOARD_PATH }, uapi.CLIPBOARD, member, signature, values, onReply),
      reply: (call, fill) => vm.main.reply(call, fill),
      refuse: (call) => vm.main.refuse(call, EINVAL),
    });
  }

  #receive(message: BusMessage): void {
    const vm = this.#vm;
    if (!vm || (vm.destination !== null && message.sender !== vm.destination)) return;
    if (message.interface === uapi.CLIPBOARD && message.path === uapi.CLIPBOARD_PATH) {
      this.clipboard?.received(message);
      return;
    }
    if (message.wantsReply || message.member !== 'PropertiesChanged' || message.interface !== uapi.PROPERTIES) return;
    const info = vm.infos.find(({ path }) => path === message.path);
    if (!info) return;
    const interfaceName = message.string();
    message.dictionary((name, type) => readProperty(message, info, interfaceName, name, type));
    this.#showLeds();
  }

  #showLeds(): void {
    const modifiers = this.#vm?.infos[0]?.modifiers ?? 0;
    this.#input.setLeds(uapi.MODIFIERS.reduce((leds, { bit, led }) => leds | (modifiers & bit ? 1 << led : 0), 0));
  }

  #showMonitor(scanout: ScanoutId): void {
    const vm = this.#vm;
    const info = vm?.infos[scanout];
    // A guest may take the loss of its only monitor badly; its console has no monitor until there is one.
    const monitor = this.#monitors[scanout];
    if (!vm || !info || info.isText || !vm.consoles[scanout] || !vm.main.isReady || !monitor) return;
    const left = this.#monitors.slice(0, scanout).reduce((sum, other) => sum + (other?.width ?? 0), 0);
    const millimetres = [Math.min(monitor.widthMm, 0xffff), Math.min(monitor.heightMm, 0xffff)];
    const values = [...millimetres, left, 0, monitor.width, monitor.height];
    this.#tell(vm, info, uapi.CONSOLE, 'SetUIInfo', 'qqiiuu', values);
  }

  #infoOf(scanout: ScanoutId): ConsoleInfo | null {
    return this.#vm?.infos[scanout] ?? null;
  }

  #send(
    scanout: ScanoutId,
    interfaceName: string,
    member: string,
    signature: string,
    values: readonly BusValue[],
  ): void {
    const vm = this.#vm;
    const info = vm?.infos[scanout];
    if (vm && info && this.#isConnected) this.#tell(vm, info, interfaceName, member, signature, values);
  }

  /** Calls an object. False, with a line in the log, if QEMU has stopped reading or has ended: that is not for later. */
  #tell(
    vm: Vm,
    { path }: { readonly path: string },
    interfaceName: string,
    member: string,
    signature: string,
    values: readonly BusValue[],
    onReply: ((reply: BusMessage) => void) | null = null,
  ): boolean {
    try {
      vm.main.call(this.#target(vm, path, interfaceName), member, signature, values, onReply);
      return true;
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      this.#logOnce('warn', `qemu-dbus: ${member} cannot be sent: ${error.message}`, member);
      return false;
    }
  }

  #taken(): Promise<void> {
    const vm = this.#vm;
    const info = vm?.infos[0];
    if (!vm || !info || !this.#isConnected) return Promise.resolve();
    return new Promise((resolve) => {
      const taken = (): void => {
        this.#waiting.delete(taken);
        resolve();
      };
      this.#waiting.add(taken);
      // QEMU handles calls to a console in order.
      if (!this.#tell(vm, info, uapi.PROPERTIES, 'Get', 'ss', [uapi.CONSOLE, 'Type'], taken)) taken();
    });
  }
}

/** Reads the answer of GetManagedObjects, `a{oa{sa{sv}}}`. */
function readObjects(reply: BusMessage, vm: Vm): void {
  const infos: ConsoleInfo[] = [];
  reply.array('{oa{sa{sv}}}', () =>
    reply.entry('oa{sa{sv}}', () => {
      const path = reply.string('o');
      const id = new RegExp(`^${uapi.ROOT_PATH}/Console_(\\d{1,4})$`).exec(path)?.[1];
      const info = { path, id: Number(id), isText: false, label: '', isAbsolute: true, modifiers: 0, touches: 0 };
      if (id !== undefined) infos.push(info);
      reply.array('{sa{sv}}', () =>
        reply.entry('sa{sv}', () => {
          const interfaceName = reply.string();
          reply.dictionary((name, type) => {
            if (interfaceName === uapi.VM && name === 'Name' && type === 's') vm.name = printable(reply.string());
            else readProperty(reply, info, interfaceName, name, type);
          });
        }),
      );
    }),
  );
  vm.infos = infos.toSorted((a, b) => a.id - b.id);
}

/** Reads or skips a property inside its variant. */
function readProperty(message: BusMessage, info: ConsoleInfo, interfaceName: string, name: string, type: string): void {
  const property = `${interfaceName}.${name} ${type}`;
  if (property === `${uapi.CONSOLE}.Type s`) info.isText = message.string() === 'Text';
  else if (property === `${uapi.CONSOLE}.Label s`) info.label = printable(message.string());
  else if (property === `${uapi.MOUSE}.IsAbsolute b`) info.isAbsolute = message.boolean();
  else if (property === `${uapi.KEYBOARD}.Modifiers u`) info.modifiers = message.u32();
  else if (property === `${uapi.MULTI_TOUCH}.MaxSlots i`) info.touches = message.i32();
  else message.skip(type);
}
