import { expect, test } from 'vitest';
import { DisposableStack } from '../../../src/sys/disposable-stack.ts';

function noting(log: string[], name: string): Disposable {
  return { [Symbol.dispose]: () => void log.push(name) };
}

test('disposes in reverse order, once', () => {
  const log: string[] = [];
  const stack = new DisposableStack();
  stack.use(noting(log, 'first'));
  stack.defer(() => void log.push('second'));
  stack.use(noting(log, 'third'));
  stack[Symbol.dispose]();
  stack[Symbol.dispose]();
  expect(log).toEqual(['third', 'second', 'first']);
});

test('a failing one does not keep the others from being disposed', () => {
  const log: string[] = [];
  const stack = new DisposableStack();
  stack.use(noting(log, 'first'));
  stack.defer(() => {
    throw new Error('later');
  });
  stack.use(noting(log, 'second'));
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

test('a moved stack disposes nothing; the new one does', () => {
  const log: string[] = [];
  let kept: DisposableStack;
  {
    using stack = new DisposableStack();
    stack.use(noting(log, 'it'));
    kept = stack.move();
  }
  expect(log).toEqual([]);
  kept[Symbol.dispose]();
  expect(log).toEqual(['it']);
});

test('a disposed stack takes nothing more', () => {
  const stack = new DisposableStack();
  stack[Symbol.dispose]();
  expect(stack.disposed).toBe(true);
  expect(() => stack.defer(() => undefined)).toThrow(ReferenceError);
  expect(() => stack.move()).toThrow(ReferenceError);
});
