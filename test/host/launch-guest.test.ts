/** Real Debian guests that `launchGuest` starts, used as a test does. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { crop } from '../../display/picture/difference.ts';
import { decodePng, writePng } from '../../display/picture/png.ts';
import { type ConsoleFont, readPsf } from '../../display/picture/psf.ts';
import { ScreenReader } from '../../display/picture/screen-text.ts';
import type { Picture } from '../../src/core/picture.ts';
import { launchGuest, type LaunchedGuest, openDisplay, type TestDisplay } from '../../src/testing/index.ts';
import { eventually } from '../rig/eventually.ts';
import { axis, KEYBOARD, readUntil } from '../rig/guest-events.ts';
import { guestImage, skipWithoutGuest } from '../rig/guest-image.ts';
import { GuestShell } from '../rig/guest-shell.ts';
import { resources, resourcesBefore } from '../rig/our-gpu.ts';
import { skipWithoutProgram } from '../rig/skip.ts';
import { noise } from '../unit/display/picture/pictures.ts';

const SIZE = { width: 1024, height: 768 };
/** The rig's guests mount the root of this machine by 9p and run a shell on a virtio port. */
const ROOT = [
  '-fsdev',
  'local,id=root,path=/,security_model=none,readonly=on,multidevs=remap',
  '-device',
  'virtio-9p-pci,fsdev=root,mount_tag=root',
];
const QUIET = 'console=ttyS0 quiet loglevel=0 vt.global_cursor_default=0 consoleblank=0 panic=-1 mitigations=off';
const ASCII = Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i)).join('');

/** Of all widths, with 256 and 512 glyphs, from Debian's console-setup-linux. */
const FONTS = [
  ...['Lat15-Fixed16', 'Lat15-VGA8', 'Uni2-Terminus12x6', 'Uni2-Fixed18', 'Lat15-Terminus16'],
  ...['Uni2-Terminus22x11', 'CyrSlav-Terminus24x12', 'Greek-TerminusBold28x14', 'Lat2-TerminusBold32x16'],
];

/** Of ten: what is read does not depend on the line of Node. */
const CONSOLES = Number(process.env['CONSOLES'] ?? 10);

describe.skipIf(skipWithoutGuest('/usr/bin/evtest', '/bin/setfont', '/usr/share/consolefonts/Lat15-Fixed16.psf.gz'))(
  'launchGuest',
  () => {
    let before: ReturnType<typeof resources>;
    let directory: string;
    let guest: LaunchedGuest;
    let display: TestDisplay;
    let port: Socket;
    let shell: GuestShell;

    beforeAll(async () => {
      before = await resourcesBefore();
      directory = mkdtempSync(join(tmpdir(), 'scanout-launched-'));
      const path = join(directory, 'port');
      const server = createServer();
      const connected = new Promise<Socket>((resolve) => server.on('connection', resolve).listen(path));
      const { kernel, initrd } = guestImage();
      const args = [
        ...ROOT,
        '-device',
        'virtio-serial-pci',
        '-chardev',
        `socket,id=port,path=${path}`,
        '-device',
        'virtserialport,chardev=port',
      ];
      guest = await launchGuest({ kernel, initrd, append: QUIET, memoryMiB: 512, size: SIZE, accel: 'tcg', args });
      display = openDisplay({ guest });
      port = await connected;
      server.close();
      shell = new GuestShell(port);
      // The kernel drops what is typed on a console that no process has open.
      await shell.run('exec 4</dev/tty1');
    });
    afterAll(async () => {
      await guest.kill();
      port.destroy();
      rmSync(directory, { recursive: true, force: true });
    });

    /** What the guest reads from its console up to a line. */
    const linesUntil = (last: string): Promise<string> =>
      shell.run(`while IFS= read -r line <&4; do printf '%s\\n' "$line"; [ "$line" = '${last}' ] && break; done`);

    test('gives the guest a monitor of the requested size', () => {
      expect(display.screenshot()).toMatchObject(SIZE);
      expect(display.rung).toBe(existsSync('/dev/udmabuf') ? 'udmabuf' : 'shadow');
      expect(() => openDisplay({ guest, size: { width: 640, height: 480 } })).toThrow(
        expect.objectContaining({ code: 'usage' }),
      );
    });

    test('typing shows the same picture as writing to the console', async () => {
      await shell.run("printf '\\033[2J\\033[Hecho hello\\n' >/dev/tty1");
      const written = await display.waitForStable();
      await shell.run("printf '\\033[2J\\033[H' >/dev/tty1");
      await display.type('echo hello\n');

      await display.waitForMatch(written);
      expect(await linesUntil('echo hello')).toBe('echo hello\n');
    });

    test('typing delivers every ASCII character and a long text', async () => {
      const long = 'Sphinx of black quartz, judge my vow: 0123456789!\n'.repeat(8);
      const read = linesUntil('.');
      await display.type(`${ASCII}\n${long}.\n`);

      expect(await read).toBe(`${ASCII}\n${long}.\n`);
    });

    /** Starts evtest on our keyboard and pointer. */
    const listen = (): Promise<string> =>
      shell.run(
        `rm -f /run/events; mkfifo /run/events; stdbuf -oL evtest /dev/input/$(basename $(dirname $(dirname $(grep -lx '${KEYBOARD}' /sys/class/input/event*/device/name)))) >/run/events 2>&1 & listener=$!; exec 5</run/events; ${readUntil('interrupt', '')}`,
      );

    /** Events up to the release of a key or button, as `NAME VALUE`; nothing listens from then on. */
    async function heardUntil(released: string): Promise<string[]> {
      const events = await shell.run(
        `${readUntil(released, 'value 0')}; kill $listener; exec 5<&-; wait $listener; true`,
      );
      return [...events.matchAll(/code \d+ \((\w+)\), value (-?\d+)/g)].map(([, name, value]) => `${name!} ${value!}`);
    }

    test('click and press reach the guest with the right position and keys', async () => {
      await listen();
      await display.click(512, 192);
      await display.press('shift+F12');

      expect(await heardUntil('KEY_LEFTSHIFT')).toEqual([
        `ABS_X ${axis(512, SIZE.width)}`,
        `ABS_Y ${axis(192, SIZE.height)}`,
        'BTN_LEFT 1',
        'BTN_LEFT 0',
        'KEY_LEFTSHIFT 1',
        'KEY_F12 1',
        'KEY_F12 0',
        'KEY_LEFTSHIFT 0',
      ]);
    });

    /** What the kernel says is on the console, and its columns (Documentation/admin-guide/devices.txt: /dev/vcsu). */
    async function consoleText(): Promise<string> {
      const [size, cells] = (await shell.run('stty -F /dev/tty1 size; base64 -w0 /dev/vcsu1')).split('\n') as [
        string,
        string,
      ];
      const columns = Number(size.split(' ')[1]);
      const bytes = Buffer.from(cells, 'base64');
      const characters = Array.from({ length: bytes.length / 4 }, (_, i) =>
        String.fromCodePoint(bytes.readUInt32LE(i * 4)),
      );
      const lines = Array.from({ length: characters.length / columns }, (_, row) =>
        characters
          .slice(row * columns, (row + 1) * columns)
          .join('')
          .trimEnd(),
      );
      return lines.join('\n').trimEnd();
    }

    /** Fills the console with characters of a font in all colours and attributes, the same in every run. */
    async function fill(characters: readonly string[], seed: number): Promise<void> {
      const next = noise(seed);
      // Two different ones: text in the colour of its background cannot be seen.
      const colours = (): string => {
        const background = next() % 8;
        const foreground = (background + 1 + (next() % 7)) % 8;
        return `\x1b[0;${30 + foreground};${40 + background};${[1, 5, 7, 22][next() % 4]!}m`;
      };
      const written = Array.from({ length: 9000 }, () => {
        const character = next() % 3 === 0 ? ' ' : characters[(next() * 256 + next()) % characters.length]!;
        return `${next() % 4 === 0 ? colours() : ''}${character}`;
      }).join('');
      // The cursor is on for every other one.
      const bytes = Buffer.from(`\x1b[0m\x1b[2J\x1b[H${written}\x1b[5;7H\x1b[?25${seed % 2 === 0 ? 'h' : 'l'}`);
      await shell.run(`base64 -d >/dev/tty1 <<'END'\n${bytes.toString('base64').replaceAll(/.{76}/g, '$&\n')}\nEND`);
    }

    /** Characters of a font by which a cell can be told, in any colours: no two look the same, or like the negative of another. */
    function distinct(font: ConsoleFont): string[] {
      const stride = Math.ceil(font.width / 8);
      const size = font.height * stride;
      const pixels = (at: number): number => (at % stride < stride - 1 ? 0xff : 0xff << (stride * 8 - font.width));
      const bits = (i: number, isNegative: boolean): string =>
        Array.from(
          font.glyphs.subarray(i * size, (i + 1) * size),
          (byte, at) => (isNegative ? ~byte : byte) & pixels(at) & 0xff,
        ).join();
      const looks = new Map<string, number>();
      font.characters.forEach((_, i) => {
        for (const look of [bits(i, false), bits(i, true)]) looks.set(look, (looks.get(look) ?? 0) + 1);
      });
      const isNarrow = (character: string): boolean =>
        /^[\p{L}\p{N}\p{P}\p{S}]$/u.test(character) && character < '\u2e80';
      return font.characters.filter((character, i) => isNarrow(character) && looks.get(bits(i, false)) === 1);
    }

    test('text reads every character of consoles in their own fonts, by the oracle of the kernel', async () => {
      const file = join(directory, 'kernel.psf');
      const own = await shell.run('setfont -C /dev/tty1 -O /run/kernel.psf && base64 -w0 /run/kernel.psf');
      writeFileSync(file, Buffer.from(own, 'base64'));
      // Reading it once makes the kernel keep the characters, not only the glyphs.
      await consoleText();
      const files = [file, ...FONTS.map((name) => `/usr/share/consolefonts/${name}.psf.gz`)];
      for (const [i, path] of files.slice(0, CONSOLES).entries()) {
        const font = await readPsf(path);
        if (i > 0) await shell.run(`setfont -C /dev/tty1 ${path}`);
        await fill(distinct(font), i + 1);
        const shown = await consoleText();
        await eventually(async () => {
          const { text, unread, readBy } = await display.text({ fonts: [path] });
          expect({ font: font.name, text, unread, readBy }).toEqual({
            font: font.name,
            text: shown,
            unread: 0,
            readBy: 'console-font',
          });
        });
      }
    }, 300_000);

    test('waitForText resolves with what came, and text names the font and reads a region', async () => {
      await shell.run(
        "setfont -C /dev/tty1 /usr/share/consolefonts/Lat15-Fixed16.psf.gz; printf '\\033[0m\\033[?25l\\033[2J\\033[H' >/dev/tty1",
      );
      const wait = display.waitForText(/^(\w+) login:$/m);
      await shell.run("printf 'Debian GNU/Linux 13\\n\\nguest login: ' >/dev/tty1");

      expect((await wait)[1]).toBe('guest');
      expect(await display.text({ region: { x: 0, y: 0, width: 96, height: 16 } })).toEqual({
        text: 'Debian GNU/L',
        readBy: 'console-font',
        font: 'Lat15-Fixed16',
        unread: 0,
      });
    });

    test('find and waitForAny find what was cropped from an earlier screen, and click clicks what they found', async () => {
      const pictures = mkdtempSync(join(directory, 'pictures-'));
      const file = (name: string): string => join(pictures, name);
      const [ok, failed] = ['[ \\033[32mOK\\033[0m ]', '[\\033[31mFAILED\\033[0m]'];
      const show = async (row: number, column: number, text: string, shown: RegExp): Promise<Picture> => {
        await shell.run(`printf '\\033[0m\\033[2J\\033[${row};${column}H${text}' >/dev/tty1`);
        await display.waitForText(shown);
        return display.screenshot();
      };
      /** Of a character, in the pixels of the font. */
      const at = (row: number, column: number) => ({ x: (column - 1) * 8, y: (row - 1) * 16 });
      await shell.run(
        "setfont -C /dev/tty1 /usr/share/consolefonts/Lat15-Fixed16.psf.gz; printf '\\033[?25l' >/dev/tty1",
      );
      await writePng(
        file('failed.png'),
        crop(await show(5, 10, failed, /\[FAILED\]/), { ...at(5, 10), width: 8 * 8, height: 16 }),
      );
      const before = await show(5, 10, ok, /\[ OK \]/);
      const area = { width: 6 * 8, height: 16 };
      await writePng(file('ok.png'), crop(before, { ...at(5, 10), ...area }));
      // A needle is a picture of all of the screen, and what counts of it.
      await writePng(file('done.png'), before);
      const { x: xpos, y: ypos } = at(5, 10);
      const match = { ...area, xpos, ypos, type: 'match', margin: 40, click_point: { xpos: 20, ypos: 4 } };
      writeFileSync(file('done.json'), JSON.stringify({ area: [match], tags: ['done'] }));
      await show(1, 1, 'ready', /^ready$/);

      const coming = display.waitForAny([file('failed.png'), file('ok.png')]);
      await show(20, 60, ok, /\[ OK \]/);
      const found = await coming;
      const there = at(20, 60);
      expect(found).toMatchObject({ ...there, index: 1, similarity: 1, click: { x: there.x + 24, y: there.y + 8 } });
      await listen();
      await display.click(found);
      expect(await heardUntil('BTN_LEFT')).toEqual([
        `ABS_X ${axis(there.x + 24, SIZE.width)}`,
        `ABS_Y ${axis(there.y + 8, SIZE.height)}`,
        'BTN_LEFT 1',
        'BTN_LEFT 0',
      ]);

      await expect(display.find(file('done.json'))).rejects.toMatchObject({ code: 'not-found' });
      expect(await display.find(file('done.json'), { anywhere: true })).toMatchObject({
        ...there,
        click: { x: there.x + 20, y: there.y + 4 },
        tags: ['done'],
      });
      const near = display.waitForAny([file('failed.png'), file('done.json')]);
      await show(6, 12, ok, /\[ OK \]/);
      expect(await near).toMatchObject({ ...at(6, 12), index: 1, needle: 'done' });
      rmSync(pictures, { recursive: true });
    });

    test('qmp resolves with the result of a command', async () => {
      expect(await guest.qmp('query-status')).toMatchObject({ status: 'running' });
      await expect(guest.qmp('no-such-command')).rejects.toThrow('no-such-command');
    });

    test('a wait rejects with the exit status when the guest powers off', async () => {
      const wait = expect(display.waitForMatch({ width: 1, height: 1, data: new Uint8Array(4) })).rejects.toMatchObject(
        {
          code: 'closed',
          message: expect.stringMatching(/the guest is gone: qemu-system-x86_64 exited with code 0/) as string,
        },
      );
      shell.send('echo o >/proc/sysrq-trigger');

      await wait;
      await expect(guest.qmp('query-status')).rejects.toMatchObject({ code: 'exited' });
    });

    test('kill leaves no descriptors, mappings or files', async () => {
      display[Symbol.dispose]();
      await guest.kill();
      port.destroy();

      expect(resources()).toEqual(before);
      expect(readdirSync(directory)).toEqual(['kernel.psf']);
    });

    test('rejects with the end of the console when the guest cannot boot', async () => {
      const { kernel } = guestImage();
      const launch = launchGuest({
        kernel,
        append: 'console=ttyS0 panic=-1',
        memoryMiB: 256,
        accel: 'tcg',
        args: ['-no-reboot'],
      });

      // The whole error first, whose message has the guest's console: that of a code alone would not say what happened.
      const error = await launch.then(() => null, String);
      expect(error).toMatch(/exited with code 0; last output:[^]*Kernel panic/);
      await expect(launch).rejects.toMatchObject({ code: 'exited' });
      expect(resources()).toEqual(before);
    });
  },
);

test.skipIf(skipWithoutProgram('tesseract'))(
  'text in another font than that of a console is read by tesseract, which is said',
  async () => {
    const label = ['-background', 'white', '-fill', 'black', '-font', 'DejaVu-Sans', '-pointsize', '32'];
    const png = execFileSync('convert', [...label, 'label:Installation complete', 'png:-']);
    const reader = await ScreenReader.open();

    expect(await reader.read(decodePng(png))).toEqual({
      text: 'Installation complete',
      readBy: 'tesseract',
      font: null,
      unread: 0,
    });
  },
);
