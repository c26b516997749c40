import { Writable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { hasTrueColour, renderPicture, stderrLog } from '../../../src/cli/terminal.ts';
import type { Picture } from '../../../src/core/picture.ts';

function picture(rows: readonly (readonly number[])[]): Picture {
  return {
    width: rows[0]!.length,
    height: rows.length,
    data: Uint8Array.from(rows.flat().flatMap((colour) => [colour >> 16, (colour >> 8) & 255, colour & 255, 255])),
  };
}

test('renderPicture: shows two pixels per character, the upper as foreground', () => {
  expect(renderPicture(picture([[0x010203], [0x0a0b0c]]), 80, true)).toBe('\x1b[38;2;1;2;3;48;2;10;11;12m▀\x1b[0m\n');
});

test('renderPicture: sets a colour once while it does not change in a line', () => {
  const line = '\x1b[38;2;9;9;9;48;2;9;9;9m▀▀▀\x1b[0m\n';

  expect(renderPicture(picture(Array.from({ length: 4 }, () => [0x090909, 0x090909, 0x090909])), 3, true)).toBe(
    line + line,
  );
});

test('renderPicture: shrinks a wide picture to the columns by averaging', () => {
  expect(
    renderPicture(
      picture([
        [0x000000, 0x0000ff, 0x640000, 0x000000],
        [0, 0, 0, 0],
        [0, 0, 0, 0],
        [0, 0, 0, 0],
      ]),
      2,
      true,
    ),
  ).toBe('\x1b[38;2;0;0;64;48;2;0;0;0m▀\x1b[38;2;25;0;0;48;2;0;0;0m▀\x1b[0m\n');
});

test.each([
  [1, 1, 80, 1, 1],
  [1280, 800, 80, 80, 25],
  [1280, 1, 80, 80, 1],
  [3, 3000, 80, 3, 1500],
  [100, 50, 0, 1, 1],
])(
  'renderPicture: renders %i x %i pixels in %i columns as %i x %i characters',
  (width, height, columns, wide, high) => {
    const lines = renderPicture({ width, height, data: new Uint8Array(width * height * 4) }, columns, true)
      .split('\n')
      .slice(0, -1);

    expect(lines.map((line) => line.split('▀').length - 1)).toEqual(Array.from({ length: high }, () => wide));
  },
);

describe('renderPicture with 256 colours', () => {
  test.each([
    [0x000000, 16],
    [0xffffff, 231],
    [0xff0000, 196],
    [0x5f87af, 67],
    [0x808080, 244],
    [0x0a0a0a, 232],
    [0xf0f0f0, 255],
  ])('renders %i as colour %i', (colour, number) => {
    expect(renderPicture(picture([[colour], [colour]]), 1, false)).toBe(
      `\x1b[38;5;${number};48;5;${number}m▀\x1b[0m\n`,
    );
  });
});

test.each([
  [{ COLORTERM: 'truecolor' }, true],
  [{ COLORTERM: '24bit' }, true],
  [{ TERM: 'xterm-256color' }, false],
])('hasTrueColour: for %j returns %s', (env, expected) => {
  expect(hasTrueColour(env)).toBe(expected);
});

describe('stderrLog', () => {
  /** A stream whose reader takes nothing until `read` is called. */
  function slowReader(): { stream: NodeJS.WriteStream; read: () => string } {
    let taken = '';
    const waiting: (() => void)[] = [];
    const stream = new Writable({
      write(chunk: Buffer, _encoding, done) {
        taken += chunk.toString();
        waiting.push(done);
      },
    });
    const read = (): string => {
      while (stream.writableLength > 0) waiting.shift()!();
      return taken;
    };
    return { stream: stream as unknown as NodeJS.WriteStream, read };
  }

  test('prints a message as one line without control characters', () => {
    const { stream, read } = slowReader();

    stderrLog('info', stream)('warn', 'a\x1b[2Jb\nc\x9bd\te');

    expect(read()).toMatch(/^[\d:.]+ warn {2}a\?\[2Jb\?c\?d\te\n$/);
  });

  test('leaves lines out that a slow reader does not take, and says how many once it goes on', () => {
    const { stream, read } = slowReader();
    const log = stderrLog('info', stream);

    for (let i = 0; i < 10_000; i++) log('info', 'x'.repeat(1000));
    const kept = stream.writableLength;
    const before = read().split('\n').length - 1;
    log('info', 'the last');

    expect(kept).toBeLessThan(2 ** 21);
    expect(read().split('\n').slice(before)).toEqual([
      expect.stringContaining(` warn  ${10_000 - before} log lines were left out`),
      expect.stringContaining(' info  the last'),
      '',
    ]);
  });
});
