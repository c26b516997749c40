import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { EV, KEY } from '../../protocols/input-event-codes.ts';
import { K_OFF, K_UNICODE } from '../../protocols/linux-kd.ts';
import { bootGuest } from '../rig/guest.ts';
import { LOGIN_MODULES, NESTED_MIB } from '../rig/guest-image.ts';
import { InnerQmp } from '../rig/inner-qmp.ts';
import type { ScatteredPicture } from '../rig/scattered-picture.ts';
import { keyboardMode, Prompt } from './console.ts';
import { checksum, CrtcCrc } from './crtc-crc.ts';
import { InputDriver } from './input-driver.ts';
import { FakeVmm, Pictures } from './kiosk-rig.ts';
import { kernelObjects, skipWithoutVkms, vkmsCard } from './kms-rig.ts';
import { expectSettled } from './machine.ts';
import { terminalInFront } from './seat-rig.ts';

const run = promisify(execFile);
const ROOT = join(import.meta.dirname, '../..');
const UNIT = 'scanout-kiosk.service';
/** vkms's. */
const PREFERRED = [1024, 768] as const;
/** systemd runs on an emulated processor. */
const PATIENCE = { timeout: 180_000 };
/** A machine in an emulated machine, on a busy machine. */
const NESTED_MS = 600_000;
/** Looking takes the nested machine's only processor. */
const POLL_MS = 500;
const SOCKET = '/run/scanout/gpu.sock';
const INPUT_SOCKET = '/run/scanout/input.sock';

/** The unit of docs/kiosk.md and the commands that install it. */
function fromDocument(): { unit: string; install: string } {
  const [, unit, install] =
    /```ini\n(# \/etc\/systemd\/system\/scanout-kiosk\.service\n.*?)```.*?```sh\n(.*?)```/s.exec(
      readFileSync(join(ROOT, 'docs/kiosk.md'), 'utf8'),
    )!;
  return { unit: unit!, install: install! };
}

/** A systemd of its own, as PID 1 of a namespace; `root` is its view of the file system. */
class Systemd implements AsyncDisposable {
  readonly #unshare: ChildProcess;
  readonly #directory: string;
  readonly pid: number;

  private constructor(unshare: ChildProcess, directory: string) {
    this.#unshare = unshare;
    this.#directory = directory;
    this.pid = Number(readFileSync(`/proc/${unshare.pid!}/task/${unshare.pid!}/children`, 'utf8'));
  }

  /** Resolves when multi-user.target is reached. `files` by path, with their contents. */
  static async boot(files: Readonly<Record<string, string>>, install: string): Promise<Systemd> {
    const directory = mkdtempSync(join(tmpdir(), 'systemd-'));
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(join(directory, 'files', path, '..'), { recursive: true });
      writeFileSync(join(directory, 'files', path), text);
    }
    writeFileSync(join(directory, 'install'), install);
    execFileSync('mkfifo', [join(directory, 'up')]);
    const namespaces = ['--mount', '--pid', '--uts', '--fork', '--mount-proc', '--kill-child'];
    const unshare = spawn('unshare', [...namespaces, 'sh', join(ROOT, 'test/rig/systemd.sh'), ROOT, directory], {
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    const gone = once(unshare, 'close').then(([code]) =>
      Promise.reject(new Error(`systemd ended with ${String(code)}`)),
    );
    gone.catch(() => undefined);
    await Promise.race([readFile(join(directory, 'up')), gone]);
    return new Systemd(unshare, directory);
  }

  path(path: string): string {
    return `/proc/${this.pid}/root${path}`;
  }

  /** Runs a command inside and returns what it prints. */
  async run(...command: readonly string[]): Promise<string> {
    return (await run('nsenter', this.#inside(command))).stdout;
  }

  /** Resolves when the service has logged, over all its starts, `times` times that it listens. */
  async listened(times: number): Promise<void> {
    const journal = spawn(
      'nsenter',
      this.#inside(['journalctl', `--unit=${UNIT}`, '--follow', '--lines=all', '--output=cat']),
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    let left = times;
    for await (const line of createInterface(journal.stdout)) {
      if (!line.startsWith('listening on') || --left > 0) continue;
      // The process ends with its next line, or with its systemd.
      journal.stdout.destroy();
      return;
    }
    throw new Error(`the journal ended before ${UNIT} listened`);
  }

  /** Properties of the service, as `NAME=VALUE` lines in the order of systemd. */
  async show(...names: readonly string[]): Promise<string[]> {
    return (await this.run('systemctl', 'show', UNIT, ...names.map((name) => `--property=${name}`)))
      .trim()
      .split('\n')
      .toSorted();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#unshare.exitCode === null) {
      const closed = once(this.#unshare, 'close');
      this.#unshare.kill('SIGKILL');
      await closed;
    }
    rmSync(this.#directory, { recursive: true });
  }

  #inside(command: readonly string[]): string[] {
    return ['--target', String(this.pid), '--mount', '--pid', ...command];
  }
}

describe.skipIf(skipWithoutVkms())('The unit of docs/kiosk.md', () => {
  const card = vkmsCard() ?? '';
  let pictures: Pictures;
  let framebuffers: number;
  let terminal: string;
  let systemd: Systemd;

  beforeAll(async () => {
    pictures = new Pictures();
    ({ framebuffers } = kernelObjects(card));
    terminal = terminalInFront();
    expect(keyboardMode(terminal)).toBe(K_UNICODE);
    const { unit, install } = fromDocument();
    systemd = await Systemd.boot({ [`/etc/systemd/system/${UNIT}`]: unit }, install);
  }, PATIENCE.timeout);
  afterAll(async () => {
    await systemd[Symbol.asyncDispose]();
    pictures[Symbol.dispose]();
  });

  /** A guest of the service's start number `life`. Resolves when its picture is shown, centred in the monitor's preferred mode. */
  async function guest(life: number, picture: ScatteredPicture): Promise<FakeVmm> {
    await systemd.listened(life);
    const vmm = await FakeVmm.connect(systemd.path(SOCKET));
    await vmm.show(picture);
    using crc = new CrtcCrc(card);
    await crc.until(checksum(picture.onScreen(...PREFERRED)));
    return vmm;
  }

  test('starts at boot and shows a guest', PATIENCE, async () => {
    using _vmm = await guest(1, pictures.one);
    expect(await systemd.show('ActiveState', 'NRestarts', 'User')).toEqual([
      'ActiveState=active',
      'NRestarts=0',
      'User=kiosk',
    ]);
    expect(await systemd.run('journalctl', `--unit=${UNIT}`)).toContain("by rung 'udmabuf'");
  });

  test(
    'gives the guest what is typed on the keyboard of the machine, as an ordinary user, and the terminal nothing',
    PATIENCE,
    async () => {
      using _vmm = await guest(1, pictures.one);
      using keyboard = await InputDriver.connect(systemd.path(INPUT_SOCKET));
      using qmp = new InnerQmp();
      using prompt = new Prompt(terminal);
      const heard: string[] = [];
      for (const qcode of ['r', 'o', 'o', 't', 'ret']) {
        for (const down of [true, false]) {
          qmp.sendInput({ type: 'key', data: { key: { type: 'qcode', data: qcode }, down } });
          heard.push(...(await keyboard.next()));
        }
      }
      expect(prompt.line()).toBe('');
      expect(keyboardMode(terminal)).toBe(K_OFF);
      expect(heard).toEqual(
        [KEY.R, KEY.O, KEY.O, KEY.T, KEY.ENTER].flatMap((code) => [`${EV.KEY} ${code} 1`, `${EV.KEY} ${code} 0`]),
      );
      expect(await systemd.run('journalctl', `--unit=${UNIT}`)).toMatch(/seat0 of seatd[^]*input: .*\(event\d+\)/);
    },
  );

  test('logs a real guest in by the keyboard of the machine', { timeout: NESTED_MS }, async () => {
    await systemd.listened(1);
    await using vm = await bootGuest({
      gpu: { kind: 'generic', socket: systemd.path(SOCKET) },
      programs: [],
      modules: LOGIN_MODULES,
      memoryMiB: NESTED_MIB,
      patienceMs: NESTED_MS / 2,
      extraQemuArgs: [
        ...['-chardev', `socket,id=keyboard,path=${systemd.path(INPUT_SOCKET)}`],
        ...['-device', 'vhost-user-input-pci,chardev=keyboard'],
      ],
    });
    using qmp = new InnerQmp();
    const press = (qcode: string): void => {
      for (const down of [true, false])
        qmp.sendInput({ type: 'key', data: { key: { type: 'qcode', data: qcode }, down } });
    };
    const console = async (): Promise<string> => (await vm.run('cat /dev/vcs1')).trimEnd();
    /** Types a line, which is short enough for the buffers on the way, and waits until the console shows it or its effect. */
    const enter = async (...qcodes: readonly string[]): Promise<void> => {
      const before = await console();
      for (const qcode of [...qcodes, 'ret']) press(qcode);
      await expect.poll(console, { timeout: NESTED_MS / 6, interval: POLL_MS }).not.toBe(before);
    };
    /** Answers the console's prompt; without one, returns what runs. */
    const step = async (): Promise<string> => {
      const text = await console();
      if (text.endsWith('login:')) await enter('k', 'i', 'o', 's', 'k');
      else if (text.endsWith('Password:')) await enter('s', 'e', 'c', 'r', 'e', 't');
      else if (text.endsWith('$')) await enter('s', 'l', 'e', 'e', 'p', 'spc', '7', '7', '7');
      else return `${await vm.run('ps')}\n${text}`;
      return text;
    };
    // A guest this slow would take a key that is down for a moment for one that is held, so its console does not repeat keys.
    await vm.run(
      'mkdir -p /etc; echo "kiosk:$(mkpasswd -m des secret):1000:1000::/:/bin/sh" >/etc/passwd; echo kiosk:x:1000: >/etc/group; while :; do printf "\\033[?8l" >/dev/tty1; setsid getty 0 tty1 linux; done </dev/null >/dev/null 2>&1 &',
    );
    await expect.poll(step, { timeout: NESTED_MS / 3, interval: POLL_MS }).toMatch(/^ *\d+ kiosk .*sleep 777$/m);
  });

  test('leaves the service its sandbox, and little else', PATIENCE, async () => {
    await systemd.listened(1);
    expect(await systemd.run('journalctl', `--unit=${UNIT}`)).toMatch(
      /sandbox: no new privileges, not dumpable, system calls filtered, files limited by Landlock \d/,
    );
    const report = await systemd.run('systemd-analyze', 'security', '--no-pager', UNIT);
    const exposure = Number(/^→ Overall exposure level for \S+: ([\d.]+) /m.exec(report)?.[1]);
    expect(exposure, report).toBeLessThan(2);
  });

  test('is started again after it was killed; the terminal has its keyboard meanwhile', PATIENCE, async () => {
    using _first = await guest(1, pictures.two);
    const killed = systemd.run('systemctl', 'kill', '--signal=SIGKILL', UNIT);
    await expectSettled(() => keyboardMode(terminal), K_UNICODE);
    await killed;
    using _second = await guest(2, pictures.one);
    expect(keyboardMode(terminal)).toBe(K_OFF);
    const log = await systemd.run('journalctl', `--unit=${UNIT}`);
    expect(await systemd.show('ActiveState', 'NRestarts'), log).toEqual(['ActiveState=active', 'NRestarts=1']);
  });

  test(
    'stops on systemctl stop, gives the terminal its keyboard back, and leaves nothing behind',
    PATIENCE,
    async () => {
      using _vmm = await guest(2, pictures.two);
      await systemd.run('systemctl', 'stop', UNIT);
      expect(await systemd.show('ActiveState', 'Result', 'ExecMainStatus')).toEqual([
        'ActiveState=inactive',
        'ExecMainStatus=0',
        'Result=success',
      ]);
      expect(existsSync(systemd.path(SOCKET))).toBe(false);
      await expectSettled(() => keyboardMode(terminal), K_UNICODE);
      using prompt = new Prompt(terminal);
      using qmp = new InnerQmp();
      for (const qcode of ['h', 'i', 'ret'])
        for (const down of [true, false])
          qmp.sendInput({ type: 'key', data: { key: { type: 'qcode', data: qcode }, down } });
      await expectSettled(prompt.line, 'hi\n');
      await expectSettled(() => kernelObjects(card).framebuffers, framebuffers);
    },
  );
});
