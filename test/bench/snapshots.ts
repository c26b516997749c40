/** What a test saves that starts from a snapshot of a logged-in desktop instead of booting one. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { launchGuest, openDisplay } from '../../src/testing/index.ts';
import { desktopGuest, logIn } from '../rig/desktop-guest.ts';
import { DESKTOP_FILES } from '../rig/desktop-image.ts';
import type { BenchContext, Benchmark, Measurement } from './benchmark.ts';
import { missingForGuests } from './guest-flips.ts';

const TESTS = 20;
const GOAL = 0.1;

async function run({ progress }: BenchContext): Promise<readonly Measurement[]> {
  const directory = mkdtempSync(join(tmpdir(), 'bench-snapshots-'));
  const cache = process.env['XDG_CACHE_HOME'];
  const disk = join(directory, 'disk.img');
  const options = desktopGuest(disk);
  process.env['XDG_CACHE_HOME'] = directory;
  try {
    writeFileSync(disk, new Uint8Array(2 ** 20));
    progress('booting a desktop and logging in');
    const started = performance.now();
    const boot = { seconds: 0 };
    const guest = await launchGuest({
      ...options,
      prepare: async (booted) => {
        await logIn(booted);
        boot.seconds = (performance.now() - started) / 1000;
      },
    });
    await guest.kill();
    const restored: number[] = [];
    for (let test = 1; test <= TESTS; test++) {
      progress(`test ${test} of ${TESTS}`);
      const launched = performance.now();
      await using again = await launchGuest(options);
      using display = openDisplay({ guest: again });
      await display.waitForText(/^written/m);
      restored.push((performance.now() - launched) / 1000);
    }
    return [
      {
        name: 'snapshots/until a logged-in desktop shows its session',
        unit: 's',
        better: 'less',
        ours: restored,
        peer: { name: 'booting it and logging in', samples: [boot.seconds] },
        goal: GOAL,
      },
    ];
  } finally {
    if (cache === undefined) delete process.env['XDG_CACHE_HOME'];
    else process.env['XDG_CACHE_HOME'] = cache;
    rmSync(directory, { recursive: true });
  }
}

export const snapshots: Benchmark = {
  name: 'snapshots',
  about: 'a guest restored from a snapshot for each of 20 tests, against booting it and logging in',
  needsQuiet: false,
  missing() {
    const absent = DESKTOP_FILES.find((path) => !existsSync(path));
    return absent === undefined ? missingForGuests() : `no ${absent}: sh test/rig/install.sh`;
  },
  run,
};
