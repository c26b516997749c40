import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { emitBindings, knownOf } from './emit-bindings.ts';
import { emitTables } from './emit-tables.ts';
import { parseProtocol } from './parse.ts';
import { PROTOCOLS } from './protocols.ts';

/** Where libwayland-dev and wayland-protocols install their XML. */
const XML_DIRECTORIES = ['/usr/share/wayland', '/usr/share/wayland-protocols'];

/** Contents of the generated files, by path in the project. */
export type GeneratedFiles = ReadonlyMap<string, string>;

/** Generates all files. Throws MissingXml if a protocol is not installed, OlderXml if it is too old. */
export function generate(): GeneratedFiles {
  const xmlFiles = findXml();
  const protocols = PROTOCOLS.map(({ name, xml, versions }) => {
    const file = xmlFiles.get(xml);
    if (file === undefined) throw new MissingXml(xml);
    return parseProtocol(name, readFileSync(file, 'utf8'), versions);
  });
  const known = knownOf(protocols);
  const files = new Map<string, string>();
  protocols.forEach((protocol, index) => {
    const header = `// Made from ${PROTOCOLS[index]!.xml} by protocols/wayland/scanner: npm run generate:wayland\n`;
    files.set(`protocols/wayland/generated/${protocol.name}.ts`, emitTables(protocol, header));
    files.set(`display/wayland/client/generated/${protocol.name}.ts`, emitBindings(protocol, header, known));
  });
  return files;
}

export class MissingXml extends Error {
  constructor(xml: string) {
    super(`no ${xml} below ${XML_DIRECTORIES.join(' or ')}: install libwayland-dev and wayland-protocols`);
  }
}

function findXml(): Map<string, string> {
  const found = new Map<string, string>();
  for (const directory of XML_DIRECTORIES.filter((each) => existsSync(each))) {
    for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
      if (entry.isFile() && entry.name.endsWith('.xml')) found.set(entry.name, join(entry.parentPath, entry.name));
    }
  }
  return found;
}
