/** `npm run soak`: see USAGE. */
import { parseArgs } from 'node:util';
import { skipWithoutProgram } from '../rig/skip.ts';
import { Random } from '../rig/random.ts';
import { hostileSessions } from '../unit/guest/replay/hostile-sessions.ts';
import { Figures } from './figures.ts';
import { disturbances, guests, type Part, type Round, settle } from './rounds.ts';
import { Subject } from './subject.ts';

const USAGE = `npm run soak -- --hours N [--seed S] [--without WORD,...]

Runs one \`scanout run\` with two headless outputs and windows on a real Weston for N hours, which may
be a fraction, and mixes in random order: hostile guests and VMMs, VMMs that vanish, good guests,
compositors that end or hang, many screenshots, clients that leave, recordings. After each round a
good guest's screens must show what it has drawn, \`stats\` must answer, and the child must have the
descriptors and mappings that it had at the first quiet point, which follows after one round of each
kind.

--seed S         the seed of all random choices; printed at the start
--without W,...  leaves out guests and disturbances whose names contain one of these words, so that
                 a known fault does not hide others

A fault ends it with exit code 1 and prints the seed, the round, what was expected, and the end of the
child's log. Otherwise it prints a table. "stats during rounds" includes the time that this process,
which plays the guests, lets an answer wait.
`;

const HOUR_MS = 3_600_000;
const PROGRESS_MS = 5000;
/** Limit of a round. One that takes longer waits for something that does not come. */
const PATIENCE_MS = 180_000;
/** Lines of the child's log that a fault prints. */
const LOG_LINES = 40;
/** Requests for `stats` after each round. */
const QUESTIONS = 5;

interface Choice {
  readonly guest: string;
  readonly disturbances: readonly string[];
}

function choose(random: Random, guestNames: readonly string[], disturbanceNames: readonly string[]): Choice {
  const count = Math.min(random.pick([0, 1, 1, 2]), disturbanceNames.length);
  const left = [...disturbanceNames];
  const chosen = Array.from({ length: count }, () => left.splice(random.below(left.length), 1)[0]!);
  return { guest: random.pick(guestNames), disturbances: chosen.filter((name) => !conflicts(name, chosen)) };
}

/** There is one compositor: of two that end or hang, only the first does. */
function conflicts(name: string, chosen: readonly string[]): boolean {
  const first = chosen.find((other) => other.startsWith('a compositor'));
  return name.startsWith('a compositor') && name !== first;
}

async function playRound(subject: Subject, choice: Choice, random: Random, round: Round): Promise<void> {
  // Each part draws from a generator of its own, so that their order in time does not change what they do.
  const own = (): Random => new Random(random.below(2 ** 32));
  const play = (name: string, part: Part): Promise<void> => part(round, own()).catch(rethrowWith(name));
  const disturbed = Promise.all(choice.disturbances.map((name) => play(name, disturbances[name]!))).finally(
    () => (round.isDisturbed = false),
  );
  await Promise.all([disturbed, play(choice.guest, guests[choice.guest]!)]);
  await subject.vmmGone();
  await subject.probed();
  await settle(subject, own()).catch(rethrowWith('a good guest after the round'));
  for (let question = 0; question < QUESTIONS; question++) await subject.stats();
  subject.checkLog();
}

function rethrowWith(name: string): (error: unknown) => never {
  return (cause) => {
    throw new Error(`${name}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  };
}

function withinPatience<T>(work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const tooLong = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new Error(`expected the round to end, but it has not within ${PATIENCE_MS / 1000} s`)),
      PATIENCE_MS,
    );
  });
  return Promise.race([work, tooLong]).finally(() => clearTimeout(timer));
}

/** Rounds until the time is over. Rejects with an Error that says what was expected. */
async function soak(hours: number, seed: number, without: readonly string[]): Promise<void> {
  const figures = new Figures();
  const sessions = hostileSessions();
  const namesOf = (parts: Readonly<Record<string, Part>>): string[] =>
    Object.keys(parts).filter((name) => !without.some((word) => name.includes(word)));
  const [guestNames, disturbanceNames] = [namesOf(guests), namesOf(disturbances)];
  if (guestNames.length === 0) throw new RangeError('--without leaves out every guest');
  const warmUp: Choice[] = [
    ...guestNames.map((guest) => ({ guest, disturbances: [] })),
    ...disturbanceNames.map((name) => ({ guest: guestNames.at(-1)!, disturbances: [name] })),
  ];
  const start = performance.now();
  const end = start + hours * HOUR_MS;
  await using subject = await Subject.start(figures);
  let number = 0;
  let playing = '';
  const progress = setInterval(() => {
    const minutes = ((performance.now() - start) / 60_000).toFixed(1);
    console.error(`${minutes} min: round ${number}, ${playing}; stats ${figures.latencies.during.text}`);
  }, PROGRESS_MS);
  try {
    for (; performance.now() < end || number < warmUp.length; number++) {
      const random = new Random(Math.imul(seed, 0x9e3779b1) + number);
      const choice = warmUp[number] ?? choose(random, guestNames, disturbanceNames);
      playing = [choice.guest, ...choice.disturbances].join(' and ');
      const round = { subject, sessions, isDisturbed: choice.disturbances.length > 0, honest: null };
      await withinPatience(Promise.race([playRound(subject, choice, random, round), subject.died]));
      if (number + 1 >= warmUp.length) await subject.quietPoint();
      for (const kind of [choice.guest, ...choice.disturbances])
        figures.rounds.set(kind, (figures.rounds.get(kind) ?? 0) + 1);
    }
    const { guest } = await subject.stats();
    figures.count('rounds', number);
    if ('kind' in guest) throw new Error('the soak has a GPU over vhost-user');
    figures.count('commands that scanout has handled', guest.commands);
    figures.count('commands that scanout has refused', guest.errors);
    playing = 'the end';
    await subject.end();
  } catch (error) {
    console.error(`fault in round ${number} (${playing}) with --seed ${seed}`);
    console.error(error);
    console.error(`--- the end of scanout's log\n${subject.run.log.split('\n').slice(-LOG_LINES).join('\n')}`);
    throw new SoakFault();
  } finally {
    clearInterval(progress);
    console.log(figures.table());
  }
}

/** It is printed already. */
class SoakFault extends Error {}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      hours: { type: 'string' },
      seed: { type: 'string', default: String(Date.now() % 2 ** 32) },
      without: { type: 'string', default: '' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help) {
    console.log(USAGE);
    return 0;
  }
  const [hours, seed] = [Number(values.hours), Number(values.seed)];
  if (!(hours > 0) || !Number.isSafeInteger(seed)) {
    console.error(`--hours takes a number above 0, --seed a whole number\n\n${USAGE}`);
    return 2;
  }
  if (skipWithoutProgram('weston')) return 1;
  console.error(`--seed ${seed}`);
  try {
    await soak(
      hours,
      seed,
      values.without.split(',').filter((word) => word !== ''),
    );
    return 0;
  } catch (error) {
    if (!(error instanceof SoakFault)) throw error;
    return 1;
  }
}

// A part of the round that failed may still wait for something.
process.exit(await main());
