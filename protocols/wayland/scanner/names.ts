/** `wl_output` -> `WlOutput`. */
export function className(interfaceName: string): string {
  return interfaceName.split('_').map(capitalized).join('');
}

/** `wl_output.transform` -> `WlOutputTransform`. */
export function enumTypeName(enumName: string): string {
  return className(enumName.replace('.', '_'));
}

/** `set_buffer_scale` -> `setBufferScale`. */
export function memberName(name: string): string {
  return name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
}

/** Words reserved by TypeScript or used in the generated functions. */
const TAKEN = new Set([
  'class',
  'default',
  'delete',
  'enum',
  'event',
  'interface',
  'listener',
  'new',
  'opcode',
  'out',
  'this',
  'type',
  'version',
]);

/** Like `memberName`, but usable as the name of a parameter. */
export function parameterName(name: string): string {
  const camel = memberName(name);
  return TAKEN.has(camel) ? `${camel}_` : camel;
}

function capitalized(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1);
}
