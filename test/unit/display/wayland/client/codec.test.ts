/** Every request and event: the generated classes against the table-driven codec of the tests, over a socket. */
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import * as client from '../../../../../display/wayland/client/index.ts';
import { WaylandObject, type WaylandClass } from '../../../../../display/wayland/client/index.ts';
import { memberName } from '../../../../../protocols/wayland/scanner/names.ts';
import type { ArgumentTable, InterfaceTable, MessageTable } from '../../../../../protocols/wayland/wire.ts';
import { OwnedFd } from '../../../../../src/sys/fd.ts';
import { createMemfd } from '../../../../../src/sys/memfd.ts';
import { fileSize } from '../../../../rig/process-resources.ts';
import { expectNoLeaks } from '../../../sys/no-leaks.ts';
import { INTERFACES } from './codec.ts';
import { Connected } from './connected.ts';
import { FakeObject } from './fake-client.ts';

expectNoLeaks();

const classes = new Map(
  Object.values(client)
    .filter((value): value is WaylandClass => typeof value === 'function' && value.prototype instanceof WaylandObject)
    .map((type) => [type.interface.name, type]),
);

type Method = (...args: unknown[]) => unknown;
const methodOf = (object: object, { name }: MessageTable): Method | undefined =>
  (object as Record<string, Method | undefined>)[memberName(name)]?.bind(object);

let it: Connected;
let memfd: OwnedFd;
beforeEach(async () => {
  it = await Connected.open();
  memfd = createMemfd('argument', 4711);
});
afterEach(() => {
  it[Symbol.dispose]();
  memfd[Symbol.dispose]();
});

/** Random values of an argument. For an object: whether it is there; `bothSides` creates the object. */
function valueOf({ type, nullable }: ArgumentTable): fc.Arbitrary<unknown> {
  switch (type) {
    case 'int':
      return fc.integer();
    case 'uint':
      return fc.integer({ min: 0, max: 0xffffffff });
    case 'fixed':
      return fc.integer().map((n) => n / 256);
    case 'string': {
      const string = fc.string({ unit: 'grapheme', maxLength: 60 }).filter((text) => !text.includes('\0'));
      return nullable ? fc.option(string) : string;
    }
    case 'array':
      return fc.uint8Array({ maxLength: 60 });
    case 'object':
      return nullable ? fc.boolean() : fc.constant(true);
    default:
      return fc.constant(true);
  }
}

/** A value as each side represents it: `near` for the client's methods and listeners, `far` for the fake compositor. */
function bothSides({ type, interface: interfaceName }: ArgumentTable, value: unknown): { near: unknown; far: unknown } {
  if (type === 'fd') return { near: memfd, far: memfd };
  if (type !== 'object') return { near: value, far: value };
  if (value !== true) return { near: null, far: null };
  const [near, far] = it.conjure(classes.get(interfaceName!)!);
  return { near, far };
}

/** A comparable form: a descriptor by its file's size, an object by id, interface and version. */
function essence(value: unknown): unknown {
  if (value instanceof OwnedFd) return { fileSize: fileSize(value) };
  if (value instanceof WaylandObject || value instanceof FakeObject)
    return { id: value.id, interface: value.interface.name, version: value.version };
  return value;
}

const bindable = ({ args }: MessageTable): boolean =>
  args.every((arg) => arg.interface === undefined || INTERFACES.has(arg.interface));
/** Interfaces that the connection itself uses; its own tests cover them. */
const own = (table: InterfaceTable): boolean => ['wl_display', 'wl_registry'].includes(table.name);
const requests = [...INTERFACES.values()]
  .filter((table) => !own(table))
  .flatMap((table) =>
    table.requests.filter(bindable).map((message) => ({ name: `${table.name}.${message.name}`, table, message })),
  );
const events = [...INTERFACES.values()]
  .filter((table) => !own(table))
  .flatMap((table) => table.events.map((message) => ({ name: `${table.name}.${message.name}`, table, message })));

const values = ({ args }: MessageTable): fc.Arbitrary<unknown[]> => fc.tuple(...args.map(valueOf));

test('generated bindings: every interface of the protocol tables has a class', () => {
  expect([...classes.keys()].sort()).toEqual([...INTERFACES.keys()].sort());
});

describe('a Wayland request', () => {
  test.each(requests)('$name arrives with the arguments it was made with', async ({ name, table, message }) => {
    await fc.assert(
      fc.asyncProperty(values(message), async (given) => {
        const [object] = it.conjure(classes.get(table.name)!);
        const both = message.args.map((arg, i) => bothSides(arg, given[i]));
        const made = methodOf(object, message)!(
          ...both.filter((_, i) => message.args[i]!.type !== 'new_id').map(({ near }) => near),
        );
        const arriving = it.server.next(name);
        await it.display.roundtrip();
        const request = await arriving;
        const expected = message.args.map(({ type }, i) => essence(type === 'new_id' ? made : both[i]!.far));
        expect(Object.values(request.args).map(essence)).toEqual(expected);
        expect([request.object.id, object.isDestroyed]).toEqual([object.id, message.destructor === true]);
      }),
      { numRuns: 10 },
    );
  });

  test.each(requests.filter(({ message }) => message.since > 1))(
    '$name throws at a version without it, and nothing is sent',
    async ({ table, message }) => {
      const [object] = it.conjure(classes.get(table.name)!, message.since - 1);
      const args = message.args
        .filter(({ type }) => type !== 'new_id')
        .map((arg) => bothSides(arg, fc.sample(valueOf(arg), 1)[0]).near);
      const before = it.server.requests.length;
      expect(() => methodOf(object, message)!(...args)).toThrow(
        expect.objectContaining({
          code: 'version',
          interface: table.name,
          request: message.name,
          needed: message.since,
        }) as Error,
      );
      await it.display.roundtrip();
      expect(it.server.requests.slice(before).map(({ name }) => name)).toEqual(['wl_display.sync']);
    },
  );
});

describe('a Wayland event', () => {
  test.each(events)('$name calls the listener with the arguments that were sent', async ({ table, message }) => {
    await fc.assert(
      fc.asyncProperty(values(message), async (given) => {
        const [object, far] = it.conjure(classes.get(table.name)!);
        const both = message.args.map((arg, i) =>
          arg.type === 'new_id'
            ? { near: null, far: it.client.newObject(arg.interface!, object.version) }
            : bothSides(arg, given[i]),
        );
        let heard: unknown[] = [];
        object.listener = {
          [memberName(message.name)]: (...args: unknown[]) => {
            heard = args.map(essence);
            for (const arg of args) if (arg instanceof OwnedFd) arg[Symbol.dispose]();
          },
        };
        far.send(message.name, ...(both.map(({ far: value }) => value) as never[]));
        await it.display.roundtrip();
        expect(heard).toEqual(both.map(({ near, far: value }) => essence(near ?? value)));
        expect(object.isDestroyed).toBe(message.destructor === true);
      }),
      { numRuns: 10 },
    );
  });
});

test('Wayland fixed-point numbers are rounded to 1/256, and throw RangeError if they do not fit into 32 bits', async () => {
  const [pointer, far] = it.conjure(client.WlPointer);
  const heard: number[] = [];
  pointer.listener = { axis: (_time, _axis, value) => heard.push(value) };
  for (const value of [0, -0.5, 1 / 256, 8388607.99609375, -8388608]) far.send('axis', 0, 0, value);
  await it.display.roundtrip();
  expect(heard).toEqual([0, -0.5, 1 / 256, 8388607.99609375, -8388608]);
  const [viewport] = it.conjure(client.WpViewport);
  expect(() => viewport.setSource(8388608, 0, 1, 1)).toThrow(RangeError);
  expect(() => viewport.setSource(NaN, 0, 1, 1)).toThrow(RangeError);
  viewport.setSource(0.001, -1.002, 1, 1);
  expect((await it.server.next('wp_viewport.set_source')).args).toMatchObject({ x: 0, y: -257 / 256 });
});
