import { type XmlElement, parseXml } from '@rgrove/parse-xml';
import { ARGUMENT_TYPES, type ArgumentType } from '../wire.ts';
import type { ArgumentModel, EnumModel, InterfaceModel, MessageModel, Protocol } from './model.ts';

/** An interface in the XML is older than the chosen version: the installed packages are too old. */
export class OlderXml extends Error {}

/**
 * Reads the interfaces named in `versions` from a protocol's XML. Leaves out what came after the
 * version given there, so that a newer XML gives the same model. Throws OlderXml.
 */
export function parseProtocol(name: string, xml: string, versions: Readonly<Record<string, number>>): Protocol {
  const root = parseXml(xml).root;
  if (root?.name !== 'protocol') throw new Error(`${name}: no protocol in this XML`);
  const found = new Map(childrenOf(root, 'interface').map((element) => [attribute(element, 'name'), element]));
  const interfaces = Object.entries(versions).map(([interfaceName, version]) => {
    const element = found.get(interfaceName);
    const theirs = element ? Number(attribute(element, 'version')) : 0;
    if (!element || theirs < version)
      throw new OlderXml(`${name}: ${interfaceName} has version ${theirs}, version ${version} is needed`);
    return parseInterface(element, interfaceName, version);
  });
  return { name, interfaces };
}

function parseInterface(element: XmlElement, name: string, version: number): InterfaceModel {
  const known = (kind: string): XmlElement[] => childrenOf(element, kind).filter((child) => sinceOf(child) <= version);
  return {
    name,
    version,
    requests: known('request').map((message) => parseMessage(message, name)),
    events: known('event').map((message) => parseMessage(message, name)),
    enums: known('enum').map((child) => parseEnum(child, name, version)),
  };
}

function parseMessage(element: XmlElement, interfaceName: string): MessageModel {
  return {
    name: attribute(element, 'name'),
    since: sinceOf(element),
    isDestructor: element.attributes.type === 'destructor',
    args: childrenOf(element, 'arg').map((arg) => parseArgument(arg, interfaceName)),
  };
}

function parseArgument({ attributes }: XmlElement, interfaceName: string): ArgumentModel {
  const { name, type, enum: enumName } = attributes;
  if (name === undefined || !isArgumentType(type))
    throw new Error(`${interfaceName}: an argument ${String(name)} of type ${String(type)}`);
  return {
    name,
    type,
    interface: attributes.interface ?? null,
    isNullable: attributes['allow-null'] === 'true',
    enum: enumName === undefined ? null : qualified(enumName, interfaceName),
  };
}

function parseEnum(element: XmlElement, interfaceName: string, version: number): EnumModel {
  return {
    name: qualified(attribute(element, 'name'), interfaceName),
    isBitfield: element.attributes.bitfield === 'true',
    entries: childrenOf(element, 'entry')
      .filter((entry) => sinceOf(entry) <= version)
      .map((entry) => [attribute(entry, 'name'), attribute(entry, 'value')] as const),
  };
}

function isArgumentType(type: string | undefined): type is ArgumentType {
  return ARGUMENT_TYPES.includes(type as ArgumentType);
}

function qualified(enumName: string, interfaceName: string): string {
  return enumName.includes('.') ? enumName : `${interfaceName}.${enumName}`;
}

function sinceOf(element: XmlElement): number {
  return Number(element.attributes.since ?? 1);
}

function attribute(element: XmlElement, name: string): string {
  const value = element.attributes[name];
  if (value === undefined) throw new Error(`<${element.name}> without ${name}`);
  return value;
}

function childrenOf(element: XmlElement, name: string): XmlElement[] {
  return element.children.filter(
    (child): child is XmlElement => child.type === 'element' && (child as XmlElement).name === name,
  );
}
