import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import {
  type Incoming,
  WaylandObject,
  WlKeyboard,
  WlOutput,
  WlPointer,
  WlShm,
  WlSurface,
  WpViewport,
  XdgToplevel,
  ZwpLinuxBufferParamsV1,
} from '../../../../../display/wayland/client/index.ts';
import { isTraceWanted } from '../../../../../display/wayland/client/trace.ts';
import type { ArgumentTable, InterfaceTable } from '../../../../../protocols/wayland/wire.ts';
import { createMemfd } from '../../../../../src/sys/memfd.ts';
import { Random } from '../../../../rig/random.ts';
import { expectNoLeaks } from '../../../sys/no-leaks.ts';
import { encodeMessage } from './codec.ts';
import { Connected } from './connected.ts';
import { type WireFuzzResult, fuzzConnection } from './fuzz.ts';

expectNoLeaks();

const TWO_FDS: readonly ArgumentTable[] = [
  { name: 'first', type: 'fd' },
  { name: 'second', type: 'fd' },
];

/** No protocol with a generated class has an event with two descriptors. */
class Pair extends WaylandObject {
  static readonly interface: InterfaceTable = {
    name: 'pair',
    version: 1,
    requests: [],
    events: [{ name: 'pair', since: 1, args: TWO_FDS }],
    errors: {},
  };
  readonly received: number[] = [];

  override get interface(): InterfaceTable {
    return Pair.interface;
  }

  override dispatch(_opcode: number, event: Incoming): void {
    const fds = [event.fd(), event.fd()];
    event.end();
    this.received.push(...fds.map(({ fd }) => fd));
    for (const fd of fds) fd[Symbol.dispose]();
  }
}

const TIME = /^\[ *\d{1,7}\.\d{3}\] /;

let printed: string;
beforeEach(() => {
  printed = '';
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    printed += String(text);
    return true;
  });
});
afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
});

/** The lines printed since the last call, without their times. */
function lines(): string[] {
  const all = printed.split('\n');
  printed = '';
  expect(all.pop()).toBe('');
  return all.map((line) => line.replace(TIME, ''));
}

describe('WAYLAND_DEBUG=1', () => {
  let it: Connected;
  beforeEach(async () => {
    vi.stubEnv('WAYLAND_DEBUG', '1');
    it = await Connected.open();
  });
  afterEach(() => it[Symbol.dispose]());

  /** Without the `sync` of `roundtrip` and what answers it. */
  async function messages(): Promise<string[]> {
    await it.display.roundtrip();
    return lines().filter((line) => !/wl_callback|delete_id/.test(line));
  }

  test('traces everything from the first request of a connection on', () => {
    expect(lines()).toEqual([
      ' -> wl_display@1.get_registry(new id wl_registry@2)',
      ' -> wl_display@1.sync(new id wl_callback@3)',
      'wl_registry@2.global(1, "wl_compositor", 6)',
      'wl_callback@3.done(0)',
      'wl_display@1.delete_id(3)',
      ' -> wl_registry@2.bind(1, "wl_compositor", 6, new id [unknown]@3)',
      ' -> wl_display@1.sync(new id wl_callback@4)',
      'wl_callback@4.done(0)',
      'wl_display@1.delete_id(4)',
    ]);
  });

  test('prints the wall-clock time in ms, modulo 2^32 us, before every message', () => {
    lines();
    const before = Math.floor((Date.now() * 1000) % 2 ** 32);
    it.compositor.createSurface();
    const [, ms, us] = /^\[ *(\d+)\.(\d{3})\] /.exec(printed)!;
    const elapsed = (Number(ms) * 1000 + Number(us) - before + 2 ** 32) % 2 ** 32;
    // Date.now() counts whole ms and may differ from the monotonic clock by what NTP has adjusted.
    expect(Math.min(elapsed, 2 ** 32 - elapsed)).toBeLessThan(10_000_000);
  });

  test('traces a request when it is made, before it is sent', () => {
    lines();
    const surface = it.compositor.createSurface();
    surface.commit();
    expect(lines()).toEqual([' -> wl_compositor@3.create_surface(new id wl_surface@4)', ' -> wl_surface@4.commit()']);
  });

  test('traces numbers, strings, objects and null as libwayland does', async () => {
    const surface = it.compositor.createSurface();
    const [viewport] = it.conjure(WpViewport);
    const [toplevel] = it.conjure(XdgToplevel);
    await messages();
    surface.damage(-1, 2, 2 ** 31 - 1, 0);
    surface.setInputRegion(null);
    surface.setInputRegion(it.compositor.createRegion());
    viewport.setSource(1.5, -0.25, 8388607.99609375, -8388608);
    viewport.setSource(1 / 256, -1 / 256, 0, 0);
    toplevel.setTitle('Größe "&" Co');
    toplevel.setTitle('');
    expect(await messages()).toEqual([
      ' -> wl_surface@4.damage(-1, 2, 2147483647, 0)',
      ' -> wl_surface@4.set_input_region(nil)',
      ' -> wl_compositor@3.create_region(new id wl_region@7)',
      ' -> wl_surface@4.set_input_region(wl_region@7)',
      ' -> wp_viewport@5.set_source(1.50000000, -0.25000000, 8388607.99609375, -8388608.00000000)',
      ' -> wp_viewport@5.set_source(0.00390625, -0.00390625, 0.00000000, 0.00000000)',
      ' -> xdg_toplevel@6.set_title("Größe "&" Co")',
      ' -> xdg_toplevel@6.set_title("")',
    ]);
  });

  test('traces a descriptor of a request by its number in this process', async () => {
    const [shm] = it.conjure(WlShm);
    using memfd = createMemfd('pool', 4096);
    await messages();
    shm.createPool(memfd, 4096);
    shm.createPool(memfd, 8192);
    const [first, second] = (await messages()).map((line) =>
      /^ -> wl_shm@4\.create_pool\(new id wl_shm_pool@([56]), fd (\d+), (?:4096|8192)\)$/.exec(line),
    );
    expect([first?.[1], second?.[1]]).toEqual(['5', '6']);
    expect(Number(first?.[2])).toBeGreaterThan(memfd.fd);
    expect(Number(second?.[2])).toBeGreaterThan(Number(first?.[2]));
  });

  test('traces events with their descriptors, arrays, new ids, fixed numbers and objects', async () => {
    const [keyboard, farKeyboard] = it.conjure(WlKeyboard);
    const [toplevel, farToplevel] = it.conjure(XdgToplevel);
    const [params, farParams] = it.conjure(ZwpLinuxBufferParamsV1);
    const [pointer, farPointer] = it.conjure(WlPointer);
    const [surface] = it.conjure(WlSurface);
    const fds: number[] = [];
    keyboard.listener = {
      keymap(_format, fd) {
        fds.push(fd.fd);
        fd[Symbol.dispose]();
      },
    };
    toplevel.listener = {};
    params.listener = { created: () => undefined };
    pointer.listener = {};
    using memfd = createMemfd('keymap', 4096);
    await messages();
    farKeyboard.send('keymap', 1, memfd, 4096);
    farKeyboard.send('keymap', 0, memfd, 1);
    farToplevel.send('configure', 640, -480, Uint8Array.of(1, 0, 0, 0, 4));
    farParams.send('created', it.client.newObject('wl_buffer', 1));
    farPointer.send('enter', 7, surface.id, 1.5, -2);
    expect(await messages()).toEqual([
      `wl_keyboard@4.keymap(1, fd ${fds[0]}, 4096)`,
      `wl_keyboard@4.keymap(0, fd ${fds[1]}, 1)`,
      'xdg_toplevel@5.configure(640, -480, array[5])',
      'zwp_linux_buffer_params_v1@6.created(new id wl_buffer@4278190080)',
      'wl_pointer@7.enter(7, wl_surface@8, 1.50000000, -2.00000000)',
    ]);
  });

  test('marks an event as discarded if its object is destroyed or has no listener', async () => {
    const [output, far] = it.conjure(WlOutput, 2);
    await messages();
    far.send('scale', 2);
    expect(await messages()).toEqual(['discarded wl_output@4.scale(2)']);
    output.listener = {};
    far.send('scale', 3);
    expect(await messages()).toEqual(['wl_output@4.scale(3)']);
    output[Symbol.dispose]();
    far.send('scale', 4);
    expect(await messages()).toEqual(['discarded wl_output@4.scale(4)']);
  });

  test('escapes control characters in the compositor\u2019s strings', async () => {
    const [output, far] = it.conjure(WlOutput);
    output.listener = {};
    await messages();
    far.send('name', 'a\u001b[2J\n\u009bb');
    expect(await messages()).toEqual(['wl_output@4.name("a\\x1b[2J\\x0a\\x9bb")']);
  });

  test('traces the error that ends a connection, also about an object that is unknown', async () => {
    it.client.display.send('error', 4711, 1, 'who?');
    await expect(it.display.roundtrip()).rejects.toMatchObject({ code: 'refused' });
    expect(lines().at(-1)).toBe('wl_display@1.error([unknown]@4711, 1, "who?")');
  });

  test.each([
    ['too few arguments', 1, [1, 2, 3], 'wl_output@4.mode(1, 2, 3, [malformed])'],
    ['a string that runs past the end', 4, [5, 0], 'wl_output@4.name([malformed])'],
    ['no arguments at all', 0, [], 'wl_output@4.geometry([malformed])'],
  ])('traces an event with %s as far as it can be read', async (_, opcode, args, line) => {
    const [output] = it.conjure(WlOutput);
    output.listener = {};
    await messages();
    it.client.raw(new Uint8Array(Uint32Array.of(output.id, ((8 + 4 * args.length) << 16) | opcode, ...args).buffer));
    await expect(it.display.roundtrip()).rejects.toMatchObject({ code: 'malformed' });
    expect(lines().at(-1)).toBe(line);
  });

  test('traces two descriptors of one event in their order', async () => {
    const pair = it.compositor.connection.objects.create(Pair, 1);
    using memfd = createMemfd('one of two', 1);
    await messages();
    it.client.raw(encodeMessage(pair.id, 0, TWO_FDS, [memfd, memfd]), [memfd, memfd]);
    expect(await messages()).toEqual([`discarded pair@4.pair(fd ${pair.received[0]}, fd ${pair.received[1]})`]);
    expect(pair.received[0]).not.toBe(pair.received[1]);
  });

  test('leaves hostile compositors to end in a typed error each', { timeout: 180_000 }, async () => {
    const random = new Random(3);
    const result: WireFuzzResult = { events: 0, heard: 0, ends: new Map(), faults: [] };
    for (let i = 0; i < 500 && result.faults.length === 0; i++) {
      await fuzzConnection(random, result);
      expect(lines().length).toBeGreaterThan(0);
    }
    expect(result.faults).toEqual([]);
    expect([...result.ends.keys()].sort()).toEqual(['closed', 'gone', 'malformed', 'refused']);
  });
});

describe('the trace is off', () => {
  test.each([
    ['WAYLAND_DEBUG is not set', undefined],
    ['WAYLAND_DEBUG=server', 'server'],
  ])('if %s: nothing is printed', async (_, value) => {
    vi.stubEnv('WAYLAND_DEBUG', value);
    using it = await Connected.open();
    it.compositor.createSurface().commit();
    await it.display.roundtrip();
    expect(printed).toBe('');
  });

  test('if WAYLAND_DEBUG is set only after the connection was made', async () => {
    vi.stubEnv('WAYLAND_DEBUG', undefined);
    using it = await Connected.open();
    vi.stubEnv('WAYLAND_DEBUG', '1');
    await it.display.roundtrip();
    expect(printed).toBe('');
  });
});

test.each([
  [undefined, false],
  ['', false],
  ['0', false],
  ['server', false],
  ['1', true],
  ['client', true],
  ['server,client', true],
])('WAYLAND_DEBUG=%s turns the trace of a client on: %s', (value, isWanted) => {
  expect(isTraceWanted(value)).toBe(isWanted);
});
