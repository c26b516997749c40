import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Benchmark, Measurement } from './benchmark.ts';
import { lines } from './lines.ts';
import { bundled } from './programs.ts';

/** Frames that count, after 40 seconds that do not: V8 is slow to optimize what runs 60 times a second, and a consumer runs for hours. */
export const FRAMES = 120;
export const WARM_UP = 2400;
const ROUNDS = 3;

type Kind = 'export' | 'pixels' | 'vmm' | 'bare';

/** The processor time of sender and receiver, ms a frame. */
async function measure(kind: Kind): Promise<{ sender: number; receiver: number }> {
  const directory = mkdtempSync(join(tmpdir(), 'bench-export-'));
  const start = (role: string) => {
    const child = spawn(process.execPath, [bundled('export-child'), `${kind}-${role}`, join(directory, 'socket')], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    return {
      next: lines(child.stdout, `the ${role} of ${kind}`),
      end: async (): Promise<void> => {
        const closed = once(child, 'close');
        if (child.exitCode === null) child.kill('SIGKILL');
        await closed;
      },
    };
  };
  const sender = start('sender');
  try {
    await sender.next();
    const receiver = start('receiver');
    try {
      const perFrame = (text: string): number => Number(text) / 1000 / FRAMES;
      return { sender: perFrame(await sender.next()), receiver: perFrame(await receiver.next()) };
    } finally {
      await receiver.end();
    }
  } finally {
    await sender.end();
    rmSync(directory, { recursive: true });
  }
}

const GOAL = 0.1;
/** Waking up 60 times a second is most of what a consumer costs. */
const BARE_GOAL = 1.5;

export const exportFrames: Benchmark = {
  name: 'export',
  about: 'frames of 1920x1080 at 60 Hz for another process, by id, against pixels through a socket',
  needsQuiet: true,
  missing: () => null,
  async run({ progress }) {
    const samples: Record<Kind, { sender: number; receiver: number }[]> = { export: [], pixels: [], vmm: [], bare: [] };
    for (let round = 0; round < ROUNDS; round++) {
      for (const kind of ['export', 'pixels', 'vmm', 'bare'] as const) {
        progress(`round ${round + 1} of ${ROUNDS}: ${kind}`);
        samples[kind].push(await measure(kind));
      }
    }
    const limit: Measurement = {
      name: 'export/consumer CPU against a bare loop',
      unit: 'ms/frame',
      better: 'less',
      ours: samples.export.map(({ receiver }) => receiver),
      peer: {
        name: 'messages of the same length, read and answered, and nothing else',
        samples: samples.bare.map(({ receiver }) => receiver),
      },
      goal: BARE_GOAL,
    };
    const shares = (['pixels', 'vmm'] as const).flatMap((peer) =>
      (['sender', 'receiver'] as const).map((side) => ({
        name: `export/${side === 'sender' ? 'bridge' : 'consumer'} CPU against ${peer === 'pixels' ? 'pixels' : '--output vmm'}`,
        unit: 'ms/frame',
        better: 'less' as const,
        ours: samples.export.map((sample) => sample[side]),
        peer: {
          name: peer === 'pixels' ? 'pixels through a socket' : "the VMM's display",
          samples: samples[peer].map((sample) => sample[side]),
        },
        goal: GOAL,
      })),
    );
    return [...shares, limit];
  },
};
