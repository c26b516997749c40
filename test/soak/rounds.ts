import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { decodePng } from '../../display/picture/png.ts';
import { requestScreenshot, requestStats } from '../../src/control/client.ts';
import { ControlError, MAX_WAIT_MS } from '../../src/control/protocol.ts';
import type { SessionStats } from '../../src/control/stats.ts';
import type { Picture } from '../../src/core/picture.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { SysError } from '../../src/sys/errors.ts';
import { createMemfd } from '../../src/sys/memfd.ts';
import { connectUnix } from '../../src/sys/socket.ts';
import { RawChannel } from '../rig/front-end.ts';
import { HostileVmm, VmmFiles } from '../rig/fuzz-vmm.ts';
import { type FuzzSession, HostileGuest } from '../rig/hostile-guest.ts';
import { expectPictureSoon, expectSamePicture, pictureWhen } from '../rig/picture.ts';
import type { Random } from '../rig/random.ts';
import { ScanoutRun, startScanout } from '../rig/scanout-run.ts';
import { HonestGuest } from './honest-guest.ts';
import { HEIGHT, SCANOUTS, type Subject, untilGone, WIDTH } from './subject.ts';

/** What the parts of one round share. */
export interface Round {
  readonly subject: Subject;
  readonly sessions: readonly FuzzSession[];
  /** Whether a disturbance goes on: guests stay until there is none. */
  isDisturbed: boolean;
  /** The guest whose pictures are known, while it is connected. */
  honest: HonestGuest | null;
}

/** A part of a round. Rejects for what must not happen. */
export type Part = (round: Round, random: Random) => Promise<void>;

/** Share of the moments at which `stats` is asked for during a round. */
const PROBES = 0.1;

/** Commands of hostile guests in a round. */
const MAX_COMMANDS = 4000;

/** Turns of this process's event loop after which a VMM vanishes at the latest: enough for the handshake and some batches. */
const MAX_TURNS = 200;

const MAX_MESSAGE = 600;

/** The scanout whose window is in front. */
const LAST = SCANOUTS - 1;

/** Share of the rounds that end with a new compositor, on which the first window is in front. */
const RESTARTS = 0.2;

/** Sizes that no other part uses. */
const LAST_PICTURE = [WIDTH + 16, HEIGHT + 16] as const;
const LAST_CURSOR = [17, 19] as const;

/** Pixels by which a picture is looked for on the screen. */
const START = 16;

/** Clients that want a screenshot at the same time; the bridge serves eight, and others ask for `stats`. */
const CROWD = 5;

/** Who is at the guest's socket during a round. */
export const guests: Readonly<Record<string, Part>> = {
  'hostile guests': async (round, random) => {
    const { subject } = round;
    for (let sent = 0, first = true; sent < MAX_COMMANDS && (first || round.isDisturbed); first = false) {
      const guest = new HostileGuest(random, random.pick(round.sessions), probing(round, random));
      while (!guest.isDone && sent + guest.sent < MAX_COMMANDS) await guest.play(await subject.connect());
      sent += guest.sent;
      counted(round, guest);
    }
  },

  'vanishing VMMs': async (round, random) => {
    const { subject } = round;
    for (let left = 10 + random.below(10); left > 0 || round.isDisturbed; left--) {
      // Most wait for their predecessor to be noticed as gone; otherwise the bridge refuses them.
      if (random.chance(0.8)) await subject.vmmGone();
      if (random.chance(0.3)) {
        partOfMessage(subject, random);
      } else {
        const guest = new HostileGuest(random, random.pick(round.sessions), probing(round, random));
        await vanish(guest, subject, random.below(MAX_TURNS));
        counted(round, guest);
      }
      subject.figures.count('VMMs that vanished');
    }
  },

  'VMMs that send anything': async (round, random) => {
    const { subject } = round;
    const result = { messages: 0, connections: 0, accepted: 0, refused: 0, faults: [] };
    using files = new VmmFiles();
    for (let left = 5 + random.below(10); left > 0 || round.isDisturbed; left--) {
      const turn = (): Promise<void> => subject.answers(1);
      using vmm = new HostileVmm({ socket: await subject.connect(), files, random, turn, result });
      await vmm.run(() => undefined);
      if (result.faults.length > 0) throw new Error(result.faults.join('\n'));
    }
    subject.figures.count('messages of VMMs that send anything', result.messages);
    subject.figures.count('messages that were refused', result.refused);
  },

  'a good guest': async (round, random) => {
    const { subject } = round;
    using guest = await subject.honestGuest(random);
    round.honest = guest;
    try {
      for (let left = 5 + random.below(10); left > 0 || round.isDisturbed; left--) {
        const scanout = random.below(SCANOUTS);
        if (random.chance(0.1)) await guest.turnOff(scanout);
        else if (random.chance(0.5)) await guest.change(scanout);
        else if (scanout === 0) await guest.show(scanout, WIDTH, HEIGHT);
        else await guest.show(scanout, 1 + random.below(WIDTH), 1 + random.below(HEIGHT));
        if (random.chance(PROBES)) subject.probe();
        subject.figures.count('frames of good guests');
      }
      await compare(subject, guest);
    } finally {
      round.honest = null;
    }
  },

  'no guest': async (round) => {
    while (round.isDisturbed) await round.subject.answers(1);
  },
};

/** What happens meanwhile. */
export const disturbances: Readonly<Record<string, Part>> = {
  'a compositor that ends': async ({ subject }, random) => {
    await subject.restartCompositor(random.pick(['kill', 'stop']), () => subject.answers(random.below(50)));
  },

  'a compositor that hangs': async ({ subject }, random) => {
    process.kill(subject.weston.pid, 'SIGSTOP');
    try {
      await subject.answers(1 + random.below(500));
      // Killed while it hangs, so that the connection ends with unread messages.
      if (random.chance(0.3)) await subject.restartCompositor('kill', () => Promise.resolve());
    } finally {
      process.kill(subject.weston.pid, 'SIGCONT');
    }
    subject.figures.count('compositor pauses');
  },

  'many screenshots': async (round, random) => {
    for (let left = 1 + random.below(4); left > 0; left--) {
      await Promise.all(Array.from({ length: CROWD }, () => screenshot(round, random)));
    }
  },

  'clients that leave': async ({ subject }, random) => {
    for (let left = 1 + random.below(6); left > 0; left--) {
      const client = await subject.client();
      const wait = { quietMs: MAX_WAIT_MS, timeoutMs: MAX_WAIT_MS };
      const request = `${JSON.stringify({ command: 'screenshot', scanout: random.below(SCANOUTS), ...wait })}\n`;
      client.write(random.chance(0.2) ? request.slice(0, random.below(request.length)) : request);
      await subject.answers(1 + random.below(3));
      client.destroy();
      await once(client, 'close');
      subject.figures.count('clients that left');
    }
  },

  'a recording': async ({ subject, sessions }, random) => {
    const dir = mkdtempSync(join(tmpdir(), 'scanout-soak-record-'));
    try {
      await record(dir, sessions, subject, random);
    } finally {
      rmSync(dir, { recursive: true });
    }
  },
};

/**
 * What ends every round: a guest that shows pictures on all screens and leaves, so that the bridge is as it was after
 * the last round.
 */
export async function settle(subject: Subject, random: Random): Promise<void> {
  {
    using guest = await subject.honestGuest(random);
    for (let frame = 0; frame < 3; frame++)
      for (let scanout = 0; scanout < SCANOUTS; scanout++) await guest.show(scanout, WIDTH, HEIGHT);
    await compare(subject, guest);
    await guest.turnOff(LAST);
    if (random.chance(RESTARTS)) {
      await subject.restartCompositor('kill', () => guest.change(0));
      await compareWindow(subject, guest, 0);
    }
    // A new size leaves one copy of the picture for each output; of an old one, two or three are kept, as it happens.
    for (let scanout = 0; scanout < SCANOUTS; scanout++) await guest.show(scanout, ...LAST_PICTURE);
    await guest.flashCursor(...LAST_CURSOR);
  }
  await subject.vmmGone();
}

/** Compares what the screens show with what the guest has drawn. */
async function compare(subject: Subject, guest: HonestGuest): Promise<void> {
  for (let scanout = 0; scanout < SCANOUTS; scanout++) {
    const expected = guest.picture(scanout);
    if (!expected) continue;
    await expectPictureSoon(() => subject.screenshot({ scanout }), expected, `soak-headless-${scanout}`);
    subject.figures.count('screenshots compared');
  }
  // Opens the window again, so that it is in front.
  await guest.turnOff(LAST);
  await guest.show(LAST, WIDTH, HEIGHT);
  await compareWindow(subject, guest, LAST);
}

async function compareWindow(subject: Subject, guest: HonestGuest, scanout: number): Promise<void> {
  const expected = guest.picture(scanout)!;
  await pictureWhen(
    () => subject.weston.screenshot(),
    (screen) => contains(screen, expected),
    `soak-window-${scanout}`,
  );
  subject.figures.count("Weston's screenshots compared");
}

/**
 * Whether the picture, which begins with pixels that are rare elsewhere, is somewhere on the screen. Weston may place a
 * window so that its right and lower parts are beyond the screen.
 */
function contains(screen: Picture, picture: Picture): boolean {
  const rows = Buffer.from(screen.data.buffer, screen.data.byteOffset, screen.data.length);
  const first = picture.data.subarray(0, Math.min(picture.width, START) * 4);
  for (let at = rows.indexOf(first); at >= 0; at = rows.indexOf(first, at + 4))
    if (isAt(rows, at, screen, picture)) return true;
  return false;
}

function isAt(rows: Buffer, at: number, screen: Picture, picture: Picture): boolean {
  const [left, top] = [(at / 4) % screen.width, Math.floor(at / 4 / screen.width)];
  const length = Math.min(picture.width, screen.width - left) * 4;
  const height = Math.min(picture.height, screen.height - top);
  for (let y = 0; y < height; y++) {
    const [row, shown] = [y * picture.width * 4, at + y * screen.width * 4];
    if (rows.compare(picture.data, row, row + length, shown, shown + length) !== 0) return false;
  }
  return true;
}

/** Takes a screenshot; a good guest must have shown what is on it. */
async function screenshot({ subject, honest }: Round, random: Random): Promise<void> {
  const scanout = random.below(SCANOUTS);
  const still = { quietMs: random.below(30), timeoutMs: random.below(300) };
  try {
    const picture = await subject.screenshot({ scanout, ...(random.chance(0.3) && { still }) });
    subject.figures.count('screenshots in a crowd');
    if (honest === null) return;
    if (!honest.hasShown(scanout, picture))
      throw new Error(
        `expected a picture that the guest has shown on scanout ${scanout}, but the screenshot is another`,
      );
    subject.figures.count('screenshots compared');
  } catch (error) {
    // The screen may be off, or not stand still.
    if (!(error instanceof ControlError && (error.code === 'no-picture' || error.code === 'timeout'))) throw error;
  }
}

async function vanish(guest: HostileGuest, subject: Subject, turns: number): Promise<void> {
  const gone = new AbortController();
  const leave = async (): Promise<void> => {
    for (let turn = 0; turn < turns; turn++) await setImmediate();
    gone.abort();
  };
  await Promise.all([guest.play(connectUnix(subject.guestSocket), gone.signal), leave()]);
}

/** Sends the beginning of a message, or nothing, with descriptors, and is gone. */
function partOfMessage(subject: Subject, random: Random): void {
  using channel = new RawChannel(connectUnix(subject.guestSocket));
  if (random.chance(0.2)) return;
  using files = new DisposableStack();
  const fds = Array.from({ length: random.below(8) }, () => files.use(createMemfd('part', 4096)));
  const bytes = random.bytes(1 + random.below(MAX_MESSAGE));
  const view = new DataView(bytes.buffer);
  if (bytes.length >= 12) {
    view.setUint32(0, random.below(50), true);
    view.setUint32(4, 1, true);
    view.setUint32(8, bytes.length - 12 + random.below(2) * random.below(MAX_MESSAGE), true);
  }
  try {
    channel.sendRaw(bytes, fds);
  } catch (error) {
    // The bridge has refused it, because the front end before is not gone yet.
    if (!(error instanceof SysError && error.code === 'EPIPE')) throw error;
  }
}

function probing({ subject }: Round, random: Random): { batch(): void } {
  return {
    batch: () => {
      if (random.chance(PROBES)) subject.probe();
    },
  };
}

function counted({ subject: { figures } }: Round, { sent, connections, resets }: HostileGuest): void {
  figures.count('commands of hostile guests', sent);
  figures.count('connections of hostile guests', connections);
  figures.count('resets by hostile guests', resets);
}

/** Records a session of hostile guests and a good one with another bridge; its replay must end with the same picture. */
async function record(dir: string, sessions: readonly FuzzSession[], subject: Subject, random: Random): Promise<void> {
  const [file, png, gpu, control] = ['session.scanout', 'last.png', 'gpu', 'control'].map((name) =>
    join(dir, name),
  ) as [string, string, string, string];
  await using run = await ScanoutRun.start(
    ...['--guest', `vhost-user:${gpu}`, '--control', control],
    ...['--output', `headless:${WIDTH}x${HEIGHT}`, '--record', file],
  );
  if (random.chance(0.5)) {
    const hostile = new HostileGuest(random, random.pick(sessions));
    await hostile.play(connectUnix(gpu));
    await untilGone(async () => (await requestStats(control)) as SessionStats);
  }
  const expected = await recordedPicture(gpu, control, random);
  const code = await run.end('SIGTERM');
  if (code !== 0)
    throw new Error(`expected SIGTERM to end a recording with code 0, but it was ${String(code)}:\n${run.log}`);
  const left = readdirSync(dir);
  if (left.join() !== 'session.scanout')
    throw new Error(`expected only the recording to be left, but found ${left.join(', ')}`);

  const replay = startScanout(['replay', file, '--fast', '--png', png]);
  let printed = '';
  for (const stream of [replay.stdout!, replay.stderr!])
    stream.setEncoding('utf8').on('data', (text: string) => (printed += text));
  const [replayCode] = (await once(replay, 'close')) as [number | null];
  if (replayCode !== 0)
    throw new Error(`expected the replay to end with code 0, but it was ${String(replayCode)}:\n${printed}`);
  expectSamePicture(decodePng(readFileSync(png)), expected, 'soak-replay');
  subject.figures.count('recordings replayed');
}

async function recordedPicture(gpu: string, control: string, random: Random) {
  using guest = await HonestGuest.connect(connectUnix(gpu), 1, random);
  for (let frames = 1 + random.below(20); frames > 0; frames--) {
    if (random.chance(0.7)) await guest.change(0);
    else await guest.show(0, 1 + random.below(WIDTH), 1 + random.below(HEIGHT));
  }
  await guest.show(0, WIDTH, HEIGHT);
  const expected = guest.picture(0)!;
  await expectPictureSoon(() => requestScreenshot(control, { scanout: 0, cursor: false }), expected, 'soak-recorded');
  return expected;
}
