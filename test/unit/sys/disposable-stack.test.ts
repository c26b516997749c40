import { expect, test } from 'vitest';
import { DisposableStack } from '../../../src/sys/disposable-stack.ts';

function recorder(log: string[], name: string): Disposable {
  return { [Symbol.dispose]: () => void log.push(name) };
}

test('DisposableStack: disposes once, in reverse order', () => {
  const log: string[] = [];
  const stack = new DisposableStack();
  stack.use(recorder(log, 'first'));
  stack.defer(() => void log.push('second'));
  stack.use(recorder(log, 'third'));
  stack[Symbol.dispose]();
  stack[Symbol.dispose]();
  expect(log).toEqual(['third', 'second', 'first']);
});

test('DisposableStack: disposes the rest after one throws, and rethrows the first error', () => {
  const log: string[] = [];
  const stack = new DisposableStack();
  stack.use(recorder(log, 'first'));
  stack.defer(() => {
    throw new Error('later');
  });
  stack.use(recorder(log, 'second'));
  stack.defer(() => {
    throw new Error('earlier');
  });
  let error: unknown;
  try {
    stack[Symbol.dispose]();
  } catch (thrown) {
    error = thrown;
  }
  expect(log).toEqual(['second', 'first']);
  expect(error).toMatchObject({ message: 'earlier', suppressed: [new Error('later')] });
});

test('DisposableStack: disposes nothing after move; the new stack does', () => {
  const log: string[] = [];
  let kept: DisposableStack;
  {
    using stack = new DisposableStack();
    stack.use(recorder(log, 'it'));
    kept = stack.move();
  }
  expect(log).toEqual([]);
  kept[Symbol.dispose]();
  expect(log).toEqual(['it']);
});

test('DisposableStack: accepts nothing after dispose', () => {
  const stack = new DisposableStack();
  stack[Symbol.dispose]();
  expect(stack.disposed).toBe(true);
  expect(() => stack.defer(() => undefined)).toThrow(ReferenceError);
  expect(() => stack.move()).toThrow(ReferenceError);
});
