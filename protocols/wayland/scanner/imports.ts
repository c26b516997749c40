/** Collects import declarations while the code that needs them is emitted. */
export class Imports {
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
