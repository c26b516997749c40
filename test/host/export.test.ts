/** Real guests whose pictures other processes import: a bridge of its own for each guest, and one consumer of both. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ExportedDisplay } from '../../display/export/import.ts';
import { decodePng } from '../../display/picture/png.ts';
import type { Picture } from '../../src/core/picture.ts';
import { compiled } from '../rig/compile.ts';
import { newerQemu, skipWithoutGuest } from '../rig/guest-image.ts';
import { type Draw, drawnPicture, startDrawing, withDrawnCursor } from '../rig/guest-pictures.ts';
import { bootGuest, type Guest } from '../rig/guest.ts';
import { openFds } from '../rig/process-resources.ts';
import { expectSamePicture, isSamePicture } from '../rig/picture.ts';
import { ScanoutRun } from '../rig/scanout-run.ts';
import { skipWithoutProgram } from '../rig/skip.ts';
import { eventually } from '../rig/eventually.ts';

const MAIN = join(import.meta.dirname, '../../dist/src/cli/main.js');
const [WIDTH, HEIGHT, FRAMES] = [320, 200, 12];

/** A guest with blobs, and its bridge in a process of its own. */
class ExportedVm implements AsyncDisposable {
  readonly socket: string;
  readonly control: string;
  readonly run: ScanoutRun;
  readonly guest: Guest;
  readonly #directory: string;

  private constructor(directory: string, run: ScanoutRun, guest: Guest) {
    this.#directory = directory;
    this.socket = join(directory, 'export');
    this.control = join(directory, 'control');
    this.run = run;
    this.guest = guest;
  }

  static async boot(): Promise<ExportedVm> {
    const directory = mkdtempSync(join(tmpdir(), 'scanout-export-'));
    const at = (name: string): string => join(directory, name);
    const run = await ScanoutRun.start(
      ...['--guest', `vhost-user:${at('gpu')}`, '--control', at('control'), '--output', 'headless:1280x800'],
      ...['--output', `export:${at('export')},channel=${at('channel')}`],
    );
    const guest = await bootGuest({
      gpu: { kind: 'generic', socket: at('gpu') },
      extraQemuArgs: [
        ...['-chardev', `socket,id=ready,path=${at('channel')}`],
        ...['-device', 'virtserialport,chardev=ready,name=scanout.export'],
      ],
    });
    return new ExportedVm(directory, run, guest);
  }

  /** The command that runs guest-producer in the guest. */
  producer(frames: number): string {
    const program = compiled(
      join(import.meta.dirname, '../rig/guest-producer.c'),
      'guest-producer',
      '-I/usr/include/libdrm',
    );
    const port = '/dev/$(basename $(dirname $(grep -l scanout.export /sys/class/virtio-ports/*/name)))';
    return `${program} ${port} ${WIDTH} ${HEIGHT} ${frames}`;
  }

  /** Runs guest-producer to its end. Its output, in lines. */
  async produce(frames: number): Promise<string[]> {
    return (await this.guest.run(`${this.producer(frames)} 2>&1`)).trim().split('\n');
  }

  async screenshot(): Promise<Picture> {
    const file = join(this.#directory, 'screen.png');
    await promisify(execFile)(process.execPath, [MAIN, 'screenshot', '--control', this.control, file]);
    return decodePng(readFileSync(file));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.guest[Symbol.asyncDispose]();
    await this.run[Symbol.asyncDispose]();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

/** The next picture of scanout 0 that is accepted. */
async function shown(display: ExportedDisplay, accept: (picture: Picture) => boolean): Promise<Picture> {
  for await (const frame of display) {
    using held = frame;
    if (held.scanout !== 0) continue;
    const picture = held.picture();
    if (picture && accept(picture)) return picture;
  }
  throw new Error('the display ended');
}

describe.skipIf(skipWithoutGuest(newerQemu))('two guests whose bridges export them', () => {
  let vms: ExportedVm[];

  beforeAll(async () => {
    vms = await Promise.all([ExportedVm.boot(), ExportedVm.boot()]);
  });
  afterAll(async () => {
    for (const vm of vms) await vm[Symbol.asyncDispose]();
  });

  describe('the first', () => {
    let draw: Draw;

    beforeAll(async () => {
      draw = await startDrawing(vms[0]!.guest);
    });
    afterAll(() => draw('quit'));

    test('shows a consumer what its guest draws: modes, flips and a cursor', async () => {
      using display = await ExportedDisplay.connect(vms[0]!.socket);
      await draw('mode 801 601');
      const mode = drawnPicture(801, 601, 0);
      expectSamePicture(await shown(display, ({ width }) => width === 801), mode, 'export-mode');
      await draw('mode 1024 768');
      await draw('flip 31 plain');
      const flipped = drawnPicture(1024, 768, 31 % 3);
      await shown(display, (picture) => isSamePicture(picture, flipped));
      await draw('cursor 3 100 200 0 0');
      await draw('move 500 333');
      const withCursor = withDrawnCursor(flipped, 3, 500, 333);
      await shown(display, (picture) => isSamePicture(picture, withCursor));
      await draw('hide');
    });

    test('goes on when a consumer stops, and when it is killed', async () => {
      using display = await ExportedDisplay.connect(vms[0]!.socket);
      // It holds its first frame for good.
      const { value: held } = await display[Symbol.asyncIterator]().next();
      await draw('flip 30 plain');
      expect(held!.isRevoked).toBe(true);
      const killed = spawn(process.execPath, [MAIN, 'grab', vms[0]!.socket], { stdio: ['ignore', 'pipe', 'inherit'] });
      await once(killed.stdout, 'data');
      killed.kill('SIGKILL');
      await once(killed, 'close');
      await draw('flip 30 plain');
    });

    test.skipIf(skipWithoutProgram('ffmpeg'))(
      "can be filmed: each frame that Debian's ffmpeg decodes is a screenshot",
      async () => {
        await draw('mode 1024 768');
        const file = join(mkdtempSync(join(tmpdir(), 'scanout-film-')), 'film.mkv');
        const ffmpeg = '-nostdin -hide_banner -loglevel error -y';
        await promisify(execFile)('bash', [
          '-c',
          `set -o pipefail; '${process.execPath}' '${MAIN}' grab '${vms[0]!.socket}' --y4m --seconds 0.5 --fps 10 | ffmpeg ${ffmpeg} -i - -c:v ffv1 '${file}'`,
        ]);
        const screen = await vms[0]!.screenshot();
        const { stdout } = await promisify(execFile)(
          'ffmpeg',
          [...ffmpeg.split(' '), '-i', file, '-pix_fmt', 'rgba', '-f', 'rawvideo', '-'],
          { encoding: 'buffer', maxBuffer: 2 ** 28 },
        );
        const size = screen.data.length;
        expect(stdout.length).toBe(5 * size);
        for (let frame = 0; frame < 5; frame++) {
          const data = new Uint8Array(stdout.subarray(frame * size, (frame + 1) * size));
          expectSamePicture({ ...screen, data }, screen, `export-film-${frame}`);
        }
        rmSync(file);
      },
    );
  });

  test('hand one consumer the pictures of buffers on no monitor, by the UUIDs of their guests', async () => {
    const before = openFds().size;
    {
      using first = await ExportedDisplay.connect(vms[0]!.socket);
      using second = await ExportedDisplay.connect(vms[1]!.socket);
      const collect = async (display: ExportedDisplay): Promise<string[]> => {
        const uuids: string[] = [];
        for await (const frame of display) {
          using held = frame;
          if (held.scanout !== null) continue;
          expectSamePicture(held.picture()!, drawnPicture(WIDTH, HEIGHT, uuids.length), `export-blob-${uuids.length}`);
          uuids.push(held.primary!.buffer.uuid);
          if (uuids.length === FRAMES) break;
        }
        return uuids;
      };
      const outputs = vms.map((vm) => vm.produce(FRAMES));
      const [ids, others] = await Promise.all([first, second].map(collect));
      for (const output of await Promise.all(outputs)) {
        expect(output.at(-1)).toBe('done');
        expect(output.filter((line) => /^\d+ 0$/.test(line)).length).toBe(FRAMES);
      }
      // Two buffers each, used by turns.
      expect([new Set(ids).size, new Set(others).size, new Set([...ids!, ...others!]).size]).toEqual([2, 2, 4]);
      expect(ids![0]).toBe(ids![2]);
    }
    expect(openFds().size).toBe(before);
  });

  test('release a producer whose consumers are gone', async () => {
    expect((await vms[1]!.produce(3)).at(-1)).toBe('done');
  });

  test('forget the buffers of a producer that is killed, and serve the next', async () => {
    const vm = vms[1]!;
    using display = await ExportedDisplay.connect(vm.socket);
    await vm.guest.run(`${vm.producer(1_000_000)} >/run/producer.log 2>&1 & producer=$!`);
    let frames = 0;
    for await (const frame of display) {
      using held = frame;
      if (held.scanout === null && ++frames === 5) break;
    }
    await vm.guest.run('kill -9 $producer; wait $producer; true');
    await eventually(() => expect(display.buffers.size).toBe(0));
    const collecting = (async () => {
      for await (const frame of display) {
        using held = frame;
        if (held.scanout === null && held.picture()?.width === WIDTH) return true;
      }
      return false;
    })();
    expect((await vm.produce(3)).at(-1)).toBe('done');
    expect(await collecting).toBe(true);
  });

  test('leave nothing in their logs that is wrong', async () => {
    for (const vm of vms) {
      expect(vm.run.log).not.toMatch(/ (warn|error) (?!.*(?:sandbox|seccomp|Landlock|stdout|system calls|files are))/);
      expect(await vm.run.end('SIGTERM')).toBe(0);
    }
  });
});
