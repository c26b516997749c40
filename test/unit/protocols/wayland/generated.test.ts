import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { emitBindings, knownOf } from '../../../../protocols/wayland/scanner/emit-bindings.ts';
import { type GeneratedFiles, MissingXml, generate } from '../../../../protocols/wayland/scanner/generate.ts';
import { OlderXml, parseProtocol } from '../../../../protocols/wayland/scanner/parse.ts';
import { skipBecause } from '../../../rig/skip.ts';
import { INTERFACES } from '../../display/wayland/client/codec.ts';

const root = join(import.meta.dirname, '../../../..');

/** Whether the protocol XML of this machine is missing or too old. */
function skipWithoutXml(): boolean {
  try {
    generate();
  } catch (error) {
    return (error instanceof MissingXml || error instanceof OlderXml) && skipBecause(error.message);
  }
  return false;
}

describe.skipIf(skipWithoutXml())('generated Wayland files', () => {
  let files: GeneratedFiles;

  beforeAll(() => {
    files = generate();
  });

  test('are what the scanner makes of the installed XML', () => {
    for (const [path, text] of files) expect(readFileSync(join(root, path), 'utf8'), path).toBe(text);
  });

  test('have no stale file beside them', () => {
    const directories = ['protocols/wayland/generated', 'display/wayland/client/generated'];
    const present = directories.flatMap((directory) =>
      readdirSync(join(root, directory)).map((name) => `${directory}/${name}`),
    );
    expect(present.sort()).toEqual([...files.keys()].sort());
  });

  test('are all exported by the entry module', () => {
    const entry = readFileSync(join(root, 'display/wayland/client/index.ts'), 'utf8');
    const bindings = [...files.keys()]
      .filter((path) => path.startsWith('display/'))
      .map((path) => `./generated/${path.split('/').at(-1)!}`);
    expect(bindings.filter((path) => !entry.includes(`export * from '${path}';`))).toEqual([]);
  });
});

const xml = `<?xml version="1.0"?>
<protocol name="toy">
  <copyright>not to be copied</copyright>
  <interface name="toy_thing" version="3">
    <description summary="not to be copied">not to be copied</description>
    <request name="destroy" type="destructor"/>
    <request name="paint" since="2"><arg name="colour" type="uint" enum="colour" summary="no"/></request>
    <request name="sing" since="3"/>
    <event name="named"><arg name="name" type="string" allow-null="true"/></event>
    <event name="sung" since="3"/>
    <enum name="colour"><entry name="red" value="0x10"/><entry name="blue" value="2" since="3"/></enum>
    <enum name="mood" since="3" bitfield="true"><entry name="good" value="1"/></enum>
  </interface>
  <interface name="toy_box" version="1"/>
</protocol>`;

test('parseProtocol leaves out what is newer than the listed version, and interfaces that are not listed', () => {
  const { interfaces } = parseProtocol('toy', xml, { toy_thing: 2 });
  expect(interfaces).toEqual([
    {
      name: 'toy_thing',
      version: 2,
      requests: [
        { name: 'destroy', since: 1, isDestructor: true, args: [] },
        {
          name: 'paint',
          since: 2,
          isDestructor: false,
          args: [{ name: 'colour', type: 'uint', interface: null, isNullable: false, enum: 'toy_thing.colour' }],
        },
      ],
      events: [
        {
          name: 'named',
          since: 1,
          isDestructor: false,
          args: [{ name: 'name', type: 'string', interface: null, isNullable: true, enum: null }],
        },
      ],
      enums: [{ name: 'toy_thing.colour', isBitfield: false, entries: [['red', '0x10']] }],
    },
  ]);
});

test('parseProtocol throws OlderXml for XML older than the listed version, and another error for invalid XML', () => {
  expect(() => parseProtocol('toy', xml, { toy_thing: 4 })).toThrow(OlderXml);
  expect(() => parseProtocol('toy', xml, { toy_train: 1 })).toThrow(OlderXml);
  expect(() => parseProtocol('toy', '<interface/>', { toy_thing: 1 })).toThrow('no protocol');
  expect(() => parseProtocol('toy', xml.replace('type="uint"', 'type="number"'), { toy_thing: 2 })).toThrow(
    'of type number',
  );
});

test('emitBindings handles nullable objects and strings in events, and arrays in requests', () => {
  const rare = `<protocol name="rare">
    <interface name="rare_thing" version="1">
      <request name="fill"><arg name="bytes" type="array"/></request>
      <event name="chosen"><arg name="thing" type="object" interface="rare_thing" allow-null="true"/><arg name="text" type="string" allow-null="true"/></event>
    </interface>
  </protocol>`;
  const protocol = parseProtocol('rare', rare, { rare_thing: 1 });
  const emitted = emitBindings(protocol, '', knownOf([protocol]));
  expect(emitted).toContain("import { arraySize } from '../outgoing.ts';");
  expect(emitted).toContain(
    'const out = this.request(0, 8 + arraySize(bytes));\n    out.array(bytes);\n    out.end();',
  );
  expect(emitted).toContain('const thing = this.connection.objects.resolveNullable(RareThing, event.uint());');
  expect(emitted).toContain('const text = event.nullableString();');
});

test('Wayland tables: every interface that a message refers to has one, except those of popups', () => {
  const named = [...INTERFACES.values()].flatMap(({ requests, events }) =>
    [...requests, ...events].flatMap(({ args }) => args.map((arg) => arg.interface)),
  );
  const unknown = new Set(named.filter((name) => name !== undefined && !INTERFACES.has(name)));
  expect([...unknown].sort()).toEqual(['xdg_popup', 'xdg_positioner']);
});
