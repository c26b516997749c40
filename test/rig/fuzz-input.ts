/**
 * Drives input devices with drivers that write any config, give any buffers and take them away, while keys, pointer
 * and touches are used. Everything follows from one seed.
 */
import { BTN, EV, SYN_REPORT } from '../../protocols/input-event-codes.ts';
import { VHOST_USER } from '../../protocols/vhost-user.ts';
import { virtio_input_config, virtio_input_event } from '../../protocols/virtio-input.ts';
import { FrontEnd } from './front-end.ts';
import { FrontEndError } from '../../src/guest/replay/front-end-channel.ts';
import { VhostUserServer } from '../../src/guest/vhost-user/server.ts';
import { InputDevices } from '../../src/guest/virtio-input/input-devices.ts';
import { socketPair } from '../../src/sys/socket.ts';
import type { Random } from './random.ts';

const HERE = 0;
const KEYS = [1, 30, 31, 42, 88, 248];
const NOTHING = new Uint8Array(0);
const MEMORY = [{ guestAddress: 0x10_0000, size: 2 ** 20 }];
const ADDRESSES = [0, 1, 0x10_0000, 0x10_0000 + 2 ** 20 - 8, 0x10_0000 + 2 ** 20 - 7, 2 ** 32, 2 ** 46, 2 ** 53 - 1];

export interface InputFuzzResult {
  /** Events that the drivers received. */
  events: number;
  /** Changes of LEDs. */
  leds: number;
  /** Rings that the drivers broke. */
  broken: number;
  readonly faults: string[];
}

export async function fuzzInput(random: Random, connections: number): Promise<InputFuzzResult> {
  const result = { events: 0, leds: 0, broken: 0, faults: new Array<string>() };
  const input = new InputDevices();
  input.onLeds(() => result.leds++);
  input.scanoutSized(HERE, 1280, 800);
  for (let i = 0; i < connections && result.faults.length === 0; i++) await play(input, random, result);
  for (const device of [input.keyboardPointer, input.touchscreen]) {
    for (const queueSize of [4, 64]) await checkWorks(input, device, queueSize, result);
  }
  return result;
}

async function play(input: InputDevices, random: Random, result: InputFuzzResult): Promise<void> {
  const device = random.chance(0.7) ? input.keyboardPointer : input.touchscreen;
  const [ours, theirs] = socketPair();
  const log = (_level: string, message: string) => {
    if (message.includes('broke ring')) result.broken++;
  };
  using server = VhostUserServer.adopt(theirs, device, { log });
  using frontEnd = FrontEnd.create({
    socket: ours,
    memory: MEMORY,
    queueSizes: [random.pick([4, 64]), random.pick([4, 64])],
  });
  frontEnd.whenUsed(0, (_token, _response, written) => {
    if (written === virtio_input_event.size) result.events++;
    else if (written !== 0) result.faults.push(`an event of ${written} bytes`);
  });
  try {
    await frontEnd.negotiate();
    await frontEnd.start(random.features());
    for (let step = random.below(60); step >= 0 && server.connected; step--) {
      for (let i = random.below(20); i >= 0; i--) doSomething(input, random);
      giveBuffers(frontEnd, random);
      if (random.chance(0.3)) await frontEnd.writeConfig(random.below(140), random.bytes(random.below(100)));
      if (random.chance(0.1)) await frontEnd.readConfig(random.below(100), random.below(156));
      if (random.chance(0.03)) hostileRing(frontEnd, random);
      frontEnd.forceKick(0);
      frontEnd.forceKick(1);
      // The kicks came before this message, so they are handled when its reply is here.
      await frontEnd.channel.get(VHOST_USER.GET_FEATURES);
      if (!random.chance(0.05)) continue;
      await frontEnd.stop();
      for (let i = random.below(20); i >= 0; i--) doSomething(input, random);
      await frontEnd.start(random.features());
    }
  } catch (error) {
    if (!(error instanceof FrontEndError)) throw error;
    result.faults.push(`front end: ${error.code} ${error.message}`);
  }
}

function doSomething(input: InputDevices, random: Random): void {
  const slot = random.below(18) - 1;
  const x = random.below(3000) / 2 - 100;
  switch (random.below(10)) {
    case 0:
    case 1:
      input.key(random.chance(0.9) ? random.pick(KEYS) : random.below(0x1_0000), random.chance(0.5));
      break;
    case 2:
      input.button(BTN.LEFT + random.below(10), random.chance(0.5));
      break;
    case 3:
      input.pointerMovedTo(random.below(2), x, x);
      break;
    case 4:
      input.pointerMovedBy(x, -x / 7);
      break;
    case 5:
      input.wheel(random.pick(['vertical', 'horizontal']), x);
      break;
    case 6:
      input.touchDown(HERE, slot, x, x);
      break;
    case 7:
      input.touchMoved(HERE, slot, x, x);
      break;
    case 8:
      input.touchUp(slot);
      break;
    default:
      if (random.chance(0.1)) input.touchCancelled();
      else if (random.chance(0.1)) input.releaseAll();
      else input.frame();
  }
}

/** Gives the device buffers, mostly of an event's 8 bytes, and status events, mostly for LEDs. */
function giveBuffers(frontEnd: FrontEnd, random: Random): void {
  for (let i = random.below(6); i > 0; i--) {
    if (random.chance(0.9))
      frontEnd.submit(0, NOTHING, random.chance(0.8) ? virtio_input_event.size : 1 + random.below(20));
    else frontEnd.submit(0, random.bytes(1 + random.below(20)), random.below(20));
    const status = virtio_input_event.encode({ type: EV.LED, code: random.below(20), value: random.below(2) });
    frontEnd.submit(
      1,
      random.chance(0.7) ? status : random.bytes(1 + random.below(20)),
      random.below(2) * random.below(20),
    );
  }
}

/** Writes into a ring what no honest driver would. */
function hostileRing(frontEnd: FrontEnd, random: Random): void {
  const ring = frontEnd.ring(random.below(2));
  for (let i = random.below(ring.size); i >= 0; i--)
    ring.setDescriptor(
      random.below(ring.size),
      random.pick(ADDRESSES),
      random.below(64),
      random.below(8),
      random.below(ring.size * 2),
    );
  if (random.chance(0.2)) ring.setAvailIdx(random.below(0x1_0000));
  for (let i = random.below(4); i >= 0; i--)
    ring.publish(random.chance(0.9) ? random.below(ring.size) : random.below(0x1_0000));
}

/** Checks that the device works for an honest driver: nothing is pressed at first, and events arrive. */
async function checkWorks(
  input: InputDevices,
  device: InputDevices['keyboardPointer'] | InputDevices['touchscreen'],
  queueSize: number,
  result: InputFuzzResult,
): Promise<void> {
  const [ours, theirs] = socketPair();
  input.releaseAll();
  using server = VhostUserServer.adopt(theirs, device, { log: () => undefined });
  using frontEnd = FrontEnd.create({ socket: ours, memory: MEMORY, queueSizes: [queueSize, queueSize] });
  await frontEnd.connect();
  await frontEnd.writeConfig(0, new Uint8Array(virtio_input_config.size).fill(1, 0, 1));
  const name = virtio_input_config.decode(await frontEnd.readConfig(0, virtio_input_config.size));
  if (!Buffer.from(name.u).toString().startsWith('scanout-bridge')) result.faults.push('the device has lost its name');
  input.touchDown(HERE, 15, 1, 1);
  input.key(30, true);
  input.frame();
  const pressed: string[] = [];
  for (;;) {
    const { type, code, value } = virtio_input_event.decode(
      await frontEnd.request(0, NOTHING, virtio_input_event.size),
    );
    if (type === EV.SYN && code === SYN_REPORT && pressed.length > 0) break;
    if (type === EV.KEY) pressed.push(`${code} ${value}`);
  }
  const expected = device === input.touchscreen ? `${BTN.TOUCH} 1` : '30 1';
  if (pressed.join() !== expected)
    result.faults.push(`an honest driver received ${pressed.join()} instead of ${expected}`);
  if (!server.connected) result.faults.push('an honest front end was disconnected');
}
