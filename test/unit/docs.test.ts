/** What the documents promise: links, commands, scripts, benchmarks, and the program of docs/library.md. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { decodePng } from '../../display/picture/png.ts';
import { Recorder } from '../../src/guest/replay/recorder.ts';
import { FrontEnd } from '../rig/front-end.ts';
import { connectUnix } from '../../src/sys/socket.ts';
import { listening } from '../rig/listening.ts';
import { scanout } from './cli/scanout.ts';
import * as request from './guest/virtio-gpu/requests.ts';

const ROOT = join(import.meta.dirname, '../..');
const RAM = 0x4000_0000;
const SIDE = 64;

const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

function markdownIn(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return entry.name === 'api' ? [] : markdownIn(path);
    return entry.name.endsWith('.md') ? [path] : [];
  });
}

const documents = [
  ...readdirSync(ROOT).filter((name) => name.endsWith('.md')),
  ...['docs', 'examples'].filter((folder) => existsSync(join(ROOT, folder))).flatMap(markdownIn),
];

/** The text outside of code, where links are links. */
function prose(path: string): string {
  return read(path)
    .replaceAll(/^```.*?^```/gms, '')
    .replaceAll(/`[^`\n]*`/g, '');
}

/** The code blocks of one language, joined. */
function code(path: string, language: string): string {
  return [...read(path).matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\``, 'gms'))]
    .map(([, text]) => text)
    .join('\n');
}

/** A heading's anchor, as forges make it. */
function anchors(path: string): string[] {
  return [...prose(path).matchAll(/^#+ (.*)$/gm)].map(([, text]) =>
    text!
      .toLowerCase()
      .replaceAll(/[^\w\- ]/g, '')
      .replaceAll(' ', '-'),
  );
}

test('docs/founding-documents.md: the tests that it names exist', () => {
  const named = [
    ...read('docs/founding-documents.md').matchAll(/`(test\/[\w/.-]+\.test\.ts)`: ((?:"[^"]+"(?:, )?)+)/g),
  ];
  const missing = named.flatMap(([, file, titles]) => {
    const text = read(file!).replaceAll("\\'", "'");
    return [...titles!.matchAll(/"([^"]+)"/g)]
      .filter(([, title]) => !text.includes(title!))
      .map(([, title]) => `${file!}: ${title!}`);
  });

  expect(named.length).toBeGreaterThan(30);
  expect(missing).toEqual([]);
});

describe.each(documents)('%s', (path) => {
  test('every relative link leads to a file, and its anchor to a heading', () => {
    const links = [...prose(path).matchAll(/\]\(([^)\s]+)\)/g)]
      .map(([, link]) => link!)
      .filter((link) => !/^[a-z]+:/.test(link));
    const broken = links.filter((link) => {
      const [file, anchor] = link.split('#') as [string, string?];
      const target = file === '' ? path : relative(ROOT, join(ROOT, dirname(path), file));
      if (!existsSync(join(ROOT, target))) return true;
      return anchor !== undefined && !anchors(target).includes(anchor);
    });

    expect(broken).toEqual([]);
  });

  test('every file and folder of the tree that it names in code exists', () => {
    const named = [
      ...read(path).matchAll(/`((?:src|display|protocols|test|docs|examples|fixtures|\.ci)\/[\w./-]*)`/g),
    ].map(([, name]) => name!);

    expect(named.filter((name) => name !== 'docs/api' && !existsSync(join(ROOT, name)))).toEqual([]);
  });

  test('every npm script that it names exists', () => {
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
    const named = [...read(path).matchAll(/\bnpm (?:run )?(?:-s )?(start|test(?::\w+)?|(?<=run )[\w:]+)/g)].map(
      ([, name]) => name!,
    );

    expect(named.filter((name) => !(name in scripts))).toEqual([]);
  });

  test('every benchmark that it names exists', () => {
    const known = ['benchmark.ts', 'kms.ts', 'wayland.ts', ...readdirSync(join(ROOT, 'test/bench'))]
      .filter((name) => name.endsWith('.ts'))
      .map((name) => read(`test/bench/${name}`))
      .join('\n');
    const named = [...read(path).matchAll(/npm run bench -- ([a-z][a-z -]*[a-z])/g)].flatMap(([, names]) =>
      names!.split(' '),
    );

    expect(named.filter((name) => !known.includes(`'${name}'`))).toEqual([]);
  });
});

const usage = new Map<string, Promise<string>>();

/** What `scanout COMMAND --help` prints. */
function help(command: string): Promise<string> {
  const known = usage.get(command) ?? scanout(command, '--help').then(({ stdout }) => stdout);
  usage.set(command, known);
  return known;
}

/** Each scanout command in the shell examples of a document, as words. */
function commandsIn(path: string): string[][] {
  const lines = code(path, 'sh')
    .split('\n')
    .map((line) => line.replace(/\s+#.*/, ''));
  return lines
    .filter((line) => /^(npx )?scanout /.test(line))
    .map((line) => line.replace(/^(npx )?scanout /, '').split(/\s+/));
}

test.each(documents.filter((path) => commandsIn(path).length > 0))(
  '%s: every scanout command has the options it is given',
  async (path) => {
    for (const [command, ...words] of commandsIn(path)) {
      const text = await help(command!);
      const options = words.filter((word) => word.startsWith('--'));

      expect(text).toContain(`Usage: scanout ${command!} `);
      expect(
        options.filter((option) => !text.includes(option)),
        command,
      ).toEqual([]);
    }
  },
);

describe('README.md', () => {
  test('can be read in five minutes', () => {
    expect(read('README.md').split('\n').length).toBeLessThanOrEqual(150);
  });

  test('its program is the beginning of the one in docs/library.md, which is run below', () => {
    const [, program] = /^## From code\n.*?```ts\n(.*?)```/ms.exec(read('README.md'))!;

    expect(code('docs/library.md', 'ts').replace(', writePng', '').startsWith(program!)).toBe(true);
  });
});

describe('docs/vm.md', () => {
  test('starts QEMU with the flags that scanout qemu-args prints', async () => {
    const [, command] = /`npx scanout (qemu-args [^`]*)`/.exec(read('docs/vm.md'))!;
    const { stdout } = await scanout(...command!.split(' '));

    for (const flags of stdout.trim().split(/ \\\n/)) expect(code('docs/vm.md', 'sh')).toContain(`${flags} `);
  });
});

describe('docs/library.md', () => {
  test('its program shows a guest and saves its picture', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'library-'));
    onTestFinished(() => rmSync(directory, { recursive: true }));
    const program = code('docs/library.md', 'ts')
      .replace("'scanout-bridge'", `'${join(ROOT, 'src/index.ts')}'`)
      .replaceAll('/tmp/gpu.sock', join(directory, 'gpu.sock'));
    writeFileSync(join(directory, 'example.mts'), program);
    const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), 'example.mts'], {
      cwd: directory,
      stdio: 'inherit',
    });
    onTestFinished(() => void child.kill('SIGKILL'));
    const exited = once(child, 'close');
    await listening(
      join(directory, 'gpu.sock'),
      exited.then(() => Promise.reject(new Error('the program ended early'))),
    );
    {
      using frontEnd = FrontEnd.create({
        socket: connectUnix(join(directory, 'gpu.sock')),
        memory: [{ guestAddress: RAM, size: 2 ** 20 }],
      });
      frontEnd.memory.write(RAM, new Uint8Array(SIDE * SIDE * 4).fill(0x5a));
      await frontEnd.connect();
      const commands = [
        request.create2d(1, SIDE, SIDE),
        request.attach(1, request.contiguous(SIDE * SIDE * 4, RAM)),
        request.setScanout(0, 1, 0, 0, SIDE, SIDE),
        request.transfer(1, 0, 0, SIDE, SIDE, 0),
      ];
      for (const command of commands) await frontEnd.request(0, command, 24);
      await frontEnd.request(0, request.flush(1, 0, 0, SIDE, SIDE), 24);
      expect(await exited).toEqual([0, null]);
    }
    const picture = decodePng(readFileSync(join(directory, 'screen.png')));
    expect([picture.width, picture.height, ...picture.data.subarray(0, 4)]).toEqual([
      SIDE,
      SIDE,
      0x5a,
      0x5a,
      0x5a,
      255,
    ]);
  });
});

describe('SECURITY.md', () => {
  test('a recording is created for its owner only, as stated', () => {
    const directory = mkdtempSync(join(tmpdir(), 'recording-'));
    onTestFinished(() => rmSync(directory, { recursive: true }));
    const file = join(directory, 'session.scanout');
    Recorder.open({ file, scanouts: 1 })[Symbol.dispose]();

    expect(statSync(file).mode & 0o777).toBe(0o600);
  });
});
