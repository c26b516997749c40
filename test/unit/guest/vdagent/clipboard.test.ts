import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { VD_AGENT, VD_AGENT_CAP, VDAgentMessage, VDIChunkHeader } from '../../../../protocols/vd-agent.ts';
import {
  ClipboardError,
  type ClipboardType,
  type Copied,
  MAX_CLIPBOARD_BYTES,
} from '../../../../src/core/clipboard.ts';
import { VdagentClipboard } from '../../../../src/guest/vdagent/clipboard.ts';
import { connectUnix } from '../../../../src/sys/socket.ts';
import { eventually } from '../../../rig/eventually.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import { FakeAgent, LINUX_CAPS } from './fake-agent.ts';

expectNoLeaks();

const CLIPBOARD = 0;
const [TEXT, PNG, BMP] = [1, 2, 3];

let agent: FakeAgent;
let guest: VdagentClipboard;
let log: string[];
let copied: (Copied | null)[];

afterEach(() => {
  guest[Symbol.dispose]();
  agent[Symbol.dispose]();
});

function open(): void {
  log = [];
  copied = [];
  const pair = FakeAgent.pair();
  agent = pair.agent;
  guest = VdagentClipboard.open({ socket: pair.socket, log: (level, message) => log.push(`${level} ${message}`) });
  guest.onCopied((each) => copied.push(each));
}

/** An agent that has announced itself; what it was told then is dropped. */
async function openAgent(caps = LINUX_CAPS): Promise<void> {
  open();
  agent.announce(false, caps);
  await eventually(() => expect(guest.stats.agent).toBe(true));
  await heard(1);
  if (caps & (1 << VD_AGENT_CAP.MAX_CLIPBOARD)) await heard(1);
}

/** The next `count` messages that the agent gets. */
async function heard(count: number): Promise<string[]> {
  await eventually(() => expect(agent.heard.length).toBeGreaterThanOrEqual(count));
  return agent.heard.splice(0, count);
}

/** Nothing has come that was not taken by `heard`, once what follows has. */
async function expectSilence(): Promise<void> {
  agent.send(VD_AGENT.CLIPBOARD_REQUEST, [1, TEXT]);
  expect(await heard(1)).toEqual(['CLIPBOARD 1 0 +0']);
}

function hostHas(data: Partial<Record<ClipboardType, Uint8Array>>): Copied {
  return {
    types: new Set(Object.keys(data) as ClipboardType[]),
    read: (type) =>
      data[type] ? Promise.resolve(data[type]) : Promise.reject(new ClipboardError('gone', 'it is gone')),
  };
}

/** What the guest copies next. */
async function guestCopies(...types: number[]): Promise<Copied> {
  const before = copied.length;
  agent.send(VD_AGENT.CLIPBOARD_GRAB, [CLIPBOARD, ...types]);
  await eventually(() => expect(copied.length).toBeGreaterThan(before));
  return copied.at(-1)!;
}

const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));

describe('VdagentClipboard', () => {
  test('announces itself, and answers an agent that starts with its limit and what the host has copied', async () => {
    open();
    expect(await heard(1)).toEqual([`ANNOUNCE_CAPABILITIES 1 ${(1 << 5) | (1 << 6) | (1 << 16)}`]);
    guest.offer(hostHas({ text: bytes('a') }));
    agent.announce();
    expect(await heard(3)).toEqual([
      expect.stringMatching(/^ANNOUNCE_CAPABILITIES 0 /),
      `MAX_CLIPBOARD ${MAX_CLIPBOARD_BYTES}`,
      'CLIPBOARD_GRAB 0 1',
    ]);
    // As when another user logs in.
    agent.announce();
    expect((await heard(3)).at(-1)).toBe('CLIPBOARD_GRAB 0 1');
    expect(guest.stats).toEqual({ connected: true, agent: true });
  });

  test('says nothing of the clipboard to an agent without one', async () => {
    await openAgent(0);
    guest.offer(hostHas({ text: bytes('a') }));
    agent.announce(true, 0);
    expect(await heard(1)).toEqual([expect.stringMatching(/^ANNOUNCE_CAPABILITIES 0 /)]);
    expect(log).toContain("warn clipboard: the guest's agent cannot share the clipboard");
  });

  test('gives the guest what the host has copied, once it asks, in the order in which it does', async () => {
    await openAgent();
    const png = Buffer.alloc(3_000_000, 'some pixels');
    guest.offer(hostHas({ text: bytes('schön\n'), png }));
    expect(await heard(1)).toEqual(['CLIPBOARD_GRAB 0 1 2']);
    for (const type of [PNG, TEXT, BMP, TEXT]) agent.send(VD_AGENT.CLIPBOARD_REQUEST, [CLIPBOARD, type]);
    expect(await heard(1)).toEqual([`CLIPBOARD 0 2 +${png.length}`]);
    expect(agent.data[0]!.equals(png)).toBe(true);
    expect(await heard(3)).toEqual(['CLIPBOARD 0 1 +7', 'CLIPBOARD 0 0 +0', 'CLIPBOARD 0 1 +7']);
    expect(agent.data.slice(1).map(String)).toEqual(['schön\n', '', 'schön\n']);
    guest.offer(null);
    expect(await heard(1)).toEqual(['CLIPBOARD_RELEASE 0']);
    guest.offer(null);
    await expectSilence();
  });

  test('tells the guest that there is nothing if the host cannot be read', async () => {
    await openAgent();
    guest.offer({ types: new Set(['text']), read: () => Promise.reject(new ClipboardError('large', 'too large')) });
    agent.send(VD_AGENT.CLIPBOARD_REQUEST, [CLIPBOARD, TEXT]);
    expect(await heard(2)).toEqual(['CLIPBOARD_GRAB 0 1', 'CLIPBOARD 0 0 +0']);
    expect(log).toContain('warn clipboard: the guest cannot paste: too large');
  });

  test('reads what the guest has copied, once for all who ask at a time', async () => {
    await openAgent();
    const { types, read } = await guestCopies(TEXT, PNG, BMP);
    expect([...types]).toEqual(['text', 'png']);
    const reads = [read('png'), read('text'), read('png')];
    expect(await heard(1)).toEqual(['CLIPBOARD_REQUEST 0 2']);
    const png = Buffer.alloc(MAX_CLIPBOARD_BYTES, 'all the pixels');
    agent.send(VD_AGENT.CLIPBOARD, [CLIPBOARD, PNG], png);
    expect(await heard(1)).toEqual(['CLIPBOARD_REQUEST 0 1']);
    agent.send(VD_AGENT.CLIPBOARD, [CLIPBOARD, TEXT], bytes('b'));
    const results = await Promise.all(reads);
    expect(Buffer.from(results[0]!).equals(png)).toBe(true);
    expect(results[2]).toBe(results[0]);
    expect(Buffer.from(results[1]!).toString()).toBe('b');
  });

  test('does not grab for the guest what the guest has copied itself, nor read what it has not', async () => {
    await openAgent();
    guest.offer(hostHas({ text: bytes('a') }));
    await heard(1);
    const { read } = await guestCopies(TEXT);
    await expect(read('png')).rejects.toMatchObject({ code: 'refused' });
    await expectSilence();
    // The host copies again: what the guest had is gone.
    guest.offer(hostHas({ text: bytes('c') }));
    expect(copied.at(-1)).toBeNull();
    await expect(read('text')).rejects.toMatchObject({ code: 'gone' });
  });

  test('fails a read when the guest copies something else, releases it, restarts its agent or goes', async () => {
    await openAgent();
    const ends = [
      () => agent.send(VD_AGENT.CLIPBOARD_GRAB, [CLIPBOARD, PNG]),
      () => agent.send(VD_AGENT.CLIPBOARD_RELEASE, [CLIPBOARD]),
      () => agent.announce(),
      () => agent[Symbol.dispose](),
    ];
    for (const end of ends) {
      const { read } = await guestCopies(TEXT);
      const pending = read('text');
      end();
      await expect(pending).rejects.toMatchObject({ code: 'gone' });
    }
    expect(copied.at(-1)).toBeNull();
    await eventually(() => expect(log).toContainEqual(expect.stringMatching(/clipboard: the VMM is disconnected/)));
    expect(guest.stats).toEqual({ connected: false, agent: false });
  });

  test('takes an answer for what was asked for, though that is gone meanwhile', async () => {
    await openAgent();
    const first = (await guestCopies(TEXT)).read('text');
    const second = (await guestCopies(TEXT)).read('text');
    await expect(first).rejects.toMatchObject({ code: 'gone' });
    expect(await heard(1)).toEqual(['CLIPBOARD_REQUEST 0 1']);
    agent.send(VD_AGENT.CLIPBOARD, [CLIPBOARD, TEXT], bytes('first'));
    expect(await heard(1)).toEqual(['CLIPBOARD_REQUEST 0 1']);
    agent.send(VD_AGENT.CLIPBOARD, [CLIPBOARD, TEXT], bytes('second'));
    expect(Buffer.from(await second).toString()).toBe('second');
  });

  test('takes the release of one byte that the agent for Linux sends', async () => {
    await openAgent();
    await guestCopies(TEXT);
    const head = VDAgentMessage.encode({ protocol: 1, type: VD_AGENT.CLIPBOARD_RELEASE, size: 1 });
    agent.raw(Buffer.concat([VDIChunkHeader.encode({ port: 1, size: head.length + 1 }), head, Uint8Array.of(0)]));
    await eventually(() => expect(copied.at(-1)).toBeNull());
  });

  test('speaks to agents with one selection, and ends lines as their guest does', async () => {
    await openAgent((1 << VD_AGENT_CAP.CLIPBOARD_BY_DEMAND) | (1 << VD_AGENT_CAP.GUEST_LINEEND_CRLF));
    guest.offer(hostHas({ text: bytes('ä\nb\n') }));
    agent.send(VD_AGENT.CLIPBOARD_REQUEST, [TEXT]);
    // The second word is the first of the data: ä CR LF.
    expect(await heard(2)).toEqual(['CLIPBOARD_GRAB 1', `CLIPBOARD 1 168666307 +3`]);
    expect(agent.data.map(String)).toEqual(['b\r\n']);
    agent.send(VD_AGENT.CLIPBOARD_GRAB, [TEXT]);
    await eventually(() => expect(copied).toHaveLength(1));
    const read = copied.at(-1)!.read('text');
    await heard(1);
    agent.send(VD_AGENT.CLIPBOARD, [TEXT], bytes('ä\r\nb\r\n'));
    expect(Buffer.from(await read).toString()).toBe('ä\nb\n');
  });

  test('leaves the other selections alone', async () => {
    await openAgent();
    agent.send(VD_AGENT.CLIPBOARD_GRAB, [1, TEXT]);
    await expectSilence();
    expect(copied).toEqual([]);
  });

  test('refuses a gigabyte without keeping any of it, and goes on', async () => {
    await openAgent();
    const { read } = await guestCopies(TEXT);
    const large = read('text');
    await heard(1);
    const size = 2 ** 30;
    const head = VDAgentMessage.encode({ protocol: 1, type: VD_AGENT.CLIPBOARD, size });
    agent.raw(Buffer.concat([VDIChunkHeader.encode({ port: 1, size: head.length + size }), head]));
    await expect(large).rejects.toThrow(
      `the guest has copied ${size} bytes: at most ${MAX_CLIPBOARD_BYTES} are passed on`,
    );
    expect(guest.stats.connected).toBe(true);
  });

  test('goes on behind data that are too large', async () => {
    await openAgent();
    const { read } = await guestCopies(TEXT);
    const large = read('text');
    await heard(1);
    agent.send(VD_AGENT.CLIPBOARD, [CLIPBOARD, TEXT], new Uint8Array(MAX_CLIPBOARD_BYTES + 1));
    await expect(large).rejects.toMatchObject({ code: 'large' });
    const small = read('text');
    await heard(1);
    agent.send(VD_AGENT.CLIPBOARD, [CLIPBOARD, TEXT], bytes('small'));
    expect(Buffer.from(await small).toString()).toBe('small');
  });

  test.each([
    ['capabilities in two bytes', VD_AGENT.ANNOUNCE_CAPABILITIES, 2],
    ['a list of types that is cut', VD_AGENT.CLIPBOARD_GRAB, 6],
    ['a request that is too short', VD_AGENT.CLIPBOARD_REQUEST, 4],
    ['a request that is too long', VD_AGENT.CLIPBOARD_REQUEST, 12],
    ['a message without a selection', VD_AGENT.CLIPBOARD_GRAB, 0],
    ['a list of a million types', VD_AGENT.CLIPBOARD_GRAB, 4_000_000],
  ])('ends the connection over %s', async (_, type, size) => {
    await openAgent();
    agent.send(type, [], new Uint8Array(size));
    await eventually(() => expect(guest.stats.connected).toBe(false));
    expect(log.at(-1)).toMatch(/^warn clipboard: the VMM is disconnected: the agent sent|asked/);
  });

  test('ends the connection over more requests than programs make', async () => {
    await openAgent();
    guest.offer({ types: new Set(['text']), read: () => new Promise(() => undefined) });
    for (let i = 0; i < 40; i++) agent.send(VD_AGENT.CLIPBOARD_REQUEST, [CLIPBOARD, TEXT]);
    await eventually(() => expect(guest.stats.connected).toBe(false));
    expect(log.at(-1)).toMatch(/asked for more than 32 things at a time/);
  });

  test('reads no more from an agent that does not read, and goes on when it does', async () => {
    await openAgent();
    guest.offer(hostHas({ png: new Uint8Array(MAX_CLIPBOARD_BYTES) }));
    await heard(1);
    agent.pause();
    for (let i = 0; i < 3; i++) agent.send(VD_AGENT.CLIPBOARD_REQUEST, [CLIPBOARD, PNG]);
    agent.send(VD_AGENT.CLIPBOARD_GRAB, [CLIPBOARD, TEXT]);
    agent.resume();
    await eventually(() => expect(copied).toHaveLength(1));
    expect((await heard(1))[0]).toBe(`CLIPBOARD 0 2 +${MAX_CLIPBOARD_BYTES}`);
  });
});

describe('VdagentClipboard at a path', () => {
  let directory: string;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'vdagent-'));
    log = [];
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  test('takes one VMM at a time, and the next one', async () => {
    const socket = join(directory, 'clipboard.sock');
    guest = VdagentClipboard.open({ socket, log: (level, message) => log.push(`${level} ${message}`) });
    agent = new FakeAgent(connectUnix(socket));
    await heard(1);
    using second = new FakeAgent(connectUnix(socket));
    await eventually(() => expect(second.isClosed).toBe(true));
    expect(log).toContain('warn clipboard: refused a second VMM: one is connected already');
    agent[Symbol.dispose]();
    await eventually(() => expect(guest.stats.connected).toBe(false));
    agent = new FakeAgent(connectUnix(socket));
    guest.offer(hostHas({ text: bytes('a') }));
    agent.announce(false);
    expect((await heard(3)).at(-1)).toBe('CLIPBOARD_GRAB 0 1');
    guest[Symbol.dispose]();
    expect(existsSync(socket)).toBe(false);
  });
});
