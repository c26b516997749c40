import type { ArgumentModel, EnumModel, InterfaceModel, MessageModel, Protocol } from './model.ts';
import { enumTypeName } from './names.ts';

/** The protocol as data: its enums, and a table for each interface. */
export function emitTables(protocol: Protocol, header: string): string {
  return [
    `${header}import type { InterfaceTable } from '../wire.ts';\n`,
    ...protocol.interfaces.flatMap(({ enums }) => enums.map(emitEnum)),
    ...protocol.interfaces.map(emitInterface),
  ].join('\n');
}

function emitEnum({ name, isBitfield, entries }: EnumModel): string {
  const type = enumTypeName(name);
  const lines = entries.map(([entry, value]) => `  ${/^\d/.test(entry) ? `'${entry}'` : entry}: ${value},\n`);
  const union = isBitfield ? '' : `export type ${type} = (typeof ${type})[keyof typeof ${type}];\n`;
  return `/** ${name}${isBitfield ? ', bits' : ''} */\nexport const ${type} = {\n${lines.join('')}} as const;\n${union}`;
}

function emitInterface({ name, version, requests, events, enums }: InterfaceModel): string {
  const errors = enums.find((each) => each.name === `${name}.error`);
  return `export const ${name}: InterfaceTable<'${name}'> = {
  name: '${name}',
  version: ${version},
  requests: ${emitMessages(requests)},
  events: ${emitMessages(events)},
  errors: ${errors ? enumTypeName(errors.name) : '{}'},
};
`;
}

function emitMessages(messages: readonly MessageModel[]): string {
  return messages.length === 0 ? '[]' : `[\n${messages.map((message) => `    ${emitMessage(message)},\n`).join('')}  ]`;
}

function emitMessage({ name, since, isDestructor, args }: MessageModel): string {
  return `{ name: '${name}', since: ${since}, ${isDestructor ? 'destructor: true, ' : ''}args: [${args.map(emitArgument).join(', ')}] }`;
}

function emitArgument(arg: ArgumentModel): string {
  return `{ name: '${arg.name}', type: '${arg.type}'${arg.interface === null ? '' : `, interface: '${arg.interface}'`}${arg.isNullable ? ', nullable: true' : ''} }`;
}
