import { HEADER_SIZE } from '../wire.ts';
import type { ArgumentModel, InterfaceModel, MessageModel, Protocol } from './model.ts';
import { className, enumTypeName, memberName, parameterName } from './names.ts';

const WIRE = '../../../../protocols/wayland/wire.ts';
const FD = '../../../../src/sys/fd.ts';
const OBJECT = '../object.ts';
const OUTGOING = '../outgoing.ts';
const INCOMING = '../incoming.ts';
/** The ObjectMap, in a method of a generated class. */
const OBJECTS = 'this.connection.objects';

/** Besides its use at run time, this makes classes with the same requests different types. */
const interfaceGetter = (name: string): string =>
  `  override get interface(): typeof ${name} {\n    return ${name};\n  }\n`;

/** Names from all protocols, so that a file can import them from where they are. */
export interface Known {
  /** Interface or qualified enum -> the protocol that it belongs to. */
  readonly homes: ReadonlyMap<string, string>;
  readonly bitfields: ReadonlySet<string>;
}

export function knownOf(protocols: readonly Protocol[]): Known {
  const homes = new Map<string, string>();
  const bitfields = new Set<string>();
  for (const protocol of protocols) {
    for (const { name, enums } of protocol.interfaces) {
      homes.set(name, protocol.name);
      for (const each of enums) {
        homes.set(each.name, protocol.name);
        if (each.isBitfield) bitfields.add(each.name);
      }
    }
  }
  return { homes, bitfields };
}

/**
 * The protocol as TypeScript: for each interface a class that sends requests, and the type of a
 * listener to its events.
 */
export function emitBindings(protocol: Protocol, header: string, known: Known): string {
  const emitter = new BindingsEmitter(protocol.name, known);
  const body = protocol.interfaces.map((each) => emitter.interface(each)).join('\n');
  return `${header}${emitter.imports.emit()}\n${emitEnumExports(protocol)}${body}`;
}

/** The enums, exported again, so that users of a protocol need only one module. */
function emitEnumExports({ name, interfaces }: Protocol): string {
  const types = interfaces.flatMap(({ enums }) => enums.map((each) => enumTypeName(each.name))).sort();
  return types.length === 0
    ? ''
    : `export { ${types.join(', ')} } from '../../../../protocols/wayland/generated/${name}.ts';\n\n`;
}

class BindingsEmitter {
  readonly imports = new Imports();
  readonly #protocol: string;
  readonly #known: Known;
  readonly #tables: string;

  constructor(protocol: string, known: Known) {
    this.#protocol = protocol;
    this.#known = known;
    this.#tables = `../../../../protocols/wayland/generated/${protocol}.ts`;
    this.imports.value('WaylandObject', OBJECT);
  }

  interface({ name, requests, events }: InterfaceModel): string {
    const type = className(name);
    this.imports.value(name, this.#tables);
    const parts = [
      `  static readonly interface = ${name};\n${events.length > 0 ? `  declare listener: ${type}Listener | null;\n` : ''}`,
      interfaceGetter(name),
    ];
    requests.forEach((request, opcode) => {
      if (this.#isBindable(request)) parts.push(this.#request(request, opcode));
    });
    if (events.length > 0) parts.push(this.#dispatch(events));
    return `${events.length > 0 ? this.#listener(type, events) : ''}export class ${type} extends WaylandObject {\n${parts.join('\n')}}\n`;
  }

  /** A request about an interface that is not generated keeps its opcode but gets no method. */
  #isBindable({ args }: MessageModel): boolean {
    return args.every((arg) => arg.interface === null || this.#known.homes.has(arg.interface));
  }

  #request({ name, since, isDestructor, args }: MessageModel, opcode: number): string {
    const created = args.find((arg) => arg.type === 'new_id');
    const isGeneric = created?.interface === null;
    const parameters = args.flatMap((arg) => {
      if (arg.type !== 'new_id') return [`${parameterName(arg.name)}: ${this.#parameterType(arg)}`];
      if (!isGeneric) return [];
      this.imports.type('WaylandClass', OBJECT);
      return ['type: WaylandClass<T>', 'version: number'];
    });
    const result = isGeneric ? 'T' : created ? this.#class(created, 'value') : 'void';
    const sinceArgument = since > 1 ? `, ${since}` : '';
    const body = [
      `const out = this.request(${opcode}, ${this.#size(args)}${sinceArgument});`,
      // The descriptor comes last: it takes no bytes, and a bad argument before it leaves nothing to undo.
      ...[...args.filter((arg) => arg.type !== 'fd'), ...args.filter((arg) => arg.type === 'fd')].flatMap(encode),
      'out.end();',
      ...(isDestructor ? ['this.retire();'] : []),
      ...(created ? [`return ${OBJECTS}.create(${isGeneric ? 'type, version' : `${result}, this.version`});`] : []),
    ];
    if (args.filter((arg) => arg.type === 'fd').length > 1)
      throw new Error(`${name}: a request with two file descriptors is not supported`);
    return `${since > 1 ? `  /** Since version ${since}. */\n` : ''}  ${memberName(name)}${isGeneric ? '<T extends WaylandObject>' : ''}(${parameters.join(', ')}): ${result} {\n${body.map((line) => `    ${line}\n`).join('')}  }\n`;
  }

  #size(args: readonly ArgumentModel[]): string {
    let fixed = HEADER_SIZE;
    const varying: string[] = [];
    for (const arg of args) {
      const name = parameterName(arg.name);
      if (arg.type === 'string') varying.push(this.imports.use('stringSize', OUTGOING, `(${name})`));
      else if (arg.type === 'array') varying.push(this.imports.use('arraySize', OUTGOING, `(${name})`));
      else if (arg.type !== 'fd') fixed += 4;
      if (arg.type === 'new_id' && arg.interface === null) {
        varying.push(this.imports.use('stringSize', OUTGOING, '(type.interface.name)'));
        fixed += 4;
      }
    }
    return [fixed, ...varying].join(' + ');
  }

  #listener(type: string, events: readonly MessageModel[]): string {
    const members = events.map(({ name, since, args }) => {
      const parameters = args.map((arg) => `${parameterName(arg.name)}: ${this.#eventType(arg)}`).join(', ');
      return `${since > 1 ? `  /** Since version ${since}. */\n` : ''}  ${memberName(name)}?(${parameters}): void;\n`;
    });
    return `export interface ${type}Listener {\n${members.join('')}}\n\n`;
  }

  #dispatch(events: readonly MessageModel[]): string {
    this.imports.type('Incoming', INCOMING);
    const cases = events.map(
      (event, opcode) =>
        `      case ${opcode}: {\n${this.#event(event)
          .map((line) => `        ${line}\n`)
          .join('')}        return;\n      }\n`,
    );
    return `  override dispatch(opcode: number, event: Incoming): void {\n    switch (opcode) {\n${cases.join('')}      default:\n        super.dispatch(opcode, event);\n    }\n  }\n`;
  }

  #event({ name, isDestructor, args }: MessageModel): string[] {
    const method = memberName(name);
    const values = args.map((arg) => parameterName(arg.name)).join(', ');
    const owned = args
      .filter((arg) => arg.type === 'fd' || arg.type === 'new_id')
      .map((arg) => parameterName(arg.name));
    const listener = isDestructor ? 'listener' : 'this.listener';
    return [
      ...args.map((arg) => `const ${parameterName(arg.name)} = ${this.#decode(arg)};`),
      'event.end();',
      ...(isDestructor ? ['const { listener } = this;', 'this.retire();'] : []),
      ...(owned.length === 0
        ? [`${listener}?.${method}?.(${values});`]
        : [
            `if (${listener}?.${method}) ${listener}.${method}(${values});`,
            `else ${owned.map((value) => `${value}[Symbol.dispose]();`).join(' ')}`,
          ]),
    ];
  }

  #decode(arg: ArgumentModel): string {
    switch (arg.type) {
      case 'object':
        // Only in wl_display.error, which may name an object that no longer exists.
        if (arg.interface === null) return 'event.uint()';
        return `${OBJECTS}.${arg.isNullable ? 'resolveNullable' : 'resolve'}(${this.#class(arg, 'value')}, event.uint())`;
      case 'new_id':
        return `${OBJECTS}.adopt(${this.#class(arg, 'value')}, event.uint(), this.version)`;
      case 'string':
        return arg.isNullable ? 'event.nullableString()' : 'event.string()';
      default:
        return `event.${arg.type}()`;
    }
  }

  #parameterType(arg: ArgumentModel): string {
    const nullable = arg.isNullable ? ' | null' : '';
    switch (arg.type) {
      case 'object':
        return this.#class(arg, 'type') + nullable;
      case 'string':
        return `string${nullable}`;
      case 'array':
        return 'Uint8Array';
      case 'fd':
        return this.imports.typeUse('BorrowedFd', FD);
      default:
        return this.#enum(arg) ?? 'number';
    }
  }

  #eventType(arg: ArgumentModel): string {
    switch (arg.type) {
      case 'object':
        return arg.interface === null ? 'number' : `${this.#class(arg, 'type')} | null`;
      case 'new_id':
        return this.#class(arg, 'value');
      case 'fd':
        return this.imports.typeUse('OwnedFd', FD);
      case 'string':
      case 'array':
        return this.#parameterType(arg);
      default: {
        const type = this.#enum(arg);
        return type === null ? 'number' : `${this.imports.typeUse('OrLater', WIRE)}<${type}>`;
      }
    }
  }

  /** The enum's type; null if any number is valid, as for bit fields. */
  #enum({ enum: name }: ArgumentModel): string | null {
    if (name === null || this.#known.bitfields.has(name)) return null;
    return this.imports.typeUse(enumTypeName(name), `../../../../protocols/wayland/generated/${this.#home(name)}.ts`);
  }

  #class(arg: ArgumentModel, use: 'type' | 'value'): string {
    if (arg.interface === null) throw new Error(`${arg.name}: an object of any interface is not supported here`);
    const type = className(arg.interface);
    const home = this.#home(arg.interface);
    if (home !== this.#protocol) this.imports[use](type, `./${home}.ts`);
    return type;
  }

  #home(name: string): string {
    const home = this.#known.homes.get(name);
    if (home === undefined) throw new Error(`${name} belongs to none of the protocols in protocols.ts`);
    return home;
  }
}

function encode(arg: ArgumentModel): string[] {
  const name = parameterName(arg.name);
  if (arg.type === 'object') return [`out.uint(${OBJECTS}.idOf(${name}));`];
  if (arg.type !== 'new_id') return [`out.${arg.type}(${name});`];
  return [
    ...(arg.interface === null ? ['out.string(type.interface.name);', 'out.uint(version);'] : []),
    `out.uint(${OBJECTS}.nextId);`,
  ];
}

/** Collects import declarations while the code that needs them is emitted. */
class Imports {
  readonly #modules = new Map<string, Map<string, 'type' | 'value'>>();

  /** `name` is used as a value, and perhaps also as a type. */
  value(name: string, module: string): void {
    this.#names(module).set(name, 'value');
  }

  type(name: string, module: string): void {
    const names = this.#names(module);
    if (!names.has(name)) names.set(name, 'type');
  }

  /** Like `value`; returns `name` followed by `rest`. */
  use(name: string, module: string, rest: string): string {
    this.value(name, module);
    return name + rest;
  }

  typeUse(name: string, module: string): string {
    this.type(name, module);
    return name;
  }

  emit(): string {
    const modules = [...this.#modules].sort(([a], [b]) => (a < b ? -1 : 1));
    return modules.map(([module, names]) => emitImport(module, names)).join('');
  }

  #names(module: string): Map<string, 'type' | 'value'> {
    const names = this.#modules.get(module) ?? new Map<string, 'type' | 'value'>();
    this.#modules.set(module, names);
    return names;
  }
}

function emitImport(module: string, names: ReadonlyMap<string, 'type' | 'value'>): string {
  const sorted = [...names].sort(([a], [b]) => (a < b ? -1 : 1));
  const areTypes = sorted.every(([, use]) => use === 'type');
  const list = sorted.map(([name, use]) => (use === 'type' && !areTypes ? `type ${name}` : name)).join(', ');
  return `import ${areTypes ? 'type ' : ''}{ ${list} } from '${module}';\n`;
}
