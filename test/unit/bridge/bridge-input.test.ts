import { beforeEach, expect, test } from 'vitest';
import { Bridge } from '../../../src/bridge/bridge.ts';
import type { GuestInput } from '../../../src/core/input.ts';
import { FakeOutput, FakeSource, GuestPicture } from './fakes.ts';

const SECOND = 1;

const source = new FakeSource();
let told: string[];
let input: GuestInput;

beforeEach(() => {
  told = [];
  input = new Proxy({} as GuestInput, {
    get:
      (_target, method: string) =>
      (...values: unknown[]) =>
        void told.push([method, ...values].join(' ')),
  });
});

test("Bridge: gives outputs the guest's input and the scanout they show", () => {
  using desk = new FakeOutput();
  using bridge = new Bridge(source, { input });
  bridge.show(SECOND, desk);
  const { screen } = desk;
  screen.input!.pointerMovedTo(screen.scanout, 3, 4);
  screen.input!.frame();

  expect(told).toEqual(['pointerMovedTo 1 3 4', 'frame']);
});

test('Bridge: passes on every kind of input as it comes, and counts its frames at each output', () => {
  using desk = new FakeOutput();
  using other = new FakeOutput();
  using bridge = new Bridge(source, { input });
  bridge.show(SECOND, desk);
  bridge.show(SECOND, other);
  const sink = desk.screen.input!;
  sink.key(30, true);
  sink.pointerMovedBy(1, -2);
  sink.button(272, false);
  sink.wheel('horizontal', -120);
  sink.frame();
  sink.touchDown(1, 2, 3, 4);
  sink.touchMoved(1, 2, 5, 6);
  sink.touchUp(2);
  sink.touchCancelled();
  sink.frame();
  sink.releaseAll();
  sink.isRelative(1);
  sink.onLeds(() => undefined);

  expect(told.map((line) => line.replace(/ \(.*/, ''))).toEqual([
    'key 30 true',
    'pointerMovedBy 1 -2',
    'button 272 false',
    'wheel horizontal -120',
    'frame',
    'touchDown 1 2 3 4',
    'touchMoved 1 2 5 6',
    'touchUp 2',
    'touchCancelled',
    'frame',
    'releaseAll',
    'isRelative 1',
    'onLeds',
  ]);
  expect(bridge.stats[SECOND]!.screens.map((screen) => screen.input)).toEqual([2, 0]);
});

test("Bridge: tells the guest's input the size of each picture and when it is off", () => {
  using picture = new GuestPicture(64, 48);
  using bridge = new Bridge(source, { input });
  source.sink.scanout(SECOND, picture.framebuffer, { x: 8, y: 0, width: 32, height: 48 });
  source.sink.scanout(SECOND, null, { x: 0, y: 0, width: 0, height: 0 });

  expect(bridge.input).toBe(input);
  expect(told).toEqual(['scanoutSized 1 32 48', 'scanoutSized 1 0 0']);
});

test('Bridge: releases nothing that is held at other outputs when an output closes', () => {
  using desk = new FakeOutput();
  using bridge = new Bridge(source, { input });
  bridge.show(SECOND, desk);
  desk.lose();

  expect(told).toEqual([]);
});

test('Bridge: gives outputs no input if the guest has no input devices', () => {
  using desk = new FakeOutput();
  using bridge = new Bridge(source);
  bridge.show(SECOND, desk);

  expect(desk.screen.input).toBeNull();
});
