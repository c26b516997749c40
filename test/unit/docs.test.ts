import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { decodePng } from '../../display/picture/png.ts';
import { FrontEnd } from '../../src/guest/replay/front-end.ts';
import { connectUnix } from '../../src/sys/socket.ts';
import { listening } from '../rig/listening.ts';
import * as request from './guest/virtio-gpu/requests.ts';

const ROOT = join(import.meta.dirname, '../..');
const README = readFileSync(join(ROOT, 'README.md'), 'utf8');
const RAM = 0x4000_0000;
const SIDE = 64;

test('the library example shows a guest and saves its picture', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'readme-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const example = /^## From code\n.*?```ts\n(.*?)```/ms.exec(README)![1]!;
  const program = example.replace("'scanout-bridge'", `'${join(ROOT, 'src/index.ts')}'`).replaceAll('/tmp/gpu.sock', join(directory, 'gpu.sock'));
  writeFileSync(join(directory, 'example.mts'), program);
  const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), 'example.mts'], { cwd: directory, stdio: 'inherit' });
  onTestFinished(() => void child.kill('SIGKILL'));
  const exited = once(child, 'close');
  await listening(join(directory, 'gpu.sock'), exited.then(() => Promise.reject(new Error('the example has ended'))));
  {
    using frontEnd = FrontEnd.create({ socket: connectUnix(join(directory, 'gpu.sock')), memory: [{ guestAddress: RAM, size: 2 ** 20 }] });
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
  expect([picture.width, picture.height, ...picture.data.subarray(0, 4)]).toEqual([SIDE, SIDE, 0x5a, 0x5a, 0x5a, 255]);
});
