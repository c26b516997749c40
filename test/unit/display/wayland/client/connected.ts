import {
  WaylandDisplay,
  WlCompositor,
  type WaylandClass,
  type WaylandObject,
} from '../../../../../display/wayland/client/index.ts';
import { type FakeClient, type FakeObject, FakeServer } from '../fake-server.ts';

/** A client connected to a scripted compositor that offers one wl_compositor. */
export class Connected implements Disposable {
  readonly server = new FakeServer();
  /** Set by `open`. */
  display!: WaylandDisplay;
  compositor!: WlCompositor;
  /** The client's end. */
  readonly socket = this.server.connect();

  static async open(version = 6): Promise<Connected> {
    const connected = new Connected();
    connected.server.addGlobal('wl_compositor', version);
    connected.display = await WaylandDisplay.connect({ socket: connected.socket });
    connected.compositor = connected.display.bind(WlCompositor, 6)!;
    await connected.display.roundtrip();
    return connected;
  }

  get client(): FakeClient {
    return this.server.client;
  }

  /** The server's side of an object. */
  far(object: WaylandObject): FakeObject {
    return this.client.objects.get(object.id)!;
  }

  /** Creates an object on both sides without the request or event that would create it. */
  conjure<T extends WaylandObject>(
    type: WaylandClass<T>,
    version = type.interface.version,
  ): [near: T, far: FakeObject] {
    const near = this.compositor.connection.objects.create(type, version);
    return [near, this.client.newObject(type.interface.name, version, near.id)];
  }

  [Symbol.dispose](): void {
    this.display[Symbol.dispose]();
    this.server[Symbol.dispose]();
  }
}
