import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { skipWithoutSway } from '../rig/sway.ts';
import type { Benchmark } from './benchmark.ts';
import { inVm } from './in-vm.ts';
import { missingCompiler, missingWayland, waylandClientProgram } from './native.ts';
import { hidden } from './wayland/hidden.ts';
import { shm } from './wayland/shm.ts';
import { SIMPLE_SHM, simpleShm } from './wayland/simple-shm.ts';

function missing(...programs: readonly string[]): string | null {
  const absent = programs.find((program) => spawnSync(program, ['--version']).error);
  return (
    missingCompiler() ?? missingWayland() ?? (absent === undefined ? null : `no ${absent}: sh test/rig/install.sh`)
  );
}

export const waylandShm: Benchmark = {
  name: 'wayland-shm',
  about:
    'frames of 1920x1080 in a window by wl_shm: CPU, latency and system calls against a minimal client in C, on Weston',
  needsQuiet: true,
  missing: () => missing('weston', 'strace'),
  run: ({ progress }) => shm(waylandClientProgram(), progress),
};

export const waylandSimpleShm: Benchmark = {
  name: 'wayland-simple-shm',
  about: 'the same at 250x250 against weston-simple-shm, which paints what we copy',
  needsQuiet: true,
  missing: () =>
    missing('weston', 'strace') ?? (existsSync(SIMPLE_SHM) ? null : `no ${SIMPLE_SHM}: sh test/rig/install.sh`),
  run: ({ progress }) => simpleShm(progress),
};

export const waylandHidden: Benchmark = {
  name: 'wayland-hidden',
  about: 'a window that cannot be seen, on sway: CPU while its guest flips and while it is still',
  needsQuiet: true,
  missing: () => (skipWithoutSway() ? 'sway: sh test/rig/install.sh' : null),
  run: ({ progress }) => hidden(progress),
};

export const waylandDmabuf: Benchmark = inVm({
  name: 'wayland-dmabuf',
  about:
    'frames of 1920x1080 in a window by linux-dmabuf: CPU, latency and system calls against a minimal client in C, on Weston',
  minutes: 5,
  main: 'wayland/main',
  program: waylandClientProgram,
});
