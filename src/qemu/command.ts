import { UsageError } from '../core/errors.ts';
import { VD_AGENT_PORT } from '../../protocols/vd-agent.ts';
import { deviceFlags, qemuSize } from './flags.ts';

/** The descriptors that QEMU inherits. */
export interface QemuDescriptors {
  readonly gpu: number;
  readonly inputs: readonly number[];
  /** Undefined if the clipboard is not shared. */
  readonly clipboard?: number | undefined;
  readonly qmp: number;
}

export interface QemuCommandOptions {
  /** QEMU's own display shows the guest beside other outputs (`--output vmm`). */
  readonly hasDisplay: boolean;
  /** Guest memory may be a file that cannot be sealed (`--allow-unsealed-memory`). */
  readonly allowUnsealedMemory: boolean;
}

const DEFAULT_MEMORY = '2G';

/** Devices that would be a second graphics card, on which the guest's console or desktop could appear. */
const GRAPHICS =
  /^(VGA|secondary-vga|(virtio|vhost-user)-(gpu|vga)(-.*)?|qxl(-vga)?|cirrus-vga|isa-vga|isa-cirrus-vga|bochs-display|ramfb|ati-vga|vmware-svga)$/;

/** A flag with its value, if the next argument is one. */
interface Flag {
  /** Without dashes: QEMU takes `-m` and `--m`. */
  readonly name: string;
  readonly value: string;
}

/**
 * Adds to a QEMU command line what connects its guest to a bridge: memory that can be shared, the GPU, input devices
 * and a control channel (QMP). Machine, memory size and everything else are the user's. Throws UsageError for flags
 * that would leave the guest without this GPU, or this process without the guest.
 */
export function wireQemu(
  [program, ...args]: readonly string[],
  { gpu, inputs, clipboard, qmp }: QemuDescriptors,
  options: QemuCommandOptions,
): string[] {
  if (!program || program.startsWith('-'))
    throw new UsageError(
      'write the QEMU command after --, program first, as in: -- qemu-system-x86_64 -m 2G disk.qcow2',
    );
  const flags = flagsAmong(args);
  checkFlags(flags, options);
  if (clipboard !== undefined && args.some((arg) => arg.includes(VD_AGENT_PORT)))
    throw new UsageError(`QEMU's flags have a port ${VD_AGENT_PORT} already: remove it, or leave --clipboard out`);
  return [
    program,
    ...args,
    ...memoryFlags(flags, options),
    ...(flags.some(({ name }) => name === 'display' || name === 'nographic' || name === 'vnc')
      ? []
      : options.hasDisplay
        ? []
        : ['-display', 'none']),
    ...['-vga', 'none'],
    ...deviceFlags({ socket: gpu, inputs, clipboard, generic: false, prefix: 'scanout-' }).flat(),
    ...['-chardev', `socket,id=scanout-qmp,fd=${qmp}`, '-mon', 'chardev=scanout-qmp,mode=control'],
  ];
}

function flagsAmong(args: readonly string[]): Flag[] {
  return args.flatMap((arg, index) => {
    const name = /^--?([A-Za-z].*)$/s.exec(arg)?.[1];
    const value = args[index + 1] ?? '';
    return name === undefined ? [] : [{ name, value: value.startsWith('-') ? '' : value }];
  });
}

function checkFlags(flags: readonly Flag[], { hasDisplay }: QemuCommandOptions): void {
  for (const { name, value } of flags) {
    const refuse = (why: string): never => {
      throw new UsageError(`QEMU's -${name}${value === '' ? '' : ` ${value}`}: ${why}`);
    };
    if (name === 'daemonize') refuse('QEMU must stay a child of this process, so that it can end the guest; remove it');
    if (name === 'vga' && value !== 'none') refuse("scanout is the guest's graphics card; remove it");
    if (name === 'device' && GRAPHICS.test(typeOf(value, 'driver')))
      refuse("scanout is the guest's graphics card; remove the second one");
    if (((name === 'display' && typeOf(value, 'type') !== 'none') || name === 'vnc') && !hasDisplay)
      refuse(
        'the guest is shown by --output of scanout; remove it, or add --output vmm to show the guest there as well',
      );
    if (name === 'mem-path')
      refuse('give the memory as -object memory-backend-memfd,id=ram,share=on,size=… and -machine memory-backend=ram');
  }
}

/** Memory that the GPU can map: what the user has chosen if that is shared, else a memfd of the size of -m. */
function memoryFlags(flags: readonly Flag[], options: QemuCommandOptions): string[] {
  const objects = flags.filter(({ name }) => name === 'object').map(({ value }) => value);
  const chosen = [
    ...flags
      .filter(({ name }) => name === 'machine' || name === 'M')
      .map(({ value }) => property(value, 'memory-backend')),
    ...flags.filter(({ name }) => name === 'numa').map(({ value }) => property(value, 'memdev')),
  ].filter((id) => id !== undefined);
  for (const id of chosen)
    checkBackend(
      id,
      objects.find((object) => property(object, 'id') === id),
      options,
    );
  if (chosen.length > 0) return [];
  const id = 'scanout-memory';
  const given = flags.filter(({ name }) => name === 'm').map(({ value }) => property(value, 'size', true) ?? '');
  const size = memorySize(given.at(-1) ?? DEFAULT_MEMORY);
  return [
    ...(given.length > 0 ? [] : ['-m', DEFAULT_MEMORY]),
    ...['-object', `memory-backend-memfd,id=${id},size=${size},share=on`],
    ...['-machine', `memory-backend=${id}`],
  ];
}

function checkBackend(id: string, object: string | undefined, { allowUnsealedMemory }: QemuCommandOptions): void {
  const refuse = (why: string): never => {
    throw new UsageError(`QEMU's memory-backend=${id}: ${why}; or remove it, scanout adds one of the size of -m`);
  };
  if (object === undefined) return refuse('there is no -object with this id');
  const type = typeOf(object, 'qom-type');
  const share = property(object, 'share');
  const isShared = share === undefined ? type === 'memory-backend-memfd' : share === 'on' || share === 'true';
  if (type !== 'memory-backend-memfd' && type !== 'memory-backend-file')
    refuse(`other processes cannot map a ${type}; use memory-backend-memfd with share=on`);
  if (!isShared) refuse('other processes cannot map this memory; add share=on to the object');
  if (type === 'memory-backend-file' && !allowUnsealedMemory)
    refuse(
      'QEMU could truncate the file, which would kill this process; use memory-backend-memfd, or add --allow-unsealed-memory before the --',
    );
}

/** QEMU's sizes: a number, which may have a fraction, and a unit, megabytes without one. */
function memorySize(text: string): string {
  const [, number, unit = 'M'] = /^(\d{1,9}(?:\.\d{1,6})?)([BKMGTbkmgt])?$/.exec(text) ?? [];
  const bytes = Number(number) * 1024 ** 'BKMGT'.indexOf(unit.toUpperCase());
  if (!(bytes >= 2 ** 20))
    throw new UsageError(`QEMU's -m ${text}: cannot read the size; write it as in -m 2G or -m 512M`);
  return qemuSize(Math.ceil(bytes / 2 ** 20));
}

/** The first word of a value as `VGA,id=x` or `driver=VGA`, or the member `key` of a JSON object. */
function typeOf(value: string, key: string): string {
  if (value.startsWith('{')) return property(value, key) ?? '';
  const [first = ''] = value.split(',');
  return first.startsWith(`${key}=`) ? first.slice(key.length + 1) : first;
}

/** Of a value as `a=b,c=d`, or of a JSON object. `isFirst`: the first word has it without its name, too. */
function property(value: string, key: string, isFirst = false): string | undefined {
  if (value.startsWith('{')) return jsonProperty(value, key);
  const words = value.split(/(?<!,),(?!,)/);
  const [first = ''] = words;
  if (isFirst && !first.includes('=')) return first;
  return words.findLast((word) => word.startsWith(`${key}=`))?.slice(key.length + 1);
}

function jsonProperty(value: string, key: string): string | undefined {
  try {
    const member = (JSON.parse(value) as Record<string, unknown>)[key];
    return typeof member === 'string' || typeof member === 'boolean' ? String(member) : undefined;
  } catch {
    // QEMU says what is wrong with it.
    return undefined;
  }
}
