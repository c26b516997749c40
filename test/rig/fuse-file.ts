import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';

const O_RDWR = 2;
const O_NONBLOCK = 0o4000;

/**
 * Answers what a FUSE file system is asked (linux/fuse.h) to be mounted and opened, and nothing about closing (FLUSH).
 * Headers: 40 bytes in, with opcode and unique number at 4 and 8; 16 bytes out: length, error, unique number.
 */
const SERVER = `
const { workerData: { device, stop }, parentPort } = require('node:worker_threads');
const { readSync, writeSync } = require('node:fs');
const OUT = { 3: 104, 14: 16, 26: 64 };
const FLUSH = 25, FORGET = 2, ENOSYS = -38;
const request = Buffer.alloc(2 ** 17);
parentPort.postMessage('ready');
while (Atomics.wait(stop, 0, 0, 5) === 'timed-out') {
  try { readSync(device, request); } catch { continue; }
  const opcode = request.readUInt32LE(4);
  if (opcode === FLUSH || opcode === FORGET) continue;
  const size = OUT[opcode] ?? 0;
  const reply = Buffer.alloc(16 + size);
  reply.writeUInt32LE(reply.length, 0);
  if (size === 0) reply.writeInt32LE(ENOSYS, 4);
  request.copy(reply, 8, 8, 16);
  if (opcode === 26) { reply.writeUInt32LE(7, 16); reply.writeUInt32LE(31, 20); reply.writeUInt32LE(4096, 24); reply.writeUInt32LE(4096, 36); }
  if (opcode === 3) { reply.writeBigUInt64LE(1n, 32); reply.writeUInt32LE(0o100666, 32 + 60); reply.writeUInt32LE(1, 32 + 64); }
  writeSync(device, reply);
}
`;

/** A file of a FUSE file system that can be opened, and whose close(2) waits until dispose. Needs root and /dev/fuse. */
export class FuseFile implements AsyncDisposable {
  readonly path: string;
  readonly #directory: string;
  readonly #device: number;
  readonly #server: Worker;
  readonly #stop: Int32Array;

  private constructor(directory: string, device: number, server: Worker, stop: Int32Array) {
    this.path = join(directory, 'file');
    this.#directory = directory;
    this.#device = device;
    this.#server = server;
    this.#stop = stop;
  }

  static async mount(): Promise<FuseFile> {
    const directory = mkdtempSync(join(tmpdir(), 'fuse-'));
    const device = openSync('/dev/fuse', O_RDWR | O_NONBLOCK);
    const stop = new Int32Array(new SharedArrayBuffer(4));
    const server = new Worker(SERVER, { eval: true, workerData: { device, stop } });
    await new Promise((resolve) => server.once('message', resolve));
    const file = new FuseFile(directory, device, server, stop);
    writeFileSync(file.path, '');
    const options = 'fd=3,rootmode=100666,user_id=0,group_id=0';
    execFileSync('mount', ['-i', '-t', 'fuse', '-o', options, 'none', file.path], {
      stdio: ['ignore', 'inherit', 'inherit', device],
    });
    return file;
  }

  /** Ends the file system, and what waits for it. */
  async [Symbol.asyncDispose](): Promise<void> {
    execFileSync('umount', ['--lazy', '--force', this.path]);
    Atomics.store(this.#stop, 0, 1);
    Atomics.notify(this.#stop, 0);
    await new Promise((resolve) => this.#server.once('exit', resolve));
    closeSync(this.#device);
    rmSync(this.#directory, { recursive: true });
  }
}
